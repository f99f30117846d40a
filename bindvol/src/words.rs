//! What the three options have in common: words that may be said once, paths, sizes.

use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;
use sys::mount::Propagation;

use crate::Options;
use crate::spec::propagation_from;
use crate::syntax::Problem;

/// Something that may be said once, or again the same.
#[derive(Debug)]
pub(crate) struct Once<T> {
    said: Option<(T, String)>,
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self { said: None }
    }
}

impl<T: PartialEq> Once<T> {
    pub(crate) fn say(&mut self, value: T, option: &str) -> Result<(), Problem> {
        match &self.said {
            Some((before, _)) if *before == value => Ok(()),
            Some((_, other)) => {
                Err(Problem::Contradiction { option: option.to_owned(), other: other.clone() })
            }
            None => {
                self.said = Some((value, option.to_owned()));
                Ok(())
            }
        }
    }

    /// The value, and the option that said it.
    pub(crate) fn get(&self) -> Option<(&T, &str)> {
        self.said.as_ref().map(|(value, option)| (value, option.as_str()))
    }

    pub(crate) fn into_value(self) -> Option<T> {
        self.said.map(|(value, _)| value)
    }
}

/// The words for how something is mounted, as they come.
#[derive(Debug, Default)]
pub(crate) struct Words {
    pub(crate) read_only: Once<bool>,
    pub(crate) propagation: Once<(Propagation, bool)>,
    nosuid: Once<bool>,
    nodev: Once<bool>,
    noexec: Once<bool>,
}

impl Words {
    /// Takes `word` if it is one of them, and says whether it is.
    pub(crate) fn add(&mut self, word: &str) -> Result<bool, Problem> {
        match word {
            "ro" => self.read_only.say(true, word)?,
            "rw" => self.read_only.say(false, word)?,
            "nosuid" => self.nosuid.say(true, word)?,
            "suid" => self.nosuid.say(false, word)?,
            "nodev" => self.nodev.say(true, word)?,
            "dev" => self.nodev.say(false, word)?,
            "noexec" => self.noexec.say(true, word)?,
            "exec" => self.noexec.say(false, word)?,
            _ => match user_propagation(word) {
                Some(propagation) => self.propagation.say(propagation, word)?,
                None => return Ok(false),
            },
        }
        Ok(true)
    }

    /// The options that they make; `restricted` is the default of nosuid, nodev and noexec.
    pub(crate) fn options(self, restricted: bool) -> Options {
        Options {
            read_only: self.read_only.into_value().unwrap_or(false),
            propagation: self.propagation.into_value(),
            nosuid: self.nosuid.into_value().unwrap_or(restricted),
            nodev: self.nodev.into_value().unwrap_or(restricted),
            noexec: self.noexec.into_value().unwrap_or(restricted),
            ..Options::default()
        }
    }
}

/// The propagations that a person may ask for: unbindable is for the root file system only.
pub(crate) fn user_propagation(word: &str) -> Option<(Propagation, bool)> {
    propagation_from(word).filter(|(propagation, _)| *propagation != Propagation::Unbindable)
}

/// `target` as [`crate::VolumeSpec::target`] has it: absolute, without `.`, `..` and double slashes.
/// `..` is taken lexically, as Docker does; the error's words follow "the target …".
pub(crate) fn clean_target(target: &str) -> Result<String, &'static str> {
    if !target.starts_with('/') {
        return Err("is not absolute; begin it with a slash");
    }
    let mut names: Vec<&str> = Vec::new();
    for name in target.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            _ => names.push(name),
        }
    }
    if names.is_empty() {
        return Err("is the container's root, which is mounted already; choose a path below it");
    }
    Ok(format!("/{}", names.join("/")))
}

pub(crate) fn spec_target(target: &str) -> Result<String, Problem> {
    if target.is_empty() {
        return Err(Problem::Missing { what: "target", hint: "give a path in the container" });
    }
    clean_target(target).map_err(|reason| Problem::Target { target: target.to_owned(), reason })
}

/// A source on the host, absolute and clean. `..` at the start of a relative one is taken from the
/// working directory, which has no symbolic links in it; elsewhere it is refused, since behind a link
/// it means one place to the shell and another one to the kernel.
pub(crate) fn source_path(source: &str) -> Result<PathBuf, Problem> {
    let refuse = |reason| Err(Problem::Path { what: "source", path: source.to_owned(), reason });
    let path = Path::new(source);
    let mut clean = if path.is_absolute() {
        PathBuf::from("/")
    } else {
        std::env::current_dir().map_err(|error| Problem::WorkingDirectory {
            path: source.to_owned(),
            errno: Errno::from_io_error(&error).unwrap_or(Errno::NOENT),
        })?
    };
    let mut named = path.is_absolute();
    for component in path.components() {
        match component {
            Component::Normal(name) => {
                clean.push(name);
                named = true;
            }
            Component::ParentDir if named => {
                return refuse("holds \"..\"; write the path that is meant without it");
            }
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    match clean.to_str() {
        Some(_) => Ok(clean),
        None => refuse("lies below a working directory whose path is not UTF-8; give it absolute"),
    }
}

/// Whether `value` is a number with a factor behind it as tmpfs takes it (memparse of the kernel).
pub(crate) fn is_amount(value: &str) -> bool {
    let digits = value.strip_suffix(|c: char| "kmgtpeKMGTPE".contains(c)).unwrap_or(value);
    !digits.is_empty() && digits.len() < 20 && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether `value` is a file mode in octal digits.
pub(crate) fn is_mode(value: &str) -> bool {
    !value.starts_with('+') && u32::from_str_radix(value, 8).is_ok_and(|mode| mode <= 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_cleaned() {
        assert_eq!(clean_target("//a/./b/../c/").unwrap(), "/a/c");
        assert_eq!(clean_target("/../../etc").unwrap(), "/etc");
        assert!(clean_target("a").unwrap_err().contains("absolute"));
        for root in ["/", "//", "/.", "/a/..", "/.."] {
            assert!(clean_target(root).unwrap_err().contains("root"), "{root}");
        }
    }

    #[test]
    fn relative_sources_begin_at_the_working_directory() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(source_path("./x//y/.").unwrap(), here.join("x/y"));
        assert_eq!(source_path(".").unwrap(), here);
        assert_eq!(source_path("../x").unwrap(), here.parent().unwrap().join("x"));
        assert_eq!(source_path("/a//b/./c/").unwrap(), Path::new("/a/b/c"));
        assert_eq!(source_path("/").unwrap(), Path::new("/"));
        for bad in ["/a/../b", "/..", "x/../y", "./x/.."] {
            assert!(source_path(bad).unwrap_err().to_string().contains("\"..\""), "{bad}");
        }
    }

    #[test]
    fn amounts_and_modes() {
        assert!(["0", "64m", "1G", "123456"].iter().all(|value| is_amount(value)));
        assert!(["", "m", "-1", "1mb", "1 k", "+5", "1.5g"].iter().all(|value| !is_amount(value)));
        assert!(["0", "755", "01777"].iter().all(|value| is_mode(value)));
        assert!(["", "8", "10000", "-1", "+755", "rwx"].iter().all(|value| !is_mode(value)));
    }

    proptest::proptest! {
        #[test]
        fn a_clean_target_stays_as_it_is(target in "[/a.]{0,12}") {
            if let Ok(clean) = clean_target(&target) {
                proptest::prop_assert_eq!(clean_target(&clean).unwrap(), clean.clone());
                proptest::prop_assert!(clean.starts_with('/') && clean.len() > 1);
                let bad = |name: &str| name.is_empty() || name == "." || name == "..";
                proptest::prop_assert!(!clean[1..].split('/').any(bad));
            }
        }
    }
}
