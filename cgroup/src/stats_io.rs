//! What a group read from and wrote to block devices.

use std::collections::BTreeMap;

use crate::group::Place;
use crate::stats::IoStats;
use crate::{Error, Group};

/// Numbers by device.
type Devices = BTreeMap<(u32, u32), IoStats>;

pub(crate) fn of(group: &Group) -> Result<Vec<IoStats>, Error> {
    let mut devices = Devices::new();
    if let Some(dir) = group.legacy("blkio") {
        // With groups below; bfq's where it is the scheduler, else those of throttling.
        for (bytes, file) in [(true, "io_service_bytes"), (false, "io_serviced")] {
            for of in ["blkio.bfq.", "blkio.throttle."] {
                let file = format!("{of}{file}_recursive");
                let Some(text) = dir.read_if_there(&file)? else { continue };
                if legacy(&mut devices, &text, bytes) {
                    break;
                }
            }
        }
    } else if let Some(Place::Unified(dir)) = group.find("io")? {
        unified(&mut devices, &dir.read_if_there("io.stat")?.unwrap_or_default());
    }
    Ok(devices.into_values().collect())
}

fn device<'a>(devices: &'a mut Devices, numbers: &str) -> Option<&'a mut IoStats> {
    let (major, minor) = numbers.split_once(':')?;
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    Some(devices.entry((major, minor)).or_insert(IoStats { major, minor, ..IoStats::default() }))
}

/// `8:0 Read 4096` lines; whether there were any.
fn legacy(devices: &mut Devices, text: &str, bytes: bool) -> bool {
    let mut any = false;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(numbers), Some(kind), Some(value)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let Ok(value) = value.parse() else { continue };
        let Some(stats) = device(devices, numbers) else { continue };
        any = true;
        match (kind, bytes) {
            ("Read", true) => stats.read_bytes = value,
            ("Write", true) => stats.write_bytes = value,
            ("Read", false) => stats.reads = value,
            ("Write", false) => stats.writes = value,
            _ => {}
        }
    }
    any
}

/// `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0` lines.
fn unified(devices: &mut Devices, text: &str) {
    for line in text.lines() {
        let Some((numbers, rest)) = line.split_once(' ') else { continue };
        let Some(stats) = device(devices, numbers) else { continue };
        for (key, value) in rest.split_ascii_whitespace().filter_map(|word| word.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            match key {
                "rbytes" => stats.read_bytes = value,
                "wbytes" => stats.write_bytes = value,
                "rios" => stats.reads = value,
                "wios" => stats.writes = value,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let mut devices = Devices::new();
        let lines = "8:0 Read 4096\n8:0 Write 10\n8:0 Sync 1\n8:0 Total 4106\nTotal 4106\n";
        assert!(legacy(&mut devices, lines, true));
        assert!(legacy(&mut devices, "8:0 Read 1\n8:16 Write 2\n", false));
        assert!(!legacy(&mut devices, "Total 0\n", true));
        let first = IoStats {
            major: 8,
            read_bytes: 4_096,
            write_bytes: 10,
            reads: 1,
            ..IoStats::default()
        };
        assert_eq!(devices[&(8, 0)], first);
        assert_eq!(devices[&(8, 16)].writes, 2);
        let mut devices = Devices::new();
        unified(&mut devices, "8:0 rbytes=4096 wbytes=10 rios=1 wios=0 dbytes=0 dios=0\n7:0 \n");
        assert_eq!(devices[&(8, 0)], first);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "([0-9:a ]{0,12}(Read|rios=)[0-9 ]{0,22}\n?){0,3}") {
            let mut devices = Devices::new();
            legacy(&mut devices, &text, true);
            unified(&mut devices, &text);
        }
    }
}
