//! Runs a command under a filter: `under-filter FILTER.json COMMAND ARGUMENTS…` (as root, or with
//! `no_new_privs`). The filter is the specification's `linux.seccomp`. Without arguments a shell learns that it
//! may not make directories.

use std::error::Error;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use seccomp_oci::{Arch, Filter};

const FILTER: &[u8] = br#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
    {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}"#;
const COMMAND: [&str; 3] = ["sh", "-c", "! mkdir /tmp/under-filter"];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (filter, command) = match arguments.next() {
        Some(file) => (std::fs::read(file)?, arguments.collect::<Vec<_>>()),
        None => (FILTER.to_vec(), COMMAND.map(OsString::from).to_vec()),
    };
    let Some((command, arguments)) = command.split_first() else {
        return Err("usage: under-filter FILTER.json COMMAND ARGUMENTS…".into());
    };
    let filter: Filter = serde_json::from_slice(&filter)?;
    let machine = Arch::native().ok_or("this machine has no name in filters")?;
    let compiled = seccomp_oci::compile(&filter, machine)?;
    let program = compiled.program;
    sys::seccomp::load(program.instructions(), program.flags())?;
    Err(Command::new(command).args(arguments).exec().into())
}
