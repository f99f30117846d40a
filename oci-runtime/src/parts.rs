//! What parent and child call things between them.

/// What the child tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The terminal's master comes with it; nobody waits.
    Terminal = 1,
    /// All is there but the root is not switched; the child waits for the hooks.
    Environment = 2,
    /// The child waits for its resource limits.
    Limits = 3,
    /// The listener of a seccomp filter comes with it; nobody waits.
    Listener = 4,
    /// All is done but the exec, and the user where the parent has no part in that; the child waits.
    Created = 5,
    /// A further process, which is not `Created`, waits for its oom_score_adj; before its limits.
    OomScore = 6,
    /// The child waits for its network devices; the socket to put them there by came just before.
    Network = 7,
}

impl Phase {
    /// The phase of that number.
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        use Phase::{Created, Environment, Limits, Listener, Network, OomScore, Terminal};
        let all = [Terminal, Environment, Limits, Listener, Created, OomScore, Network];
        all.into_iter().find(|phase| *phase as u8 == number)
    }
}

/// Parts of a failure: on which list of prepared items a step failed.
pub(crate) const PART_DEVICES: u16 = 1;
pub(crate) const PART_MASKS: u16 = 2;
pub(crate) const PART_CWD: u16 = 3;
pub(crate) const PART_COMMAND: u16 = 4;
pub(crate) const PART_SYSCTLS: u16 = 5;
pub(crate) const PART_LIMITS: u16 = 6;
pub(crate) const PART_LABELS: u16 = 7;
pub(crate) const PART_GROUP: u16 = 8;
/// From here on, the mounts: part - PART_MOUNTS is the mount's number.
pub(crate) const PART_MOUNTS: u16 = 16;
