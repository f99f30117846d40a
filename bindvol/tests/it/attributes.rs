//! Flags, propagation and id maps of binds.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bindvol::{Attributes, Bind, Error, VolumeSpec};
use ns_core::{Event, IdMap, Namespaces, Spawn};
use rustix::mount::MountAttrFlags;
use sys::mount::Propagation;

use crate::sandbox::{Container, mount_on, mount_tmpfs, open, read, sandbox, spread, write};

/// The bind that `-v /tmp/source:/data:OPTIONS` says.
fn volume(options: &str) -> Result<Bind, Error> {
    prepare(&VolumeSpec::parse_volume(&format!("/tmp/source:/data:{options}")).unwrap())
}

fn prepare(spec: &VolumeSpec) -> Result<Bind, Error> {
    let recursive = spec.options.recursive;
    Bind::prepare(Path::new("/tmp/source"), &spec.target, recursive, &spec.attributes())
}

fn source_with_a_mount_below() {
    fs::create_dir("/tmp/source/below").unwrap();
    mount_tmpfs("/tmp/source/below");
}

fn is_read_only(path: &Path) -> bool {
    match fs::write(path.join("probe"), "") {
        Ok(()) => false,
        Err(error) if error.kind() == std::io::ErrorKind::ReadOnlyFilesystem => true,
        Err(error) => panic!("{path:?}: {error}"),
    }
}

#[test]
fn ro_is_recursive_unless_said_otherwise() {
    sandbox(|| {
        source_with_a_mount_below();
        let read_only = |bind: Bind| {
            let container = Container::with(&[bind]).unwrap();
            ["data", "data/below"].map(|path| is_read_only(&container.path(path)))
        };
        assert_eq!(read_only(volume("ro").unwrap()), [true, true]);
        assert_eq!(read_only(volume("rw").unwrap()), [false, false]);
        let writable = "type=bind,src=/tmp/source,dst=/data,ro,bind-recursive=writable";
        let writable = VolumeSpec::parse_mount(writable).unwrap();
        assert_eq!(read_only(prepare(&writable).unwrap()), [true, false]);
        assert!(!is_read_only(Path::new("/tmp/source/below")), "the host's stays as it is");
    });
}

#[test]
fn flags_are_the_mounts_own() {
    sandbox(|| {
        let container = Container::with(&[volume("nosuid,nodev,noexec,ro").unwrap()]).unwrap();
        let options = container.mount_on("/data").unwrap().options;
        assert_eq!(options, "ro,nosuid,nodev,noexec,relatime");
        let of_source = mount_on("/tmp").unwrap().options;
        assert_eq!(of_source, "rw,relatime");
    });
}

#[test]
fn flags_can_be_cleared_and_set_for_a_whole_tree() {
    sandbox(|| {
        source_with_a_mount_below();
        let (suid, atime) = (MountAttrFlags::MOUNT_ATTR_NOSUID, MountAttrFlags::MOUNT_ATTR__ATIME);
        let attributes = Attributes {
            set: suid | MountAttrFlags::MOUNT_ATTR_NODEV,
            tree_set: MountAttrFlags::MOUNT_ATTR_NOATIME,
            tree_clear: suid | atime,
            ..Attributes::default()
        };
        let bind = Bind::prepare(Path::new("/tmp/source"), "/data", true, &attributes).unwrap();
        assert_eq!(bind.describe(), "the bind of /tmp/source on /data (rw,nodev)");
        let container = Container::with(&[bind]).unwrap();
        assert_eq!(container.mount_on("/data").unwrap().options, "rw,nodev,noatime");
        assert_eq!(container.mount_on("/data/below").unwrap().options, "rw,noatime");
        // Two access time modes at once are none.
        let set = MountAttrFlags::MOUNT_ATTR_NOATIME | MountAttrFlags::MOUNT_ATTR_STRICTATIME;
        let wrong = Attributes { set, clear: atime, ..Attributes::default() };
        let error = Bind::prepare(Path::new("/tmp/source"), "/data", true, &wrong).unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with("setting the flags of \"/tmp/source\" for the bind on /data"));
    });
}

/// Whether a mount made on the host's side is seen inside, and one made inside is seen outside.
fn spreads(bind: Bind, directory: &str) -> (bool, bool) {
    for name in ["in", "out"] {
        fs::create_dir_all(format!("{directory}/{name}")).unwrap();
    }
    let below = directory.strip_prefix("/tmp/source").unwrap();
    let inside = format!("data{below}");
    let out = std::ffi::CString::new(format!("{inside}/out")).unwrap();
    let tmpfs = sys::fscontext::FsContext::open(c"tmpfs").unwrap();
    let tmpfs = tmpfs.mount(MountAttrFlags::empty()).unwrap();
    let container = Container::start(|root| {
        use sys::Step;
        bind.apply(root)?;
        let out = sys::below::open(root, &out, rustix::fs::OFlags::PATH).step("opening out")?;
        sys::mount::attach(&tmpfs, out).step("mounting inside")
    })
    .unwrap();
    mount_tmpfs(&format!("{directory}/in"));
    let seen = (
        container.mount_on(&format!("/{inside}/in")).is_some(),
        mount_on(&format!("{directory}/out")).is_some(),
    );
    drop(container);
    for name in ["in", "out"] {
        let path = format!("{directory}/{name}");
        while mount_on(&path).is_some() {
            rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH).unwrap();
        }
    }
    seen
}

#[test]
fn propagation_is_as_asked_for() {
    sandbox(|| {
        mount_tmpfs("/tmp/source");
        spread("/tmp/source", Propagation::Shared);
        let spreads = |options| spreads(volume(options).unwrap(), "/tmp/source");
        assert_eq!(spreads(""), (false, false));
        assert_eq!(spreads("rprivate"), (false, false));
        assert_eq!(spreads("private"), (false, false));
        assert_eq!(spreads("rslave"), (true, false));
        assert_eq!(spreads("slave"), (true, false));
        assert_eq!(spreads("rshared"), (true, true));
        assert_eq!(spreads("shared"), (true, true));
    });
}

#[test]
fn what_is_mounted_below_does_not_leak_out() {
    sandbox(|| {
        mount_tmpfs("/tmp/source");
        spread("/tmp/source", Propagation::Shared);
        source_with_a_mount_below();
        spread("/tmp/source/below", Propagation::Shared);
        let spreads = |options| spreads(volume(options).unwrap(), "/tmp/source/below");
        assert_eq!(spreads(""), (false, false));
        assert_eq!(spreads("rslave"), (true, false));
        // Without the r: slaves below.
        assert_eq!(spreads("private"), (true, false));
        assert_eq!(spreads("slave"), (true, false));
        assert_eq!(spreads("shared"), (true, true));
        assert_eq!(spreads("rshared"), (true, true));
    });
}

#[test]
fn what_cannot_be_shared_is_said() {
    sandbox(|| {
        let error = |options| volume(options).unwrap_err().to_string();
        for word in ["rshared", "shared"] {
            let error = error(word);
            let what = format!("on /data cannot be {word}: it is mounted on \"/tmp\", which is no");
            assert!(error.contains(&what), "{error}");
            assert!(error.contains("no shared mount; run `mount --make-rshared /tmp`"), "{error}");
        }
        assert!(error("rslave").contains("which is no shared or slave mount"));
        assert!(error("slave").contains("which is no shared or slave mount"));
        // Unless that is known.
        let shared =
            Attributes { propagation: Some((Propagation::Shared, true)), ..Attributes::default() };
        let known = Attributes { apart: true, ..shared };
        Bind::of_descriptor(open("/tmp").as_fd(), Path::new("/tmp"), "/x", true, &known).unwrap();
        // A slave can be slave, and not shared.
        spread("/tmp", Propagation::Shared);
        let peer = sys::mount::clone_tree(open("/tmp"), c"", false).unwrap();
        spread("/tmp", Propagation::Slave);
        volume("rslave").unwrap();
        assert!(error("rshared").contains("no shared mount"));
        drop(peer);
        // A detached mount is no mount of this namespace.
        spread("/tmp", Propagation::Shared);
        let detached = sys::fscontext::FsContext::open(c"tmpfs").unwrap();
        let detached = detached.mount(MountAttrFlags::empty()).unwrap();
        let shown = Path::new("the new tmpfs");
        let error = Bind::of_descriptor(detached.as_fd(), shown, "/x", true, &shared).unwrap_err();
        assert!(matches!(error, Error::NotShared { .. }), "{error}");
    });
}

#[test]
fn an_unbindable_source_is_explained() {
    sandbox(|| {
        spread("/tmp", Propagation::Unbindable);
        let error = volume("").unwrap_err().to_string();
        assert!(error.starts_with("cloning the mount of the source \"/tmp/source\""), "{error}");
        assert!(error.contains("unbindable"), "{error}");
    });
}

#[test]
fn a_bind_can_be_made_unbindable() {
    sandbox(|| {
        let unbindable = Some((Propagation::Unbindable, true));
        let attributes = Attributes { propagation: unbindable, ..Attributes::default() };
        let bind = Bind::prepare(Path::new("/tmp/source"), "/data", true, &attributes).unwrap();
        assert_eq!(bind.describe(), "the bind of /tmp/source on /data (rw,runbindable)");
        let container = Container::with(&[bind]).unwrap();
        assert_eq!(container.mount_on("/data").unwrap().propagation, ["unbindable"]);
    });
}

/// Says that this kernel lacks a feature of docs/kernel-features.md; who runs the tests decides whether it may.
#[expect(clippy::print_stdout, reason = "a test's words to its runner")]
fn skipped(feature: &str, why: &str) {
    println!("SKIPPED: feature {feature}: {why}");
}

#[test]
fn owners_are_translated() {
    // The sandbox's sources are on tmpfs, which learned it later than other file systems did.
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let numbers: Vec<u32> = release.split(['.', '-']).flat_map(str::parse).take(2).collect();
    if numbers < vec![6, 3] {
        skipped("idmapped_tmpfs", &format!("this kernel is {release}"));
        return;
    }
    sandbox(|| {
        source_with_a_mount_below();
        write("/tmp/source/file", "there");
        write("/tmp/source/below/file", "there");
        let map = [IdMap { inside: 0, outside: 100_000, count: 65_536 }];
        let mut child = Spawn::new()
            .namespaces(Namespaces::USER)
            .id_maps(&map, &map)
            .spawn(|gate| {
                gate.wait(1)?;
                Err(sys::Failure::new("the end", rustix::io::Errno::CANCELED))
            })
            .unwrap();
        assert!(matches!(child.next().unwrap(), Event::Phase(1, None)));
        let users = fs::File::open(format!("/proc/{}/ns/user", child.pid())).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let owners = |idmap_tree| {
            let idmap = Some(users.as_fd());
            let attributes = Attributes { idmap, idmap_tree, ..Attributes::default() };
            let bind = Bind::prepare(Path::new("/tmp/source"), "/data", true, &attributes).unwrap();
            assert_eq!(bind.describe(), "the bind of /tmp/source on /data (rw,idmap)");
            let container = Container::with(&[bind]).unwrap();
            assert_eq!(read(container.path("data/file")), "there");
            ["data/file", "data/below/file"]
                .map(|path| fs::metadata(container.path(path)).unwrap().uid())
        };
        assert_eq!(owners(false), [100_000, 0]);
        assert_eq!(owners(true), [100_000, 100_000]);
        // No user namespace.
        let wrong = open("/tmp");
        let attributes = Attributes { idmap: Some(wrong.as_fd()), ..Attributes::default() };
        let error = Bind::prepare(Path::new("/tmp/source"), "/data", true, &attributes);
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("mapping the ids of \"/tmp/source\""), "{error}");
    });
}
