//! `volumes.json`: the volumes that were added to a container, and taken from it, after it was made.

use serde::{Deserialize, Serialize};

use crate::volumes::depth;
use crate::{Container, MountPoint};

/// What is different from `container.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct VolumeChanges {
    added: Vec<MountPoint>,
    removed: Vec<MountPoint>,
}

impl VolumeChanges {
    pub(crate) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }

    /// Brings a record up to date: parents stay before children.
    pub(crate) fn apply(&self, container: &mut Container) {
        if self.is_empty() {
            return;
        }
        let mounts = &mut container.mounts;
        mounts.retain(|mount| !self.removed.contains(mount) && !self.added.contains(mount));
        mounts.extend(self.added.iter().cloned());
        mounts.sort_by_key(|mount| depth(&mount.destination));
    }

    /// The record of a container as it was before the changes.
    pub(crate) fn without(&self, container: &Container) -> Container {
        let mut container = container.clone();
        container.mounts.retain(|mount| !self.added.contains(mount));
        container.mounts.extend(self.removed.iter().cloned());
        container.mounts.sort_by_key(|mount| depth(&mount.destination));
        container
    }

    /// A volume is there that was not.
    pub(crate) fn add(&mut self, mount: MountPoint) {
        match self.removed.iter().position(|removed| *removed == mount) {
            Some(at) => drop(self.removed.remove(at)),
            None => self.added.push(mount),
        }
    }

    /// A volume is not there any more.
    pub(crate) fn remove(&mut self, mount: &MountPoint) {
        match self.added.iter().position(|added| added == mount) {
            // One that goes with the container is remembered until then.
            Some(at) if !mount.anonymous => drop(self.added.remove(at)),
            at => {
                if let Some(at) = at {
                    self.added.remove(at);
                }
                self.removed.push(mount.clone());
            }
        }
    }

    /// The names of the volumes in it that go with the container.
    pub(crate) fn anonymous(&self) -> impl Iterator<Item = &str> {
        let all = self.added.iter().chain(&self.removed);
        all.filter(|mount| mount.anonymous).filter_map(|mount| mount.name.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MountKind, testing};

    fn mount(destination: &str, anonymous: bool) -> MountPoint {
        MountPoint {
            kind: MountKind::Volume,
            name: Some(format!("of{}", destination.replace('/', "-"))),
            source: format!("/s{destination}"),
            destination: destination.to_owned(),
            driver: None,
            mode: String::new(),
            rw: true,
            propagation: String::new(),
            options: Vec::new(),
            anonymous,
        }
    }

    fn targets(container: &Container) -> Vec<&str> {
        container.mounts.iter().map(|mount| &*mount.destination).collect()
    }

    #[test]
    fn what_is_added_and_removed_comes_and_goes() {
        let mut record = testing::container();
        record.mounts = vec![mount("/a", true), mount("/b", false)];
        let mut changes = VolumeChanges::default();
        changes.add(mount("/a/deep", false));
        changes.add(mount("/z", false));
        let now = |changes: &VolumeChanges| {
            let mut container = record.clone();
            changes.apply(&mut container);
            // Whoever reads the record and writes it back changes nothing of it.
            let mut written = changes.without(&container);
            written.mounts.sort_by(|a, b| a.destination.cmp(&b.destination));
            assert_eq!(written, record);
            container
        };
        assert_eq!(targets(&now(&changes)), ["/a", "/b", "/z", "/a/deep"]);
        changes.remove(&mount("/a", true));
        changes.remove(&mount("/z", false));
        assert_eq!(targets(&now(&changes)), ["/b", "/a/deep"]);
        assert_eq!(changes.anonymous().collect::<Vec<_>>(), ["of-a"], "it goes with the container");
        changes.add(mount("/a", true));
        changes.remove(&mount("/a/deep", false));
        assert_eq!(targets(&now(&changes)), ["/a", "/b"]);
        assert!(changes.is_empty(), "{changes:?}");
        changes.add(mount("/c", true));
        changes.remove(&mount("/c", true));
        assert_eq!(changes.anonymous().collect::<Vec<_>>(), ["of-c"]);
    }
}
