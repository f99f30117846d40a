//! What an option says, as a value, and as the words of an OCI mount.

use std::path::PathBuf;

use rustix::mount::MountAttrFlags;
use sys::mount::Propagation;

use crate::{Attributes, SyntaxError, parse_mount, parse_tmpfs, parse_volume};

/// What one `-v`, `--mount` or `--tmpfs` option says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct VolumeSpec {
    /// What is mounted.
    pub kind: Kind,
    /// Where in the container: absolute, lexically clean, not `/`.
    pub target: String,
    /// How.
    pub options: Options,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Kind {
    /// A file or directory of the host.
    Bind {
        /// Absolute, without `.` and `..`.
        source: PathBuf,
        /// A missing source is made, as a directory ([`crate::create_source`]).
        create_source: bool,
    },
    /// A named volume.
    Named {
        /// Its name; [`crate::is_volume_name`] holds.
        name: String,
        /// It is not filled from the image.
        nocopy: bool,
        /// What of the volume is mounted: relative, without `..`.
        subpath: Option<String>,
    },
    /// A volume of this container's own.
    Anonymous {
        /// It is not filled from the image.
        nocopy: bool,
    },
    /// A tmpfs.
    Tmpfs {
        /// Options of the file system as mount words: `size=64m`, `mode=1777`.
        data: Vec<String>,
    },
}

/// How something is mounted. The default is writable, recursive, and with no propagation said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct Options {
    /// `ro`.
    pub read_only: bool,
    /// Where `read_only`: what is mounted below the source is read-only too. Default true.
    pub recursive_read_only: bool,
    /// `rslave` is `(Slave, true)`, `slave` is `(Slave, false)`. Serialised as its word.
    #[cfg_attr(feature = "serde", serde(with = "word"))]
    pub propagation: Option<(Propagation, bool)>,
    /// Set-user-id bits and file capabilities have no effect. Of the mount itself, as in mount(8).
    pub nosuid: bool,
    /// Device nodes cannot be opened. Of the mount itself.
    pub nodev: bool,
    /// Nothing can be executed. Of the mount itself.
    pub noexec: bool,
    /// What is mounted below the source comes along. Default true.
    pub recursive: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            read_only: false,
            recursive_read_only: true,
            propagation: None,
            nosuid: false,
            nodev: false,
            noexec: false,
            recursive: true,
        }
    }
}

impl VolumeSpec {
    /// Reads `-v`: `SRC:DST[:OPTIONS]`, `NAME:DST[:OPTIONS]` or `DST`.
    ///
    /// A source with a slash, or with a dot at its start, is a path; a relative one is taken from
    /// the working directory. Any other source is a volume's name. `OPTIONS`, with commas between:
    /// `ro` `rw` `[r]private` `[r]shared` `[r]slave` `nosuid` `suid` `nodev` `dev` `noexec` `exec`
    /// `bind` `rbind` `nocopy`. Without effect, and accepted since scripts have them: `z` `Z` (nothing
    /// is relabelled: this runtime sets no SELinux labels), `cached` `delegated` `consistent`
    /// (Docker has them for other systems).
    pub fn parse_volume(text: &str) -> Result<Self, SyntaxError> {
        parse_volume::parse(text).map_err(|problem| SyntaxError::new("-v", text, problem))
    }

    /// Reads `--mount`: `type=bind|volume|tmpfs,source=…,target=…` and more, comma-separated values
    /// as Docker takes them: a field that has a comma or a quote stands in `"…"`, a quote in it is
    /// doubled. Without a type it is a volume.
    ///
    /// Of all: `target` `destination` `dst`, `readonly` `ro` `rw` `[=true|false]`, `nosuid` `suid` …
    /// Of a bind: `source` `src`, `bind-propagation=`, `bind-nonrecursive`,
    /// `bind-recursive=enabled|disabled|writable|readonly`, `bind-create-src`, `rslave` ….
    /// Of a volume: `source` `src`, `volume-nocopy`, `volume-subpath=`, `volume-driver=local`.
    /// Of a tmpfs: `tmpfs-size=` `tmpfs-mode=`. `consistency=` has no effect.
    pub fn parse_mount(text: &str) -> Result<Self, SyntaxError> {
        parse_mount::parse(text).map_err(|problem| SyntaxError::new("--mount", text, problem))
    }

    /// Reads `--tmpfs`: `DST[:OPTIONS]`, the options with commas between: `size=` `mode=` `uid=`
    /// `gid=` `nr_inodes=` `nr_blocks=` `mpol=` (tmpfs(5)), `ro` `rw` `nosuid` `suid` `nodev` `dev`
    /// `noexec` `exec`, `noatime` and its like, a propagation. Unless said otherwise it is nosuid,
    /// nodev and noexec.
    pub fn parse_tmpfs(text: &str) -> Result<Self, SyntaxError> {
        parse_tmpfs::parse(text).map_err(|problem| SyntaxError::new("--tmpfs", text, problem))
    }

    /// The option words of an OCI mount (config.md of the OCI runtime specification):
    /// `["rbind", "rprivate", "rro", "nosuid"]`, of a tmpfs
    /// `["nosuid", "nodev", "noexec", "size=64m"]`.
    pub fn words(&self) -> Vec<String> {
        let options = &self.options;
        let mut words = Vec::new();
        let tmpfs = matches!(self.kind, Kind::Tmpfs { .. });
        if !tmpfs {
            words.push(if options.recursive { "rbind" } else { "bind" });
        }
        match options.propagation {
            Some(propagation) => words.push(propagation_word(propagation)),
            None if tmpfs => {}
            None => words.push("rprivate"),
        }
        if options.read_only {
            let whole_tree = options.recursive && options.recursive_read_only && !tmpfs;
            words.push(if whole_tree { "rro" } else { "ro" });
        }
        let flags =
            [("nosuid", options.nosuid), ("nodev", options.nodev), ("noexec", options.noexec)];
        words.extend(flags.iter().filter(|(_, on)| *on).map(|(word, _)| *word));
        let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        if let Kind::Tmpfs { data } = &self.kind {
            words.extend(data.iter().cloned());
        }
        words
    }

    /// What [`crate::Bind::prepare`] needs to do as the options say.
    pub fn attributes(&self) -> Attributes<'static> {
        let options = &self.options;
        let mut attributes =
            Attributes { propagation: options.propagation, ..Attributes::default() };
        if options.read_only {
            let whole_tree = options.recursive && options.recursive_read_only;
            let set = if whole_tree { &mut attributes.tree_set } else { &mut attributes.set };
            set.insert(MountAttrFlags::MOUNT_ATTR_RDONLY);
        }
        attributes.set.set(MountAttrFlags::MOUNT_ATTR_NOSUID, options.nosuid);
        attributes.set.set(MountAttrFlags::MOUNT_ATTR_NODEV, options.nodev);
        attributes.set.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, options.noexec);
        attributes
    }
}

const PROPAGATIONS: [(&str, (Propagation, bool)); 8] = [
    ("private", (Propagation::Private, false)),
    ("rprivate", (Propagation::Private, true)),
    ("shared", (Propagation::Shared, false)),
    ("rshared", (Propagation::Shared, true)),
    ("slave", (Propagation::Slave, false)),
    ("rslave", (Propagation::Slave, true)),
    ("unbindable", (Propagation::Unbindable, false)),
    ("runbindable", (Propagation::Unbindable, true)),
];

/// `(Slave, true)` as `rslave`.
pub(crate) fn propagation_word(propagation: (Propagation, bool)) -> &'static str {
    let found = PROPAGATIONS.iter().find(|(_, other)| *other == propagation);
    found.map_or("private", |(word, _)| word)
}

/// `rslave` as `(Slave, true)`; no other word, and nothing that rides along (CVE-2024-9407).
pub(crate) fn propagation_from(word: &str) -> Option<(Propagation, bool)> {
    PROPAGATIONS.iter().find(|(other, _)| *other == word).map(|&(_, propagation)| propagation)
}

/// A propagation is its word.
#[cfg(feature = "serde")]
mod word {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use sys::mount::Propagation;

    pub(super) fn serialize<S: Serializer>(
        propagation: &Option<(Propagation, bool)>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        propagation.map(super::propagation_word).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<(Propagation, bool)>, D::Error> {
        let Some(word) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        match super::propagation_from(&word) {
            Some(propagation) => Ok(Some(propagation)),
            None => Err(D::Error::custom(format!("{word:?} is no propagation of a mount"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_attributes() {
        let attributes = |text: &str| VolumeSpec::parse_mount(text).unwrap().attributes();
        let ro = MountAttrFlags::MOUNT_ATTR_RDONLY;
        let of = attributes("type=bind,src=/a,dst=/b,ro,noexec,rslave");
        assert_eq!((of.set, of.tree_set), (MountAttrFlags::MOUNT_ATTR_NOEXEC, ro));
        assert_eq!(of.propagation, Some((Propagation::Slave, true)));
        for one in ["bind-nonrecursive", "bind-recursive=writable"] {
            let of = attributes(&format!("type=bind,src=/a,dst=/b,ro,{one}"));
            assert_eq!((of.set, of.tree_set), (ro, MountAttrFlags::empty()), "{one}");
        }
        let nothing = attributes("src=v,dst=/b");
        assert!(nothing.set.is_empty() && nothing.tree_set.is_empty() && nothing.idmap.is_none());
    }

    #[test]
    fn every_propagation_is_its_word() {
        for (word, propagation) in PROPAGATIONS {
            assert_eq!(propagation_word(propagation), word);
            assert_eq!(propagation_from(word), Some(propagation));
        }
        assert_eq!(propagation_from("rprivate,src=/"), None);
        assert_eq!(propagation_from(""), None);
    }

    #[cfg(feature = "serde")]
    #[test]
    fn a_spec_survives_its_serialised_form() {
        for text in ["/a:/b:ro,rslave,bind", "v:/b:nocopy", "/b"] {
            let spec = VolumeSpec::parse_volume(text).unwrap();
            let json = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<VolumeSpec>(&json).unwrap(), spec, "{json}");
        }
        let spec = VolumeSpec::parse_tmpfs("/run:size=1m").unwrap();
        let json = serde_json::to_value(&spec).unwrap();
        assert_eq!(json["options"]["nosuid"], true);
        assert_eq!(serde_json::from_value::<VolumeSpec>(json).unwrap(), spec);
        assert_eq!(serde_json::from_str::<Options>("{}").unwrap(), Options::default());
        let wrong = serde_json::from_str::<Options>(r#"{"propagation":"rprivate,src=/"}"#);
        assert!(wrong.unwrap_err().to_string().contains("no propagation of a mount"));
    }
}
