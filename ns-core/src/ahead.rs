//! A network namespace that is made while its maker does something else.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

use rustix::io::Errno;

use crate::enter::new_namespaces;
use crate::{Error, Namespaces};

/// A network namespace that is being made, on a thread: most of what a start costs the kernel (0.8 of
/// 1.1 ms), and nothing that the preparation of all else waits for.
///
/// Dropped without [`NetworkAhead::wait`], it ends by itself. The process must be back to one thread before
/// [`split`](crate::split()): wait first.
#[derive(Debug)]
pub struct NetworkAhead(JoinHandle<Result<OwnedFd, Errno>>);

const OP: &str = "making a network namespace";

impl NetworkAhead {
    /// Begins. The namespace belongs to the caller's user namespace; for another one it is made by the
    /// clone ([`Spawn::namespaces`](crate::Spawn::namespaces)).
    ///
    /// # Errors
    /// No thread can be started.
    pub fn begin() -> Result<Self, Error> {
        let make = || {
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
        std::thread::Builder::new().spawn(make).map(Self).map_err(failed)
    }

    /// The namespace, for [`Spawn::join`](crate::Spawn::join), once it is made.
    ///
    /// # Errors
    /// The kernel refuses: CAP_SYS_ADMIN is missing (EPERM); the limit of
    /// `/proc/sys/user/max_net_namespaces` is reached (ENOSPC).
    pub fn wait(self) -> Result<OwnedFd, Error> {
        // The thread cannot panic.
        let made = self.0.join().unwrap_or(Err(Errno::IO));
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
