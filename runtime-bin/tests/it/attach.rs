//! `attach`, the keys to detach, and who has a container's input and output.

use std::fs::{self, File};
use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::LocalModes;

use crate::harness::{Root, Started, arg, busybox, wait_until};
use crate::host;
use crate::pipes::{count_to, number};
use crate::pty::Terminal;

const DETACH: &str = "\x10\x11";

fn loaded() -> Root {
    let root = Root::new();
    root.ok(["load", "-q", "-i", arg(&busybox())]);
    root
}

fn terminal(root: &Root, args: &[&str]) -> Terminal {
    Terminal::start(&root.command(args), 24, 80)
}

fn status(root: &Root, container: &str) -> String {
    root.inspect(container)["State"]["Status"].as_str().unwrap().to_owned()
}

fn is_raw(user: &Terminal) -> bool {
    !user.settings().local_modes.contains(LocalModes::ICANON)
}

fn supervisor(root: &Root, container: &str) -> Pid {
    Pid::from_raw(host::parent(root.pid(container))).unwrap()
}

/// Both see all output, and what either types is input; the status is for both.
#[test]
fn two_terminals_are_attached_to_one_shell() {
    let root = loaded();
    root.ok(["run", "-dit", "--name", "box", "busybox", "sh"]);
    let mut one = terminal(&root, &["attach", "box"]);
    let mut two = terminal(&root, &["attach", "box"]);
    wait_until("raw mode", || is_raw(&one) && is_raw(&two));
    one.press("echo from-$((1))\r");
    one.expect("from-1");
    two.expect("from-1");
    two.press("echo from-$((2))\r");
    one.expect("from-2");
    two.expect("from-2");
    // The last size counts.
    two.resize(40, 100);
    wait_until("the size", || {
        one.press("stty size\r");
        std::thread::sleep(Duration::from_millis(100));
        one.text().contains("40 100")
    });
    one.press("exit 7\r");
    assert_eq!((one.wait(), two.wait()), (Some(7), Some(7)));
    assert!(!is_raw(&one) && !is_raw(&two));
    assert_eq!(status(&root, "box"), "exited");
    assert!(root.ok(["logs", "box"]).contains("from-2"));
    root.fails(1, &["cannot attach to a stopped container, start it first"], ["attach", "box"]);
    root.fails(1, &["No such container"], ["attach", "nobody"]);
}

#[test]
fn the_keys_detach_and_the_container_goes_on() {
    let root = loaded();
    let mut user = terminal(&root, &["run", "-it", "--name", "box", "busybox", "sh"]);
    user.expect("# ");
    let before_pid = root.pid("box");
    // A part of them goes to the process with the next key: here the shell's last command.
    user.press("echo again-$((1))\r");
    user.expect("again-1");
    user.press("\x10");
    user.press("\r");
    user.expect("again-1");
    user.press(DETACH);
    assert_eq!(user.wait(), Some(0));
    assert!(!is_raw(&user));
    assert_eq!((status(&root, "box").as_str(), root.pid("box")), ("running", before_pid));
    let mut user = terminal(&root, &["attach", "--detach-keys", "ctrl-a,d", "box"]);
    wait_until("raw mode", || is_raw(&user));
    user.press("echo back-$((3))\r");
    user.expect("back-3");
    user.press("\x01d");
    assert_eq!(user.wait(), Some(0));
    let mut user = terminal(&root, &["start", "-ai", "box"]); // it runs already
    wait_until("raw mode", || is_raw(&user));
    user.press("exit 4\r");
    assert_eq!(user.wait(), Some(4));
    let mut user = terminal(&root, &["start", "-ai", "--detach-keys=x", "box"]);
    user.expect("# ");
    user.press("x");
    assert_eq!(user.wait(), Some(0));
    for verb in ["run", "exec", "start", "attach"] {
        let code = if matches!(verb, "run" | "exec") { 125 } else { 1 };
        let args = [verb, "--detach-keys", "ctrl-ab", "box", "true"];
        let args = if matches!(verb, "start" | "attach") { &args[..4] } else { &args[..] };
        let args = if verb == "start" {
            [&args[..1], &["-a"], &args[1..]].concat()
        } else {
            args.to_vec()
        };
        root.fails(code, &["--detach-keys", "ctrl-ab"], args);
    }
    root.ok(["rm", "-f", "box"]);
}

#[test]
fn a_process_of_exec_goes_on_without_its_user() {
    let root = loaded();
    root.sleeper("box", &[]);
    let script = "stty -echo; echo ready; read x; sleep 0.3; seq 1 20000; echo done >/done";
    let mut user = terminal(&root, &["exec", "-it", "box", "sh", "-c", script]);
    user.expect("ready");
    user.press("go\r");
    user.press(DETACH);
    assert_eq!(user.wait(), Some(0));
    assert!(!is_raw(&user));
    // More than a terminal's buffer holds.
    wait_until("its end", || root.call(["exec", "box", "test", "-s", "/done"]).code == 0);
    // What a command leaves in the background may write on.
    let script = "(sleep 0.5; echo late; echo ok >/late) & echo now";
    assert_eq!(root.call(["exec", "box", "sh", "-c", script]).stdout, "now\n");
    wait_until("its end", || root.call(["exec", "box", "test", "-s", "/late"]).code == 0);
    root.ok(["rm", "-f", "box"]);
    root.assert_nothing_left();
}

#[test]
fn input_ends_with_that_of_a_run_in_the_foreground() {
    let root = loaded();
    let out = root.call_with_input(["run", "-i", "--rm", "busybox", "wc", "-c"], &[b'x'; 300_000]);
    assert_eq!((out.code, out.stdout.trim()), (0, "300000"));
    // One in the background has an input that stays open.
    root.ok(["run", "-di", "--name", "box", "busybox", "cat"]);
    for words in ["one\n", "two\n"] {
        let mut attached = Started::new(root.command(["attach", "box"]), Some(words.as_bytes()));
        wait_until("the words", || root.ok(["logs", "box"]).contains(words.trim()));
        assert!(!attached.has_ended());
        attached.signal(Signal::KILL);
        assert!(attached.wait().stdout.contains(words));
    }
    assert_eq!(status(&root, "box"), "running");
    assert_eq!(root.ok(["logs", "box"]), "one\ntwo");
}

#[test]
fn output_and_errors_are_apart_and_in_the_log() {
    let root = loaded();
    let script = "echo out; echo err >&2; exit 3";
    for options in
        [&["run", "--name", "box", "busybox", "sh", "-c", script][..], &["start", "-a", "box"]]
    {
        let out = root.call(options);
        assert_eq!((out.code, &*out.stdout, &*out.stderr), (3, "out\n", "err\n"));
    }
    let out = root.call(["logs", "box"]);
    assert_eq!((&*out.stdout, &*out.stderr), ("out\nout\n", "err\nerr\n"));
}

/// The gap that was: through /proc/self/fd a process could open its starter's files for writing.
#[test]
fn a_file_that_is_an_input_or_output_cannot_be_opened_anew() {
    let root = loaded();
    root.sleeper("box", &[]);
    let script = "for fd in 0 1 2; do echo changed >/proc/self/fd/$fd; done 2>/dev/null; \
                  for fd in 0 1 2; do readlink /proc/self/fd/$fd; done >&2; exit 0";
    for verb in [&["run", "--rm", "-i", "busybox"][..], &["exec", "-i", "box"]] {
        let (input, output) = (root.dir().join("in"), root.dir().join("out"));
        fs::write(&input, "input\n").unwrap();
        fs::write(&output, "kept\n").unwrap();
        let out = File::options().append(true).open(&output).unwrap();
        let mut command = root.command([verb, &["sh", "-c", script]].concat());
        command.stdin(File::open(&input).unwrap()).stdout(out).stderr(Stdio::piped());
        let ended = command.output().unwrap();
        let links = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(ended.status.success(), "{links}");
        assert!(links.matches("pipe:[").count() >= 2 && !links.contains('/'), "{links}");
        assert_eq!(fs::read_to_string(&input).unwrap(), "input\n");
        let text = fs::read_to_string(&output).unwrap();
        assert!(text.starts_with("kept\n"), "{text}");
    }
}

/// 32 MB of numbers, each once and in its order.
#[test]
fn nothing_is_lost_with_a_reader_that_is_slow() {
    let root = loaded();
    let last = 460_000;
    let script = count_to(last);
    for options in [&["--log-driver", "none"][..], &[]] {
        let args = [&["run", "--rm"], options, &["busybox", "sh", "-c", &script]].concat();
        let mut command = root.command(args);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        // All buffers are full by then.
        std::thread::sleep(Duration::from_millis(500));
        let (mut buffer, mut text, mut next) = (vec![0; 1 << 16], Vec::new(), 1);
        loop {
            let count = stdout.read(&mut buffer).unwrap();
            text.extend_from_slice(&buffer[..count]);
            let end = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            for line in std::str::from_utf8(&text[..end]).unwrap().lines() {
                assert_eq!(number(line, last), next);
                next += 1;
            }
            text.drain(..end);
            if count == 0 {
                break;
            }
        }
        assert_eq!((next, text.len()), (last + 1, 0));
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn a_client_that_is_killed_stops_nothing() {
    let root = loaded();
    let script = "echo ready; sleep 1; seq 1 100000; echo done >/done; sleep 1000";
    let mut run = root.start(["run", "--name", "box", "busybox", "sh", "-c", script]);
    wait_until("its start", || root.call(["logs", "box"]).stdout.contains("ready"));
    run.signal(Signal::KILL);
    wait_until("the end of run", || run.has_ended());
    wait_until("its output", || root.call(["exec", "box", "test", "-s", "/done"]).code == 0);
    assert!(root.ok(["logs", "box"]).ends_with("\n100000"));
    // Another joins, and its signals are the process's only where they should be.
    let mut attached = root.start(["attach", "--sig-proxy=false", "box"]);
    wait_until("its hold on signals", || host::blocks(attached.pid(), Signal::INT));
    assert!(!attached.has_ended());
    attached.signal(Signal::INT);
    assert_eq!(attached.wait().code, 130);
    assert_eq!(status(&root, "box"), "running");
    root.ok(["rm", "-f", "box"]);
}

/// As in a shell's pipeline.
#[test]
fn a_process_whose_output_nobody_reads_is_told_so() {
    let root = loaded();
    root.sleeper("box", &[]);
    let verbs = [
        &["run", "--rm", "busybox"][..],
        &["run", "--rm", "--log-driver", "none", "busybox"],
        &["exec", "box"],
    ];
    // At once, and when nothing goes through the client any more.
    for (verb, before) in verbs.into_iter().flat_map(|verb| [(verb, 2), (verb, 2 << 20)]) {
        let args = [verb, &["yes"]].concat();
        let mut command = root.command(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut bytes = vec![0; before];
        child.stdout.take().unwrap().read_exact(&mut bytes).unwrap();
        wait_until("the end", || child.try_wait().unwrap().is_some());
    }
    root.ok(["rm", "-f", "box"]);
    root.assert_nothing_left();
}

#[test]
fn the_supervisor_is_killed_and_the_terminal_restored() {
    let root = loaded();
    for verb in ["run", "attach"] {
        let mut user = match verb {
            "run" => terminal(&root, &["run", "-it", "--name", "box", "busybox", "sh"]),
            _ => {
                root.ok(["run", "-dit", "--name", "box", "busybox", "sh"]);
                terminal(&root, &["attach", "box"])
            }
        };
        wait_until("raw mode", || is_raw(&user));
        kill_process(supervisor(&root, "box"), Signal::KILL).unwrap();
        user.expect("was killed");
        assert_ne!(user.wait(), Some(0));
        assert!(!is_raw(&user));
        wait_until("the tidying", || status(&root, "box") == "exited");
        root.ok(["rm", "box"]);
        root.assert_nothing_left();
    }
}

#[test]
fn the_terminal_is_restored_however_the_end_comes() {
    let root = loaded();
    for end in ["kill", "rm", "TERM", "HUP"] {
        let script = "trap 'exit 3' TERM HUP; echo ready; while :; do sleep 1000 & wait $!; done";
        let args = ["run", "-it", "--name", "box", "busybox", "sh", "-c", script];
        let mut user = terminal(&root, &args);
        user.expect("ready");
        wait_until("raw mode", || is_raw(&user));
        let expected = match end {
            "kill" => {
                root.ok(["kill", "box"]);
                137
            }
            "rm" => {
                root.ok(["rm", "-f", "box"]);
                137
            }
            "TERM" => {
                user.signal(Signal::TERM);
                3
            }
            _ => {
                user.signal(Signal::HUP);
                3
            }
        };
        assert_eq!(user.wait(), Some(expected), "{end}");
        assert!(!is_raw(&user), "{end}");
        let _ = root.call(["rm", "-f", "box"]);
        root.assert_nothing_left();
    }
}

/// A shell with job control: the client is one of its jobs.
#[test]
fn jobs_of_a_shell() {
    let root = loaded();
    let program = format!("{} --root {}", crate::harness::BIN, root.store().display());
    let mut bash = root.command([""; 0]);
    bash = {
        let mut command = std::process::Command::new("bash");
        command.args(["--norc", "--noprofile", "-i"]).current_dir(bash.get_current_dir().unwrap());
        command
    };
    let mut user = Terminal::start(&bash, 24, 80);
    // Nor does it leave a history.
    user.press("unset HISTFILE; PS1='$((40+2))> '\r");
    user.expect("42> ");
    // In raw mode ctrl-z is for the container's own shell.
    user.press(&format!("{program} run -it --name box busybox sh\r"));
    user.expect("# ");
    user.press("sleep 1000\r");
    let sleeps = || host::processes_of(root.dir()).iter().any(|p| p.1 == "sleep 1000 ");
    wait_until("the sleep", sleeps);
    user.press("\x1a");
    user.expect("Stopped");
    user.expect("# ");
    // Stopped from outside it gives the terminal back, and takes it again.
    let list = host::processes_of(root.dir());
    let is_client =
        |pid: i32| host::parent(host::parent(pid)) == i32::try_from(std::process::id()).unwrap();
    let client = list.iter().find(|(pid, line)| line.contains(" run -it ") && is_client(*pid));
    let client = Pid::from_raw(client.unwrap().0).unwrap();
    kill_process(client, Signal::TSTP).unwrap();
    user.expect("42> ");
    user.press("fg\r");
    user.press("echo in-$((6*7))\r");
    user.expect("in-42");
    user.press(DETACH);
    user.expect("42> ");
    // In the background it stops when it wants the terminal.
    user.press(&format!("{program} attach box &\r"));
    user.expect("42> ");
    wait_until("it stops", || {
        user.press("jobs\r");
        std::thread::sleep(Duration::from_millis(200));
        user.text().contains("Stopped")
    });
    user.press("fg\r");
    user.press("exit 5\r");
    user.expect("You have stopped jobs");
    user.press("exit 5\r");
    user.expect("42> ");
    user.press("echo status:$?:\r");
    user.expect("status:5:");
    user.press("exit\r");
    user.wait();
    root.ok(["rm", "box"]);
}

/// As with Docker, the foreground is that of the first run.
#[test]
fn a_policy_in_the_foreground() {
    let root = loaded();
    let script = "echo run; sleep 0.2; exit 3";
    let args = ["run", "--restart", "on-failure:2", "--name", "box", "busybox", "sh", "-c", script];
    let out = root.call(args);
    assert_eq!((out.code, &*out.stdout), (3, "run\n"));
    wait_until("three runs", || root.ok(["logs", "box"]) == "run\nrun\nrun");
    assert_eq!(root.wait_for_exit("box"), 3);
    assert_eq!(root.inspect("box")["RestartCount"], 2);
    root.ok(["run", "-d", "--restart", "always", "--name", "waits", "busybox", "false"]);
    // The first pauses are shorter than a start of `attach` on a slow machine: each is twice the one before.
    wait_until("a long pause", || {
        let times = root.inspect("waits")["RestartCount"].as_u64();
        times >= Some(5) && status(&root, "waits") == "restarting"
    });
    root.fails(1, &["cannot attach to a restarting container"], ["attach", "waits"]);
    root.ok(["rm", "-f", "waits"]);
}
