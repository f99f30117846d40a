//! What not every kernel has, of what a group may be told.

use crate::dir::Dir;
use crate::{Error, Group};

/// Which settings a group has, of those that depend on how the kernel was built, on its I/O scheduler and
/// on the version of cgroups. Setting one that it has not is an error of [`Group::apply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// [`BlockIo::weight`](crate::limits::BlockIo::weight): bfq, or the cost model of v2.
    pub io_weight: bool,
    /// A weight for a single device.
    pub io_weight_device: bool,
    /// [`Memory::swappiness`](crate::limits::Memory::swappiness): v1 only.
    pub swappiness: bool,
    /// [`Memory::disable_oom_killer`](crate::limits::Memory::disable_oom_killer): v1 only.
    pub oom_killer: bool,
}

impl Group {
    /// Which settings this group has. v2's controller `io` is switched on for it, if that can be.
    ///
    /// # Errors
    /// The group is gone.
    pub fn abilities(&self) -> Result<Abilities, Error> {
        let any = |dir: &Dir, names: [&str; 2]| names.iter().any(|name| dir.has(name));
        // The root of a hierarchy has none of these files: a group must be asked.
        let (io_weight, io_weight_device) = match (self.legacy("blkio"), self.unified()) {
            (Some(dir), _) => (
                any(dir, ["blkio.weight", "blkio.bfq.weight"]),
                any(dir, ["blkio.weight_device", "blkio.bfq.weight_device"]),
            ),
            (None, Some(dir)) => {
                let has =
                    self.enable_unified(dir, "io")? && any(dir, ["io.weight", "io.bfq.weight"]);
                (has, has)
            }
            (None, None) => (false, false),
        };
        let memory = |name: &str| self.legacy("memory").is_some_and(|dir| dir.has(name));
        Ok(Abilities {
            io_weight,
            io_weight_device,
            swappiness: memory("memory.swappiness"),
            oom_killer: memory("memory.oom_control"),
        })
    }
}
