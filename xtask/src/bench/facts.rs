//! The machine and the peers: what a figure means nothing without.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::Options;
use super::bundle::text_of;
use super::site::{self, SMALL_PEERS};
use crate::sh;

/// Processes that want a processor in the mean of a minute, above which a machine is busy.
const BUSY: f64 = 0.5;

/// What stands before the tables.
pub(super) fn tell(options: &Options, quick: bool) -> Result<String> {
    let disk =
        sh::text(Command::new("findmnt").args(["-n", "-o", "FSTYPE", "-T"]).arg(&options.scratch))?;
    let mut text = format!(
        "{}, {}. Starts: medians of {}, in turns, after rounds that do not count. Loads and runs of archives: medians of {} \
         ({} of peers), page cache warm, each into an empty store.\n",
        machine()?,
        disk.trim(),
        options.starts,
        options.rounds,
        options.peer_rounds,
    );
    let load = fs::read_to_string("/proc/loadavg").context("cannot read /proc/loadavg")?;
    let load: f64 = load.split(' ').next().unwrap_or_default().parse()?;
    if load > BUSY {
        text.push_str(&format!("**The machine is busy (load {load}): take the ratios alone.**\n"));
    }
    if quick {
        text.push_str("**A quick run: the figures are rough.**\n");
    }
    text.push('\n');
    for name in SMALL_PEERS.iter().filter(|name| options.small_peers.contains(name)) {
        text.push_str(&match site::small_peer(name) {
            Some(path) => format!("- {}\n", version(&text_of(&path), name)),
            None => format!("- {name} is not installed\n"),
        });
    }
    for peer in &options.peers {
        text.push_str(&match peer.is_there() {
            true => format!("- {}\n", peer.version()?),
            false => format!("- {} is not installed\n", peer.name()),
        });
    }
    text.push('\n');
    Ok(text)
}

/// The machine in one line.
pub(super) fn machine() -> Result<String> {
    let uname = rustix::system::uname();
    let cpus = fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name\t: "));
    let memory = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let kib = memory.lines().next().and_then(|line| line.split_whitespace().nth(1));
    let kib: u64 = kib.and_then(|kib| kib.parse().ok()).unwrap_or(0);
    let mounts =
        fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    let own = fs::read_to_string("/proc/self/cgroup").context("cannot read /proc/self/cgroup")?;
    // A process is in those of v1 too, wherever they are mounted.
    let hidden = hierarchies(&mounts).0 == 0 && own.lines().count() > 1;
    Ok(format!(
        "Linux {}, {} processors ({}), {} GiB, {}{}",
        uname.release().to_string_lossy(),
        std::thread::available_parallelism().map_or(1, usize::from),
        model.unwrap_or("unknown"),
        kib.div_ceil(1 << 20),
        cgroups(&mounts),
        if hidden { " (with v1 out of sight)" } else { "" },
    ))
}

/// Which cgroups there are, by the table of mounts.
pub(crate) fn cgroups(mounts: &str) -> String {
    match hierarchies(mounts) {
        (0, 0) => "no cgroups".to_owned(),
        (0, _) => "cgroup v2".to_owned(),
        (old, 0) => format!("{old} hierarchies of cgroup v1"),
        (old, _) => format!("cgroup v2 and {old} hierarchies of v1"),
    }
}

/// Whether there are some of both versions.
pub(super) fn has_both_cgroups(mounts: &str) -> bool {
    let (old, new) = hierarchies(mounts);
    old > 0 && new > 0
}

/// How many there are of v1 and of v2.
fn hierarchies(mounts: &str) -> (usize, usize) {
    let of =
        |kind: &str| mounts.lines().filter(|line| line.split(' ').nth(2) == Some(kind)).count();
    (of("cgroup"), of("cgroup2"))
}

/// The first line that a program tells of its version.
fn version(program: &str, name: &str) -> String {
    let said = sh::text(Command::new(program).arg("--version")).unwrap_or_default();
    let line = said.lines().next().unwrap_or_default();
    match line.starts_with(name) {
        true => line.to_owned(),
        false => format!("{name}: {line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_are_counted() {
        let hybrid =
            "cgroup /a cgroup rw 0 0\ncgroup /b cgroup rw 0 0\ncgroup2 /c cgroup2 rw 0 0\n";
        assert_eq!(cgroups(hybrid), "cgroup v2 and 2 hierarchies of v1");
        assert_eq!(cgroups("cgroup2 /c cgroup2 rw 0 0\n"), "cgroup v2");
        assert_eq!(cgroups(""), "no cgroups");
        assert!(has_both_cgroups(hybrid) && !has_both_cgroups("cgroup2 /c cgroup2 rw 0 0\n"));
    }
}
