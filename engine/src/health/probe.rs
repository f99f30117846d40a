//! One health check: a program in the container, with limits of time and output.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use oci_runtime::{Running, Stdio};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;

use super::HealthResult;
use crate::dir::Dir;
use crate::events::Exec;
use crate::record::now;
use crate::target::{self, Target};
use crate::{Container, Error, ExecRequest, State, duration_text, exec};

/// Bytes of output that are kept: as Docker.
const OUTPUT: usize = 4096;

/// How much is read, at most, of what is there when the program has ended: another process may go on
/// writing for ever.
const REST: usize = 64 * 1024;

/// What is to be run.
pub(super) struct Probe<'a> {
    pub(super) dir: &'a Dir,
    pub(super) container: &'a Container,
    pub(super) state: &'a State,
    pub(super) command: &'a [String],
    pub(super) timeout: Duration,
}

/// What came of it.
pub(super) enum Outcome {
    Result(HealthResult),
    /// The container has ended, or nobody wants to know any more.
    Ended,
}

/// How the program ended.
enum End {
    Status(i32),
    Timeout,
    Stopped,
}

impl Probe<'_> {
    /// Runs it to its end, to its time limit, or until `stop` is readable. Nothing of it is left then.
    pub(super) fn run(&self, stop: BorrowedFd<'_>) -> Outcome {
        let start = now();
        let (exit_code, output) = match self.try_run(stop) {
            Ok(None) => return Outcome::Ended,
            Ok(Some(ended)) => ended,
            // As for exec: whatever failed then failed for that.
            Err(_) if exec::has_ended(self.state).unwrap_or_default() => return Outcome::Ended,
            Err(error) => (-1, error.to_string()),
        };
        Outcome::Result(HealthResult { start, end: now(), exit_code, output })
    }

    fn try_run(&self, stop: BorrowedFd<'_>) -> Result<Option<(i32, String)>, Error> {
        let Some(target) = Target::of(self.state)? else { return Ok(None) };
        let failed = |errno| Error::system("make", "a pipe for the health check", errno);
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
        let stdio = Stdio::new(Stdio::null_device()?, &write, &write)?;
        drop(write);
        let request = ExecRequest { command: self.command.to_vec(), ..ExecRequest::default() };
        let prepared = exec::prepare(self.dir, self.container, &request, target, stdio)?;
        let told = Exec::create(self.dir, self.container, self.command);
        let running = prepared.start()?;
        told.start();
        // From here on: it may have been frozen before its first step.
        let deadline = Instant::now() + self.timeout;
        let mut output = Output { pipe: Some(read), kept: Vec::new(), cut: false };
        let end = match watch(&running, stop, deadline, &mut output) {
            Ok(None) => {
                let code = running.wait()?.code();
                told.die(code);
                End::Status(code)
            }
            ended => {
                told.die(kill(&running)?);
                ended?.unwrap_or(End::Stopped)
            }
        };
        output.rest();
        let text = output.text();
        Ok(match end {
            End::Stopped => None,
            End::Status(code) => Some((code, text)),
            End::Timeout => {
                let limit = i64::try_from(self.timeout.as_nanos()).unwrap_or(i64::MAX);
                let said = if text.is_empty() { text } else { format!(": {text}") };
                let limit = duration_text(limit);
                Some((-1, format!("Health check exceeded timeout ({limit}){said}")))
            }
        })
    }
}

/// Waits for the program's end, and reads its output meanwhile. `None` when it has ended by itself.
fn watch(
    running: &Running,
    stop: BorrowedFd<'_>,
    deadline: Instant,
    output: &mut Output,
) -> Result<Option<End>, Error> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Some(End::Timeout));
        }
        let mut fds = vec![
            PollFd::from_borrowed_fd(running.pidfd(), PollFlags::IN),
            PollFd::from_borrowed_fd(stop, PollFlags::IN),
        ];
        fds.extend(output.pipe.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        let timeout = Timespec::try_from(left).ok();
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(Error::system("wait for", "the health check", errno)),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready[1] {
            return Ok(Some(End::Stopped));
        }
        if ready[0] {
            return Ok(None);
        }
        if ready.get(2) == Some(&true) {
            output.take();
        }
    }
}

/// Ends the program with all processes of its group, and waits for it. Its number is nobody else's as
/// long as it was not waited for. Gives its exit status.
fn kill(running: &Running) -> Result<i32, Error> {
    // It made a session of its own: the group has its number.
    match rustix::process::kill_process_group(running.pid(), Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(errno) => return Err(Error::system("send a signal to", "the health check", errno)),
    }
    Ok(running.wait()?.code())
}

/// What a program prints, up to a limit.
struct Output {
    /// `None` at its end.
    pipe: Option<OwnedFd>,
    kept: Vec<u8>,
    cut: bool,
}

impl Output {
    /// Reads once; how much.
    fn take(&mut self) -> usize {
        let mut buffer = [0; OUTPUT];
        let Some(pipe) = &self.pipe else { return 0 };
        match rustix::io::read(pipe, &mut buffer) {
            Ok(count @ 1..) => {
                let room = OUTPUT - self.kept.len();
                self.kept.extend_from_slice(&buffer[..count.min(room)]);
                self.cut |= count > room;
                count
            }
            Err(Errno::INTR) => 0,
            Ok(0) | Err(_) => {
                self.pipe = None;
                0
            }
        }
    }

    /// Reads what is there.
    fn rest(&mut self) {
        let mut read = 0;
        while let Some(pipe) = &self.pipe
            && read < REST
            && target::ended(pipe.as_fd(), Duration::ZERO).unwrap_or_default()
        {
            read += self.take();
        }
    }

    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.kept);
        if self.cut { format!("{text}...") } else { text.into_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut_and_what_is_there_at_the_end_is_read() {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut output = Output { pipe: Some(read), kept: Vec::new(), cut: false };
        rustix::io::write(&write, b"some ").unwrap();
        output.take();
        rustix::io::write(&write, &[b'x'; 3000]).unwrap();
        output.rest();
        assert_eq!((output.text().len(), output.cut), (3005, false));
        // The pipe is still open: nobody waits for its end.
        rustix::io::write(&write, &[b'y'; 5000]).unwrap();
        output.rest();
        assert_eq!(output.text().len(), OUTPUT + 3);
        assert!(output.text().starts_with("some xxx") && output.text().ends_with("yyy..."));
        drop(write);
        output.rest();
        assert!(output.pipe.is_none());
    }
}
