//! A container's seccomp filter: Docker's default one, a profile of the user's, or none.

use std::fs::{DirBuilder, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use oci_spec::runtime::{LinuxSeccomp, Process};
use rustix::fs::{Mode, OFlags};
use seccomp_oci::{Arch, Filter, Profile, Situation, Version, default_profile};

use crate::dir::Dir;
use crate::error::shorten;
use crate::{Container, Error};

/// The words of `--security-opt seccomp=` that are no files.
const UNCONFINED: &str = "unconfined";
const BUILTIN: &str = "builtin";
const PREFIX: &str = "seccomp=";

/// Most bytes of a profile. Docker's own has 15 KiB.
const MAX_PROFILE: u64 = 1 << 20;

/// What is written down of `seccomp=value`: as in Docker, the profile itself in place of its file's
/// name, so that the container does not depend on the file.
///
/// # Errors
/// The file cannot be read, or has no profile ([`Error::SeccompProfile`]).
pub(crate) fn recorded(value: &str) -> Result<String, Error> {
    if matches!(value, UNCONFINED | BUILTIN) {
        return Ok(format!("{PREFIX}{value}"));
    }
    let wrong = |why: String| Error::SeccompProfile { file: shorten(value), why };
    let failed = |error: std::io::Error| wrong(format!("it cannot be read: {error}"));
    let mut text = String::new();
    let file = File::open(value).map_err(failed)?;
    file.take(MAX_PROFILE + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_PROFILE {
        return Err(wrong(format!("it is larger than {MAX_PROFILE} bytes")));
    }
    let profile = read(&text).map_err(wrong)?;
    // What does not depend on the container is seen here already.
    resolve(&profile, &[]).map_err(|error| wrong(error.to_string()))?;
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    Ok(format!("{PREFIX}{value}"))
}

fn read(text: &str) -> Result<Profile, String> {
    let json = &mut serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(json).map_err(|error| error.to_string())
}

fn resolve(profile: &Profile, capabilities: &[String]) -> Result<Filter, seccomp_oci::Error> {
    profile.resolve(&situation(capabilities)?)
}

fn situation(capabilities: &[String]) -> Result<Situation<'_>, seccomp_oci::Error> {
    let machine = || std::env::consts::ARCH.to_owned();
    Ok(Situation {
        capabilities,
        machine: Arch::native()
            .ok_or_else(|| seccomp_oci::Error::Machine { machine: machine() })?,
        kernel: kernel(),
    })
}

/// The running kernel; what does not tell its version is taken for an old one, which allows less.
fn kernel() -> Version {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    release.parse().unwrap_or(Version { major: 0, minor: 0 })
}

/// The filter of `container`, whose first process is `process`. As in Docker the last word holds, and a
/// privileged container has one only where it is asked for.
///
/// # Errors
/// The profile on record has none that can be made for this container.
pub(crate) fn filter(
    container: &Container,
    process: &Process,
) -> Result<Option<LinuxSeccomp>, Error> {
    let host = &container.host_config;
    let typed = host.security_opt.iter().flatten();
    let said = typed.filter_map(|text| text.strip_prefix(PREFIX)).next_back();
    let sets = process.capabilities().as_ref();
    let bounding = sets.and_then(|sets| sets.bounding().as_ref()).into_iter().flatten();
    let capabilities: Vec<String> = bounding.map(|one| format!("CAP_{one}")).collect();
    let wrong = |why: String| Error::SeccompProfile { file: container.name.clone(), why };
    let filter = match said {
        Some(UNCONFINED) => return Ok(None),
        None if host.privileged => return Ok(None),
        None | Some(BUILTIN) => {
            situation(&capabilities).map(|situation| default_profile(&situation))
        }
        Some(profile) => resolve(&read(profile).map_err(wrong)?, &capabilities),
    };
    let filter = filter.map_err(|error| wrong(error.to_string()))?;
    // Both have the specification's form. By its text: a tree of values is a string and a node for each call's name more.
    serde_json::to_string(&filter)
        .and_then(|text| serde_json::from_str(&text))
        .map(Some)
        .map_err(|error| wrong(error.to_string()))
}

/// The directory below the root of the container `dir` where compiled programs are kept; `None` where
/// it cannot be made or opened, which costs time alone.
pub(crate) fn cache(dir: &Dir) -> Option<OwnedFd> {
    // containers/ID below the root.
    let root: &Path = dir.path().ancestors().nth(2)?;
    let path = root.join("seccomp");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::open(&path, flags, Mode::empty()).ok();
    open().or_else(|| {
        // Another one may be at it, too.
        let _ = DirBuilder::new().mode(0o700).create(&path);
        open()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use serde_json::json;

    fn process(capabilities: &[&str]) -> Process {
        let sets = json!({"bounding": capabilities});
        let process = json!({"user": {"uid": 0, "gid": 0}, "cwd": "/", "capabilities": sets});
        serde_json::from_value(process).unwrap()
    }

    fn made(options: &[&str], privileged: bool) -> Result<Option<serde_json::Value>, String> {
        let mut container = testing::container();
        container.host_config.privileged = privileged;
        container.host_config.security_opt =
            Some(options.iter().map(|&text| text.to_owned()).collect());
        let filter = filter(&container, &process(&["CAP_SYS_TIME"]));
        let value = |filter: Option<_>| filter.map(|filter| serde_json::to_value(filter).unwrap());
        filter.map(value).map_err(|error| error.to_string())
    }

    const LOG: &str = r#"seccomp={"defaultAction":"SCMP_ACT_LOG"}"#;

    #[test]
    fn the_last_word_holds_and_privileged_containers_have_none_by_default() {
        let action = |options, privileged| {
            made(options, privileged).unwrap().map(|filter| filter["defaultAction"].clone())
        };
        assert_eq!(action(&[], false), Some(json!("SCMP_ACT_ERRNO")));
        assert_eq!(action(&["seccomp=builtin"], false), Some(json!("SCMP_ACT_ERRNO")));
        assert_eq!(action(&["seccomp=unconfined"], false), None);
        assert_eq!(action(&["seccomp=unconfined", LOG], false), Some(json!("SCMP_ACT_LOG")));
        assert_eq!(action(&[LOG, "seccomp=unconfined", "no-new-privileges"], false), None);
        assert_eq!(action(&[], true), None);
        assert_eq!(action(&[LOG], true), Some(json!("SCMP_ACT_LOG")));
        assert_eq!(action(&["seccomp=builtin"], true), Some(json!("SCMP_ACT_ERRNO")));
    }

    #[test]
    fn the_default_one_depends_on_the_capabilities() {
        let filter = made(&[], false).unwrap().unwrap().to_string();
        assert!(filter.contains("\"settimeofday\"") && !filter.contains("\"umount2\""), "{filter}");
    }

    #[test]
    fn a_profile_is_kept_without_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p.json");
        std::fs::write(&file, "{ \"defaultAction\" :\n \"SCMP_ACT_LOG\" }").unwrap();
        assert_eq!(recorded(file.to_str().unwrap()).unwrap(), LOG);
        assert_eq!(recorded("unconfined").unwrap(), "seccomp=unconfined");
        let wrong = |text: &str| {
            std::fs::write(&file, text).unwrap();
            recorded(file.to_str().unwrap()).unwrap_err().to_string()
        };
        for (text, word) in [
            ("", "EOF"),
            ("{}", "defaultAction"),
            (r#"{"defaultAction": "SCMP_ACT_ALLOWED"}"#, "defaultAction: unknown variant"),
            (
                r#"{"defaultAction": "SCMP_ACT_LOG", "syscalls": [{"action": "SCMP_ACT_LOG"}]}"#,
                "syscalls[0].names",
            ),
        ] {
            let error = wrong(text);
            assert!(error.contains(word) && error.contains("p.json"), "{error}");
        }
        assert!(wrong(&" ".repeat(2 << 20)).contains("larger"));
        assert!(recorded("/no/such").unwrap_err().to_string().contains("/no/such"));
        assert!(recorded("/dev/zero").is_err());
    }
}
