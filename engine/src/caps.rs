//! Capabilities: Docker's default, and what `--cap-add` and `--cap-drop` make of it.

use std::collections::BTreeSet;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, LinuxCapabilitiesBuilder};

use crate::Error;
use crate::error::shorten;
use crate::near::near;

/// What a container has by default, `00000000a80425fb`.
pub(crate) const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SYS_CHROOT",
    "MKNOD",
    "AUDIT_WRITE",
    "SETFCAP",
];

/// All capabilities by their number (capabilities(7), Linux 5.9).
const ALL: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The word for all of them.
pub(crate) const EVERY: &str = "ALL";

/// The capabilities to add and to drop, as Docker's command line hands them on: `CAP_…` or `ALL`,
/// sorted, each once; adding has precedence over dropping, and `ALL` takes in the others.
///
/// # Errors
/// [`Error::Capability`]: there is no such capability.
pub(crate) fn changes(
    add: &[String],
    drop: &[String],
) -> Result<(Vec<String>, Vec<String>), Error> {
    let add = normal("--cap-add", add)?;
    let mut drop = normal("--cap-drop", drop)?;
    drop.retain(|name| !add.contains(name));
    Ok((add, drop))
}

fn normal(option: &'static str, names: &[String]) -> Result<Vec<String>, Error> {
    let mut normal = BTreeSet::new();
    for name in names {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if bare == EVERY {
            return check_rest(option, names);
        }
        if !ALL.contains(&bare) {
            let near = near(bare, ALL.into_iter());
            return Err(Error::Capability { option, name: shorten(name), near });
        }
        normal.insert(format!("CAP_{bare}"));
    }
    Ok(normal.into_iter().collect())
}

/// `ALL`, if what stands beside it is right too.
fn check_rest(option: &'static str, names: &[String]) -> Result<Vec<String>, Error> {
    let others: Vec<String> = names
        .iter()
        .filter(|name| !matches!(&name.to_ascii_uppercase()[..], "ALL" | "CAP_ALL"))
        .cloned()
        .collect();
    normal(option, &others)?;
    Ok(vec![EVERY.to_owned()])
}

/// The names, without `CAP_`, of what a container has after `add` and `drop` (of [`changes`]).
fn names(add: &[String], drop: &[String]) -> Vec<&'static str> {
    let has =
        |list: &[String], name: &str| list.iter().any(|c| c.strip_prefix("CAP_") == Some(name));
    let every = |list: &[String]| list.iter().any(|name| name == EVERY);
    let keeps = |name: &str| match (every(add), every(drop)) {
        (true, _) => !has(drop, name),
        (false, true) => has(add, name),
        (false, false) => has(add, name) || (DEFAULT.contains(&name) && !has(drop, name)),
    };
    ALL.into_iter().filter(|name| keeps(name)).collect()
}

/// The capability sets of a process with this user id. Nothing is inheritable or ambient
/// (CVE-2022-24769); a user other than root has what it can gain by running a set-user-id program,
/// and nothing of its own, as after an execve(2).
pub(crate) fn sets(add: &[String], drop: &[String], uid: u32) -> Result<LinuxCapabilities, Error> {
    let bounding: Capabilities = names(add, drop)
        .into_iter()
        .map(|name| name.parse::<Capability>().map_err(|_| unknown(name)))
        .collect::<Result<_, _>>()?;
    let own = if uid == 0 { bounding.clone() } else { Capabilities::new() };
    Ok(LinuxCapabilitiesBuilder::default()
        .bounding(bounding)
        .effective(own.clone())
        .permitted(own)
        .inheritable(Capabilities::new())
        .ambient(Capabilities::new())
        .build()?)
}

fn unknown(name: &str) -> Error {
    Error::Capability { option: "capability", name: name.to_owned(), near: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn bits(names: &[&str]) -> u64 {
        let bit = |name: &&str| 1 << ALL.iter().position(|known| known == name).unwrap();
        names.iter().map(bit).fold(0, |bits: u64, bit: u64| bits | bit)
    }

    fn result(add: &[&str], drop: &[&str]) -> Vec<&'static str> {
        let (add, drop) = changes(&strings(add), &strings(drop)).unwrap();
        names(&add, &drop)
    }

    #[test]
    fn the_default_is_dockers() {
        assert_eq!(bits(&DEFAULT), 0xa804_25fb);
        assert_eq!(bits(&result(&[], &[])), 0xa804_25fb);
        assert_eq!(bits(&ALL), (1 << 41) - 1);
    }

    #[test]
    fn every_name_is_one_of_the_specification() {
        for name in ALL {
            name.parse::<Capability>().unwrap();
        }
        let all = strings(&["ALL"]);
        assert_eq!(sets(&all, &[], 0).unwrap().bounding().as_ref().unwrap().len(), ALL.len());
    }

    #[test]
    fn adding_and_dropping() {
        assert_eq!(result(&["all"], &[]), ALL);
        assert_eq!(result(&[], &["ALL"]), [""; 0]);
        assert_eq!(result(&["cap_net_admin"], &["All"]), ["NET_ADMIN"]);
        assert_eq!(bits(&result(&["ALL"], &["MKNOD"])), bits(&ALL) & !bits(&["MKNOD"]));
        assert_eq!(result(&["ALL"], &["ALL"]), ALL);
        let changed = bits(&result(&["SYS_PTRACE", "CAP_SYS_PTRACE"], &["net_raw"]));
        assert_eq!(changed, (0xa804_25fb | bits(&["SYS_PTRACE"])) & !bits(&["NET_RAW"]));
        assert_eq!(bits(&result(&["MKNOD"], &["MKNOD"])), 0xa804_25fb);
    }

    #[test]
    fn changes_are_written_as_docker_writes_them() {
        let (add, drop) =
            changes(&strings(&["sys_admin", "CAP_CHOWN"]), &strings(&["chown", "kill"])).unwrap();
        assert_eq!(add, ["CAP_CHOWN", "CAP_SYS_ADMIN"]);
        assert_eq!(drop, ["CAP_KILL"]);
        assert_eq!(changes(&strings(&["CAP_ALL", "KILL"]), &[]).unwrap().0, ["ALL"]);
    }

    #[test]
    fn an_unknown_one_is_named() {
        for (option, add, drop) in
            [("--cap-add", "SYS_ADMIM", "ALL"), ("--cap-drop", "ALL", "CAP_SYS_ADMIM")]
        {
            let error = changes(&strings(&[add]), &strings(&[drop])).unwrap_err().to_string();
            assert!(error.contains(option) && error.contains("SYS_ADMIM"), "{error}");
            assert!(error.contains("near to it: SYS_ADMIN"), "{error}");
        }
        changes(&strings(&["ALL", "x"]), &[]).unwrap_err();
        changes(&strings(&[""]), &[]).unwrap_err();
        changes(&strings(&["CAP_CAP_CHOWN"]), &[]).unwrap_err();
    }

    #[test]
    fn only_root_has_capabilities_of_its_own() {
        let root = sets(&[], &[], 0).unwrap();
        assert_eq!(root.effective().as_ref().unwrap().len(), 14);
        let user = sets(&[], &[], 1000).unwrap();
        assert_eq!(user.bounding(), root.bounding());
        for sets in [user.effective(), user.permitted(), root.inheritable(), root.ambient()] {
            assert!(sets.as_ref().unwrap().is_empty());
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_added_is_there_and_what_is_dropped_is_not(
            add in proptest::sample::subsequence(ALL.to_vec(), 0..8),
            drop in proptest::sample::subsequence(ALL.to_vec(), 0..8),
        ) {
            let result = result(&add, &drop);
            for name in ALL {
                let expected = add.contains(&name)
                    || (DEFAULT.contains(&name) && !drop.contains(&name));
                proptest::prop_assert_eq!(result.contains(&name), expected, "{}", name);
            }
        }
    }
}
