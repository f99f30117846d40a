//! `events`: what a container uses, in the form of runc (types/events.go).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::bail;
use oci_runtime::stats::{IoStats, Pressure, Stats};
use oci_runtime::{Home, OomWatch, Recorded, Status};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::cli::EventsArgs;
use crate::files;

/// How long it may take until the container's end is noticed.
const LOOK: Duration = Duration::from_millis(200);

/// Prints the numbers once, or again and again until the container's end, with a line for each time that
/// its memory was short.
pub(crate) fn events(home: &Home, args: &EventsArgs) -> anyhow::Result<u8> {
    let container = Recorded::open(home, &args.id)?;
    if container.status()? == Status::Stopped {
        bail!("container with id {} is not running", args.id);
    }
    if args.stats {
        print(&container, "stats", Some(data(&container.stats()?)))?;
        return Ok(0);
    }
    // Where memory is not counted nobody is killed for it by the group.
    let mut oom = container.watch_oom().ok();
    let mut next = Instant::now() + args.interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        if wait(&mut oom, left.min(LOOK)) {
            print(&container, "oom", None)?;
        }
        if container.status()? == Status::Stopped {
            return Ok(0);
        }
        if Instant::now() >= next {
            match container.stats() {
                Ok(stats) => print(&container, "stats", Some(data(&stats)))?,
                // Its end took the group with it.
                Err(_) if container.status()? == Status::Stopped => return Ok(0),
                Err(error) => return Err(error.into()),
            }
            next += args.interval;
        }
    }
}

/// Waits; whether memory was short meanwhile.
fn wait(oom: &mut Option<OomWatch>, time: Duration) -> bool {
    match oom {
        Some(watch) => match watch.wait(time) {
            Some(kills) => kills > 0,
            // The group is gone.
            None => {
                *oom = None;
                false
            }
        },
        None => {
            std::thread::sleep(time);
            false
        }
    }
}

/// One line, in the order of runc's.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

fn print(container: &Recorded, kind: &str, data: Option<Value>) -> anyhow::Result<()> {
    let event = Event { kind, id: container.id(), data };
    files::print(&format!("{}\n", serde_json::to_string(&event)?))
}

fn data(stats: &Stats) -> Value {
    let pressure = |name: &str| stats.pressure.get(name).map(pressure);
    let cpu = &stats.cpu;
    let mut data = json!({
        "cpu": {
            "usage": {
                "total": cpu.usage_ns,
                "percpu": cpu.per_cpu_ns,
                "kernel": cpu.system_ns,
                "user": cpu.user_ns,
            },
            "throttling": {
                "periods": cpu.periods,
                "throttledPeriods": cpu.throttled_periods,
                "throttledTime": cpu.throttled_ns,
            },
            "psi": pressure("cpu"),
        },
        "blkio": block_io(&stats.io),
        "hugetlb": stats
            .huge_pages
            .iter()
            .map(|pages| {
                let usage = json!({
                    "usage": pages.usage, "max": pages.max_usage, "failcnt": pages.limit_hits,
                });
                (pages.page_size.clone(), usage)
            })
            .collect::<Map<_, _>>(),
        "network_interfaces": null,
    });
    if let Some(memory) = &stats.memory {
        // No limit is the largest number, as the kernel has it.
        let entry = |usage: u64, limit: Option<u64>, max: Option<u64>, hits: u64| {
            let limit = limit.unwrap_or(u64::MAX);
            json!({"usage": usage, "limit": limit, "max": max.unwrap_or(0), "failcnt": hits})
        };
        let swap = memory.swap_usage.unwrap_or(0);
        let limit = memory.limit.zip(memory.swap_limit).map(|(memory, swap)| memory + swap);
        data["memory"] = json!({
            "cache": memory.cache,
            "usage": entry(memory.usage, memory.limit, memory.max_usage, memory.limit_hits),
            "swap": entry(memory.usage + swap, limit, None, 0),
            "kernel": entry(memory.kernel, None, None, 0),
            "raw": memory.stat,
            "psi": pressure("memory"),
        });
    }
    if let Some(pids) = stats.pids {
        data["pids"] = json!({"current": pids.current, "limit": pids.limit.unwrap_or(0)});
    }
    if let Some(io) = pressure("io") {
        data["blkio"]["psi"] = io;
    }
    data
}

fn block_io(devices: &[IoStats]) -> Value {
    type Number = fn(&IoStats) -> u64;
    let entries = |numbers: [(&str, Number); 2]| -> Vec<Value> {
        let each = |device: &IoStats| {
            numbers.map(|(op, number)| {
                let (major, minor) = (device.major, device.minor);
                json!({"major": major, "minor": minor, "op": op, "value": number(device)})
            })
        };
        devices.iter().flat_map(each).collect()
    };
    json!({
        "ioServiceBytesRecursive": entries([
            ("Read", |device| device.read_bytes),
            ("Write", |device| device.write_bytes),
        ]),
        "ioServicedRecursive": entries([
            ("Read", |device| device.reads),
            ("Write", |device| device.writes),
        ]),
    })
}

fn pressure(pressure: &Pressure) -> Value {
    let stall = |stall: oci_runtime::stats::Stall| {
        let names = ["avg10", "avg60", "avg300"];
        let averages = [stall.avg10, stall.avg60, stall.avg300];
        let mut all: BTreeMap<_, Value> =
            names.into_iter().zip(averages.map(Value::from)).collect();
        all.insert("total", stall.total_us.into());
        all
    };
    json!({"some": stall(pressure.some), "full": stall(pressure.full)})
}
