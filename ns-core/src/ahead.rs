//! A network namespace that is made while its maker does something else.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::thread::JoinHandleExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu};

use crate::enter::new_namespaces;
use crate::{Error, Namespaces};

/// A network namespace that is being made, on a thread: most of what a start costs the kernel (0.8 of
/// 1.1 ms), and nothing that the preparation of all else waits for.
///
/// Dropped without [`NetworkAhead::wait`], it ends by itself. The process must be back to one thread before
/// [`split`](crate::split()): wait first.
#[derive(Debug)]
pub struct NetworkAhead {
    thread: JoinHandle<Result<OwnedFd, Errno>>,
    runs: Arc<AtomicBool>,
}

const OP: &str = "making a network namespace";

impl NetworkAhead {
    /// Begins. The namespace belongs to the caller's user namespace; for another one it is made by the
    /// clone ([`Spawn::namespaces`](crate::Spawn::namespaces)).
    ///
    /// # Errors
    /// No thread can be started.
    pub fn begin() -> Result<Self, Error> {
        let runs = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&runs);
        let make = move || {
            told.store(true, Ordering::Relaxed);
            new_namespaces(Namespaces::NETWORK)?;
            // /proc/self is the process, whose namespace is still the old one.
            let made = File::open("/proc/thread-self/ns/net").map(OwnedFd::from);
            made.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
        };
        let failed = |error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            Error::System { op: "starting a thread", errno }
        };
        one_heap();
        let thread = std::thread::Builder::new().spawn(make).map_err(failed)?;
        let ahead = Self { thread, runs };
        ahead.place(|here, cpus| cpus.unset(here));
        Ok(ahead)
    }

    /// Where the thread may run: the scheduler leaves one in three beside its maker, which it then waits for, though another
    /// processor has nothing to do. What fails here costs time alone.
    fn place(&self, choose: impl FnOnce(usize, &mut CpuSet)) {
        let Ok(mut cpus) = sched_getaffinity(None) else { return };
        choose(sched_getcpu(), &mut cpus);
        if cpus.count() == 0 {
            return;
        }
        // SAFETY: the thread is not joined yet, so its number is valid; the set is read, with its size.
        unsafe {
            let number = self.thread.as_pthread_t();
            libc::pthread_setaffinity_np(number, size_of::<CpuSet>(), (&raw const cpus).cast());
        }
    }

    /// The namespace, for [`Spawn::join`](crate::Spawn::join), once it is made.
    ///
    /// # Errors
    /// The kernel refuses: CAP_SYS_ADMIN is missing (EPERM); the limit of
    /// `/proc/sys/user/max_net_namespaces` is reached (ENOSPC).
    pub fn wait(self) -> Result<OwnedFd, Error> {
        if !self.runs.load(Ordering::Relaxed) {
            // The other processors are busy, and this one is free from now on.
            self.place(|here, cpus| {
                cpus.clear();
                cpus.set(here);
            });
        }
        // The thread cannot panic.
        let made = self.thread.join().unwrap_or(Err(Errno::IO));
        made.map_err(|errno| Error::System { op: OP, errno })
    }
}

/// The thread allocates next to nothing: it takes it from the heap that there is, and needs no other, which glibc would map
/// 128 MiB for and touch.
fn one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) sets a number of the allocator, under the allocator's own lock; there are no pointers.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
