use std::path::Path;

use super::*;
use crate::testing;
use rustix::fs::{Mode, OFlags};

/// A store's directory of volumes, and an image with something in `/data`.
struct Host {
    temp: tempfile::TempDir,
    volumes: Volumes,
    merged: OwnedFd,
}

fn host() -> Host {
    let temp = tempfile::tempdir().unwrap();
    let merged = temp.path().join("merged");
    std::fs::create_dir_all(merged.join("data/sub")).unwrap();
    std::fs::write(merged.join("data/file"), "from the image").unwrap();
    std::fs::write(merged.join("plain"), "").unwrap();
    std::fs::create_dir(temp.path().join("source")).unwrap();
    let volumes = Volumes::open(&temp.path().join("volumes")).unwrap();
    let merged = rustix::fs::open(&merged, OFlags::PATH, Mode::empty()).unwrap();
    Host { temp, volumes, merged }
}

impl Host {
    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// With the image's VOLUMEs and the user's volumes; `%` is the temporary directory.
    fn resolve(&self, image: &[&str], typed: &[&str]) -> Result<Container, Error> {
        self.resolve_all(image, typed).map(|(container, _)| container)
    }

    fn resolve_all(&self, image: &[&str], typed: &[&str]) -> Result<(Container, Subpaths), Error> {
        let spec = |text: &&str| {
            let text = text.replace('%', self.temp.path().to_str().unwrap());
            match text.strip_prefix("tmpfs:") {
                Some(text) => VolumeSpec::parse_tmpfs(text).unwrap(),
                None if text.contains('=') => VolumeSpec::parse_mount(&text).unwrap(),
                None => VolumeSpec::parse_volume(&text).unwrap(),
            }
        };
        let volumes = typed.iter().map(spec).collect();
        let request = RunRequest { volumes, ..RunRequest::default() };
        let mut container = testing::container();
        let set = image.iter().map(|&path| (path.to_owned(), crate::Empty {})).collect();
        container.config.volumes = Some(set);
        let merged = self.merged.as_fd();
        let before = self.names();
        let known = |container: &Container| {
            assert!(!container.mounts.is_empty());
            assert_eq!(self.names(), before, "nothing is made before it is known");
            let unknown =
                |mount: &&MountPoint| mount.kind == MountKind::Volume && mount.name.is_none();
            assert_eq!(container.mounts.iter().find(unknown), None);
            Ok(())
        };
        let events = Events::below(self.temp.path());
        resolve(&mut container, &request, &self.volumes, merged, &events, known)?;
        let subpaths = reopen(&container, &self.volumes)?;
        Ok((container, subpaths))
    }

    fn names(&self) -> Vec<String> {
        self.volumes.list().unwrap().into_iter().map(|volume| volume.name).collect()
    }
}

fn targets(container: &Container) -> Vec<&str> {
    container.mounts.iter().map(|mount| &mount.destination[..]).collect()
}

#[test]
fn each_kind_becomes_a_mount() {
    let host = host();
    let typed = ["%/source:/deep/er:ro", "cache:/data", "tmpfs:/scratch:size=1m", "/own"];
    let container = host.resolve(&["/image/", "/data"], &typed).unwrap();
    assert_eq!(targets(&container), ["/data", "/scratch", "/own", "/image", "/deep/er"]);
    let [data, scratch, own, image, deep] = &container.mounts[..] else { panic!() };
    assert_eq!((deep.kind, deep.rw, &deep.name), (MountKind::Bind, false, &None));
    assert_eq!(Path::new(&deep.source), host.path("source"));
    assert!(deep.mode.starts_with("ro") && deep.options.contains(&"rro".to_owned()));
    assert_eq!(
        (data.kind, data.name.as_deref(), data.rw),
        (MountKind::Volume, Some("cache"), true)
    );
    assert_eq!(Path::new(&data.source), host.path("volumes/cache/_data").canonicalize().unwrap());
    assert_eq!((data.driver.as_deref(), &data.propagation[..]), (Some("local"), "rprivate"));
    assert_eq!((scratch.kind, &scratch.source[..]), (MountKind::Tmpfs, ""));
    assert_eq!(scratch.options, ["nosuid", "nodev", "noexec", "size=1m"]);
    let mut new: Vec<&str> = anonymous(&container).collect();
    assert_eq!(new, [own.name.as_deref().unwrap(), image.name.as_deref().unwrap()]);
    assert!(new.iter().all(|name| name.len() == 64));
    new.push("cache");
    new.sort_unstable();
    assert_eq!(host.names(), new);
}

#[test]
fn a_volume_is_filled_on_its_first_use_and_kept() {
    let host = host();
    let container = host.resolve(&[], &["cache:/data", "bare:/data/sub:nocopy"]).unwrap();
    let file = Path::new(&container.mounts[0].source).join("file");
    assert_eq!(std::fs::read(&file).unwrap(), b"from the image");
    std::fs::write(&file, "changed").unwrap();
    host.resolve(&[], &["cache:/data"]).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"changed");
}

#[test]
fn two_for_one_target_are_refused() {
    let host = host();
    for typed in [["%/source:/x", "cache:/x/"], ["/x", "tmpfs:/x"], ["a:/x/./y", "b:/x/y"]] {
        let error = host.resolve(&[], &typed).unwrap_err().to_string();
        assert!(error.starts_with("Duplicate mount point: /x"), "{error}");
    }
    assert_eq!(host.names(), [""; 0]);
    // The image and the user may name the same: the user's is mounted.
    let container = host.resolve(&["/x", "/x/"], &["%/source:/x"]).unwrap();
    assert_eq!(targets(&container), ["/x"]);
    assert_eq!(targets(&host.resolve(&["/x", "/x/", "//x"], &[]).unwrap()), ["/x"]);
}

#[test]
fn what_is_wrong_is_found_before_a_volume_is_made() {
    let host = host();
    host.resolve(&[], &["old:/data"]).unwrap();
    for (image, typed, word) in [
        (&[][..], &["new:/a", "%/missing:/b"][..], "missing"),
        (&["relative"], &["new:/a"], "absolute"),
        (&["/x/.."], &["new:/a"], "root of the container"),
        (&[], &["new:/a", "%/source:/proc"], "/proc"),
    ] {
        let error = host.resolve(image, typed).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
        assert_eq!(host.names(), ["old"], "{error}");
    }
    assert!(!host.path("missing").exists());
    // What fails later leaves those with names: another container may have them by then.
    for (image, typed, word) in [
        (&[][..], &["old:/a", "new:/b", "/plain"][..], "/plain"),
        (&["/plain"], &["new:/a"], "/plain"),
        (&[], &["type=volume,src=new,dst=/a,volume-subpath=none"], "none"),
        (&["/proc"], &["new:/a"], "/proc"),
    ] {
        let error = host.resolve(image, typed).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
        let names = host.names();
        assert!(names.iter().any(|name| name == "new") && names.iter().any(|name| name == "old"));
    }
}

#[test]
fn a_missing_source_is_made_where_that_is_asked_for() {
    let host = host();
    let typed = "type=bind,src=%/new/dir,dst=/x,bind-create-src";
    let container = host.resolve(&[], &[typed]).unwrap();
    assert_eq!(Path::new(&container.mounts[0].source), host.path("new/dir"));
    assert!(host.path("new/dir").is_dir());
}

#[test]
fn a_part_of_a_volume_stays_what_it_was_when_it_was_found() {
    let host = host();
    let container = host.resolve(&[], &["cache:/data"]).unwrap();
    let inside = Path::new(&container.mounts[0].source).join("sub");
    std::fs::write(inside.join("mine"), "").unwrap();
    let typed = "type=volume,src=cache,dst=/part,volume-subpath=sub";
    let (container, subpaths) = host.resolve_all(&[], &[typed]).unwrap();
    assert_eq!(Path::new(&container.mounts[0].source), inside);
    // Another container makes it a link to the host.
    std::fs::rename(&inside, inside.with_file_name("gone")).unwrap();
    std::os::unix::fs::symlink(host.path("source"), &inside).unwrap();
    let source = subpaths.source("/part").unwrap();
    assert!(source.join("mine").exists(), "{}", source.display());
    assert_eq!(subpaths.source("/other"), None);
    // And a link that is there before leads nowhere but into the volume.
    assert!(host.resolve(&[], &[typed]).is_err());
}
