//! Limits of memory and swap.

use std::io::ErrorKind;

use rustix::io::Errno;

use crate::convert::swap_alone;
use crate::dir::Dir;
use crate::group::Place;
use crate::limits::Memory;
use crate::set::{given, is_invalid, or_max, or_minus_one, signed, with_hint};
use crate::{Error, Group};

const LIMIT: &str = "memory.limit";
const SWAP: &str = "memory.swap";
const RESERVATION: &str = "memory.reservation";
const KERNEL_TCP: &str = "memory.kernelTCP";
const SWAPPINESS: &str = "memory.swappiness";
const OOM: &str = "memory.disableOOMKiller";

pub(crate) fn apply(group: &Group, memory: &Memory) -> Result<(), Error> {
    let (limit, swap) = (given(memory.limit), given(memory.swap));
    let numbers = [
        (LIMIT, limit),
        (SWAP, swap),
        (RESERVATION, given(memory.reservation)),
        (KERNEL_TCP, given(memory.kernel_tcp)),
    ];
    for (field, number) in numbers {
        if number.is_some_and(|number| number < -1) {
            let reason = "a negative amount is none; -1 is any amount";
            return Err(Error::field(field, reason));
        }
    }
    let swappiness = memory.swappiness;
    if swappiness.is_some_and(|swappiness| swappiness > 100) {
        return Err(Error::field(SWAPPINESS, "it goes from 0 to 100"));
    }
    let killer = memory.disable_oom_killer.filter(|disable| *disable);
    // The first one that limits something.
    let first = numbers.iter().find(|(_, number)| number.is_some_and(|number| number > 0));
    let first = first.map(|(field, _)| *field);
    let first = first.or(swappiness.map(|_| SWAPPINESS)).or(killer.map(|_| OOM));
    let given_any = first.is_some()
        || numbers.iter().any(|(_, number)| number.is_some())
        || memory.disable_oom_killer.is_some();
    if !given_any {
        return Ok(());
    }
    match group.place_if(first.is_some(), first.unwrap_or(LIMIT), "memory")? {
        Some(Place::Legacy(dir)) => legacy(dir, memory, limit, swap),
        Some(Place::Unified(dir)) => {
            if let Some(field) = swappiness.map(|_| SWAPPINESS).or(killer.map(|_| OOM)) {
                let reason = "cgroup v2 has no such thing, and v1's memory controller is not mounted; \
                              leave it out";
                return Err(Error::field(field, reason));
            }
            unified(dir, memory, limit, swap)
        }
        None => Ok(()),
    }
}

/// With `checkBeforeUpdate`, a limit below what is used is refused instead of enforced by killing.
fn check(dir: &Dir, file: &str, memory: &Memory, limit: Option<i64>) -> Result<(), Error> {
    let Some(limit) = limit.and_then(|limit| u64::try_from(limit).ok()) else { return Ok(()) };
    if memory.check_before_update != Some(true) {
        return Ok(());
    }
    match dir.number(file)? {
        usage if usage > limit => {
            let reason = format!("{usage} bytes are in use, which is more than {limit}");
            Err(Error::field(LIMIT, reason))
        }
        _ => Ok(()),
    }
}

fn unified(dir: &Dir, memory: &Memory, limit: Option<i64>, swap: Option<i64>) -> Result<(), Error> {
    check(dir, "memory.current", memory, limit)?;
    // As v1: any amount of memory is any amount of swap too.
    if let Some(together) = swap.or(limit.filter(|limit| *limit == -1)) {
        let of_memory = match limit {
            Some(limit) => limit,
            None => signed(dir, "memory.max")?,
        };
        let alone = swap_alone(together, Some(of_memory))
            .map_err(|reason| Error::field(SWAP, format!("{together}: {reason}")))?;
        match dir.set(SWAP, "memory.swap.max", or_max(alone)) {
            // A kernel that does not count swap has none to forbid, and none to allow.
            Err(error) if error.is_not_found() && alone <= 0 => {}
            done => done?,
        }
    }
    if let Some(limit) = limit {
        dir.set(LIMIT, "memory.max", or_max(limit))?;
    }
    if let Some(reservation) = given(memory.reservation) {
        dir.set(RESERVATION, "memory.low", or_max(reservation))?;
    }
    Ok(())
}

fn legacy(dir: &Dir, memory: &Memory, limit: Option<i64>, swap: Option<i64>) -> Result<(), Error> {
    const LIMIT_FILE: &str = "memory.limit_in_bytes";
    const SWAP_FILE: &str = "memory.memsw.limit_in_bytes";
    if memory.use_hierarchy == Some(true) && dir.number_if_there("memory.use_hierarchy")? == Some(0)
    {
        dir.set("memory.useHierarchy", "memory.use_hierarchy", 1)?;
    }
    check(dir, "memory.usage_in_bytes", memory, limit)?;
    let swap = swap.or(limit.filter(|limit| *limit == -1 && dir.has(SWAP_FILE)));
    let set_limit = || match limit {
        Some(limit) => {
            dir.set(LIMIT, LIMIT_FILE, or_minus_one(limit)).map_err(|error| limit_hint(dir, error))
        }
        None => Ok(()),
    };
    let set_swap = || match swap {
        Some(-1) if !dir.has(SWAP_FILE) => Ok(()),
        Some(swap) => dir.set(SWAP, SWAP_FILE, or_minus_one(swap)).map_err(swap_hint),
        None => Ok(()),
    };
    // The kernel holds memory <= memory and swap after each write: so what grows goes first.
    let swap_grows = match (limit, swap) {
        (Some(_), Some(-1)) => true,
        (Some(_), Some(swap)) => dir.number(LIMIT_FILE)? < u64::try_from(swap).unwrap_or(u64::MAX),
        _ => false,
    };
    if swap_grows {
        set_swap()?;
        set_limit()?;
    } else {
        set_limit()?;
        set_swap()?;
    }
    if let Some(reservation) = given(memory.reservation) {
        dir.set(RESERVATION, "memory.soft_limit_in_bytes", or_minus_one(reservation))?;
    }
    if let Some(kernel_tcp) = given(memory.kernel_tcp) {
        dir.set(KERNEL_TCP, "memory.kmem.tcp.limit_in_bytes", or_minus_one(kernel_tcp))?;
    }
    if let Some(disable) = memory.disable_oom_killer {
        dir.set(OOM, "memory.oom_control", i32::from(disable))?;
    }
    if let Some(swappiness) = memory.swappiness {
        dir.set(SWAPPINESS, "memory.swappiness", swappiness)?;
    }
    Ok(())
}

fn limit_hint(dir: &Dir, error: Error) -> Error {
    let Error::Refused { source, .. } = &error else { return error };
    match Errno::from_io_error(source) {
        Some(Errno::BUSY) => {
            let used = |name| dir.number(name).unwrap_or_default();
            let (now, peak) = (used("memory.usage_in_bytes"), used("memory.max_usage_in_bytes"));
            let hint = format!("{now} bytes are in use, at most there were {peak}; give more");
            with_hint(error, hint)
        }
        Some(Errno::INVAL) => with_hint(
            error,
            "memory must not have more than memory and swap together; give the limit of both too",
        ),
        _ => error,
    }
}

fn swap_hint(error: Error) -> Error {
    match error.source_kind() {
        _ if is_invalid(&error) => with_hint(
            error,
            "memory and swap together must not have less than memory; give the limit of memory too",
        ),
        Some(ErrorKind::NotFound) => with_hint(
            error,
            "the kernel does not count swap; start it with swapaccount=1, or leave it out",
        ),
        _ => error,
    }
}
