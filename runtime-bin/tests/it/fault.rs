//! Faults at exact points: a seccomp filter puts the calls of a command, and of all processes that it makes, to the
//! test, which counts them and kills the caller, or answers with an errno, at the one that it is to be. The points are
//! the calls themselves, so that nothing depends on the clock.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Barrier, Mutex, mpsc};

use libc::c_long;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use sys::seccomp::notify::{self, Notification};
use sys::seccomp::{Flags, Instruction};

use crate::harness::{Out, Started};

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

/// All that changes something that others see: files, mounts, processes, locks, messages.
const CHANGES: &[Watched] = watched![
    SYS_openat: With(2, CREATE),
    SYS_openat2: Creating,
    SYS_mkdirat: All,
    SYS_mknodat: All,
    SYS_symlinkat: All,
    SYS_linkat: All,
    SYS_renameat: All,
    SYS_renameat2: All,
    SYS_unlinkat: All,
    SYS_write: Above(0, 2),
    SYS_pwrite64: All,
    SYS_ftruncate: All,
    SYS_fallocate: All,
    SYS_copy_file_range: All,
    SYS_fsync: All,
    SYS_fdatasync: All,
    SYS_syncfs: All,
    SYS_flock: All,
    SYS_mount: All,
    SYS_umount2: All,
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
    SYS_kill: All,
    SYS_pidfd_send_signal: All,
    SYS_bind: All,
    SYS_connect: All,
    SYS_sendto: All,
    SYS_sendmsg: All,
    SYS_exit_group: All,
];

/// What takes room on a disk.
const ROOM: &[Watched] = watched![
    SYS_openat: With(2, CREATE),
    SYS_openat2: Creating,
    SYS_mkdirat: All,
    SYS_mknodat: All,
    SYS_symlinkat: All,
    SYS_linkat: All,
    SYS_renameat: All,
    SYS_renameat2: All,
    SYS_write: Above(0, 2),
    SYS_pwrite64: All,
    SYS_fallocate: All,
    SYS_copy_file_range: All,
    SYS_fsync: All,
    SYS_syncfs: All,
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

/// What takes the kernel's memory.
const MEMORY: &[Watched] = watched![
    SYS_clone: All,
    SYS_clone3: All,
    SYS_unshare: All,
    SYS_setns: All,
    SYS_mount: All,
    SYS_fsopen: All,
    SYS_fsconfig: All,
    SYS_fsmount: All,
    SYS_open_tree: All,
    SYS_move_mount: All,
    SYS_mount_setattr: All,
    SYS_pivot_root: All,
    SYS_mkdirat: All,
    SYS_mknodat: All,
    SYS_symlinkat: All,
    SYS_openat: With(2, CREATE),
    SYS_bpf: All,
    SYS_seccomp: All,
    SYS_socketpair: All,
    SYS_socket: All,
    SYS_bind: All,
    SYS_sendmsg: All,
    SYS_execve: All,
    SYS_pipe2: All,
    SYS_keyctl: All,
];

/// What reads a disk, or writes it.
const DISK: &[Watched] = watched![
    SYS_openat: All,
    SYS_openat2: All,
    SYS_read: Above(0, 2),
    SYS_pread64: All,
    SYS_getdents64: All,
    SYS_newfstatat: All,
    SYS_readlinkat: All,
    SYS_mkdirat: All,
    SYS_symlinkat: All,
    SYS_renameat: All,
    SYS_renameat2: All,
    SYS_unlinkat: All,
    SYS_write: Above(0, 2),
    SYS_pwrite64: All,
    SYS_copy_file_range: All,
    SYS_fsync: All,
    SYS_syncfs: All,
];

/// Calls that newer architectures do not have, of all lists but that of descriptors.
#[cfg(target_arch = "x86_64")]
const OLD: &[Watched] = watched![SYS_mkdir: All, SYS_rename: All, SYS_unlink: All, SYS_rmdir: All,];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[Watched] = &[];

impl Fault {
    /// The calls at which it can happen.
    fn watched(self) -> impl Iterator<Item = &'static Watched> {
        let (list, old) = match self {
            Fault::Kill => (CHANGES, OLD),
            Fault::Errno(Errno::NOSPC) => (ROOM, OLD),
            Fault::Errno(Errno::MFILE) => (DESCRIPTORS, &[][..]),
            Fault::Errno(Errno::NOMEM) => (MEMORY, OLD),
            Fault::Errno(Errno::IO) => (DISK, OLD),
            Fault::Errno(other) => panic!("{other} has no list of calls"),
        };
        list.iter().chain(old)
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
    fn count(&self) -> usize {
        self.0.lock().unwrap().count
    }

    /// The call at which the fault was, if it came to it.
    pub(crate) fn hit(&self) -> Option<Call> {
        self.0.lock().unwrap().hit.clone()
    }
}

/// Starts `command`, a call of the program at `program`, with `fault` at the call number `at` (from 1; none: no fault).
/// Only that program's calls are counted, in whichever process, and none of what a container runs.
pub(crate) fn start(
    command: Command,
    program: &Path,
    fault: Fault,
    at: Option<usize>,
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
            if Some(seen.count) != at {
                return None;
            }
            seen.hit = Some(point);
            Some(fault)
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

/// That a failure is told as one, with the errno's words, or was none: what failed could be done without.
#[track_caller]
pub(crate) fn assert_said(errno: Errno, out: &Out) {
    let words = std::io::Error::from(errno).to_string();
    let words = words.split(" (").next().unwrap_or_default().to_lowercase();
    assert!(
        out.code == 0 || out.stderr.to_lowercase().contains(&words),
        "without {words:?}: {out:?}"
    );
}

/// One fault at points of several steps.
pub(crate) struct Sweep {
    fault: Fault,
    sample: usize,
    tries: usize,
    hits: usize,
    /// Faults after which the command succeeded all the same.
    borne: Vec<String>,
    wrong: Vec<String>,
}

impl Sweep {
    /// At `sample` points of each step, spread evenly; at all with RACE_SECONDS.
    pub(crate) fn new(fault: Fault, sample: usize) -> Sweep {
        let sample = if std::env::var_os("RACE_SECONDS").is_some() { usize::MAX } else { sample };
        Sweep { fault, sample, tries: 0, hits: 0, borne: Vec::new(), wrong: Vec::new() }
    }

    /// Whether all points are tried.
    pub(crate) fn is_all(&self) -> bool {
        self.sample == usize::MAX
    }

    /// Each time a command of `program` that `prepare` gives, in a world of the same state, is run with a fault at a point;
    /// `look` finds what is wrong with what it left. That does not end the sweep, but the world is another one from then on.
    pub(crate) fn step<W>(
        &mut self,
        name: &str,
        program: &Path,
        new: impl Fn() -> W,
        prepare: impl Fn(&mut W) -> Command,
        look: impl Fn(&mut W, Out, Option<Errno>),
    ) {
        let mut world = new();
        let fault = self.fault;
        let mut count = 0;
        // What is made once in a world is no part of the second. For a sample the first one is near enough.
        for _ in 0..if self.is_all() { 2 } else { 1 } {
            let (started, points) = start(prepare(&mut world), program, fault, None);
            let out = started.wait();
            assert_eq!(out.code, 0, "{name} fails without a fault: {out:?}");
            count = points.count();
            look(&mut world, out, None);
        }
        let sample = self.sample.min(count);
        for number in 0..sample {
            // In the middle of each part.
            let at = (2 * number + 1) * count / (2 * sample) + 1;
            let mut hit = None;
            self.tries += 1;
            let tried = catch_unwind(AssertUnwindSafe(|| {
                let (started, points) = start(prepare(&mut world), program, fault, Some(at));
                let out = started.wait();
                hit = points.hit();
                let code = out.code;
                let errno = match (fault, &hit) {
                    (Fault::Errno(errno), Some(_)) => Some(errno),
                    _ => None,
                };
                look(&mut world, out, errno);
                code
            }));
            let what = format!("{fault:?} of {name} at {at} of {count}, {hit:?}");
            self.hits += usize::from(hit.is_some());
            match tried {
                Ok(0) if hit.is_some() => self.borne.push(what),
                Ok(_) => {}
                Err(why) => {
                    let why = why.downcast_ref::<String>().cloned().unwrap_or_default();
                    self.wrong.push(format!("{what}: {why}"));
                    let spoiled = std::mem::replace(&mut world, new());
                    let _ = catch_unwind(AssertUnwindSafe(|| drop(spoiled)));
                }
            }
        }
    }

    /// Fails if anything was wrong, or if there were hardly any faults.
    #[track_caller]
    #[expect(clippy::print_stdout, reason = "a test's words to its runner")]
    pub(crate) fn end(self) {
        let Sweep { fault, tries, hits, borne, wrong, .. } = self;
        println!("{fault:?}: {tries} tries, {hits} faults, {} of them borne", borne.len());
        if std::env::var_os("FAULT_TELL").is_some() {
            println!("borne: {borne:#?}");
        }
        assert!(wrong.is_empty(), "{} of {tries}: {wrong:#?}", wrong.len());
        assert!(hits * 3 >= tries * 2, "{hits} faults in {tries} tries");
    }
}
