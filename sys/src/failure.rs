//! A failed step of a child, as a value without heap.

use std::fmt;

use rustix::io::Errno;

/// What the kernel wrote to an fsopen descriptor's log: at most [`KernelLog::CAPACITY`] bytes.
#[derive(Clone, Copy)]
pub struct KernelLog {
    bytes: [u8; Self::CAPACITY],
    len: usize,
}

impl KernelLog {
    /// Bytes kept of a log; what is longer is cut.
    pub const CAPACITY: usize = 480;

    /// A log with nothing in it.
    pub const fn empty() -> Self {
        Self { bytes: [0; Self::CAPACITY], len: 0 }
    }

    /// Adds a message as the kernel words it (`"e overlay: …\n"`), a `; ` between two.
    pub fn push(&mut self, message: &[u8]) {
        let message = message.strip_prefix(b"e ").unwrap_or(message);
        let message = message.strip_suffix(b"\n").unwrap_or(message);
        if self.len > 0 {
            self.extend(b"; ");
        }
        self.extend(message);
    }

    fn extend(&mut self, more: &[u8]) {
        let n = more.len().min(Self::CAPACITY - self.len);
        self.bytes[self.len..self.len + n].copy_from_slice(&more[..n]);
        self.len += n;
    }

    /// The bytes so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl fmt::Debug for KernelLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

/// A step that failed in a child between clone and exec (or in the parent: the type is the same).
///
/// `op` says what was tried in words that follow "while"; `part` and `index` say on which prepared
/// item, in the numbering of whoever prepared it. Making one does not allocate.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// What was tried, for example `"opening the mount's target"`.
    pub op: &'static str,
    /// What the kernel said.
    pub errno: Errno,
    /// Which list of prepared items the step belongs to; 0 where there is none.
    pub part: u16,
    /// Which item of that list.
    pub index: u32,
    /// The log of the fsopen descriptor, where the step had one.
    pub log: KernelLog,
}

impl Failure {
    /// A failure of `op` with `errno`.
    pub const fn new(op: &'static str, errno: Errno) -> Self {
        Self { op, errno, part: 0, index: 0, log: KernelLog::empty() }
    }

    /// The same failure, marked as that of item `index` of list `part`.
    #[must_use]
    pub const fn of(mut self, part: u16, index: u32) -> Self {
        self.part = part;
        self.index = index;
        self
    }

    /// The bytes that [`Report::decode`] reads, in `buffer`; at most [`Report::MAX`] bytes.
    pub fn encode<'a>(&self, buffer: &'a mut [u8; Report::MAX]) -> &'a [u8] {
        let op = &self.op.as_bytes()[..self.op.len().min(Report::OP)];
        let log = self.log.as_bytes();
        buffer[0..4].copy_from_slice(&self.errno.raw_os_error().to_le_bytes());
        buffer[4..6].copy_from_slice(&self.part.to_le_bytes());
        buffer[6..10].copy_from_slice(&self.index.to_le_bytes());
        buffer[10] = op.len() as u8;
        buffer[11..11 + op.len()].copy_from_slice(op);
        let end = 11 + op.len() + log.len();
        buffer[11 + op.len()..end].copy_from_slice(log);
        &buffer[..end]
    }
}

/// Names the step of a system call's result: `openat2(…).step("opening the target")?`.
pub trait Step<T> {
    /// The error as a [`Failure`] of `op`.
    fn step(self, op: &'static str) -> Result<T, Failure>;
}

impl<T> Step<T> for Result<T, Errno> {
    fn step(self, op: &'static str) -> Result<T, Failure> {
        self.map_err(|errno| Failure::new(op, errno))
    }
}

/// A [`Failure`] as the parent has it after it came over a pipe (allocates).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// See [`Failure::op`].
    pub op: String,
    /// See [`Failure::errno`].
    pub errno: Errno,
    /// See [`Failure::part`].
    pub part: u16,
    /// See [`Failure::index`].
    pub index: u32,
    /// See [`Failure::log`]; empty where the kernel wrote none.
    pub log: String,
}

impl Report {
    /// Longest `op` that is kept, bytes.
    const OP: usize = 128;
    /// Longest encoded form, bytes.
    pub const MAX: usize = 11 + Self::OP + KernelLog::CAPACITY;

    /// Reads what [`Failure::encode`] wrote; `None` when it is no such thing.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let errno = i32::from_le_bytes(bytes.get(0..4)?.try_into().ok()?);
        if !(1..4096).contains(&errno) {
            return None; // no errno is outside (MAX_ERRNO of linux/err.h)
        }
        let part = u16::from_le_bytes(bytes.get(4..6)?.try_into().ok()?);
        let index = u32::from_le_bytes(bytes.get(6..10)?.try_into().ok()?);
        let end = 11 + usize::from(*bytes.get(10)?);
        Some(Self {
            op: String::from_utf8_lossy(bytes.get(11..end)?).into_owned(),
            errno: Errno::from_raw_os_error(errno),
            part,
            index,
            log: String::from_utf8_lossy(bytes.get(end..)?).into_owned(),
        })
    }
}

impl From<Failure> for Report {
    fn from(failure: Failure) -> Self {
        Self {
            op: failure.op.to_owned(),
            errno: failure.errno,
            part: failure.part,
            index: failure.index,
            log: String::from_utf8_lossy(failure.log.as_bytes()).into_owned(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.op, std::io::Error::from(self.errno))?;
        if !self.log.is_empty() {
            write!(f, " (the kernel says: {})", self.log)?;
        }
        if self.errno == Errno::NOSYS {
            f.write_str("; the kernel is too old for it, or a seccomp filter hides it")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_the_pipe() {
        let mut failure = Failure::new("mounting", Errno::NOENT).of(3, 70_000);
        failure.log.push(b"e overlay: no such layer\n");
        failure.log.push(b"e second\n");
        let mut buffer = [0; Report::MAX];
        let report = Report::decode(failure.encode(&mut buffer)).unwrap();
        assert_eq!(report, Report::from(failure));
        assert_eq!(report.log, "overlay: no such layer; second");
        assert!(report.to_string().contains("mounting: No such file"));
    }

    #[test]
    fn a_log_that_is_too_long_is_cut() {
        let mut log = KernelLog::empty();
        log.push(&[b'x'; 1000]);
        assert_eq!(log.as_bytes().len(), KernelLog::CAPACITY);
    }

    proptest::proptest! {
        #[test]
        fn decode_never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..700)) {
            let _ = Report::decode(&bytes);
        }
    }
}
