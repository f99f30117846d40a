//! The process that watches over one of `exec`: its parent, which has its input and output. It is split
//! off the process that asked for it, so that the two can part.

use std::os::fd::{AsFd, OwnedFd};

use oci_runtime::{PreparedExec, Running};

use crate::events::Exec;
use crate::hub::Hub;
use crate::output::Pipes;
use crate::report::Report;
use crate::supervise::{ending_signals, leave_the_starter};
use crate::{Error, target};

/// What the holder is given.
pub(crate) struct Holder {
    pub(crate) prepared: PreparedExec,
    /// To the process that asks for it.
    pub(crate) channel: OwnedFd,
    pub(crate) pipes: Pipes,
    /// Whether that one takes the output.
    pub(crate) listens: bool,
    /// Whether it sends input.
    pub(crate) input: bool,
    pub(crate) told: Exec,
}

impl Holder {
    /// Runs the process to its end; the exit status of the holder.
    pub(crate) fn run(self) -> u8 {
        let Holder { prepared, channel, pipes, listens, input, told } = self;
        let mut hub = Hub::new(true);
        hub.add_starter(channel, listens, input);
        let started = prepared.start().map_err(Error::from).and_then(|running| {
            told.start();
            hub.tell_started(running.pidfd())?;
            Ok(running)
        });
        let report = match started.and_then(|running| watch(running, &mut hub, pipes, input)) {
            Ok(code) => {
                told.die(code);
                Report::Exited { code }
            }
            Err(error) => Report::failed(&error),
        };
        hub.dismiss(&report);
        // What the command has left in the background may write on.
        match hub.finish(true) {
            Ok(()) => 0,
            Err(_) => 1,
        }
    }
}

fn watch(mut running: Running, hub: &mut Hub, pipes: Pipes, input: bool) -> Result<i32, Error> {
    leave_the_starter()?;
    let signals = ending_signals()?;
    hub.begin(pipes, running.take_terminal(), input)?;
    loop {
        let ready = hub.turn(&[running.pidfd(), signals.as_fd()], None)?;
        while let Some(number) =
            signals.next().map_err(|errno| Error::system("read", "signals", errno))?
        {
            if let Some(signal) = sys::signal::from_number(number) {
                target::send(running.pidfd(), signal)?;
            }
        }
        if ready[0] {
            break;
        }
    }
    // At once: until somebody takes its status, its container cannot end.
    let exit = running.wait()?;
    hub.rest();
    Ok(exit.code())
}
