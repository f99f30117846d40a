//! `--init`: a process 1 that reaps and passes signals on.

use std::fs;

use crate::harness::{BIN, Root, arg, busybox, wait_until};

/// Whether the program needs a dynamic loader: the container has none for it.
pub(crate) fn is_dynamic() -> bool {
    const PT_INTERP: u32 = 3;
    let elf = fs::read(BIN).unwrap();
    let number = |at: usize, len: usize| {
        elf[at..at + len].iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    let (offset, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    (0..count).any(|index| number((offset + index * size) as usize, 4) == u64::from(PT_INTERP))
}

#[test]
fn init_reaps_and_passes_signals_on() {
    let root = Root::new();
    if is_dynamic() {
        let words = ["--init", "static"];
        root.fails(125, &words, ["run", "--rm", "--init", arg(&busybox()), "true"]);
        root.assert_nothing_left();
        return;
    }
    let out = root.busybox(&["--init"], &["sh", "-c", "echo $$; cat /proc/1/comm; exit 9"]);
    assert_eq!(out.code, 9, "{out:?}");
    let lines: Vec<&str> = out.stdout.lines().collect();
    assert!(lines[0] != "1" && lines[1] == "docker-init", "{out:?}");

    // Orphans are reaped.
    let volume = root.host_dir("volume");
    let spec = format!("{}:/volume", arg(&volume));
    let script = "for i in 1 2 3; do (sleep 0.1 & ) ; done; trap 'exit 4' TERM; echo > /volume/ready; \
        while :; do sleep 1000 & wait $!; done";
    let options = ["run", "-d", "--init", "--name", "box", "-v", &spec];
    root.ok([&options[..], &[arg(&busybox()), "sh", "-c", script]].concat());
    wait_until("the trap", || volume.join("ready").exists());
    let zombies = "cat /proc/[0-9]*/stat 2>/dev/null | grep -c ' Z '; \
        cat /proc/[0-9]*/comm 2>/dev/null | grep -c sleep";
    wait_until("the end of the orphans", || {
        root.call(["exec", "box", "sh", "-c", zombies]).stdout == "0\n1\n"
    });
    root.ok(["stop", "box"]);
    assert_eq!(root.inspect("box")["State"]["ExitCode"], 4);

    // The end of the command is the end, whatever else goes on.
    let out = root.busybox(&["--init"], &["sh", "-c", "sleep 1000 & exit 6"]);
    assert_eq!(out.code, 6);
    let out = root.busybox(&["--init"], &["sh", "-c", "kill -USR1 $$"]);
    assert_eq!(out.code, 128 + 10);
    root.fails(127, &["nosuch"], ["run", "--rm", "--init", arg(&busybox()), "nosuch"]);
    root.ok(["rm", "box"]);
    root.assert_nothing_left();
}
