//! `start` and `attach`: containers that were made or have ended, and those that run.

use std::path::Path;

use engine::{Engine, StartRequest};

use crate::cli::{AttachArgs, StartArgs};
use crate::run::{self, check_terminal};
use crate::several::each;

/// Starts each container and prints its name; with `-a` or `-i` the one, and returns its exit status.
pub(crate) fn start(root: &Path, args: &StartArgs) -> anyhow::Result<u8> {
    let engine = Engine::open(root)?;
    let request = StartRequest { attach: args.attach, interactive: args.interactive };
    if !args.attach && !args.interactive {
        return each(&args.containers, |container| engine.start(container, request).map(drop));
    }
    let [container] = args.containers.as_slice() else {
        anyhow::bail!("you cannot start and attach multiple containers at once");
    };
    let keys = args.detach_keys.read()?;
    let session = match engine.start(container, request)? {
        Some(session) => session,
        // It runs already.
        None => engine.attach(container, args.interactive)?,
    };
    run::attach(session, args.interactive, args.sig_proxy, keys)
}

/// Joins a container that runs, and returns its exit status.
pub(crate) fn attach(root: &Path, args: &AttachArgs) -> anyhow::Result<u8> {
    let keys = args.detach_keys.read()?;
    let session = Engine::open(root)?.attach(&args.container, !args.no_stdin)?;
    let input = !args.no_stdin && session.takes_input();
    check_terminal(input, session.has_terminal(), false)?;
    run::attach(session, input, args.sig_proxy, keys)
}
