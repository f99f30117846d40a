//! Docker's `inspect` object.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::log::Form;
use crate::{Container, HostConfig, LogConfig, MountPoint, State, Status};

/// What `inspect` prints of a container: Docker's keys with what is true here. `dir` is the
/// container's directory and `root` the store's, both absolute. The keys of things that there are
/// not (networks with addresses) have Docker's value for "none".
pub(crate) fn value(container: &Container, state: &State, dir: &Path, root: &Path) -> Value {
    let in_dir = |name: &str| path(&dir.join(name));
    // As Docker: that of a form that others read.
    let log = match LogConfig::form(container.host_config.log_config.as_ref()) {
        Some(Form::Json) => in_dir(&Form::Json.file_name(&container.id)),
        Some(Form::Local) | None => String::new(),
    };
    let mut value = json!({
        "Id": container.id,
        "Created": container.created,
        "Path": container.path,
        "Args": container.args,
        "State": {
            "Status": state.status.as_str(),
            "Running": state.status.runs(),
            "Paused": state.status == Status::Paused,
            "Restarting": state.status == Status::Restarting,
            "OOMKilled": state.oom_killed,
            "Dead": false,
            "Pid": state.pid,
            "ExitCode": state.exit_code,
            "Error": state.error,
            "StartedAt": state.started_at,
            "FinishedAt": state.finished_at,
        },
        "Image": container.image,
        "ResolvConfPath": in_dir("resolv.conf"),
        "HostnamePath": in_dir("hostname"),
        "HostsPath": in_dir("hosts"),
        "LogPath": log,
        "Name": format!("/{}", container.name),
        "RestartCount": state.restart_count,
        "Driver": "overlay2",
        "Platform": container.platform,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "HostConfig": host_config(&container.host_config),
        "GraphDriver": { "Name": "overlay2", "Data": {
            "LowerDir": lower_dir(container, root),
            "UpperDir": in_dir("diff"),
            "WorkDir": in_dir("work"),
            "MergedDir": in_dir("merged"),
        } },
        "Mounts": container.mounts.iter().map(mount).collect::<Vec<_>>(),
        "Config": container.config,
        "NetworkSettings": network_settings(container, state),
    });
    if let Some(health) = &state.health {
        // Docker has this key only where there is a health check.
        value["State"]["Health"] = json!(health);
    }
    value
}

/// The layers as the mount's options have them, `ROOT/l/A:ROOT/l/B`.
fn lower_dir(container: &Container, root: &Path) -> String {
    let lowers = container.lowers.iter().map(|lower| path(&root.join(&lower.link)));
    lowers.collect::<Vec<_>>().join(":")
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Docker's keys only.
fn mount(mount: &MountPoint) -> Value {
    let mut value = serde_json::to_value(mount).unwrap_or_default();
    if let Some(keys) = value.as_object_mut() {
        keys.retain(|key, _| key != "Options" && key != "Anonymous");
    }
    value
}

fn host_config(varying: &HostConfig) -> Value {
    let mut all = json!({
        "ContainerIDFile": "",
        "LogConfig": { "Type": "json-file", "Config": {} },
        "PortBindings": {},
        "VolumeDriver": "",
        "VolumesFrom": null,
        "ConsoleSize": [0, 0],
        "CgroupnsMode": "private",
        "Dns": [],
        "DnsOptions": [],
        "DnsSearch": [],
        "ExtraHosts": null,
        "GroupAdd": null,
        "IpcMode": "private",
        "Cgroup": "",
        "DeviceRequests": null,
        "Links": null,
        "OomScoreAdj": 0,
        "PidMode": "",
        "Privileged": false,
        "PublishAllPorts": false,
        "SecurityOpt": null,
        "UTSMode": "",
        "UsernsMode": "",
        "ShmSize": 64 << 20,
        "Runtime": "runtime-oci",
        "Isolation": "",
        "MaskedPaths": oci_runtime::standard::masked_paths(),
        "ReadonlyPaths": oci_runtime::standard::READ_ONLY,
    });
    let HostConfig { privileged, unmasked, .. } = *varying;
    let varying = serde_json::to_value(varying).unwrap_or_default();
    if let Some(all) = all.as_object_mut() {
        for (key, value) in into_map(varying) {
            // Docker has the one only where it is asked for, and not the other.
            let unsaid = key == "CgroupnsMode" && value == "";
            if !unsaid && (key != "Init" || value == Value::Bool(true)) && key != "Unmasked" {
                all.insert(key, value);
            }
        }
    }
    if privileged || unmasked {
        let none = if privileged { Value::Null } else { json!([]) };
        (all["MaskedPaths"], all["ReadonlyPaths"]) = (none.clone(), none);
    }
    all
}

fn into_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// One network, with no address: `none` and `host` have none of the container's own.
fn network_settings(container: &Container, state: &State) -> Value {
    let key = match state.pid {
        0 => String::new(),
        pid => format!("/proc/{pid}/ns/net"),
    };
    let network = json!({
        "IPAMConfig": null,
        "Links": null,
        "Aliases": null,
        "DriverOpts": null,
        "NetworkID": "",
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "MacAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": null,
    });
    let mut networks = Map::new();
    networks.insert(container.host_config.network_mode.clone(), network);
    json!({
        "Bridge": "",
        "SandboxID": "",
        "SandboxKey": key,
        "Ports": {},
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "MacAddress": "",
        "Networks": networks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MountKind, testing};

    fn inspected(container: &Container, state: &State) -> Value {
        value(container, state, Path::new("/s/containers/c"), Path::new("/s"))
    }

    #[test]
    fn the_keys_that_scripts_read() {
        let mut container = testing::container();
        container.mounts = vec![MountPoint {
            kind: MountKind::Volume,
            name: Some("cache".to_owned()),
            source: "/s/volumes/cache/_data".to_owned(),
            destination: "/cache".to_owned(),
            driver: Some("local".to_owned()),
            mode: String::new(),
            rw: true,
            propagation: String::new(),
            options: vec!["rbind".to_owned()],
            anonymous: true,
        }];
        let state = State { status: Status::Running, pid: 42, ..State::default() };
        let value = inspected(&container, &state);
        assert_eq!(value["Id"], container.id);
        assert_eq!(value["Name"], "/nginx");
        assert_eq!(
            (&value["State"]["Pid"], &value["State"]["Running"]),
            (&json!(42), &json!(true))
        );
        assert_eq!(value["State"]["Status"], "running");
        assert_eq!(value["State"]["FinishedAt"], "0001-01-01T00:00:00Z");
        let graph = &value["GraphDriver"];
        assert_eq!(graph["Name"], "overlay2");
        let (a, b) = ("/s/l/AAAAAAAAAAAAAAAAAAAAAAAAAA", "/s/l/BBBBBBBBBBBBBBBBBBBBBBBBBB");
        assert_eq!(graph["Data"]["LowerDir"], format!("{a}:{b}"));
        assert_eq!(graph["Data"]["UpperDir"], "/s/containers/c/diff");
        assert_eq!(graph["Data"]["WorkDir"], "/s/containers/c/work");
        assert_eq!(graph["Data"]["MergedDir"], "/s/containers/c/merged");
        let mount = json!({"Type": "volume", "Name": "cache", "Source": "/s/volumes/cache/_data",
            "Destination": "/cache", "Driver": "local", "Mode": "", "RW": true, "Propagation": ""});
        assert_eq!(value["Mounts"], json!([mount]));
        assert_eq!(value["Config"]["Entrypoint"], json!(["nginx"]));
        assert_eq!(value["Config"]["StopSignal"], "SIGQUIT");
        assert_eq!(value["HostConfig"]["NetworkMode"], "none");
        assert_eq!(value["HostConfig"]["ShmSize"], 67_108_864);
        assert_eq!(value["HostConfig"]["LogConfig"]["Type"], "json-file");
        assert_eq!(value["LogPath"], format!("/s/containers/c/{}-json.log", container.id));
        assert_eq!(value["NetworkSettings"]["SandboxKey"], "/proc/42/ns/net");
        assert!(value["NetworkSettings"]["Networks"]["none"].is_object());
    }

    #[test]
    fn what_is_not_asked_for_is_as_docker_writes_it() {
        let mut container = testing::container();
        let mut log = LogConfig { kind: "local".to_owned(), config: Default::default() };
        for kind in ["local", "none"] {
            log.kind = kind.to_owned();
            container.host_config.log_config = Some(log.clone());
            let value = inspected(&container, &State::default());
            assert_eq!(
                (&value["LogPath"], &value["HostConfig"]["LogConfig"]["Type"]),
                (&json!(""), &json!(kind))
            );
        }
        let value = inspected(&container, &State::default());
        assert_eq!((&value["LogPath"], &value["State"]["Status"]), (&json!(""), &json!("created")));
        assert_eq!(value["Mounts"], json!([]));
        assert_eq!(value["HostConfig"]["Binds"], Value::Null);
        assert_eq!(value["HostConfig"]["CapAdd"], Value::Null);
        assert!(value["HostConfig"].get("Init").is_none());
        container.host_config.init = true;
        assert_eq!(inspected(&container, &State::default())["HostConfig"]["Init"], true);
    }

    #[test]
    fn what_was_asked_for_takes_the_place_of_the_defaults() {
        let mut container = testing::container();
        let host =
            |container: &Container| inspected(container, &State::default())["HostConfig"].clone();
        let before = host(&container);
        assert_eq!((&before["IpcMode"], &before["ShmSize"]), (&json!("private"), &json!(64 << 20)));
        assert!(before.get("Unmasked").is_none() && before["MaskedPaths"].is_array());
        container.host_config.ipc_mode = "host".to_owned();
        container.host_config.shm_size = Some(1);
        container.host_config.unmasked = true;
        let after = host(&container);
        assert_eq!((&after["IpcMode"], &after["ShmSize"]), (&json!("host"), &json!(1)));
        assert_eq!((&after["MaskedPaths"], &after["ReadonlyPaths"]), (&json!([]), &json!([])));
        container.host_config.privileged = true;
        assert_eq!(host(&container)["MaskedPaths"], Value::Null);
    }
}
