//! `exec`: a further process in a container that runs.

use std::os::fd::AsFd;
use std::time::Duration;

use oci_runtime::{PreparedExec, Stdio};

use crate::dir::Dir;
use crate::events::Exec;
use crate::holder::Holder;
use crate::output::Pipes;
use crate::session::Watch;
use crate::target::Target;
use crate::{
    Container, Engine, Error, ExecRequest, Session, State, attach, bundle, group, output, process,
    seccomp, view,
};

impl Engine {
    /// Runs a further program in the container of this name or id. As for [`Engine::run`], the calling
    /// program must have a single thread: a process that holds the program's input and output is split
    /// off it. Unless `request.detach`, the
    /// signals that [`attach`](crate::attach()) passes on are blocked in the calling thread from then
    /// on.
    ///
    /// # Errors
    /// There is no such container, it does not run ([`Error::NotRunning`]), the user is not there, or
    /// the program cannot be executed.
    pub fn exec(&self, container: &str, request: &ExecRequest) -> Result<Session, Error> {
        let (dir, container) = self.find(container)?;
        let state = dir.state()?;
        let Some(target) = Target::of(&state)? else { return Err(Error::not_running(&container)) };
        match start(&dir, &container, request, target) {
            // Whatever failed then failed for that. (A command that is missing is missing all the same.)
            Err(error) if error.exit_code() == 125 && has_ended(&state)? => {
                Err(Error::not_running(&container))
            }
            started => started,
        }
    }
}

/// How long a process that ends may be there without a root and namespaces.
const ENDING: Duration = Duration::from_millis(50);

/// Whether the container's process has ended, or is about to.
pub(crate) fn has_ended(state: &State) -> Result<bool, Error> {
    Target::of(state)?.map_or(Ok(true), |target| target.wait(ENDING))
}

fn start(
    dir: &Dir,
    container: &Container,
    request: &ExecRequest,
    target: Target,
) -> Result<Session, Error> {
    let stdin = request.interactive && !request.detach;
    let (stdio, pipes) = match request.detach {
        true => (Stdio::null()?, Pipes::default()),
        false => output::open(request.tty, stdin)?,
    };
    let prepared = prepare(dir, container, request, target, stdio)?;
    let told = Exec::create(dir, container, &request.command);
    if !request.detach {
        attach::hold_signals()?;
    }
    let (listens, input) = (!request.detach, stdin);
    let hold = |channel| Holder { prepared, channel, pipes, listens, input, told }.run();
    let session = Session::split(&container.id, Watch::Holder, hold)?;
    Ok(session.streams(request.tty, stdin))
}

/// Prepares a program with this standard input and output in the container whose process is `target`.
pub(crate) fn prepare(
    dir: &Dir,
    container: &Container,
    request: &ExecRequest,
    target: Target,
    stdio: Stdio,
) -> Result<PreparedExec, Error> {
    let root = view::of_process(&target, container)?;
    let mut process = process::exec(container, request, root.as_fd())?;
    bundle::set_size(&mut process);
    let prepared = PreparedExec::new(target.pidfd, target.pid, &process, stdio)?;
    // The filter is the container's, whatever else the process has (as in Docker).
    let spec = oci_runtime::load(dir.path())?;
    let cache = seccomp::cache(dir);
    let prepared = prepared.seccomp(dir.path(), &spec, cache.as_ref().map(AsFd::as_fd))?;
    let group = group::of_running(dir, container)?;
    if group.is_frozen()? {
        return Err(Error::paused(container, "a command in it would not run"));
    }
    Ok(prepared.group(group.join()?))
}
