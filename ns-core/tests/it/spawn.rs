//! New namespaces, gates, reports.

use std::io::Read;
use std::os::fd::AsFd;

use ns_core::{Error, Event, Exit, IdMap, Namespaces, Spawn};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use sys::exec::Program;
use sys::{Failure, Step};

use crate::{done, namespace, turn};

#[test]
fn each_kind_is_new_and_only_what_was_asked_for() {
    let _turn = turn();
    let own = std::process::id() as i32;
    for (kind, name) in Namespaces::NAMES {
        let mut child = Spawn::new().namespaces(kind).spawn(|gate| {
            gate.wait(1)?;
            done()
        });
        let child = child.as_mut().unwrap();
        assert!(matches!(child.next().unwrap(), Event::Phase(1, None)));
        for (_, other) in Namespaces::NAMES {
            let differs =
                namespace(child.pid().as_raw_nonzero().get(), other) != namespace(own, other);
            assert_eq!(differs, other == name, "{other} where {name} was asked for");
        }
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap(), Exit::Signal(9));
    }
}

/// mount_namespaces(7): "a copy of the mount list of the caller". Walk, row 11.
#[test]
fn a_new_mount_namespace_starts_as_a_copy_of_the_callers() {
    let _turn = turn();
    let targets = |pid: &str| {
        let bytes = std::fs::read(format!("/proc/{pid}/mountinfo")).unwrap();
        let mounts = sys::mountinfo::parse(&bytes).unwrap();
        let mut mounts: Vec<_> =
            mounts.into_iter().map(|m| (m.target, m.root, m.fstype, m.source, m.options)).collect();
        mounts.sort();
        mounts
    };
    let before = targets("self");
    let mut child = Spawn::new()
        .namespaces(Namespaces::MOUNT)
        .spawn(|gate| {
            gate.wait(1)?;
            done()
        })
        .unwrap();
    child.next().unwrap();
    let copy = targets(&child.pid().as_raw_nonzero().to_string());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(copy, before);
}

/// The kind of the file system at `/`, and how many mounts there are.
fn mounts(pid: &str) -> (String, usize) {
    let bytes = std::fs::read(format!("/proc/{pid}/mountinfo")).unwrap();
    let mounts = sys::mountinfo::parse(&bytes).unwrap();
    let root = mounts.iter().rfind(|mount| mount.target == std::path::Path::new("/")).unwrap();
    (root.fstype.clone(), mounts.len())
}

#[test]
fn a_new_mount_namespace_is_a_copy_of_one_that_is_given() {
    let _turn = turn();
    let other = Spawn::new().namespaces(Namespaces::MOUNT).spawn(|gate| {
        use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change(c"/", private).step("being alone")?;
        rustix::mount::mount(c"none", c"/tmp", c"tmpfs", MountFlags::empty(), None)
            .step("mounting")?;
        rustix::process::chdir(c"/tmp").step("entering")?;
        rustix::process::pivot_root(c".", c".").step("switching")?;
        rustix::mount::unmount(c".", UnmountFlags::DETACH).step("detaching")?;
        gate.wait(1)?;
        done()
    });
    let mut other = other.unwrap();
    assert!(matches!(other.next().unwrap(), Event::Phase(1, None)));
    let path = format!("/proc/{}/ns/mnt", other.pid().as_raw_nonzero());
    let file = std::fs::File::open(path).unwrap();
    let kinds = Namespaces::MOUNT | Namespaces::PID | Namespaces::CGROUP;
    let mut child = Spawn::new()
        .namespaces(kinds)
        .mounts_of(file.as_fd())
        .spawn(|gate| {
            gate.wait(2)?;
            done()
        })
        .unwrap();
    assert!(matches!(child.next().unwrap(), Event::Phase(2, None)));
    let (own, pid) = (std::process::id() as i32, child.pid().as_raw_nonzero().get());
    assert_eq!(mounts(&pid.to_string()), ("tmpfs".to_owned(), 1));
    let there = other.pid().as_raw_nonzero().get();
    assert_ne!(namespace(pid, "mnt"), namespace(there, "mnt"), "it is the given one itself");
    for kind in ["mnt", "cgroup", "pid"] {
        assert_ne!(namespace(pid, kind), namespace(own, kind), "{kind}");
    }
    for child in [child, other] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // What is none, and what could not be a copy.
    let none = std::fs::File::open("/proc/self/ns/uts").unwrap();
    let mut child =
        Spawn::new().namespaces(kinds).mounts_of(none.as_fd()).spawn(|_| done()).unwrap();
    let Event::Failed(report) = child.next().unwrap() else { panic!() };
    assert_eq!(report.errno, Errno::INVAL);
    child.wait().unwrap();
    for kinds in [Namespaces::PID, Namespaces::MOUNT | Namespaces::USER] {
        let error = Spawn::new().namespaces(kinds).mounts_of(file.as_fd()).spawn(|_| done());
        assert!(matches!(error, Err(Error::NoMountsToCopy)), "{kinds:?}");
    }
}

#[test]
fn a_child_that_executes_and_one_that_fails() {
    let _turn = turn();
    let program = Program::new(
        vec![c"/bin/sh".into()],
        vec![c"sh".into(), c"-c".into(), c"exit 7".into()],
        vec![],
    );
    let mut child = Spawn::new().spawn(|_| Err(program.exec())).unwrap();
    assert!(matches!(child.next().unwrap(), Event::Executed));
    assert_eq!(child.wait().unwrap(), Exit::Status(7));

    let mut child = Spawn::new()
        .spawn(|_| Err(Failure::new("opening the mount's target", Errno::LOOP).of(3, 4)))
        .unwrap();
    let Event::Failed(report) = child.next().unwrap() else { panic!() };
    assert_eq!((report.op.as_str(), report.errno), ("opening the mount's target", Errno::LOOP));
    assert_eq!((report.part, report.index), (3, 4));
    assert_eq!(child.wait().unwrap(), Exit::Status(1));
    assert!(child.wait().is_err(), "a second wait has nothing to wait for");
}

#[test]
fn a_descriptor_is_handed_over() {
    let _turn = turn();
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let mut child = Spawn::new()
        .spawn(|gate| {
            gate.tell(2, Some(read.as_fd()))?;
            gate.wait(3)?;
            rustix::io::write(&write, b"through it").step("writing")?;
            done()
        })
        .unwrap();
    let Event::Phase(2, Some(received)) = child.next().unwrap() else { panic!() };
    assert!(matches!(child.next().unwrap(), Event::Phase(3, None)));
    child.proceed().unwrap();
    child.wait().unwrap();
    drop(write);
    let mut text = String::new();
    std::fs::File::from(received).read_to_string(&mut text).unwrap();
    assert_eq!(text, "through it");
}

#[test]
fn a_parent_that_goes_away_opens_no_gate() {
    let _turn = turn();
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let child = Spawn::new()
        .spawn(|gate| {
            let went_on = match gate.wait(1) {
                Ok(()) => b"y",
                Err(failure) if failure.errno == Errno::CANCELED => b"c",
                Err(_) => b"?",
            };
            rustix::io::write(&write, went_on).step("writing")?;
            done()
        })
        .unwrap();
    drop(child.into_pidfd()); // with the channel
    drop(write);
    let mut byte = [0];
    assert_eq!(rustix::io::read(&read, &mut byte), Ok(1));
    assert_eq!(byte, *b"c");
}

#[test]
fn id_maps_are_there_before_the_closure_runs() {
    let _turn = turn();
    let maps = [IdMap { inside: 0, outside: 100_000, count: 10 }];
    let mut child = Spawn::new()
        .namespaces(Namespaces::USER)
        .id_maps(&maps, &maps)
        .spawn(|_| {
            let none: [rustix::process::Gid; 0] = [];
            rustix::thread::set_thread_groups(&none).step("dropping the groups")?;
            let gid = rustix::process::Gid::from_raw(3);
            rustix::thread::set_thread_res_gid(gid, gid, gid).step("becoming a group")?;
            let uid = rustix::process::Uid::from_raw(3);
            rustix::thread::set_thread_res_uid(uid, uid, uid).step("becoming a user")?;
            match rustix::process::geteuid() == uid {
                true => done(),
                false => Err(Failure::new("being that user", Errno::PERM)),
            }
        })
        .unwrap();
    let Event::Failed(report) = child.next().unwrap() else { panic!() };
    assert_eq!(report.op, "the end of the test");
    child.wait().unwrap();
}

#[test]
fn what_contradicts_itself_is_refused() {
    let _turn = turn();
    let map = [IdMap { inside: 0, outside: 0, count: 1 }];
    let error = Spawn::new().id_maps(&map, &map).spawn(|_| done()).unwrap_err();
    assert!(matches!(error, Error::MapsWithoutUser), "{error}");
    let own = std::fs::File::open("/proc/self/ns/uts").unwrap();
    let error = Spawn::new()
        .namespaces(Namespaces::UTS)
        .join(own.as_fd(), Namespaces::UTS)
        .spawn(|_| done())
        .unwrap_err();
    assert!(error.to_string().contains("a uts namespace"), "{error}");
    // A map of ids that overlap is the kernel's to refuse; the child is not left behind.
    let twice = [map[0], map[0]];
    let error = Spawn::new()
        .namespaces(Namespaces::USER)
        .id_maps(&twice, &twice)
        .spawn(|_| done())
        .unwrap_err();
    assert!(error.to_string().contains("gid_map"), "{error}");
}

#[test]
fn a_cgroup_descriptor_that_is_none_is_an_error() {
    let _turn = turn();
    let root = std::fs::File::open("/").unwrap();
    let error = Spawn::new().cgroup(root.as_fd()).spawn(|_| done()).unwrap_err();
    assert!(error.to_string().starts_with("starting a process"), "{error}");
}

/// As in a container of Docker's seccomp profile, which hides clone3.
#[test]
fn without_clone3_a_child_is_made_by_clone() {
    let _turn = turn();
    let filtered = || {
        let hidden = sys::seccomp::answer(&[libc::SYS_clone3], Errno::NOSYS);
        sys::seccomp::install(&hidden).unwrap();
        let mut child = Spawn::new()
            .namespaces(Namespaces::UTS | Namespaces::PID)
            .spawn(|gate| {
                gate.wait(1)?;
                done()
            })
            .unwrap();
        assert!(matches!(child.next().unwrap(), Event::Phase(1, None)));
        let own = std::process::id() as i32;
        let pid = child.pid().as_raw_nonzero().get();
        assert_ne!(namespace(pid, "uts"), namespace(own, "uts"));
        assert_eq!(namespace(pid, "mnt"), namespace(own, "mnt"));
        child.proceed().unwrap();
        assert!(matches!(child.next().unwrap(), Event::Failed(_)));
        assert_eq!(child.wait().unwrap(), Exit::Status(1));
        // There is no such call for what only clone3 has.
        let group = rustix::fs::open("/", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty());
        let group = group.unwrap();
        let error = Spawn::new().cgroup(group.as_fd()).spawn(|_| done()).unwrap_err();
        assert!(error.to_string().contains("clone3"), "{error}");
    };
    std::thread::spawn(filtered).join().unwrap();
}

/// Flags of clone(2) that are no namespaces share what a child must have a copy of: memory (CLONE_VM),
/// descriptors (CLONE_FILES). They cannot come by the way of a set's bits.
#[test]
fn what_is_no_kind_of_namespace_reaches_no_system_call() {
    let _turn = turn();
    for flag in [libc::CLONE_FILES, libc::CLONE_FS, libc::CLONE_VM] {
        let kinds = Namespaces::UTS | Namespaces::from_bits_retain(flag as u32);
        let error = Spawn::new().namespaces(kinds).spawn(|_| done()).unwrap_err();
        assert!(error.to_string().contains("Invalid argument"), "{error}");
        let own = std::fs::File::open("/proc/self/ns/uts").unwrap();
        let error = Spawn::new().join(own.as_fd(), kinds).spawn(|_| done()).unwrap_err();
        assert!(error.to_string().contains("Invalid argument"), "{error}");
    }
}
