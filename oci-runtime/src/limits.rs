//! `process.rlimits` (getrlimit(2)).

use oci_spec::runtime as oci;
use rustix::process::{Pid, Resource, Rlimit};
use sys::{Failure, Step};

use crate::Error;

/// The limits, in the configuration's order.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    all: Vec<(Resource, Rlimit)>,
    /// `RLIMIT_NOFILE (soft 1024, hard 2048)` each.
    shown: Vec<String>,
}

impl Limits {
    /// # Errors
    /// A limit stands there twice; a soft limit is above the hard one.
    pub(crate) fn prepare(rlimits: Option<&[oci::PosixRlimit]>) -> Result<Self, Error> {
        let mut limits = Self::default();
        for (index, rlimit) in rlimits.unwrap_or_default().iter().enumerate() {
            let field = |name: &str| format!("process.rlimits[{index}].{name}");
            let resource = resource(rlimit.typ());
            if limits.all.iter().any(|(other, _)| *other == resource) {
                let reason = format!("{} stands there twice; leave one", rlimit.typ());
                return Err(Error::field(field("type"), reason));
            }
            let (soft, hard) = (rlimit.soft(), rlimit.hard());
            if soft > hard {
                let reason = format!("{soft} is more than the hard limit {hard}");
                return Err(Error::field(field("soft"), reason));
            }
            // RLIM_INFINITY, which JSON has as 2^64-1.
            let value = |value: u64| (value != u64::MAX).then_some(value);
            limits.all.push((resource, Rlimit { current: value(soft), maximum: value(hard) }));
            limits.shown.push(format!(
                "process.rlimits[{index}], {} (soft {soft}, hard {hard})",
                rlimit.typ()
            ));
        }
        Ok(limits)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Child side. The failure's index is the limit's.
    pub(crate) fn apply(&self) -> Result<(), Failure> {
        for (index, (resource, limit)) in self.all.iter().enumerate() {
            rustix::process::setrlimit(*resource, *limit)
                .step("setting a resource limit (a higher hard limit needs CAP_SYS_RESOURCE)")
                .map_err(|failure| failure.of(0, index as u32))?;
        }
        Ok(())
    }

    /// Parent side, for a child in a user namespace, which may raise none itself (prlimit(2)).
    pub(crate) fn apply_to(&self, pid: Pid) -> Result<(), Error> {
        for ((resource, limit), shown) in self.all.iter().zip(&self.shown) {
            rustix::process::prlimit(Some(pid), *resource, *limit).map_err(|errno| {
                let error = std::io::Error::from(errno);
                let reason = format!("{error}; a higher hard limit needs CAP_SYS_RESOURCE");
                Error::field(shown.clone(), reason)
            })?;
        }
        Ok(())
    }

    /// What the failure of `index` is about.
    pub(crate) fn describe(&self, index: u32) -> String {
        let shown = self.shown.get(index as usize).cloned();
        shown.unwrap_or_else(|| "process.rlimits".to_owned())
    }
}

fn resource(typ: oci::PosixRlimitType) -> Resource {
    use oci::PosixRlimitType as Type;
    match typ {
        Type::RlimitCpu => Resource::Cpu,
        Type::RlimitFsize => Resource::Fsize,
        Type::RlimitData => Resource::Data,
        Type::RlimitStack => Resource::Stack,
        Type::RlimitCore => Resource::Core,
        Type::RlimitRss => Resource::Rss,
        Type::RlimitNproc => Resource::Nproc,
        Type::RlimitNofile => Resource::Nofile,
        Type::RlimitMemlock => Resource::Memlock,
        Type::RlimitAs => Resource::As,
        Type::RlimitLocks => Resource::Locks,
        Type::RlimitSigpending => Resource::Sigpending,
        Type::RlimitMsgqueue => Resource::Msgqueue,
        Type::RlimitNice => Resource::Nice,
        Type::RlimitRtprio => Resource::Rtprio,
        Type::RlimitRttime => Resource::Rttime,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn error(rlimits: serde_json::Value) -> String {
        let rlimits: Vec<oci::PosixRlimit> = serde_json::from_value(rlimits).unwrap();
        Limits::prepare(Some(&rlimits)).unwrap_err().to_string()
    }

    #[test]
    fn what_has_no_meaning_names_its_field() {
        let nofile = json!({"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2});
        let error_text = error(json!([nofile, nofile]));
        assert!(error_text.starts_with("process.rlimits[1].type"), "{error_text}");
        let error_text = error(json!([{"type": "RLIMIT_NOFILE", "soft": 3, "hard": 2}]));
        assert!(error_text.starts_with("process.rlimits[0].soft"), "{error_text}");
    }
}
