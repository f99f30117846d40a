//! `stats`: what containers use.

use std::time::Instant;

use crate::target::Target;
use crate::{Engine, Error, group};

/// What a container uses at a moment.
#[derive(Clone, Debug)]
pub struct ContainerStats {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When.
    pub at: Instant,
    /// Its cgroup's numbers; none where it does not run.
    pub used: Option<cgroup::Stats>,
    /// Bytes that came over its network interfaces, without the loopback's, and that went.
    pub network: (u64, u64),
    /// The most memory that it may have, bytes: its limit, or all that the machine has.
    pub memory_limit: u64,
}

impl Engine {
    /// The numbers of a container now.
    ///
    /// # Errors
    /// There is no such container.
    pub fn stats(&self, container: &str) -> Result<ContainerStats, Error> {
        let (dir, container) = self.find(container)?;
        let state = dir.state()?;
        let runs = Target::of(&state)?.is_some();
        let group = if runs { group::open(&dir)? } else { None };
        let used = match group.map(|group| group.stats()).transpose() {
            // It has ended meanwhile.
            Err(error) if error.is_not_found() => None,
            used => used?,
        };
        let limit = used.as_ref().and_then(|used| used.memory.as_ref()?.limit);
        let all = rustix::system::sysinfo();
        let all = all.totalram.saturating_mul(all.mem_unit.into());
        Ok(ContainerStats {
            id: container.id,
            name: container.name,
            at: Instant::now(),
            network: if runs { network(state.pid) } else { (0, 0) },
            memory_limit: limit.map_or(all, |limit| limit.min(all)),
            used,
        })
    }
}

/// What came and went, by `/proc/PID/net/dev` (proc_pid_net(5)).
fn network(pid: i32) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    text.lines()
        .filter_map(interface)
        .fold((0, 0), |(received, sent), (more_in, more_out)| (received + more_in, sent + more_out))
}

/// Bytes in and out of one line; none for the loopback's and the headings.
fn interface(line: &str) -> Option<(u64, u64)> {
    let (name, numbers) = line.split_once(':')?;
    let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    (name.trim() != "lo").then_some((*numbers.first()?, *numbers.get(8)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_does_not_count() {
        let line = "  eth0: 100 1 0 0 0 0 0 0 200 2 0 0 0 0 0 0";
        assert_eq!(interface(line), Some((100, 200)));
        assert_eq!(interface(&line.replace("eth0", "lo")), None);
        assert_eq!(interface(" face |bytes    packets errs"), None);
    }
}
