//! `stop`, `kill`, `rm`, `pause`, `unpause` and `update`: the same for each of several containers.

use std::path::Path;
use std::time::Duration;

use engine::{Engine, Error};

use crate::cli::{KillArgs, PauseArgs, RmArgs, StopArgs};
use crate::limits::UpdateArgs;
use crate::log;
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

pub(crate) fn pause(root: &Path, args: &PauseArgs) -> anyhow::Result<u8> {
    let engine = Engine::open(root)?;
    each(&args.containers, |container| engine.pause(container))
}

pub(crate) fn unpause(root: &Path, args: &PauseArgs) -> anyhow::Result<u8> {
    let engine = Engine::open(root)?;
    each(&args.containers, |container| engine.unpause(container))
}

pub(crate) fn update(root: &Path, args: &UpdateArgs) -> anyhow::Result<u8> {
    let engine = Engine::open(root)?.with_warn(log::warn);
    let limits = args.limits.options();
    let restart = args.restart.as_deref().map(str::parse).transpose()?;
    each(&args.containers, |container| engine.update(container, &limits, restart))
}

pub(crate) fn rm(root: &Path, args: &RmArgs) -> anyhow::Result<u8> {
    let engine = Engine::open(root)?;
    let remove = |container: &str| engine.remove(container, args.force, args.volumes);
    // As Docker: with -f it is told that there is nothing to remove, and no failure.
    each_but(&args.containers, remove, |error| {
        args.force && matches!(error, Error::NoSuchContainer { .. })
    })
}

/// Does it for each, and prints the name as it was typed; what failed is told at the end.
pub(crate) fn each(
    containers: &[String],
    act: impl Fn(&str) -> Result<(), Error>,
) -> anyhow::Result<u8> {
    each_but(containers, act, |_| false)
}

/// As [`each`]; errors that are `harmless` are told, and do not count.
fn each_but(
    containers: &[String],
    act: impl Fn(&str) -> Result<(), Error>,
    harmless: impl Fn(&Error) -> bool,
) -> anyhow::Result<u8> {
    let (mut errors, mut failed) = (Vec::new(), false);
    for container in containers {
        match act(container) {
            Ok(()) => output::print(&format!("{}\n", output::printable(container)))?,
            Err(error) => {
                failed |= !harmless(&error);
                errors.push(error.into());
            }
        }
    }
    for error in &errors {
        output::complain("runtime-bin", error);
    }
    Ok(u8::from(failed))
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
