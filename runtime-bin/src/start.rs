//! `start`: containers that were made or have ended.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use engine::{Engine, StartRequest};

use crate::cli::StartArgs;
use crate::run::exit_status;
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
    let Some(session) = engine.start(container, request)? else {
        anyhow::bail!(
            "the container {container} runs already, and its output goes to its log: see it with logs -f"
        );
    };
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let status = engine::attach(session, stdin.as_fd(), stdout.as_fd(), args.interactive)?;
    Ok(exit_status(status))
}
