//! A request and an image's configuration become a container's, by Docker's rules.

use std::collections::BTreeMap;
use std::ffi::OsString;

use bindvol::{Kind, VolumeSpec};
use image_store::{Digest, StoredImage};
use oci_spec::image::ImageConfiguration;

use crate::record::{Empty, now};
use crate::{Config, Container, Error, HostConfig, Lower, RunRequest, caps, env, options, signal};

/// Longest host name (HOST_NAME_MAX, sethostname(2)).
const HOSTNAME_MAX: usize = 64;

/// The container that `request` asks for, of `image`, which the user named `image_name`. Its volumes
/// are not there yet ([`crate::volumes::resolve`]).
///
/// # Errors
/// There is nothing to run ([`Error::NoCommand`]), or a value breaks a rule ([`Error::Invalid`],
/// [`Error::Capability`], [`Error::Signal`], [`Error::Name`]), the request's or the image's.
pub(crate) fn container(
    id: &str,
    name: &str,
    request: &RunRequest,
    image: &StoredImage,
    image_name: &str,
    id_of: IdOf<'_>,
) -> Result<Container, Error> {
    let lower = |lower: image_store::StoredLower| Lower {
        link: lower.link,
        chain_id: lower.chain_id,
        diff_id: lower.diff_id,
        mounted: lower.mounted,
    };
    let image = Image {
        id: image.id,
        name: image_name,
        config: &image.config,
        lowers: image.lowers().into_iter().map(lower).collect(),
    };
    merge(id, name, request, image, id_of, |name| std::env::var_os(name))
}

/// What is needed of an image.
#[derive(Debug)]
struct Image<'a> {
    id: Digest,
    name: &'a str,
    config: &'a ImageConfiguration,
    lowers: Vec<Lower>,
}

/// [`container`], with the caller's environment as a function.
fn merge(
    id: &str,
    name: &str,
    request: &RunRequest,
    image: Image<'_>,
    id_of: IdOf<'_>,
    caller: impl Fn(&str) -> Option<OsString>,
) -> Result<Container, Error> {
    crate::names::check(name)?;
    let base = image.config.config().clone().unwrap_or_default();
    let (entrypoint, cmd) = command(request, &base, image.name)?;
    let mut args: Vec<String> = entrypoint.iter().chain(&cmd).flatten().cloned().collect();
    let path = args.remove(0); // `command` saw that there is one
    let env = env::typed(&request.env, caller)?;
    let image_env = base.env().as_deref().unwrap_or_default();
    let (cap_add, cap_drop) = caps::changes(&request.cap_add, &request.cap_drop)?;
    let some = |list: Vec<String>| Some(list).filter(|list| !list.is_empty());
    // As in Docker, an empty one is none.
    let either = |typed: &Option<String>, image: &Option<String>| {
        let typed = typed.clone().filter(|text| !text.is_empty());
        typed.or_else(|| image.clone()).unwrap_or_default()
    };
    let attached = !request.detach;
    let options = options::host_config(&request.host, request.network, id_of)?;
    let config = Config {
        hostname: hostname(id, request)?,
        domainname: domainname(request)?,
        user: either(&request.user, base.user()),
        attach_stdin: attached && request.interactive,
        attach_stdout: attached,
        attach_stderr: attached,
        exposed_ports: base.exposed_ports().clone().map(set),
        tty: request.tty,
        open_stdin: request.interactive,
        stdin_once: attached && request.interactive,
        env: env::merge(env, image_env)?,
        cmd,
        image: image.name.to_owned(),
        volumes: volumes(&base, &request.volumes),
        working_dir: workdir(&either(&request.workdir, base.working_dir()))?,
        entrypoint,
        labels: labels(&base, &request.labels)?,
        stop_signal: stop_signal(request, &base)?,
        stop_timeout: request.stop_timeout,
        ..Config::default()
    };
    let host_config = HostConfig {
        binds: some(request.volumes.iter().filter_map(bind).collect()),
        network_mode: request.network.as_str().to_owned(),
        auto_remove: request.remove,
        cap_add: some(cap_add),
        cap_drop: some(cap_drop),
        readonly_rootfs: request.read_only,
        tmpfs: tmpfs(&request.volumes),
        init: request.init,
        restart_policy: request.restart,
        ..options
    };
    Ok(Container {
        id: id.to_owned(),
        name: name.to_owned(),
        created: now(),
        image: image.id.to_string(),
        platform: image.config.os().to_string(),
        config,
        host_config,
        path,
        args,
        mounts: Vec::new(),
        lowers: image.lowers,
    })
}

type Words = Option<Vec<String>>;

/// Entry point and arguments. An entry point of the request takes the image's CMD away with the
/// image's ENTRYPOINT, and an empty one is none.
fn command(
    request: &RunRequest,
    base: &oci_spec::image::Config,
    image: &str,
) -> Result<(Words, Words), Error> {
    let typed = Some(request.command.clone()).filter(|command| !command.is_empty());
    let (entrypoint, cmd) = match &request.entrypoint {
        Some(path) => (Some(vec![path.clone()]), typed),
        None => (base.entrypoint().clone(), typed.or_else(|| base.cmd().clone())),
    };
    let entrypoint = entrypoint.filter(|words| !words.is_empty() && **words != [""]);
    let cmd = cmd.filter(|words| !words.is_empty());
    let words = || entrypoint.iter().chain(&cmd).flatten();
    if words().next().is_none_or(String::is_empty) {
        return Err(Error::NoCommand { image: image.to_owned() });
    }
    if let Some(word) = words().find(|word| word.contains('\0')) {
        return Err(Error::invalid("command", word, "it has a NUL byte in it"));
    }
    Ok((entrypoint, cmd))
}

/// The id of the container that an option names.
pub(crate) type IdOf<'a> = &'a dyn Fn(&str) -> Result<String, Error>;

fn hostname(id: &str, request: &RunRequest) -> Result<String, Error> {
    let invalid = |name: &str, why| Err(Error::invalid("hostname", name, why));
    let host_uts = request.host.uts.as_deref() == Some("host");
    match request.hostname.as_deref().filter(|name| !name.is_empty()) {
        Some(name) if host_uts => {
            invalid(name, "with --uts host it would be the host's; leave one of them out")
        }
        None if request.network == crate::Network::Host || host_uts => {
            Ok(rustix::system::uname().nodename().to_string_lossy().into_owned())
        }
        None => Ok(id.get(..12).unwrap_or(id).to_owned()),
        Some(name) if name.len() > HOSTNAME_MAX => {
            invalid(name, "it is longer than the 64 bytes that the kernel takes")
        }
        // It becomes a word of /etc/hosts.
        Some(name) if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b)) => {
            invalid(name, "a host name has letters, digits, '-', '_' and '.' only")
        }
        Some(name) if name.starts_with(['-', '.']) => {
            invalid(name, "a host name starts with a letter or digit")
        }
        Some(name) => Ok(name.to_owned()),
    }
}

fn domainname(request: &RunRequest) -> Result<String, Error> {
    let name = request.domainname.clone().unwrap_or_default();
    let fine = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
    let why = if name.len() > HOSTNAME_MAX {
        "it is longer than the 64 bytes that the kernel takes"
    } else if !name.bytes().all(fine) {
        "a domain name has letters, digits, '-', '_' and '.' only"
    } else if !name.is_empty() && request.host.uts.as_deref() == Some("host") {
        "with --uts host it would be the host's; leave one of them out"
    } else {
        return Ok(name);
    };
    Err(Error::invalid("domain name", &name, why))
}

pub(crate) fn workdir(path: &str) -> Result<String, Error> {
    if path.is_empty() {
        return Ok(String::new());
    }
    let why = if !path.starts_with('/') {
        "it needs to be an absolute path"
    } else if path.contains('\0') {
        "it has a NUL byte in it"
    } else {
        return Ok(clean(path));
    };
    Err(Error::invalid("working directory", path, why))
}

/// An absolute path without `.`, `..` and doubled slashes, by its letters alone (Go's `path.Clean`).
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The image's labels, and over them the request's: `key=value`, or `key` for an empty value.
fn labels(
    base: &oci_spec::image::Config,
    typed: &[String],
) -> Result<BTreeMap<String, String>, Error> {
    let image = base.labels().iter().flatten();
    let mut labels: BTreeMap<_, _> = image.map(|(k, v)| (k.clone(), v.clone())).collect();
    add_labels(&mut labels, typed)?;
    Ok(labels)
}

/// Adds labels as they are typed.
pub(crate) fn add_labels(
    labels: &mut BTreeMap<String, String>,
    typed: &[String],
) -> Result<(), Error> {
    for label in typed {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        if key.is_empty() {
            return Err(Error::invalid("label", label, "it has no name; write key=value"));
        }
        labels.insert(key.to_owned(), value.to_owned());
    }
    Ok(())
}

fn stop_signal(
    request: &RunRequest,
    base: &oci_spec::image::Config,
) -> Result<Option<String>, Error> {
    let named = request.stop_signal.clone().or_else(|| base.stop_signal().clone());
    let named = named.filter(|name| !name.is_empty());
    named.as_deref().map(signal::parse).transpose()?;
    Ok(named)
}

fn set(names: Vec<String>) -> BTreeMap<String, Empty> {
    names.into_iter().map(|name| (name, Empty {})).collect()
}

/// The image's VOLUMEs and the request's without a name.
fn volumes(
    base: &oci_spec::image::Config,
    typed: &[VolumeSpec],
) -> Option<BTreeMap<String, Empty>> {
    let mut volumes = set(base.volumes().clone().unwrap_or_default());
    let anonymous = typed.iter().filter(|spec| matches!(spec.kind, Kind::Anonymous { .. }));
    volumes.extend(anonymous.map(|spec| (spec.target.clone(), Empty {})));
    Some(volumes).filter(|volumes| !volumes.is_empty())
}

/// A bind mount or named volume as `-v` writes it.
fn bind(spec: &VolumeSpec) -> Option<String> {
    let source = match &spec.kind {
        Kind::Bind { source, .. } => source.to_string_lossy().into_owned(),
        Kind::Named { name, .. } => name.clone(),
        Kind::Anonymous { .. } | Kind::Tmpfs { .. } => return None,
    };
    let mode = mode(spec);
    let mode = if mode.is_empty() { mode } else { format!(":{mode}") };
    Some(format!("{source}:{}{mode}", spec.target))
}

/// What `-v` has behind the target: the words that are not the default.
pub(crate) fn mode(spec: &VolumeSpec) -> String {
    let words = spec.words();
    let default = ["rbind", "rprivate", "rro", "ro"];
    let read_only = spec.options.read_only.then_some("ro");
    let others = words.iter().map(String::as_str).filter(|word| !default.contains(word));
    read_only.into_iter().chain(others).collect::<Vec<_>>().join(",")
}

fn tmpfs(typed: &[VolumeSpec]) -> Option<BTreeMap<String, String>> {
    let tmpfs = typed.iter().filter(|spec| matches!(spec.kind, Kind::Tmpfs { .. }));
    let all: BTreeMap<_, _> = tmpfs.map(|s| (s.target.clone(), s.words().join(","))).collect();
    Some(all).filter(|all| !all.is_empty())
}

#[cfg(test)]
mod tests;
