//! Where a process's output comes from, and how often it is looked at.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::log::Stream;
use crate::output::READ;
use crate::wire::Outlet;

/// A pipe of the process, or its terminal's master.
pub(super) struct Source {
    pub(super) fd: OwnedFd,
    pub(super) outlet: Outlet,
    pub(super) tty: bool,
    pub(super) line: Stream,
    pub(super) ended: bool,
    pub(super) pace: Pace,
}

impl Source {
    pub(super) fn new(fd: OwnedFd, outlet: Outlet, tty: bool) -> Source {
        let (line, pace) = (Stream::new(outlet), Pace::default());
        Source { fd, outlet, tty, line, ended: false, pace }
    }

    /// Reads what is there, without waiting if something is.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> usize {
        let mut count = 0;
        loop {
            match rustix::io::read(&self.fd, &mut buffer[count..]) {
                Ok(0) => self.ended = true,
                Ok(read) => {
                    count += read;
                    // A terminal gives a page at a time, and does not wait.
                    if self.tty && count < buffer.len() {
                        continue;
                    }
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                // EIO: the terminal's last slave is closed. But what was read before counts.
                Err(_) => self.ended = true,
            }
            return count;
        }
    }
}

/// Leaves a source alone for a moment while its process writes much in small pieces: who is waited for at each of them is
/// woken at each of them, which costs both more than the bytes do. A process that writes now and then is never waited for.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Option<Instant>,
    /// How often in turn little came, soon after what came before.
    little: u32,
    /// Whether the source rests whenever not much is there.
    rests: bool,
    until: Option<Instant>,
}

impl Pace {
    /// How long a source is left alone. A pipe of half a MiB is not full sooner, or hardly.
    const REST: Duration = Duration::from_micros(100);
    /// What comes within so long comes soon.
    const SOON: Duration = Duration::from_micros(50);
    /// So often little has to come in turn.
    const OFTEN: u32 = 16;
    /// Fewer bytes are little: if no more come even while the source rests, there is nothing to gain by it.
    const LITTLE: usize = 16 << 10;
    /// After so many bytes there may be more.
    const MUCH: usize = READ / 2;

    /// So many bytes came.
    pub(super) fn took(&mut self, count: usize, now: Instant) {
        let soon = self.last.replace(now).is_some_and(|last| now.duration_since(last) < Self::SOON);
        let rested = self.until.take().is_some();
        if self.rests {
            self.rests = !rested || count >= Self::LITTLE;
        } else {
            self.little = if soon && count < Self::LITTLE { self.little + 1 } else { 0 };
            self.rests = self.little >= Self::OFTEN;
        }
        if self.rests {
            self.little = 0;
            self.until = (count < Self::MUCH).then_some(now + Self::REST);
        }
    }

    /// How long the source is to be left alone, if at all.
    pub(super) fn rest(&self, now: Instant) -> Option<Duration> {
        let left = self.until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICROSECOND: Duration = Duration::from_micros(1);

    /// Lets `count` bytes come each `every`, so often; whether the source rests then.
    fn rests(
        pace: &mut Pace,
        now: &mut Instant,
        times: u32,
        count: usize,
        every: Duration,
    ) -> bool {
        for _ in 0..times {
            *now += pace.rest(*now).unwrap_or_default() + every;
            pace.took(count, *now);
        }
        pace.rest(*now).is_some()
    }

    #[test]
    fn who_writes_now_and_then_is_read_at_once() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        assert!(!rests(&mut pace, &mut now, 1000, 10, Pace::SOON));
        assert!(!rests(&mut pace, &mut now, Pace::OFTEN - 1, 10, MICROSECOND));
        assert!(!rests(&mut pace, &mut now, 1000, Pace::LITTLE, MICROSECOND));
    }

    #[test]
    fn who_writes_much_in_small_pieces_is_read_less_often_while_that_pays() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        assert!(rests(&mut pace, &mut now, Pace::OFTEN + 1, 4096, MICROSECOND));
        // More comes while it rests: it goes on.
        assert!(rests(&mut pace, &mut now, 1000, Pace::LITTLE, MICROSECOND));
        // There may be more: that is looked for at once, and is no reason to end it.
        assert!(!rests(&mut pace, &mut now, 1, Pace::MUCH, MICROSECOND));
        assert!(rests(&mut pace, &mut now, 1, 4096, MICROSECOND));
        // No more came in the meantime: it is read at once again, and tried later.
        assert!(!rests(&mut pace, &mut now, Pace::OFTEN, 4096, MICROSECOND));
        assert!(rests(&mut pace, &mut now, 1, 4096, MICROSECOND));
        assert_eq!(pace.rest(now), Some(Pace::REST));
        assert_eq!(pace.rest(now + Pace::REST), None);
    }
}
