//! What a container may use: the options read and checked by Docker's rules, and written down as the part
//! of `.HostConfig` that limits resources.

mod parse;
mod resources;

use cgroup::Abilities;
use serde::{Deserialize, Serialize};

use crate::Error;

pub(crate) use resources::resources;

/// Docker's least for a limit of memory, bytes: less, and no process starts.
const LEAST_MEMORY: i64 = 6 << 20;

/// Docker's least for `--cpus`, 1/1,000,000,000.
const LEAST_CPUS: i64 = 10_000_000;

/// What the user says of limits, as typed; what is not said is not limited, and not changed by `update`.
#[derive(Clone, Debug, Default)]
pub struct LimitOptions {
    /// `--memory`, bytes with a unit.
    pub memory: Option<String>,
    /// `--memory-swap`, memory and swap together; -1 for any amount.
    pub memory_swap: Option<String>,
    /// `--memory-reservation`
    pub memory_reservation: Option<String>,
    /// `--memory-swappiness`, 0 to 100; -1 for the machine's.
    pub memory_swappiness: Option<i64>,
    /// `--oom-kill-disable`
    pub oom_kill_disable: bool,
    /// `--cpus`, as `1.5`.
    pub cpus: Option<String>,
    /// `--cpu-period`, µs
    pub cpu_period: Option<i64>,
    /// `--cpu-quota`, µs
    pub cpu_quota: Option<i64>,
    /// `--cpu-rt-period`, µs
    pub cpu_rt_period: Option<i64>,
    /// `--cpu-rt-runtime`, µs
    pub cpu_rt_runtime: Option<i64>,
    /// `--cpu-shares`
    pub cpu_shares: Option<i64>,
    /// `--cpuset-cpus`
    pub cpuset_cpus: Option<String>,
    /// `--cpuset-mems`
    pub cpuset_mems: Option<String>,
    /// `--pids-limit`; -1 for any number.
    pub pids: Option<i64>,
    /// `--blkio-weight`, 10 to 1000; 0 for none.
    pub blkio_weight: Option<u16>,
    /// `--blkio-weight-device`, `PATH:WEIGHT`
    pub blkio_weight_devices: Vec<String>,
    /// `--device-read-bps`, `PATH:BYTES`
    pub read_bps: Vec<String>,
    /// `--device-write-bps`
    pub write_bps: Vec<String>,
    /// `--device-read-iops`, `PATH:NUMBER`
    pub read_iops: Vec<String>,
    /// `--device-write-iops`
    pub write_iops: Vec<String>,
    /// `--device-cgroup-rule`, `c 1:3 rwm`
    pub device_rules: Vec<String>,
    /// `--cgroup-parent`
    pub cgroup_parent: Option<String>,
    /// `--cgroupns`
    pub cgroupns: Option<String>,
}

/// The part of Docker's `.HostConfig` that limits resources; 0 is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Limits {
    /// `--cpu-shares`
    pub cpu_shares: i64,
    /// `--memory`, bytes
    pub memory: i64,
    /// `--cpus`, in 1/1,000,000,000
    pub nano_cpus: i64,
    /// `--cgroup-parent`
    pub cgroup_parent: String,
    /// `--cgroupns`: `private` or `host`.
    pub cgroupns_mode: String,
    /// `--blkio-weight`
    pub blkio_weight: u16,
    /// `--blkio-weight-device`
    pub blkio_weight_device: Vec<WeightDevice>,
    /// `--device-read-bps`
    pub blkio_device_read_bps: Vec<ThrottleDevice>,
    /// `--device-write-bps`
    pub blkio_device_write_bps: Vec<ThrottleDevice>,
    /// `--device-read-iops`
    #[serde(rename = "BlkioDeviceReadIOps")]
    pub blkio_device_read_iops: Vec<ThrottleDevice>,
    /// `--device-write-iops`
    #[serde(rename = "BlkioDeviceWriteIOps")]
    pub blkio_device_write_iops: Vec<ThrottleDevice>,
    /// `--cpu-period`, µs
    pub cpu_period: i64,
    /// `--cpu-quota`, µs
    pub cpu_quota: i64,
    /// `--cpu-rt-period`, µs
    pub cpu_realtime_period: i64,
    /// `--cpu-rt-runtime`, µs
    pub cpu_realtime_runtime: i64,
    /// `--cpuset-cpus`
    pub cpuset_cpus: String,
    /// `--cpuset-mems`
    pub cpuset_mems: String,
    /// `--device-cgroup-rule`
    pub device_cgroup_rules: Option<Vec<String>>,
    /// `--memory-reservation`, bytes
    pub memory_reservation: i64,
    /// `--memory-swap`, bytes of memory and swap together; -1 is any amount.
    pub memory_swap: i64,
    /// `--memory-swappiness`
    pub memory_swappiness: Option<i64>,
    /// `--oom-kill-disable`
    pub oom_kill_disable: Option<bool>,
    /// `--pids-limit`; negative is any number.
    pub pids_limit: Option<i64>,
}

/// A share of a block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct WeightDevice {
    /// Its node on the host.
    pub path: String,
    /// 10 to 1000.
    pub weight: u16,
}

/// A rate of a block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ThrottleDevice {
    /// Its node on the host.
    pub path: String,
    /// Bytes, or reads or writes, a second.
    pub rate: u64,
}

impl Limits {
    /// With what is typed, by Docker's rules; the rest stays.
    ///
    /// # Errors
    /// A value breaks a rule, or does not go with another ([`Error::Option`]).
    pub(crate) fn with(mut self, typed: &LimitOptions) -> Result<Limits, Error> {
        let set = |field: &mut i64, value: Option<i64>| *field = value.unwrap_or(*field);
        set(&mut self.memory, parse::memory("--memory", &typed.memory)?);
        set(&mut self.memory_swap, parse::memory("--memory-swap", &typed.memory_swap)?);
        let reservation = parse::memory("--memory-reservation", &typed.memory_reservation)?;
        set(&mut self.memory_reservation, reservation);
        set(&mut self.nano_cpus, parse::cpus(&typed.cpus)?);
        set(&mut self.cpu_period, typed.cpu_period);
        set(&mut self.cpu_quota, typed.cpu_quota);
        set(&mut self.cpu_realtime_period, typed.cpu_rt_period);
        set(&mut self.cpu_realtime_runtime, typed.cpu_rt_runtime);
        set(&mut self.cpu_shares, typed.cpu_shares);
        self.memory_swappiness =
            typed.memory_swappiness.filter(|value| *value != -1).or(self.memory_swappiness);
        self.oom_kill_disable = typed.oom_kill_disable.then_some(true).or(self.oom_kill_disable);
        self.pids_limit = typed.pids.or(self.pids_limit);
        self.blkio_weight = typed.blkio_weight.unwrap_or(self.blkio_weight);
        let text = |field: &mut String, value: &Option<String>| {
            if let Some(value) = value {
                field.clone_from(value);
            }
        };
        text(&mut self.cpuset_cpus, &typed.cpuset_cpus);
        text(&mut self.cpuset_mems, &typed.cpuset_mems);
        text(&mut self.cgroup_parent, &typed.cgroup_parent);
        if let Some(mode) = &typed.cgroupns {
            self.cgroupns_mode = parse::cgroupns(mode)?;
        }
        let weights =
            parse::all("--blkio-weight-device", &typed.blkio_weight_devices, parse::weight)?;
        self.blkio_weight_device.extend(weights);
        for (list, option, words, read) in [
            (
                &mut self.blkio_device_read_bps,
                "--device-read-bps",
                &typed.read_bps,
                parse::bps as parse::Read,
            ),
            (&mut self.blkio_device_write_bps, "--device-write-bps", &typed.write_bps, parse::bps),
            (&mut self.blkio_device_read_iops, "--device-read-iops", &typed.read_iops, parse::iops),
            (
                &mut self.blkio_device_write_iops,
                "--device-write-iops",
                &typed.write_iops,
                parse::iops,
            ),
        ] {
            list.extend(parse::all(option, words, read)?);
        }
        let rules = parse::all("--device-cgroup-rule", &typed.device_rules, parse::device_rule)?;
        if !rules.is_empty() {
            self.device_cgroup_rules.get_or_insert_default().extend(rules);
        }
        self.check()?;
        // Docker's default: as much swap as memory.
        if self.memory > 0 && self.memory_swap == 0 {
            self.memory_swap = self.memory.saturating_mul(2);
        }
        Ok(self)
    }

    /// Whether something is asked for that not every kernel has.
    pub(crate) fn depends_on_kernel(&self) -> bool {
        self.memory_swappiness.is_some()
            || self.oom_kill_disable == Some(true)
            || self.blkio_weight != 0
            || !self.blkio_weight_device.is_empty()
    }

    /// Takes out what the kernel does not have, and says so in Docker's words: what only tunes a container is
    /// no reason not to run it. A limit that cannot be kept is an error, later.
    pub(crate) fn discard(&mut self, kernel: &Abilities) -> Vec<&'static str> {
        let mut warnings = Vec::new();
        if !kernel.swappiness && self.memory_swappiness.take().is_some() {
            warnings.push(
                "Your kernel does not support memory swappiness capabilities or the cgroup is not \
                 mounted. Memory swappiness discarded.",
            );
        }
        if !kernel.oom_killer && self.oom_kill_disable.take() == Some(true) {
            warnings.push("Your kernel does not support OomKillDisable. OomKillDisable discarded.");
        }
        if !kernel.io_weight && std::mem::take(&mut self.blkio_weight) != 0 {
            warnings.push(
                "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight \
                 discarded.",
            );
        }
        if !kernel.io_weight_device && !std::mem::take(&mut self.blkio_weight_device).is_empty() {
            warnings.push(
                "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. \
                 Weight-device discarded.",
            );
        }
        warnings
    }

    /// What goes with what, and in which range.
    fn check(&self) -> Result<(), Error> {
        let bad = |option, value: i64, why: &'static str| {
            Err(Error::option(option, &value.to_string(), why))
        };
        if self.memory != 0 && self.memory < LEAST_MEMORY {
            return bad("--memory", self.memory, "Minimum memory limit allowed is 6MB");
        }
        if self.memory_swap > 0 && self.memory == 0 {
            return bad(
                "--memory-swap",
                self.memory_swap,
                "it is memory and swap together: set --memory too",
            );
        }
        if self.memory_swap > 0 && self.memory_swap < self.memory {
            return bad(
                "--memory-swap",
                self.memory_swap,
                "it is memory and swap together, and must not be less than --memory: raise both at the same \
                 time",
            );
        }
        if self.memory_reservation != 0 && self.memory_reservation < LEAST_MEMORY {
            return bad("--memory-reservation", self.memory_reservation, "6MB is the least");
        }
        if self.memory > 0 && self.memory_reservation > self.memory {
            return bad(
                "--memory-reservation",
                self.memory_reservation,
                "it must not be more than --memory",
            );
        }
        if let Some(value) = self.memory_swappiness.filter(|value| !(0..=100).contains(value)) {
            return bad("--memory-swappiness", value, "it goes from 0 to 100");
        }
        // Less than 0.01 is less than the kernel's least quota, or none: which it takes for no limit.
        // Asked for only with --cpus: the standard library reads cgroups for it.
        let online = || std::thread::available_parallelism().map_or(1, usize::from) as i64;
        if self.nano_cpus != 0 && !(LEAST_CPUS..=online() * 1_000_000_000).contains(&self.nano_cpus)
        {
            let why = "it goes from 0.01 to as many processors as are available";
            let value = self.nano_cpus as f64 / 1e9;
            return Err(Error::option("--cpus", &value.to_string(), why));
        }
        if self.nano_cpus > 0 && (self.cpu_period > 0 || self.cpu_quota > 0) {
            let why = "it sets --cpu-period and --cpu-quota itself; leave it out, or those";
            return Err(Error::option("--cpus", &(self.nano_cpus as f64 / 1e9).to_string(), why));
        }
        if self.cpu_period != 0 && !(1_000..=1_000_000).contains(&self.cpu_period) {
            let why = "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)";
            return bad("--cpu-period", self.cpu_period, why);
        }
        if self.cpu_quota > 0 && self.cpu_quota < 1_000 {
            let why = "CPU cfs quota can not be less than 1ms (i.e. 1000)";
            return bad("--cpu-quota", self.cpu_quota, why);
        }
        if self.cpu_shares < 0 {
            return bad("--cpu-shares", self.cpu_shares, "a share is not negative");
        }
        if self.cpu_realtime_period != 0 && self.cpu_realtime_runtime > self.cpu_realtime_period {
            return bad(
                "--cpu-rt-runtime",
                self.cpu_realtime_runtime,
                "it must not be more than --cpu-rt-period",
            );
        }
        if self.blkio_weight != 0 && !(10..=1_000).contains(&self.blkio_weight) {
            let why = "Range of blkio weight is from 10 to 1000";
            return bad("--blkio-weight", self.blkio_weight.into(), why);
        }
        for (option, list) in
            [("--cpuset-cpus", &self.cpuset_cpus), ("--cpuset-mems", &self.cpuset_mems)]
        {
            if !list.is_empty() && !parse::is_list(list) {
                return Err(Error::option(option, list, "write numbers and ranges, as 0-2,7"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(change: impl FnOnce(&mut LimitOptions)) -> Result<Limits, String> {
        let mut typed = LimitOptions::default();
        change(&mut typed);
        Limits::default().with(&typed).map_err(|error| error.to_string())
    }

    #[test]
    fn memory_brings_as_much_swap() {
        let limits = read(|typed| typed.memory = Some("64m".into())).unwrap();
        assert_eq!((limits.memory, limits.memory_swap), (64 << 20, 128 << 20));
        let limits = read(|typed| {
            typed.memory = Some("64m".into());
            typed.memory_swap = Some("-1".into());
        });
        assert_eq!(limits.unwrap().memory_swap, -1);
        assert_eq!(read(|_| ()).unwrap(), Limits::default());
    }

    #[test]
    fn an_update_changes_what_is_given() {
        let limits = read(|typed| {
            typed.memory = Some("64m".into());
            typed.cpus = Some("0.5".into());
        });
        let more = LimitOptions { pids: Some(7), ..LimitOptions::default() };
        let updated = limits.unwrap().with(&more).unwrap();
        assert_eq!((updated.memory, updated.nano_cpus), (64 << 20, 500_000_000));
        assert_eq!(updated.pids_limit, Some(7));
        let more = LimitOptions { memory: Some("256m".into()), ..LimitOptions::default() };
        let error = updated.with(&more).unwrap_err().to_string();
        assert!(error.contains("--memory-swap") && error.contains("raise both"), "{error}");
    }

    #[test]
    fn what_the_kernel_lacks_is_left_out_and_said() {
        let weight = WeightDevice { path: "/dev/a".into(), weight: 70 };
        let all = Limits {
            memory: 64 << 20,
            memory_swappiness: Some(0),
            oom_kill_disable: Some(true),
            blkio_weight: 10,
            blkio_weight_device: vec![weight],
            ..Limits::default()
        };
        assert!(all.depends_on_kernel() && !Limits::default().depends_on_kernel());
        let kernel = |has| Abilities {
            io_weight: has,
            io_weight_device: has,
            swappiness: has,
            oom_killer: has,
        };
        let mut limits = all.clone();
        assert!(limits.discard(&kernel(true)).is_empty());
        assert_eq!(limits, all);
        let warnings = limits.discard(&kernel(false));
        assert_eq!(warnings.len(), 4, "{warnings:?}");
        assert_eq!(limits, Limits { memory: 64 << 20, ..Limits::default() });
        assert!(limits.discard(&kernel(false)).is_empty());
    }

    #[test]
    fn what_breaks_a_rule_names_its_option() {
        type Change = fn(&mut LimitOptions);
        let cases: [(Change, &str); 23] = [
            (|typed| typed.memory = Some("5m".into()), "--memory"),
            (|typed| typed.memory = Some("x".into()), "--memory"),
            (|typed| typed.memory = Some("-1".into()), "--memory"),
            (|typed| typed.memory_swap = Some("64m".into()), "--memory-swap"),
            (|typed| typed.memory_reservation = Some("1".into()), "--memory-reservation"),
            (|typed| typed.memory_swappiness = Some(101), "--memory-swappiness"),
            (|typed| typed.cpus = Some("4000".into()), "--cpus"),
            (|typed| typed.cpus = Some("-1".into()), "--cpus"),
            (|typed| typed.cpus = Some("0.000001".into()), "--cpus"),
            (|typed| typed.cpus = Some("1e1".into()), "--cpus"),
            (|typed| typed.cpu_period = Some(10), "--cpu-period"),
            (|typed| typed.cpu_quota = Some(10), "--cpu-quota"),
            (|typed| typed.cpu_shares = Some(-1), "--cpu-shares"),
            (|typed| typed.blkio_weight = Some(5), "--blkio-weight"),
            (|typed| typed.blkio_weight_devices = vec!["sda:100".into()], "--blkio-weight-device"),
            (|typed| typed.blkio_weight_devices = vec!["/dev/a:5".into()], "--blkio-weight-device"),
            (|typed| typed.read_bps = vec!["/dev/a".into()], "--device-read-bps"),
            (|typed| typed.write_iops = vec!["/dev/a:1k".into()], "--device-write-iops"),
            (|typed| typed.cpuset_cpus = Some("0-".into()), "--cpuset-cpus"),
            (|typed| typed.cpuset_mems = Some("x".into()), "--cpuset-mems"),
            (|typed| typed.cgroupns = Some("x".into()), "--cgroupns"),
            (|typed| typed.device_rules = vec!["c 1:3".into()], "--device-cgroup-rule"),
            (|typed| typed.device_rules = vec!["x 1:3 r".into()], "--device-cgroup-rule"),
        ];
        for (change, option) in cases {
            let error = read(change).unwrap_err();
            assert!(error.contains(option), "{option}: {error}");
        }
    }

    #[test]
    fn the_record_has_dockers_names() {
        let limits = read(|typed| {
            typed.read_iops = vec!["/dev/sda:7".into()];
            typed.blkio_weight_devices = vec!["/dev/sda:70".into()];
        });
        let json = serde_json::to_value(limits.unwrap()).unwrap();
        assert_eq!(json["BlkioDeviceReadIOps"][0]["Rate"], 7);
        assert_eq!(json["BlkioWeightDevice"][0]["Path"], "/dev/sda");
        for key in ["NanoCpus", "CpuRealtimeRuntime", "PidsLimit", "OomKillDisable", "CgroupParent"]
        {
            assert!(json.get(key).is_some(), "{key}");
        }
    }
}
