//! Limits of block devices.

use crate::convert::io_weight;
use crate::dir::Dir;
use crate::group::Place;
use crate::limits::{BlockIo, Rate};
use crate::set::given;
use crate::{Error, Group};

const WEIGHT: &str = "blockIO.weight";
const LEAF_WEIGHT: &str = "blockIO.leafWeight";

/// The rates: the field, the file of v1, the word of v2.
type Rates<'a> = (&'static str, &'static str, &'static str, &'a [Rate]);

fn rates(io: &BlockIo) -> [Rates<'_>; 4] {
    [
        ("throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps", &io.read_bps),
        ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps", &io.write_bps),
        ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops", &io.read_iops),
        ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops", &io.write_iops),
    ]
}

pub(crate) fn apply(group: &Group, io: &BlockIo) -> Result<(), Error> {
    let weights = [(WEIGHT, io.weight), (LEAF_WEIGHT, io.leaf_weight)];
    let mut first = None;
    let range = |field: &str, weight: Option<u16>| match given(weight) {
        Some(weight) if !(10..=1_000).contains(&weight) => {
            Err(Error::field(field, format!("{weight} is not from 10 to 1000")))
        }
        weight => Ok(weight.is_some()),
    };
    for (field, weight) in weights {
        if range(field, weight)? {
            first.get_or_insert(field.to_owned());
        }
    }
    for (index, device) in io.weight_devices.iter().enumerate() {
        let field = |name| format!("blockIO.weightDevice[{index}].{name}");
        for (name, weight) in [("weight", device.weight), ("leafWeight", device.leaf_weight)] {
            if range(&field(name), weight)? {
                first.get_or_insert_with(|| field(name));
            }
        }
    }
    for (name, _, _, list) in rates(io) {
        if !list.is_empty() {
            first.get_or_insert_with(|| format!("blockIO.{name}[0]"));
        }
    }
    let Some(first) = first else { return Ok(()) };
    // v1 calls it blkio, v2 io.
    let place = match group.legacy("blkio") {
        Some(dir) => Place::Legacy(dir),
        None => group.place(&first, "io")?,
    };
    match place {
        Place::Legacy(dir) => legacy(dir, io),
        Place::Unified(dir) => unified(dir, io),
    }
}

/// The first file that there is, or the first: its absence is the error then.
fn present<'a>(dir: &Dir, names: &[&'a str]) -> &'a str {
    names.iter().find(|name| dir.has(name)).unwrap_or(&names[0])
}

fn scheduler_hint(error: Error) -> Error {
    match error.is_not_found() {
        true => crate::set::with_hint(
            error,
            "shares need the I/O scheduler bfq (v1, v2) or the cost model of v2 (CONFIG_BLK_CGROUP_IOCOST); \
             load it, or leave the share out",
        ),
        false => error,
    }
}

fn legacy(dir: &Dir, io: &BlockIo) -> Result<(), Error> {
    let weight_file = present(dir, &["blkio.weight", "blkio.bfq.weight"]);
    let device_file = present(dir, &["blkio.weight_device", "blkio.bfq.weight_device"]);
    let set = |field: &str, file: &str, value: String| {
        dir.set(field, file, value).map_err(scheduler_hint)
    };
    for (field, file, weight) in
        [(WEIGHT, weight_file, io.weight), (LEAF_WEIGHT, "blkio.leaf_weight", io.leaf_weight)]
    {
        if let Some(weight) = given(weight) {
            set(field, file, weight.to_string())?;
        }
    }
    for (index, device) in io.weight_devices.iter().enumerate() {
        for (name, file, weight) in [
            ("weight", device_file, device.weight),
            ("leafWeight", "blkio.leaf_weight_device", device.leaf_weight),
        ] {
            if let Some(weight) = given(weight) {
                let value = format!("{}:{} {weight}", device.major, device.minor);
                set(&format!("blockIO.weightDevice[{index}].{name}"), file, value)?;
            }
        }
    }
    for (name, file, _, list) in rates(io) {
        for (index, Rate { major, minor, rate }) in list.iter().enumerate() {
            let value = format!("{major}:{minor} {rate}");
            dir.set(&format!("blockIO.{name}[{index}]"), file, value)?;
        }
    }
    Ok(())
}

fn unified(dir: &Dir, io: &BlockIo) -> Result<(), Error> {
    // bfq has v1's range.
    let bfq = dir.has("io.bfq.weight");
    let file = if bfq { "io.bfq.weight" } else { "io.weight" };
    let convert = |weight: u16| if bfq { u64::from(weight) } else { io_weight(weight) };
    if let Some(weight) = given(io.weight) {
        let value = format!("default {}", convert(weight));
        dir.set(WEIGHT, file, value).map_err(scheduler_hint)?;
    }
    for (index, device) in io.weight_devices.iter().enumerate() {
        if let Some(weight) = given(device.weight) {
            let value = format!("{}:{} {}", device.major, device.minor, convert(weight));
            let field = format!("blockIO.weightDevice[{index}].weight");
            dir.set(&field, file, value).map_err(scheduler_hint)?;
        }
    }
    for (name, _, word, list) in rates(io) {
        for (index, Rate { major, minor, rate }) in list.iter().enumerate() {
            let rate = if *rate == 0 { "max".to_owned() } else { rate.to_string() };
            let value = format!("{major}:{minor} {word}={rate}");
            dir.set(&format!("blockIO.{name}[{index}]"), "io.max", value)?;
        }
    }
    Ok(())
}
