//! Options of `run` that concern the host: read, checked, and written down as Docker's `.HostConfig`.

mod values;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::config::IdOf;
use crate::error::shorten;
use crate::record::{DeviceMapping, Ulimit};
use crate::{Error, HostConfig, LimitOptions, Limits, Network, log_options, seccomp};

pub(crate) use values::bytes;

/// What the user says of them, as typed.
#[derive(Clone, Debug, Default)]
pub struct HostOptions {
    /// `--privileged`: all capabilities and devices, and nothing of `/proc` and `/sys` hidden.
    pub privileged: bool,
    /// `--security-opt`
    pub security: Vec<String>,
    /// `--ulimit`, `name=soft[:hard]`
    pub ulimits: Vec<String>,
    /// `--device`, `SRC[:DST[:rwm]]`
    pub devices: Vec<String>,
    /// `--group-add`, names or ids
    pub groups: Vec<String>,
    /// `--add-host`, `name:ip`
    pub hosts: Vec<String>,
    /// `--dns`
    pub dns: Vec<String>,
    /// `--dns-search`; `.` alone for none
    pub dns_search: Vec<String>,
    /// `--dns-option`
    pub dns_options: Vec<String>,
    /// `--shm-size`, bytes with a unit
    pub shm_size: Option<String>,
    /// `--log-driver`
    pub log_driver: Option<String>,
    /// `--log-opt`, `key=value`
    pub log_options: Vec<String>,
    /// `--sysctl`, `key=value`
    pub sysctls: Vec<String>,
    /// `--ipc`
    pub ipc: Option<String>,
    /// `--pid`
    pub pid: Option<String>,
    /// `--uts`
    pub uts: Option<String>,
    /// `--volumes-from`, `NAME[:ro|rw]`
    pub volumes_from: Vec<String>,
    /// `--oom-score-adj`
    pub oom_score_adj: i32,
    /// What it may use.
    pub limits: LimitOptions,
    /// `--cidfile`, which whoever calls writes.
    pub id_file: Option<PathBuf>,
}

/// What is written down of the options, but for what else `.HostConfig` has. `id_of` gives the id of a
/// container that an option names.
///
/// # Errors
/// A value breaks a rule ([`Error::Invalid`], [`Error::Option`]), or names no container.
pub(crate) fn host_config(
    options: &HostOptions,
    network: Network,
    id_of: IdOf<'_>,
) -> Result<HostConfig, Error> {
    let some = |list: Vec<String>| Some(list).filter(|list| !list.is_empty());
    let (security, unmasked) = security(&options.security)?;
    let uts = mode("--uts", options.uts.as_deref(), &["", "private", "host"], None)?;
    let config = HostConfig {
        privileged: options.privileged,
        security_opt: some(security),
        unmasked,
        ulimits: options.ulimits.iter().map(|text| ulimit(text)).collect::<Result<_, _>>()?,
        devices: options.devices.iter().map(|text| device(text)).collect::<Result<_, _>>()?,
        group_add: some(options.groups.clone()),
        extra_hosts: some(options.hosts.iter().map(|text| host(text)).collect::<Result<_, _>>()?),
        dns: options.dns.iter().map(|text| address("--dns", text)).collect::<Result<_, _>>()?,
        dns_search: words("--dns-search", &options.dns_search)?,
        dns_options: words("--dns-option", &options.dns_options)?,
        shm_size: options.shm_size.as_deref().map(shm_size).transpose()?.filter(|size| *size > 0),
        log_config: Some(log_options::read(options.log_driver.as_deref(), &options.log_options)?),
        sysctls: sysctls(options, network)?,
        ipc_mode: mode(
            "--ipc",
            options.ipc.as_deref(),
            &["", "none", "private", "shareable", "host"],
            Some(id_of),
        )?,
        pid_mode: mode("--pid", options.pid.as_deref(), &["", "private", "host"], Some(id_of))?,
        uts_mode: if uts == "private" { String::new() } else { uts },
        oom_score_adj: oom_score_adj(options.oom_score_adj)?,
        volumes_from: some(options.volumes_from.clone()),
        limits: Limits::default().with(&options.limits)?,
        container_id_file: options
            .id_file
            .as_ref()
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default(),
        ..HostConfig::default()
    };
    let pid_mode = match &config.pid_mode[..] {
        "private" => String::new(),
        other => other.to_owned(),
    };
    Ok(HostConfig { pid_mode, ..config })
}

/// The options that are kept, and whether nothing of `/proc` and `/sys` is to be hidden.
fn security(typed: &[String]) -> Result<(Vec<String>, bool), Error> {
    let (mut kept, mut unmasked) = (Vec::new(), false);
    for text in typed {
        let (key, value) = match text.split_once('=').or_else(|| text.split_once(':')) {
            Some((key, value)) => (key, Some(value)),
            None => (&text[..], None),
        };
        match (key, value) {
            ("no-new-privileges", None | Some("true" | "false"))
            | ("apparmor", Some("unconfined"))
            | ("label", Some("disable")) => kept.push(text.clone()),
            ("systempaths", Some("unconfined")) => unmasked = true,
            ("seccomp", Some(value)) if !value.is_empty() => kept.push(seccomp::recorded(value)?),
            ("apparmor" | "label" | "writable-cgroups", _) => {
                return Err(Error::not_yet(
                    "--security-opt",
                    text,
                    "AppArmor profiles, SELinux labels and cgroups that can be written",
                ));
            }
            _ => {
                let why = "there are no-new-privileges, seccomp=FILE, seccomp=unconfined, \
                           seccomp=builtin, apparmor=unconfined, label=disable and \
                           systempaths=unconfined";
                return Err(Error::option("--security-opt", text, why));
            }
        }
    }
    Ok((kept, unmasked))
}

/// Whether the options say that no program may gain privileges.
pub(crate) fn no_new_privileges(config: &HostConfig) -> bool {
    let typed = config.security_opt.iter().flatten();
    // The last one holds.
    let mut said = typed.filter_map(|text| text.strip_prefix("no-new-privileges"));
    said.next_back().is_some_and(|value| !value.ends_with("false"))
}

/// `nofile=1024:2048`; -1 is no limit, and a hard limit that is not said is the soft one.
fn ulimit(text: &str) -> Result<Ulimit, Error> {
    const NAMES: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let bad = |why| Error::option("--ulimit", text, why);
    let (name, limits) = text.split_once('=').ok_or_else(|| bad("write NAME=SOFT[:HARD]"))?;
    if !NAMES.contains(&name) {
        return Err(bad(
            "there are core, cpu, data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, \
             rtprio, rttime, sigpending and stack",
        ));
    }
    let number = |text: &str| match text.parse::<i64>() {
        Ok(number) if number >= -1 => Ok(number),
        _ => Err(bad("a limit is a number, or -1 for none")),
    };
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if hard != -1 && (soft > hard || soft == -1) {
        return Err(bad("the soft limit must not be above the hard one"));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

/// `/dev/x`, `/dev/x:/dev/y`, `/dev/x:rwm`, `/dev/x:/dev/y:rwm`
fn device(text: &str) -> Result<DeviceMapping, Error> {
    let bad = |why| Error::option("--device", text, why);
    let is_mode = |text: &str| !text.is_empty() && text.bytes().all(|byte| b"rwm".contains(&byte));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, mode] if is_mode(mode) => (source, source, mode),
        [source, target] => (source, target, "rwm"),
        [source, target, mode] => (source, target, mode),
        _ => return Err(bad("write SRC[:DST[:rwm]]")),
    };
    if !source.starts_with('/') || !target.starts_with('/') {
        return Err(bad("source and target have to be absolute paths"));
    }
    if text.contains('\0') || target.split('/').any(|part| part == "..") {
        return Err(bad("a path with \"..\" or a NUL byte is no device's"));
    }
    if !is_mode(mode) {
        return Err(bad("what may be done with it is a word of the letters r, w and m"));
    }
    Ok(DeviceMapping {
        path_on_host: source.to_owned(),
        path_in_container: crate::config::clean(target),
        cgroup_permissions: mode.to_owned(),
    })
}

/// `name:ip`, or `name=ip`; the address may stand in brackets.
fn host(text: &str) -> Result<String, Error> {
    let bad = |why| Error::option("--add-host", text, why);
    let (name, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .ok_or_else(|| bad("write NAME:IP"))?;
    // It becomes a word of /etc/hosts.
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
        return Err(bad("the name is empty, or no word"));
    }
    if address == "host-gateway" {
        return Err(Error::not_yet("--add-host", text, "networks with a gateway"));
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    match bare.parse::<IpAddr>() {
        Ok(_) => Ok(format!("{name}:{bare}")),
        Err(_) => Err(bad("what stands behind the name is no IP address")),
    }
}

fn address(option: &'static str, text: &str) -> Result<String, Error> {
    match text.parse::<IpAddr>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(Error::option(option, text, "it is no IP address")),
    }
}

/// Values that become words of resolv.conf.
fn words(option: &'static str, typed: &[String]) -> Result<Vec<String>, Error> {
    let bad = |text: &str| {
        text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control())
    };
    match typed.iter().find(|text| bad(text)) {
        Some(text) => Err(Error::option(option, text, "it is empty, or no single word")),
        None => Ok(typed.to_vec()),
    }
}

fn shm_size(text: &str) -> Result<u64, Error> {
    bytes(text).ok_or_else(|| {
        Error::option("--shm-size", text, "write a number of bytes, with k, m or g behind it")
    })
}

fn oom_score_adj(value: i32) -> Result<i32, Error> {
    match value {
        -1000..=1000 => Ok(value),
        _ => {
            let why = "it is a number from -1000 to 1000";
            Err(Error::option("--oom-score-adj", &value.to_string(), why))
        }
    }
}

/// The kernel parameters. Which of them a container may set is checked where it is made.
fn sysctls(
    options: &HostOptions,
    network: Network,
) -> Result<Option<BTreeMap<String, String>>, Error> {
    let mut all = BTreeMap::new();
    for text in &options.sysctls {
        let bad = |why| Error::option("--sysctl", text, why);
        let (key, value) = text.split_once('=').ok_or_else(|| bad("write KEY=VALUE"))?;
        let host = |mode: &Option<String>| mode.as_deref() == Some("host");
        if key.starts_with("net") && network == Network::Host {
            return Err(bad("with --network host it would change the host; leave one of them out"));
        }
        if key.starts_with("kernel.domainname") && host(&options.uts) {
            return Err(bad("with --uts host it would change the host; leave one of them out"));
        }
        if !key.starts_with("net") && !key.starts_with("kernel.domainname") && host(&options.ipc) {
            return Err(bad("with --ipc host it would change the host; leave one of them out"));
        }
        all.insert(key.to_owned(), value.to_owned());
    }
    Ok(Some(all).filter(|all| !all.is_empty()))
}

/// One of the words, or, where there is `id_of`, `container:NAME`, which becomes `container:ID`.
fn mode(
    option: &'static str,
    typed: Option<&str>,
    known: &[&str],
    id_of: Option<IdOf<'_>>,
) -> Result<String, Error> {
    let text = typed.unwrap_or_default();
    if known.contains(&text) {
        return Ok(text.to_owned());
    }
    match (text.strip_prefix("container:"), id_of) {
        (Some(name), Some(id_of)) if !name.is_empty() => Ok(format!("container:{}", id_of(name)?)),
        _ => Err(Error::Mode {
            option,
            text: shorten(text),
            known: known
                .iter()
                .filter(|word| !word.is_empty())
                .map(|word| (*word).to_owned())
                .collect(),
            others: id_of.is_some(),
        }),
    }
}

#[cfg(test)]
mod tests;
