//! The process of a container or of an exec: prepared in the parent, become in the child.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ns_core::{Child, Gate};
use oci_spec::runtime as oci;
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Pid, Uid};
use rustix::termios::{OptionalActions, OutputModes, Winsize};
use rustix::thread::CapabilitySet;
use sys::exec::Program;
use sys::{Failure, Report, Step, below};

use crate::capabilities::Capabilities;
use crate::labels::Labels;
use crate::limits::Limits;
use crate::memory_policy::MemoryPolicy;
use crate::parts::{PART_COMMAND, PART_CWD, PART_LABELS, PART_LIMITS, Phase};
use crate::scheduling::Scheduling;
use crate::seccomp::Seccomp;
use crate::stdio::{Stdio, own_null, put};
use crate::{Error, explain};

/// Where a command without a slash is looked for when the environment has no PATH (execvp(3)).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is to become of a child.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) command: Command,
    pub(crate) program: Program,
    pub(crate) cwd: CString,
    uid: Uid,
    gid: Gid,
    /// None where it keeps those of its creator.
    groups: Option<Vec<Gid>>,
    /// Whether an empty list may be refused: in a user namespace, whose maker may have no right to drop groups.
    may_keep_groups: bool,
    umask: Option<Mode>,
    capabilities: Capabilities,
    pub(crate) limits: Limits,
    pub(crate) oom_score_adj: Option<i32>,
    scheduling: Scheduling,
    labels: Labels,
    /// The execution domain (personality(2)).
    pub(crate) personality: Option<u32>,
    /// Where its memory comes from.
    pub(crate) memory_policy: Option<MemoryPolicy>,
    /// It is in a user namespace that is not the caller's.
    pub(crate) in_user: bool,
    /// The host's null device becomes the container's own where it is standard input or output.
    pub(crate) own_null: bool,
    no_new_privileges: bool,
    pub(crate) terminal: bool,
    size: Option<Winsize>,
    plain_line_ends: bool,
    stdio: Stdio,
    /// The first descriptor that the program does not get.
    first_closed: u32,
    seccomp: Option<Seccomp>,
}

impl Process {
    pub(crate) fn prepare(
        process: &oci::Process,
        stdio: Stdio,
        in_user: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Self, Error> {
        let command = Command::prepare(process)?;
        let args = process.args().clone().unwrap_or_default();
        let env = process.env().clone().unwrap_or_default();
        let program = Program::new(
            command.candidates.clone(),
            c_strings("process.args", &args)?,
            c_strings("process.env", &env)?,
        );
        let cwd = process.cwd().to_string_lossy().into_owned();
        if !cwd.starts_with('/') {
            return Err(Error::field("process.cwd", format!("{cwd:?} is not absolute")));
        }
        let user = process.user();
        let groups = user.additional_gids().clone().unwrap_or_default();
        Ok(Self {
            command,
            program,
            cwd: c_string("process.cwd", &cwd)?,
            uid: Uid::from_raw(id("process.user.uid", user.uid())?),
            gid: Gid::from_raw(id("process.user.gid", user.gid())?),
            groups: groups
                .iter()
                .map(|gid| Ok(Gid::from_raw(id("process.user.additionalGids", *gid)?)))
                .collect::<Result<_, Error>>()
                .map(Some)?,
            may_keep_groups: in_user,
            umask: user.umask().map(|umask| Mode::from_raw_mode(umask & 0o777)),
            capabilities: Capabilities::prepare(
                process.capabilities().as_ref(),
                in_user,
                warnings,
            )?,
            limits: Limits::prepare(process.rlimits().as_deref())?,
            oom_score_adj: process.oom_score_adj(),
            scheduling: Scheduling::prepare(process)?,
            labels: Labels::prepare(process)?,
            personality: None,
            memory_policy: None,
            in_user,
            own_null: true,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            terminal: process.terminal().unwrap_or(false),
            size: process.console_size().map(size),
            plain_line_ends: false,
            stdio,
            seccomp: None,
            first_closed: 3,
        })
    }

    /// Leaves the descriptors 3 to 2 + `count` open for the program.
    pub(crate) fn preserve(&mut self, count: u32) {
        self.first_closed = count.saturating_add(3);
    }

    /// Of a caller that is root of a user namespace alone.
    pub(crate) fn rootless(&mut self) {
        self.may_keep_groups = true;
    }

    /// Leaves it the supplementary groups of its creator.
    pub(crate) fn keep_groups(&mut self) {
        self.groups = None;
    }

    /// Whether it was left them.
    pub(crate) fn keeps_groups(&self) -> bool {
        self.groups.is_none()
    }

    /// Child side. A new terminal of the container's devpts becomes the controlling one and standard
    /// input, output and error; its master goes to the parent.
    ///
    /// `bind` puts it on `/dev/console` too, for the container's first process.
    pub(crate) fn open_terminal(
        &self,
        root: BorrowedFd<'_>,
        gate: Gate<'_>,
        bind: bool,
    ) -> Result<(), Failure> {
        if !self.terminal {
            return self.stdio.apply();
        }
        let pty = pivot::console::open_pty(root)?;
        if bind {
            pivot::console::bind(root, pty.slave.as_fd())?;
        }
        if let Some(size) = self.size {
            rustix::termios::tcsetwinsize(&pty.slave, size).step("setting the terminal's size")?;
        }
        if self.plain_line_ends {
            let mut modes =
                rustix::termios::tcgetattr(&pty.slave).step("reading the terminal's modes")?;
            modes.output_modes.remove(OutputModes::ONLCR);
            rustix::termios::tcsetattr(&pty.slave, OptionalActions::Now, &modes)
                .step("setting the terminal's modes")?;
        }
        rustix::fs::fchown(&pty.slave, Some(self.uid), None)
            .step("giving the user the terminal")?;
        rustix::process::ioctl_tiocsctty(&pty.slave).step("taking the controlling terminal")?;
        put(&pty.slave, &pty.slave, &pty.slave)?;
        gate.tell(Phase::Terminal as u8, Some(pty.master.as_fd()))
    }

    /// Leaves line ends as the program writes them, where it has a terminal: what shows them is none.
    pub(crate) fn plain_line_ends(&mut self) {
        self.plain_line_ends = true;
    }

    /// Child side, while the root can be written. Makes the working directory where it is missing, as
    /// runc does.
    pub(crate) fn make_cwd(&self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        below::make(root, &self.cwd, below::Kind::Directory, Mode::from_raw_mode(0o755))
            .map(drop)
            .step("opening or making the working directory")
            .map_err(|failure| failure.of(PART_CWD, 0))
    }

    /// Whether nothing of what is left ([`Process::become_user`] and on) asks something of the parent.
    pub(crate) fn needs_no_parent(&self) -> bool {
        let limits = self.in_user && !self.limits.is_empty();
        !limits && !self.seccomp.as_ref().is_some_and(Seccomp::has_listener)
    }

    /// Child side, in the container's root and namespaces. Becomes the user with its limits and
    /// capabilities, in the working directory. What is left is [`Process::execute`].
    pub(crate) fn become_user(&self, root: BorrowedFd<'_>, gate: Gate<'_>) -> Result<(), Failure> {
        if !self.terminal && self.own_null {
            own_null(root)?;
        }
        // Magic links are refused: a working directory of /proc/self/fd/N would lead out of the root
        // through a descriptor of the host (CVE-2024-21626).
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let cwd = below::open(root, &self.cwd, flags)
            .step("opening the working directory")
            .map_err(|failure| failure.of(PART_CWD, 0))?;
        rustix::process::fchdir(&cwd)
            .step("entering the working directory")
            .map_err(|failure| failure.of(PART_CWD, 0))?;
        if self.in_user {
            // A limit is raised with a capability over the initial user namespace: by the parent.
            if !self.limits.is_empty() {
                gate.wait(Phase::Limits as u8)?;
            }
        } else {
            self.limits.apply().map_err(|failure| failure.of(PART_LIMITS, failure.index))?;
        }
        self.scheduling.apply()?;
        if let Some(policy) = &self.memory_policy {
            policy.apply()?;
        }
        self.labels.apply().map_err(|failure| failure.of(PART_LABELS, failure.index))?;
        if let Some(domain) = self.personality {
            sys::sched::set_personality(domain).step("setting linux.personality")?;
        }
        self.capabilities.bound()?;
        if let Some(groups) = &self.groups {
            match rustix::thread::set_thread_groups(groups) {
                // Denied for good, where an unprivileged user made the namespace (user_namespaces(7)).
                Err(Errno::PERM) if self.may_keep_groups && groups.is_empty() => {}
                result => {
                    result.step("setting the supplementary groups (process.user.additionalGids)")?
                }
            }
        }
        rustix::thread::set_thread_res_gid(self.gid, self.gid, self.gid)
            .step("becoming the group")?;
        rustix::thread::set_thread_res_uid(self.uid, self.uid, self.uid)
            .step("becoming the user")?;
        // Without no_new_privs the filter, which comes last, needs it. The exec takes it away.
        let needs_admin = self.seccomp.is_some() && !self.no_new_privileges;
        let held = if needs_admin { CapabilitySet::SYS_ADMIN } else { CapabilitySet::empty() };
        self.capabilities.apply(held)?;
        if let Some(umask) = self.umask {
            rustix::process::umask(umask);
        }
        if self.no_new_privileges {
            rustix::thread::set_no_new_privs(true).step("setting no_new_privs")?;
        }
        Ok(())
    }

    /// Child side, as the user in the root: whether there is a file that the user may execute, and no directory.
    /// (Whether it is a program is known when it is executed.) Fails as the exec would.
    pub(crate) fn find(&self) -> Result<(), Failure> {
        const OP: &str = "looking for the command";
        let mut failure = Failure::new(OP, Errno::NOENT).of(PART_COMMAND, 0);
        for (index, path) in self.program.candidates().iter().enumerate() {
            let access = Access::EXEC_OK;
            let found = rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS);
            match found {
                Ok(()) if is_directory(path) => {
                    failure = Failure::new(OP, Errno::ACCESS).of(PART_COMMAND, index as u32);
                }
                Ok(()) => return Ok(()),
                // A kernel without faccessat2 (before 5.8) leaves it to the exec.
                Err(Errno::NOSYS) => return Ok(()),
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => failure = Failure::new(OP, errno).of(PART_COMMAND, index as u32),
            }
        }
        Err(failure)
    }

    /// Parent side, by its own procfs (proc_pid_oom_score_adj(5)): a container's may lie.
    pub(crate) fn adjust_oom_score(&self, pid: Pid) -> Result<(), Error> {
        let Some(adjustment) = self.oom_score_adj else { return Ok(()) };
        let path = format!("/proc/{}/oom_score_adj", pid.as_raw_nonzero());
        std::fs::write(&path, adjustment.to_string())
            .map_err(Error::io("writing process.oomScoreAdj to", path))
    }

    pub(crate) fn seccomp(&self) -> Option<&Seccomp> {
        self.seccomp.as_ref()
    }

    pub(crate) fn seccomp_mut(&mut self) -> Option<&mut Seccomp> {
        self.seccomp.as_mut()
    }

    pub(crate) fn set_seccomp(&mut self, seccomp: Option<Seccomp>) {
        self.seccomp = seccomp;
    }

    /// Parent side: the listener of the child's filter goes to its agent. A child whose agent does not
    /// take it is ended.
    pub(crate) fn hand_over(
        &self,
        child: &Child,
        status: oci::ContainerState,
        listener: Option<OwnedFd>,
    ) -> Result<(), Error> {
        let Some(seccomp) = &self.seccomp else { return Ok(()) };
        if let Err(error) = seccomp.hand_over(child.pid(), status, listener) {
            child.kill()?;
            child.wait()?;
            return Err(error);
        }
        Ok(())
    }

    /// Child side, after [`Process::become_user`]: a filter whose listener goes to the parent.
    pub(crate) fn install_listener(&self, gate: Gate<'_>) -> Result<(), Failure> {
        self.seccomp.as_ref().map_or(Ok(()), |seccomp| seccomp.install_listener(gate))
    }

    /// Child side. The last steps, and the exec.
    pub(crate) fn execute(&self) -> Result<Infallible, Failure> {
        // Nothing of the host may be open in the program (CVE-2024-21626, CVE-2016-9962).
        sys::process::cloexec_from(self.first_closed)
            .step("closing the descriptors of the host on exec")?;
        sys::process::reset_signals().step("resetting the signals")?;
        if let Some(filter) = &self.seccomp {
            filter.install_last()?;
        }
        let failure = self.program.exec();
        let index = failure.index;
        Err(failure.of(PART_COMMAND, index))
    }
}

/// What is to be executed, for who looks for it and who explains why it is not there.
#[derive(Debug)]
pub(crate) struct Command {
    /// As it was given.
    pub(crate) name: String,
    /// Where it is looked for.
    pub(crate) path: String,
    /// The files to try in turn.
    pub(crate) candidates: Vec<CString>,
}

impl Command {
    pub(crate) fn prepare(process: &oci::Process) -> Result<Self, Error> {
        let Some(name) = process.args().iter().flatten().next().cloned() else {
            return Err(Error::field("process.args", "it is empty; give the command to run"));
        };
        if name.is_empty() {
            return Err(Error::field("process.args[0]", "the command is an empty string"));
        }
        // The last one of a name holds, as for getenv of programs that put them into a table.
        let mut env = process.env().iter().flatten().rev();
        let path = env.find_map(|entry| entry.strip_prefix("PATH="));
        let path = path.unwrap_or(DEFAULT_PATH).to_owned();
        let candidates = candidates(&name, &path)?;
        Ok(Self { name, path, candidates })
    }
}

impl Process {
    /// What a failure of the process itself is about; `None` where it is another's.
    pub(crate) fn explain(&self, root: BorrowedFd<'_>, report: Report) -> Result<Error, Report> {
        let what = match report.part {
            PART_COMMAND => return Ok(explain::command(&self.command, root, &report)),
            PART_CWD => format!("the working directory {}", self.cwd.to_string_lossy()),
            PART_LIMITS => self.limits.describe(report.index),
            PART_LABELS => self.labels.describe(report.index),
            _ => return Err(report),
        };
        Ok(Error::Setup { what, report })
    }
}

/// The paths to try, as execvp(3) does.
fn candidates(command: &str, path: &str) -> Result<Vec<CString>, Error> {
    if command.contains('/') {
        return Ok(vec![c_string("process.args[0]", command)?]);
    }
    path.split(':')
        .map(|dir| match dir {
            "" => format!("./{command}"),
            dir => format!("{}/{command}", dir.trim_end_matches('/')),
        })
        .map(|candidate| c_string("PATH in process.env", &candidate))
        .collect()
}

fn c_string(field: &str, text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| {
        Error::field(field, format!("{text:?} has a NUL byte, which no program can get"))
    })
}

fn c_strings(field: &str, texts: &[String]) -> Result<Vec<CString>, Error> {
    texts.iter().map(|text| c_string(field, text)).collect()
}

/// 4294967295 is -1, "leave it as it is", for the system calls: a way to stay root.
fn id(field: &str, id: u32) -> Result<u32, Error> {
    match id {
        u32::MAX => Err(Error::field(field, "4294967295 is no user or group id")),
        id => Ok(id),
    }
}

/// Child side.
fn is_directory(path: &CStr) -> bool {
    rustix::fs::statat(CWD, path, AtFlags::empty())
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn size(size: oci::Box) -> Winsize {
    let cells = |cells: u64| u16::try_from(cells).unwrap_or(u16::MAX);
    Winsize {
        ws_row: cells(size.height()),
        ws_col: cells(size.width()),
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_looked_for_as_execvp_does() {
        let texts = |command, path| -> Vec<String> {
            let found = candidates(command, path).unwrap();
            found.into_iter().map(|path| path.into_string().unwrap()).collect()
        };
        assert_eq!(texts("sh", "/a:/b/"), ["/a/sh", "/b/sh"]);
        assert_eq!(texts("sh", "/a::"), ["/a/sh", "./sh", "./sh"]);
        assert_eq!(texts("./sh", "/a"), ["./sh"]);
        assert!(candidates("a\0b", "/a").is_err());
    }
}
