//! Capabilities (capabilities(7)): sets prepared in the parent, applied in the child.

use std::collections::BTreeMap;
use std::path::Path;

use oci_spec::runtime::{Capabilities as Names, Capability, LinuxCapabilities};
use rustix::thread::{CapabilitySet, CapabilitySets};
use sys::{Failure, Step};

use crate::Error;

/// The five sets of a process, cut to what the caller's bounding set grants.
#[derive(Clone, Debug)]
pub(crate) struct Capabilities {
    /// What is taken out of the bounding set, one by one.
    drop: Vec<CapabilitySet>,
    sets: CapabilitySets,
    /// One by one.
    ambient: Vec<CapabilitySet>,
}

/// What the bounding set of this process has: no container can have more.
///
/// # Errors
/// The kernel does not answer prctl(PR_CAPBSET_READ), as a seccomp filter may cause.
pub fn machine() -> Result<u64, Error> {
    let read = caps::read(None, caps::CapSet::Bounding).map_err(|error| {
        Error::io("reading the bounding set of", Path::new("/proc/self"))(std::io::Error::other(
            error,
        ))
    })?;
    Ok(read.iter().fold(0, |set, capability| set | capability.bitmask()))
}

/// All that the kernel knows: what a process has in a user namespace.
fn known() -> Result<u64, Error> {
    const LAST: &str = "/proc/sys/kernel/cap_last_cap";
    let text = std::fs::read_to_string(LAST).map_err(Error::io("reading", LAST))?;
    let last: u32 = text.trim().parse().unwrap_or(0);
    Ok(u64::MAX >> (63 - last.min(63)))
}

fn bit(capability: &Capability) -> Option<u64> {
    // oci-spec writes CHOWN where capabilities(7) says CAP_CHOWN.
    let known = format!("CAP_{capability}").parse::<caps::Capability>();
    known.ok().map(|known| known.bitmask())
}

fn set_of(names: Option<&Names>) -> CapabilitySet {
    let bits = names.into_iter().flatten().filter_map(bit);
    CapabilitySet::from_bits_retain(bits.fold(0, |set, bit| set | bit))
}

/// One sentence for each capability that is wanted and not granted.
fn left_out(wanted: &LinuxCapabilities, granted: CapabilitySet) -> Vec<String> {
    let sets: [(&str, &Option<Names>); 5] = [
        ("bounding", wanted.bounding()),
        ("effective", wanted.effective()),
        ("inheritable", wanted.inheritable()),
        ("permitted", wanted.permitted()),
        ("ambient", wanted.ambient()),
    ];
    let mut missing = BTreeMap::<String, Vec<&str>>::new();
    for (set, names) in sets {
        for name in names.iter().flatten() {
            let bits = CapabilitySet::from_bits_retain(bit(name).unwrap_or(0));
            if bits.is_empty() || !granted.contains(bits) {
                missing.entry(format!("CAP_{name}")).or_default().push(set);
            }
        }
    }
    missing
        .into_iter()
        .map(|(name, sets)| {
            format!(
                "process.capabilities ({}): {name} cannot be granted, since this process may not have \
                 it itself or the kernel does not know it; it is left out",
                sets.join(", ")
            )
        })
        .collect()
}

fn each(set: CapabilitySet) -> Vec<CapabilitySet> {
    (0..64)
        .map(|bit| CapabilitySet::from_bits_retain(1 << bit))
        .filter(|one| set.contains(*one))
        .collect()
}

impl Capabilities {
    /// As the specification says (config.md, "Linux Process"): what cannot be granted is left out.
    /// `None` leaves the process without any.
    /// In a user namespace (`in_user`) everything can be; elsewhere what the caller's bounding set has.
    pub(crate) fn prepare(
        wanted: Option<&LinuxCapabilities>,
        in_user: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Self, Error> {
        let granted = CapabilitySet::from_bits_retain(if in_user { known()? } else { machine()? });
        warnings.extend(wanted.into_iter().flat_map(|wanted| left_out(wanted, granted)));
        let of = |pick: fn(&LinuxCapabilities) -> &Option<Names>| {
            set_of(wanted.and_then(|wanted| pick(wanted).as_ref())) & granted
        };
        let bounding = of(LinuxCapabilities::bounding);
        let permitted = of(LinuxCapabilities::permitted);
        let inheritable = of(LinuxCapabilities::inheritable);
        Ok(Self {
            drop: each(granted - bounding),
            sets: CapabilitySets {
                effective: of(LinuxCapabilities::effective) & permitted,
                permitted,
                inheritable,
            },
            // The kernel's own rule: ambient are those that are permitted and inheritable.
            ambient: each(of(LinuxCapabilities::ambient) & permitted & inheritable),
        })
    }

    /// Child side, before the user changes.
    pub(crate) fn bound(&self) -> Result<(), Failure> {
        for capability in &self.drop {
            rustix::thread::remove_capability_from_bounding_set(*capability)
                .step("taking a capability out of the bounding set")?;
        }
        rustix::thread::set_keep_capabilities(true).step("keeping the capabilities")
    }

    /// Child side, after the user changed. What is `held` besides goes with the exec, if the bounding
    /// set does not have it.
    pub(crate) fn apply(&self, held: CapabilitySet) -> Result<(), Failure> {
        rustix::thread::set_keep_capabilities(false).step("no longer keeping the capabilities")?;
        rustix::thread::clear_ambient_capability_set().step("clearing the ambient set")?;
        let mut sets = self.sets;
        sets.permitted |= held;
        sets.effective |= held;
        rustix::thread::set_capabilities(None, sets).step("setting the capabilities")?;
        for capability in &self.ambient {
            rustix::thread::configure_capability_in_ambient_set(*capability, true)
                .step("raising an ambient capability")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::LinuxCapabilitiesBuilder;

    #[test]
    fn every_name_of_the_specification_is_known() {
        let all = [
            Capability::Chown,
            Capability::DacReadSearch,
            Capability::SysAdmin,
            Capability::NetBindService,
            Capability::CheckpointRestore,
            Capability::Perfmon,
            Capability::Bpf,
        ];
        let names: Names = all.into_iter().collect();
        assert_eq!(set_of(Some(&names)).bits().count_ones() as usize, all.len());
        let chown: Names = [Capability::Chown].into_iter().collect();
        assert_eq!(set_of(Some(&chown)), CapabilitySet::CHOWN);
    }

    #[test]
    fn sets_are_cut_to_what_can_be() {
        let names: Names = [Capability::Chown, Capability::Kill].into_iter().collect();
        let wanted = LinuxCapabilitiesBuilder::default()
            .bounding(names.clone())
            .permitted(names.clone())
            .effective(names.clone())
            .inheritable(Names::new())
            .ambient(names)
            .build()
            .unwrap();
        let mut warnings = Vec::new();
        let prepared = Capabilities::prepare(Some(&wanted), false, &mut warnings).unwrap();
        assert_eq!(warnings, [""; 0]);
        assert_eq!(prepared.sets.effective, CapabilitySet::CHOWN | CapabilitySet::KILL);
        assert!(prepared.ambient.is_empty(), "not inheritable, so not ambient");
        let machine = machine().unwrap().count_ones() as usize;
        assert_eq!(prepared.drop.len(), machine - 2);
        let none = Capabilities::prepare(None, true, &mut warnings).unwrap();
        assert!(none.sets.permitted.is_empty());
    }

    #[test]
    fn what_cannot_be_granted_is_said_once() {
        let names = ["CAP_CHOWN", "CAP_SYS_ADMIN"];
        let wanted = serde_json::json!({"bounding": names, "ambient": names});
        let wanted: LinuxCapabilities = serde_json::from_value(wanted).unwrap();
        let said = left_out(&wanted, CapabilitySet::CHOWN);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("(bounding, ambient): CAP_SYS_ADMIN"), "{said:?}");
        let last = known().unwrap();
        assert!(last & 1 == 1 && last.count_ones() >= 38, "{last:x}");
    }
}
