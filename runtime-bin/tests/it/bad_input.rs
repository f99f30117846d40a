//! Requests that cannot be met: a sentence that names the thing, the right status, nothing left.

use std::fs;

use serde_json::json;

use crate::harness::{Root, arg, busybox};
use crate::image::{Archive, Layer, foreign_program};

/// `run --rm OPTIONS busybox COMMAND` that must fail before anything has run.
#[track_caller]
fn refused(root: &Root, code: i32, words: &[&str], options: &[&str], command: &[&str]) {
    let image = busybox();
    let args = [&["run", "--rm"], options, &[arg(&image)], command].concat();
    let error = root.fails(code, words, &args);
    assert_eq!(error.trim_end().lines().count(), 1, "one sentence: {error}");
    root.assert_nothing_left();
    // In the background it is the same.
    root.fails(code, words, [&["run", "-d", "--rm"], options, &[arg(&image)], command].concat());
    root.assert_nothing_left();
    // Without --rm, too, since nothing has run.
    root.fails(code, words, [&["run"], options, &[arg(&image)], command].concat());
    let left = root.ok(["ps", "-a", "-q"]);
    assert!(left.is_empty() || matches!(code, 126 | 127), "{left}");
}

#[test]
fn a_volume_whose_source_is_missing() {
    let root = Root::new();
    let missing = root.dir().join("missing");
    let (bind, mount) = (format!("{}:/x", arg(&missing)), arg(&missing));
    refused(&root, 125, &[arg(&missing)], &["-v", &bind], &["true"]);
    let mount = format!("type=bind,src={mount},dst=/x");
    refused(&root, 125, &[arg(&missing)], &["--mount", &mount], &["true"]);
    assert!(!missing.exists(), "it was made");
}

#[test]
fn a_directory_on_a_file_and_the_reverse() {
    let root = Root::new();
    let dir = root.host_dir("dir");
    let file = root.dir().join("file");
    fs::write(&file, "").unwrap();
    let dir = format!("{}:/etc/passwd", arg(&dir));
    refused(&root, 125, &["/etc/passwd", "directory"], &["-v", &dir], &["true"]);
    let file = format!("{}:/etc", arg(&file));
    refused(&root, 125, &["/etc", "directory"], &["-v", &file], &["true"]);
}

#[test]
fn a_target_below_a_file() {
    let root = Root::new();
    let dir = format!("{}:/etc/passwd/below", arg(&root.host_dir("dir")));
    refused(&root, 125, &["/etc/passwd"], &["-v", &dir], &["true"]);
}

#[test]
fn malformed_volumes() {
    let root = Root::new();
    let dir = root.host_dir("dir");
    let dir = arg(&dir);
    for (option, value, words) in [
        ("-v", format!("{dir}:relative"), &["relative"][..]),
        ("-v", format!("{dir}:/x:nonsense"), &["nonsense"]),
        ("-v", format!("{dir}:/x:rprivate,src=/"), &["src=/"]),
        ("-v", format!("{dir}:/"), &["/"]),
        ("--mount", format!("type=bind,src={dir},dst=/x,colour=red"), &["colour"]),
        ("--mount", format!("type=magic,src={dir},dst=/x"), &["magic"]),
        ("--mount", "type=volume,src=data".to_owned(), &[]),
        ("--tmpfs", "relative".to_owned(), &["relative"]),
    ] {
        root.fails(125, words, ["run", "--rm", option, &value, arg(&busybox()), "true"]);
        root.assert_nothing_left();
    }
}

#[test]
fn two_volumes_on_one_target() {
    let root = Root::new();
    let volume = format!("{}:/x", arg(&root.host_dir("dir")));
    refused(&root, 125, &["/x"], &["-v", &volume, "-v", "data:/x"], &["true"]);
}

#[test]
fn a_name_in_use() {
    let root = Root::new();
    let id = root.sleeper("taken", &[]);
    let error = root.fails(
        125,
        &["taken", &id[..12]],
        ["run", "-d", "--name", "taken", arg(&busybox()), "true"],
    );
    assert!(error.contains("in use"), "{error}");
    assert_eq!(root.ok(["ps", "-a", "-q", "--no-trunc"]), id);
    // One that has ended keeps its name until it is removed.
    root.ok(["stop", "taken"]);
    root.fails(125, &["taken"], ["run", "--name", "taken", arg(&busybox()), "true"]);
    root.ok(["rm", "taken"]);
    root.ok(["run", "--rm", "--name", "taken", arg(&busybox()), "true"]);
    root.assert_nothing_left();
}

#[test]
fn a_name_that_is_none() {
    let root = Root::new();
    for name in ["-x", "a/b", "..", "a b"] {
        refused(&root, 125, &[], &[&format!("--name={name}")], &["true"]);
    }
}

#[test]
fn a_command_that_is_missing() {
    let root = Root::new();
    refused(&root, 127, &["no-such-command", "PATH"], &[], &["no-such-command"]);
    refused(&root, 127, &["/no/such/file"], &[], &["/no/such/file"]);
}

#[test]
fn a_command_that_is_not_executable() {
    let root = Root::new();
    refused(&root, 126, &["/etc/passwd"], &[], &["/etc/passwd"]);
    refused(&root, 126, &["/etc"], &[], &["/etc"]);
}

/// An image of programs that cannot be executed.
fn programs(root: &Root) -> std::path::PathBuf {
    let layer = Layer::new()
        .file("bin/foreign", 0o755, foreign_program())
        .file("bin/orphan", 0o755, "#!/no/such/interpreter\n")
        .file("bin/crlf", 0o755, "#!/bin/sh\r\necho hello\r\n")
        .file("bin/nothing", 0o755, "")
        .file("bin/text", 0o755, "just text\n")
        .file("bin/noexec", 0o644, "#!/bin/sh\n");
    Archive::busybox([layer]).write(root.dir(), "programs.tar")
}

#[test]
fn a_command_that_cannot_be_executed() {
    let root = Root::new();
    let image = programs(&root);
    for (command, code, words) in [
        ("foreign", 126, &["/bin/foreign", "aarch64"][..]),
        ("orphan", 127, &["/bin/orphan", "/no/such/interpreter"]),
        ("crlf", 127, &["/bin/crlf", "/bin/sh\\r"]),
        ("nothing", 126, &["/bin/nothing"]),
        ("text", 126, &["/bin/text"]),
        ("noexec", 126, &["noexec"]),
    ] {
        let error = root.fails(code, words, ["run", "--rm", arg(&image), command]);
        assert_eq!(error.trim_end().lines().count(), 1, "one sentence: {error}");
        root.assert_nothing_left();
    }
}

#[test]
fn no_command_at_all() {
    let root = Root::new();
    let image = Archive::busybox([]).with("Cmd", json!(null)).write(root.dir(), "x.tar");
    root.fails(125, &["command"], ["run", "--rm", arg(&image)]);
    root.assert_nothing_left();
}

#[test]
fn a_user_that_does_not_exist_or_overflows() {
    let root = Root::new();
    for user in ["nosuch", "root:nosuch", "4294967296", "-1", "1:", "4294967295", "0:-1"] {
        let word = user.trim_start_matches("root:").trim_end_matches(':');
        refused(&root, 125, &[word], &[&format!("--user={user}")], &["true"]);
    }
}

#[test]
fn a_user_of_the_image_that_overflows() {
    let root = Root::new();
    for (index, user) in ["4294967296", "-1", "1:", "nosuch"].iter().enumerate() {
        let archive = Archive::busybox([]).with("User", json!(user));
        let image = archive.write(root.dir(), &format!("{index}.tar"));
        root.fails(125, &[user], ["run", "--rm", arg(&image), "true"]);
        root.assert_nothing_left();
    }
}

#[test]
fn files_of_users_that_are_none() {
    let root = Root::new();
    for (index, layer) in [
        Layer::new().symlink("etc/passwd", "/dev/zero"),
        Layer::new().fifo("etc/passwd"),
        Layer::new().file("etc/passwd", 0o644, "x:x:1:1:::\n".repeat(1 << 20)),
    ]
    .into_iter()
    .enumerate()
    {
        let image = Archive::busybox([layer]).write(root.dir(), &format!("{index}.tar"));
        root.fails(125, &["passwd"], ["run", "--rm", "-u", "www-data", arg(&image), "true"]);
        root.assert_nothing_left();
    }
}

#[test]
fn options_that_are_wrong() {
    let root = Root::new();
    for (options, words) in [
        (&["--no-such-option"][..], &["--no-such-option"][..]),
        (&["--network", "bridge"], &["bridge"]),
        (&["--network", "nonsense"], &["nonsense"]),
        (&["--cap-add", "NONSENSE"], &["NONSENSE"]),
        (&["--cap-drop", "NONSENSE"], &["NONSENSE"]),
        (&["--stop-signal", "NONSENSE"], &["NONSENSE"]),
        (&["-w", "relative"], &["relative"]),
        (&["-e", "=value"], &[]),
        (&["--platform", "linux/vax"], &["linux/vax"]),
    ] {
        let image = busybox();
        let args = [&["run", "--rm"], options, &[arg(&image), "true"]].concat();
        root.fails(125, words, args);
        root.assert_nothing_left();
    }
    root.fails(1, &[], ["run"]);
}

#[test]
fn a_working_directory_that_is_a_file() {
    let root = Root::new();
    let image = busybox();
    let args = ["run", "--rm", "-w", "/etc/passwd", arg(&image), "true"];
    let out = root.call(args);
    assert!(matches!(out.code, 125..=127), "{out:?}");
    assert!(out.stderr.contains("/etc/passwd"), "{out:?}");
    root.assert_nothing_left();
}

#[test]
fn a_root_that_is_no_store() {
    let root = Root::new();
    let store = root.host_dir("root");
    fs::write(store.join("something"), "of the user's").unwrap();
    root.fails(1, &[arg(&store)], ["ps"]);
    root.fails(125, &[arg(&store)], ["run", "--rm", arg(&busybox()), "true"]);
    assert_eq!(fs::read_dir(&store).unwrap().count(), 1);
}

#[test]
fn containers_that_do_not_exist() {
    let root = Root::new();
    for args in [
        &["exec", "nosuch", "true"][..],
        &["stop", "nosuch"],
        &["kill", "nosuch"],
        &["rm", "nosuch"],
        &["inspect", "nosuch"],
        &["mounts", "nosuch"],
    ] {
        root.fails(1, &["nosuch"], args);
    }
    root.assert_nothing_left();
}
