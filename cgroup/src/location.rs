//! Where a group lies, in each hierarchy: the text of `/proc/PID/cgroup`.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// The path of a group (or of a process's groups) in each hierarchy.
///
/// Its text is that of `/proc/PID/cgroup` (cgroups(7)), so that a record of it can be kept and read
/// again: `0::/one/group`, `0:cpu,cpuacct:/one/group`. The numbers of hierarchies are not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Separated by commas; empty for v2.
    pub(crate) controllers: String,
    pub(crate) path: String,
}

impl Location {
    /// Of the groups that a process is in: `self`, or its number.
    ///
    /// # Errors
    /// There is no such process, or no `/proc`.
    pub fn of_process(pid: &str) -> Result<Self, Error> {
        let path = format!("/proc/{pid}/cgroup");
        sys::whole::read_text(&path).map_err(Error::io("reading", path))?.parse()
    }

    pub(crate) fn new(entries: Vec<Entry>) -> Self {
        Self { entries }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The path in the hierarchy of v2.
    pub fn unified(&self) -> Option<&str> {
        self.of("")
    }

    /// The path in the v1 hierarchy with these controllers, as the kernel lists them (`cpu,cpuacct`,
    /// `name=systemd`).
    pub fn legacy(&self, controllers: &str) -> Option<&str> {
        Some(controllers).filter(|controllers| !controllers.is_empty()).and_then(|all| self.of(all))
    }

    pub(crate) fn of(&self, controllers: &str) -> Option<&str> {
        let mut entries = self.entries.iter();
        entries.find(|entry| entry.controllers == controllers).map(|entry| &entry.path[..])
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Entry { controllers, path } in &self.entries {
            writeln!(f, "0:{controllers}:{path}")?;
        }
        Ok(())
    }
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let entry = |(number, line): (usize, &str)| {
            let wrong = || Error::Record { line: number + 1, text: line.to_owned() };
            let mut fields = line.splitn(3, ':');
            let (Some(id), Some(controllers), Some(path)) =
                (fields.next(), fields.next(), fields.next())
            else {
                return Err(wrong());
            };
            if id.parse::<u32>().is_err() || !path.starts_with('/') {
                return Err(wrong());
            }
            Ok(Entry { controllers: controllers.to_owned(), path: path.to_owned() })
        };
        let entries = text.lines().enumerate().map(entry).collect::<Result<_, _>>()?;
        Ok(Self { entries })
    }
}

/// A path without `.`, `..` and empty parts, and never above where it begins (as Go's filepath.Clean
/// below a root): absolute if it was.
pub(crate) fn clean(path: &str) -> Result<String, Error> {
    let wrong = |reason| Error::Path { path: path.to_owned(), reason };
    if path.contains(['\0', '\n']) {
        return Err(wrong("it has a NUL byte or a line break"));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Err(wrong(
            "it is the hierarchy's root, which is nobody's own; name a group below it",
        ));
    }
    let path = parts.join("/");
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_prints_is_read_and_written() {
        let text = "9:name=systemd:/a:b\n2:cpu,cpuacct:/x\n0::/y\n";
        let location: Location = text.parse().unwrap();
        assert_eq!(location.unified(), Some("/y"));
        assert_eq!(location.legacy("cpu,cpuacct"), Some("/x"));
        assert_eq!(location.legacy("name=systemd"), Some("/a:b"));
        assert_eq!((location.legacy("cpu"), location.legacy("")), (None, None));
        assert_eq!(location.to_string().parse::<Location>().unwrap(), location);
    }

    #[test]
    fn what_is_none_names_its_line() {
        for wrong in ["0::/a\nx", "0::/a\n0:/b", "0::/a\n0::b", "0::/a\nx::/b"] {
            let error = wrong.parse::<Location>().unwrap_err();
            assert!(error.to_string().starts_with("line 2 of the record of a cgroup"), "{error}");
        }
    }

    #[test]
    fn paths_stay_below_their_root() {
        for (path, expected) in [
            ("/a/b", "a/b"),
            ("a//b/./c/", "a/b/c"),
            ("../../a", "a"),
            ("/a/../../b", "b"),
            ("a:b", "a:b"),
        ] {
            assert_eq!(clean(path).unwrap(), expected);
        }
        for none in ["", "/", "..", "a/..", "a\0b", "a\nb"] {
            assert!(clean(none).is_err(), "{none:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn records_never_panic_and_survive(text in "([0-9]{1,3}|x):[a-z,=]{0,12}:/?[ -~]{0,20}\n{0,2}") {
            if let Ok(location) = text.parse::<Location>() {
                proptest::prop_assert_eq!(location.to_string().parse::<Location>().unwrap(), location);
            }
        }

        #[test]
        fn a_clean_path_has_plain_parts_only(path in "[a./\\-]{0,24}") {
            if let Ok(clean) = clean(&path) {
                proptest::prop_assert!(clean.split('/').all(|part| !matches!(part, "" | "." | "..")));
            }
        }
    }
}
