//! Commands that cannot be executed, and what is said of them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use oci_runtime::{CommandProblem, Error};
use serde_json::json;

use crate::{config, copy_program, run};

/// Runs `/tmp/v/command` with `content` and `mode` from a volume; the error's words and problem.
fn refusal(content: &[u8], mode: u32, options: &[&str]) -> (String, CommandProblem) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("command");
    let written = dir.path().join("written");
    std::fs::write(&written, content).unwrap();
    std::fs::set_permissions(&written, std::fs::Permissions::from_mode(mode)).unwrap();
    copy_program(&written, &file);
    of("/tmp/v/command", dir.path(), options)
}

fn of(command: &str, volume: &Path, options: &[&str]) -> (String, CommandProblem) {
    let mut config = config(&[command]);
    let options: Vec<&str> = ["rbind"].iter().chain(options).copied().collect();
    config["mounts"].as_array_mut().unwrap().push(json!({
        "destination": "/tmp/v", "type": "bind", "source": volume, "options": options,
    }));
    match run(config) {
        Err(Error::Command { reason, problem, command: named }) => {
            assert_eq!(named, command);
            (reason, problem)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let (reason, problem) = of("no-such-command", dir.path(), &[]);
    assert!(reason.starts_with("executable file not found in $PATH"), "{reason}");
    assert!(reason.contains("/usr/sbin:/usr/bin:/sbin:/bin"), "{reason}");
    assert_eq!(problem, CommandProblem::NotFound);
    let (reason, problem) = of("/no/such", dir.path(), &[]);
    assert!(reason.starts_with("no such file or directory"), "{reason}");
    assert_eq!(problem, CommandProblem::NotFound);
}

#[test]
fn an_interpreter_or_a_loader_that_is_missing() {
    let (reason, problem) = refusal(b"#!/no/interpreter -x\n", 0o755, &[]);
    assert!(reason.contains("no such file or directory"), "{reason}");
    assert!(reason.contains("the interpreter \"/no/interpreter\""), "{reason}");
    assert_eq!(problem, CommandProblem::NotFound);
    let (reason, _) = refusal(b"#!/bin/sh\r\necho\r\n", 0o755, &[]);
    assert!(reason.contains("CR LF"), "{reason}");
    let mut program = std::fs::read("/bin/ls").unwrap();
    let name = b"/lib64/ld-linux-x86-64.so.2\0";
    let at = program.windows(name.len()).position(|bytes| bytes == name).unwrap();
    program[at..at + 6].copy_from_slice(b"/no64/");
    let (reason, problem) = refusal(&program, 0o755, &[]);
    assert!(
        reason.contains("the loader \"/no64//ld-linux-x86-64.so.2\"")
            || reason.contains("the loader \"/no64/"),
        "{reason}"
    );
    assert_eq!(problem, CommandProblem::NotFound);
}

#[test]
fn what_is_there_and_cannot_be_executed() {
    let (reason, problem) = refusal(b"#!/bin/sh\n", 0o644, &[]);
    assert!(
        reason.contains("permission denied") && reason.contains("0644 has no x bit"),
        "{reason}"
    );
    assert_eq!(problem, CommandProblem::CannotExecute);
    let (reason, problem) = refusal(b"#!/bin/sh\n", 0o755, &["noexec"]);
    assert!(reason.contains("noexec"), "{reason}");
    assert_eq!(problem, CommandProblem::CannotExecute);
    let dir = tempfile::tempdir().unwrap();
    let (reason, problem) = of("/tmp/v", dir.path(), &[]);
    assert!(reason.contains("it is a directory"), "{reason}");
    assert_eq!(problem, CommandProblem::CannotExecute);
}

#[test]
fn what_is_no_program_of_this_machine() {
    let mut program = std::fs::read("/bin/ls").unwrap();
    program[18..20].copy_from_slice(&183_u16.to_le_bytes());
    let (reason, problem) = refusal(&program, 0o755, &[]);
    assert!(reason.contains("exec format error") && reason.contains("for aarch64"), "{reason}");
    assert_eq!(problem, CommandProblem::CannotExecute);
    let (reason, _) = refusal(b"echo hello\n", 0o755, &[]);
    assert!(reason.contains("exec format error") && reason.contains("#!/bin/sh"), "{reason}");
    let (reason, _) = refusal(b"", 0o755, &[]);
    assert!(reason.contains("the file is empty"), "{reason}");
}
