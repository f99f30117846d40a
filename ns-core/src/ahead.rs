//! A network namespace that is made while its maker does something else.

use std::ffi::{c_int, c_void};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{CpuSet, futex, sched_getaffinity, sched_setaffinity};

use crate::enter::new_namespaces;
use crate::{Error, Namespaces};

/// What the thread needs is a few hundred bytes; below them is a page that nobody may touch.
const STACK: usize = 64 << 10;
const GUARD: usize = 4 << 10;

/// There is no namespace yet, or not any more.
const NOTHING: i32 = i32::MIN;

const OP: &str = "making a network namespace";

/// A network namespace that is being made, on a thread: most of what a start costs the kernel (0.8 of
/// 1.1 ms), and nothing that the preparation of all else waits for.
///
/// The thread is not one of the C library's: it makes three system calls, and has nothing to do with the heap. A thread of
/// the C library's takes some memory as it begins, and its maker, who waited for the heap in that moment, was woken on the
/// thread's processor, behind the whole of the namespace.
///
/// Dropping this waits for the thread, too: before [`split`](crate::split()) the process is back to one.
#[derive(Debug)]
pub struct NetworkAhead {
    thread: Pid,
    shared: Arc<Shared>,
    // After what the thread uses it for.
    _stack: Stack,
}

#[derive(Debug)]
struct Shared {
    /// The thread's number, until the kernel clears it when the thread has ended (CLONE_CHILD_CLEARTID of clone(2)).
    alive: AtomicU32,
    /// Whether it has run at all.
    runs: AtomicBool,
    /// The descriptor, or -errno, or [`NOTHING`].
    made: AtomicI32,
}

impl NetworkAhead {
    /// Begins. The namespace belongs to the caller's user namespace; for another one it is made by the
    /// clone ([`Spawn::namespaces`](crate::Spawn::namespaces)).
    ///
    /// # Errors
    /// No thread can be started.
    pub fn begin() -> Result<Self, Error> {
        let failed = Error::system("starting a thread");
        let start = || -> Result<Self, Errno> {
            let stack = Stack::new()?;
            let shared = Arc::new(Shared {
                alive: AtomicU32::new(0),
                runs: AtomicBool::new(false),
                made: AtomicI32::new(NOTHING),
            });
            let thread = clone_thread(&stack, &shared)?;
            Ok(Self { thread, shared, _stack: stack })
        };
        let ahead = start().map_err(failed)?;
        ahead.place(|here, cpus| cpus.unset(here));
        Ok(ahead)
    }

    /// Where the thread may run: the scheduler leaves one in three beside its maker, which it then waits for, though another
    /// processor has nothing to do. What fails here costs time alone.
    fn place(&self, choose: impl FnOnce(usize, &mut CpuSet)) {
        let Ok(mut cpus) = sched_getaffinity(None) else { return };
        // SAFETY: it has no memory to do with. (The C library has the number at hand.)
        let Ok(here) = usize::try_from(unsafe { libc::sched_getcpu() }) else { return };
        choose(here, &mut cpus);
        if cpus.count() > 0 {
            let _ = sched_setaffinity(Some(self.thread), &cpus);
        }
    }

    /// The namespace, for [`Spawn::join`](crate::Spawn::join), once it is made.
    ///
    /// # Errors
    /// The kernel refuses: CAP_SYS_ADMIN is missing (EPERM); the limit of
    /// `/proc/sys/user/max_net_namespaces` is reached (ENOSPC).
    pub fn wait(self) -> Result<OwnedFd, Error> {
        if !self.shared.runs.load(Ordering::Relaxed) {
            // The other processors are busy, and this one is free from now on.
            self.place(|here, cpus| {
                cpus.clear();
                cpus.set(here);
            });
        }
        self.join();
        self.taken().map_err(Error::system(OP))
    }

    fn join(&self) {
        let Shared { alive, .. } = &*self.shared;
        loop {
            match alive.load(Ordering::Acquire) {
                0 => return,
                // An error is a signal, or that it has ended meanwhile.
                number => drop(futex::wait(alive, futex::Flags::empty(), number, None)),
            }
        }
    }

    /// What the thread has made, once it has ended.
    fn taken(&self) -> Result<OwnedFd, Errno> {
        match self.shared.made.swap(NOTHING, Ordering::Acquire) {
            // SAFETY: the thread has opened this descriptor and given it to nobody else; who takes it takes it once.
            fd @ 0.. => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            NOTHING => Err(Errno::IO),
            errno => Err(Errno::from_raw_os_error(-errno)),
        }
    }
}

impl Drop for NetworkAhead {
    fn drop(&mut self) {
        self.join();
        drop(self.taken());
    }
}

/// Starts the thread, which ends by itself.
fn clone_thread(stack: &Stack, shared: &Shared) -> Result<Pid, Errno> {
    let flags = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM
        | libc::CLONE_PARENT_SETTID
        | libc::CLONE_CHILD_CLEARTID;
    let (arg, alive) = (ptr::from_ref(shared), shared.alive.as_ptr());
    let _blocked = sys::process::Blocked::all();
    // SAFETY: `run` gets the value that it expects, and this and the stack stay until the kernel has cleared `alive`, which
    // dropping a `NetworkAhead` waits for. It has the caller's thread-local storage, and does not use it (`run`); no signal
    // handler runs on it, for it begins with all signals blocked.
    let number = unsafe {
        let arg = arg.cast_mut().cast::<c_void>();
        libc::clone(run, stack.top(), flags, arg, alive, ptr::null_mut::<c_void>(), alive)
    };
    match Pid::from_raw(number) {
        Some(thread) if number > 0 => Ok(thread),
        _ => Err(sys::process::last_errno()),
    }
}

/// The thread: system calls only, by rustix, which makes them itself (no errno, which would be the caller's).
extern "C" fn run(shared: *mut c_void) -> c_int {
    // SAFETY: `clone_thread` gives a `Shared` that outlives the thread, of which all is atomic.
    let shared = unsafe { &*shared.cast::<Shared>() };
    shared.runs.store(true, Ordering::Relaxed);
    let made = new_namespaces(Namespaces::NETWORK).and_then(|()| {
        // /proc/self is the process, whose namespace is still the old one.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::open(c"/proc/thread-self/ns/net", flags, Mode::empty())
    });
    let made = made.map_or_else(|errno| -errno.raw_os_error(), OwnedFd::into_raw_fd);
    shared.made.store(made, Ordering::Release);
    0
}

/// Memory for a thread.
#[derive(Debug)]
struct Stack(*mut c_void);

impl Stack {
    fn new() -> Result<Self, Errno> {
        let (both, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
        );
        // SAFETY: a new range, where the kernel likes.
        let start = unsafe { libc::mmap(ptr::null_mut(), STACK, both, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(sys::process::last_errno());
        }
        let stack = Self(start);
        // SAFETY: the beginning of that range, which nobody uses.
        match unsafe { libc::mprotect(start, GUARD, libc::PROT_NONE) } {
            0 => Ok(stack),
            _ => Err(sys::process::last_errno()),
        }
    }

    /// Its end, from which it grows down.
    fn top(&self) -> *mut c_void {
        self.0.wrapping_byte_add(STACK)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the range is this value's, and who runs on it has ended (`NetworkAhead`), or was never started.
        unsafe { libc::munmap(self.0, STACK) };
    }
}

// SAFETY: an address, which any thread may unmap.
unsafe impl Send for Stack {}
// SAFETY: nothing is done with it by a shared reference.
unsafe impl Sync for Stack {}
