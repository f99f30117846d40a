//! `-t`: a terminal of the container's own, joined to the user's.

use rustix::process::Signal;
use rustix::termios::LocalModes;

use crate::harness::{Root, arg, busybox, wait_until};
use crate::pty::Terminal;

fn run(root: &Root, options: &[&str], command: &[&str]) -> Terminal {
    let image = busybox();
    let args = [&["run", "--rm"], options, &[arg(&image)], command].concat();
    Terminal::start(&root.command(args), 24, 80)
}

#[test]
fn a_shell_of_run() {
    let root = Root::new();
    let mut user = run(&root, &["-it"], &["sh"]);
    let before = user.before.clone();
    user.expect("# ");
    user.press("stty size; tty; echo $TERM\r");
    user.expect("24 80");
    user.expect("/dev/pts/0");
    user.expect("xterm");
    // Raw mode: what is typed is the container's affair.
    assert!(!user.settings().local_modes.contains(LocalModes::ICANON));
    user.press("mount | grep console\r");
    user.expect("devpts on /dev/console type devpts");
    user.resize(30, 90);
    wait_until("the new size of the terminal", || {
        user.press("stty size\r");
        std::thread::sleep(std::time::Duration::from_millis(100));
        user.text().contains("30 90")
    });
    user.press("exit 5\r");
    assert_eq!(user.wait(), Some(5));
    let after = user.settings();
    assert_eq!(after.local_modes, before.local_modes);
    assert_eq!(after.input_modes, before.input_modes);
    assert_eq!(after.output_modes, before.output_modes);
    root.assert_nothing_left();
}

#[test]
fn control_c_and_control_d() {
    let root = Root::new();
    let mut user = run(&root, &["-it"], &["sh"]);
    user.expect("# ");
    user.press("sleep 1000; echo status:$?:\r");
    user.expect("status"); // as it was typed
    let sleeps = || crate::host::processes_of(root.dir()).iter().any(|p| p.1 == "sleep 1000 ");
    wait_until("the sleep", sleeps);
    user.press("\x03");
    user.expect("# ");
    user.press("\x04");
    assert_eq!(user.wait(), Some(130));
    root.assert_nothing_left();
}

/// The user's terminal is as before, also when the program is ended from outside.
#[test]
fn the_terminal_is_restored_after_a_signal() {
    let root = Root::new();
    for signal in [Signal::TERM, Signal::HUP] {
        let mut user = run(
            &root,
            &["-it", "--name", "box"],
            &[
                "sh",
                "-c",
                "trap 'exit 3' TERM HUP; \
            echo ready; while :; do sleep 1000 & wait $!; done",
            ],
        );
        let before = user.before.clone();
        user.expect("ready");
        user.signal(signal);
        user.wait();
        assert_eq!(user.settings().local_modes, before.local_modes);
        let _ = root.call(["rm", "-f", "box"]);
        root.assert_nothing_left();
    }
}

/// A terminal's output arrives whole, also the part just before the end.
#[test]
fn all_output_arrives() {
    let root = Root::new();
    root.ok(["load", "-q", "-i", arg(&busybox())]); // no progress is shown then
    let mut user = run(&root, &["-t"], &["sh", "-c", "seq 1 20000; echo the last words"]);
    assert_eq!(user.wait(), Some(0));
    let end = || user.text().contains("the last words");
    wait_until("the last words", end);
    let text = user.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 20_001);
    let expected = (1..=20_000).map(|n| n.to_string());
    let wrong =
        expected.zip(&lines).find(|(expected, line)| expected != line.trim_end_matches('\r'));
    assert_eq!(wrong, None);
}

/// With `-t` alone there is a terminal, and the output has its line ends.
#[test]
fn without_a_terminal_of_the_user() {
    let root = Root::new();
    let out = root.busybox(&["-t"], &["sh", "-c", "test -t 1 && echo terminal"]);
    assert_eq!((out.code, &*out.stdout), (0, "terminal\r\n"), "{out:?}");
    let out = root.busybox(&["-i", "-t"], &["true"]);
    assert_ne!(out.code, 0);
    assert!(out.stderr.contains("the input device is not a TTY"), "{out:?}");
    root.assert_nothing_left();
}

#[test]
fn a_terminal_in_the_background() {
    let root = Root::new();
    root.ok(["run", "-dit", "--name", "box", arg(&busybox()), "sh"]);
    assert_eq!(root.inspect("box")["Config"]["Tty"], true);
    // The shell waits for what nobody types.
    assert_eq!(root.inspect("box")["State"]["Status"], "running");
    assert_eq!(root.ok(["exec", "box", "readlink", "/proc/1/fd/0"]), "/dev/pts/0");
    root.ok(["rm", "-f", "box"]);
    root.assert_nothing_left();
}

/// A progress bar is for people: none where stderr is no terminal.
#[test]
fn progress_is_shown_on_a_terminal_only() {
    let root = Root::new();
    let out = root.busybox(&[], &["true"]);
    assert_eq!((&*out.stdout, &*out.stderr), ("", ""));
    let root = Root::new();
    let mut user = run(&root, &[], &["echo", "ran"]);
    user.expect("Loading 1 layer");
    user.expect("\x1b[2K"); // and is wiped away
    user.expect("ran");
    assert_eq!(user.wait(), Some(0));
}
