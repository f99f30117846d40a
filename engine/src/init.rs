//! The small init behind `--init`: process 1 of a container that would rather not be one.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use ns_core::{Event, Spawn};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process};
use sys::Step;
use sys::exec::Program;
use sys::process::SignalFd;

use crate::attach::passed_on;

/// An init that could not start its command or look after it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// There is nothing to start.
    #[error("no command: write one behind `--`")]
    NoCommand,
    /// The command cannot be started.
    #[error("cannot execute {}: {source}", program.display())]
    Execute {
        /// the command
        program: OsString,
        /// what the kernel said
        source: io::Error,
    },
    /// A system call failed.
    #[error("cannot {op}: {source}")]
    System {
        /// what was tried
        op: &'static str,
        /// what the kernel said
        source: io::Error,
    },
}

impl InitError {
    /// The exit status of the init: 127 when the command is not found, 126 when it cannot be
    /// executed, 125 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            InitError::Execute { source, .. } if source.kind() == io::ErrorKind::NotFound => 127,
            InitError::Execute { .. } => 126,
            InitError::NoCommand | InitError::System { .. } => 125,
        }
    }
}

/// Starts the command in `args` (without the program's own name; a `--` in front is left out),
/// passes signals on to it, reaps whatever ends, and returns the command's exit status once it has
/// ended: its code, or 128 and its signal.
///
/// For a program that does nothing else: it waits for all children of this process, and the signals
/// stay blocked for the calling thread, which must be the only one.
///
/// # Errors
/// There is no command; it cannot be executed; a system call fails.
pub fn init(args: impl IntoIterator<Item = OsString>) -> Result<u8, InitError> {
    let mut args = args.into_iter().peekable();
    args.next_if(|arg| arg == "--");
    let program = args.next().ok_or(InitError::NoCommand)?;
    let fail = |op| move |errno: Errno| InitError::System { op, source: errno.into() };
    if rustix::process::getpid() != Pid::INIT {
        // Elsewhere than as process 1, what the command leaves behind comes here all the same.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(fail("become the reaper of orphans"))?;
    }
    // Before the start, so that none is lost.
    let mut signals = passed_on();
    signals.extend([Signal::WINCH, Signal::CHILD]);
    let signals = SignalFd::new(&signals).map_err(fail("open a descriptor for signals"))?;
    let child = start(program, args)?;
    if rustix::termios::tcsetpgrp(rustix::stdio::stdin(), child).is_ok() {
        // It may have read the terminal before it was in the foreground, and been stopped for it.
        let _ = kill_process(child, Signal::CONT);
    }
    loop {
        let mut fds = [PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(fail("wait for signals")(errno)),
        }
        while let Some(signal) = signals.next().map_err(fail("read signals"))? {
            match sys::signal::from_number(signal) {
                Some(Signal::CHILD) => {
                    if let Some(status) = reap(child).map_err(fail("wait for a child"))? {
                        return Ok(status);
                    }
                }
                // It may have ended just now; then SIGCHLD follows.
                Some(signal) => {
                    let _ = kill_process(child, signal);
                }
                None => {}
            }
        }
    }
}

/// Starts the command in a process group of its own, since Ctrl-C would reach it twice, from the
/// terminal and from here; and without the signals that are blocked here, which std's `Command` would
/// leave blocked for good.
fn start(program: OsString, args: impl Iterator<Item = OsString>) -> Result<Pid, InitError> {
    let failed = |source: io::Error| InitError::Execute { program: program.clone(), source };
    let c_string = |bytes: Vec<u8>| CString::new(bytes).map_err(|error| failed(error.into()));
    let candidates = candidates(&program).map(c_string).collect::<Result<_, _>>()?;
    let argv = std::iter::once(program.clone()).chain(args);
    let argv = argv.map(|arg| c_string(arg.into_vec())).collect::<Result<_, _>>()?;
    let env = std::env::vars_os()
        .map(|(name, value)| c_string([name.as_bytes(), b"=", value.as_bytes()].concat()));
    let prepared = Program::new(candidates, argv, env.collect::<Result<_, _>>()?);
    let spawned = Spawn::new().spawn(|_gate| {
        rustix::process::setpgid(None, None).step("making a process group")?;
        sys::process::reset_signals().step("resetting the signals")?;
        Err(prepared.exec())
    });
    let fail = |error| InitError::System { op: "start a process", source: io::Error::other(error) };
    let mut child = spawned.map_err(fail)?;
    match child.next().map_err(fail)? {
        Event::Failed(report) => {
            child.wait().map_err(fail)?;
            Err(failed(report.errno.into()))
        }
        Event::Executed | Event::Phase(..) => Ok(child.pid()),
    }
}

/// The paths to try, as execvp(3) does.
fn candidates(program: &OsStr) -> impl Iterator<Item = Vec<u8>> {
    let path = match program.as_bytes().contains(&b'/') {
        true => OsString::new(), // one directory, which is none
        false => std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into()),
    };
    let dirs: Vec<Vec<u8>> =
        path.as_bytes().split(|byte| *byte == b':').map(<[u8]>::to_vec).collect();
    let name = program.as_bytes().to_vec();
    dirs.into_iter().map(move |dir| match dir.is_empty() {
        true => name.clone(),
        false => [&dir[..], b"/", &name].concat(),
    })
}

/// Takes the status of all children that have ended; the exit status of `child` if it is among them.
fn reap(child: Pid) -> Result<Option<u8>, Errno> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == child => return Ok(Some(exit_code(status))),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(Errno::CHILD) => return Ok(None),
            Err(errno) => return Err(errno),
        }
    }
}

/// The code that it exited with, or 128 and the signal that ended it.
fn exit_code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code & 0xff).ok()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::process::{Child, Command, Stdio};

    /// The init as a program of its own.
    #[test]
    fn as_a_program() {
        let Some(args) = std::env::var_os("INIT_SCRIPT") else { return };
        let args = ["--", "sh", "-c"].map(OsString::from).into_iter().chain([args]);
        let status = init(args).unwrap();
        let orphan = rustix::process::wait(WaitOptions::NOHANG).map(|found| found.is_some());
        writeln!(std::io::stdout().lock(), "status {status}, orphans {orphan:?}").unwrap();
    }

    /// Starts [`as_a_program`], with all signals blocked: the test harness has a thread of its own.
    fn program(script: &str) -> Child {
        Command::new("env")
            .arg("--block-signal")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "init::tests::as_a_program", "--nocapture"])
            .env("INIT_SCRIPT", script)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn output(mut child: Child) -> String {
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(child.wait().unwrap().success(), "{text}");
        text
    }

    #[test]
    fn the_status_is_the_commands() {
        assert!(output(program("exit 0")).contains("status 0,"));
        assert!(output(program("exit 7")).contains("status 7,"));
        assert!(output(program("kill -KILL $$")).contains("status 137,"));
    }

    #[test]
    fn the_command_has_all_signals() {
        let text = output(program("exec grep -E 'SigBlk|SigIgn' /proc/self/status"));
        assert!(text.contains("SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000"), "{text}");
    }

    #[test]
    fn orphans_are_reaped() {
        // The sleep is an orphan as soon as its shell has ended; then the init is its parent.
        let script = "pid=$(sh -c 'sleep 0.2 >/dev/null & echo $!'); \
            test \"$(cut -d' ' -f4 /proc/$pid/stat)\" = $PPID && echo adopted; \
            for i in $(seq 1000); do test -e /proc/$pid || break; sleep 0.01; done; \
            test -e /proc/$pid || echo reaped";
        let text = output(program(script));
        assert!(text.contains("adopted\nreaped\n"), "{text}");
    }

    #[test]
    fn signals_are_passed_on() {
        let script = "trap 'echo on USR1' USR1; trap 'echo on TERM; exit 9' TERM; \
                      echo ready; while :; do sleep 0.01; done";
        let mut child = program(script);
        let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
        let mut text = String::new();
        let mut until = |child: &mut Child, wanted: &str| {
            let mut byte = [0];
            while !text.ends_with(wanted) {
                assert_eq!(child.stdout.as_mut().unwrap().read(&mut byte).unwrap(), 1, "{text}");
                text.push(byte[0].into());
            }
        };
        until(&mut child, "ready\n");
        kill_process(pid, Signal::USR1).unwrap();
        until(&mut child, "on USR1\n");
        kill_process(pid, Signal::TERM).unwrap();
        until(&mut child, "on TERM\n");
        assert!(output(child).contains("status 9,"));
    }

    #[test]
    fn a_command_that_cannot_be_started_has_its_own_status() {
        let error = init([]).unwrap_err();
        assert_eq!(
            (error.exit_code(), error.to_string().as_str()),
            (125, "no command: write one behind `--`")
        );
        let start = |program: &str| {
            std::thread::spawn({
                let program = OsString::from(program);
                move || init(["--".into(), program]).unwrap_err()
            })
        };
        let error = start("/nowhere/to/be/found").join().unwrap();
        assert_eq!(error.exit_code(), 127);
        assert_eq!(
            error.to_string(),
            "cannot execute /nowhere/to/be/found: No such file or directory (os error 2)"
        );
        assert_eq!(start("/etc/passwd").join().unwrap().exit_code(), 126);
    }
}
