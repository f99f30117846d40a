//! The source of a bind: opened once, and explained where that fails.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::Error;

/// An O_PATH descriptor of `source`; symbolic links are followed, and what an automounter has for it
/// is mounted.
pub(crate) fn open(source: &Path, target: &str) -> Result<OwnedFd, Error> {
    if source.as_os_str().as_encoded_bytes().contains(&0) {
        let value = source.to_string_lossy().into_owned();
        return Err(Error::Nul { what: "source", value });
    }
    // Only O_DIRECTORY makes an O_PATH open trigger an automount (open(2)).
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = match rustix::fs::open(source, flags | OFlags::DIRECTORY, Mode::empty()) {
        Err(Errno::NOTDIR) => rustix::fs::open(source, flags, Mode::empty()),
        result => result,
    };
    opened.map_err(|errno| explain(source, target, errno))
}

/// An O_PATH descriptor of `source` itself, where it is a symbolic link.
pub(crate) fn open_itself(source: &Path, target: &str) -> Result<OwnedFd, Error> {
    rustix::fs::open(source, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| explain(source, target, errno))
}

/// Which part of the path made opening it fail with `errno`.
fn explain(source: &Path, target: &str, errno: Errno) -> Error {
    let (source_path, target) = (source.to_owned(), target.to_owned());
    let mut path = PathBuf::new();
    let mut parent = PathBuf::from(".");
    for component in source.components() {
        path.push(component);
        match (errno, fs::symlink_metadata(&path)) {
            (Errno::NOENT, Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                return Error::Missing { source_path, target, missing: path };
            }
            (Errno::ACCESS, Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                let uid = rustix::process::geteuid().as_raw();
                return Error::NotSearchable { source_path, target, directory: parent, uid };
            }
            (Errno::NOENT, Ok(found)) if found.is_symlink() && !path.exists() => {
                let to = fs::read_link(&path).unwrap_or_default();
                return Error::Dangling { source_path, target, link: path, to };
            }
            (Errno::NOTDIR, Ok(_)) if path != source && !path.is_dir() => {
                return Error::InTheWay { source_path, target, file: path };
            }
            _ => parent.clone_from(&path),
        }
    }
    Error::Source { op: "opening the source", source_path, target, errno }
}

/// Makes a source that is missing (`bind-create-src`): a directory, and its parents, of mode 0755
/// less the umask. Returns whether there was none.
///
/// Errors: what mkdir(2) says, with the path.
pub fn create_source(source: &Path) -> Result<bool, Error> {
    match fs::metadata(source) {
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io("looking at the source", source)(error)),
    }
    let mut directories = fs::DirBuilder::new();
    directories.recursive(true).mode(0o755);
    directories.create(source).map_err(Error::io("making the source", source))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_missing_source_is_explained() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("there")).unwrap();
        fs::write(at("file"), "").unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        symlink("loop", at("loop")).unwrap();
        symlink("there", at("link")).unwrap();
        let error = |name: &str| open(&at(name), "/data").unwrap_err().to_string();
        let missing = error("there/a/b/c");
        assert!(missing.contains(&format!("there is no {:?}", at("there/a"))), "{missing}");
        assert!(missing.contains("bind on /data") && missing.contains("bind-create-src"));
        let dangling = error("dangling/x");
        assert!(dangling.contains("leads to \"nowhere\", which is missing"), "{dangling}");
        let in_the_way = error("file/x");
        assert!(in_the_way.contains(&format!("{:?} is no directory", at("file"))), "{in_the_way}");
        assert!(error("loop").contains("opening the source"));
        assert!(error("a\0b").contains("NUL"));
        for good in ["there", "file", "link"] {
            open(&at(good), "/data").unwrap();
        }
    }

    #[test]
    fn a_directory_that_may_not_be_searched_is_named() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let private = dir.path().join("private");
        fs::create_dir_all(private.join("data")).unwrap();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(dir.path(), 0o755);
        mode(&private, 0o700);
        let error = std::thread::scope(|scope| {
            let as_nobody = scope.spawn(|| {
                let nobody = rustix::fs::Uid::from_raw(65534);
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
                open(&private.join("data/x"), "/data").unwrap_err().to_string()
            });
            as_nobody.join().unwrap()
        });
        let what = format!("the directory {private:?} may not be searched by uid 65534");
        assert!(error.contains(&what), "{error}");
    }

    #[test]
    fn a_source_is_made_when_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("a/b");
        assert!(create_source(&source).unwrap());
        assert!(source.is_dir());
        assert!(!create_source(&source).unwrap());
        fs::write(source.join("file"), "").unwrap();
        assert!(!create_source(&source.join("file")).unwrap());
        let error = create_source(&source.join("file/x")).unwrap_err().to_string();
        assert!(error.contains("file/x"), "{error}");
    }
}
