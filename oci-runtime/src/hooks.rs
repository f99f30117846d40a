//! `hooks`: programs that are run at points of a container's life (config.md, "POSIX-platform Hooks";
//! runtime.md, "Lifecycle").

use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cgroup::Join;
use ns_core::{Child, Namespaces, Spawn};
use oci_spec::runtime as oci;
use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;
use sys::exec::Program;

use crate::hook_run::{self, Outputs, Place};
use crate::{Error, PreparedExec};

/// When a hook is run, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HookKind {
    /// In the runtime's namespaces, when the container's are there; deprecated in favour of the next.
    Prestart,
    /// As `prestart`, after those.
    CreateRuntime,
    /// A program of the host, in the container's namespaces, before its root is switched.
    CreateContainer,
    /// A program of the container, as its user, right before its own program runs.
    StartContainer,
    /// In the runtime's namespaces, when the program runs.
    Poststart,
    /// In the runtime's namespaces, when the container is deleted.
    Poststop,
}

/// A list of hooks of the configuration.
type Listed = fn(&oci::Hooks) -> &Option<Vec<oci::Hook>>;

impl HookKind {
    /// All, in the order of a container's life, with the names that the configuration has.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Prestart, "prestart"),
        (Self::CreateRuntime, "createRuntime"),
        (Self::CreateContainer, "createContainer"),
        (Self::StartContainer, "startContainer"),
        (Self::Poststart, "poststart"),
        (Self::Poststop, "poststop"),
    ];

    /// Those that are run while the container's process waits before its root is switched.
    pub(crate) const BEFORE_SWITCH: [Self; 3] =
        [Self::Prestart, Self::CreateRuntime, Self::CreateContainer];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    fn listed(self) -> Listed {
        match self {
            Self::Prestart => oci::Hooks::prestart,
            Self::CreateRuntime => oci::Hooks::create_runtime,
            Self::CreateContainer => oci::Hooks::create_container,
            Self::StartContainer => oci::Hooks::start_container,
            Self::Poststart => oci::Hooks::poststart,
            Self::Poststop => oci::Hooks::poststop,
        }
    }
}

/// The hooks of one container, and what they are told of it.
///
/// [`Prepared::create`](crate::Prepared::create) and [`Created::start`](crate::Created::start) run
/// theirs themselves. This is for a program whose `start` or `delete` is another process: it makes the
/// value again, of the same configuration.
#[derive(Debug)]
pub struct Hooks {
    all: Vec<Hook>,
    id: String,
    bundle: PathBuf,
    /// What the hooks are of; none where there is no hook. Three kilobytes, which a container's own value would have too.
    spec: Option<Box<oci::Spec>>,
    outputs: Outputs,
}

#[derive(Debug)]
struct Hook {
    kind: HookKind,
    index: usize,
    program: Program,
    timeout: Option<Duration>,
}

impl Hooks {
    /// The hooks of `spec`, of the container `id` with the bundle directory `bundle`.
    ///
    /// # Errors
    /// A path is not absolute, a string has a NUL byte, a timeout is not above zero; the bundle's
    /// directory is not there, or a file that is to get the hooks' output cannot be opened.
    pub fn prepare(spec: &oci::Spec, id: &str, bundle: &Path) -> Result<Self, Error> {
        let mut all = Vec::new();
        for (kind, name) in HookKind::ALL {
            let listed = spec.hooks().as_ref().and_then(|hooks| (kind.listed())(hooks).as_ref());
            for (index, hook) in listed.into_iter().flatten().enumerate() {
                let env = || inherited(kind, spec);
                all.push(prepare(kind, index, hook, &format!("hooks.{name}[{index}]"), &env)?);
            }
        }
        let id = id.to_owned();
        if all.is_empty() {
            let (bundle, outputs) = (bundle.to_owned(), Outputs::default());
            return Ok(Self { spec: None, all, id, bundle, outputs });
        }
        let bundle = std::fs::canonicalize(bundle)
            .map_err(Error::io("finding the path of the bundle", bundle))?;
        let outputs = Outputs::open(spec)?;
        Ok(Self { spec: Some(Box::new(spec.clone())), all, id, bundle, outputs })
    }

    /// Whether a configuration has hooks for a container's end.
    pub(crate) fn has_poststop(spec: &oci::Spec) -> bool {
        let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.poststop().as_ref());
        hooks.is_some_and(|hooks| !hooks.is_empty())
    }

    /// Whether a configuration has hooks that run in the container, under its filter.
    pub(crate) fn has_start_container(spec: &oci::Spec) -> bool {
        let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.start_container().as_ref());
        hooks.is_some_and(|hooks| !hooks.is_empty())
    }

    pub(crate) fn set_id(&mut self, id: &str) {
        id.clone_into(&mut self.id);
    }

    pub(crate) fn has(&self, kinds: &[HookKind]) -> bool {
        self.all.iter().any(|hook| kinds.contains(&hook.kind))
    }

    /// The container's state as hooks get it on their standard input (runtime.md, "State"): `status` is
    /// `creating`, `created`, `running` or `stopped`; a stopped container has no `pid`.
    fn state(&self, status: &str, pid: Option<Pid>) -> Vec<u8> {
        let spec = self.spec.as_deref();
        let mut state = serde_json::json!({
            "ociVersion": spec.map(oci::Spec::version), "id": self.id, "status": status,
            "bundle": self.bundle,
            "annotations": spec.and_then(|spec| spec.annotations().clone()).unwrap_or_default(),
        });
        if let Some(pid) = pid {
            state["pid"] = pid.as_raw_nonzero().get().into();
        }
        state.to_string().into_bytes()
    }

    fn of(&self, kind: HookKind) -> impl Iterator<Item = &Hook> {
        self.all.iter().filter(move |hook| hook.kind == kind)
    }

    /// Runs `prestart`, `createRuntime` and `createContainer` hooks, in this order. The container's
    /// process `child` waits before its root is switched, in namespaces of its own of the kinds `own`;
    /// the root is mounted at the host's path `root` there.
    ///
    /// # Errors
    /// One failed ([`Error::Hook`]); the others were not run.
    pub(crate) fn create(
        &self,
        child: &Child,
        own: Namespaces,
        root: Option<&CStr>,
    ) -> Result<(), Error> {
        let state = self.state("creating", Some(child.pid()));
        for kind in [HookKind::Prestart, HookKind::CreateRuntime] {
            self.run_in_runtime(kind, &state)?;
        }
        if !self.has(&[HookKind::CreateContainer]) {
            return Ok(());
        }
        // The root that paths have there: where the container's lies on it already, joining the mount
        // namespace alone would lead to that.
        let host = directory(Path::new(&format!("/proc/{}/root", child.pid())))?;
        // They begin in the container's root, as runc's do.
        let begin = match root {
            Some(path) => sys::below::open(&host, path, OFlags::PATH | OFlags::DIRECTORY).map_err(
                |errno| {
                    let path = path.to_string_lossy().into_owned();
                    Error::io("opening, to run hooks there,", path)(errno.into())
                },
            )?,
            None => directory(Path::new(&format!("/proc/{}/cwd", child.pid())))?,
        };
        let spawn = Spawn::new().join(child.pidfd(), own);
        for hook in self.of(HookKind::CreateContainer) {
            let place = Place { root: Some(host.as_fd()), directory: begin.as_fd() };
            self.run(hook, &spawn, place, &state)?;
        }
        Ok(())
    }

    /// Runs the `prestart` and `createRuntime` hooks of a container that is restored: its first process `pid` is in its
    /// namespaces, and has no memory yet (as runc).
    ///
    /// # Errors
    /// One failed ([`Error::Hook`]); the others were not run.
    pub(crate) fn restore(&self, pid: Pid) -> Result<(), Error> {
        let state = self.state("creating", Some(pid));
        self.run_in_runtime(HookKind::Prestart, &state)?;
        self.run_in_runtime(HookKind::CreateRuntime, &state)
    }

    /// Runs the `startContainer` hooks in the container whose process `pid` (open as `pidfd`) is
    /// created: as its user, with its capabilities, limits and seccomp filter, in its cgroup, which
    /// `join` opens.
    ///
    /// # Errors
    /// One failed ([`Error::Hook`]); the others were not run.
    pub fn start_container(
        &self,
        pidfd: BorrowedFd<'_>,
        pid: Pid,
        join: &dyn Fn() -> Result<Option<Join>, Error>,
    ) -> Result<(), Error> {
        let Some(spec) = &self.spec else { return Ok(()) };
        let Some(process) = spec.process() else { return Ok(()) };
        let state = self.state("created", Some(pid));
        let copy = |fd: BorrowedFd<'_>| {
            fd.try_clone_to_owned().map_err(Error::io("copying a descriptor of", "the container"))
        };
        for hook in self.of(HookKind::StartContainer) {
            let (streams, stdio) = hook_run::Streams::new(&state, &self.outputs)?;
            let mut exec = PreparedExec::hook(copy(pidfd)?, pid, process, stdio, &hook.program)?;
            exec = exec.seccomp(&self.bundle, spec, None)?.id(&self.id);
            if let Some(join) = join()? {
                exec = exec.group(join);
            }
            let running = exec.start().map_err(|error| hook.failed(error.to_string()))?;
            // The last words are runc 1.1's, by which its callers know it; the first are later versions'.
            streams.wait(running.child(), hook.timeout)?.map_err(|reason| {
                hook.failed(format!("{reason}; error running hook in the container"))
            })?;
        }
        Ok(())
    }

    /// Runs the `poststart` hooks of the container whose process is `pid`.
    ///
    /// # Errors
    /// One failed ([`Error::Hook`]); the others were not run, and the container is to be destroyed
    /// (runtime.md, "Lifecycle", 9; since version 1.2.1 of the specification).
    pub fn poststart(&self, pid: Pid) -> Result<(), Error> {
        self.run_in_runtime(HookKind::Poststart, &self.state("running", Some(pid)))
    }

    /// Runs the `poststop` hooks, after the container was destroyed; what fails is a sentence in what
    /// it returns.
    pub fn poststop(&self) -> Vec<String> {
        let state = self.state("stopped", None);
        let run = |hook| self.one_in_runtime(hook, &state).err().map(|error| error.to_string());
        self.of(HookKind::Poststop).filter_map(run).collect()
    }

    fn run_in_runtime(&self, kind: HookKind, state: &[u8]) -> Result<(), Error> {
        self.of(kind).try_for_each(|hook| self.one_in_runtime(hook, state))
    }

    fn one_in_runtime(&self, hook: &Hook, state: &[u8]) -> Result<(), Error> {
        let bundle = directory(&self.bundle)?;
        let place = Place { root: None, directory: bundle.as_fd() };
        self.run(hook, &Spawn::new(), place, state)
    }

    fn run(
        &self,
        hook: &Hook,
        spawn: &Spawn<'_>,
        place: Place<'_>,
        state: &[u8],
    ) -> Result<(), Error> {
        hook_run::run(&hook.program, spawn, place, state, &self.outputs, hook.timeout)?
            .map_err(|reason| hook.failed(reason))
    }
}

impl Hook {
    fn failed(&self, reason: String) -> Error {
        let path =
            self.program.candidates().first().map(|path| path.to_string_lossy().into_owned());
        Error::Hook {
            kind: self.kind.name(),
            index: self.index,
            path: path.unwrap_or_default().into(),
            reason,
        }
    }
}

/// The environment of a hook that has none in the configuration, as runc and crun give it: the runtime's own,
/// or in the container that of its process. An empty list is an empty environment.
fn inherited(kind: HookKind, spec: &oci::Spec) -> Vec<Vec<u8>> {
    if kind == HookKind::StartContainer {
        let process = spec.process().as_ref().and_then(|process| process.env().as_ref());
        return process.into_iter().flatten().map(|entry| entry.clone().into_bytes()).collect();
    }
    let entry = |(name, value): (OsString, OsString)| {
        [name.as_encoded_bytes(), b"=", value.as_encoded_bytes()].concat()
    };
    std::env::vars_os().map(entry).collect()
}

fn prepare(
    kind: HookKind,
    index: usize,
    hook: &oci::Hook,
    field: &str,
    inherited: &dyn Fn() -> Vec<Vec<u8>>,
) -> Result<Hook, Error> {
    let at = |name: &str| format!("{field}.{name}");
    if !hook.path().is_absolute() {
        let reason = format!("{:?} is not absolute", hook.path());
        return Err(Error::field(at("path"), reason));
    }
    let text = |name: &str, text: &[u8]| {
        CString::new(text).map_err(|_| Error::field(at(name), "it has a NUL byte"))
    };
    let path = text("path", hook.path().as_os_str().as_encoded_bytes())?;
    let texts = |name: &str, list: &Option<Vec<String>>| {
        list.iter().flatten().map(|entry| text(name, entry.as_bytes())).collect::<Result<_, _>>()
    };
    let mut args: Vec<CString> = texts("args", hook.args())?;
    if args.is_empty() {
        args.push(path.clone());
    }
    let timeout = match hook.timeout() {
        None => None,
        Some(seconds @ 1..) => Some(Duration::from_secs(seconds.unsigned_abs())),
        Some(seconds) => {
            let reason = format!("{seconds} is not above zero; give the seconds it may take");
            return Err(Error::field(at("timeout"), reason));
        }
    };
    let env = match hook.env() {
        Some(_) => texts("env", hook.env())?,
        None => inherited().iter().map(|entry| text("env", entry)).collect::<Result<_, _>>()?,
    };
    let program = Program::new(vec![path], args, env);
    Ok(Hook { kind, index, program, timeout })
}

fn directory(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| Error::io("opening, to run hooks there,", path)(errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn hooks(hooks: serde_json::Value) -> Result<Hooks, String> {
        let spec = json!({"ociVersion": "1.2.0", "annotations": {"a": "b"}, "hooks": hooks});
        let spec: oci::Spec = serde_json::from_value(spec).unwrap();
        Hooks::prepare(&spec, "id", Path::new("/")).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_wrong_names_its_field() {
        for (value, field) in [
            (json!({"prestart": [{"path": "x"}]}), "hooks.prestart[0].path"),
            (
                json!({"poststop": [{"path": "/x"}, {"path": "/x", "timeout": 0}]}),
                "hooks.poststop[1].timeout",
            ),
            (
                json!({"startContainer": [{"path": "/x", "args": ["a\u{0}"]}]}),
                "hooks.startContainer[0].args",
            ),
        ] {
            let error = hooks(value).unwrap_err();
            assert!(error.starts_with(field), "{error}");
        }
    }

    #[test]
    fn the_state_is_what_the_specification_describes() {
        let hooks = hooks(json!({"poststop": [{"path": "/x"}]})).unwrap();
        let state = |status, pid| -> serde_json::Value {
            serde_json::from_slice(&hooks.state(status, pid)).unwrap()
        };
        let common =
            json!({"ociVersion": "1.2.0", "id": "id", "bundle": "/", "annotations": {"a": "b"}});
        let mut running = common.clone();
        running["status"] = "running".into();
        running["pid"] = 7.into();
        assert_eq!(state("running", Pid::from_raw(7)), running);
        let mut stopped = common;
        stopped["status"] = "stopped".into();
        assert_eq!(state("stopped", None), stopped);
    }
}
