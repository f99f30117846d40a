//! Runs a command under a filter: `under-filter FILTER.json COMMAND ARGUMENTS…` (as root, or with
//! `no_new_privs`). The filter is the specification's `linux.seccomp`.

use std::error::Error;
use std::os::unix::process::CommandExt;
use std::process::Command;

use seccomp_oci::{Arch, Filter};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let usage = "usage: under-filter FILTER.json COMMAND ARGUMENTS…";
    let (file, command) = (arguments.next().ok_or(usage)?, arguments.next().ok_or(usage)?);
    let filter: Filter = serde_json::from_slice(&std::fs::read(file)?)?;
    let machine = Arch::native().ok_or("this machine has no name in filters")?;
    let compiled = seccomp_oci::compile(&filter, machine)?;
    let program = compiled.program;
    sys::seccomp::load(program.instructions(), program.flags())?;
    Err(Command::new(command).args(arguments).exec().into())
}
