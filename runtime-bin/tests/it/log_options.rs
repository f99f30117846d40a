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

/// Starts `box` with a log of so many bytes and files.
fn run(root: &Root, size: &str, files: &str, script: &str) {
    let (size, files) = (format!("max-size={size}"), format!("max-file={files}"));
    let options = ["run", "-d", "--name", "box", "--log-opt", &size, "--log-opt", &files];
    root.ok([&options[..], &["busybox", "sh", "-c", script]].concat());
}

fn log_path(root: &Root) -> PathBuf {
    root.inspect("box")["LogPath"].as_str().unwrap().into()
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
    run(&root, "4k", "3", "seq 1 1000");
    root.wait_for_exit("box");
    let log = log_path(&root);
    let texts: Vec<String> =
        (0..3).map(|number| fs::read_to_string(file(&log, number)).unwrap()).collect();
    assert!(!file(&log, 3).exists());
    assert!(texts.iter().all(|text| text.len() <= 4000));
    // Those that are not written to any more have no room for one more line.
    assert!(texts[1..].iter().all(|text| text.len() > 3800));
    let lines: usize = texts.iter().map(|text| text.lines().count()).sum();
    assert_eq!(root.call(["logs", "box"]).stdout, numbers(1001 - lines..=1000));
    // A tail that begins in the oldest file.
    let most = lines - 2;
    let tail = root.call(["logs", "--tail", &most.to_string(), "box"]).stdout;
    assert_eq!(tail, numbers(1001 - most..=1000));
    let config = json!({"Type": "json-file", "Config": {"max-size": "4k", "max-file": "3"}});
    assert_eq!(root.inspect("box")["HostConfig"]["LogConfig"], config);
    root.ok(["rm", "box"]);
    root.assert_nothing_left();
}

/// One file, as is the default, begins anew when it is full; a further run goes on where the last ended.
#[test]
fn within_the_limits_nothing_is_lost() {
    let root = loaded();
    run(&root, "20k", "10", "seq 1 1000");
    root.wait_for_exit("box");
    assert_eq!(root.call(["logs", "box"]).stdout, numbers(1..=1000));
    assert!(file(&log_path(&root), 3).exists());
    root.ok(["start", "box"]);
    root.wait_for_exit("box");
    assert_eq!(root.call(["logs", "box"]).stdout, numbers(1..=1000).repeat(2));
    root.ok(["rm", "box"]);
    let options = ["run", "-d", "--name", "box", "--log-opt", "max-size=4K"];
    root.ok([&options[..], &["busybox", "seq", "1", "1000"]].concat());
    root.wait_for_exit("box");
    let log = log_path(&root);
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.len() <= 4000 && !file(&log, 1).exists());
    let lines = text.lines().count();
    assert_eq!(root.call(["logs", "box"]).stdout, numbers(1001 - lines..=1000));
}

#[test]
fn a_log_is_followed_through_its_rotations() {
    let root = loaded();
    let part = "seq $((part * 10 + 1)) $((part * 10 + 10)); sleep 0.05";
    run(&root, "2k", "9", &format!("for part in $(seq 0 29); do {part}; done"));
    let out = root.call(["logs", "-f", "box"]);
    assert_eq!((out.code, out.stdout), (0, numbers(1..=300)), "{}", out.stderr);
    assert!(file(&log_path(&root), 8).exists());
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
        (&["--log-driver", "syslog"][..], &["--log-driver", "syslog", "json-file"][..]),
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
