//! Somebody who is attached to a container, as its supervisor has it.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use sys::message::Descriptors;

use super::sink::Sinks;
use crate::wire::{IS_WRITTEN, MESSAGE, Outlet};

/// How much may wait to be sent before the sources of output are left alone, bytes.
const QUEUE: usize = 256 * 1024;

/// A connection, and what is still to be sent on it.
#[derive(Debug)]
pub(crate) struct Client {
    socket: OwnedFd,
    /// Messages in their order; the first byte is the kind.
    queue: VecDeque<Vec<u8>>,
    queued: usize,
    /// Whether it gets the output.
    listens: bool,
    /// Whether it may still send input.
    pub(crate) has_input: bool,
    /// Whether the process was started for it: an output that it closes is closed for the process.
    pub(crate) owns: bool,
    /// Where its output can go without a message.
    pub(super) sinks: Sinks,
    /// It has been told the end: what is queued is still sent.
    leaving: bool,
    gone: bool,
}

impl Client {
    pub(crate) fn new(socket: OwnedFd, listens: bool, has_input: bool, owns: bool) -> Client {
        Client {
            socket,
            queue: VecDeque::new(),
            queued: 0,
            listens,
            has_input,
            owns,
            sinks: Sinks::default(),
            leaving: false,
            gone: false,
        }
    }

    /// Whether no more output can be taken for it now.
    pub(crate) fn is_full(&self) -> bool {
        self.queued >= QUEUE
    }

    /// Whether it gets output.
    pub(super) fn takes_output(&self) -> bool {
        self.listens && !self.leaving && !self.gone
    }

    /// Takes the pipes that are its outputs, and asks whether all output until now is in them.
    pub(super) fn take_sinks(&mut self, sinks: Sinks) {
        self.sinks = sinks;
        self.send(&[IS_WRITTEN]);
    }

    /// How many bytes wait.
    #[cfg(test)]
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Whether there is something to send.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether it is heard: it has not been told the end.
    pub(crate) fn is_heard(&self) -> bool {
        !self.leaving
    }

    /// Whether there is nothing to do for it any more.
    pub(crate) fn is_done(&self) -> bool {
        self.gone || (self.leaving && self.queue.is_empty())
    }

    /// Forgets it.
    pub(crate) fn drop_it(&mut self) {
        self.gone = true;
    }

    /// Sends a message of output, now or later.
    pub(crate) fn output(&mut self, message: &[u8]) {
        if self.takes_output() {
            self.send(message);
        }
    }

    /// Sends the last message, now or later.
    pub(crate) fn dismiss(&mut self, message: &[u8]) {
        if !self.leaving {
            // Its outputs end with it.
            self.sinks = Sinks::default();
            self.send(message);
            self.leaving = true;
            self.has_input = false;
        }
    }

    pub(crate) fn send(&mut self, message: &[u8]) {
        if self.gone {
            return;
        }
        if self.queue.is_empty() {
            match sys::message::try_send(&self.socket, message) {
                Ok(()) => return,
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => {}
                Err(_) => return self.drop_it(),
            }
        }
        self.queued += message.len();
        let (kind, bytes) = message.split_at(1);
        match self.queue.back_mut() {
            Some(last)
                if last.first() == kind.first()
                    && Outlet::of(kind[0]).is_some()
                    && last.len() + bytes.len() <= MESSAGE =>
            {
                last.extend_from_slice(bytes);
            }
            _ => self.queue.push_back(message.to_vec()),
        }
    }

    /// Sends what there is room for.
    pub(crate) fn flush(&mut self) {
        while let Some(message) = self.queue.front() {
            match sys::message::try_send(&self.socket, message) {
                Ok(()) => drop(self.queue.pop_front()),
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => break,
                Err(_) => return self.drop_it(),
            }
        }
        self.queued = self.queue.iter().map(Vec::len).sum();
    }

    /// Reads one message: its length, 0 when there is none, and what came with it; `None` when the
    /// client is gone.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Option<(usize, Descriptors)> {
        match sys::message::try_receive_all(&self.socket, buffer) {
            Ok((0, _)) => None,
            Ok(message) => Some(message),
            Err(Errno::AGAIN) => Some((0, Descriptors::default())),
            Err(_) => None,
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;

    fn received(socket: &OwnedFd) -> Vec<Vec<u8>> {
        let (mut all, mut buffer) = (Vec::new(), vec![0; MESSAGE]);
        while let Ok(count @ 1..) = sys::message::try_receive(socket, &mut buffer) {
            all.push(buffer[..count].to_vec());
        }
        all
    }

    #[test]
    fn what_does_not_fit_waits_in_order_and_nothing_is_lost() {
        let (own, other) = sys::message::pair().unwrap();
        let mut client = Client::new(own, true, false, false);
        let kind = |number: u32| match number % 7 {
            0 => Outlet::Stderr.kind(),
            _ => Outlet::Stdout.kind(),
        };
        let mut count = 0;
        while !client.is_full() {
            client.output(&[&[kind(count)], &count.to_le_bytes()[..], &[0; 5000]].concat());
            count += 1;
        }
        assert!(client.is_waiting() && !client.is_done());
        client.dismiss(&Report::Exited { code: 3 }.encode().unwrap());
        client.output(&[kind(1), 1]);
        let mut messages = Vec::new();
        while !client.is_done() {
            messages.extend(received(&other));
            client.flush();
        }
        messages.extend(received(&other));
        let last = Report::decode(&messages.pop().unwrap());
        assert!(matches!(last, Some(Report::Exited { code: 3 })));
        let mut numbers = Vec::new();
        for message in messages {
            assert!(message.len() <= MESSAGE);
            for part in message[1..].chunks(5004) {
                let number = u32::from_le_bytes(part[..4].try_into().unwrap());
                assert_eq!((message[0], part.len()), (kind(number), 5004));
                numbers.push(number);
            }
        }
        assert!(numbers.iter().copied().eq(0..count), "{numbers:?}");
    }

    #[test]
    fn one_that_goes_is_noticed_and_raises_no_signal() {
        let (own, other) = sys::message::pair().unwrap();
        let mut client = Client::new(own, true, true, true);
        let mut buffer = [0; 16];
        assert_eq!(client.receive(&mut buffer).unwrap().0, 0);
        sys::message::try_send(&other, b"last").unwrap();
        drop(other);
        assert_eq!(client.receive(&mut buffer).unwrap().0, 4);
        assert!(client.receive(&mut buffer).is_none());
        client.output(&[Outlet::Stdout.kind(), 1]);
        assert!(client.is_done());
    }
}
