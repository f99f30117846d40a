//! `process.scheduler`, `process.ioPriority` and `linux.personality`: how the kernel runs the process.

use oci_spec::runtime as oci;
use rustix::thread::CpuSet;
use sys::sched::{self, Attributes};
use sys::{Failure, Step};

use crate::Error;

/// SCHED_DEADLINE of linux/sched.h.
const DEADLINE: u32 = 6;

/// What to tell the kernel before the privileges for it are given up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scheduling {
    scheduler: Option<Attributes>,
    /// Class and level.
    io_priority: Option<(u8, u8)>,
}

impl Scheduling {
    /// # Errors
    /// A value has no meaning, or none for the policy (sched(7), config.md).
    pub(crate) fn prepare(process: &oci::Process) -> Result<Self, Error> {
        let scheduler = process.scheduler().as_ref().map(attributes).transpose()?;
        let io_priority = process.io_priority().map(|io| {
            let class = match io.class() {
                oci::IOPriorityClass::IoprioClassRt => 1,
                oci::IOPriorityClass::IoprioClassBe => 2,
                oci::IOPriorityClass::IoprioClassIdle => 3,
            };
            match u8::try_from(io.priority()) {
                Ok(level @ 0..=7) => Ok((class, level)),
                _ => {
                    let reason = format!("{} is no level; there are 0 to 7", io.priority());
                    Err(Error::field("process.ioPriority.priority", reason))
                }
            }
        });
        Ok(Self { scheduler, io_priority: io_priority.transpose()? })
    }

    /// Child side, while it has the runtime's capabilities.
    pub(crate) fn apply(&self) -> Result<(), Failure> {
        if let Some(attributes) = &self.scheduler {
            sched::set_attributes(attributes).step(match attributes.policy {
                // As runc says it; sched_setattr(2), EPERM.
                DEADLINE => {
                    "setting process.scheduler (needs CAP_SYS_NICE; this process scheduler can't be used \
                     together with AllowedCPUs, cpu.cpus)"
                }
                _ => "setting process.scheduler (real-time policies and a lower nice need CAP_SYS_NICE)",
            })?;
        }
        if let Some((class, level)) = self.io_priority {
            sched::set_io_priority(class, level)
                .step("setting process.ioPriority (the real-time class needs CAP_SYS_NICE)")?;
        }
        Ok(())
    }
}

fn attributes(scheduler: &oci::Scheduler) -> Result<Attributes, Error> {
    use oci::LinuxSchedulerPolicy as Policy;
    let policy = *scheduler.policy();
    let number = match policy {
        Policy::SchedOther => 0,
        Policy::SchedFifo => 1,
        Policy::SchedRr => 2,
        Policy::SchedBatch => 3,
        Policy::SchedIso => 4,
        Policy::SchedIdle => 5,
        Policy::SchedDeadline => DEADLINE,
    };
    let field =
        |name: &str, reason: String| Error::field(format!("process.scheduler.{name}"), reason);
    let nice = scheduler.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return Err(field("nice", format!("{nice} is out of range; there are -20 to 19")));
    }
    let priority = u32::try_from(scheduler.priority().unwrap_or(0))
        .map_err(|_| field("priority", "it is negative; there are 1 to 99".to_owned()))?;
    if priority != 0 && !matches!(policy, Policy::SchedFifo | Policy::SchedRr) {
        return Err(field("priority", "only SCHED_FIFO and SCHED_RR have one".to_owned()));
    }
    let times = [
        ("runtime", *scheduler.runtime()),
        ("deadline", *scheduler.deadline()),
        ("period", *scheduler.period()),
    ];
    if policy != Policy::SchedDeadline
        && let Some((name, _)) = times.iter().find(|(_, time)| time.unwrap_or(0) != 0)
    {
        return Err(field(name, "only SCHED_DEADLINE has one".to_owned()));
    }
    let flags = scheduler.flags().iter().flatten().fold(0, |flags, flag| flags | bit(*flag));
    let [runtime, deadline, period] = times.map(|(_, time)| time.unwrap_or(0));
    Ok(Attributes { policy: number, flags, nice, priority, runtime, deadline, period })
}

/// SCHED_FLAG_… of linux/sched.h.
fn bit(flag: oci::LinuxSchedulerFlag) -> u64 {
    use oci::LinuxSchedulerFlag as Flag;
    match flag {
        Flag::SchedResetOnFork => 0x01,
        Flag::SchedFlagReclaim => 0x02,
        Flag::SchedFlagDLOverrun => 0x04,
        Flag::SchedFlagKeepPolicy => 0x08,
        Flag::SchedFlagKeepParams => 0x10,
        Flag::SchedFlagUtilClampMin => 0x20,
        Flag::SchedFlagUtilClampMax => 0x40,
    }
}

/// The number of `linux.personality` (personality(2)).
///
/// # Errors
/// It has flags: the specification knows none.
pub(crate) fn personality(personality: &oci::LinuxPersonality) -> Result<u32, Error> {
    if personality.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        let reason = "the specification knows no flag; leave them out";
        return Err(Error::field("linux.personality.flags", reason));
    }
    Ok(match personality.domain() {
        oci::LinuxPersonalityDomain::PerLinux => sched::PER_LINUX,
        oci::LinuxPersonalityDomain::PerLinux32 => sched::PER_LINUX32,
    })
}

/// Lets the calling thread, and the processes that it starts from now on, run on all processors of their cgroups, whatever
/// the caller's caller was kept to (taskset(1), systemd's `CPUAffinity=`). From Linux 6.2 on a process that joins a cgroup
/// stays on those that were asked for last, where they are among the cgroup's; before that it got all of them.
///
/// # Errors
/// The kernel refuses it.
pub fn use_all_processors() -> Result<(), Error> {
    let mut all = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|cpu| all.set(cpu));
    rustix::thread::sched_setaffinity(None, &all).map_err(|errno| {
        Error::io("allowing all processors to", "the starting thread")(errno.into())
    })
}

/// `process.execCPUAffinity`: the processors of a process that joins a container.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Affinity {
    /// Until it is in the container's cgroup.
    pub(crate) initial: Option<CpuSet>,
    /// From then on.
    pub(crate) last: Option<CpuSet>,
}

impl Affinity {
    /// # Errors
    /// A list is none, or names a processor that no kernel has.
    pub(crate) fn prepare(process: &oci::Process) -> Result<Self, Error> {
        let Some(affinity) = process.exec_cpu_affinity() else { return Ok(Self::default()) };
        let read = |name: &str, list: &Option<String>| {
            let list = list.as_deref().map(str::trim).filter(|list| !list.is_empty());
            list.map(|list| {
                cpus(list).ok_or_else(|| {
                    let reason = format!("{list:?} is no list of processors as \"0-3,7\"");
                    Error::field(format!("process.execCPUAffinity.{name}"), reason)
                })
            })
            .transpose()
        };
        Ok(Self {
            initial: read("initial", affinity.initial())?,
            last: read("final", affinity.cpu_affinity_final())?,
        })
    }

    /// The initial ones as a mask, `0x5` for the processors 0 and 2.
    pub(crate) fn initial_mask(&self) -> Option<String> {
        let set = self.initial?;
        let digit = |at: usize| {
            (0..4).fold(0_u8, |digit, bit| digit | u8::from(set.is_set(at * 4 + bit)) << bit)
        };
        let digits = (0..CpuSet::MAX_CPU / 4).rev().map(digit).skip_while(|digit| *digit == 0);
        Some(digits.fold("0x".to_owned(), |mask, digit| format!("{mask}{digit:x}")))
    }
}

fn cpus(list: &str) -> Option<CpuSet> {
    let mut set = CpuSet::new();
    numbers(list, CpuSet::MAX_CPU, |cpu| set.set(cpu))?;
    Some(set)
}

/// The numbers of a list as `0-3,7` (cpuset(7), "List format"), of which each is less than `limit`.
pub(crate) fn numbers(list: &str, limit: usize, mut each: impl FnMut(usize)) -> Option<()> {
    for part in list.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= limit {
            return None;
        }
        (first..=last).for_each(&mut each);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(extra: serde_json::Value) -> Result<Scheduling, String> {
        let mut process = json!({"user": {}, "cwd": "/", "args": ["x"]});
        process.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let process: oci::Process = serde_json::from_value(process).unwrap();
        Scheduling::prepare(&process).map_err(|error| error.to_string())
    }

    #[test]
    fn what_has_no_meaning_names_its_field() {
        for (scheduler, field) in [
            (json!({"policy": "SCHED_OTHER", "nice": 20}), "process.scheduler.nice"),
            (json!({"policy": "SCHED_OTHER", "priority": 1}), "process.scheduler.priority"),
            (json!({"policy": "SCHED_FIFO", "priority": -1}), "process.scheduler.priority"),
            (json!({"policy": "SCHED_RR", "deadline": 1}), "process.scheduler.deadline"),
        ] {
            let error = of(json!({"scheduler": scheduler})).unwrap_err();
            assert!(error.starts_with(field), "{error}");
        }
        let error = of(json!({"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}}));
        assert!(error.unwrap_err().starts_with("process.ioPriority.priority"));
    }

    #[test]
    fn processors_have_a_mask() {
        let mask = |list| Affinity { initial: cpus(list), last: None }.initial_mask();
        assert_eq!(mask("0,2").unwrap(), "0x5");
        assert_eq!(mask("3-8").unwrap(), "0x1f8");
        assert_eq!(mask("x"), None);
    }

    #[test]
    fn policies_and_flags_are_the_kernels_numbers() {
        let all = of(json!({"scheduler": {"policy": "SCHED_DEADLINE", "flags":
            ["SCHED_RESET_ON_FORK", "SCHED_FLAG_RECLAIM"], "runtime": 1, "deadline": 2, "period": 3}}));
        let attributes = all.unwrap().scheduler.unwrap();
        assert_eq!((attributes.policy, attributes.flags), (6, 3));
        assert_eq!((attributes.runtime, attributes.deadline, attributes.period), (1, 2, 3));
        let io = of(json!({"ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0}}));
        assert_eq!(io.unwrap().io_priority, Some((3, 0)));
    }

    #[test]
    fn lists_of_processors() {
        let set = cpus("0-2, 5").unwrap();
        assert_eq!((0..8).filter(|cpu| set.is_set(*cpu)).collect::<Vec<_>>(), [0, 1, 2, 5]);
        for list in ["", "x", "2-1", "1-", "99999", "0,,1"] {
            assert!(cpus(list).is_none(), "{list}");
        }
    }
}
