//! Runs a program instruction by instruction, and writes down at which it was: `cargo xtask layout` learns from it which
//! functions a command needs. Children and threads are followed until they execute another program. Some microseconds
//! for each instruction (ptrace(2), PTRACE_SINGLESTEP).
//!
//! ```text
//! steps OUT PROGRAM [ARG]…
//! ```
//!
//! OUT gets a line for each instruction, its address in the program's file as nm(1) has it, hexadecimal, once, in the
//! order in which they were come to. The exit status is the program's. Without arguments it steps through `true`.

use std::collections::HashSet;
use std::error::Error;
use std::ffi::{OsString, c_int};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::ptr;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if words.is_empty() {
        words = ["/dev/null", "true"].map(OsString::from).into();
    }
    let [out, program, args @ ..] = &words[..] else {
        return Err("usage: steps OUT PROGRAM [ARG]…".into());
    };
    let mut command = Command::new(program);
    command.args(args);
    // SAFETY: one system call, which asks to be traced.
    unsafe { command.pre_exec(|| ask(libc::PTRACE_TRACEME, 0, 0)) };
    // It stops at its exec, which is when this returns.
    let first = command.spawn()?.id().cast_signed();
    let mut seen = Seen::default();
    let status = follow(first, &mut seen)?;
    let text = seen.in_order.iter().fold(String::new(), |mut text, address| {
        // A String takes all.
        let _ = writeln!(text, "{address:x}");
        text
    });
    fs::write(out, text)?;
    Ok(ExitCode::from(u8::try_from(status)?))
}

/// Addresses, each once, the first first.
#[derive(Default)]
struct Seen {
    all: HashSet<u64>,
    in_order: Vec<u64>,
}

impl Seen {
    fn add(&mut self, address: u64) {
        if self.all.insert(address) {
            self.in_order.push(address);
        }
    }
}

/// Follows the process and what comes of it, to the end of all, and gives its exit status.
fn follow(first: c_int, seen: &mut Seen) -> Result<c_int, Box<dyn Error>> {
    let (mut alive, mut start, mut exit) = (HashSet::from([first]), None, 1);
    while !alive.is_empty() {
        let (pid, status) = wait()?;
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            alive.remove(&pid);
            if pid == first {
                exit = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 1 };
            }
            continue;
        }
        alive.insert(pid);
        let mut signal = 0;
        match (start, status >> 16, libc::WSTOPSIG(status)) {
            (None, _, _) => {
                let options = libc::PTRACE_O_TRACEEXEC
                    | libc::PTRACE_O_TRACEFORK
                    | libc::PTRACE_O_TRACEVFORK
                    | libc::PTRACE_O_TRACECLONE
                    | libc::PTRACE_O_EXITKILL;
                ask(libc::PTRACE_SETOPTIONS, pid, options as usize)?;
                start = Some(begin(pid)?);
            }
            (_, libc::PTRACE_EVENT_EXEC, _) => {
                alive.remove(&pid);
                ask(libc::PTRACE_DETACH, pid, 0)?;
                continue;
            }
            (Some(start), 0, libc::SIGTRAP) => {
                seen.add(instruction(pid)?.wrapping_sub(start));
            }
            // A new one's first stop.
            (_, 0, libc::SIGSTOP) => {}
            (_, 0, other) => signal = other,
            _ => {}
        }
        match ask(libc::PTRACE_SINGLESTEP, pid, signal as usize) {
            // It was killed meanwhile; its end is told.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            done => done?,
        }
    }
    Ok(exit)
}

/// ptrace(2) of a request that needs no address.
fn ask(request: libc::c_uint, pid: c_int, data: usize) -> io::Result<()> {
    // SAFETY: none of these requests has the kernel read or write this process's memory.
    match unsafe { libc::ptrace(request, pid, ptr::null_mut::<libc::c_void>(), data) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn wait() -> io::Result<(c_int, c_int)> {
    let mut status = 0;
    // SAFETY: the kernel writes the status, whose place lives over the call.
    match unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok((pid, status)),
    }
}

/// The address of the instruction that comes next.
#[cfg(target_arch = "x86_64")]
fn instruction(pid: c_int) -> io::Result<u64> {
    let mut registers = std::mem::MaybeUninit::<libc::user_regs_struct>::uninit();
    let (none, to) = (ptr::null_mut::<libc::c_void>(), registers.as_mut_ptr());
    // SAFETY: the kernel writes the registers, whose place has their size and lives over the call.
    match unsafe { libc::ptrace(libc::PTRACE_GETREGS, pid, none, to) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the kernel has written them.
        _ => Ok(unsafe { registers.assume_init() }.rip),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn instruction(_pid: c_int) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Where the program lies in memory: nothing, for one that is linked to a place.
fn begin(pid: c_int) -> Result<u64, Box<dyn Error>> {
    let program = fs::read(format!("/proc/{pid}/exe"))?;
    // e_type (elf(5)): ET_EXEC.
    if program.get(16) == Some(&2) {
        return Ok(0);
    }
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let path = fs::read_link(format!("/proc/{pid}/exe"))?;
    let line = maps.lines().find(|line| line.ends_with(&*path.to_string_lossy()));
    let start = line.and_then(|line| line.split('-').next()).ok_or("the program is not mapped")?;
    Ok(u64::from_str_radix(start, 16)?)
}
