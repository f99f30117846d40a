//! `--mount type=…,source=…,target=…`.

use crate::csv;
use crate::parse_volume::not_for;
use crate::syntax::Problem;
use crate::volumes::is_volume_name;
use crate::words::{Once, Words, is_mode, source_path, spec_target, user_propagation};
use crate::{Kind, VolumeSpec};

const KNOWN: &str = "type=, source=, target=, readonly, bind-propagation=, bind-recursive=, \
                     bind-nonrecursive, bind-create-src, volume-nocopy, volume-subpath=, \
                     tmpfs-size=, tmpfs-mode=, [no]suid, [no]dev, [no]exec, [r]private, [r]shared, \
                     [r]slave";
const BIND: &str = "a bind mount";
const VOLUME: &str = "a volume";
const TMPFS: &str = "a tmpfs";

/// `bind-recursive=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recursion {
    /// Submounts come along, and are read-only where the mount is.
    Enabled,
    /// They do not.
    Disabled,
    /// They do, and stay as they are.
    Writable,
    /// They do, and the mount is read-only with them.
    Readonly,
}

#[derive(Debug, Default)]
struct Fields {
    kind: Once<&'static str>,
    source: Once<String>,
    target: Once<String>,
    words: Words,
    recursion: Once<Recursion>,
    create_source: Once<bool>,
    nocopy: Once<bool>,
    subpath: Once<String>,
    size: Once<String>,
    mode: Once<String>,
    /// The first option that only one kind has, of each: itself and that kind.
    owned: Vec<(String, &'static str)>,
}

pub(crate) fn parse(text: &str) -> Result<VolumeSpec, Problem> {
    if text.contains('\0') {
        return Err(Problem::Nul);
    }
    let mut fields = Fields::default();
    for field in csv::fields(text)? {
        fields.add(&field)?;
    }
    fields.finish()
}

impl Fields {
    fn add(&mut self, field: &str) -> Result<(), Problem> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field, None),
        };
        // Docker's keys may be written in capitals.
        let key = key.to_ascii_lowercase();
        let text = || match value {
            Some(value) if !value.is_empty() => Ok(value.to_owned()),
            _ => Err(bad_value(&key, value, "something behind the equals sign")),
        };
        let switch = || match value {
            None | Some("1" | "t" | "T" | "true" | "True" | "TRUE") => Ok(true),
            Some("0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(false),
            _ => Err(bad_value(&key, value, "true or false")),
        };
        let owner = match key.split_once('-') {
            Some(("bind", _)) => Some(BIND),
            Some(("volume", _)) => Some(VOLUME),
            Some(("tmpfs", _)) => Some(TMPFS),
            _ => user_propagation(&key).map(|_| BIND),
        };
        if let Some(owner) = owner {
            self.owned.push((field.to_owned(), owner));
        }
        match key.as_str() {
            "type" => self.kind.say(kind(&text()?)?, field),
            "source" | "src" => self.source.say(text()?, field),
            "target" | "destination" | "dst" => self.target.say(text()?, field),
            "readonly" | "ro" => self.words.read_only.say(switch()?, field),
            "rw" => self.words.read_only.say(!switch()?, field),
            "consistency" => match text()?.as_str() {
                "consistent" | "cached" | "delegated" | "default" => Ok(()),
                _ => Err(bad_value(&key, value, "consistent, cached, delegated or default")),
            },
            "bind-propagation" => match user_propagation(&text()?) {
                Some(propagation) => self.words.propagation.say(propagation, field),
                None => Err(bad_value(
                    &key,
                    value,
                    "private, rprivate, shared, rshared, slave or rslave",
                )),
            },
            "bind-recursive" => self.recursion.say(recursion(&key, &text()?)?, field),
            "bind-nonrecursive" => {
                let recursion = if switch()? { Recursion::Disabled } else { Recursion::Enabled };
                self.recursion.say(recursion, field)
            }
            "bind-create-src" => self.create_source.say(switch()?, field),
            "volume-nocopy" => self.nocopy.say(switch()?, field),
            "volume-subpath" => self.subpath.say(subpath(&text()?)?, field),
            "volume-driver" if value == Some("local") => Ok(()),
            "tmpfs-size" => self.size.say(size(&key, &text()?)?, field),
            "tmpfs-mode" => {
                let mode = text()?;
                match is_mode(&mode) {
                    true => self.mode.say(mode, field),
                    false => Err(bad_value(&key, value, "an octal mode up to 7777")),
                }
            }
            _ if value.is_none() && self.words.add(&key)? => Ok(()),
            _ => Err(unknown(&key, field)),
        }
    }

    fn finish(self) -> Result<VolumeSpec, Problem> {
        let kind = self.kind.get().map_or(VOLUME, |(kind, _)| *kind);
        if let Some((option, owner)) = self.owned.iter().find(|(_, owner)| *owner != kind) {
            return Err(not_for(option, owner, kind));
        }
        let target = spec_target(self.target.get().map_or("", |(target, _)| target))?;
        let mut options = self.words.options(kind == TMPFS);
        if let Some((recursion, option)) = self.recursion.get() {
            let read_only = matches!(recursion, Recursion::Writable | Recursion::Readonly);
            if read_only && !options.read_only {
                return Err(Problem::Needs { option: option.to_owned(), needs: "readonly" });
            }
            options.recursive = *recursion != Recursion::Disabled;
            options.recursive_read_only = *recursion != Recursion::Writable;
        }
        let kind = match kind {
            BIND => {
                let Some((source, _)) = self.source.get() else {
                    let hint = "give source=, a path of the host";
                    return Err(Problem::Missing { what: "source", hint });
                };
                let create_source = self.create_source.into_value().unwrap_or(false);
                Kind::Bind { source: source_path(source)?, create_source }
            }
            TMPFS => {
                if let Some((_, option)) = self.source.get() {
                    return Err(not_for(option, "a bind mount or a volume", TMPFS));
                }
                let size = self.size.into_value().map(|size| format!("size={size}"));
                let mode = self.mode.into_value().map(|mode| format!("mode={mode}"));
                Kind::Tmpfs { data: size.into_iter().chain(mode).collect() }
            }
            _ => {
                let nocopy = self.nocopy.into_value().unwrap_or(false);
                match (self.source.into_value(), self.subpath.get()) {
                    (Some(name), _) if !is_volume_name(&name) => {
                        return Err(Problem::Name { name });
                    }
                    (Some(name), _) => {
                        Kind::Named { name, nocopy, subpath: self.subpath.into_value() }
                    }
                    (None, Some((_, option))) => {
                        return Err(not_for(option, "a named volume", "a volume without a name"));
                    }
                    (None, None) => Kind::Anonymous { nocopy },
                }
            }
        };
        Ok(VolumeSpec { kind, target, options })
    }
}

fn kind(value: &str) -> Result<&'static str, Problem> {
    match value {
        "bind" => Ok(BIND),
        "volume" => Ok(VOLUME),
        "tmpfs" => Ok(TMPFS),
        _ => Err(bad_value("type", Some(value), "bind, volume or tmpfs")),
    }
}

fn recursion(key: &str, value: &str) -> Result<Recursion, Problem> {
    match value {
        "enabled" => Ok(Recursion::Enabled),
        "disabled" => Ok(Recursion::Disabled),
        "writable" => Ok(Recursion::Writable),
        "readonly" => Ok(Recursion::Readonly),
        _ => Err(bad_value(key, Some(value), "enabled, disabled, writable or readonly")),
    }
}

/// A path in a volume, relative and without `.` and `..`.
fn subpath(path: &str) -> Result<String, Problem> {
    let refuse = |reason| Err(Problem::Path { what: "subpath", path: path.to_owned(), reason });
    let names: Vec<&str> = path.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    match names[..] {
        _ if path.starts_with('/') => refuse("is absolute; give it relative to the volume"),
        [] => refuse("is the volume itself; leave it out"),
        _ if names.contains(&"..") => refuse("holds \"..\"; give it without"),
        _ => Ok(names.join("/")),
    }
}

/// Bytes with a unit as Docker takes them (`64m`, `1GiB`), as tmpfs takes them.
fn size(key: &str, value: &str) -> Result<String, Problem> {
    let wrong = || bad_value(key, Some(value), "a number of bytes, with k, m, g or t behind it");
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = value.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let shift = match unit.trim_start_matches(' ').to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let bytes = number.checked_mul(1 << shift).ok_or_else(wrong)?;
    let unit = [(30, "g"), (20, "m"), (10, "k")];
    let unit = unit.iter().find(|(shift, _)| bytes != 0 && bytes % (1 << shift) == 0);
    Ok(unit.map_or(bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift)))
}

fn bad_value(option: &str, value: Option<&str>, expected: &'static str) -> Problem {
    let value = value.unwrap_or_default().to_owned();
    Problem::Value { option: option.to_owned(), value, expected }
}

fn unknown(key: &str, field: &str) -> Problem {
    let option = field.to_owned();
    let reason = match key {
        "volume-driver" => "volumes are directories of this host; \"local\" is the only driver",
        "volume-opt" => "it is for a driver; mount what it names on the host and bind that",
        "volume-label" => "volumes have no labels",
        "relabel" | "z" => "this runtime sets no SELinux labels",
        "image-subpath" => "images cannot be mounted as volumes",
        _ => return Problem::Unknown { option, known: KNOWN },
    };
    Problem::Unsupported { option, reason }
}

#[cfg(test)]
mod tests;
