//! What is known of a container, as it lies on the disk: `container.json` changes only where the user
//! asks for it (a new name), `state.json` with what the container does.

use std::collections::BTreeMap;

use image_store::Digest;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::{Health, HealthStatus, Healthcheck, Limits, RestartPolicy};

/// Docker's zero time: when what has not happened yet happened.
pub const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// A container: what was asked for and what came of it, before it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name, without a slash.
    pub name: String,
    /// When it was made, RFC 3339 in UTC.
    pub created: String,
    /// The image's id, `sha256:…`.
    pub image: String,
    /// The image's `os`, Docker's `.Platform`.
    pub platform: String,
    /// The image's configuration and the request, merged.
    pub config: Config,
    /// What concerns the host.
    pub host_config: HostConfig,
    /// The program, as it is looked up in the container.
    pub path: String,
    /// The program's arguments, without its name.
    pub args: Vec<String>,
    /// The user's volumes and the image's, parents before children.
    pub mounts: Vec<MountPoint>,
    /// The image's layers, the topmost first.
    pub lowers: Vec<Lower>,
}

/// Docker's `.Config`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// The host name that processes see.
    pub hostname: String,
    /// NIS domain name.
    pub domainname: String,
    /// `name|uid[:group|gid]`, empty for root.
    pub user: String,
    /// Whether the starter's standard input is the process's.
    pub attach_stdin: bool,
    /// Whether the starter sees the output.
    pub attach_stdout: bool,
    /// Whether the starter sees the error output.
    pub attach_stderr: bool,
    /// `80/tcp` and the like, as the image says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, Empty>>,
    /// `-t`
    pub tty: bool,
    /// `-i`
    pub open_stdin: bool,
    /// Whether standard input is closed when the starter goes.
    pub stdin_once: bool,
    /// `A=b`, the request's and then the image's; `A` alone removes a variable.
    pub env: Vec<String>,
    /// The arguments behind the entry point.
    pub cmd: Option<Vec<String>>,
    /// The image as the user named it.
    pub image: String,
    /// The image's VOLUMEs.
    pub volumes: Option<BTreeMap<String, Empty>>,
    /// Where the process starts, absolute; empty for `/`.
    pub working_dir: String,
    /// What is in front of the arguments.
    pub entrypoint: Option<Vec<String>>,
    /// Docker's build triggers; always null.
    pub on_build: Option<Vec<String>>,
    /// The image's labels and the request's.
    pub labels: BTreeMap<String, String>,
    /// The signal that `stop` sends, as it was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// How its health is found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// The image's shell, for a health check that is a script.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// How long `stop` waits before it kills, seconds; -1 is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
}

/// The value of a set that is written as a map, as Go's `struct{}`: `{}` in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// Docker's `.HostConfig`, as far as it varies here; `inspect` adds what is always the same.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default, remote = "Self")]
pub struct HostConfig {
    /// The user's volumes of type bind and volume, as `-v` writes them.
    pub binds: Option<Vec<String>>,
    /// `none` or `host`.
    pub network_mode: String,
    /// `--rm`
    pub auto_remove: bool,
    /// Capabilities beyond Docker's default, `CAP_…` or `ALL`, sorted.
    pub cap_add: Option<Vec<String>>,
    /// Capabilities of Docker's default that are taken away.
    pub cap_drop: Option<Vec<String>>,
    /// `--read-only`
    pub readonly_rootfs: bool,
    /// The user's tmpfs: target and options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs: Option<BTreeMap<String, String>>,
    /// `--init`
    pub init: bool,
    /// `--restart`
    pub restart_policy: RestartPolicy,
    /// `--privileged`
    pub privileged: bool,
    /// `--security-opt`, as typed, without `systempaths`.
    pub security_opt: Option<Vec<String>>,
    /// `--security-opt systempaths=unconfined`. Docker's lists of paths are empty then.
    pub unmasked: bool,
    /// `--ulimit`
    pub ulimits: Vec<Ulimit>,
    /// `--device`
    pub devices: Vec<DeviceMapping>,
    /// `--group-add`
    pub group_add: Option<Vec<String>>,
    /// `--add-host`, `name:ip`.
    pub extra_hosts: Option<Vec<String>>,
    /// `--dns`
    pub dns: Vec<String>,
    /// `--dns-search`
    pub dns_search: Vec<String>,
    /// `--dns-option`
    pub dns_options: Vec<String>,
    /// `--shm-size`, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<u64>,
    /// `--log-driver` and `--log-opt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_config: Option<LogConfig>,
    /// `--sysctl`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sysctls: Option<BTreeMap<String, String>>,
    /// `--ipc`: empty or `private` for an IPC namespace of its own, `none`, `shareable`, `host`, or
    /// `container:ID`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ipc_mode: String,
    /// `--pid`: empty for a PID namespace of its own, `host`, or `container:ID`.
    pub pid_mode: String,
    /// `--uts`: empty for a UTS namespace of its own, or `host`.
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
    /// `--oom-score-adj`
    pub oom_score_adj: i32,
    /// `--volumes-from`, as typed.
    pub volumes_from: Option<Vec<String>>,
    /// `--cidfile`
    #[serde(rename = "ContainerIDFile")]
    pub container_id_file: String,
    /// What it may use.
    #[serde(flatten, skip_deserializing)]
    pub limits: Limits,
}

impl Serialize for HostConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for HostConfig {
    /// Its own fields and the limits, each from the text: `flatten` would keep all of it in memory first, field by field,
    /// and `ps` reads a thousand of them.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let own = Self::deserialize(&mut serde_json::Deserializer::from_str(text.get()));
        let limits = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
        Ok(Self { limits, ..own.map_err(D::Error::custom)? })
    }
}

/// A limit on a resource; -1 is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ulimit {
    /// `nofile` and the like.
    pub name: String,
    /// What holds unless a process changes it.
    pub soft: i64,
    /// How far it can.
    pub hard: i64,
}

/// A device of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeviceMapping {
    /// On the host.
    pub path_on_host: String,
    /// In the container.
    pub path_in_container: String,
    /// `rwm`
    pub cgroup_permissions: String,
}

/// Where the output goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LogConfig {
    /// `local`, `json-file` or `none`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// `max-size` and `max-file`.
    pub config: BTreeMap<String, String>,
}

/// Docker's `.Mounts[]`, and how it is mounted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MountPoint {
    /// `bind`, `volume` or `tmpfs`.
    #[serde(rename = "Type")]
    pub kind: MountKind,
    /// A volume's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// On the host; empty for a tmpfs.
    pub source: String,
    /// In the container, absolute and without `.`, `..` and doubled slashes.
    pub destination: String,
    /// `local` for a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// What stood behind the target.
    pub mode: String,
    /// Whether the container may write.
    #[serde(rename = "RW")]
    pub rw: bool,
    /// `rprivate` and the like; empty where it is not a bind mount.
    pub propagation: String,
    /// The options of the OCI mount. Not Docker's.
    pub options: Vec<String>,
    /// Whether it is a volume without a name of its own, that `rm -v` and `--rm` remove. Not Docker's.
    #[serde(default)]
    pub anonymous: bool,
}

/// What a [`MountPoint`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A path of the host.
    Bind,
    /// A volume of the store.
    Volume,
    /// A file system in memory.
    Tmpfs,
}

/// A layer of the image that the container's root consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lower {
    /// The short link to its directory, below the store's root: `l/` and 26 characters.
    pub link: String,
    /// The digest of the layer and all below it.
    pub chain_id: Digest,
    /// The digest of the layer's uncompressed tar.
    pub diff_id: Digest,
    /// Whether it is the mount of the image's index, which has all layers, this one and those below.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mounted: bool,
}

/// Where a container stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its directory is there; it has not run yet.
    #[default]
    Creating,
    /// All is there, and its process was never started.
    Created,
    /// Its process runs.
    Running,
    /// Its processes are frozen. Never written: the cgroup knows it.
    Paused,
    /// Its process has ended, and is about to be started again.
    Restarting,
    /// Its process has ended.
    Exited,
    /// It is being removed.
    Removing,
}

impl Status {
    /// Whether its process runs, or is about to be started again: what Docker counts as running.
    pub fn runs(self) -> bool {
        matches!(self, Status::Running | Status::Paused | Status::Restarting)
    }

    /// Docker's word for it, `.State.Status`. Docker has no `creating`: it is `created`.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Creating | Status::Created => "created",
            Status::Restarting => "restarting",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Exited => "exited",
            Status::Removing => "removing",
        }
    }
}

/// `state.json`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Where it stands.
    pub status: Status,
    /// Its process on the host; 0 when there is none.
    pub pid: i32,
    /// When that process was started, in ticks since boot: field 22 of `/proc/PID/stat`. With the
    /// number it tells a process from a later one that got its number.
    pub pid_start: u64,
    /// The exit status of its last process.
    pub exit_code: i32,
    /// Why it could not be started; empty where it could.
    pub error: String,
    /// When its process was started, or [`ZERO_TIME`].
    pub started_at: String,
    /// When its process ended, or [`ZERO_TIME`].
    pub finished_at: String,
    /// How often its policy has started it again since it was started.
    #[serde(default)]
    pub restart_count: u32,
    /// Whether a process of it was killed for want of memory, in its last run.
    #[serde(default)]
    pub oom_killed: bool,
    /// Its health, where that is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Whether it is being removed with the volumes that were made for it alone: who goes on with a removal that was
    /// interrupted has to know.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub volumes_too: bool,
}

impl Default for State {
    fn default() -> State {
        State {
            status: Status::Creating,
            pid: 0,
            pid_start: 0,
            exit_code: 0,
            error: String::new(),
            started_at: ZERO_TIME.to_owned(),
            finished_at: ZERO_TIME.to_owned(),
            restart_count: 0,
            oom_killed: false,
            health: None,
            volumes_too: false,
        }
    }
}

impl State {
    /// The state after the process has ended with this status, now.
    pub(crate) fn exited(self, exit_code: i32) -> State {
        State {
            status: Status::Exited,
            pid: 0,
            pid_start: 0,
            exit_code,
            finished_at: now(),
            // What does not run is not healthy, as Docker has it.
            health: self.health.map(|health| Health { status: HealthStatus::Unhealthy, ..health }),
            ..self
        }
    }
}

impl Container {
    /// The first 12 digits of the id, as Docker shows it.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// Whether it has the host's network.
    pub fn is_host_network(&self) -> bool {
        self.host_config.network_mode == "host"
    }
}

/// Now, in UTC, as the records have it: `2026-01-31T12:00:00.123456789Z`.
pub(crate) fn now() -> String {
    time_text(time::OffsetDateTime::now_utc())
}

/// A time in UTC, as the records have it.
pub(crate) fn time_text(time: time::OffsetDateTime) -> String {
    // A fixed number of digits, so that times sort as text.
    let format = time::macros::format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:9]Z"
    );
    time.format(&format).unwrap_or_else(|_| ZERO_TIME.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_is_rfc_3339_with_nanoseconds() {
        let now = now();
        assert_eq!((now.len(), now.ends_with('Z')), (30, true), "{now}");
        let format = time::format_description::well_known::Rfc3339;
        time::OffsetDateTime::parse(&now, &format).unwrap();
    }

    #[test]
    fn the_records_have_dockers_names() {
        let mut config = Config { hostname: "h".into(), ..Config::default() };
        config.volumes = Some([("/data".to_owned(), Empty {})].into());
        let json = serde_json::to_value(&config).unwrap();
        assert_eq!(json["Hostname"], "h");
        assert_eq!(json["Volumes"], serde_json::json!({"/data": {}}));
        assert!(json["Entrypoint"].is_null() && json.get("StopSignal").is_none());
        assert_eq!(serde_json::from_value::<Config>(json).unwrap(), config);
        let state = serde_json::to_value(State::default()).unwrap();
        assert_eq!((&state["status"], &state["pid"]), (&"creating".into(), &0.into()));
    }
}
