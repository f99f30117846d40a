//! Programs in the kernel: a thread has its own, and a child of its own where one is to end.

use std::io;
use std::os::fd::AsFd;

use ns_core::{Event, Exit, Spawn};
use rustix::io::Errno;
use seccomp_oci::{Action, Arch, Condition, Filter, Op, Program, Rule, compile};
use sys::{Failure, Step};

fn program(filter: &Filter) -> Program {
    compile(filter, Arch::native().unwrap()).unwrap().program
}

fn one(rule: Rule) -> Filter {
    Filter { syscalls: vec![rule], ..Filter::new(Action::Allow) }
}

/// Runs `body` in a thread below the filter.
fn under<T: Send>(filter: &Filter, body: impl FnOnce() -> T + Send) -> T {
    let program = program(filter);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            sys::seccomp::load(program.instructions(), program.flags()).unwrap();
            body()
        });
        thread.join().unwrap()
    })
}

fn sync() -> Result<(), Errno> {
    let memory = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC)?;
    rustix::fs::fdatasync(memory)
}

#[test]
fn a_call_fails_with_the_errno() {
    for number in [1, 77, 133, 4095] {
        let rule = Rule { errno_ret: Some(number), ..Rule::new(["fdatasync"], Action::Errno) };
        let result = under(&one(rule), sync);
        assert_eq!(result, Err(Errno::from_raw_os_error(number as i32)));
    }
    let nothing = Rule { errno_ret: Some(0), ..Rule::new(["getcwd"], Action::Errno) };
    assert!(under(&one(nothing), || std::fs::read("/proc/self/status").is_ok()));
    assert_eq!(under(&one(Rule::new(["fdatasync"], Action::Log)), sync), Ok(()));
    assert_eq!(under(&one(Rule::new(["fsync"], Action::Errno)), sync), Ok(()));
}

#[test]
fn without_a_tracer_traced_calls_do_not_exist() {
    assert_eq!(under(&one(Rule::new(["fdatasync"], Action::Trace)), sync), Err(Errno::NOSYS));
}

#[test]
fn sixty_four_bits_of_an_argument_are_compared() {
    let memory = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    const VALUES: [u64; 9] =
        [0, 1, 5, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0005, 0x1_0000_0006, 0x5_0000_0001, 1 << 60];
    type Holds = fn(u64, u64) -> bool;
    let ops: [(Op, Holds); 7] = [
        (Op::Equal, |a, b| a == b),
        (Op::NotEqual, |a, b| a != b),
        (Op::Less, |a, b| a < b),
        (Op::LessOrEqual, |a, b| a <= b),
        (Op::Greater, |a, b| a > b),
        (Op::GreaterOrEqual, |a, b| a >= b),
        (Op::MaskedEqual, |a, mask| a & mask == 1 & mask),
    ];
    for (op, expected) in ops {
        for value in VALUES {
            let condition = Condition { index: 1, value, value_two: 1, op };
            let rule = Rule {
                errno_ret: Some(77),
                args: vec![condition],
                ..Rule::new(["lseek"], Action::Errno)
            };
            under(&one(rule), || {
                for argument in VALUES {
                    let at = rustix::fs::SeekFrom::Start(argument);
                    let refused =
                        rustix::fs::seek(&memory, at) == Err(Errno::from_raw_os_error(77));
                    assert_eq!(
                        refused,
                        expected(argument, value),
                        "{argument:#x} {op:?} {value:#x}"
                    );
                }
            });
        }
    }
}

/// How a child ends that loads the program and then syncs.
fn end(filter: &Filter) -> Result<Exit, String> {
    let program = program(filter);
    let child = Spawn::new().spawn(|_| {
        sys::seccomp::load(program.instructions(), program.flags()).step("loading")?;
        rustix::fs::fsync(rustix::stdio::stdout()).step("syncing")?;
        Err(Failure::new("going on", Errno::CANCELED))
    });
    let mut child = child.unwrap();
    match child.next().unwrap() {
        Event::Failed(report) => {
            child.wait().unwrap();
            Err(report.to_string())
        }
        _ => Ok(child.wait().unwrap()),
    }
}

#[test]
fn killing_and_trapping_end_a_child() {
    for action in [Action::Kill, Action::KillThread, Action::KillProcess, Action::Trap] {
        assert_eq!(end(&one(Rule::new(["fsync"], action))), Ok(Exit::Signal(31)), "{action:?}");
    }
    let refused = end(&one(Rule::new(["fsync"], Action::Errno))).unwrap_err();
    assert!(refused.contains("syncing"), "{refused}");
    // All that is not named is killed.
    let write = ["sendmsg", "sendto", "read", "exit", "exit_group"];
    let strict = Filter {
        syscalls: vec![Rule::new(write, Action::Allow)],
        ..Filter::new(Action::KillProcess)
    };
    assert_eq!(end(&strict), Ok(Exit::Signal(31)));
}

#[test]
fn the_default_profile_is_taken_and_denies() {
    let machine = Arch::native().unwrap();
    let kernel = rustix::system::uname().release().to_str().unwrap().parse().unwrap();
    let situation = seccomp_oci::Situation { capabilities: &[], machine, kernel };
    let filter = seccomp_oci::default_profile(&situation);
    under(&filter, || {
        assert_eq!(sync(), Ok(()));
        assert_eq!(sys::keyring::new_session(), Err(Errno::PERM));
        let vsock = rustix::net::AddressFamily::from_raw(40);
        let socket = rustix::net::socket(vsock, rustix::net::SocketType::STREAM, None);
        assert_eq!(socket.map(drop), Err(Errno::PERM));
        std::thread::spawn(|| std::fs::read("/proc/self/status").map(drop)).join().unwrap()
    })
    .unwrap();
}

/// Puts a call to this process, which answers it with a value that no kernel gives.
#[test]
fn a_listener_answers_calls() {
    let filter = Filter {
        listener_path: Some("/nowhere".to_owned()),
        ..one(Rule::new(["fdatasync"], Action::Notify))
    };
    let program = program(&filter);
    let (send, receive) = std::sync::mpsc::channel();
    let caller = std::thread::spawn(move || {
        let listener = sys::seccomp::load(program.instructions(), program.flags()).unwrap();
        send.send(listener.expect("a listener was asked for")).unwrap();
        sync()
    });
    let listener = receive.recv().unwrap();
    answer(listener.as_fd(), Errno::from_raw_os_error(99)).unwrap();
    assert_eq!(caller.join().unwrap(), Err(Errno::from_raw_os_error(99)));
}

/// Takes one call from a listener and answers it (seccomp_unotify(2)).
fn answer(listener: std::os::fd::BorrowedFd<'_>, errno: Errno) -> io::Result<()> {
    let call = sys::seccomp::notify::receive(listener)?;
    assert_eq!(Some(call.number as u32), Arch::native().unwrap().number("fdatasync"));
    Ok(sys::seccomp::notify::respond(listener, call.id, errno)?)
}
