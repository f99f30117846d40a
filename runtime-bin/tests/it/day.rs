//! A working day of somebody who knows Docker, as a script that Docker passes too: ../day.sh.

use std::path::Path;
use std::process::Command;

use crate::harness::{BIN, Root, Started, arg, image};
use crate::init::is_dynamic;

#[test]
fn a_day_of_dockers_users() {
    let root = Root::new();
    let mut script = Command::new("bash");
    script.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/day.sh"));
    script.args([image("busybox", "docker-legacy"), image("nginx", "docker-legacy")]);
    script.args([BIN, "--root", arg(root.dir())]);
    if is_dynamic() {
        script.env("DYNAMIC", "1");
    }
    let out = Started::new(script, None).wait();
    assert_eq!(out.code, 0, "{}{}", out.stdout, out.stderr);
    let passed = out.stdout.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(passed >= 60, "{passed} steps only: {}", out.stdout);
}
