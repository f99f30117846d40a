//! Joining the namespaces of a running process.

use std::os::fd::AsFd;

use ns_core::{Child, Event, Exit, IdMap, Namespaces, Spawn};
use rustix::event::{PollFd, PollFlags, poll};
use sys::Step;

use crate::{done, namespace, turn};

fn target(kinds: Namespaces) -> Child {
    let mut child = Spawn::new()
        .namespaces(kinds)
        .spawn(|gate| {
            gate.wait(1)?;
            done()
        })
        .unwrap();
    assert!(matches!(child.next().unwrap(), Event::Phase(1, None)));
    child
}

#[test]
fn all_of_a_process_are_joined_and_the_caller_stays_where_it_is() {
    let _turn = turn();
    let kinds = Namespaces::MOUNT
        | Namespaces::PID
        | Namespaces::NETWORK
        | Namespaces::IPC
        | Namespaces::UTS
        | Namespaces::CGROUP;
    let target = target(kinds);
    let own = std::process::id() as i32;
    let before: Vec<_> = Namespaces::NAMES.map(|(_, name)| namespace(own, name)).into();
    let mut joined = Spawn::new()
        .join(target.pidfd(), kinds)
        .spawn(|gate| {
            gate.wait(1)?;
            done()
        })
        .unwrap();
    assert!(matches!(joined.next().unwrap(), Event::Phase(1, None)));
    for (_, name) in Namespaces::NAMES {
        let of = |child: &Child| namespace(child.pid().as_raw_nonzero().get(), name);
        assert_eq!(of(&joined), of(&target), "{name}");
    }
    let after: Vec<_> = Namespaces::NAMES.map(|(_, name)| namespace(own, name)).into();
    assert_eq!(before, after);
    assert_eq!(namespace(own, "pid"), namespace(own, "pid_for_children"));
    // The end of number 1 ends all in its PID namespace, and waits until they were waited for.
    target.kill().unwrap();
    // Waiting for it would let it go from its gate first.
    let mut ended = [PollFd::from_borrowed_fd(joined.pidfd(), PollFlags::IN)];
    poll(&mut ended, None).unwrap();
    assert_eq!(joined.wait().unwrap(), Exit::Signal(9));
    assert_eq!(target.wait().unwrap(), Exit::Signal(9));
}

#[test]
fn one_is_joined_by_its_file_and_others_are_new() {
    let _turn = turn();
    let target = target(Namespaces::UTS);
    let pid = target.pid().as_raw_nonzero().get();
    let file = std::fs::File::open(format!("/proc/{pid}/ns/uts")).unwrap();
    let mut child = Spawn::new()
        .join(file.as_fd(), Namespaces::UTS)
        .namespaces(Namespaces::IPC)
        .spawn(|gate| {
            gate.wait(1)?;
            done()
        })
        .unwrap();
    child.next().unwrap();
    let of = child.pid().as_raw_nonzero().get();
    assert_eq!(namespace(of, "uts"), namespace(pid, "uts"));
    assert_ne!(namespace(of, "ipc"), namespace(std::process::id() as i32, "ipc"));
    for child in [&child, &target] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn what_is_no_namespace_is_a_report() {
    let _turn = turn();
    let file = std::fs::File::open("/proc/self/status").unwrap();
    let mut child = Spawn::new().join(file.as_fd(), Namespaces::UTS).spawn(|_| done()).unwrap();
    let Event::Failed(report) = child.next().unwrap() else { panic!() };
    assert_eq!(report.op, "joining the namespaces");
    child.wait().unwrap();
    let error = Spawn::new().join(file.as_fd(), Namespaces::PID).spawn(|_| done()).unwrap_err();
    assert!(error.to_string().contains("joining a PID namespace"), "{error}");
}

/// Waits for the first phase, and says what went wrong otherwise.
fn reached(child: &mut Child) {
    match child.next().unwrap() {
        Event::Phase(1, None) => {}
        other => panic!("{other:?}"),
    }
}

/// A target in a user namespace of its own, whose root is `outside`.
fn mapped(kinds: Namespaces, outside: u32) -> Child {
    let map = [IdMap { inside: 0, outside, count: 10 }];
    let mut child = Spawn::new()
        .namespaces(kinds | Namespaces::USER)
        .id_maps(&map, &map)
        .spawn(|gate| {
            gate.wait(1)?;
            done()
        })
        .unwrap();
    reached(&mut child);
    child
}

fn status(child: &Child, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().to_owned()
}

#[test]
fn a_joined_user_namespace_owns_what_is_new() {
    let _turn = turn();
    let target = mapped(Namespaces::empty(), 4_000_000);
    let file = std::fs::File::open(format!("/proc/{}/ns/user", target.pid())).unwrap();
    let kinds = Namespaces::MOUNT | Namespaces::PID | Namespaces::NETWORK | Namespaces::UTS;
    let mut child = Spawn::new()
        .namespaces(kinds | Namespaces::CGROUP | Namespaces::IPC)
        .join(file.as_fd(), Namespaces::USER)
        .spawn(|gate| {
            // Only a mount namespace of its own user namespace lets it mount.
            let mount = sys::fscontext::FsContext::open(c"tmpfs")?;
            mount.mount(rustix::mount::MountAttrFlags::empty())?;
            rustix::system::sethostname(b"x").step("setting the hostname")?;
            gate.wait(1)?;
            done()
        })
        .unwrap();
    reached(&mut child);
    let pid = child.pid().as_raw_nonzero().get();
    let own = std::process::id() as i32;
    assert_eq!(namespace(pid, "user"), namespace(target.pid().as_raw_nonzero().get(), "user"));
    for name in ["mnt", "pid", "net", "uts", "ipc", "cgroup"] {
        assert_ne!(namespace(pid, name), namespace(own, name), "{name}");
    }
    assert_eq!(status(&child, "NSpid:"), format!("{pid}\t1"), "it is number 1 of its namespace");
    assert_eq!(status(&child, "PPid:"), own.to_string(), "and the caller's child");
    assert_eq!(status(&child, "Uid:"), "4000000\t4000000\t4000000\t4000000");
    assert_eq!(status(&child, "Groups:"), "");
    child.proceed().unwrap();
    assert_eq!(child.wait().unwrap(), Exit::Status(1));
    target.wait().unwrap();
}

#[test]
fn what_others_own_is_joined_before_a_new_user_namespace_is_made() {
    let _turn = turn();
    let target = target(Namespaces::NETWORK | Namespaces::IPC);
    let map = [IdMap { inside: 0, outside: 4_000_000, count: 10 }];
    let mut child = Spawn::new()
        .namespaces(Namespaces::USER | Namespaces::MOUNT | Namespaces::PID)
        .id_maps(&map, &map)
        .join(target.pidfd(), Namespaces::NETWORK | Namespaces::IPC)
        .spawn(|gate| {
            gate.wait(1)?;
            done()
        })
        .unwrap();
    reached(&mut child);
    let pid = child.pid().as_raw_nonzero().get();
    for name in ["net", "ipc"] {
        assert_eq!(namespace(pid, name), namespace(target.pid().as_raw_nonzero().get(), name));
    }
    assert_eq!(status(&child, "Uid:"), "4000000\t4000000\t4000000\t4000000");
    assert_eq!(status(&child, "NSpid:"), format!("{pid}\t1"));
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap(), Exit::Signal(9));
    target.wait().unwrap();
}

#[test]
fn all_of_a_process_in_a_user_namespace_are_joined() {
    let _turn = turn();
    let kinds = Namespaces::MOUNT | Namespaces::PID | Namespaces::NETWORK | Namespaces::UTS;
    let target = mapped(kinds, 4_000_000);
    let mut child = Spawn::new()
        .join(target.pidfd(), kinds | Namespaces::USER)
        .spawn(|gate| {
            gate.wait(1)?;
            done()
        })
        .unwrap();
    reached(&mut child);
    let of = |child: &Child, name| namespace(child.pid().as_raw_nonzero().get(), name);
    for name in ["user", "mnt", "pid", "net", "uts"] {
        assert_eq!(of(&child, name), of(&target, name), "{name}");
    }
    child.wait().unwrap();
    target.wait().unwrap();
}

#[test]
fn a_new_time_namespace_has_its_clocks() {
    let _turn = turn();
    // Before Linux 6.4 (PR_GET_AUXV) rustix looks for the vDSO by the heap, at the first question. The child has none.
    let clock = || rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    clock();
    let map = [IdMap { inside: 0, outside: 4_000_000, count: 10 }];
    for kinds in [Namespaces::empty(), Namespaces::USER, Namespaces::PID] {
        let mut spawn = Spawn::new()
            .namespaces(kinds | Namespaces::TIME)
            .time_offsets(b"monotonic 1000000 0\nboottime 2000000 5\n");
        if kinds == Namespaces::USER {
            spawn = spawn.id_maps(&map, &map);
        }
        let mut child = spawn
            .spawn(|gate| {
                let now = clock();
                // This machine has not run for 23 days and more.
                gate.wait(if now.tv_sec >= 2_000_000 { 1 } else { 2 })?;
                done()
            })
            .unwrap();
        reached(&mut child);
        let pid = child.pid().as_raw_nonzero().get();
        assert_ne!(namespace(pid, "time"), namespace(std::process::id() as i32, "time"));
        let offsets = std::fs::read_to_string(format!("/proc/{pid}/timens_offsets")).unwrap();
        let words: Vec<&str> = offsets.split_whitespace().collect();
        assert_eq!(words, ["monotonic", "1000000", "0", "boottime", "2000000", "5"]);
        child.wait().unwrap();
    }
    let error = Spawn::new().time_offsets(b"monotonic 1 0\n").spawn(|_| done()).unwrap_err();
    assert!(error.to_string().contains("no new time namespace"), "{error}");
}
