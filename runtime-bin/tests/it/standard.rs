//! Standard input, output and error of both programs: closed, without a reader, a file or a pipe.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::harness::{self, Root, Started, arg, busybox, wait_until};
use crate::oci::{self, Oci};

/// What a shell writes to leave those of the first three out.
const CLOSED: [(&str, &[i32]); 5] =
    [("", &[]), ("<&-", &[0]), (">&-", &[1]), ("2>&-", &[2]), ("<&- >&- 2>&-", &[0, 1, 2])];

/// The command, by a shell that closes some of what it has first. Those that stay are pipes.
fn closed(command: &Command, how: &str) -> Started {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("exec \"$@\" {how}")).arg("sh");
    shell.arg(command.get_program()).args(command.get_args());
    command.get_current_dir().map(|dir| shell.current_dir(dir));
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Started::new(shell, Some(b""))
}

/// What descriptors a process has, as `ls -l` shows them: the numbers, and where they lead.
fn descriptors(listing: &Path) -> Vec<(i32, String)> {
    let text = std::fs::read_to_string(listing).unwrap();
    let links = text.lines().filter_map(|line| line.split_once(" -> "));
    links
        .map(|(name, target)| {
            let number = name.rsplit(' ').next().unwrap().parse().unwrap();
            (number, target.to_owned())
        })
        .collect()
}

/// Those of the first three that lead to the null device.
fn null(all: &[(i32, String)]) -> Vec<i32> {
    let null = all.iter().filter(|(_, target)| target == "/dev/null");
    null.map(|(number, _)| *number).filter(|number| *number < 3).collect()
}

/// A container's program that tells which it has, and waits.
const TELLS: [&str; 3] = [
    "sh",
    "-c",
    "(exec ls -l /proc/$$/fd >/told/new) && mv /told/new /told/fd && exec cat /told/go",
];

/// Else the first file that the program opens would be the one that is closed: what is printed would be written to it, and
/// the container's program would have it.
#[test]
fn what_is_closed_is_the_null_device() {
    for (how, numbers) in CLOSED {
        let oci = Oci::new(&TELLS);
        let told = oci.dir().join("told");
        std::fs::create_dir(&told).unwrap();
        let mount = serde_json::json!({"destination": "/told", "type": "bind", "source": told,
            "options": ["bind"]});
        oci.configure(|config| config["mounts"].as_array_mut().unwrap().push(mount), &TELLS);
        let of_program = run(&oci.command(&["run", "box"]), how, &told);
        assert_eq!(of_program, numbers, "runtime-oci {how}");
        let all = descriptors(&told.join("fd"));
        assert_eq!(null(&all), numbers, "runtime-oci {how}: {all:?}");
        assert!(
            all.iter().all(|(number, target)| *number > 2
                || target == "/dev/null"
                || target.starts_with("pipe:")),
            "{how}: {all:?}"
        );

        let root = Root::new();
        root.ok(["load", "-q", "-i", arg(&busybox())]);
        let told = root.host_dir("told");
        let volume = format!("{}:/told", told.display());
        let words = [&["run", "--rm", "-v", &volume, "busybox"][..], &TELLS].concat();
        let of_program = run(&root.command(words), how, &told);
        assert_eq!(of_program, numbers, "runtime-bin {how}");
        // Its streams are the supervisor's, whatever the starter has.
        let all = descriptors(&told.join("fd"));
        assert_eq!(null(&all), [0], "runtime-bin {how}: {all:?}");
    }
}

/// Runs the program until the container's has told what it has, and lets that one end: which of the program's own first three
/// lead to the null device.
fn run(command: &Command, how: &str, told: &Path) -> Vec<i32> {
    let go = told.join("go");
    rustix::fs::mknodat(rustix::fs::CWD, &go, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let started = closed(command, how);
    wait_until("the descriptors", || told.join("fd").exists());
    let path = |number: i32| format!("/proc/{}/fd/{number}", started.pid());
    let target = |number| std::fs::read_link(path(number)).unwrap().display().to_string();
    let own = null(&[0, 1, 2].map(|number| (number, target(number))));
    std::fs::write(&go, "").unwrap();
    let out = started.wait();
    assert_eq!((out.code, &*out.stderr), (0, ""), "{command:?} {how}");
    own
}

/// As by a signal, who asked would not know how it ended.
#[test]
fn without_a_reader_it_is_no_signal_that_ends_it() {
    let (root, oci) = (Root::new(), Oci::new(&["true"]));
    let output = |mut command: Command| {
        let (read, write) = std::io::pipe().unwrap();
        drop(read);
        let output =
            command.stdin(Stdio::null()).stdout(write).stderr(Stdio::piped()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for words in [&["ps"][..], &["version"], &["--help"], &["completions", "bash"]] {
        assert_eq!(output(root.command(words)), (Some(0), String::new()), "{words:?}");
    }
    for words in [&["list"][..], &["features"], &["--version"], &["completions", "bash"]] {
        let (code, stderr) = output(oci.command(words));
        assert_eq!(code, Some(1), "{words:?}: {stderr}");
        assert!(stderr.contains("writing to standard output: Broken pipe"), "{words:?}: {stderr}");
    }
}

/// More than a pipe takes (runtime-bin's completions), or less.
#[test]
fn output_is_whole() {
    let root = Root::new();
    for bin in [harness::BIN, oci::BIN] {
        for words in [["--help", "run"], ["completions", "bash"]] {
            let path = root.dir().join("output");
            let command = || {
                let mut command = Command::new(bin);
                command.args(words).stdin(Stdio::null());
                command
            };
            let status = command().stdout(File::create(&path).unwrap()).status().unwrap();
            let Output { status: of_pipe, stdout, stderr } = command().output().unwrap();
            assert_eq!((status.code(), of_pipe.code()), (Some(0), Some(0)), "{bin} {words:?}");
            assert!(stderr.is_empty() && !stdout.is_empty(), "{bin} {words:?}");
            assert!(std::fs::read(&path).unwrap() == stdout, "{bin} {words:?}: {}", stdout.len());
        }
    }
}
