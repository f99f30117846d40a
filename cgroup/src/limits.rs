//! What a group may use, as plain values.
//!
//! Every field is optional, and what is not given stays as it is. Numbers have the meaning of cgroup v1,
//! which configurations are written in: they are converted for v2.

use std::collections::BTreeMap;

pub use sys::bpf::{Access, DeviceKind, DeviceRule};

/// Limits to set: those that are given, and no others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// Memory and swap.
    pub memory: Memory,
    /// Processors.
    pub cpu: Cpu,
    /// Most processes and threads; negative: any number.
    pub pids: Option<i64>,
    /// Block devices' shares and rates.
    pub block_io: BlockIo,
    /// Huge pages, for each size.
    pub huge_pages: Vec<HugePages>,
    /// Marks on packets (v1 only).
    pub network: Network,
    /// Handles and objects of RDMA devices, for each device.
    pub rdma: Vec<Rdma>,
    /// Which devices may be used: the last rule that matches decides, and what none matches is denied.
    pub devices: Option<Vec<DeviceRule>>,
    /// Files of v2 and what is to be written to them, after all else.
    pub unified: BTreeMap<String, String>,
}

/// Memory, bytes; -1: any amount; 0 as if it were not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The most.
    pub limit: Option<i64>,
    /// What is left to it longest when memory is short (v2: memory.low; v1: the soft limit).
    pub reservation: Option<i64>,
    /// The most of memory and swap together.
    pub swap: Option<i64>,
    /// The kernel's memory: ignored, as by the kernel since 5.16 and by v2.
    pub kernel: Option<i64>,
    /// Buffers of TCP: the most (v1 only).
    pub kernel_tcp: Option<i64>,
    /// How readily memory is swapped out, 0 to 100 (v1 only).
    pub swappiness: Option<u64>,
    /// Who has no memory waits instead of being killed (v1 only).
    pub disable_oom_killer: Option<bool>,
    /// Groups below count: the kernel does so in any case since 5.11.
    pub use_hierarchy: Option<bool>,
    /// A limit below what is used is an error, and nobody is killed for it.
    pub check_before_update: Option<bool>,
}

/// Processors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// The share beside other groups, 2 to 262,144, of which 1,024 is the usual one; 0 as if not given.
    pub shares: Option<u64>,
    /// Time in each period, µs; negative: any; 0 as if not given.
    pub quota: Option<i64>,
    /// The period, µs; 0 as if not given.
    pub period: Option<u64>,
    /// What of unused quota may be used later, µs (Linux 5.14).
    pub burst: Option<u64>,
    /// Real-time scheduling in each real-time period, µs (v1 only); 0 as if not given.
    pub realtime_runtime: Option<i64>,
    /// That period, µs (v1 only); 0 as if not given.
    pub realtime_period: Option<u64>,
    /// Which processors: `0-2,7`; empty as if not given.
    pub cpus: Option<String>,
    /// Which memory nodes.
    pub mems: Option<String>,
    /// 1: only where no other group has anything to do (Linux 5.15).
    pub idle: Option<i64>,
}

/// Block devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockIo {
    /// The share beside other groups, 10 to 1,000; 0 as if not given.
    pub weight: Option<u16>,
    /// The share of the group's own processes beside the groups in it (v1, older kernels).
    pub leaf_weight: Option<u16>,
    /// Shares for single devices.
    pub weight_devices: Vec<WeightDevice>,
    /// Bytes read a second.
    pub read_bps: Vec<Rate>,
    /// Bytes written a second.
    pub write_bps: Vec<Rate>,
    /// Reads a second.
    pub read_iops: Vec<Rate>,
    /// Writes a second.
    pub write_iops: Vec<Rate>,
}

/// A share of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightDevice {
    /// Its driver.
    pub major: i64,
    /// Which of the driver's.
    pub minor: i64,
    /// As [`BlockIo::weight`].
    pub weight: Option<u16>,
    /// As [`BlockIo::leaf_weight`].
    pub leaf_weight: Option<u16>,
}

/// A rate of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Its driver.
    pub major: i64,
    /// Which of the driver's.
    pub minor: i64,
    /// A second; 0: any.
    pub rate: u64,
}

/// Huge pages of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HugePages {
    /// As the kernel names it: `2MB`, `1GB`.
    pub page_size: String,
    /// The most, bytes.
    pub limit: u64,
}

/// Marks on packets (v1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The class (net_cls).
    pub class_id: Option<u32>,
    /// Priorities of interfaces by name (net_prio).
    pub priorities: Vec<(String, u32)>,
}

/// One RDMA device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rdma {
    /// Its name.
    pub device: String,
    /// The most handles.
    pub handles: Option<u32>,
    /// The most objects.
    pub objects: Option<u32>,
}
