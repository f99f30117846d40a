//! Descriptors that the caller passes on to the container's process.

use crate::cli::{Cli, Verb};

/// How many descriptors from 3 on the program of a create, run or exec gets: those that systemd passes
/// (sd_listen_fds(3)), and then those of --preserve-fds.
///
/// # Errors
/// One of them is not open.
pub(crate) fn preserved(cli: &Cli) -> anyhow::Result<u32> {
    let asked = match &cli.verb {
        Some(Verb::Create(args)) => args.preserve_fds,
        Some(Verb::Run(args)) => args.create.preserve_fds,
        Some(Verb::Exec(args)) => return all_open(args.preserve_fds),
        _ => return Ok(0),
    };
    all_open(asked.saturating_add(listen_fds().unwrap_or(0)))
}

/// What the container's process is told of the sockets that it gets (sd_listen_fds(3)): it is number 1
/// where it has a PID namespace of its own.
pub(crate) fn listen_env() -> Vec<String> {
    match listen_fds() {
        Some(count) => vec![format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()],
        None => Vec::new(),
    }
}

/// How many sockets the caller passes.
fn listen_fds() -> Option<u32> {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    let own = u32::try_from(rustix::process::getpid().as_raw_nonzero().get()).ok();
    number("LISTEN_FDS").filter(|count| *count > 0 && number("LISTEN_PID") == own)
}

fn all_open(count: u32) -> anyhow::Result<u32> {
    for number in 3..count.saturating_add(3) {
        let path = format!("/proc/self/fd/{number}");
        if std::fs::symlink_metadata(&path).is_err() {
            anyhow::bail!(
                "descriptor {number}, of {count} to be preserved, is not open; open it, or give \
                 --preserve-fds a smaller number"
            );
        }
    }
    Ok(count)
}
