//! A client's standard output and error where they are pipes. The kernel moves a process's output there
//! (splice(2)): nothing is copied, and the client has nothing to do.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, splice, tee};

use super::Hub;
use super::client::Client;
use crate::output::{READ, ROOM};
use crate::wire::Outlet;

/// The pipes of one client.
#[derive(Debug, Default)]
pub(super) struct Sinks {
    pipes: Vec<Sink>,
    /// Whether the client has written what it got in messages: what is moved then comes after that.
    open: bool,
}

impl Sinks {
    /// To be opened.
    pub(super) fn new(pipes: impl Iterator<Item = (Outlet, OwnedFd)>) -> Sinks {
        let pipes = pipes.map(|(outlet, fd)| {
            if fcntl_getpipe_size(&fd).is_ok_and(|size| size < ROOM) {
                // Whose user has too many pipes already keeps it as it is.
                let _ = fcntl_setpipe_size(&fd, ROOM);
            }
            Sink { fd, outlet, full: false }
        });
        Sinks { pipes: pipes.collect(), open: false }
    }

    pub(super) fn open(&mut self) {
        self.open = true;
    }

    /// Whether output waits until the client has written what it has.
    pub(super) fn are_awaited(&self) -> bool {
        !self.open && !self.pipes.is_empty()
    }

    /// Whether there are any.
    pub(super) fn exist(&self) -> bool {
        !self.pipes.is_empty()
    }

    pub(super) fn get(&self, outlet: Outlet) -> Option<&Sink> {
        self.pipes.iter().find(|sink| self.open && sink.outlet == outlet)
    }

    pub(super) fn get_mut(&mut self, outlet: Outlet) -> Option<&mut Sink> {
        self.pipes.iter_mut().find(|sink| self.open && sink.outlet == outlet)
    }

    /// Forgets that pipe: messages go to the client from then on.
    pub(super) fn close(&mut self, outlet: Outlet) {
        self.pipes.retain(|sink| sink.outlet != outlet);
    }
}

/// One pipe.
#[derive(Debug)]
pub(super) struct Sink {
    fd: OwnedFd,
    outlet: Outlet,
    /// Whether there was no room in it: until there is, its source is left alone.
    pub(super) full: bool,
}

impl Sink {
    /// Moves what is in the pipe `from`, without waiting; how much, 0 at its end. For EAGAIN there is no
    /// room.
    pub(super) fn splice(&mut self, from: BorrowedFd<'_>) -> Result<usize, Errno> {
        let moved = splice(from, None, &self.fd, None, AT_ONCE, SpliceFlags::NONBLOCK);
        self.full = moved == Err(Errno::AGAIN);
        moved
    }

    /// As [`Sink::splice`], but it stays in `from` too; no more than the hub reads at a time.
    pub(super) fn tee(&mut self, from: BorrowedFd<'_>) -> Result<usize, Errno> {
        let moved = tee(from, &self.fd, READ, SpliceFlags::NONBLOCK);
        self.full = moved == Err(Errno::AGAIN);
        moved
    }
}

/// The most that is moved at once, bytes: more than most pipes hold.
const AT_ONCE: usize = 1 << 20;

impl AsFd for Sink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The pipe that this output goes to.
pub(super) fn sink_of(clients: &mut [Client], outlet: Outlet) -> Option<&mut Sink> {
    clients.iter_mut().find_map(|client| client.sinks.get_mut(outlet))
}

impl Hub {
    /// Moves what is in a source to the pipe of its client, and leaves it in the source where there is a
    /// log: how much. 0: it has to wait. `None`: there is no such pipe, or none any more.
    pub(super) fn move_output(&mut self, number: usize) -> Option<usize> {
        // Also what became readable in the turn in which they were offered: a message after the question
        // could be written after what is moved.
        if self.clients.iter().any(|client| client.sinks.are_awaited()) {
            return Some(0);
        }
        let source = &self.sources[number];
        let sink = sink_of(&mut self.clients, source.outlet)?;
        let moved = match &self.log {
            None => sink.splice(source.fd.as_fd()),
            Some(_) => sink.tee(source.fd.as_fd()),
        };
        match moved {
            Ok(count @ 1..) => Some(count),
            Err(Errno::AGAIN | Errno::INTR) => Some(0),
            // The end; or nobody reads it, which the client tells when it gets a message; or the kernel
            // refuses it.
            _ => {
                self.clients.iter_mut().for_each(|client| client.sinks.close(source.outlet));
                None
            }
        }
    }

    /// All output goes to the clients in messages from now on.
    pub(super) fn close_sinks(&mut self) {
        self.clients.iter_mut().for_each(|client| client.sinks = Sinks::default());
    }
}
