//! Limits of processors: shares, time, and which ones.

use crate::convert::weight_of_shares;
use crate::dir::Dir;
use crate::group::Place;
use crate::limits::Cpu;
use crate::set::{either_order, given, is_invalid, or_max, or_minus_one, with_hint};
use crate::{Error, Group};

const SHARES: &str = "cpu.shares";
const QUOTA: &str = "cpu.quota";
const PERIOD: &str = "cpu.period";
const BURST: &str = "cpu.burst";
const IDLE: &str = "cpu.idle";
const RT_RUNTIME: &str = "cpu.realtimeRuntime";
const RT_PERIOD: &str = "cpu.realtimePeriod";
/// The kernel's own, µs.
const USUAL_PERIOD: u64 = 100_000;

pub(crate) fn apply(group: &Group, cpu: &Cpu) -> Result<(), Error> {
    let field = [
        (SHARES, given(cpu.shares).is_some()),
        (QUOTA, given(cpu.quota).is_some_and(|quota| quota > 0)),
        (PERIOD, given(cpu.period).is_some()),
        (BURST, given(cpu.burst).is_some()),
        (IDLE, given(cpu.idle).is_some()),
        (RT_PERIOD, given(cpu.realtime_period).is_some()),
        (RT_RUNTIME, given(cpu.realtime_runtime).is_some()),
    ];
    let first = field.iter().find(|(_, is_given)| *is_given).map(|(field, _)| *field);
    if let Some(idle) = cpu.idle.filter(|idle| !matches!(idle, 0 | 1)) {
        return Err(Error::field(IDLE, format!("{idle} is neither 0 nor 1")));
    }
    if first.is_some() || cpu.quota.is_some() || cpu.idle.is_some() || cpu.burst.is_some() {
        match group.place_if(first.is_some(), first.unwrap_or(QUOTA), "cpu")? {
            Some(Place::Legacy(dir)) => legacy(dir, cpu)?,
            Some(Place::Unified(dir)) => unified(dir, cpu)?,
            None => {}
        }
    }
    for (field, file, list) in
        [("cpu.cpus", "cpuset.cpus", &cpu.cpus), ("cpu.mems", "cpuset.mems", &cpu.mems)]
    {
        if let Some(list) = given(list.as_deref()) {
            let (Place::Legacy(dir) | Place::Unified(dir)) = group.place(field, "cpuset")?;
            dir.set(field, file, list).map_err(|error| cpuset_hint(dir, file, error))?;
        }
    }
    Ok(())
}

fn cpuset_hint(dir: &Dir, file: &str, error: Error) -> Error {
    let have = |name: &str| dir.parent().read(name).ok().filter(|list| !list.trim().is_empty());
    let above = have(&format!("{file}.effective")).or_else(|| have(file));
    match above {
        Some(above) => with_hint(error, format!("the group above it has {}", above.trim())),
        None => error,
    }
}

/// Sets the share, and whether the group runs only where nobody else does: such a group takes no share.
fn share(dir: &Dir, idle: Option<i64>, set: impl Fn() -> Result<(), Error>) -> Result<(), Error> {
    let set_idle = |idle| match idle {
        // Where the kernel has no such thing the group is not idle anyway.
        Some(0) if !dir.has("cpu.idle") => Ok(()),
        Some(idle) => dir.set(IDLE, "cpu.idle", idle),
        None => Ok(()),
    };
    if idle == Some(1) {
        match set() {
            Err(error) if is_invalid(&error) && dir.number("cpu.idle")? == 1 => {}
            done => done?,
        }
        return set_idle(idle);
    }
    set_idle(idle)?;
    set().map_err(|error| match dir.number_if_there("cpu.idle") {
        Ok(Some(1)) => {
            with_hint(error, "the group is idle, which has no share; set cpu.idle to 0 too")
        }
        _ => error,
    })
}

fn unified(dir: &Dir, cpu: &Cpu) -> Result<(), Error> {
    for (field, is_given) in [
        (RT_RUNTIME, given(cpu.realtime_runtime).is_some()),
        (RT_PERIOD, given(cpu.realtime_period).is_some()),
    ] {
        if is_given {
            let reason = "cgroup v2 has no real-time limits; leave it out";
            return Err(Error::field(field, reason));
        }
    }
    share(dir, cpu.idle, || match given(cpu.shares) {
        Some(shares) => dir.set(SHARES, "cpu.weight", weight_of_shares(shares)),
        None => Ok(()),
    })?;
    let (quota, period) = (given(cpu.quota), given(cpu.period));
    let set_time = || {
        if quota.is_none() && period.is_none() {
            return Ok(());
        }
        let field = if quota.is_some() { QUOTA } else { PERIOD };
        let now = dir.read("cpu.max")?;
        let mut words = now.split_ascii_whitespace();
        let (quota_now, period_now) = (words.next().unwrap_or("max"), words.next());
        let quota = quota.map_or(quota_now.to_owned(), or_max);
        let period = period.map(|period| period.to_string());
        let period = period.or(period_now.map(str::to_owned));
        let period = period.unwrap_or_else(|| USUAL_PERIOD.to_string());
        dir.set(field, "cpu.max", format!("{quota} {period}")).map_err(time_hint)
    };
    match cpu.burst {
        Some(burst) => either_order(|| set_burst(dir, "cpu.max.burst", burst), set_time),
        None => set_time(),
    }
}

fn legacy(dir: &Dir, cpu: &Cpu) -> Result<(), Error> {
    share(dir, cpu.idle, || match given(cpu.shares) {
        Some(shares) => set_shares(dir, shares),
        None => Ok(()),
    })?;
    let (quota, period) = (given(cpu.quota), given(cpu.period));
    let set_quota = || match quota {
        Some(quota) => dir.set(QUOTA, "cpu.cfs_quota_us", or_minus_one(quota)).map_err(time_hint),
        None => Ok(()),
    };
    // A shorter period with the old quota may be more than the group above has.
    let set_time = || match period {
        Some(period) => either_order(
            || dir.set(PERIOD, "cpu.cfs_period_us", period).map_err(time_hint),
            set_quota,
        ),
        None => set_quota(),
    };
    match cpu.burst {
        Some(burst) => either_order(|| set_burst(dir, "cpu.cfs_burst_us", burst), set_time)?,
        None => set_time()?,
    }
    let set_period = || match given(cpu.realtime_period) {
        Some(period) => dir.set(RT_PERIOD, "cpu.rt_period_us", period).map_err(realtime_hint),
        None => Ok(()),
    };
    either_order(set_period, || match given(cpu.realtime_runtime) {
        Some(runtime) => dir.set(RT_RUNTIME, "cpu.rt_runtime_us", runtime).map_err(realtime_hint),
        None => Ok(()),
    })
}

fn set_burst(dir: &Dir, file: &str, burst: u64) -> Result<(), Error> {
    match dir.set(BURST, file, burst) {
        // A kernel without bursts (before 5.14) has none.
        Err(error) if burst == 0 && error.is_not_found() => Ok(()),
        done => done.map_err(|error| {
            let invalid = is_invalid(&error);
            if invalid { with_hint(error, "it must not be more than the quota") } else { error }
        }),
    }
}

/// v1 takes every number and keeps what fits.
fn set_shares(dir: &Dir, shares: u64) -> Result<(), Error> {
    const FILE: &str = "cpu.shares";
    dir.set(SHARES, FILE, shares)?;
    match dir.number(FILE)? {
        kept if kept < shares => {
            Err(Error::field(SHARES, format!("{shares} is too many; {kept} is the most")))
        }
        kept if kept > shares => {
            Err(Error::field(SHARES, format!("{shares} is too few; {kept} is the least")))
        }
        _ => Ok(()),
    }
}

fn time_hint(error: Error) -> Error {
    if !is_invalid(&error) {
        return error;
    }
    with_hint(
        error,
        "a period is 1000 to 1000000 µs, a quota 1000 µs or more, and not more than the group above has",
    )
}

fn realtime_hint(error: Error) -> Error {
    if !is_invalid(&error) {
        return error;
    }
    with_hint(error, "it must fit in what the group above has, which has none if it was given none")
}
