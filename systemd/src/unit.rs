//! A unit's name, and where it lies: `linux.cgroupsPath` as systemd drivers read it.

use crate::Error;

const FIELD: &str = "linux.cgroupsPath";
/// What a unit's name may have (systemd.unit(5)).
const MARKS: &str = ":-_.\\@";
/// Bytes of a unit's name (systemd.unit(5)).
const LONGEST: usize = 255;

/// A unit for one container: a scope, or a slice where its name says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    name: String,
    slice: String,
    description: String,
}

impl Unit {
    /// What `path`, of the form `slice:prefix:name`, means for the container `id`: the scope `prefix-name.scope` in
    /// `slice`; a name that ends in `.slice` is that of the unit itself. Without a path it is `:runc:id`, as with
    /// runc, so that tools find it. Without a slice it is `system.slice`, of a user's systemd `user.slice`.
    ///
    /// # Errors
    /// It has another form, or names nothing that a unit could be named.
    pub fn parse(path: &str, id: &str, user: bool) -> Result<Self, Error> {
        let (slice, prefix, name) = match path.split(':').collect::<Vec<_>>()[..] {
            [""] => ("", "runc", id),
            [slice, prefix, name] => (slice, prefix, name),
            _ => {
                return Err(Error::field(
                    FIELD,
                    format!(
                        "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \
                         {path:?} instead; the engine's cgroup driver and --systemd-cgroup must agree"
                    ),
                ));
            }
        };
        let slice = match (slice, user) {
            ("", false) => "system.slice",
            ("", true) => "user.slice",
            ("-", _) => "-.slice",
            (slice, _) => slice,
        };
        let full = match name.ends_with(".slice") {
            true => name.to_owned(),
            false => format!("{prefix}-{name}.scope"),
        };
        let wrong = |word: &str, reason| Error::field(FIELD, format!("{word:?} {reason}"));
        let letters = |name: &str| {
            name.len() <= LONGEST
                && name.chars().all(|c| c.is_ascii_alphanumeric() || MARKS.contains(c))
        };
        if name.is_empty() || !letters(&full) {
            let reason = "is no name of a systemd unit: letters, digits and :-_.\\@, at most 255 (systemd.unit(5))";
            return Err(wrong(&full, reason));
        }
        let no_slice = "is no name of a slice: as machine.slice or a-b.slice, which is in a.slice (systemd.slice(5))";
        if !letters(slice) || expand(slice).is_none() {
            return Err(wrong(slice, no_slice));
        }
        if name.ends_with(".slice") && (full == "-.slice" || expand(&full).is_none()) {
            return Err(wrong(&full, no_slice));
        }
        let description = format!("libcontainer container {name}");
        Ok(Self { name: full, slice: slice.to_owned(), description })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The slice that it is in.
    pub fn slice(&self) -> &str {
        &self.slice
    }

    /// What `systemctl` shows of it: the words that runc gives.
    pub(crate) fn description(&self) -> &str {
        &self.description
    }

    /// Whether it is a slice, which has no process to begin with.
    pub fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }

    /// Where its cgroup lies below that of systemd ([`Manager::control_group`](crate::Manager::control_group)):
    /// `/a.slice/a-b.slice/prefix-name.scope`.
    pub fn path(&self) -> String {
        let own = |name: &str| expand(name).unwrap_or_default();
        match self.is_slice() {
            // Its own name says where a slice is.
            true => own(&self.name),
            false => format!("{}/{}", own(&self.slice), self.name),
        }
    }
}

/// The path of a slice, by the dashes in its name: `/a.slice/a-b.slice`, and nothing for the root, `-.slice`. None
/// where it is no slice's name.
fn expand(slice: &str) -> Option<String> {
    let name = slice.strip_suffix(".slice")?;
    if name == "-" {
        return Some(String::new());
    }
    let mut path = String::new();
    for (at, _) in name.match_indices('-').chain([(name.len(), "")]) {
        let above = &name[..at];
        if above.is_empty() || above.ends_with('-') {
            return None;
        }
        path.push_str(&format!("/{above}.slice"));
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_units() {
        for (path, user, name, place) in [
            ("", false, "runc-id.scope", "/system.slice/runc-id.scope"),
            ("", true, "runc-id.scope", "/user.slice/runc-id.scope"),
            (":docker:1", false, "docker-1.scope", "/system.slice/docker-1.scope"),
            ("machine.slice:libpod:1", false, "libpod-1.scope", "/machine.slice/libpod-1.scope"),
            (
                "a-b-c.slice:cri:x",
                true,
                "cri-x.scope",
                "/a.slice/a-b.slice/a-b-c.slice/cri-x.scope",
            ),
            ("-:p:n", false, "p-n.scope", "/p-n.scope"),
            ("system.slice::n", false, "-n.scope", "/system.slice/-n.scope"),
            ("a.slice:p:a-b.slice", false, "a-b.slice", "/a.slice/a-b.slice"),
        ] {
            let unit = Unit::parse(path, "id", user).unwrap();
            assert_eq!((unit.name(), &*unit.path()), (name, place), "{path}");
        }
    }

    #[test]
    fn what_is_no_unit_is_refused() {
        let long = format!(":p:{}", "x".repeat(250));
        for (path, word) in [
            ("/a/b", "slice:prefix:name"),
            ("a:b", "slice:prefix:name"),
            ("a.slice:b:c:d", "slice:prefix:name"),
            ("a:b:c", "\"a\" is no name of a slice"),
            (".slice:b:c", "\".slice\" is no name of a slice"),
            ("a--b.slice:b:c", "\"a--b.slice\""),
            ("-a.slice:b:c", "\"-a.slice\""),
            ("a/b.slice:b:c", "\"a/b.slice\""),
            (":p:", "\"p-.scope\" is no name of a systemd unit"),
            (":p:../x", "no name of a systemd unit"),
            (":p:a b", "no name of a systemd unit"),
            (":p:-.slice", "\"-.slice\" is no name of a slice"),
            (":p:a-.slice", "\"a-.slice\" is no name of a slice"),
            (&long, "at most 255"),
        ] {
            let error = Unit::parse(path, "id", false).unwrap_err().to_string();
            assert!(
                error.starts_with("linux.cgroupsPath: ") && error.contains(word),
                "{path}: {error}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn a_unit_never_leaves_its_slice(path in "[a./:\\-]{0,24}") {
            if let Ok(unit) = Unit::parse(&path, "id", false) {
                let place = unit.path();
                proptest::prop_assert!(place.starts_with('/'), "{}", place);
                let plain = place.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
                proptest::prop_assert!(plain, "{}", place);
            }
        }
    }
}
