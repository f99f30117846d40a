//! Kernels that lack a system call, played by a seccomp filter that answers ENOSYS: what has a
//! fallback works, and what has none is said, by name, and leaves nothing. The rows of
//! docs/kernel-features.md.

use rustix::io::Errno;

use crate::harness::{Out, Root, busybox};

/// Runs the program with `calls` answered by ENOSYS. The filter belongs to a thread, and is
/// inherited by what that starts.
fn without(root: &Root, calls: &[libc::c_long], words: &[&str]) -> Out {
    std::thread::scope(|scope| {
        let run = || {
            sys::seccomp::install(&sys::seccomp::answer(calls, Errno::NOSYS)).unwrap();
            root.call(words.iter().copied())
        };
        scope.spawn(run).join().unwrap()
    })
}

fn loaded() -> Root {
    let root = Root::new();
    root.ok(["load", "-q", "-i", busybox().to_str().unwrap()]);
    root
}

#[test]
fn what_has_a_fallback_works_without() {
    let root = loaded();
    let run = ["run", "--rm", "-v", "filled:/bin", "busybox", "/bin/busybox", "echo", "works"];
    let calls = [
        libc::SYS_keyctl,          // no keyring to leave
        libc::SYS_copy_file_range, // a volume is filled by reads and writes
    ];
    for call in calls {
        let out = without(&root, &[call], &run);
        assert_eq!((out.code, out.stdout.trim()), (0, "works"), "{call}: {}", out.stderr);
    }
}

/// The program goes over to a read-only mount of its file (CVE-2019-5736): `run` at its entry, `start` from `main`. Where that
/// cannot be, it is executed from there: `start` without mremap, when it has come half of the way.
#[test]
fn the_program_is_executed_again_where_it_cannot_go_over() {
    let root = loaded();
    // What is executed again is told the path of its file.
    let told = |pid: i32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
        environment.split(|byte| *byte == 0).any(|var| var.starts_with(b"RUNTIME_EXECUTABLE="))
    };
    let run = ["run", "-d", "--name", "box", "busybox", "sleep", "1000"];
    let mremap = [libc::SYS_mremap];
    let at_entry = cfg!(target_arch = "x86_64");
    for (words, calls, again) in [
        (&run[..], &[][..], false),
        (&run, &mremap, !at_entry),
        (&["start", "box"], &[], false),
        (&["start", "box"], &mremap, true),
    ] {
        if words[0] == "start" {
            root.ok(["create", "--name", "box", "busybox", "sleep", "1000"]);
        }
        let out = without(&root, calls, words);
        assert_eq!(out.code, 0, "{}", out.stderr);
        let supervisor = parent(root.pid("box"));
        assert_eq!(told(supervisor), again, "{words:?} without {calls:?}");
        let exe = std::fs::File::open(format!("/proc/{supervisor}/exe")).unwrap();
        let flags = rustix::fs::fstatvfs(&exe).unwrap().f_flag;
        assert!(flags.contains(rustix::fs::StatVfsMountFlags::RDONLY), "{words:?}: {flags:?}");
        root.ok(["rm", "-f", "box"]);
    }
}

/// The parent of a process.
fn parent(pid: i32) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn output_goes_through_the_client_without_splice() {
    let root = loaded();
    let numbers: String = (1..=300_000).map(|number| format!("{number}\n")).collect();
    for options in [&["--log-driver", "none"][..], &[]] {
        let words = [&["run", "--rm"], options, &["busybox", "seq", "1", "300000"]].concat();
        let out = without(&root, &[libc::SYS_splice, libc::SYS_tee], &words);
        assert_eq!(out.code, 0, "{}", out.stderr);
        assert!(out.stdout == numbers, "{} bytes", out.stdout.len());
    }
}

#[test]
fn what_has_none_is_said_and_leaves_nothing() {
    let root = loaded();
    let run = ["run", "--rm", "busybox", "true"];
    for (call, words) in [
        (libc::SYS_clone3, "clone3"),
        (libc::SYS_openat2, "openat2"),
        (libc::SYS_open_tree, "open_tree"),
        (libc::SYS_move_mount, "move_mount"),
        (libc::SYS_fsopen, "fsopen"),
        (libc::SYS_fsconfig, "fsconfig"),
        (libc::SYS_fsmount, "fsmount"),
        (libc::SYS_mount_setattr, "mount_setattr"),
        (libc::SYS_close_range, "close_range"),
        (libc::SYS_pivot_root, "pivot_root"),
        (libc::SYS_seccomp, "seccomp"),
    ] {
        let out = without(&root, &[call], &run);
        assert_eq!(out.code, 125, "{words}: {}", out.stderr);
        assert!(out.stderr.contains("Function not implemented"), "{words}: {}", out.stderr);
        root.assert_nothing_left();
    }
    assert_eq!(root.call(run).code, 0);
}

/// `stop` and `exec` find processes by pidfd.
#[test]
fn without_pidfds_a_container_is_not_guessed() {
    let root = loaded();
    root.sleeper("box", &[]);
    for (call, verb) in [
        (libc::SYS_pidfd_open, ["stop", "box"].as_slice()),
        (libc::SYS_pidfd_send_signal, &["kill", "box"]),
        (libc::SYS_setns, &["exec", "box", "true"]),
    ] {
        let out = without(&root, &[call], verb);
        assert_ne!(out.code, 0, "{verb:?}");
        assert!(out.stderr.contains("Function not implemented"), "{verb:?}: {}", out.stderr);
    }
    root.ok(["exec", "box", "true"]);
}
