use super::*;
use crate::testing;
use rustix::fs::OFlags;
use serde_json::{Value, json};
use std::os::fd::{AsFd, OwnedFd};

fn image() -> (tempfile::TempDir, OwnedFd) {
    let dir = tempfile::tempdir().unwrap();
    let root = rustix::fs::open(dir.path(), OFlags::PATH, Mode::empty()).unwrap();
    (dir, root)
}

fn built(container: &Container) -> Value {
    let (_dir, root) = image();
    let spec =
        build(container, Path::new("/s/c"), root.as_fd(), &Subpaths::default(), &Shared::default())
            .unwrap();
    serde_json::to_value(spec).unwrap()
}

fn targets(spec: &Value) -> Vec<&str> {
    let mounts = spec["mounts"].as_array().unwrap();
    mounts.iter().map(|mount| mount["destination"].as_str().unwrap()).collect()
}

fn volume(target: &str) -> MountPoint {
    MountPoint {
        kind: MountKind::Bind,
        name: None,
        source: format!("/host{target}"),
        destination: target.to_owned(),
        driver: None,
        mode: String::new(),
        rw: true,
        propagation: "rprivate".to_owned(),
        options: vec!["rbind".to_owned(), "rprivate".to_owned()],
        anonymous: false,
    }
}

const STANDARD: [&str; 7] =
    ["/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm"];
const ETC: [&str; 3] = ["/etc/resolv.conf", "/etc/hostname", "/etc/hosts"];

#[test]
fn a_container_as_docker_makes_it() {
    let spec = built(&testing::container());
    assert_eq!(spec["root"], json!({"path": "/s/c/merged", "readonly": false}));
    assert_eq!(spec["process"]["args"], json!(["nginx", "-g", "daemon off;"]));
    assert_eq!((&spec["process"]["cwd"], &spec["hostname"]), (&json!("/"), &json!("0123456789ab")));
    assert_eq!(targets(&spec), [&STANDARD[..], &ETC].concat());
    let proc = json!({"destination": "/proc", "type": "proc", "source": "proc",
        "options": ["nosuid", "nodev", "noexec"]});
    assert_eq!(spec["mounts"][0], proc);
    let hosts = json!({"destination": "/etc/hosts", "type": "bind", "source": "/s/c/hosts",
        "options": ["rbind", "rprivate"]});
    assert_eq!(spec["mounts"][9], hosts);
    let linux = &spec["linux"];
    let types: Vec<_> =
        linux["namespaces"].as_array().unwrap().iter().map(|n| &n["type"]).collect();
    assert_eq!(types, ["pid", "mount", "ipc", "uts", "cgroup", "network"]);
    assert_eq!(linux["rootfsPropagation"], "private");
    assert!(linux["maskedPaths"].as_array().unwrap().contains(&json!("/proc/kcore")));
    assert_eq!(linux["readonlyPaths"], json!(standard::READ_ONLY));
    // No device but those that follow, and no limit.
    assert_eq!(linux["resources"]["devices"][0]["allow"], false);
    let resources = linux["resources"].as_object().unwrap();
    assert_eq!(resources.keys().collect::<Vec<_>>(), ["devices"]);
    assert_eq!(linux["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
    assert!(spec.get("annotations").is_none());
    assert_eq!(spec["ociVersion"].as_str().unwrap().split('.').count(), 3);
    // The specification's own types take it back.
    serde_json::from_value::<Spec>(spec).unwrap();
}

#[test]
fn options_of_the_host() {
    let mut container = testing::container();
    container.host_config.network_mode = "host".to_owned();
    container.host_config.readonly_rootfs = true;
    let spec = built(&container);
    assert!(!spec["linux"]["namespaces"].to_string().contains("network"));
    assert_eq!(spec["root"]["readonly"], true);
    assert_eq!(spec["mounts"][9]["options"], json!(["rbind", "rprivate", "ro"]));
}

#[test]
fn volumes_come_after_their_parents_and_take_places() {
    let mut container = testing::container();
    let all = ["/etc", "/srv/a/b/c", "/data", "/dev/shm", "/etc/hosts", "/srv/a"];
    container.mounts = all.map(volume).into();
    container.mounts[2].kind = MountKind::Tmpfs;
    container.mounts[2].options = vec!["size=1m".to_owned()];
    let spec = built(&container);
    let own = [
        "/etc",
        "/data",
        "/etc/resolv.conf",
        "/etc/hostname",
        "/dev/shm",
        "/etc/hosts",
        "/srv/a",
        "/srv/a/b/c",
    ];
    assert_eq!(targets(&spec), [&STANDARD[..6], &own].concat());
    assert_eq!(spec["mounts"][6]["source"], "/host/etc");
    assert_eq!(spec["mounts"][11]["source"], "/host/etc/hosts");
    let tmpfs = json!({"destination": "/data", "type": "tmpfs", "source": "tmpfs",
        "options": ["size=1m"]});
    assert_eq!(spec["mounts"][7], tmpfs);
    // Over /dev and /sys go the mounts below them too, which they would hide.
    container.mounts = ["/dev", "/sys"].map(volume).into();
    assert_eq!(targets(&built(&container))[..3], ["/proc", "/dev", "/sys"]);
}

#[test]
fn the_working_directory_is_made() {
    let (dir, root) = image();
    std::fs::write(dir.path().join("file"), "").unwrap();
    std::os::unix::fs::symlink("/../../elsewhere", dir.path().join("link")).unwrap();
    let mut container = testing::container();
    container.mounts = vec![volume("/volume")];
    let mut build = |workdir: &str| {
        container.config.working_dir = workdir.to_owned();
        build(&container, Path::new("/s/c"), root.as_fd(), &Subpaths::default(), &Shared::default())
    };
    for workdir in ["/a/b", "/link/c", "/volume/x", "/proc/self/fd/7", "", "/"] {
        build(workdir).unwrap();
    }
    assert!(dir.path().join("a/b").is_dir() && dir.path().join("elsewhere/c").is_dir());
    assert!(!dir.path().join("volume").exists() && !dir.path().join("proc").exists());
    for workdir in ["/file", "/file/x"] {
        let error = build(workdir).unwrap_err().to_string();
        assert!(error.starts_with(&format!("invalid working directory {workdir:?}")), "{error}");
    }
    let error = build(&format!("/{}", "x".repeat(300))).unwrap_err().to_string();
    assert!(error.contains("too long"), "{error}");
}

#[test]
fn an_unknown_user_is_said_before_anything_runs() {
    let (_dir, root) = image();
    let mut container = testing::container();
    container.config.user = "nobody".to_owned();
    let error =
        build(&container, Path::new("/"), root.as_fd(), &Subpaths::default(), &Shared::default())
            .unwrap_err();
    assert!(error.to_string().starts_with("unable to find user nobody"), "{error}");
}

#[test]
fn init_needs_a_static_program_and_goes_in_front() {
    let (_dir, root) = image();
    let mut container = testing::container();
    container.host_config.init = true;
    let result = build(
        &container,
        Path::new("/s/c"),
        root.as_fd(),
        &Subpaths::default(),
        &Shared::default(),
    );
    // The tests' own program is what would be bound in.
    if cfg!(target_feature = "crt-static") {
        let spec = serde_json::to_value(result.unwrap()).unwrap();
        let args = json!(["/sbin/docker-init", "--", "nginx", "-g", "daemon off;"]);
        assert_eq!(spec["process"]["args"], args);
        assert!(targets(&spec).contains(&"/sbin/docker-init"));
    } else {
        assert!(matches!(result, Err(Error::InitNotStatic { .. })));
    }
}

#[test]
fn what_a_user_unlocks_is_open() {
    let mut container = testing::container();
    container.host_config.unmasked = true;
    let spec = built(&container);
    assert!(spec["linux"].get("maskedPaths").is_none(), "{spec:#}");
    assert!(spec["linux"].get("readonlyPaths").is_none());
    container.host_config.unmasked = false;
    container.host_config.privileged = true;
    container.host_config.shm_size = Some(4096);
    container.host_config.sysctls = Some([("net.x".to_owned(), "1".to_owned())].into());
    container.config.domainname = "d".to_owned();
    let spec = built(&container);
    assert!(spec["linux"].get("maskedPaths").is_none());
    let options = |target: &str| {
        let mounts = spec["mounts"].as_array().unwrap();
        let mount = mounts.iter().find(|mount| mount["destination"] == target).unwrap();
        mount["options"].as_array().unwrap().clone()
    };
    for target in ["/sys", "/sys/fs/cgroup"] {
        assert!(!options(target).contains(&json!("ro")), "{target}");
    }
    assert!(options("/dev/shm").contains(&json!("size=4096")));
    assert!(!options("/dev/shm").contains(&json!("size=65536k")));
    assert_eq!(spec["linux"]["sysctl"], json!({"net.x": "1"}));
    assert_eq!(spec["domainname"], "d");
    assert!(spec["linux"]["devices"].as_array().unwrap().len() > 3);
    container.host_config.uts_mode = "host".to_owned();
    container.host_config.pid_mode = "host".to_owned();
    container.host_config.ipc_mode = "none".to_owned();
    let spec = built(&container);
    assert!(spec.get("hostname").is_none() && spec.get("domainname").is_none());
    let kinds: Vec<_> =
        spec["linux"]["namespaces"].as_array().unwrap().iter().map(|n| n["type"].clone()).collect();
    assert_eq!(kinds, ["mount", "ipc", "cgroup", "network"]);
    assert!(!targets(&spec).contains(&"/dev/shm"));
}
