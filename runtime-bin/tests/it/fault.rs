//! Faults at exact points: a seccomp filter puts the calls of a command, and of all processes that it makes, to the
//! test, which counts them and kills the caller, or answers with an errno, at the one that it is to be. The points are
//! the calls themselves, so that nothing depends on the clock.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Barrier, Mutex, mpsc};

use libc::c_long;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use sys::seccomp::notify::{self, Notification};
use sys::seccomp::{Flags, Instruction};

use crate::harness::Started;

/// What is done at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The caller's process is killed before the call is done.
    Kill,
    /// The call is not done, and this is its answer.
    Errno(Errno),
}

/// A call that can be a point, its name, and which of its uses are.
type Watched = (c_long, &'static str, Uses);

macro_rules! watched {
    ($($call:ident: $uses:expr,)*) => { &[$((libc::$call, stringify!($call), $uses)),*] };
}

#[derive(Clone, Copy)]
enum Uses {
    All,
    /// With one of these bits in the argument of this index.
    With(u32, u32),
    /// With an argument of this index that is greater.
    Above(u32, u32),
    /// openat2(2), by what its third argument points at.
    Creating,
}
use Uses::{Above, All, Creating, With};

/// What makes a file.
const CREATE: u32 = (libc::O_CREAT | libc::O_TMPFILE & !libc::O_DIRECTORY) as u32;

/// What gives a name, or takes one away.
const NAMES: &[Watched] = watched![
    SYS_openat: With(2, CREATE),
    SYS_openat2: Creating,
    SYS_mkdirat: All,
    SYS_mknodat: All,
    SYS_symlinkat: All,
    SYS_linkat: All,
    SYS_renameat: All,
    SYS_renameat2: All,
    SYS_unlinkat: All,
];

/// The same by calls that newer architectures do not have.
#[cfg(target_arch = "x86_64")]
const OLD_NAMES: &[Watched] =
    watched![SYS_mkdir: All, SYS_rename: All, SYS_unlink: All, SYS_rmdir: All,];
#[cfg(not(target_arch = "x86_64"))]
const OLD_NAMES: &[Watched] = &[];

/// What writes.
const WRITES: &[Watched] = watched![
    SYS_write: Above(0, 2),
    SYS_pwrite64: All,
    SYS_fallocate: All,
    SYS_copy_file_range: All,
    SYS_fsync: All,
    SYS_fdatasync: All,
    SYS_syncfs: All,
];

/// What reads a disk.
const READS: &[Watched] = watched![
    SYS_openat: All,
    SYS_openat2: All,
    SYS_read: Above(0, 2),
    SYS_pread64: All,
    SYS_getdents64: All,
    SYS_newfstatat: All,
    SYS_readlinkat: All,
];

/// What gives a descriptor.
const DESCRIPTORS: &[Watched] = watched![
    SYS_openat: All,
    SYS_openat2: All,
    SYS_pipe2: All,
    SYS_socket: All,
    SYS_socketpair: All,
    SYS_accept4: All,
    SYS_memfd_create: All,
    SYS_eventfd2: All,
    SYS_signalfd4: All,
    SYS_timerfd_create: All,
    SYS_inotify_init1: All,
    SYS_epoll_create1: All,
    SYS_pidfd_open: All,
    SYS_fsopen: All,
    SYS_fsmount: All,
    SYS_open_tree: All,
];

/// What makes objects of the kernel's: mounts, processes, sockets. It changes something, and takes memory.
const OBJECTS: &[Watched] = watched![
    SYS_mount: All,
    SYS_fsmount: All,
    SYS_open_tree: All,
    SYS_move_mount: All,
    SYS_mount_setattr: All,
    SYS_pivot_root: All,
    SYS_clone: All,
    SYS_clone3: All,
    SYS_unshare: All,
    SYS_setns: All,
    SYS_execve: All,
    SYS_execveat: All,
    SYS_bpf: All,
    SYS_bind: All,
    SYS_sendmsg: All,
];

/// What else others see: processes, locks, messages.
const SIGNS: &[Watched] = watched![
    SYS_ftruncate: All,
    SYS_flock: All,
    SYS_umount2: All,
    SYS_kill: All,
    SYS_pidfd_send_signal: All,
    SYS_connect: All,
    SYS_sendto: All,
    SYS_exit_group: All,
];

/// What else takes the kernel's memory.
const MEMORY: &[Watched] = watched![
    SYS_fsopen: All,
    SYS_fsconfig: All,
    SYS_seccomp: All,
    SYS_socketpair: All,
    SYS_socket: All,
    SYS_pipe2: All,
    SYS_keyctl: All,
];

impl Fault {
    /// The calls at which it can happen.
    fn watched(self) -> impl Iterator<Item = &'static Watched> {
        // Of two entries for a call the first one counts.
        let lists: &[&[Watched]] = match self {
            Fault::Kill => &[NAMES, OLD_NAMES, WRITES, OBJECTS, SIGNS],
            Fault::Errno(Errno::NOSPC) => &[NAMES, OLD_NAMES, WRITES],
            Fault::Errno(Errno::MFILE) => &[DESCRIPTORS],
            Fault::Errno(Errno::NOMEM) => &[NAMES, OLD_NAMES, OBJECTS, MEMORY],
            Fault::Errno(Errno::IO) => &[READS, NAMES, OLD_NAMES, WRITES],
            Fault::Errno(other) => panic!("{other} has no list of calls"),
        };
        lists.iter().copied().flatten()
    }
}

/// A call that was one of the points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    name: &'static str,
    pid: u32,
    /// The path that it names, as far as there is one.
    path: String,
}

/// A command that runs, or has run, with its points.
pub(crate) struct Points(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    count: usize,
    hit: Option<Call>,
}

impl Points {
    /// How many calls there were so far.
    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().count
    }

    /// The call at which the fault was, if it came to it.
    pub(crate) fn hit(&self) -> Option<Call> {
        self.0.lock().unwrap().hit.clone()
    }
}

/// Starts `command`, a call of the program at `program`, with `fault` at the call number `at` (from 1; none: no fault).
pub(crate) fn start(
    command: Command,
    program: &Path,
    fault: Fault,
    at: Option<usize>,
) -> (Started, Points) {
    watch(command, program, fault, move |number| (Some(number) == at).then_some(fault))
}

/// Starts `command`, a call of the program at `program`. At each call at which `fault` could be, before it is done,
/// `decide` is asked with its number, from 1. Only that program's calls are counted, in whichever process, and none of
/// what a container runs.
pub(crate) fn watch(
    command: Command,
    program: &Path,
    fault: Fault,
    mut decide: impl FnMut(usize) -> Option<Fault> + Send + 'static,
) -> (Started, Points) {
    let of = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    let program = of(program).unwrap();
    let filter = filter(fault.watched());
    let (sender, receiver) = mpsc::channel();
    // While that thread forks, this process's allocator is locked: who answers its calls must be ready, and allocate
    // nothing for them.
    let ready = Arc::new(Barrier::new(2));
    let ready_there = Arc::clone(&ready);
    // A filter is the thread's, and that of what it starts.
    let launcher = std::thread::spawn(move || {
        let listener = sys::seccomp::load(&filter, Flags::NEW_LISTENER).unwrap().unwrap();
        sender.send((listener, rustix::thread::gettid())).unwrap();
        ready_there.wait();
        Started::new(command, None)
    });
    let seen = Arc::new(Mutex::new(Seen::default()));
    let seen_there = Arc::clone(&seen);
    std::thread::spawn(move || {
        let (listener, own) = receiver.recv().unwrap();
        ready.wait();
        serve(&listener, |call| {
            if Pid::from_raw(call.pid.cast_signed()) == Some(own) {
                return None;
            }
            let exe = format!("/proc/{}/exe", call.pid);
            if of(Path::new(&exe)).ok() != Some(program) {
                return None;
            }
            let point = point(fault, call)?;
            let mut seen = seen_there.lock().unwrap();
            seen.count += 1;
            let decided = decide(seen.count);
            if decided.is_some() {
                seen.hit = Some(point);
            }
            decided
        });
    });
    (launcher.join().unwrap(), Points(seen))
}

/// Answers all calls, until nobody is left who could make one.
fn serve(listener: &OwnedFd, mut decide: impl FnMut(&Notification) -> Option<Fault>) {
    loop {
        let mut fds = [PollFd::new(listener, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            other => drop(other.unwrap()),
        }
        if !fds[0].revents().contains(PollFlags::IN) {
            return;
        }
        let Ok(call) = notify::receive(listener) else { continue };
        let _gone_meanwhile = match decide(&call) {
            None => notify::let_be(listener, call.id),
            Some(Fault::Errno(errno)) => notify::respond(listener, call.id, errno),
            Some(Fault::Kill) => {
                let pid = Pid::from_raw(i32::try_from(call.pid).unwrap()).unwrap();
                kill_process(pid, Signal::KILL)
            }
        };
    }
}

fn filter<'a>(watched: impl Iterator<Item = &'a Watched>) -> Vec<Instruction> {
    let load = |offset| Instruction { code: 0x20, jt: 0, jf: 0, k: offset };
    let argument = |index: u32| load(16 + 8 * index);
    let give = |k| Instruction { code: 0x06, jt: 0, jf: 0, k };
    let (ask, allow) = (give(libc::SECCOMP_RET_USER_NOTIF), give(libc::SECCOMP_RET_ALLOW));
    let mut program = vec![load(0)];
    for (call, _, uses) in watched {
        let number = u32::try_from(*call).unwrap();
        let tested = |code, index, k| {
            vec![argument(index), Instruction { code, jt: 0, jf: 1, k }, ask, allow]
        };
        let then = match *uses {
            All | Creating => vec![ask],
            With(index, bits) => tested(0x45, index, bits),
            Above(index, number) => tested(0x25, index, number),
        };
        let over = u8::try_from(then.len()).unwrap();
        program.push(Instruction { code: 0x15, jt: 0, jf: over, k: number });
        program.extend(then);
    }
    program.push(allow);
    program
}

/// The point that a call is: `None` where the filter could not see that it is none.
fn point(fault: Fault, call: &Notification) -> Option<Call> {
    let number = c_long::from(call.number);
    let (_, name, uses) = fault.watched().find(|(watched, ..)| *watched == number)?;
    if let Creating = uses {
        let flags = memory(call.pid, call.args[2], 8);
        let low = <[u8; 4]>::try_from(flags.get(..4)?).ok()?;
        if u32::from_ne_bytes(low) & CREATE == 0 {
            return None;
        }
    }
    let path = match *name {
        "SYS_mkdir" | "SYS_rename" | "SYS_unlink" | "SYS_rmdir" | "SYS_execve" | "SYS_umount2" => 0,
        "SYS_openat" | "SYS_openat2" | "SYS_mkdirat" | "SYS_mknodat" | "SYS_renameat"
        | "SYS_renameat2" | "SYS_unlinkat" | "SYS_newfstatat" | "SYS_statx" => 1,
        "SYS_symlinkat" => 2,
        _ => return Some(Call { name, pid: call.pid, path: String::new() }),
    };
    let path = memory(call.pid, call.args[path], 160);
    let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(Call { name, pid: call.pid, path: String::from_utf8_lossy(path).into_owned() })
}

/// Bytes of a process's memory, as many as there are up to `size`.
fn memory(pid: u32, at: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let file = fs::File::open(format!("/proc/{pid}/mem"));
    let count = file.and_then(|file| file.read_at(&mut bytes, at)).unwrap_or(0);
    bytes.truncate(count);
    bytes
}
