//! Hooks: when they are run, where, and what comes of one that fails.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci_runtime::{Error, Hooks, Prepared, Stdio};
use serde_json::{Value, json};

use crate::{script, spec};

/// A hook that runs a shell script of the host's.
fn shell(command: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["hook", "-c", command], "env": ["PATH=/usr/bin:/bin"]})
}

/// The same, noting `name`, its state and its namespaces in `dir`.
fn noting(dir: &Path, name: &str) -> Value {
    let file = dir.join(name);
    shell(&format!(
        "cat >{0}; for n in mnt net pid; do readlink /proc/self/ns/$n >>{0}.ns; done; echo {name} >>{1}",
        file.display(),
        dir.join("order").display()
    ))
}

struct Bundle {
    dir: tempfile::TempDir,
}

impl Bundle {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap_or_default()
    }

    fn prepared(&self, config: Value) -> Prepared {
        let stdio = Stdio::null().unwrap();
        Prepared::new(self.path(), &spec(config), stdio).unwrap().id("the-id")
    }
}

#[test]
fn all_are_run_in_their_order_with_their_state_and_place() {
    let bundle = Bundle::new();
    let dir = bundle.path();
    // The container sees the bundle's directory at /tmp/b.
    let inside = PathBuf::from("/tmp/b");
    let mut config = script("echo program >>/tmp/b/order; sleep 1000");
    config["annotations"] = json!({"a": "b"});
    config["mounts"].as_array_mut().unwrap().push(json!({
        "destination": inside, "type": "bind", "source": dir, "options": ["rbind"],
    }));
    config["hooks"] = json!({
        "prestart": [noting(dir, "prestart"), noting(dir, "prestart2")],
        "createRuntime": [noting(dir, "createRuntime")],
        "createContainer": [noting(dir, "createContainer")],
        "startContainer": [noting(&inside, "startContainer")],
        "poststart": [noting(dir, "poststart")],
        "poststop": [noting(dir, "poststop")],
    });
    std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let created = bundle.prepared(config.clone()).create().unwrap();
    let order = "prestart\nprestart2\ncreateRuntime\ncreateContainer\n";
    assert_eq!(bundle.read("order"), order);
    let pid = created.pid();
    let running = created.start().unwrap();
    assert_eq!(running.warnings(), [""; 0]);
    let namespaces = |process: &str| {
        ["mnt", "net", "pid"]
            .map(|kind| std::fs::read_link(format!("/proc/{process}/ns/{kind}")).unwrap())
            .map(|link| format!("{}\n", link.display()))
            .concat()
    };
    let (host, container) = (namespaces("self"), namespaces(&pid.to_string()));
    // Its program may not have come to write yet.
    let end = Instant::now() + Duration::from_secs(10);
    while !bundle.read("order").contains("program\n") && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(Hooks::prepare(&spec(config), "the-id", dir).unwrap().poststop(), [""; 0]);
    for (name, status, place) in [
        ("prestart", "creating", &host),
        ("prestart2", "creating", &host),
        ("createRuntime", "creating", &host),
        ("createContainer", "creating", &container),
        ("startContainer", "created", &container),
        ("poststart", "running", &host),
        ("poststop", "stopped", &host),
    ] {
        let state: Value = serde_json::from_str(&bundle.read(name)).unwrap();
        let mut want = json!({
            "ociVersion": "1.2.0", "id": "the-id", "status": status, "bundle": dir,
            "annotations": {"a": "b"},
        });
        if status != "stopped" {
            want["pid"] = pid.as_raw_nonzero().get().into();
        }
        assert_eq!(state, want, "{name}");
        assert_eq!(&bundle.read(&format!("{name}.ns")), place, "{name}");
    }
    let order = bundle.read("order");
    assert!(
        order.starts_with("prestart\nprestart2\ncreateRuntime\ncreateContainer\nstartContainer\n")
    );
    assert!(order.ends_with("poststop\n") && order.contains("program\n"), "{order}");
}

#[test]
fn one_that_fails_ends_the_container_with_what_it_wrote() {
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer"] {
        let bundle = Bundle::new();
        let mut config = script("exit 0");
        config["hooks"] = json!({
            kind: [shell("exit 0"), shell("echo out; echo why >&2; exit 3"), shell("touch /tmp/never")],
            "poststop": [noting(bundle.path(), "poststop")],
        });
        let created = bundle.prepared(config).create();
        let error = match kind {
            "startContainer" => {
                let created = created.unwrap();
                let pid = created.pid();
                let error = created.start().unwrap_err();
                assert!(!Path::new(&format!("/proc/{pid}")).exists());
                error
            }
            _ => created.unwrap_err(),
        };
        let text = error.to_string();
        let mut want = format!(
            "error running {kind} hook #1: /bin/sh: exit status 3, stdout: out, stderr: why"
        );
        if kind == "startContainer" {
            want += "; error running hook in the container";
        }
        assert_eq!(text, want);
        assert!(matches!(error, Error::Hook { index: 1, .. }));
        assert_eq!(bundle.read("order"), "poststop\n", "{kind}");
        assert!(!Path::new("/tmp/never").exists());
    }
}

#[test]
fn a_hook_that_is_not_there_or_does_not_end_is_said() {
    let bundle = Bundle::new();
    let mut config = script("exit 0");
    config["hooks"] = json!({"createRuntime": [{"path": "/no/such/hook"}]});
    let error = bundle.prepared(config).create().unwrap_err().to_string();
    assert!(error.starts_with("error running createRuntime hook #0: /no/such/hook: "), "{error}");
    assert!(error.contains("No such file"), "{error}");
    let mut config = script("exit 0");
    let mut slow = shell("echo slow; exec sleep 1000");
    slow["timeout"] = json!(1);
    config["hooks"] = json!({"prestart": [slow]});
    let error = bundle.prepared(config).create().unwrap_err().to_string();
    assert!(error.contains("timeout of 1 s") && error.contains("stdout: slow"), "{error}");
}

#[test]
fn a_failing_poststart_hook_ends_the_container_and_a_failing_poststop_hook_is_a_warning() {
    let bundle = Bundle::new();
    let mut config = script("sleep 1000 & sleep 1000");
    config["hooks"] = json!({
        "poststart": [shell("exit 1"), noting(bundle.path(), "never")],
        "poststop": [shell("exit 2"), noting(bundle.path(), "poststop")],
    });
    let created = bundle.prepared(config.clone()).create().unwrap();
    let pid = created.pid();
    let error = created.start().unwrap_err().to_string();
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    let words = ["error running poststart hook #0: /bin/sh: exit status 1", "poststop hook #0"];
    assert!(words.iter().all(|words| error.contains(words)), "{error}");
    assert_eq!(bundle.read("order"), "poststop\n");
    let warnings = Hooks::prepare(&spec(config), "x", bundle.path()).unwrap().poststop();
    assert!(warnings[0].contains("poststop hook #0: /bin/sh: exit status 2"), "{warnings:?}");
}

#[test]
fn a_hook_without_an_environment_has_that_of_its_place() {
    let bundle = Bundle::new();
    // Its output is told when it fails.
    let show = |kind: &str, env: Option<Value>| {
        let mut config = script("exit 0");
        let mut hook = json!({"path": "/bin/sh", "args": ["hook", "-c", "env; exit 1"]});
        if let Some(env) = env {
            hook["env"] = env;
        }
        config["process"]["env"].as_array_mut().unwrap().push("OF=process".into());
        config["hooks"] = json!({kind: [hook]});
        match bundle.prepared(config).create() {
            Ok(created) => created.start().unwrap_err().to_string(),
            Err(error) => error.to_string(),
        }
    };
    let path = format!("PATH={}\n", std::env::var("PATH").unwrap());
    for kind in ["prestart", "createRuntime", "createContainer", "poststart"] {
        let inherited = show(kind, None);
        assert!(inherited.contains(&path) && !inherited.contains("OF=process"), "{inherited}");
    }
    assert!(show("startContainer", None).contains("OF=process"));
    let none = show("prestart", Some(json!([])));
    assert!(!none.contains(&path), "{none}");
}

#[test]
fn a_start_hook_that_the_filter_ends_is_told_in_runcs_words() {
    let bundle = Bundle::new();
    let mut config = script("exit 0");
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL"}],
    });
    config["hooks"] = json!({"startContainer": [shell("exec mkdir /tmp/x")]});
    let error = bundle.prepared(config).create().unwrap().start().unwrap_err().to_string();
    assert!(error.contains("error running startContainer hook #0"), "{error}");
    assert!(error.contains("killed by signal 31: bad system call"), "{error}");
}

#[test]
fn a_start_hook_has_no_more_rights_than_the_container() {
    let bundle = Bundle::new();
    let mut config = script("exit 0");
    config["process"]["user"] = json!({"uid": 12, "gid": 34});
    config["process"]["noNewPrivileges"] = json!(true);
    config["hooks"] = json!({"startContainer": [shell(
        "id -u >&2; id -g >&2; grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status >&2; exit 1"
    )]});
    let error = bundle.prepared(config).create().unwrap().start().unwrap_err().to_string();
    let none = "0000000000000000";
    let want = format!("stderr: 12\n34\nCapEff:\t{none}\nCapBnd:\t{none}\nNoNewPrivs:\t1;");
    assert!(error.contains(&want), "{error}");
}

#[test]
fn hooks_know_user_namespaces() {
    let bundle = Bundle::new();
    let mut config = script("exit 0");
    let map = json!([{"containerID": 0, "hostID": 700_000, "size": 10}]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    let show = "id -u; cat /proc/self/uid_map; exit 1";
    for kind in ["createContainer", "startContainer"] {
        config["hooks"] = json!({kind: [shell(show)]});
        let error = match bundle.prepared(config.clone()).create() {
            Ok(created) => created.start().unwrap_err(),
            Err(error) => error,
        };
        let error = error.to_string();
        let words: Vec<&str> = error.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "stdout:").unwrap();
        assert_eq!(words[at + 1..at + 4], ["0", "0", "700000"], "{error}");
    }
}

/// What the other hooks made is taken away by these, whatever the container failed of.
#[test]
fn poststop_hooks_follow_every_failure() {
    type Way = fn(Prepared) -> Result<(), Error>;
    let ways: [(&str, Way); 2] = [
        ("create", |prepared| prepared.create().map(drop)),
        ("start", |prepared| prepared.create()?.start().map(drop)),
    ];
    for (way, act) in ways {
        let bundle = Bundle::new();
        let mut config = script("exit 0");
        match way {
            "create" => config["process"]["cwd"] = json!("/proc/self/fd/0"),
            _ => config["process"]["args"] = json!(["/no/such/program"]),
        }
        config["hooks"] = json!({
            "createRuntime": [noting(bundle.path(), "createRuntime")],
            "poststop": [noting(bundle.path(), "poststop")],
        });
        let error = act(bundle.prepared(config.clone())).unwrap_err();
        assert_eq!(bundle.read("order"), "createRuntime\npoststop\n", "{way}: {error}");
        if way == "start" {
            assert!(matches!(error, Error::Command { .. }), "{error:?}");
            config["hooks"]["poststop"] = json!([shell("exit 4")]);
            let both = act(bundle.prepared(config)).unwrap_err().to_string();
            assert!(both.starts_with("exec: \"/no/such/program\": "), "{both}");
            assert!(both.contains("; and error running poststop hook #0"), "{both}");
        }
    }
}

/// As runc's hooks.bats has it: what hooks mount below the bundle's root, in the container's mount namespace,
/// the container has, and the host has not.
#[test]
fn hooks_mount_below_the_root_by_its_path_on_the_host() {
    let bundle = Bundle::new();
    let root = bundle.path().join("rootfs");
    for name in ["usr", "by-path", "by-place"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    for (link, target) in
        [("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"), ("sbin", "usr/sbin")]
    {
        std::os::unix::fs::symlink(target, root.join(link)).unwrap();
    }
    let mut config = script("cat /by-path/* /by-place/* >/out");
    config["root"] = json!({"path": "rootfs"});
    config["mounts"].as_array_mut().unwrap().push(json!({
        "destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"],
    }));
    let by_path = root.join("by-path");
    config["hooks"] = json!({
        "createRuntime": [shell(&format!(
            "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); \
             nsenter -m -t $pid sh -c 'mount -t tmpfs x {0} && echo path >{0}/x'",
            by_path.display()
        ))],
        "createContainer": [shell(&format!(
            "test $(pwd -P) = {} && mount -t tmpfs x by-place && echo place >./by-place/x \
             && test -e usr/bin/env -a -e /usr/bin/env",
            root.display()
        ))],
    });
    let running = bundle.prepared(config).create().unwrap().start().unwrap();
    assert_eq!(running.wait().unwrap().code(), 0);
    assert_eq!(bundle.read("rootfs/out"), "path\nplace\n");
    assert!(!by_path.join("x").exists() && !root.join("by-place/x").exists());
}

/// As crun's annotations have it.
#[test]
fn what_hooks_write_goes_to_the_files_of_the_annotations() {
    let bundle = Bundle::new();
    let file = |name: &str| bundle.path().join(name).to_str().unwrap().to_owned();
    let mut config = script("exit 0");
    config["annotations"] = json!({
        "run.oci.hooks.stdout": file("out"), "run.oci.hooks.stderr": file("err"),
    });
    let both = shell("echo out; echo err >&2");
    config["hooks"] =
        json!({"prestart": [both], "createContainer": [both], "startContainer": [both]});
    bundle.prepared(config.clone()).create().unwrap().start().unwrap().wait().unwrap();
    assert_eq!(bundle.read("out"), "out\nout\nout\n");
    assert_eq!(bundle.read("err"), "err\nerr\nerr\n");
    config["annotations"]["run.oci.hooks.stderr"] = "/no/such/dir/file".into();
    let stdio = Stdio::null().unwrap();
    let error = Prepared::new(bundle.path(), &spec(config), stdio).unwrap_err().to_string();
    assert!(error.starts_with("annotations[\"run.oci.hooks.stderr\"]"), "{error}");
}
