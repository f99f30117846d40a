//! `save` and `export`: archives that go to a file or to standard output.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use engine::{Engine, SaveFormat};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

/// `save`
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    long_about = "Save one or more images to a tar archive (streamed to STDOUT by default)\n\n\
        Layers that the store keeps unpacked are written anew: unless their bytes happen to be \
        those of the archive that an image came in, the saved image has other diff_ids, and so \
        another id. The same images always give the same bytes, and what was saved once and loaded \
        keeps its id from then on."
)]
pub(crate) struct SaveArgs {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    output: Option<PathBuf>,
    /// Form of the archive
    #[arg(long, value_name = "string", value_enum, default_value_t)]
    format: Format,
    /// Names or ids; a name without a tag stands for all of its tags
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// `export`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct ExportArgs {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    output: Option<PathBuf>,
    /// Name or id of a container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// What `save` writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Docker's, with an OCI layout in it, as of Docker 25 and later
    #[default]
    DockerArchive,
    /// An OCI layout
    OciArchive,
}

pub(crate) fn save(root: &Path, args: &SaveArgs) -> anyhow::Result<u8> {
    let format = match args.format {
        Format::DockerArchive => SaveFormat::DockerArchive,
        Format::OciArchive => SaveFormat::OciArchive,
    };
    let engine = Engine::open(root)?;
    to(args.output.as_deref(), "save", |out| engine.save(&args.images, format, out))
}

pub(crate) fn export(root: &Path, args: &ExportArgs) -> anyhow::Result<u8> {
    let engine = Engine::open(root)?;
    to(args.output.as_deref(), "export", |out| engine.export(&args.container, out))
}

/// Writes what `write` gives to a file, or to standard output. A file appears, or is replaced, once
/// all of it is there.
fn to(
    path: Option<&Path>,
    verb: &str,
    write: impl FnOnce(&mut dyn Write) -> Result<(), engine::Error>,
) -> anyhow::Result<u8> {
    let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else {
        if io::stdout().is_terminal() {
            anyhow::bail!("cowardly refusing to {verb} to a terminal: use the -o flag or redirect");
        }
        write(&mut stdout()?)?;
        return Ok(0);
    };
    let failed = || format!("cannot write {}", path.display());
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            anyhow::bail!("cannot write {}: it is a directory", path.display())
        }
        // A device or a pipe.
        Ok(found) if !found.is_file() => {
            write(&mut File::options().write(true).open(path).with_context(failed)?)?;
        }
        _ => {
            let new = NewFile::new(path).with_context(failed)?;
            write(&mut &new.file)?;
            new.keep().with_context(failed)?;
        }
    }
    Ok(0)
}

/// Standard output for archives: not std's own, which looks for ends of lines.
pub(crate) fn stdout() -> anyhow::Result<File> {
    let stdout = io::stdout().as_fd().try_clone_to_owned();
    Ok(File::from(stdout.context("cannot use standard output")?))
}

/// A file that has no name until it is complete, so that nothing of it stays whatever happens.
struct NewFile {
    file: File,
    /// The name that it has meanwhile, where the file system has no files without one.
    part: PathBuf,
    named: bool,
    path: PathBuf,
}

impl NewFile {
    fn new(path: &Path) -> io::Result<NewFile> {
        // A link is followed, as open(2) would, so that it stays one.
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or_else(|| Path::new("."));
        let mut part = std::ffi::OsString::from(".");
        part.push(path.file_name().ok_or(io::ErrorKind::InvalidFilename)?);
        part.push(format!(".{}.part", std::process::id()));
        let part = dir.join(part);
        let mode = Mode::RUSR | Mode::WUSR;
        match rustix::fs::open(dir, OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, mode) {
            Ok(file) => Ok(NewFile { file: file.into(), part, named: false, path }),
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let file = rustix::fs::open(&part, flags, mode)?;
                Ok(NewFile { file: file.into(), part, named: true, path })
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn keep(mut self) -> io::Result<()> {
        if !self.named {
            use std::os::fd::AsRawFd;
            let file = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            rustix::fs::linkat(CWD, file, CWD, &self.part, AtFlags::SYMLINK_FOLLOW)?;
            self.named = true;
        }
        std::fs::rename(&self.part, &self.path)?;
        self.named = false;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.named {
            // What went wrong first is what is told.
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(dir: &Path) -> Vec<String> {
        let names = std::fs::read_dir(dir).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_there_once_it_is_whole() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("out.tar");
        let fails = |out: &mut dyn Write| {
            out.write_all(b"half").unwrap();
            Err(engine::Error::Signal("x".to_owned()))
        };
        to(Some(&path), "save", fails).unwrap_err();
        assert_eq!(there(temp.path()), [""; 0]);
        std::fs::write(&path, "old and longer").unwrap();
        to(Some(&path), "save", fails).unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"old and longer");
        to(Some(&path), "save", |out| {
            out.write_all(b"new").unwrap();
            Ok(())
        })
        .unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(there(temp.path()), ["out.tar"]);
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let temp = tempfile::tempdir().unwrap();
        for path in [temp.path().to_owned(), temp.path().join("none/out.tar")] {
            let error = to(Some(&path), "save", |_| Ok(())).unwrap_err();
            assert!(format!("{error:#}").contains(&path.display().to_string()), "{error:#}");
        }
        to(Some(Path::new("/dev/null")), "save", |out| {
            out.write_all(b"x").unwrap();
            Ok(())
        })
        .unwrap();
        assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
    }
}
