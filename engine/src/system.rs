//! What the store as a whole has and holds: `system df`, `info`, `container prune`, `check`.

use std::collections::HashSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::path::Path;

use image_store::{CheckOptions, Checked, Digest, Grade, Images, Repaired, StoredImage};
use serde_json::{Value, json};

use crate::usage::usage;
use crate::volume::{Pruned, VolumeView};
use crate::{Container, Engine, Error, Lower, State, Status, mounts};

/// What takes how much room.
#[derive(Clone, Debug, Default)]
pub struct DiskUsage {
    /// The images.
    pub images: Vec<ImageUsage>,
    /// What is wrong with those that are damaged, whose part nobody knows: a sentence each.
    pub damaged: Vec<String>,
    /// Bytes of all layers, each once.
    pub layers: u64,
    /// Bytes of the layers that only images have that no container uses.
    pub reclaimable_layers: u64,
    /// The containers, each with the bytes that it has written.
    pub containers: Vec<(Container, State, u64)>,
    /// The volumes, each with its bytes and how many containers have it.
    pub volumes: Vec<(VolumeView, u64, usize)>,
}

/// An image's part of the room.
#[derive(Clone, Debug)]
pub struct ImageUsage {
    /// The image.
    pub image: StoredImage,
    /// Bytes of its layers that other images have too.
    pub shared: u64,
    /// Bytes of the others.
    pub unique: u64,
    /// How many containers are of it.
    pub containers: usize,
}

impl Engine {
    /// What takes how much room below the root.
    ///
    /// # Errors
    /// A record is damaged; a system call fails.
    pub fn disk_usage(&self) -> Result<DiskUsage, Error> {
        let mut found = DiskUsage::default();
        let containers = self.list()?;
        let Images { whole: images, damaged, .. } = self.images()?;
        found.damaged = damaged.iter().map(ToString::to_string).collect();
        let mut users: BTreeMap<Digest, usize> = BTreeMap::new();
        let mut sizes = BTreeMap::new();
        for layer in images.iter().flat_map(|image| &image.layers) {
            *users.entry(layer.chain_id).or_default() += 1;
            if let Entry::Vacant(free) = sizes.entry(layer.chain_id) {
                free.insert(self.store.layer_size(layer)?.unwrap_or(0));
            }
        }
        let used: HashSet<&str> =
            containers.iter().map(|(container, _)| &container.image[..]).collect();
        let used = images.iter().filter(|image| used.contains(&image.id.to_string()[..]));
        let kept: HashSet<Digest> =
            used.flat_map(|image| &image.layers).map(|layer| layer.chain_id).collect();
        for (chain_id, size) in &sizes {
            found.layers += size;
            found.reclaimable_layers += if kept.contains(chain_id) { 0 } else { *size };
        }
        for image in images {
            let sum = |shared: bool| -> u64 {
                let layers = image.layers.iter().map(|layer| layer.chain_id);
                let layers = layers.filter(|chain_id| (users[chain_id] > 1) == shared);
                layers.map(|chain_id| sizes[&chain_id]).sum()
            };
            let (shared, unique) = (sum(true), sum(false));
            let id = image.id.to_string();
            let containers =
                containers.iter().filter(|(container, _)| container.image == id).count();
            found.images.push(ImageUsage { image, shared, unique, containers });
        }
        for volume in self.volumes()? {
            let bytes = self.volume_size(&volume)?;
            let uses = |(container, _): &&(Container, State)| {
                container.mounts.iter().any(|mount| mount.name.as_ref() == Some(&volume.name))
            };
            let users = containers.iter().filter(uses).count();
            found.volumes.push((volume, bytes, users));
        }
        for (container, state) in containers {
            let written = usage(&self.root.dir(&container.id).path().join("diff"))?;
            found.containers.push((container, state, written));
        }
        Ok(found)
    }

    /// Looks through the store ([`image_store::Store::check`]), and whether each container has its image and its layers.
    ///
    /// # Errors
    /// A container's record is damaged; a system call fails.
    pub fn check(&self, options: &CheckOptions) -> Result<Checked, Error> {
        let mut checked = self.store.check(options)?;
        let images = self.store.ids()?;
        for (container, _) in self.list()? {
            let dir = self.root.dir(&container.id);
            // A link to a mount leads to its place, whether it is mounted and what it was of is there or not.
            let is_there = |lower: &Lower| match lower.mounted {
                true => images.iter().any(|id| id.to_string() == container.image),
                false => self.store.root().join(&lower.link).is_dir(),
            };
            // One that was removed meanwhile needs nothing.
            if !container.lowers.iter().all(is_there) && dir.container()?.is_some() {
                let what = format!(
                    "lacks layers of its image {}; load the image again, or remove the container {}",
                    container.image, container.name
                );
                checked.add(Grade::Damage, dir.path().to_owned(), what);
            }
        }
        Ok(checked)
    }

    /// Looks through the store, and removes what is damaged in it and no container is of
    /// ([`image_store::Store::repair`]). What was found is as by [`Engine::check`], from before.
    ///
    /// # Errors
    /// As [`Engine::check`], and of the repair.
    pub fn repair(&self, options: &CheckOptions) -> Result<(Checked, Repaired), Error> {
        let (checked, done) = self.store.repair(options, &|id| self.may_have_user(id))?;
        for (id, names) in &done.images {
            self.root.events().removed(id, names, true);
        }
        Ok((checked, done))
    }

    /// The bytes that a container has written, and these with its image's; `None` where it is gone.
    ///
    /// # Errors
    /// A system call fails.
    pub fn container_size(&self, id: &str) -> Result<Option<(u64, u64)>, Error> {
        let dir = self.root.dir(id);
        let Some(container) = dir.container()? else { return Ok(None) };
        let own = usage(&dir.path().join("diff"))?;
        // One that was removed by force while the container stayed takes no room that anybody knows of.
        let image = self.store.find(&container.image).map_or(0, |image| image.size);
        Ok(Some((own, own + image)))
    }

    /// Removes the containers that do not run and that `chosen` wants removed.
    ///
    /// # Errors
    /// They cannot be listed. What fails with one of them is in [`Pruned::failed`].
    pub fn prune_containers(&self, chosen: impl Fn(&Container) -> bool) -> Result<Pruned, Error> {
        let mut pruned = Pruned::default();
        for (container, state) in self.list()? {
            if !matches!(state.status, Status::Created | Status::Exited) || !chosen(&container) {
                continue;
            }
            let removed = usage(&self.root.dir(&container.id).path().join("diff"))
                .and_then(|bytes| self.remove(&container.id, false, false).map(|()| bytes));
            match removed {
                Ok(bytes) => pruned.add(container.id, bytes),
                // Started, or removed by somebody else, meanwhile.
                Err(Error::Running { .. } | Error::NoSuchContainer { .. }) => {}
                Err(error) => pruned.failed.push(error.to_string()),
            }
        }
        Ok(pruned)
    }

    /// Removes the images that no container is of and that `chosen` wants removed, whatever names they
    /// have. What came with their last layers is in the bytes. One that is damaged cannot be chosen: it stays, and is in
    /// [`Pruned::failed`].
    ///
    /// # Errors
    /// A system call fails.
    pub fn prune_images(&self, chosen: impl Fn(&StoredImage) -> bool) -> Result<Pruned, Error> {
        let mut pruned = Pruned::default();
        let images = self.images()?;
        pruned.failed.extend(images.damaged.iter().map(ToString::to_string));
        for image in images.whole {
            if !chosen(&image) {
                continue;
            }
            let mut sizes = BTreeMap::new();
            for layer in &image.layers {
                sizes.insert(layer.chain_id, self.store.layer_size(layer)?.unwrap_or(0));
            }
            // With the store locked: a container that is just being made has written down its image.
            match self.store.prune(&image.id, &chosen, &|id| self.may_have_user(id)) {
                Ok(removed) => {
                    let is_gone = removed.image.is_some();
                    self.root.events().removed(&image.id, &removed.untagged, is_gone);
                    let bytes = removed.layers.iter().filter_map(|id| sizes.get(id)).sum();
                    if let Some(id) = removed.image {
                        pruned.add(id.to_string(), bytes);
                    }
                }
                Err(error) => pruned.failed.push(Error::from(error).to_string()),
            }
        }
        Ok(pruned)
    }

    /// What there is, and what it runs on: by the keys of Docker's `info`, as far as they are true here.
    ///
    /// # Errors
    /// A record is damaged; a system call fails.
    pub fn info(&self) -> Result<Value, Error> {
        let containers = self.list()?;
        let paused = |(_, state): &&(_, State)| state.status == Status::Paused;
        let paused = containers.iter().filter(paused).count();
        let active = containers.iter().filter(|(_, state)| state.status.runs()).count();
        let uname = rustix::system::uname();
        let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        let system =
            file("/etc/os-release").or_else(|| file("/usr/lib/os-release")).unwrap_or_default();
        let memory = file("/proc/meminfo").unwrap_or_default();
        let memory =
            value_of(&memory, "MemTotal:").and_then(|text| text.split(' ').next()?.parse().ok());
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        Ok(json!({
            "ID": "",
            "Containers": containers.len(),
            "ContainersRunning": active - paused,
            "ContainersPaused": paused,
            "ContainersStopped": containers.len() - active,
            "Images": self.store.ids()?.len(),
            "Driver": "overlay2",
            "DriverStatus": [["Backing Filesystem", backing(self.root.path())]],
            "LoggingDriver": "local",
            "CgroupDriver": "cgroupfs",
            "CgroupVersion": if unified { "2" } else { "1" },
            "DefaultRuntime": "runtime-oci",
            "KernelVersion": text(uname.release()),
            "OperatingSystem": value_of(&system, "PRETTY_NAME=").unwrap_or_else(|| "Linux".to_owned()),
            "OSVersion": value_of(&system, "VERSION_ID=").unwrap_or_default(),
            "OSType": "linux",
            "Architecture": text(uname.machine()),
            "NCPU": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            "MemTotal": memory.unwrap_or(0_u64) * 1024,
            "DockerRootDir": self.root.path().to_string_lossy(),
            "Name": text(uname.nodename()),
            "ServerVersion": env!("CARGO_PKG_VERSION"),
            "SecurityOptions": [],
            "Warnings": [],
        }))
    }
}

fn file(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// What stands behind `key` at the beginning of a line, without quotes.
fn value_of(text: &str, key: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(value.trim().trim_matches('"').to_owned())
}

/// The type of the file system that `path` lies on.
fn backing(path: &Path) -> String {
    let mounts = mounts::table("self").unwrap_or_default();
    let above = mounts.iter().filter(|mount| path.starts_with(&mount.target));
    let nearest = above.max_by_key(|mount| mount.target.as_os_str().len());
    nearest.map_or_else(|| "unknown".to_owned(), |mount| mount.fstype.clone())
}

#[cfg(test)]
mod tests {
    #[test]
    fn values_stand_behind_their_keys() {
        let text = "A=1\nPRETTY_NAME=\"X 1\"\nMemTotal:  12 kB\n";
        assert_eq!(super::value_of(text, "PRETTY_NAME=").as_deref(), Some("X 1"));
        assert_eq!(super::value_of(text, "MemTotal:").as_deref(), Some("12 kB"));
        assert_eq!(super::value_of(text, "B="), None);
        assert!(!super::backing(std::path::Path::new("/proc/self")).is_empty());
    }
}
