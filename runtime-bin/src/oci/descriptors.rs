//! Descriptors that the caller passes on to the container's process, and the socket that it names for it.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::Path;

use crate::cli::{Cli, Verb};

/// Whether the output of a process with a terminal is shown where none is: this program copies it, to no terminal.
pub(crate) fn copies_to_no_terminal(console_socket: Option<&Path>) -> bool {
    console_socket.is_none() && !std::io::stdout().is_terminal()
}

/// How many descriptors from 3 on the program of a create, run or exec gets: those that systemd passes
/// (sd_listen_fds(3)), and then those of --preserve-fds. Behind the last one that is open nothing is
/// counted: what is opened there later is this program's own.
pub(crate) fn preserved(cli: &Cli) -> u32 {
    let listened = || listen_fds().unwrap_or(0);
    let asked = match &cli.verb {
        Some(Verb::Create(args)) => args.preserve_fds.saturating_add(listened()),
        Some(Verb::Run(args)) => args.create.preserve_fds.saturating_add(listened()),
        Some(Verb::Exec(args)) => args.preserve_fds,
        _ => 0,
    };
    up_to_the_last_open(asked)
}

/// What the container's process is told of the sockets that it gets (sd_listen_fds(3)): it is number 1
/// where it has a PID namespace of its own.
pub(crate) fn listen_env() -> Vec<String> {
    match listen_fds() {
        Some(count) => vec![format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()],
        None => Vec::new(),
    }
}

/// Who is to be told that the container's program is ready (sd_notify(3)).
pub(crate) fn notify_socket() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty())
}

/// How many sockets the caller passes. Without LISTEN_PID they are for this process: a caller that starts
/// it by fork and exec in one cannot know its number (as crun).
fn listen_fds() -> Option<u32> {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    let own = u32::try_from(rustix::process::getpid().as_raw_nonzero().get()).ok();
    let ours = std::env::var_os("LISTEN_PID").is_none() || number("LISTEN_PID") == own;
    number("LISTEN_FDS").filter(|count| *count > 0 && ours)
}

fn up_to_the_last_open(count: u32) -> u32 {
    if count == 0 {
        return 0;
    }
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let mut numbers: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // Not the directory's own, which is closed by now.
    numbers.retain(|number| std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok());
    let last = numbers.into_iter().filter(|number| *number < count.saturating_add(3)).max();
    last.map_or(0, |last| last.saturating_sub(2))
}
