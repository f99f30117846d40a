//! What belongs to the calling process or thread: descriptors, signals, working directory.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::mount::{Change, Propagation};

/// The errno that the last libc call of this thread left: for who makes calls that neither this crate
/// nor rustix has.
pub fn last_errno() -> Errno {
    // A call that failed has left one; what makes an error of it does not allocate.
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Marks every descriptor from `first` on close-on-exec (close_range(2) with
/// CLOSE_RANGE_CLOEXEC, Linux 5.11): none of them survives the exec, and until then they work.
pub fn cloexec_from(first: u32) -> Result<(), Errno> {
    // SAFETY: marking descriptors close-on-exec closes none, so no owner is left with a dead one.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Puts `/dev/null` in the place of every descriptor from 3 on that is not close-on-exec. A program whose
/// own ones all are has those from whoever started it (a pipe, a lock), and must not keep them open when
/// it goes on in the background. Allocates; needs `/proc`. For a process with one thread: what another one puts
/// in the place of a descriptor between the look at it and its replacement would be replaced.
pub fn drop_inherited() -> Result<(), Errno> {
    let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let mut all = Vec::new();
    for entry in rustix::fs::Dir::new(rustix::fs::open(
        c"/proc/self/fd",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)? {
        let number = entry?.file_name().to_str().ok().and_then(|name| name.parse().ok());
        all.extend(number.filter(|number: &i32| *number >= 3));
    }
    for number in all {
        // SAFETY: F_GETFD takes no memory. What is not open any more (the directory) is EBADF.
        let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
        if flags < 0 || flags & libc::FD_CLOEXEC != 0 {
            continue;
        }
        // SAFETY: the descriptor stays open, on another file, so that no owner is left with a dead one.
        if unsafe { libc::dup3(null.as_raw_fd(), number, libc::O_CLOEXEC) } >= 0 {
            continue;
        }
        match last_errno() {
            // Beyond this process's RLIMIT_NOFILE (dup2(2)): from whoever had a higher one.
            // SAFETY: nothing of this process's own can have had such a number since it has that limit.
            Errno::BADF => drop(unsafe { libc::close(number) }),
            errno => return Err(errno),
        }
    }
    Ok(())
}

/// Sets every signal to its default action and unblocks all: what a program may expect at its start
/// (Rust's runtime ignores SIGPIPE, nohup SIGHUP, and exec keeps what is ignored).
pub fn reset_signals() -> Result<(), Errno> {
    // The kernel's struct sigaction (handler, flags, restorer, mask), all zero: SIG_DFL. By the system
    // call itself, since the C library refuses the two signals that it keeps for itself (32, 33).
    let default = [0_u64; 4];
    for signal in 1..=64 {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue; // cannot be set
        }
        // SAFETY: the default action runs no code of ours; `default` is at least as large as the
        // kernel's structure, which it only reads, and 8 is the size of its signal set.
        let result = unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<libc::c_void>(),
                8_usize,
            )
        };
        if result != 0 {
            return Err(last_errno());
        }
    }
    set_mask(libc::SIG_SETMASK, &[])
}

fn signal_set(signals: &[Signal]) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set that it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: initialised by the line above.
    let mut set = unsafe { set.assume_init() };
    for signal in signals {
        // SAFETY: the set is initialised, and a Signal is a valid number.
        unsafe { libc::sigaddset(&raw mut set, signal.as_raw()) };
    }
    set
}

fn set_mask(how: libc::c_int, signals: &[Signal]) -> Result<(), Errno> {
    let set = signal_set(signals);
    // SAFETY: the set is initialised, and no old mask is asked for.
    match unsafe { libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(Errno::from_raw_os_error(error)),
    }
}

/// Takes back that `signals` are blocked for the calling thread; those that are pending are delivered.
pub fn unblock(signals: &[Signal]) -> Result<(), Errno> {
    set_mask(libc::SIG_UNBLOCK, signals)
}

/// The calling thread's signals, blocked until this is dropped: those that were blocked before.
#[derive(Debug)]
pub struct Blocked(u64);

impl Blocked {
    /// Blocks all, for what must not be disturbed: the start of a thread, which takes the mask over.
    #[must_use]
    pub fn all() -> Self {
        Self(exchange_mask(u64::MAX))
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        exchange_mask(self.0);
    }
}

/// rt_sigprocmask(2) with the kernel's own set, a bit for each signal. Gives the set before.
fn exchange_mask(mut set: u64) -> u64 {
    let place = &raw mut set;
    // SAFETY: the kernel reads the set, and writes the one before into its place afterwards; both have the size given.
    unsafe {
        let (how, size) = (libc::SIG_SETMASK, size_of::<u64>());
        libc::syscall(libc::SYS_rt_sigprocmask, how, place.cast_const(), place, size)
    };
    set
}

/// Signals as a descriptor to read (signalfd(2)); they are blocked for the calling thread, and for
/// threads that it starts later.
#[derive(Debug)]
pub struct SignalFd {
    fd: OwnedFd,
}

impl SignalFd {
    /// Blocks `signals` and opens a descriptor that becomes readable when one is pending.
    pub fn new(signals: &[Signal]) -> Result<Self, Errno> {
        set_mask(libc::SIG_BLOCK, signals)?;
        let set = signal_set(signals);
        // SAFETY: the set is initialised; -1 asks for a new descriptor.
        let fd =
            unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(last_errno());
        }
        // SAFETY: the call just made this descriptor, and nothing else knows it.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// The number of the next pending signal, `None` when there is none now.
    pub fn next(&self) -> Result<Option<i32>, Errno> {
        let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::read(&self.fd, &mut info) {
            Ok(n) if n == info.len() => {
                // ssi_signo is the first field, a u32.
                Ok(Some(i32::from_ne_bytes([info[0], info[1], info[2], info[3]])))
            }
            Ok(_) => Err(Errno::IO),
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Runs `work` on a thread whose working directory is `dir`, without changing the process's own
/// (unshare(2) with CLONE_FS; allocates). For the calls that take a path and no descriptor.
pub fn in_directory<T: Send>(
    dir: BorrowedFd<'_>,
    work: impl FnOnce() -> T + Send,
) -> Result<T, Errno> {
    on_a_thread(|| {
        // SAFETY: only the file system attributes (working directory, umask) become this
        // thread's own; descriptors stay shared, so no owner loses one.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FS) }?;
        rustix::process::fchdir(dir)?;
        Ok(work())
    })
}

/// Runs `work` on a thread of its own. EAGAIN where none can be made, for want of memory too (pthread_create(3)).
fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T, Errno> + Send) -> Result<T, Errno> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, work);
        let thread =
            thread.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))?;
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// When the process `pid` was started: field 22 of `/proc/PID/stat` (proc_pid_stat(5)), in ticks since
/// the machine's start; `None` where there is no such process. With its number it names a process for
/// good. Allocates; needs `/proc`. EMFILE or EIO say nothing of the process: who took them for its end would lose it.
pub fn start_time(pid: Pid) -> Result<Option<u64>, Errno> {
    let stat = match crate::whole::read_path(format!("/proc/{}/stat", pid.as_raw_nonzero())) {
        Ok(stat) => stat,
        Err(error) => {
            return match Errno::from_io_error(&error) {
                // ESRCH: it went between open and read.
                Some(Errno::NOENT | Errno::SRCH) => Ok(None),
                other => Err(other.unwrap_or(Errno::IO)),
            };
        }
    };
    Ok(stat_from(22, &stat).and_then(|mut fields| fields.next()?.parse().ok()))
}

/// The fields of the text of a `/proc/PID/stat` from the one of this number on; the third at the least.
pub(crate) fn stat_from(number: usize, stat: &[u8]) -> Option<impl Iterator<Item = &str>> {
    // The name in parentheses may hold anything; what follows the last one has no parentheses.
    let after = stat.iter().rposition(|&byte| byte == b')')?;
    let fields = std::str::from_utf8(&stat[after + 1..]).ok()?;
    Some(fields.split_ascii_whitespace().skip(number - 3))
}

/// A descriptor of the process that has the number `pid` and was started at `start` ([`start_time`]);
/// `None` where that one has ended (a zombie has), whoever has its number now. Allocates; needs `/proc`.
pub fn find(pid: Pid, start: u64) -> Result<Option<OwnedFd>, Errno> {
    let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        // EINVAL: it is just going (Linux before 6.15), or the number is by now that of a thread.
        Err(Errno::SRCH | Errno::INVAL) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    // The descriptor is of the process that now has the number; is that the one that was meant?
    if start_time(pid)? != Some(start) || ended(pidfd.as_fd(), Duration::ZERO)? {
        return Ok(None);
    }
    Ok(Some(pidfd))
}

/// Whether the process of `pidfd` ends within `limit` (its descriptor is readable then, pidfd_open(2)).
pub fn ended(pidfd: BorrowedFd<'_>, limit: Duration) -> Result<bool, Errno> {
    let deadline = Instant::now().checked_add(limit);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // More than the kernel can count is for ever.
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let mut fds = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Runs `work` on a thread with a copy of the mounts (unshare(2) with CLONE_NEWNS; allocates): what it mounts is seen by
/// nobody else, and ends with it, also where the process is killed. Its directories are those of the copy; descriptors
/// that were opened before still lead to the others. Needs CAP_SYS_ADMIN.
pub fn in_own_mounts<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, Errno> {
    on_a_thread(|| {
        // SAFETY: only this thread's mounts and file system attributes become its own; descriptors stay shared, so
        // no owner loses one.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?;
        let root = rustix::fs::open(c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        // Else what is mounted would go on to the mounts that these are copies of.
        let propagation = Some(Propagation::Private);
        crate::mount::change(root, &Change { propagation, recursive: true, ..Change::default() })?;
        Ok(work())
    })
}

/// The path of what `fd` is open on, without links: where it was when it was opened, or has moved to since. Allocates;
/// needs `/proc`.
pub fn path_of(fd: impl AsFd) -> Result<std::path::PathBuf, Errno> {
    let path = rustix::fs::readlink(proc_path(fd), Vec::new())?;
    Ok(std::ffi::OsString::from_vec(path.into_bytes()).into())
}

/// The file descriptor's number, for messages and `/proc/self/fd/N`.
pub fn proc_path(fd: impl AsFd) -> std::path::PathBuf {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags};

    #[test]
    fn a_thread_has_its_own_mounts() {
        let place = tempfile::tempdir().unwrap();
        let seen = in_own_mounts(|| {
            let tmpfs = crate::fscontext::FsContext::open(c"tmpfs").unwrap();
            let tmpfs = tmpfs.mount(rustix::mount::MountAttrFlags::empty()).unwrap();
            let at = rustix::fs::open(place.path(), OFlags::PATH, Mode::empty()).unwrap();
            crate::mount::attach(&tmpfs, &at).unwrap();
            std::fs::write(place.path().join("file"), "x").unwrap();
            std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap()
        });
        let shown = place.path().to_str().unwrap();
        assert!(seen.unwrap().contains(shown));
        assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(shown));
        assert!(!place.path().join("file").exists());
    }

    /// Who has no descriptor left knows nothing of a process, least of all that it has ended.
    #[test]
    fn what_cannot_be_looked_at_has_not_ended() {
        let own = rustix::process::getpid();
        let start = start_time(own).unwrap().unwrap();
        // A filter is the thread's own, and goes with it.
        std::thread::spawn(move || {
            let program = crate::seccomp::answer(&[libc::SYS_openat], Errno::MFILE);
            crate::seccomp::install(&program).unwrap();
            assert_eq!(start_time(own), Err(Errno::MFILE));
            assert_eq!(find(own, start).unwrap_err(), Errno::MFILE);
        })
        .join()
        .unwrap();
        assert!(find(own, start).unwrap().is_some());
        assert!(find(own, start + 1).unwrap().is_none());
    }

    #[test]
    fn that_no_thread_can_be_made_is_an_error() {
        std::thread::spawn(|| {
            let calls = [libc::SYS_clone3, libc::SYS_clone];
            let program = crate::seccomp::answer(&calls, Errno::NOMEM);
            crate::seccomp::install(&program).unwrap();
            let root = rustix::fs::open(c"/", OFlags::PATH, Mode::empty()).unwrap();
            assert_eq!(in_directory(root.as_fd(), || ()), Err(Errno::AGAIN));
            assert_eq!(in_own_mounts(|| ()), Err(Errno::AGAIN));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_thread_has_its_own_directory() {
        let before = std::env::current_dir().unwrap();
        let dir =
            rustix::fs::open(c"/proc", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let there = in_directory(dir.as_fd(), || std::fs::canonicalize(".").unwrap()).unwrap();
        assert_eq!(there, std::path::Path::new("/proc"));
        assert_eq!(std::env::current_dir().unwrap(), before);
    }

    #[test]
    fn a_signal_is_read() {
        std::thread::spawn(|| {
            let signals = SignalFd::new(&[Signal::USR2]).unwrap();
            assert_eq!(signals.next().unwrap(), None);
            // SAFETY: SIGUSR2 is blocked in this thread, to which it goes.
            unsafe { libc::raise(libc::SIGUSR2) };
            assert_eq!(signals.next().unwrap(), Some(libc::SIGUSR2));
        })
        .join()
        .unwrap();
    }
}
