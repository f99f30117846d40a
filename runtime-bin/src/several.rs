//! `stop`, `kill` and `rm`: the same for each of several containers.

use std::path::Path;
use std::time::Duration;

use engine::{Engine, Error};

use crate::cli::{KillArgs, RmArgs, StopArgs};
use crate::output;

pub(crate) fn stop(root: &Path, args: &StopArgs) -> anyhow::Result<u8> {
    let engine = Engine::open(root)?;
    let timeout = args.timeout.map(timeout);
    each(&args.containers, |container| engine.stop(container, timeout))
}

pub(crate) fn restart(root: &Path, args: &StopArgs) -> anyhow::Result<u8> {
    let engine = Engine::open(root)?;
    let timeout = args.timeout.map(timeout);
    each(&args.containers, |container| engine.restart(container, timeout))
}

/// `-1` is no limit: more than a hundred years, which every clock can still add.
fn timeout(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(u32::MAX.into()))
}

pub(crate) fn kill(root: &Path, args: &KillArgs) -> anyhow::Result<u8> {
    let engine = Engine::open(root)?;
    each(&args.containers, |container| engine.kill(container, &args.signal))
}

pub(crate) fn rm(root: &Path, args: &RmArgs) -> anyhow::Result<u8> {
    let engine = Engine::open(root)?;
    each(&args.containers, |container| engine.remove(container, args.force, args.volumes))
}

/// Does it for each, and prints the name as it was typed; what failed is told at the end.
pub(crate) fn each(
    containers: &[String],
    act: impl Fn(&str) -> Result<(), Error>,
) -> anyhow::Result<u8> {
    let mut errors = Vec::new();
    for container in containers {
        match act(container) {
            Ok(()) => output::print(&format!("{}\n", output::printable(container)))?,
            Err(error) => errors.push(error.into()),
        }
    }
    for error in &errors {
        output::complain("runtime-bin", error);
    }
    Ok(u8::from(!errors.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn a_failure_does_not_keep_the_others_from_it() {
        let done = RefCell::new(Vec::new());
        let act = |container: &str| {
            done.borrow_mut().push(container.to_owned());
            match container {
                "b" => Err(Error::Signal("X".to_owned())),
                _ => Ok(()),
            }
        };
        let containers = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(each(&containers, act).unwrap(), 1);
        assert_eq!(done.take(), containers);
        assert_eq!(each(&containers, |_| Ok(())).unwrap(), 0);
    }

    #[test]
    fn no_limit_is_a_very_long_time() {
        assert_eq!(timeout(0), Duration::ZERO);
        assert_eq!(timeout(10), Duration::from_secs(10));
        assert!(std::time::Instant::now().checked_add(timeout(-1)).is_some());
        assert!(timeout(-1) > Duration::from_secs(100 * 365 * 24 * 3600));
    }
}
