//! `update`: other limits for a container, and another restart policy.

use crate::limits::{LimitOptions, resources};
use crate::{Engine, Error, RestartPolicy, Status, group};

impl Engine {
    /// Changes the limits that are given, of a container that runs too, and its restart policy.
    ///
    /// # Errors
    /// There is no such container; it is just being made or removed; a value breaks a rule, or the kernel
    /// refuses it: then nothing is written down.
    pub fn update(
        &self,
        container: &str,
        typed: &LimitOptions,
        restart: Option<RestartPolicy>,
    ) -> Result<(), Error> {
        let (dir, found) = self.find(container)?;
        // Whoever else writes to the record of a container that is made has this lock.
        let _held = dir.lock_volumes()?;
        let gone = || Error::NoSuchContainer { text: found.name.clone(), near: Vec::new() };
        let mut container = dir.container()?.ok_or_else(gone)?;
        if matches!(dir.state()?.status, Status::Creating | Status::Removing) {
            return Err(Error::Busy { name: container.name, id: container.id });
        }
        let host = &mut container.host_config;
        if let Some(policy) = restart {
            if host.auto_remove && policy != RestartPolicy::No {
                return Err(Error::RestartAndRemove);
            }
            host.restart_policy = policy;
        }
        let mut limits = host.limits.clone().with(typed)?;
        if limits.depends_on_kernel() && limits != host.limits {
            let kernel = group::abilities(&dir, &container)?;
            self.warn(&limits.discard(&kernel));
        }
        container.host_config.limits = limits;
        if let Some(group) = group::open(&dir)? {
            let limits = oci_runtime::limits(&resources(&container.host_config.limits)?)?;
            group.apply(&limits)?;
        }
        dir.write_container(&container)?;
        self.root.events().container(&container, "update", &[]);
        Ok(())
    }
}
