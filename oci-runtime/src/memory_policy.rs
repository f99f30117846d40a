//! `linux.memoryPolicy`: from which nodes of a machine with several the memory of the processes comes (set_mempolicy(2)).

use oci_spec::runtime as oci;
use sys::sched::{self, MemoryNodes};
use sys::{Failure, Step};

use crate::Error;
use crate::scheduling::numbers;

/// As the kernel takes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemoryPolicy {
    /// MPOL_… with flags.
    mode: u32,
    nodes: MemoryNodes,
}

impl MemoryPolicy {
    /// # Errors
    /// The nodes are no list, or more than any kernel has.
    pub(crate) fn prepare(policy: &oci::LinuxMemoryPolicy) -> Result<Self, Error> {
        let mut nodes = MemoryNodes::default();
        let list = policy.nodes().as_deref().unwrap_or_default().trim();
        if !list.is_empty() {
            let set = |node: usize| nodes.set(node);
            numbers(list, MemoryNodes::MOST, set).ok_or_else(|| {
                let reason = format!(
                    "{list:?} is no list of nodes as \"0-3,7\"; there are no more than {}",
                    MemoryNodes::MOST
                );
                Error::field("linux.memoryPolicy.nodes", reason)
            })?;
        }
        let flags = policy.flags().iter().flatten();
        Ok(Self { mode: flags.fold(mode(policy.mode()), |mode, flag| mode | bit(*flag)), nodes })
    }

    /// Child side, in its cgroup, whose nodes it can have. What it starts has the same.
    pub(crate) fn apply(&self) -> Result<(), Failure> {
        sched::set_memory_policy(self.mode, &self.nodes).step(
            "setting linux.memoryPolicy (its mode must suit its flags and nodes, and the machine and the cgroup have the nodes)",
        )
    }
}

/// MPOL_… of linux/mempolicy.h.
fn mode(mode: oci::MemoryPolicyModeType) -> u32 {
    use oci::MemoryPolicyModeType as Mode;
    match mode {
        Mode::MpolDefault => 0,
        Mode::MpolPreferred => 1,
        Mode::MpolBind => 2,
        Mode::MpolInterleave => 3,
        Mode::MpolLocal => 4,
        Mode::MpolPreferredMany => 5,
        Mode::MpolWeightedInterleave => 6,
    }
}

/// MPOL_F_… of linux/mempolicy.h.
fn bit(flag: oci::MemoryPolicyFlagType) -> u32 {
    use oci::MemoryPolicyFlagType as Flag;
    match flag {
        Flag::MpolFNumaBalancing => 1 << 13,
        Flag::MpolFRelativeNodes => 1 << 14,
        Flag::MpolFStaticNodes => 1 << 15,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_a_list() {
        let prepare = |nodes: &str| {
            let policy = serde_json::json!({"mode": "MPOL_BIND", "nodes": nodes, "flags": ["MPOL_F_STATIC_NODES"]});
            MemoryPolicy::prepare(&serde_json::from_value(policy).unwrap())
        };
        let policy = prepare("0-1, 64").unwrap();
        let mut nodes = MemoryNodes::default();
        [0, 1, 64].into_iter().for_each(|node| nodes.set(node));
        assert_eq!((policy.mode, policy.nodes), (2 | 1 << 15, nodes));
        assert_eq!(prepare("").unwrap().nodes, MemoryNodes::default());
        for wrong in ["x", "1-0", "0-9876543210", "1024", ","] {
            let error = prepare(wrong).unwrap_err().to_string();
            assert!(error.starts_with("linux.memoryPolicy.nodes"), "{wrong}: {error}");
        }
    }
}
