//! Options that limit what a container may use, of `run`, `create` and `update`.

use clap::Args;
use engine::LimitOptions;

/// Those that all three have.
#[derive(Debug, Default, Args)]
pub(crate) struct LimitArgs {
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable
    #[arg(long, value_name = "uint16")]
    blkio_weight: Option<u16>,
    /// Limit CPU CFS (Completely Fair Scheduler) period, in microseconds
    #[arg(long, value_name = "int")]
    cpu_period: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota, in microseconds
    #[arg(long, value_name = "int", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// Limit CPU real-time period in microseconds
    #[arg(long, value_name = "int")]
    cpu_rt_period: Option<i64>,
    /// Limit CPU real-time runtime in microseconds
    #[arg(long, value_name = "int")]
    cpu_rt_runtime: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short = 'c', long, value_name = "int", allow_negative_numbers = true)]
    cpu_shares: Option<i64>,
    /// Number of CPUs
    #[arg(long, value_name = "decimal")]
    cpus: Option<String>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_cpus: Option<String>,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_mems: Option<String>,
    /// Memory limit
    #[arg(short, long, value_name = "bytes")]
    memory: Option<String>,
    /// Memory soft limit
    #[arg(long, value_name = "bytes")]
    memory_reservation: Option<String>,
    /// Swap limit equal to memory plus swap: '-1' to enable unlimited swap
    #[arg(long, value_name = "bytes", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "int", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
}

impl LimitArgs {
    pub(crate) fn options(&self) -> LimitOptions {
        LimitOptions {
            memory: self.memory.clone(),
            memory_swap: self.memory_swap.clone(),
            memory_reservation: self.memory_reservation.clone(),
            cpus: self.cpus.clone(),
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            cpu_rt_period: self.cpu_rt_period,
            cpu_rt_runtime: self.cpu_rt_runtime,
            cpu_shares: self.cpu_shares,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            pids: self.pids_limit,
            blkio_weight: self.blkio_weight,
            ..LimitOptions::default()
        }
    }
}

/// Those that a container is made with and keeps.
#[derive(Debug, Default, Args)]
pub(crate) struct FixedLimitArgs {
    #[command(flatten)]
    limits: LimitArgs,
    /// Block IO weight (relative device weight): PATH:WEIGHT
    #[arg(long, value_name = "list")]
    blkio_weight_device: Vec<String>,
    /// Optional parent cgroup for the container
    #[arg(long, value_name = "string")]
    cgroup_parent: Option<String>,
    /// Cgroup namespace to use: host or private
    #[arg(long, value_name = "string")]
    cgroupns: Option<String>,
    /// Add a rule to the cgroup allowed devices list: 'c 1:3 rwm'
    #[arg(long, value_name = "list")]
    device_cgroup_rule: Vec<String>,
    /// Limit read rate (bytes per second) from a device: PATH:RATE
    #[arg(long, value_name = "list")]
    device_read_bps: Vec<String>,
    /// Limit read rate (IO per second) from a device: PATH:RATE
    #[arg(long, value_name = "list")]
    device_read_iops: Vec<String>,
    /// Limit write rate (bytes per second) to a device: PATH:RATE
    #[arg(long, value_name = "list")]
    device_write_bps: Vec<String>,
    /// Limit write rate (IO per second) to a device: PATH:RATE
    #[arg(long, value_name = "list")]
    device_write_iops: Vec<String>,
    /// Tune container memory swappiness (0 to 100)
    #[arg(long, value_name = "int", allow_negative_numbers = true)]
    memory_swappiness: Option<i64>,
    /// Disable OOM Killer
    #[arg(long)]
    oom_kill_disable: bool,
}

impl FixedLimitArgs {
    pub(crate) fn options(&self) -> LimitOptions {
        LimitOptions {
            memory_swappiness: self.memory_swappiness,
            oom_kill_disable: self.oom_kill_disable,
            blkio_weight_devices: self.blkio_weight_device.clone(),
            read_bps: self.device_read_bps.clone(),
            write_bps: self.device_write_bps.clone(),
            read_iops: self.device_read_iops.clone(),
            write_iops: self.device_write_iops.clone(),
            device_rules: self.device_cgroup_rule.clone(),
            cgroup_parent: self.cgroup_parent.clone(),
            cgroupns: self.cgroupns.clone(),
            ..self.limits.options()
        }
    }
}

/// `update`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "string")]
    pub(crate) restart: Option<String>,
    /// Names or ids of containers
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}
