//! Volumes of the store: made, listed and removed by name.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bindvol::{Volume, Volumes};
use serde::{Deserialize, Serialize};

use crate::record::time_text;
use crate::remove::is_used;
use crate::usage::usage;
use crate::{Engine, Error};

/// What lies beside a volume that `volume create` made.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    labels: BTreeMap<String, String>,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeView {
    /// Its name.
    pub name: String,
    /// The directory with its content.
    pub path: PathBuf,
    /// When it was made, RFC 3339 in UTC.
    pub created: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it has a made-up name.
    pub anonymous: bool,
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Names or ids.
    pub names: Vec<String>,
    /// Bytes of the files that went with them.
    pub bytes: u64,
    /// Why others could not be removed, a sentence each.
    pub failed: Vec<String>,
}

impl Engine {
    fn open_volumes(&self) -> Result<Volumes, Error> {
        Ok(Volumes::open(&self.root.volumes())?)
    }

    /// Makes a volume with these labels (`key=value` or `key`), with a made-up name if none is given.
    /// One of the name that is there already is left as it is.
    ///
    /// # Errors
    /// The name is none, or a label has none.
    pub fn create_volume(
        &self,
        name: Option<&str>,
        labels: &[String],
    ) -> Result<VolumeView, Error> {
        let mut record = Record::default();
        crate::config::add_labels(&mut record.labels, labels)?;
        let volumes = self.open_volumes()?;
        let path = self.root.volumes();
        let note = serde_json::to_vec(&record);
        let note = note.map_err(|error| Error::system("write a record in", &path, error))?;
        let volume = volumes.create(name, &note)?;
        if volume.new {
            self.root.events().volume("create", &volume.name);
        }
        let name = volume.name.clone();
        let view = self.volume_view(&volumes, volume)?;
        view.ok_or(Error::NoSuchVolume { name, near: Vec::new() })
    }

    /// All volumes, by name.
    ///
    /// # Errors
    /// A system call fails, or a record is damaged.
    pub fn volumes(&self) -> Result<Vec<VolumeView>, Error> {
        let volumes = self.open_volumes()?;
        let all = volumes.list()?.into_iter();
        all.filter_map(|volume| self.volume_view(&volumes, volume).transpose()).collect()
    }

    /// The volume of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn volume(&self, name: &str) -> Result<VolumeView, Error> {
        let volumes = self.open_volumes()?;
        let found = if bindvol::is_volume_name(name) { volumes.get(name)? } else { None };
        let view = found.map(|volume| self.volume_view(&volumes, volume)).transpose()?.flatten();
        match view {
            Some(view) => Ok(view),
            None => {
                let all = volumes.list()?;
                let near = crate::near::near(name, all.iter().map(|volume| &volume.name[..]));
                Err(Error::NoSuchVolume { name: crate::error::shorten(name), near })
            }
        }
    }

    /// `None` where it is gone by now.
    fn volume_view(&self, volumes: &Volumes, volume: Volume) -> Result<Option<VolumeView>, Error> {
        let Volume { name, path, .. } = volume;
        let record: Record = match volumes.note(&name)? {
            // Empty: the power failed before its bytes were on the disk.
            Some(bytes) if !bytes.is_empty() => {
                serde_json::from_slice(&bytes).map_err(|source| Error::Damaged {
                    path: self.root.volumes().join(&name),
                    source,
                })?
            }
            _ => Record::default(),
        };
        let own = self.root.volumes().join(&name);
        let modified = std::fs::metadata(&own).and_then(|metadata| metadata.modified());
        let created = match modified {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| Error::system("look at", &own, error))?,
        };
        let anonymous = is_made_up(&name);
        let created = time_text(created.into());
        Ok(Some(VolumeView { name, path, created, labels: record.labels, anonymous }))
    }

    /// Removes a volume with its content.
    ///
    /// # Errors
    /// There is none, or a container, running or not, has it ([`Error::VolumeOfContainers`]).
    pub fn remove_volume(&self, name: &str) -> Result<(), Error> {
        let volume = self.volume(name)?;
        let in_use = |users| Error::VolumeOfContainers { name: volume.name.clone(), users };
        let users = self.volume_users(&volume.name)?;
        if !users.is_empty() {
            return Err(in_use(users));
        }
        let unused = || !is_used(&self.root, &volume.name, None);
        match self.open_volumes()?.remove_if(&volume.name, unused)? {
            true => {
                self.root.events().volume("destroy", &volume.name);
                Ok(())
            }
            false => Err(in_use(self.volume_users(&volume.name)?)),
        }
    }

    /// The ids of the containers that have a volume.
    ///
    /// # Errors
    /// A record is damaged; a system call fails.
    pub fn volume_users(&self, name: &str) -> Result<Vec<String>, Error> {
        let uses = |container: &crate::Container| {
            container.mounts.iter().any(|mount| mount.name.as_deref() == Some(name))
        };
        let all = self.list()?.into_iter().map(|(container, _)| container);
        Ok(all.filter(uses).map(|container| container.id).collect())
    }

    /// Bytes of the files in a volume.
    ///
    /// # Errors
    /// A system call fails.
    pub fn volume_size(&self, volume: &VolumeView) -> Result<u64, Error> {
        usage(&volume.path)
    }

    /// Removes the volumes that no container has and that `chosen` wants removed.
    ///
    /// # Errors
    /// They cannot be listed. What fails with one of them is in [`Pruned::failed`].
    pub fn prune_volumes(&self, chosen: impl Fn(&VolumeView) -> bool) -> Result<Pruned, Error> {
        let volumes = self.open_volumes()?;
        let mut pruned = Pruned::default();
        for volume in self.volumes()? {
            let unused = || !is_used(&self.root, &volume.name, None);
            // Asked before too: to walk a large one takes long.
            if !chosen(&volume) || !unused() {
                continue;
            }
            let removed = self
                .volume_size(&volume)
                .and_then(|bytes| Ok((volumes.remove_if(&volume.name, unused)?, bytes)));
            match removed {
                Ok((true, bytes)) => {
                    self.root.events().volume("destroy", &volume.name);
                    pruned.add(volume.name, bytes);
                }
                Ok((false, _)) | Err(Error::Volume(bindvol::Error::NoVolume { .. })) => {}
                Err(error) => pruned.failed.push(error.to_string()),
            }
        }
        Ok(pruned)
    }
}

impl Pruned {
    pub(crate) fn add(&mut self, name: String, bytes: u64) {
        self.names.push(name);
        self.bytes += bytes;
    }
}

/// As [`bindvol::Volumes::anonymous`] names them.
fn is_made_up(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
