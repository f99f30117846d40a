//! Profiles: the form of file that Docker (`--security-opt seccomp=FILE`) and Podman take, whose
//! rules may depend on the container's capabilities, the machine and the kernel.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

use crate::filter::or_default;
use crate::{Action, Arch, Condition, Error, Filter, Flag, Rule};

/// A profile. Reads Docker's and Podman's JSON; the specification's own is one of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    default_action: Action,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    default_errno: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    architectures: Vec<Arch>,
    #[serde(default, deserialize_with = "or_default")]
    arch_map: Vec<Family>,
    #[serde(default)]
    flags: Option<Vec<Flag>>,
    #[serde(default)]
    listener_path: Option<String>,
    #[serde(default)]
    listener_metadata: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    syscalls: Vec<Conditional>,
}

/// A machine's architecture and those that it runs besides.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Family {
    architecture: Arch,
    #[serde(default, deserialize_with = "or_default")]
    sub_architectures: Vec<Arch>,
}

/// A rule with what it depends on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Conditional {
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    names: Vec<String>,
    action: Action,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    errno: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    args: Vec<Condition>,
    #[serde(default, deserialize_with = "or_default")]
    includes: Limits,
    #[serde(default, deserialize_with = "or_default")]
    excludes: Limits,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Limits {
    #[serde(default, deserialize_with = "or_default")]
    caps: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    arches: Vec<String>,
    #[serde(default)]
    min_kernel: Option<Version>,
}

/// A kernel's version, as far as profiles ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second one.
    pub minor: u32,
}

impl FromStr for Version {
    type Err = String;

    /// Reads `4.8`, and what uname(2) says: `6.1.0-13-amd64`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no version of a kernel; give it as 4.8");
        let (major, rest) = text.split_once('.').ok_or_else(wrong)?;
        let minor = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        let number = |digits: &str| digits.parse().map_err(|_| wrong());
        Ok(Self { major: number(major)?, minor: number(minor)? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a profile's rules may depend on.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The capabilities of the container's bounding set, as `CAP_SYS_ADMIN`.
    pub capabilities: &'a [String],
    /// The machine.
    pub machine: Arch,
    /// The running kernel.
    pub kernel: Version,
}

impl Situation<'_> {
    fn has(&self, capability: &String) -> bool {
        self.capabilities.contains(capability)
    }

    fn is_one_of(&self, arches: &[String]) -> bool {
        arches.iter().any(|arch| arch == self.machine.short_name())
    }
}

impl Conditional {
    /// Whether the rule is one of this situation, as Docker decides it: all capabilities that it
    /// includes must be there, and none that it excludes.
    fn applies(&self, situation: &Situation<'_>) -> bool {
        let (with, without) = (&self.includes, &self.excludes);
        let included = (with.arches.is_empty() || situation.is_one_of(&with.arches))
            && with.caps.iter().all(|capability| situation.has(capability))
            && with.min_kernel.is_none_or(|version| situation.kernel >= version);
        let excluded = situation.is_one_of(&without.arches)
            || without.caps.iter().any(|capability| situation.has(capability))
            || without.min_kernel.is_some_and(|version| situation.kernel >= version);
        included && !excluded
    }
}

/// An errno by name (asm-generic/errno-base.h, asm-generic/errno.h), as Podman writes beside the
/// number.
fn errno(field: &str, name: &str) -> Result<u32, Error> {
    Ok(match name {
        "EPERM" => 1,
        "ENOENT" => 2,
        "EIO" => 5,
        "EAGAIN" => 11,
        "ENOMEM" => 12,
        "EACCES" => 13,
        "EBUSY" => 16,
        "ENODEV" => 19,
        "EINVAL" => 22,
        "ENOSYS" => 38,
        "EAFNOSUPPORT" => 97,
        "EOPNOTSUPP" | "ENOTSUP" => 95,
        _ => {
            let reason =
                format!("{name:?} is no errno that is known by name here; give its number");
            return Err(Error::field(field, format!("{reason} as {field}Ret")));
        }
    })
}

/// The value of an action. One that the action does not have is left out: profiles are made by
/// changing the action of others.
fn value(
    action: Action,
    number: Option<u32>,
    name: Option<&str>,
    field: &str,
) -> Result<Option<u32>, Error> {
    match (number, name.filter(|name| !name.is_empty())) {
        _ if !action.has_value() => Ok(None),
        (Some(number), _) => Ok(Some(number)),
        (None, Some(name)) => errno(field, name).map(Some),
        (None, None) => Ok(None),
    }
}

impl Profile {
    /// The filter for `situation`.
    ///
    /// # Errors
    /// A field has a value that has no meaning; the error names it.
    pub fn resolve(&self, situation: &Situation<'_>) -> Result<Filter, Error> {
        if !self.architectures.is_empty() && !self.arch_map.is_empty() {
            return Err(Error::field("archMap", "there is architectures too; leave one out"));
        }
        let family = self.arch_map.iter().find(|family| family.architecture == situation.machine);
        let mut architectures = self.architectures.clone();
        if let Some(family) = family {
            architectures.push(family.architecture);
            architectures.extend(&family.sub_architectures);
        }
        let (action, default) = (self.default_action, self.default_errno.as_deref());
        let mut filter = Filter {
            default_action: action,
            default_errno_ret: value(action, self.default_errno_ret, default, "defaultErrno")?,
            architectures,
            flags: self.flags.clone(),
            listener_path: self.listener_path.clone(),
            listener_metadata: self.listener_metadata.clone(),
            syscalls: Vec::new(),
        };
        for (number, rule) in self.syscalls.iter().enumerate() {
            let field = format!("syscalls[{number}]");
            let names = match (&rule.name[..], &rule.names[..]) {
                ("", names) => names.to_vec(),
                (name, []) => vec![name.to_owned()],
                _ => {
                    let reason = "there is names too; leave one out";
                    return Err(Error::field(format!("{field}.name"), reason));
                }
            };
            let errno = rule.errno.as_deref();
            let rule_of = Rule {
                names,
                action: rule.action,
                errno_ret: value(rule.action, rule.errno_ret, errno, &format!("{field}.errno"))?,
                args: rule.args.clone(),
            };
            // Checked by its number in the file, and whether it applies here or not.
            rule_of.check(&field)?;
            if rule.applies(situation) {
                filter.syscalls.push(rule_of);
            }
        }
        filter.check()?;
        Ok(filter)
    }
}
