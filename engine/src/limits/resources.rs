//! A container's limits as `linux.resources` of the OCI runtime specification.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use oci_spec::runtime::LinuxResources;
use rustix::fs::{major, minor};
use serde_json::{Map, Value, json};

use super::{Limits, ThrottleDevice};
use crate::Error;

/// A quota in each period of 100 ms.
const PERIOD: i64 = 100_000;

/// The limits, without rules for devices. As Docker's daemon writes them.
///
/// # Errors
/// A device is not there, or is none.
pub(crate) fn resources(limits: &Limits) -> Result<LinuxResources, Error> {
    let mut all = Map::new();
    let mut add = |name: &str, fields: Vec<(&str, Value)>| {
        let given = fields.into_iter().filter(|(_, value)| is_given(value));
        let fields: Map<String, Value> =
            given.map(|(name, value)| (name.to_owned(), value)).collect();
        if !fields.is_empty() {
            all.insert(name.to_owned(), fields.into());
        }
    };
    add(
        "memory",
        vec![
            ("limit", limits.memory.into()),
            ("swap", limits.memory_swap.into()),
            ("reservation", limits.memory_reservation.into()),
            // 0 means something there.
            ("swappiness", limits.memory_swappiness.map_or(Value::Null, |value| json!([value]))),
            ("disableOOMKiller", limits.oom_kill_disable.unwrap_or(false).into()),
        ],
    );
    let (quota, period) = match limits.nano_cpus {
        0 => (limits.cpu_quota, limits.cpu_period),
        cpus => (cpus / (1_000_000_000 / PERIOD), PERIOD),
    };
    add(
        "cpu",
        vec![
            ("shares", limits.cpu_shares.into()),
            ("quota", quota.into()),
            ("period", period.into()),
            ("realtimeRuntime", limits.cpu_realtime_runtime.into()),
            ("realtimePeriod", limits.cpu_realtime_period.into()),
            ("cpus", limits.cpuset_cpus.clone().into()),
            ("mems", limits.cpuset_mems.clone().into()),
        ],
    );
    // As Docker: 0 and less is any number.
    let pids = limits.pids_limit.map_or(0, |most| if most > 0 { most } else { -1 });
    add("pids", vec![("limit", pids.into())]);
    let mut weights = Vec::new();
    for device in &limits.blkio_weight_device {
        let (major, minor) = numbers("--blkio-weight-device", &device.path)?;
        weights.push(json!({"major": major, "minor": minor, "weight": device.weight}));
    }
    add(
        "blockIO",
        vec![
            ("weight", limits.blkio_weight.into()),
            ("weightDevice", weights.into()),
            ("throttleReadBpsDevice", rates("--device-read-bps", &limits.blkio_device_read_bps)?),
            (
                "throttleWriteBpsDevice",
                rates("--device-write-bps", &limits.blkio_device_write_bps)?,
            ),
            (
                "throttleReadIOPSDevice",
                rates("--device-read-iops", &limits.blkio_device_read_iops)?,
            ),
            (
                "throttleWriteIOPSDevice",
                rates("--device-write-iops", &limits.blkio_device_write_iops)?,
            ),
        ],
    );
    if let Some(Value::Array(one)) = all.get("memory").and_then(|memory| memory.get("swappiness")) {
        let value = one[0].clone();
        all["memory"]["swappiness"] = value;
    }
    serde_json::from_value(all.into())
        .map_err(|source| Error::Damaged { path: "the limits of the container".into(), source })
}

/// What is empty, zero or false says nothing.
fn is_given(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is_so) => *is_so,
        Value::Number(number) => number.as_i64() != Some(0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(_) => true,
    }
}

fn rates(option: &'static str, devices: &[ThrottleDevice]) -> Result<Value, Error> {
    let mut list = Vec::new();
    for ThrottleDevice { path, rate } in devices {
        let (major, minor) = numbers(option, path)?;
        list.push(json!({"major": major, "minor": minor, "rate": rate}));
    }
    Ok(list.into())
}

/// The numbers of a device's node on the host.
fn numbers(option: &'static str, path: &str) -> Result<(u32, u32), Error> {
    let metadata = std::fs::metadata(path)
        .map_err(|_| Error::option(option, path, "the host has no such device"))?;
    let kind = metadata.file_type();
    if !kind.is_block_device() && !kind.is_char_device() {
        return Err(Error::option(option, path, "it is no device"));
    }
    Ok((major(metadata.rdev()), minor(metadata.rdev())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_limited_is_not_there() {
        assert_eq!(resources(&Limits::default()).unwrap(), serde_json::from_str("{}").unwrap());
        let limits = Limits {
            memory_swappiness: Some(0),
            nano_cpus: 1_500_000_000,
            pids_limit: Some(0),
            blkio_device_write_bps: vec![ThrottleDevice { path: "/dev/null".into(), rate: 9 }],
            ..Limits::default()
        };
        let found = resources(&limits).unwrap();
        assert_eq!(found.memory().as_ref().unwrap().swappiness(), Some(0));
        let cpu = found.cpu().as_ref().unwrap();
        assert_eq!((cpu.quota(), cpu.period()), (Some(150_000), Some(100_000)));
        assert_eq!(found.pids().as_ref().unwrap().limit(), -1);
        let io = found.block_io().as_ref().unwrap();
        let rate = &io.throttle_write_bps_device().as_ref().unwrap()[0];
        assert_eq!((rate.major(), rate.minor(), rate.rate()), (1, 3, 9));
    }

    #[test]
    fn a_device_that_is_not_there_is_named_with_its_option() {
        let device = ThrottleDevice { path: "/dev/no-such".into(), rate: 1 };
        let limits = Limits { blkio_device_read_iops: vec![device], ..Limits::default() };
        let error = resources(&limits).unwrap_err().to_string();
        assert!(error.contains("--device-read-iops") && error.contains("/dev/no-such"), "{error}");
    }
}
