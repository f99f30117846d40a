//! `--tmpfs DST[:OPTIONS]`.

use crate::syntax::Problem;
use crate::words::{Words, is_amount, is_mode, spec_target};
use crate::{Kind, VolumeSpec};

const KNOWN: &str = "size=, mode=, uid=, gid=, nr_inodes=, nr_blocks=, mpol=, ro, rw, [no]suid, \
                     [no]dev, [no]exec, [no|rel|strict]atime, nodiratime, [r]private, [r]shared, \
                     [r]slave";

pub(crate) fn parse(text: &str) -> Result<VolumeSpec, Problem> {
    if text.contains('\0') {
        return Err(Problem::Nul);
    }
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let target = spec_target(target)?;
    let mut words = Words::default();
    let mut data: Vec<String> = Vec::new();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        if words.add(option)? {
            continue;
        }
        check(option)?;
        let key = |option: &str| option.split('=').next().map(str::to_owned);
        match data.iter().find(|other| key(other) == key(option)) {
            Some(other) if other == option => {}
            Some(other) => {
                let (option, other) = (option.to_owned(), other.clone());
                return Err(Problem::Contradiction { option, other });
            }
            None => data.push(option.to_owned()),
        }
    }
    Ok(VolumeSpec { kind: Kind::Tmpfs { data }, target, options: words.options(true) })
}

/// Whether `option` is one that the file system takes.
fn check(option: &str) -> Result<(), Problem> {
    let (key, value) = option.split_once('=').unwrap_or((option, ""));
    let is_percentage = value.strip_suffix('%').is_some_and(|number| {
        (1..4).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    let (right, expected) = match key {
        "size" => (
            is_amount(value) || is_percentage,
            "a number of bytes with k, m or g behind it, or a percentage of the memory",
        ),
        "nr_inodes" | "nr_blocks" => (is_amount(value), "a number with k, m or g behind it"),
        "mode" => (is_mode(value), "an octal mode up to 7777"),
        // 4294967295 is "no change" to the kernel.
        "uid" | "gid" => (is_id(value), "a number up to 4294967294"),
        "mpol" => (!value.is_empty(), "a memory policy, tmpfs(5)"),
        "noatime" | "atime" | "relatime" | "strictatime" | "nodiratime" | "diratime"
            if !option.contains('=') =>
        {
            (true, "")
        }
        _ => return Err(Problem::Unknown { option: option.to_owned(), known: KNOWN }),
    };
    match right {
        true => Ok(()),
        false => Err(Problem::Value { option: key.to_owned(), value: value.to_owned(), expected }),
    }
}

fn is_id(value: &str) -> bool {
    !value.starts_with('+') && value.parse::<u32>().is_ok_and(|id| id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let spec = VolumeSpec::parse_tmpfs(text).unwrap();
        assert_eq!(spec.target, "/run");
        spec.words()
    }

    fn error(text: &str) -> String {
        let error = VolumeSpec::parse_tmpfs(text).unwrap_err().to_string();
        assert!(error.starts_with(&format!("--tmpfs {text:?}: ")), "{error}");
        error
    }

    #[test]
    fn the_defaults_are_dockers() {
        assert_eq!(words("/run"), ["nosuid", "nodev", "noexec"]);
        assert_eq!(
            words("/run/:size=64m,mode=1777,rw,exec"),
            ["nosuid", "nodev", "size=64m", "mode=1777"]
        );
        assert_eq!(words("/run:suid,dev,exec,ro,uid=5,size=50%"), ["ro", "uid=5", "size=50%"]);
        let more = words("/run:noatime,nr_inodes=1k,mpol=bind:0-3,rslave,noatime");
        assert_eq!(more[..4], ["rslave", "nosuid", "nodev", "noexec"]);
        assert_eq!(more[4..], ["noatime", "nr_inodes=1k", "mpol=bind:0-3"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(error("").contains("target is missing"));
        assert!(error("/").contains("container's root"));
        assert!(error("run:size=1m").contains("not absolute"));
        assert!(error("/run:size=big").contains("\"size\" does not take the value \"big\""));
        assert!(error("/run:size=").contains("\"size\""));
        assert!(error("/run:mode=999").contains("octal"));
        assert!(error("/run:uid=-1").contains("4294967294"));
        assert!(error("/run:gid=4294967295").contains("4294967294"));
        assert!(error("/run:mpol").contains("memory policy"));
        assert!(error("/run:huge=always").contains("not known"));
        assert!(error("/run:noatime=1").contains("not known"));
        assert!(error("/run:size=1m,size=2m").contains("\"size=2m\" contradicts \"size=1m\""));
        assert!(error("/run:exec,noexec").contains("contradicts"));
        assert!(error("/run:ro\0").contains("NUL"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_value_or_an_error(text in "/r:([a-z=,%0-9]|\\PC){0,24}") {
            if let Err(error) = VolumeSpec::parse_tmpfs(&text) {
                proptest::prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
