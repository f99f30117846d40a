//! The floor of a start: the system calls that a container is made of, and nothing else. `cargo xtask bench` measures
//! it beside the programs that make containers. As root.
//!
//! ```text
//! floor run [OPTION]… ROOT PROGRAM [ARG]…   six new namespaces, proc, dev, devpts, sysfs, mqueue, shm, pivot_root, exec
//!     --overlay LOWERS DIR       ROOT is an overlay, with upper and work directory made below DIR for this run
//!     --mount TYPE TARGET DATA   one more mount
//!     --mask PATH, --read-only PATH
//!     --host-cgroups             without a cgroup namespace
//!     --devices                  of --cgroup2: its program for devices, by the rules that every container has
//! floor exec [OPTION]… PID PROGRAM [ARG]…   in the namespaces of a process
//! of both:
//!     --cgroup2 DIR              entered by the clone; made before by `run`, and removed
//!     --cgroup1 DIR              entered by its `tasks`, likewise
//!     --cpuset DIR               likewise, with its parent's processors and memory
//!     --restrict                 the bounding set and capabilities of a container; with `run`, a hostname, and loopback up
//!     --filter FILE              a seccomp program, as `struct sock_filter` has it
//! ```
//!
//! Without arguments it runs `/bin/true` below `/`.

use std::collections::VecDeque;
use std::error::Error;
use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::ExitCode;

use ns_core::Namespaces;
use rustix::fs::{AtFlags, CWD, Dev, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags};
use rustix::process::{Pid, PidfdFlags, WaitOptions};
use rustix::thread::{CapabilitySet, CapabilitySets, ThreadNameSpaceType, UnshareFlags};
use sys::bpf::DeviceRule;
use sys::exec::Program;
use sys::seccomp::Instruction;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// linux/sched.h.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Six device nodes: name, major, minor.
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Links in `/dev`.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("ptmx", "pts/ptmx"),
    ("stderr", "/proc/self/fd/2"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
];

/// What is to be done.
#[derive(Default)]
struct Job {
    place: CString,
    command: Vec<CString>,
    overlay: Option<(String, String)>,
    mounts: Vec<[CString; 3]>,
    masks: Vec<CString>,
    read_only: Vec<CString>,
    restrict: bool,
    cgroup2: Option<CString>,
    cgroup1: Vec<CString>,
    cpuset: Option<CString>,
    host_cgroups: bool,
    devices: bool,
    filter: Vec<Instruction>,
}

fn main() -> Outcome<ExitCode> {
    let mut words: VecDeque<OsString> = std::env::args_os().skip(1).collect();
    if words.is_empty() {
        words = ["run", "/", "/bin/true"].map(OsString::from).into();
    }
    let verb = words.pop_front().unwrap_or_default();
    let job = Job::parse(words)?;
    match verb.to_str() {
        Some("run") => job.run(),
        Some("exec") => job.exec(),
        _ => Err("usage: floor run|exec [OPTION]… ROOT|PID PROGRAM [ARG]…".into()),
    }
}

fn c_string(word: OsString) -> Outcome<CString> {
    Ok(CString::new(word.into_vec())?)
}

impl Job {
    fn parse(mut words: VecDeque<OsString>) -> Outcome<Job> {
        let mut job = Job::default();
        while words.front().is_some_and(|word| word.as_encoded_bytes().starts_with(b"--")) {
            let option = words.pop_front().unwrap_or_default();
            let mut next = || words.pop_front().ok_or("an option's value is missing");
            match option.to_str() {
                Some("--overlay") => {
                    let text = |word: OsString| word.into_string().map_err(|_| "not UTF-8");
                    job.overlay = Some((text(next()?)?, text(next()?)?));
                }
                Some("--mount") => {
                    job.mounts.push([c_string(next()?)?, c_string(next()?)?, c_string(next()?)?]);
                }
                Some("--mask") => job.masks.push(c_string(next()?)?),
                Some("--read-only") => job.read_only.push(c_string(next()?)?),
                Some("--restrict") => job.restrict = true,
                Some("--cgroup2") => job.cgroup2 = Some(c_string(next()?)?),
                Some("--host-cgroups") => job.host_cgroups = true,
                Some("--devices") => job.devices = true,
                Some("--cpuset") => job.cpuset = Some(c_string(next()?)?),
                Some("--cgroup1") => job.cgroup1.push(c_string(next()?)?),
                Some("--filter") => job.filter = instructions(&fs::read(next()?)?)?,
                _ => return Err(format!("no such option: {}", option.display()).into()),
            }
        }
        job.place = c_string(words.pop_front().ok_or("the root or the process is missing")?)?;
        job.command = words.into_iter().map(c_string).collect::<Outcome<_>>()?;
        match job.command.is_empty() {
            true => Err("the program is missing".into()),
            false => Ok(job),
        }
    }

    fn run(&self) -> Outcome<ExitCode> {
        if let Some((_, dir)) = &self.overlay {
            for name in ["", "/upper", "/work", "/merged"] {
                fs::create_dir(format!("{dir}{name}"))?;
            }
        }
        let all = Namespaces::all() - Namespaces::USER - Namespaces::TIME;
        self.make_groups()?;
        let group = self.open_group()?;
        if let (true, Some(group)) = (self.devices, &group) {
            // What no rule allows is denied.
            sys::bpf::restrict_devices(group.as_fd(), &DeviceRule::DEFAULT)?;
        }
        // A cgroup namespace has its root where the process is when it is made.
        let late = self.groups().next().is_some() && !self.host_cgroups;
        let now = if late || self.host_cgroups { all - Namespaces::CGROUP } else { all };
        let Some(pid) = clone(u64::from(now.bits()), group.as_ref())? else {
            self.join_old_groups()?;
            if late {
                // SAFETY: a cgroup namespace touches neither memory nor descriptors of this process.
                unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWCGROUP)? };
            }
            return Err(self.contain());
        };
        let status = wait(pid)?;
        self.remove_groups()?;
        if let Some((_, dir)) = &self.overlay {
            fs::remove_dir_all(dir)?;
        }
        Ok(status)
    }

    /// The child's life, up to the exec.
    fn contain(&self) -> Box<dyn Error> {
        match self.make_root().and_then(|()| self.limit()) {
            Ok(()) => self.execute(),
            Err(error) => error,
        }
    }

    fn make_root(&self) -> Outcome<()> {
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private)?;
        match &self.overlay {
            Some((lowers, dir)) => {
                let data =
                    format!("lowerdir={lowers},upperdir={dir}/upper,workdir={dir}/work,volatile");
                let (merged, data) = (format!("{dir}/merged"), CString::new(data)?);
                mount("overlay", &merged, "overlay", MountFlags::empty(), &data)?;
                rustix::process::chdir(merged)?;
            }
            None => {
                let root = sys::mount::clone_tree(CWD, &self.place, true)?;
                let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
                rustix::mount::move_mount(&root, "", CWD, "/", flags)?;
                rustix::process::fchdir(&root)?;
            }
        }
        let closed = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("proc", "proc", "proc", closed, c"")?;
        let flags = MountFlags::NOSUID | MountFlags::STRICTATIME;
        mount("tmpfs", "dev", "tmpfs", flags, c"mode=755,size=65536k")?;
        for name in ["dev/pts", "dev/mqueue", "dev/shm"] {
            rustix::fs::mkdir(name, Mode::from_raw_mode(0o755))?;
        }
        let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
        let data = c"newinstance,ptmxmode=0666,mode=0620,gid=5";
        mount("devpts", "dev/pts", "devpts", flags, data)?;
        mount("sysfs", "sys", "sysfs", closed | MountFlags::RDONLY, c"")?;
        mount("mqueue", "dev/mqueue", "mqueue", closed, c"")?;
        mount("shm", "dev/shm", "tmpfs", closed, c"mode=1777,size=65536k")?;
        for [kind, target, data] in &self.mounts {
            let target = target.to_str()?.trim_start_matches('/');
            match rustix::fs::mkdir(target, Mode::from_raw_mode(0o755)) {
                // sysfs has its mount points, and a mount's data can be what is wrong.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            mount(kind.to_str()?, target, kind.to_str()?, closed, data)?;
        }
        for (name, major, minor) in DEVICES {
            let device: Dev = rustix::fs::makedev(major, minor);
            let mode = Mode::from_raw_mode(0o666);
            rustix::fs::mknodat(
                CWD,
                format!("dev/{name}"),
                FileType::CharacterDevice,
                mode,
                device,
            )?;
        }
        for (name, target) in LINKS {
            rustix::fs::symlink(target, format!("dev/{name}"))?;
        }
        rustix::process::pivot_root(".", ".")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH)?;
        Ok(rustix::process::chdir("/")?)
    }

    /// What takes a container's process its rights.
    fn limit(&self) -> Outcome<()> {
        if self.restrict {
            rustix::system::sethostname(b"floor")?;
            sys::net::loopback_up()?;
        }
        for path in &self.masks {
            let masked = match rustix::fs::stat(path) {
                Err(Errno::NOENT) => continue,
                Err(errno) => Err(errno),
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                    let flags = MountFlags::RDONLY;
                    rustix::mount::mount("tmpfs", path, "tmpfs", flags, c"size=0k")
                }
                Ok(_) => rustix::mount::mount_bind("/dev/null", path),
            };
            masked?;
        }
        for path in &self.read_only {
            match rustix::mount::mount_bind_recursive(path, path) {
                Err(Errno::NOENT) => continue,
                done => done?,
            }
            let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID;
            let flags = flags | MountFlags::NODEV | MountFlags::NOEXEC;
            rustix::mount::mount_remount(path, flags, c"")?;
        }
        match self.restrict {
            true => restrict(),
            false => Ok(()),
        }
    }

    fn execute(&self) -> Box<dyn Error> {
        if !self.filter.is_empty()
            && let Err(errno) = sys::seccomp::install(&self.filter)
        {
            return errno.into();
        }
        let env = vec![c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()];
        let program = Program::new(vec![self.command[0].clone()], self.command.clone(), env);
        format!("{:?}", program.exec()).into()
    }

    fn exec(&self) -> Outcome<ExitCode> {
        let pid = self.place.to_str()?.parse().ok().and_then(Pid::from_raw);
        let pid = pid.ok_or("the process is not a number")?;
        let process = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        let group = self.open_group()?;
        // Only children get into a PID namespace.
        let kind = ThreadNameSpaceType::PROCESS_ID;
        rustix::thread::move_into_thread_name_spaces(process.as_fd(), kind)?;
        let Some(pid) = clone(0, group.as_ref())? else {
            self.join_old_groups()?;
            let kinds = ThreadNameSpaceType::MOUNT
                | ThreadNameSpaceType::CONTROL_GROUP
                | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
                | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
                | ThreadNameSpaceType::NETWORK;
            rustix::thread::move_into_thread_name_spaces(process.as_fd(), kinds)?;
            if self.restrict {
                restrict()?;
            }
            return Err(self.execute());
        };
        wait(pid)
    }

    fn groups(&self) -> impl Iterator<Item = &CString> {
        self.old_groups().chain(&self.cgroup2)
    }

    fn old_groups(&self) -> impl Iterator<Item = &CString> {
        self.cgroup1.iter().chain(&self.cpuset)
    }

    /// Makes the groups. Those that are there are somebody's.
    fn make_groups(&self) -> Outcome<()> {
        for dir in self.groups() {
            rustix::fs::mkdir(dir, Mode::from_raw_mode(0o755))?;
        }
        if let Some(dir) = &self.cpuset {
            let dir = Path::new(dir.to_str()?);
            for name in ["cpuset.cpus", "cpuset.mems"] {
                fs::write(dir.join(name), fs::read(dir.with_file_name(name))?)?;
            }
        }
        Ok(())
    }

    /// The group that the clone enters.
    fn open_group(&self) -> Outcome<Option<File>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |dir: &CString| rustix::fs::open(dir, flags, Mode::empty());
        Ok(self.cgroup2.as_ref().map(open).transpose()?.map(File::from))
    }

    fn join_old_groups(&self) -> Outcome<()> {
        for dir in self.old_groups() {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let tasks = rustix::fs::open(format!("{}/tasks", dir.to_str()?), flags, Mode::empty())?;
            rustix::io::write(tasks, b"0")?;
        }
        Ok(())
    }

    fn remove_groups(&self) -> Outcome<()> {
        for dir in self.groups() {
            rustix::fs::unlinkat(CWD, dir, AtFlags::REMOVEDIR)?;
        }
        Ok(())
    }
}

fn mount(
    source: &str,
    target: &str,
    kind: &str,
    flags: MountFlags,
    data: &std::ffi::CStr,
) -> Outcome<()> {
    rustix::mount::mount(source, target, kind, flags, data)
        .map_err(|errno| format!("mounting {kind} at {target}: {errno}").into())
}

/// Docker's capabilities remain, and a program gets no others.
fn restrict() -> Outcome<()> {
    let kept = CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::FSETID
        | CapabilitySet::FOWNER
        | CapabilitySet::MKNOD
        | CapabilitySet::NET_RAW
        | CapabilitySet::SETGID
        | CapabilitySet::SETUID
        | CapabilitySet::SETFCAP
        | CapabilitySet::SETPCAP
        | CapabilitySet::NET_BIND_SERVICE
        | CapabilitySet::SYS_CHROOT
        | CapabilitySet::KILL
        | CapabilitySet::AUDIT_WRITE;
    // Names, and not what other bits there may be: those the kernel refuses.
    for (_, capability) in (CapabilitySet::all() - kept).iter_names() {
        rustix::thread::remove_capability_from_bounding_set(capability)?;
    }
    rustix::thread::set_no_new_privs(true)?;
    let sets =
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

fn instructions(bytes: &[u8]) -> Outcome<Vec<Instruction>> {
    let (chunks, []) = bytes.as_chunks::<8>() else {
        return Err("the filter is no sequence of instructions".into());
    };
    let of = |&[a, b, jt, jf, c, d, e, f]: &[u8; 8]| Instruction {
        code: u16::from_ne_bytes([a, b]),
        jt,
        jf,
        k: u32::from_ne_bytes([c, d, e, f]),
    };
    Ok(chunks.iter().map(of).collect())
}

/// clone3(2); `None` in the child.
fn clone(flags: u64, cgroup: Option<&File>) -> Outcome<Option<Pid>> {
    let arguments = libc::clone_args {
        flags: flags | if cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 },
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    // SAFETY: without CLONE_VM the child has a copy of all memory, and goes on from here as after fork(2). This program
    // has one thread, so that the child may do what its parent may. `arguments` lives over the call.
    let result = unsafe {
        libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>())
    };
    match result {
        -1 => Err(format!("clone3: {}", std::io::Error::last_os_error()).into()),
        0 => Ok(None),
        pid => Ok(i32::try_from(pid).ok().and_then(Pid::from_raw)),
    }
}

/// The program's exit status is this program's own.
fn wait(pid: Pid) -> Outcome<ExitCode> {
    let status = rustix::process::waitpid(Some(pid), WaitOptions::empty())?;
    let code = status.and_then(|(_, status)| status.exit_status()).unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code)?))
}
