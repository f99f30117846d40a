//! The option words of OCI mounts and fstab(5): which belong to the mount, which to its propagation,
//! which to the file system.

use rustix::mount::MountAttrFlags as Flag;
use sys::mount::Propagation;

/// Mount attributes to set and to clear, as mount_setattr(2) takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Flags to set.
    pub set: Flag,
    /// Flags to clear; `MOUNT_ATTR__ATIME` is in it whenever an atime mode is asked for.
    pub clear: Flag,
}

impl Attributes {
    /// Nothing to change.
    pub const NONE: Self = Self { set: Flag::empty(), clear: Flag::empty() };

    /// Whether nothing is to change.
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    fn switch(&mut self, flag: Flag, on: bool) {
        self.set.set(flag, on);
        self.clear.set(flag, !on);
    }

    /// The access time modes are one field of the flags: any of them clears the whole first.
    fn atime(&mut self, mode: Flag) {
        self.clear.insert(Flag::MOUNT_ATTR__ATIME);
        self.set.remove(Flag::MOUNT_ATTR__ATIME);
        self.set.insert(mode);
    }
}

impl Default for Attributes {
    fn default() -> Self {
        Self::NONE
    }
}

/// An option of a file system: `mode=755` or `newinstance`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datum {
    /// Its name.
    pub key: String,
    /// Its value, without the quotes that may stand around it.
    pub value: Option<String>,
}

/// Words that concern a file system as a whole (fsconfig(2)): a bind, which is of one that is there, has no
/// use for them.
pub const SUPERBLOCK: [&str; 7] =
    ["async", "dirsync", "lazytime", "mand", "nolazytime", "nomand", "sync"];

/// Every word that has a meaning of its own, whatever the file system (config.md, "Linux mount options", and
/// crun's). [`MountWords::parse`] takes all others for options of the file system.
pub const KNOWN: [&str; 65] = [
    "async",
    "atime",
    "bind",
    "copy-symlink",
    "defaults",
    "dest-nofollow",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "src-nofollow",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

/// The words of one mount, sorted. Of words that contradict each other the last one holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountWords {
    /// For the mount itself: `ro`, `nosuid` …
    pub mount: Attributes,
    /// For it and all below it: `rro`, `rnosuid` …
    pub tree: Attributes,
    /// `rslave` is `(Slave, true)`, `slave` is `(Slave, false)`.
    pub propagation: Option<(Propagation, bool)>,
    /// `rbind` is `Some(true)`, `bind` is `Some(false)`.
    pub bind: Option<bool>,
    /// `ridmap` is `Some(true)`, `idmap` is `Some(false)`.
    pub idmap: Option<bool>,
    /// `tmpcopyup`: a tmpfs starts with the content of the directory that it covers.
    pub copy_up: bool,
    /// `remount`: an existing mount is to be changed.
    pub remount: bool,
    /// `copy-symlink`: a source that is a symbolic link is made again, in place of a bind.
    pub copy_symlink: bool,
    /// `src-nofollow`: a source that is a symbolic link is bound itself.
    pub source_nofollow: bool,
    /// `dest-nofollow`: a target that is a symbolic link is covered itself.
    pub target_nofollow: bool,
    /// What is left: options of the file system, in their order.
    pub data: Vec<Datum>,
}

impl MountWords {
    /// Sorts `options`: each an option, or several with commas between them (a comma in `"…"` or
    /// behind a backslash separates nothing). Words that are not known belong to the file system.
    pub fn parse<S: AsRef<str>>(options: &[S]) -> Self {
        let mut words = Self::default();
        for option in options {
            for word in split(option.as_ref()) {
                words.add(word);
            }
        }
        words
    }

    fn add(&mut self, word: &str) {
        if self.add_attribute(word) {
            return;
        }
        use Propagation::{Private, Shared, Slave, Unbindable};
        match word {
            // Silence concerns messages of the kernel's log only, versions of inodes file systems turn on
            // themselves, the others are what is anyway.
            "" | "defaults" | "silent" | "loud" | "iversion" | "noiversion" => {}
            "shared" => self.propagation = Some((Shared, false)),
            "rshared" => self.propagation = Some((Shared, true)),
            "slave" => self.propagation = Some((Slave, false)),
            "rslave" => self.propagation = Some((Slave, true)),
            "private" => self.propagation = Some((Private, false)),
            "rprivate" => self.propagation = Some((Private, true)),
            "unbindable" => self.propagation = Some((Unbindable, false)),
            "runbindable" => self.propagation = Some((Unbindable, true)),
            "bind" => self.bind = Some(false),
            "rbind" => self.bind = Some(true),
            "idmap" => self.idmap = Some(false),
            "ridmap" => self.idmap = Some(true),
            "tmpcopyup" => self.copy_up = true,
            "remount" => self.remount = true,
            "copy-symlink" => self.copy_symlink = true,
            "src-nofollow" => self.source_nofollow = true,
            "dest-nofollow" => self.target_nofollow = true,
            _ => self.data.push(datum(word)),
        }
    }

    fn add_attribute(&mut self, word: &str) -> bool {
        if attribute(&mut self.mount, word) {
            return true;
        }
        word.strip_prefix('r').is_some_and(|rest| attribute(&mut self.tree, rest))
    }
}

/// Whether `word` is one of a mount's attributes; then it is noted.
fn attribute(attributes: &mut Attributes, word: &str) -> bool {
    match word {
        "ro" => attributes.switch(Flag::MOUNT_ATTR_RDONLY, true),
        "rw" => attributes.switch(Flag::MOUNT_ATTR_RDONLY, false),
        "nosuid" => attributes.switch(Flag::MOUNT_ATTR_NOSUID, true),
        "suid" => attributes.switch(Flag::MOUNT_ATTR_NOSUID, false),
        "nodev" => attributes.switch(Flag::MOUNT_ATTR_NODEV, true),
        "dev" => attributes.switch(Flag::MOUNT_ATTR_NODEV, false),
        "noexec" => attributes.switch(Flag::MOUNT_ATTR_NOEXEC, true),
        "exec" => attributes.switch(Flag::MOUNT_ATTR_NOEXEC, false),
        "nodiratime" => attributes.switch(Flag::MOUNT_ATTR_NODIRATIME, true),
        "diratime" => attributes.switch(Flag::MOUNT_ATTR_NODIRATIME, false),
        "nosymfollow" => attributes.switch(Flag::MOUNT_ATTR_NOSYMFOLLOW, true),
        "symfollow" => attributes.switch(Flag::MOUNT_ATTR_NOSYMFOLLOW, false),
        "noatime" => attributes.atime(Flag::MOUNT_ATTR_NOATIME),
        "strictatime" => attributes.atime(Flag::MOUNT_ATTR_STRICTATIME),
        // The kernel's default, to which the opposites of the others lead back.
        "relatime" | "atime" | "norelatime" | "nostrictatime" => attributes.atime(Flag::empty()),
        _ => return false,
    }
    true
}

fn datum(word: &str) -> Datum {
    match word.split_once('=') {
        Some((key, value)) => {
            let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            Datum { key: key.to_owned(), value: Some(bare.unwrap_or(value).to_owned()) }
        }
        None => Datum { key: word.to_owned(), value: None },
    }
}

fn split(option: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    option.split(move |c| {
        let separates = c == ',' && !quoted && !escaped;
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        separates
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_sorted() {
        let words = MountWords::parse(&[
            "nosuid",
            "ro",
            "rw",
            "noatime",
            "rro",
            "rslave",
            "mode=755",
            "rbind",
            "newinstance",
        ]);
        assert_eq!(words.mount.set, Flag::MOUNT_ATTR_NOSUID | Flag::MOUNT_ATTR_NOATIME);
        assert_eq!(words.mount.clear, Flag::MOUNT_ATTR_RDONLY | Flag::MOUNT_ATTR__ATIME);
        assert_eq!(words.tree.set, Flag::MOUNT_ATTR_RDONLY);
        assert_eq!(words.propagation, Some((Propagation::Slave, true)));
        assert_eq!(words.bind, Some(true));
        let data: Vec<_> =
            words.data.iter().map(|d| (d.key.as_str(), d.value.as_deref())).collect();
        assert_eq!(data, [("mode", Some("755")), ("newinstance", None)]);
    }

    #[test]
    fn every_known_word_is_none_of_the_file_systems() {
        assert!(KNOWN.is_sorted());
        for word in KNOWN {
            let words = MountWords::parse(&[word]);
            let left = words.data.iter().all(|datum| SUPERBLOCK.contains(&datum.key.as_str()));
            assert!(left, "{word}");
        }
        for word in SUPERBLOCK {
            assert!(KNOWN.contains(&word), "{word}");
        }
    }

    #[test]
    fn the_last_atime_mode_holds() {
        let words = MountWords::parse(&["strictatime", "noatime", "relatime", "rstrictatime"]);
        assert_eq!(words.mount.set, Flag::empty());
        assert_eq!(words.mount.clear, Flag::MOUNT_ATTR__ATIME);
        assert_eq!(words.tree.set, Flag::MOUNT_ATTR_STRICTATIME);
    }

    #[test]
    fn every_attribute_has_its_opposite() {
        for word in ["suid", "dev", "exec", "symfollow", "diratime"] {
            for prefix in ["", "r"] {
                let words =
                    MountWords::parse(&[format!("{prefix}no{word}"), format!("{prefix}{word}")]);
                let tree = if prefix.is_empty() { words.mount } else { words.tree };
                assert!(tree.set.is_empty() && !tree.clear.is_empty(), "{prefix}{word}");
                assert!(words.data.is_empty(), "{:?}", words.data);
            }
        }
        // Not `r` + a word.
        assert_eq!(MountWords::parse(&["relatime"]).tree, Attributes::NONE);
    }

    #[test]
    fn commas_split_unless_quoted_or_escaped() {
        let words =
            MountWords::parse(&[r#"nodev,context="u:r:t:s0:c1,c2",lowerdir=/a\,b:/c,size=1k"#]);
        assert_eq!(words.mount.set, Flag::MOUNT_ATTR_NODEV);
        let values: Vec<_> = words.data.iter().map(|d| d.value.as_deref().unwrap()).collect();
        assert_eq!(values, ["u:r:t:s0:c1,c2", r"/a\,b:/c", "1k"]);
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_loses_nothing(options in proptest::collection::vec("[ -~]{0,20}", 0..5)) {
            let words = MountWords::parse(&options);
            // What ends up as data was in the input, in this order.
            let all = options.join(",");
            let mut from = 0;
            for datum in &words.data {
                let at = all[from..].find(datum.key.as_str());
                proptest::prop_assert!(at.is_some());
                from += at.unwrap();
            }
        }

        #[test]
        fn order_of_different_words_does_not_matter(mut words in proptest::sample::subsequence(
            vec!["ro", "nosuid", "nodev", "noexec", "rro", "rslave", "bind", "noatime"], 0..8)) {
            let forward = MountWords::parse(&words);
            words.reverse();
            proptest::prop_assert_eq!(forward, MountWords::parse(&words));
        }
    }
}
