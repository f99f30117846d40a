//! `linux.seccomp`: made a program of in the parent, installed in the child, and the listener of calls
//! that are put to somebody handed to an agent (config-linux.md, "Seccomp").
//!
//! **When.** Without `no_new_privs` the kernel wants CAP_SYS_ADMIN of who installs a filter, so that
//! runc installs it before it gives up the capabilities, and each filter has to allow what comes after
//! that. Here the process keeps this one capability until the exec, which takes it from it: whatever a
//! process has, its program gets what the bounding, inheritable and ambient sets say
//! (capabilities(7), "Transformation of capabilities during execve()"), and these are set before. So
//! the filter is installed last, and all that it has to allow is the exec.
//!
//! A filter with a listener is the exception: its creator hands the listener over, and may not be
//! there any more when the container is started. It is installed before the process waits for that.

use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ns_core::Gate;
use oci_spec::runtime as oci;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::process::Pid;
use seccomp_oci::{Action, Arch, Compiled, Filter, Kept, Program};
use sys::seccomp::Flags;
use sys::{Failure, Step};

use crate::Error;
use crate::config::Text;
use crate::parts::Phase;

const FIELD: &str = "linux.seccomp";
/// An agent that does not take what it is sent must not hold up the start for ever.
const PATIENCE: Duration = Duration::from_secs(10);

/// A filter that can be installed.
#[derive(Debug)]
pub(crate) struct Seccomp {
    program: Program,
    agent: Option<Agent>,
    /// Names of the filter that other architectures have alone.
    foreign: Vec<String>,
}

/// Who is asked about calls, and what it is told of the container.
#[derive(Debug)]
struct Agent {
    path: PathBuf,
    metadata: Option<String>,
    state: oci::State,
}

/// That some names of a filter are `what`, if there are any.
fn skipped(what: &str, names: &[String]) -> Option<String> {
    let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    let said = || {
        format!(
            "{FIELD}.syscalls: {what}, and what is said of them is skipped: {}",
            names.join(", ")
        )
    };
    (!names.is_empty()).then(said)
}

impl Seccomp {
    /// That of `spec`, of the bundle `dir`; programs are kept in `cache`, a directory of the caller's, by the filter's `text`
    /// where that is known.
    pub(crate) fn prepare(
        dir: &Path,
        spec: &oci::Spec,
        text: Option<&Text>,
        cache: Option<BorrowedFd<'_>>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Self>, Error> {
        let linux = spec.linux().as_ref();
        let Some(seccomp) = linux.and_then(|linux| linux.seccomp().as_ref()) else {
            return Ok(None);
        };
        if let Some(program) = text.and_then(|text| text.program.clone()) {
            return Ok(Some(Self::made(program, None, warnings)));
        }
        let machine = Arch::native().ok_or_else(|| {
            Error::field(
                FIELD,
                "there are no filters for this machine's architecture; leave it out",
            )
        })?;
        // A filter with an agent is read each time: for where that is.
        let kept = cache.filter(|_| seccomp.listener_path().is_none());
        let kept = kept.and_then(|cache| match text {
            Some(text) => Kept::of(&text.json, machine, cache),
            None => Kept::of(seccomp, machine, cache),
        });
        let mut agent = None;
        let compiled = match kept.as_ref().and_then(find) {
            Some(compiled) => compiled,
            None => {
                let filter = filter(seccomp)?;
                agent = filter.notifies().then(|| Agent::new(dir, spec, &filter));
                let compiled = seccomp_oci::compile(&filter, machine)
                    .map_err(|error| Error::Seccomp(error.below(FIELD)))?;
                // What is wrong with a cache costs time alone, the next time too.
                let _ = kept.as_ref().map(|kept| kept.keep(&compiled));
                compiled
            }
        };
        Ok(Some(Self::made(compiled, agent, warnings)))
    }

    fn made(compiled: Compiled, agent: Option<Agent>, warnings: &mut Vec<String>) -> Self {
        let Compiled { program, unknown, without_table } = compiled;
        // Profiles are made for all architectures, Podman's own as well. `podman build` shows warnings at each step, and
        // Podman takes none but a single line for an error: calls that others have are told to who asks.
        let (foreign, unknown): (Vec<String>, Vec<String>) =
            unknown.into_iter().partition(|name| Arch::any_knows(name));
        let unknown = skipped("no system calls here", &unknown);
        let without_table = without_table.iter().map(|arch| {
            format!(
                "{FIELD}.architectures: the calls of {arch} are not known by name; they are killed"
            )
        });
        warnings.extend(unknown.into_iter().chain(without_table));
        Self { program, agent, foreign }
    }

    /// Of a filter that was compiled before, for a container whose creator was told of its names.
    pub(crate) fn of(program: Program) -> Self {
        Self { program, agent: None, foreign: Vec::new() }
    }

    /// That the filter names system calls which other architectures have, as a sentence.
    pub(crate) fn foreign(&self) -> Option<String> {
        skipped("system calls of other architectures", &self.foreign)
    }

    /// Child side, last before the exec.
    pub(crate) fn install_last(&self) -> Result<(), Failure> {
        match self.agent {
            None => self.install().map(drop),
            Some(_) => Ok(()),
        }
    }

    /// Whether a listener of its calls goes to the parent.
    pub(crate) fn has_listener(&self) -> bool {
        self.agent.is_some()
    }

    /// Child side, while the creator is there: a filter with a listener, which goes to it.
    pub(crate) fn install_listener(&self, gate: Gate<'_>) -> Result<(), Failure> {
        if !self.has_listener() {
            return Ok(());
        }
        let listener = self.install()?;
        gate.tell(Phase::Listener as u8, listener.as_ref().map(AsFd::as_fd))
    }

    fn install(&self) -> Result<Option<OwnedFd>, Failure> {
        sys::seccomp::load(self.program.instructions(), self.program.flags())
            .step("installing the seccomp filter")
    }

    /// Parent side: hands the listener of the process `pid` to the agent.
    pub(crate) fn hand_over(
        &self,
        pid: Pid,
        status: oci::ContainerState,
        listener: Option<OwnedFd>,
    ) -> Result<(), Error> {
        match (&self.agent, listener) {
            (Some(agent), Some(listener)) => agent.tell(pid, status, listener.as_fd()),
            _ => Ok(()),
        }
    }

    pub(crate) fn set_id(&mut self, id: &str) {
        if let Some(agent) = &mut self.agent {
            agent.state.set_id(id.to_owned());
        }
    }
}

/// The program that is kept. One that has an agent was kept by somebody else: its filter is read each time.
pub(crate) fn find(kept: &Kept<'_>) -> Option<Compiled> {
    kept.find().filter(|one| !one.program.flags().contains(Flags::NEW_LISTENER))
}

/// The filter by the types of its compiler: these and oci-spec's are both those of the specification's JSON.
fn filter(seccomp: &oci::LinuxSeccomp) -> Result<Filter, Error> {
    let filter: Filter = serde_json::to_value(seccomp)
        .and_then(serde_json::from_value)
        .map_err(|error| Error::field(FIELD, error.to_string()))?;
    can_be_asked(&filter)?;
    Ok(filter)
}

/// Calls that are made between the filter's installation and the agent's answer cannot be put to it:
/// runc makes write, and this program sendmsg.
fn can_be_asked(filter: &Filter) -> Result<(), Error> {
    if filter.default_action == Action::Notify {
        let reason = "SCMP_ACT_NOTIFY cannot be the default: the start itself would wait for ever";
        return Err(Error::field(format!("{FIELD}.defaultAction"), reason));
    }
    for (number, rule) in filter.syscalls.iter().enumerate() {
        let own = rule.names.iter().find(|name| matches!(&name[..], "write" | "sendmsg"));
        if let Some(name) = own.filter(|_| rule.action == Action::Notify) {
            let reason = format!(
                "SCMP_ACT_NOTIFY cannot be used for the {name} syscall: the listener could not be \
                 handed over"
            );
            return Err(Error::field(format!("{FIELD}.syscalls[{number}].action"), reason));
        }
    }
    Ok(())
}

impl Agent {
    fn new(dir: &Path, spec: &oci::Spec, filter: &Filter) -> Self {
        let mut state = oci::State::default();
        state.set_version(spec.version().clone());
        // Until somebody says it: the bundles of engines are named after their containers.
        state.set_id(dir.file_name().unwrap_or_default().to_string_lossy().into_owned());
        state.set_bundle(dir.to_owned());
        state.set_annotations(spec.annotations().clone());
        Self {
            path: filter.listener_path.clone().unwrap_or_default().into(),
            metadata: filter.listener_metadata.clone(),
            state,
        }
    }

    fn tell(
        &self,
        pid: Pid,
        status: oci::ContainerState,
        listener: BorrowedFd<'_>,
    ) -> Result<(), Error> {
        let failed = |op| Error::io(op, &self.path);
        let pid = pid.as_raw_nonzero().get();
        let mut state = self.state.clone();
        state.set_status(status).set_pid(Some(pid));
        let mut told = oci::ContainerProcessState::default();
        told.set_version(state.version().clone())
            .set_fds(vec![oci::SECCOMP_FD_NAME.to_owned()])
            .set_pid(pid)
            .set_metadata(self.metadata.clone())
            .set_state(state);
        let op = "describing the container to the seccomp agent at";
        let json = serde_json::to_vec(&told).map_err(|error| failed(op)(error.into()))?;
        let op = "failed to connect with seccomp agent of linux.seccomp.listenerPath at";
        let mut socket = connect(&self.path).map_err(failed(op))?;
        let sent = socket.set_write_timeout(Some(PATIENCE)).and_then(|()| {
            let count = send_first(&socket, &json, listener)?;
            socket.write_all(&json[count..])
        });
        sent.map_err(failed("sending the listener to the seccomp agent at"))
    }
}

/// By a descriptor of its directory, since a socket's path may be 107 bytes long and no longer.
fn connect(path: &Path) -> std::io::Result<UnixStream> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL.into());
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(parent, flags, Mode::empty())?;
    UnixStream::connect(sys::process::proc_path(dir.as_fd()).join(name))
}

/// The descriptor goes with the first bytes.
fn send_first(
    socket: &UnixStream,
    bytes: &[u8],
    descriptor: BorrowedFd<'_>,
) -> std::io::Result<usize> {
    let descriptors = [descriptor];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Errno::INVAL.into());
    }
    let bytes = [IoSlice::new(bytes)];
    let send = || rustix::net::sendmsg(socket, &bytes, &mut ancillary, SendFlags::NOSIGNAL);
    Ok(rustix::io::retry_on_intr(send)?)
}
