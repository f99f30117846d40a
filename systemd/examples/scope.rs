//! Runs a command in a scope of its own, in system.slice, as root on a machine with systemd:
//! `cargo run -p systemd --example scope -- cat /proc/self/cgroup`. Without a command it says where that cgroup would lie,
//! which needs neither.
#![forbid(unsafe_code)]

use std::io::Write;
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use rustix::process::Pid;
use systemd::{Manager, Unit};

fn run(command: &[String]) -> Result<ExitStatus, Box<dyn std::error::Error>> {
    let unit = Unit::parse(&format!(":example:{}", std::process::id()), "", false)?;
    if command.is_empty() {
        writeln!(std::io::stdout(), "{}", unit.path())?;
        return Ok(ExitStatus::default());
    }
    let mut systemd = Manager::connect(false)?;
    // Waits until it is in the scope.
    let mut child = Command::new("sh")
        .args(["-c", "read go; exec \"$@\"", "sh"])
        .args(command)
        .stdin(Stdio::piped())
        .spawn()?;
    systemd.start(&unit, Some(Pid::from_child(&child)), &[])?;
    drop(child.stdin.take());
    let status = child.wait()?;
    systemd.stop(unit.name())?;
    Ok(status)
}

fn main() -> ExitCode {
    let command: Vec<String> = std::env::args().skip(1).collect();
    match run(&command) {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
