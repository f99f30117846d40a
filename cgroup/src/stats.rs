//! A group's numbers, in one form for v1 and v2.

use std::collections::BTreeMap;

use crate::dir::{Dir, flat_keyed, value_of};
use crate::group::Place;
use crate::{Error, Group, stats_io};

/// What a group uses and used. What the machine does not count is none, or 0 where there is no other
/// number beside it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Processors.
    pub cpu: CpuStats,
    /// Memory, where it is counted.
    pub memory: Option<MemoryStats>,
    /// Processes and threads.
    pub pids: Option<PidsStats>,
    /// Block devices.
    pub io: Vec<IoStats>,
    /// Huge pages.
    pub huge_pages: Vec<HugePagesStats>,
    /// Time lost for want of something (v2, Linux 5.2 with CONFIG_PSI): of `cpu`, `memory`, `io`.
    pub pressure: BTreeMap<&'static str, Pressure>,
}

/// Processors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// Time used, ns.
    pub usage_ns: u64,
    /// Of it in programs, ns.
    pub user_ns: u64,
    /// Of it in the kernel, ns.
    pub system_ns: u64,
    /// Time of each processor, ns (v1 only).
    pub per_cpu_ns: Vec<u64>,
    /// Periods of the quota that have passed.
    pub periods: u64,
    /// Of them those in which the quota was used up.
    pub throttled_periods: u64,
    /// Time for which the group was held up, ns.
    pub throttled_ns: u64,
}

/// Memory, bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// In use, with what is cached of files.
    pub usage: u64,
    /// The most that was in use (v2: Linux 5.19).
    pub max_usage: Option<u64>,
    /// The most that may be; none: any.
    pub limit: Option<u64>,
    /// Swap in use.
    pub swap_usage: Option<u64>,
    /// The most of swap (without memory).
    pub swap_limit: Option<u64>,
    /// How often the limit was reached.
    pub limit_hits: u64,
    /// How many processes were killed for want of memory.
    pub oom_kills: u64,
    /// What is cached of files.
    pub cache: u64,
    /// Cached of files and not used lately: what can be had back at no cost.
    pub inactive_file: u64,
    /// The kernel's own part: bytes (v1: its counter, before 5.16).
    pub kernel: u64,
    /// All of memory.stat.
    pub stat: BTreeMap<String, u64>,
}

/// Processes and threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// Now.
    pub current: u64,
    /// The most; none: any number.
    pub limit: Option<u64>,
}

/// One block device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoStats {
    /// Its driver.
    pub major: u32,
    /// Which of the driver's.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

/// Huge pages of one size, bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HugePagesStats {
    /// As the kernel names it: `2MB`.
    pub page_size: String,
    /// In use.
    pub usage: u64,
    /// The most that was (v1).
    pub max_usage: Option<u64>,
    /// How often the limit was reached.
    pub limit_hits: u64,
}

/// Time lost (Documentation/accounting/psi.rst).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// In which some of the processes waited.
    pub some: Stall,
    /// In which all did.
    pub full: Stall,
}

/// Shares of the time, and the time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stall {
    /// Of the last 10 s, percent.
    pub avg10: f64,
    /// Of the last minute.
    pub avg60: f64,
    /// Of the last five.
    pub avg300: f64,
    /// In all, µs.
    pub total_us: u64,
}

impl Group {
    /// The group's numbers now.
    ///
    /// # Errors
    /// The group is gone.
    pub fn stats(&self) -> Result<Stats, Error> {
        let mut stats = Stats { cpu: self.cpu_stats()?, ..Stats::default() };
        stats.memory = self.memory_stats()?;
        if let Some(Place::Legacy(dir) | Place::Unified(dir)) = self.find("pids")? {
            let limit = dir.number("pids.max")?;
            let limit = Some(limit).filter(|limit| *limit != u64::MAX);
            stats.pids = Some(PidsStats { current: dir.number("pids.current")?, limit });
        }
        stats.io = stats_io::of(self)?;
        stats.huge_pages = match self.find("hugetlb")? {
            Some(place) => huge_pages(place)?,
            None => Vec::new(),
        };
        if let Some(dir) = self.unified() {
            for (name, file) in
                [("cpu", "cpu.pressure"), ("memory", "memory.pressure"), ("io", "io.pressure")]
            {
                if let Some(text) = dir.read_if_there(file)? {
                    stats.pressure.insert(name, pressure(&text));
                }
            }
        }
        Ok(stats)
    }

    /// How many processes of the group were killed for want of memory; none where it is not counted.
    ///
    /// # Errors
    /// The group is gone.
    pub fn oom_kills(&self) -> Result<Option<u64>, Error> {
        let text = match self.find("memory")? {
            Some(Place::Legacy(dir)) => dir.read("memory.oom_control")?,
            Some(Place::Unified(dir)) => dir.read("memory.events")?,
            None => return Ok(None),
        };
        Ok(value_of(&text, "oom_kill"))
    }

    fn cpu_stats(&self) -> Result<CpuStats, Error> {
        let mut stats = CpuStats::default();
        // v2 counts time whether the controller is on or not.
        if let Some(dir) = self.unified()
            && let Some(text) = dir.read_if_there("cpu.stat")?
        {
            for (key, value) in flat_keyed(&text) {
                match key {
                    "usage_usec" => stats.usage_ns = value * 1_000,
                    "user_usec" => stats.user_ns = value * 1_000,
                    "system_usec" => stats.system_ns = value * 1_000,
                    "nr_periods" => stats.periods = value,
                    "nr_throttled" => stats.throttled_periods = value,
                    "throttled_usec" => stats.throttled_ns = value * 1_000,
                    _ => {}
                }
            }
        }
        if let Some(dir) = self.legacy("cpuacct") {
            stats.usage_ns = dir.number("cpuacct.usage")?;
            let number = |word: &str| word.parse().ok();
            let per_cpu = dir.read("cpuacct.usage_percpu")?;
            stats.per_cpu_ns = per_cpu.split_ascii_whitespace().filter_map(number).collect();
            // Linux 4.7; cpuacct.stat has 1/100 s.
            for (file, part) in [
                ("cpuacct.usage_user", &mut stats.user_ns),
                ("cpuacct.usage_sys", &mut stats.system_ns),
            ] {
                *part = dir.number_if_there(file)?.unwrap_or(*part);
            }
        }
        if let Some(dir) = self.legacy("cpu") {
            for (key, value) in flat_keyed(&dir.read("cpu.stat")?) {
                match key {
                    "nr_periods" => stats.periods = value,
                    "nr_throttled" => stats.throttled_periods = value,
                    "throttled_time" => stats.throttled_ns = value,
                    _ => {}
                }
            }
        }
        Ok(stats)
    }

    fn memory_stats(&self) -> Result<Option<MemoryStats>, Error> {
        match self.find("memory")? {
            Some(Place::Legacy(dir)) => legacy_memory(dir).map(Some),
            Some(Place::Unified(dir)) => unified_memory(dir).map(Some),
            None => Ok(None),
        }
    }
}

/// v1's number for no limit is the largest number of whole pages.
fn limit(number: u64) -> Option<u64> {
    const NONE: u64 = i64::MAX as u64 & !0xffff;
    Some(number).filter(|number| *number < NONE)
}

fn legacy_memory(dir: &Dir) -> Result<MemoryStats, Error> {
    let text = dir.read("memory.stat")?;
    let stat: BTreeMap<String, u64> =
        flat_keyed(&text).map(|(key, value)| (key.to_owned(), value)).collect();
    let of = |name: &str| stat.get(name).copied().unwrap_or_default();
    let memory = dir.number("memory.usage_in_bytes")?;
    let memory_limit = limit(dir.number("memory.limit_in_bytes")?);
    // Both together are counted; swap is what is above memory.
    let both = dir.number_if_there("memory.memsw.usage_in_bytes")?;
    let both_limit = dir.number_if_there("memory.memsw.limit_in_bytes")?.and_then(limit);
    Ok(MemoryStats {
        usage: memory,
        max_usage: dir.number_if_there("memory.max_usage_in_bytes")?,
        limit: memory_limit,
        swap_usage: both.map(|both| both.saturating_sub(memory)),
        swap_limit: both_limit.map(|both| both.saturating_sub(memory_limit.unwrap_or(both))),
        // The limit of both together is looked at first.
        limit_hits: dir.number("memory.failcnt")?
            + dir.number_if_there("memory.memsw.failcnt")?.unwrap_or_default(),
        oom_kills: value_of(&dir.read("memory.oom_control")?, "oom_kill").unwrap_or_default(),
        cache: of("total_cache"),
        inactive_file: of("total_inactive_file"),
        kernel: dir.number_if_there("memory.kmem.usage_in_bytes")?.unwrap_or_default(),
        stat,
    })
}

fn unified_memory(dir: &Dir) -> Result<MemoryStats, Error> {
    let text = dir.read("memory.stat")?;
    let stat: BTreeMap<String, u64> =
        flat_keyed(&text).map(|(key, value)| (key.to_owned(), value)).collect();
    let of = |name: &str| stat.get(name).copied().unwrap_or_default();
    let events = dir.read("memory.events")?;
    let any = |number: Option<u64>| number.filter(|number| *number != u64::MAX);
    Ok(MemoryStats {
        usage: dir.number("memory.current")?,
        max_usage: dir.number_if_there("memory.peak")?,
        limit: any(Some(dir.number("memory.max")?)),
        swap_usage: dir.number_if_there("memory.swap.current")?,
        swap_limit: any(dir.number_if_there("memory.swap.max")?),
        limit_hits: value_of(&events, "max").unwrap_or_default(),
        oom_kills: value_of(&events, "oom_kill").unwrap_or_default(),
        cache: of("file"),
        inactive_file: of("inactive_file"),
        kernel: of("kernel"),
        stat,
    })
}

fn huge_pages(place: Place<'_>) -> Result<Vec<HugePagesStats>, Error> {
    let mut all = Vec::new();
    for page_size in page_sizes() {
        let file = |end: &str| format!("hugetlb.{page_size}.{end}");
        all.extend(match place {
            Place::Legacy(dir) => match dir.number_if_there(&file("usage_in_bytes"))? {
                Some(usage) => Some(HugePagesStats {
                    usage,
                    max_usage: dir.number_if_there(&file("max_usage_in_bytes"))?,
                    limit_hits: dir.number_if_there(&file("failcnt"))?.unwrap_or_default(),
                    page_size,
                }),
                None => None,
            },
            Place::Unified(dir) => match dir.number_if_there(&file("current"))? {
                Some(usage) => {
                    let events = dir.read_if_there(&file("events"))?.unwrap_or_default();
                    let limit_hits = value_of(&events, "max").unwrap_or_default();
                    Some(HugePagesStats { usage, max_usage: None, limit_hits, page_size })
                }
                None => None,
            },
        });
    }
    Ok(all)
}

/// The sizes that the machine has, as cgroup files name them.
fn page_sizes() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return Vec::new() };
    let size = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        Some(match kib {
            kib if kib >= 1 << 20 => format!("{}GB", kib >> 20),
            kib if kib >= 1 << 10 => format!("{}MB", kib >> 10),
            kib => format!("{kib}KB"),
        })
    };
    let mut sizes: Vec<String> = entries.filter_map(size).collect();
    sizes.sort();
    sizes
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and `full` likewise.
fn pressure(text: &str) -> Pressure {
    let stall = |name: &str| {
        let mut stall = Stall::default();
        let mut lines = text.lines();
        let words = lines.find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        for (key, value) in words.split_ascii_whitespace().filter_map(|word| word.split_once('=')) {
            let share = value.parse().unwrap_or_default();
            match key {
                "avg10" => stall.avg10 = share,
                "avg60" => stall.avg60 = share,
                "avg300" => stall.avg300 = share,
                "total" => stall.total_us = value.parse().unwrap_or_default(),
                _ => {}
            }
        }
        stall
    };
    Pressure { some: stall("some "), full: stall("full ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read() {
        let text = "some avg10=1.50 avg60=0.20 avg300=0.00 total=12345\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        let read = pressure(text);
        assert_eq!((read.some.avg10, read.some.total_us, read.full.total_us), (1.5, 12_345, 7));
        assert_eq!(pressure("nonsense"), Pressure::default());
    }

    #[test]
    fn no_limit_is_none() {
        assert_eq!(limit(9_223_372_036_854_771_712), None);
        assert_eq!(limit(4_096), Some(4_096));
    }

    proptest::proptest! {
        #[test]
        fn pressure_never_panics(text in "((some|full) )?([a-z0-9]{0,8}=[0-9.]{0,30} ?){0,4}\n?") {
            let _ = pressure(&text);
        }
    }
}
