//! Runs a command with little memory and few processes, and says what it used, as root:
//! `cargo run -p cgroup --example limited -- dd if=/dev/zero of=/dev/null bs=64M count=1`
#![forbid(unsafe_code)]

use std::io::Write;
use std::process::{Command, ExitCode, Stdio};

use cgroup::{Group, Hierarchies, Limits};
use rustix::process::Pid;

fn run(group: &Group, command: &[String]) -> Result<String, Box<dyn std::error::Error>> {
    let mut limits = Limits { pids: Some(20), ..Limits::default() };
    limits.memory.limit = Some(32 << 20);
    limits.memory.swap = Some(32 << 20);
    group.apply(&limits)?;
    // Waits until it is in the group. (A runtime starts it there: `Group::join`.)
    let mut child = Command::new("sh")
        .args(["-c", "read go; exec \"$@\"", "sh"])
        .args(command)
        .stdin(Stdio::piped())
        .spawn()?;
    group.add(Pid::from_child(&child))?;
    drop(child.stdin.take());
    let status = child.wait()?;
    let stats = group.stats()?;
    let kills = stats.memory.map_or(0, |memory| memory.oom_kills);
    Ok(format!("{status}; {} ms of CPU; {kills} killed", stats.cpu.usage_ns / 1_000_000))
}

fn limited(command: &[String]) -> Result<String, Box<dyn std::error::Error>> {
    let hierarchies = Hierarchies::find()?;
    let location = hierarchies.locate(&format!("example-limit-{}", std::process::id()))?;
    let group = hierarchies.create(&location)?;
    let done = run(&group, command);
    group.destroy()?;
    done
}

fn main() -> ExitCode {
    let command: Vec<String> = std::env::args().skip(1).collect();
    match limited(&command) {
        Ok(said) => {
            let _ = writeln!(std::io::stdout(), "{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
