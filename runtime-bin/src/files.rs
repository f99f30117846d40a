//! Files that `run` reads and writes: `--env-file`, `--label-file`, `--cidfile`, `--pidfile`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Largest file of variables or labels, bytes.
const SIZE_MAX: u64 = 4 << 20;

/// The entries of a file, one in a line: `KEY=VALUE`, or `KEY`. Empty lines and those that begin with `#` are left
/// out.
///
/// # Errors
/// The file cannot be read, or has an entry without a proper name.
pub(crate) fn entries(option: &str, path: &Path) -> anyhow::Result<Vec<String>> {
    let read = || -> std::io::Result<Vec<u8>> {
        use std::io::Read;
        let mut bytes = Vec::new();
        File::open(path)?.take(SIZE_MAX + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().with_context(|| format!("cannot read {} of {option}", path.display()))?;
    if bytes.len() as u64 > SIZE_MAX {
        anyhow::bail!("{} of {option} is larger than {SIZE_MAX} bytes", path.display());
    }
    let Ok(text) = String::from_utf8(bytes) else {
        anyhow::bail!(
            "{} of {option} is not UTF-8: write it anew in that encoding",
            path.display()
        );
    };
    let mut entries = Vec::new();
    // A byte order mark is of an editor's making.
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = || format!("line {} of {} of {option}", number + 1, path.display());
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        let name = if line.contains('=') { name } else { name.trim_end() };
        if name.is_empty() {
            anyhow::bail!("no name on {}: write NAME=VALUE", place());
        }
        if name.contains(char::is_whitespace) {
            anyhow::bail!("the name {name:?} on {} has white space in it", place());
        }
        entries.push(if line.contains('=') { format!("{name}={value}") } else { name.to_owned() });
    }
    Ok(entries)
}

/// The variables of the files of `--env-file`, and then those that were typed, which hold. A name without a
/// value takes the caller's, and is left out where the caller has none.
///
/// # Errors
/// As [`entries`].
pub(crate) fn environment(paths: &[PathBuf], typed: Vec<String>) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    for path in paths {
        let here = |name: &String| name.contains('=') || std::env::var_os(name).is_some();
        all.extend(entries("--env-file", path)?.into_iter().filter(here));
    }
    all.extend(typed);
    Ok(all)
}

/// A file that is made before a container is, and written when it is there. Dropped before that, the
/// file goes.
#[derive(Debug)]
pub(crate) struct Reserved {
    path: PathBuf,
    file: Option<File>,
}

impl Reserved {
    /// Makes the file of `--cidfile`.
    ///
    /// # Errors
    /// It is there already: it may be another container's.
    pub(crate) fn id(path: &Path) -> anyhow::Result<Reserved> {
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        if file.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::AlreadyExists) {
            anyhow::bail!(
                "container ID file found, make sure the other container isn't running or delete {}",
                path.display()
            );
        }
        let file = file.with_context(|| format!("cannot make {} of --cidfile", path.display()))?;
        Ok(Reserved { path: path.to_owned(), file: Some(file) })
    }

    /// Writes the text, and keeps the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn write(mut self, text: &str) -> anyhow::Result<()> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        file.write_all(text.as_bytes())
            .with_context(|| format!("cannot write {} of --cidfile", self.path.display()))
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Writes the file of `--pidfile`; one that is there is written over, since a process of before had it.
///
/// # Errors
/// It cannot be written.
pub(crate) fn write_pid(path: &Path, pid: i32) -> anyhow::Result<()> {
    std::fs::write(path, pid.to_string())
        .with_context(|| format!("cannot write {} of --pidfile", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> Result<Vec<String>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, content).unwrap();
        entries("--env-file", &path).map_err(|error| error.to_string())
    }

    #[test]
    fn entries_stand_on_lines() {
        let text = b"\xef\xbb\xbfA=1\n\n# no\n  B= x # y \nC\nD=\r\n\tE==f";
        assert_eq!(read(text).unwrap(), ["A=1", "B= x # y ", "C", "D=", "E==f"]);
        assert_eq!(read(b"").unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_no_entry_is_said_with_its_line() {
        assert!(read(b"A=1\nB C=2\n").unwrap_err().contains("line 2 of "));
        assert!(read(b"=x").unwrap_err().contains("no name on line 1"));
        assert!(read(b"A=\xff").unwrap_err().contains("UTF-8"));
        assert!(
            entries("--env-file", Path::new("/no/such"))
                .unwrap_err()
                .to_string()
                .contains("/no/such")
        );
    }

    #[test]
    fn a_file_for_an_id_is_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cid");
        drop(Reserved::id(&path).unwrap());
        assert!(!path.exists(), "it is left though there is no container");
        Reserved::id(&path).unwrap().write("abc").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "abc");
        assert!(Reserved::id(&path).unwrap_err().to_string().contains("container ID file found"));
        assert!(Reserved::id(dir.path()).unwrap_err().to_string().contains("found"));
    }
}
