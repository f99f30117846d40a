//! `--log-driver` and `--log-opt`: how much of what a container prints is kept.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::harness::{Root, arg, busybox, wait_until};

fn loaded() -> Root {
    let root = Root::new();
    root.ok(["load", "-q", "-i", arg(&busybox())]);
    root
}

const DRIVERS: [&str; 2] = ["local", "json-file"];

/// Starts `box` with a log of this kind.
fn run_with(root: &Root, driver: &str, options: &[&str], script: &str) {
    let start = ["run", "-d", "--name", "box", "--log-driver", driver];
    root.ok([&start[..], options, &["busybox", "sh", "-c", script]].concat());
}

/// Starts `box` with a log of so many bytes and files.
fn run(root: &Root, driver: &str, size: &str, files: &str, script: &str) {
    let (size, files) = (format!("max-size={size}"), format!("max-file={files}"));
    run_with(root, driver, &["--log-opt", &size, "--log-opt", &files], script);
}

/// The newest file of the log of `box`. `inspect` names it where others can read it.
fn log_path(root: &Root) -> PathBuf {
    let told = root.inspect("box");
    let (id, driver) = (told["Id"].as_str().unwrap(), &told["HostConfig"]["LogConfig"]["Type"]);
    let form = driver.as_str().unwrap().trim_end_matches("-file");
    let path = root.store().join("containers").join(id).join(format!("{id}-{form}.log"));
    let expected = if form == "json" { path.to_str().unwrap() } else { "" };
    assert_eq!(told["LogPath"], expected);
    path
}

fn file(log: &Path, number: u32) -> PathBuf {
    match number {
        0 => log.to_owned(),
        number => format!("{}.{number}", log.display()).into(),
    }
}

fn numbers(range: std::ops::RangeInclusive<usize>) -> String {
    range.map(|number| format!("{number}\n")).collect()
}

#[test]
fn a_full_log_is_rotated_and_read_over_its_files() {
    let root = loaded();
    for (driver, size, bytes) in [("local", "1k", 1000), ("json-file", "4k", 4000)] {
        run(&root, driver, size, "3", "for n in $(seq 1 1000); do echo $n; done");
        root.wait_for_exit("box");
        let log = log_path(&root);
        let sizes = [0, 1, 2].map(|number| {
            usize::try_from(fs::metadata(file(&log, number)).unwrap().len()).unwrap()
        });
        assert!(!file(&log, 3).exists());
        assert!(sizes.iter().all(|&size| size <= bytes), "{sizes:?}");
        // Those that are not written to any more have no room for one more line.
        assert!(sizes[1..].iter().all(|&size| size > bytes - 200), "{sizes:?}");
        let out = root.call(["logs", "box"]).stdout;
        let lines = out.lines().count();
        assert!(lines > 80 && lines < 1000, "{lines}");
        assert_eq!(out, numbers(1001 - lines..=1000));
        // A tail that begins in the oldest file.
        let most = lines - 2;
        let tail = root.call(["logs", "--tail", &most.to_string(), "box"]).stdout;
        assert_eq!(tail, numbers(1001 - most..=1000));
        let config = json!({"Type": driver, "Config": {"max-size": size, "max-file": "3"}});
        assert_eq!(root.inspect("box")["HostConfig"]["LogConfig"], config);
        root.ok(["rm", "box"]);
    }
    root.assert_nothing_left();
}

/// One file, as is the default, begins anew when it is full; a further run goes on where the last ended.
#[test]
fn within_the_limits_nothing_is_lost() {
    let root = loaded();
    for (driver, large, small) in
        [("local", "2k", "max-size=1K"), ("json-file", "20k", "max-size=4K")]
    {
        run(&root, driver, large, "10", "seq 1 1000");
        root.wait_for_exit("box");
        assert_eq!(root.call(["logs", "box"]).stdout, numbers(1..=1000));
        root.ok(["start", "box"]);
        root.wait_for_exit("box");
        assert_eq!(root.call(["logs", "box"]).stdout, numbers(1..=1000).repeat(2));
        assert!(file(&log_path(&root), 1).exists());
        root.ok(["rm", "box"]);
        let options =
            ["run", "-d", "--name", "box", "--log-driver", driver, "--log-opt", small, "busybox"];
        root.ok([&options[..], &["sh", "-c", "for n in $(seq 1 1000); do echo $n; done"]].concat());
        root.wait_for_exit("box");
        let log = log_path(&root);
        assert!(fs::metadata(&log).unwrap().len() <= 4000 && !file(&log, 1).exists());
        let out = root.call(["logs", "box"]).stdout;
        assert!(!out.is_empty() && out == numbers(1001 - out.lines().count()..=1000), "{out}");
        root.ok(["rm", "box"]);
    }
}

#[test]
fn a_log_is_followed_through_its_rotations() {
    let root = loaded();
    let part = "seq $((part * 10 + 1)) $((part * 10 + 10)); sleep 0.05";
    for (driver, size) in [("local", "1k"), ("json-file", "2k")] {
        let script = format!("for part in $(seq 0 29); do {part}; done");
        run(&root, driver, size, "9", &script);
        let out = root.call(["logs", "-f", "box"]);
        assert_eq!((out.code, out.stdout), (0, numbers(1..=300)), "{}", out.stderr);
        assert!(file(&log_path(&root), 1).exists());
        root.ok(["rm", "box"]);
    }
}

/// What a user sees of both forms is the same, but for bytes that are no text, which JSON cannot have.
#[test]
fn both_forms_show_the_same() {
    let root = loaded();
    let script = "echo one; echo two >&2; printf 'a\\tb\\n\\n'; printf end";
    for driver in DRIVERS {
        run_with(&root, driver, &[], script);
        root.wait_for_exit("box");
        root.ok(["start", "box"]);
        root.wait_for_exit("box");
        let out = root.call(["logs", "box"]);
        // The last line of a run has no end, and is none of the next run's first line.
        assert_eq!(out.stdout, "one\na\tb\n\nendone\na\tb\n\nend");
        assert_eq!(out.stderr, "two\ntwo\n");
        let timed = root.call(["logs", "-t", "--tail", "5", "box"]).stdout;
        assert!(timed.contains("Z end") && timed.lines().count() >= 4, "{timed}");
        root.ok(["rm", "box"]);
    }
    root.ok(["run", "-d", "--name", "box", "busybox", "printf", "\\377\\000\\n"]);
    root.wait_for_exit("box");
    assert_eq!(root.inspect("box")["HostConfig"]["LogConfig"]["Type"], "local");
    let out = root.command(["logs", "box"]).output().unwrap();
    assert_eq!(out.stdout, [0xff, 0, b'\n']);
}

/// A prompt has no end of line, and is shown to who does not follow.
#[test]
fn a_line_that_has_no_end_yet_is_shown() {
    let root = loaded();
    root.ok(["run", "-d", "--name", "box", "busybox", "sh", "-c", "printf 'name: '; sleep 1000"]);
    wait_until("the prompt", || root.call(["logs", "box"]).stdout == "name: ");
    root.ok(["rm", "-f", "box"]);
}

/// A supervisor that is killed leaves a log that the next one goes on with.
#[test]
fn a_log_whose_writer_was_killed_goes_on() {
    let root = loaded();
    for driver in DRIVERS {
        let script = "echo run; exec sleep 1000";
        run_with(&root, driver, &[], script);
        wait_until("its output", || root.call(["logs", "box"]).stdout == "run\n");
        root.ok(["kill", "box"]);
        root.wait_for_exit("box");
        // As if it had been killed within a write.
        let log = log_path(&root);
        let mut bytes = fs::read(&log).unwrap();
        if driver == "local" {
            bytes.extend_from_slice(&[9, 0, 0, 0, 1, 2]);
            fs::write(&log, bytes).unwrap();
        }
        root.ok(["start", "box"]);
        wait_until("both", || root.call(["logs", "box"]).stdout == "run\nrun\n");
        root.ok(["rm", "-f", "box"]);
    }
}

#[test]
fn without_a_driver_nothing_is_kept() {
    let root = loaded();
    root.ok(["run", "-d", "--name", "box", "--log-driver", "none", "busybox", "echo", "x"]);
    root.wait_for_exit("box");
    root.fails(1, &["box", "--log-driver none"], ["logs", "box"]);
    let box_ = root.inspect("box");
    assert_eq!(box_["HostConfig"]["LogConfig"], json!({"Type": "none", "Config": {}}));
    assert_eq!(box_["LogPath"], "");
    let dir = root.store().join("containers").join(box_["Id"].as_str().unwrap());
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!names.into_iter().any(|name| name.to_string_lossy().contains("log")));
    // Whoever starts it has its output all the same.
    assert_eq!(root.call(["start", "-a", "box"]).stdout, "x\n");
    let args = ["run", "--rm", "--log-driver", "none", "busybox", "echo", "y"];
    assert_eq!(root.call(args).stdout, "y\n");
    // More than a pipe holds.
    let args =
        ["run", "-d", "--name", "much", "--log-driver", "none", "busybox", "seq", "1", "50000"];
    root.ok(args);
    wait_until("the end", || root.inspect("much")["State"]["Status"] == "exited");
}

#[test]
fn what_is_no_driver_or_option_is_refused() {
    let root = loaded();
    for (options, words) in [
        (&["--log-driver", "syslog"][..], &["--log-driver", "syslog", "local, json-file"][..]),
        (&["--log-opt", "max-size=100"], &["--log-opt", "max-size=100", "10m"]),
        (&["--log-opt", "max-file=0"], &["--log-opt", "max-file=0", "from 1 on"]),
        (&["--log-opt", "tag=x"], &["--log-opt", "tag=x", "max-size and max-file"]),
        (&["--log-driver", "none", "--log-opt", "max-file=2"], &["--log-opt", "has no options"]),
    ] {
        for verb in ["run", "create"] {
            root.fails(125, words, [&[verb], options, &["busybox", "true"]].concat());
        }
    }
    assert!(root.ok(["ps", "-a", "-q"]).is_empty());
    root.assert_nothing_left();
}
