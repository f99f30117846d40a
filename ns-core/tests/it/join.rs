//! Joining the namespaces of a running process.

use std::os::fd::AsFd;

use ns_core::{Child, Event, Exit, Namespaces, Spawn};
use rustix::event::{PollFd, PollFlags, poll};

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
