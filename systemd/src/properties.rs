//! Limits as properties of a unit (systemd.resource-control(5)).
//!
//! systemd writes its units' files again when it likes: at `systemctl daemon-reload`, at a change of another property.
//! So it gets all limits that it has properties for, and what it has none for stays as it is written besides. The
//! same limits are written to the files by the crate cgroup, which tells of those that cannot be.

use cgroup::Limits;
use cgroup::convert::{io_weight, swap_alone, weight_of_shares};
use zvariant::Value;

use crate::{Property, devices};

/// As systemd has "infinity".
const ANY: u64 = u64::MAX;
/// The kernel's own period, µs.
const USUAL_PERIOD: u64 = 100_000;
/// What systemd keeps quotas in: 1 % of a processor, in µs of each second.
const PERCENT: u64 = 10_000;
/// Processors and memory nodes that a list may name: the kernel's own limit (CONFIG_NR_CPUS) is 8,192.
const MOST_CPUS: usize = 8_192;

/// What systemd runs on, and which one it is.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Whether all controllers are on v2's side.
    pub unified: bool,
    /// systemd's version.
    pub version: u32,
}

/// What every container's unit gets: numbers of all that is counted.
pub fn accounting(machine: Machine) -> Vec<Property> {
    let io = if machine.unified { "IOAccounting" } else { "BlockIOAccounting" };
    ["MemoryAccounting", "CPUAccounting", io, "TasksAccounting"]
        .map(|name| (name.to_owned(), true.into()))
        .into()
}

/// The properties of the limits that are given. What has no meaning is left out: who writes the files tells of it.
pub fn of_limits(limits: &Limits, machine: Machine) -> Vec<Property> {
    let mut all = All { machine, list: Vec::new() };
    // v2's devices are a program of the crate cgroup's, which systemd leaves where it is.
    if let (false, Some(rules)) = (machine.unified, &limits.devices) {
        all.list.extend(devices::properties(rules));
    }
    all.memory(limits);
    all.cpu(limits);
    if let Some(most) = given(limits.pids) {
        all.push("TasksMax", u64::try_from(most).unwrap_or(ANY));
    }
    if let Some(weight) = given(limits.block_io.weight) {
        match machine.unified {
            true => all.push("IOWeight", io_weight(weight)),
            false => all.push("BlockIOWeight", u64::from(weight)),
        }
    }
    if machine.unified {
        // cpu.idle is about the share, and comes after it; keys are in the order of their names.
        let mut files: Vec<_> = limits.unified.iter().collect();
        files.sort_by_key(|(file, _)| *file == "cpu.idle");
        files.into_iter().for_each(|(file, text)| all.file(file, text.trim()));
    }
    all.list
}

/// What only a unit that is made can get: whether all of it ends when one of its processes is killed for want of
/// memory.
pub fn at_start(limits: &Limits, machine: Machine) -> Vec<Property> {
    let group = limits.unified.get("memory.oom.group").map(|text| text.trim());
    let policy = match group {
        Some("0") => "continue",
        Some("1") => "kill",
        _ => return Vec::new(),
    };
    match machine.unified && machine.version >= 253 {
        true => vec![("OOMPolicy".to_owned(), policy.into())],
        false => Vec::new(),
    }
}

/// Rounds a quota up to what systemd keeps, 1 % of a processor, as runc does: the file and systemd then have the
/// same.
pub fn round_quota(limits: &mut Limits) {
    let period = given(limits.cpu.period).unwrap_or(USUAL_PERIOD);
    let Some(quota) = limits.cpu.quota.and_then(|quota| u64::try_from(quota).ok()) else { return };
    let whole = u128::from(per_second(quota, period)) * u128::from(period) / 1_000_000;
    if let Ok(whole @ 1..) = i64::try_from(whole) {
        limits.cpu.quota = Some(whole);
    }
}

/// A quota in each second, µs, rounded up to 1 %.
fn per_second(quota: u64, period: u64) -> u64 {
    let exact = u128::from(quota) * 1_000_000 / u128::from(period.max(1));
    let exact = u64::try_from(exact).unwrap_or(ANY - PERCENT).min(ANY - PERCENT);
    exact.div_ceil(PERCENT) * PERCENT
}

struct All {
    machine: Machine,
    list: Vec<Property>,
}

impl All {
    fn push(&mut self, name: &str, value: impl Into<Value<'static>>) {
        self.list.push((name.to_owned(), value.into()));
    }

    fn memory(&mut self, limits: &Limits) {
        let memory = &limits.memory;
        let (limit, swap) = (given(memory.limit), given(memory.swap));
        // -1 is any amount, and so it is in systemd's numbers.
        let bytes = |number: i64| u64::try_from(number).unwrap_or(ANY);
        if !self.machine.unified {
            // v1's other limits systemd does not have.
            if let Some(limit) = limit {
                self.push("MemoryLimit", bytes(limit));
            }
            return;
        }
        if let Some(limit) = limit {
            self.push("MemoryMax", bytes(limit));
        }
        if let Some(reservation) = given(memory.reservation) {
            self.push("MemoryLow", bytes(reservation));
        }
        let together = swap.or(limit.filter(|limit| *limit == -1));
        if let Some(Ok(alone)) = together.map(|together| swap_alone(together, limit)) {
            self.push("MemorySwapMax", bytes(alone));
        }
    }

    fn cpu(&mut self, limits: &Limits) {
        let cpu = &limits.cpu;
        let shares = given(cpu.shares);
        match (cpu.idle, shares, self.machine.unified) {
            (Some(1), _, true) if self.machine.version >= 252 => self.push("CPUWeight", 0_u64),
            (_, Some(shares), true) => self.push("CPUWeight", weight_of_shares(shares)),
            (_, Some(shares), false) => self.push("CPUShares", shares),
            (_, None, _) => {}
        }
        self.quota(given(cpu.quota), given(cpu.period));
        for (name, list) in [("AllowedCPUs", &cpu.cpus), ("AllowedMemoryNodes", &cpu.mems)] {
            if let Some(list) = list {
                self.set(name, list);
            }
        }
    }

    fn quota(&mut self, quota: Option<i64>, period: Option<u64>) {
        if let Some(period) = period
            && self.machine.version >= 242
        {
            self.push("CPUQuotaPeriodUSec", period);
        }
        if let Some(quota) = quota {
            let quota = u64::try_from(quota).ok();
            let of = quota.map(|quota| per_second(quota, period.unwrap_or(USUAL_PERIOD)));
            self.push("CPUQuotaPerSecUSec", of.unwrap_or(ANY));
        }
    }

    /// Processors or memory nodes.
    fn set(&mut self, name: &str, list: &str) {
        if let (Some(bits), true) = (bits(list), self.machine.version >= 244) {
            self.push(name, bits);
        }
    }

    /// A file of v2 that is written as it is given.
    fn file(&mut self, file: &str, text: &str) {
        let number = || if text == "max" { Some(ANY) } else { text.parse::<u64>().ok() };
        let name = match file {
            "cpu.idle" if text == "1" && self.machine.version >= 252 => {
                return self.push("CPUWeight", 0_u64);
            }
            "cpu.max" => {
                let mut words = text.split_whitespace();
                let (quota, period) = (words.next(), words.next());
                let quota = quota.and_then(|quota| match quota {
                    "max" => Some(-1),
                    quota => quota.parse().ok(),
                });
                return self.quota(quota, period.and_then(|period| period.parse().ok()));
            }
            "cpuset.cpus" => return self.set("AllowedCPUs", text),
            "cpuset.mems" => return self.set("AllowedMemoryNodes", text),
            "cpu.weight" => "CPUWeight",
            "memory.high" => "MemoryHigh",
            "memory.low" => "MemoryLow",
            "memory.min" => "MemoryMin",
            "memory.max" => "MemoryMax",
            "memory.swap.max" => "MemorySwapMax",
            // systemd has no 0 there.
            "pids.max" if text == "0" => return self.push("TasksMax", 1_u64),
            "pids.max" => "TasksMax",
            _ => return,
        };
        if let Some(number) = number() {
            self.push(name, number);
        }
    }
}

/// What is given and not the 0 that means nothing.
fn given<T: Default + PartialEq>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}

/// The list `0-2,7` as a bit for each number, the first in the first byte's lowest bit.
fn bits(list: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for range in list.trim().split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= MOST_CPUS {
            return None;
        }
        bytes.resize(bytes.len().max(last / 8 + 1), 0);
        (first..=last).for_each(|bit| bytes[bit / 8] |= 1 << (bit % 8));
    }
    (!bytes.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: Machine = Machine { unified: true, version: 252 };

    fn shown(list: &[Property]) -> Vec<String> {
        let number = |value: &Value<'_>| match value {
            Value::U64(number) => number.to_string(),
            other => format!("{other:?}"),
        };
        list.iter().map(|(name, value)| format!("{name}={}", number(value))).collect()
    }

    fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
        let mut limits = Limits::default();
        change(&mut limits);
        limits
    }

    #[test]
    fn limits_are_properties_of_v2() {
        let limits = limits(|limits| {
            limits.memory.limit = Some(100);
            limits.memory.swap = Some(150);
            limits.memory.reservation = Some(50);
            limits.cpu.shares = Some(1024);
            limits.cpu.quota = Some(50_000);
            limits.cpu.period = Some(200_000);
            limits.pids = Some(-1);
            limits.block_io.weight = Some(10);
            limits.devices = Some(vec![]);
        });
        let expected = [
            "MemoryMax=100",
            "MemoryLow=50",
            "MemorySwapMax=50",
            "CPUWeight=100",
            "CPUQuotaPeriodUSec=200000",
            "CPUQuotaPerSecUSec=250000",
            "TasksMax=18446744073709551615",
            "IOWeight=1",
        ];
        assert_eq!(shown(&of_limits(&limits, V2)), expected);
        let old = Machine { version: 239, ..V2 };
        assert!(
            !shown(&of_limits(&limits, old)).iter().any(|one| one.starts_with("CPUQuotaPeriod"))
        );
        assert!(of_limits(&Limits::default(), V2).is_empty());
    }

    #[test]
    fn limits_are_properties_of_v1() {
        let limits = limits(|limits| {
            limits.memory.limit = Some(-1);
            limits.memory.swap = Some(150);
            limits.cpu.shares = Some(7);
            limits.cpu.quota = Some(-1);
            limits.pids = Some(3);
            limits.block_io.weight = Some(10);
        });
        let v1 = Machine { unified: false, ..V2 };
        let expected = [
            "MemoryLimit=18446744073709551615",
            "CPUShares=7",
            "CPUQuotaPerSecUSec=18446744073709551615",
            "TasksMax=3",
            "BlockIOWeight=10",
        ];
        assert_eq!(shown(&of_limits(&limits, v1)), expected);
    }

    #[test]
    fn files_are_properties() {
        let files = |list: &[(&str, &str)]| {
            limits(|limits| {
                let owned = list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
                limits.unified = owned.collect();
            })
        };
        for (file, text, expected) in [
            ("memory.high", "max", &["MemoryHigh=18446744073709551615"][..]),
            ("memory.swap.max", " 5\n", &["MemorySwapMax=5"]),
            (
                "cpu.max",
                "50000 100000",
                &["CPUQuotaPeriodUSec=100000", "CPUQuotaPerSecUSec=500000"],
            ),
            ("cpu.max", "max", &["CPUQuotaPerSecUSec=18446744073709551615"]),
            ("pids.max", "0", &["TasksMax=1"]),
            ("cpu.weight", "x", &[]),
            ("hugetlb.2MB.max", "1", &[]),
        ] {
            assert_eq!(shown(&of_limits(&files(&[(file, text)]), V2)), expected, "{file}");
        }
        // Of one property the last one counts: a group that is idle has no share.
        let idle = files(&[("cpu.idle", "1"), ("cpu.weight", "7")]);
        assert_eq!(shown(&of_limits(&idle, V2)), ["CPUWeight=7", "CPUWeight=0"]);
        let oom = files(&[("memory.oom.group", "1")]);
        assert!(at_start(&oom, V2).is_empty());
        let newer = Machine { version: 253, ..V2 };
        assert_eq!(at_start(&oom, newer), [("OOMPolicy".to_owned(), "kill".into())]);
    }

    #[test]
    fn lists_are_bits() {
        for (list, expected) in [
            ("0", Some(vec![1])),
            ("0-2,9", Some(vec![7, 2])),
            (" 15", Some(vec![0, 128])),
            ("", None),
            ("2-1", None),
            ("8192", None),
            ("x", None),
        ] {
            assert_eq!(bits(list), expected, "{list}");
        }
    }

    #[test]
    fn quotas_are_rounded_up_to_whole_percents() {
        for (quota, period, expected) in [
            (Some(50_000), Some(100_000), Some(50_000)),
            (Some(50_001), Some(100_000), Some(51_000)),
            (Some(1), None, Some(1_000)),
            (Some(999), Some(50_000), Some(1_000)),
            (Some(-1), Some(100_000), Some(-1)),
            (Some(0), None, Some(0)),
            (None, Some(100_000), None),
        ] {
            let mut limits = limits(|limits| {
                limits.cpu.quota = quota;
                limits.cpu.period = period;
            });
            round_quota(&mut limits);
            assert_eq!(limits.cpu.quota, expected, "{quota:?} {period:?}");
        }
        // What no machine has is nobody's panic.
        let mut most = limits(|limits| {
            limits.cpu.quota = Some(i64::MAX);
            limits.cpu.period = Some(u64::MAX);
        });
        round_quota(&mut most);
        most.cpu.period = Some(1);
        round_quota(&mut most);
    }
}
