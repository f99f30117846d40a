//! `linux.resources` of the configuration as the limits of a cgroup.

use cgroup::Limits;
use cgroup::limits::{
    Access, BlockIo, Cpu, DeviceKind, DeviceRule, HugePages, Memory, Network, Rate, Rdma,
    WeightDevice,
};
use oci_spec::runtime as oci;

use crate::Error;

/// The limits of a container's cgroup. Without rules for devices it has those of [`DeviceRule::DEFAULT`] only.
///
/// # Errors
/// A field has a value without meaning.
pub(crate) fn limits(resources: Option<&oci::LinuxResources>) -> Result<Limits, Error> {
    let mut limits = match resources {
        Some(resources) => given(resources)?,
        None => Limits::default(),
    };
    limits.devices.get_or_insert_default().extend(DeviceRule::DEFAULT);
    Ok(limits)
}

/// The limits that are given, for a container that has some already.
///
/// # Errors
/// A value has no meaning; the error names the field.
pub fn given(resources: &oci::LinuxResources) -> Result<Limits, Error> {
    let rules = resources.devices().iter().flatten().enumerate();
    let rules = rules.map(|(index, rule)| device(index, rule)).collect::<Result<Vec<_>, _>>()?;
    let pages = resources.hugepage_limits().iter().flatten().enumerate();
    let rdma = resources.rdma().iter().flatten();
    Ok(Limits {
        memory: resources.memory().as_ref().map(memory).unwrap_or_default(),
        cpu: resources.cpu().as_ref().map(cpu).unwrap_or_default(),
        pids: resources.pids().as_ref().map(oci::LinuxPids::limit),
        block_io: resources.block_io().as_ref().map(block_io).unwrap_or_default(),
        huge_pages: pages
            .map(|(index, limit)| huge_pages(index, limit))
            .collect::<Result<_, _>>()?,
        network: resources.network().as_ref().map(network).unwrap_or_default(),
        rdma: rdma
            .map(|(device, limit)| Rdma {
                device: device.clone(),
                handles: limit.hca_handles(),
                objects: limit.hca_objects(),
            })
            .collect(),
        devices: Some(rules).filter(|rules| !rules.is_empty()),
        unified: resources
            .unified()
            .iter()
            .flatten()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect(),
    })
}

fn device(index: usize, rule: &oci::LinuxDeviceCgroup) -> Result<DeviceRule, Error> {
    let field = |name: &str| format!("linux.resources.devices[{index}].{name}");
    let kind = match rule.typ() {
        None | Some(oci::LinuxDeviceType::A) => DeviceKind::All,
        Some(oci::LinuxDeviceType::B) => DeviceKind::Block,
        Some(oci::LinuxDeviceType::C | oci::LinuxDeviceType::U) => DeviceKind::Char,
        Some(oci::LinuxDeviceType::P) => {
            return Err(Error::field(field("type"), "\"p\" is no device; give a, b or c"));
        }
    };
    let number = |name: &str, number: Option<i64>| match number {
        // As runc: all of them.
        None | Some(-1) => Ok(None),
        Some(number) => u32::try_from(number)
            .map(Some)
            .map_err(|_| Error::field(field(name), format!("{number} is no device number"))),
    };
    let mut access = Access::empty();
    for letter in
        rule.access().as_deref().filter(|access| !access.is_empty()).unwrap_or("rwm").chars()
    {
        access |= match letter {
            'r' => Access::READ,
            'w' => Access::WRITE,
            'm' => Access::MKNOD,
            // runc takes it, and makes nothing of it.
            'a' => Access::empty(),
            _ => {
                let reason = format!("{letter:?} is none of the letters r, w and m");
                return Err(Error::field(field("access"), reason));
            }
        };
    }
    Ok(DeviceRule {
        allow: rule.allow(),
        kind,
        major: number("major", rule.major())?,
        minor: number("minor", rule.minor())?,
        access,
    })
}

fn memory(memory: &oci::LinuxMemory) -> Memory {
    Memory {
        limit: memory.limit(),
        reservation: memory.reservation(),
        swap: memory.swap(),
        kernel: kernel(memory),
        kernel_tcp: memory.kernel_tcp(),
        swappiness: memory.swappiness(),
        disable_oom_killer: memory.disable_oom_killer(),
        use_hierarchy: memory.use_hierarchy(),
        check_before_update: memory.check_before_update(),
    }
}

#[allow(deprecated, reason = "configurations still have it; it is read and ignored")]
fn kernel(memory: &oci::LinuxMemory) -> Option<i64> {
    memory.kernel()
}

fn cpu(cpu: &oci::LinuxCpu) -> Cpu {
    Cpu {
        shares: cpu.shares(),
        quota: cpu.quota(),
        period: cpu.period(),
        burst: cpu.burst(),
        realtime_runtime: cpu.realtime_runtime(),
        realtime_period: cpu.realtime_period(),
        cpus: cpu.cpus().clone(),
        mems: cpu.mems().clone(),
        idle: cpu.idle(),
    }
}

fn block_io(io: &oci::LinuxBlockIo) -> BlockIo {
    let rates = |list: &Option<Vec<oci::LinuxThrottleDevice>>| {
        let rate = |device: &oci::LinuxThrottleDevice| Rate {
            major: device.major(),
            minor: device.minor(),
            rate: device.rate(),
        };
        list.iter().flatten().map(rate).collect()
    };
    let weight = |device: &oci::LinuxWeightDevice| WeightDevice {
        major: device.major(),
        minor: device.minor(),
        weight: device.weight(),
        leaf_weight: device.leaf_weight(),
    };
    BlockIo {
        weight: io.weight(),
        leaf_weight: io.leaf_weight(),
        weight_devices: io.weight_device().iter().flatten().map(weight).collect(),
        read_bps: rates(io.throttle_read_bps_device()),
        write_bps: rates(io.throttle_write_bps_device()),
        read_iops: rates(io.throttle_read_iops_device()),
        write_iops: rates(io.throttle_write_iops_device()),
    }
}

fn huge_pages(index: usize, limit: &oci::LinuxHugepageLimit) -> Result<HugePages, Error> {
    let number = limit.limit();
    let limit_of = u64::try_from(number).map_err(|_| {
        let field = format!("linux.resources.hugepageLimits[{index}].limit");
        Error::field(field, format!("{number} is no number of bytes"))
    })?;
    Ok(HugePages { page_size: limit.page_size().clone(), limit: limit_of })
}

fn network(network: &oci::LinuxNetwork) -> Network {
    let priorities = network.priorities().iter().flatten();
    Network {
        class_id: network.class_id(),
        priorities: priorities.map(|one| (one.name().clone(), one.priority())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<Limits, Error> {
        given(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn every_field_is_taken() {
        let limits = of(r#"{
            "devices": [{"allow": false, "access": "rwm"},
                        {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"},
                        {"allow": true, "type": "b", "major": 8, "minor": -1, "access": "m"}],
            "memory": {"limit": 1, "reservation": 2, "swap": 3, "kernel": 4, "kernelTCP": 5,
                       "swappiness": 6, "disableOOMKiller": true, "useHierarchy": true,
                       "checkBeforeUpdate": true},
            "cpu": {"shares": 1, "quota": 2, "period": 3, "burst": 4, "realtimeRuntime": 5,
                    "realtimePeriod": 6, "cpus": "0", "mems": "1", "idle": 1},
            "pids": {"limit": 9},
            "blockIO": {"weight": 10, "leafWeight": 11,
                        "weightDevice": [{"major": 8, "minor": 0, "weight": 12, "leafWeight": 13}],
                        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
                        "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2}],
                        "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 3}],
                        "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 4}]},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 5}],
            "network": {"classID": 6, "priorities": [{"name": "lo", "priority": 7}]},
            "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 4}},
            "unified": {"memory.high": "10"}
        }"#)
        .unwrap();
        let memory = Memory {
            limit: Some(1),
            reservation: Some(2),
            swap: Some(3),
            kernel: Some(4),
            kernel_tcp: Some(5),
            swappiness: Some(6),
            disable_oom_killer: Some(true),
            use_hierarchy: Some(true),
            check_before_update: Some(true),
        };
        let cpu = Cpu {
            shares: Some(1),
            quota: Some(2),
            period: Some(3),
            burst: Some(4),
            realtime_runtime: Some(5),
            realtime_period: Some(6),
            cpus: Some("0".into()),
            mems: Some("1".into()),
            idle: Some(1),
        };
        assert_eq!((limits.memory, limits.cpu, limits.pids), (memory, cpu, Some(9)));
        let rate = |rate| vec![Rate { major: 8, minor: 0, rate }];
        let weight = WeightDevice { major: 8, minor: 0, weight: Some(12), leaf_weight: Some(13) };
        let io = BlockIo {
            weight: Some(10),
            leaf_weight: Some(11),
            weight_devices: vec![weight],
            read_bps: rate(1),
            write_bps: rate(2),
            read_iops: rate(3),
            write_iops: rate(4),
        };
        assert_eq!(limits.block_io, io);
        assert_eq!(limits.huge_pages, [HugePages { page_size: "2MB".into(), limit: 5 }]);
        assert_eq!(limits.network.class_id, Some(6));
        assert_eq!(limits.network.priorities, [("lo".to_owned(), 7)]);
        let rdma = Rdma { device: "mlx5_1".into(), handles: Some(3), objects: Some(4) };
        assert_eq!(limits.rdma, [rdma]);
        assert_eq!(limits.unified["memory.high"], "10");
        let devices = limits.devices.unwrap();
        assert_eq!(devices[0], DeviceRule::all(false, Access::all()));
        let read_write = Access::READ | Access::WRITE;
        assert_eq!(devices[1], DeviceRule { access: read_write, ..DeviceRule::char(1, Some(3)) });
        assert_eq!((devices[2].kind, devices[2].minor), (DeviceKind::Block, None));
    }

    #[test]
    fn nothing_is_nothing_but_the_devices_of_a_new_container() {
        assert_eq!(of("{}").unwrap(), Limits::default());
        assert_eq!(limits(None).unwrap().devices.as_deref(), Some(&DeviceRule::DEFAULT[..]));
    }

    #[test]
    fn a_wrong_rule_is_named() {
        for (json, field) in [
            (r#"{"allow": true, "type": "p"}"#, "type"),
            (r#"{"allow": true, "access": "rx"}"#, "access"),
            (r#"{"allow": true, "major": -2}"#, "major"),
            (r#"{"allow": true, "minor": 4294967296}"#, "minor"),
        ] {
            let error = of(&format!("{{\"devices\": [{json}]}}")).unwrap_err().to_string();
            assert!(error.starts_with(&format!("linux.resources.devices[0].{field} ")), "{error}");
        }
        let both = of(r#"{"devices": [{"allow": true, "type": "a", "access": "rwa"}]}"#).unwrap();
        let read_write = Access::READ | Access::WRITE;
        assert_eq!(both.devices.unwrap(), [DeviceRule::all(true, read_write)]);
        let error = of(r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": -1}]}"#).unwrap_err();
        assert!(error.to_string().starts_with("linux.resources.hugepageLimits[0].limit "));
    }
}
