//! Cgroups that systemd makes: `--systemd-cgroup`, with a real systemd.

use std::process::Command;

use serde_json::{Value, json};

use super::{BIN, Oci, WAITS};
use crate::harness::wait_until;
use crate::systemd::{Systemd, View};

/// The unit of most containers here, and its group.
const PATH: &str = "a-b.slice:tst:one";
const UNIT: &str = "tst-one.scope";
const GROUP: &str = "/a.slice/a-b.slice/tst-one.scope";

/// A systemd, and containers under it.
struct Under {
    oci: Oci,
    systemd: Systemd,
}

impl Under {
    fn new(view: View, args: &[&str], change: impl FnOnce(&mut Value)) -> Under {
        Under::with(Systemd::start(view), args, change)
    }

    fn with(systemd: Systemd, args: &[&str], change: impl FnOnce(&mut Value)) -> Under {
        let mut oci = Oci::new(args);
        oci.prefix = systemd.prefix();
        let under = Under { oci, systemd };
        under.configure(args, change);
        under
    }

    fn configure(&self, args: &[&str], change: impl FnOnce(&mut Value)) {
        let path = |config: &mut Value| {
            config["linux"]["cgroupsPath"] = PATH.into();
            change(config);
        };
        self.oci.configure(path, args);
    }

    fn create(&self, id: &str) {
        self.oci.create(&["--systemd-cgroup", id]);
    }

    /// The groups of a process of the container, as its machine names them.
    fn groups_of(&self, id: &str) -> String {
        let pid = self.oci.state(id)["pid"].to_string();
        self.systemd.ok(&["cat", &format!("/proc/{pid}/cgroup")])
    }

    /// What systemd has of the containers' units.
    fn units(&self) -> String {
        self.systemd.ok(&["systemctl", "list-units", "--all", "--no-legend", "tst-*", "runc-*"])
    }

    /// What systemd and the kernel have of them.
    fn traces(&self) -> String {
        let groups = self.systemd.ok(&[
            "find",
            "/sys/fs/cgroup",
            "-name",
            "*.scope",
            "!",
            "-name",
            "init.scope",
        ]);
        self.units() + &groups
    }
}

/// The directory of a hierarchy below /sys/fs/cgroup that has a controller.
fn hierarchy(view: View, controller: &str) -> &str {
    if view == View::Unified { "." } else { controller }
}

#[test]
fn a_container_lives_in_a_scope() {
    for view in View::all() {
        let under = Under::new(view, &WAITS, |_| {});
        let Under { oci, systemd } = &under;
        under.create("one");
        assert_eq!(oci.status("one"), "created");
        for (property, value) in [
            ("Slice", "a-b.slice"),
            ("ControlGroup", GROUP),
            ("Delegate", "yes"),
            ("DefaultDependencies", "no"),
            ("Description", "libcontainer container one"),
            ("ActiveState", "active"),
            ("MemoryAccounting", "yes"),
            ("CPUAccounting", "yes"),
            ("TasksAccounting", "yes"),
        ] {
            assert_eq!(systemd.show(UNIT, property), value, "{property}");
        }
        let groups = under.groups_of("one");
        assert!(groups.lines().any(|line| line == format!("0::{GROUP}")), "{groups}");
        // In the hierarchies that this machine shows; of the others it knows nothing.
        if view == View::Hybrid {
            assert!(groups.lines().all(|line| line.ends_with(GROUP)), "{groups}");
        }
        // Nobody but the container's process is in it.
        let listed = systemd.group_file(
            if view == View::Unified { "." } else { "unified" },
            GROUP,
            "cgroup.procs",
        );
        assert_eq!(listed, oci.state("one")["pid"].to_string());

        oci.ok(&["start", "one"]);
        let own = oci.ok(&["exec", "one", "cat", "/proc/self/cgroup"]);
        assert_eq!(
            own.trim_end(),
            under.groups_of("one"),
            "a further process is in the same groups"
        );
        oci.ok(&["pause", "one"]);
        assert_eq!(oci.status("one"), "paused");
        oci.ok(&["resume", "one"]);
        oci.ok(&["kill", "one", "TERM"]);
        oci.wait_for("one", "stopped");
        oci.ok(&["delete", "one"]);
        wait_until("nothing of it is left", || under.traces().is_empty());

        // And again, under the same name.
        under.create("one");
        oci.ok(&["delete", "--force", "one"]);
        wait_until("nothing of it is left", || under.traces().is_empty());
    }
}

#[test]
fn a_container_without_a_path_is_in_the_systems_slice() {
    let under =
        Under::new(View::full(), &["sh", "-c", "cat /proc/self/cgroup; exit 3"], |config| {
            config["linux"].as_object_mut().unwrap().remove("cgroupsPath");
        });
    let out = under.oci.call(&["--cgroup-manager", "systemd", "run", "named"]);
    assert_eq!(out.code, 3, "{}", out.stderr);
    assert!(out.stdout.contains(":/system.slice/runc-named.scope\n"), "{}", out.stdout);
    wait_until("nothing of it is left", || under.traces().is_empty());
}

#[test]
fn limits_are_systemds_too() {
    let view = View::full();
    let under = Under::new(view, &WAITS, |config| {
        config["linux"]["resources"] = json!({
            "memory": {"limit": 64 << 20},
            "cpu": {"shares": 2048, "quota": 50_001, "period": 100_000, "cpus": "0"},
            "pids": {"limit": 1},
        });
        config["process"]["args"] = json!(["sleep", "1000"]);
    });
    let Under { oci, systemd } = &under;
    let unified = view == View::Unified;
    let memory = || match unified {
        true => (systemd.show(UNIT, "MemoryMax"), systemd.group_file(".", GROUP, "memory.max")),
        false => (
            systemd.show(UNIT, "MemoryLimit"),
            systemd.group_file("memory", GROUP, "memory.limit_in_bytes"),
        ),
    };
    let quota = || match unified {
        true => systemd.group_file(".", GROUP, "cpu.max"),
        false => {
            let read = |file| systemd.group_file("cpu", GROUP, file);
            format!("{} {}", read("cpu.cfs_quota_us"), read("cpu.cfs_period_us"))
        }
    };
    let pids = || {
        let file = systemd.group_file(hierarchy(view, "pids"), GROUP, "pids.max");
        (systemd.show(UNIT, "TasksMax"), file)
    };
    let both = |text: &str| (text.to_owned(), text.to_owned());
    let check = |expected: [&str; 4]| {
        assert_eq!(memory(), both(expected[0]));
        assert_eq!(systemd.show(UNIT, "CPUQuotaPerSecUSec"), expected[1]);
        assert_eq!(quota(), expected[2]);
        assert_eq!(pids(), both(expected[3]));
    };
    under.create("one");
    oci.ok(&["start", "one"]);
    // Rounded up to a whole percent, which is what systemd keeps.
    let at_first = ["67108864", "510ms", "51000 100000", "1"];
    check(at_first);
    assert_eq!(systemd.show(UNIT, "AllowedCPUs"), "0");
    match unified {
        true => assert_eq!(systemd.show(UNIT, "CPUWeight"), "174"),
        false => assert_eq!(systemd.show(UNIT, "CPUShares"), "2048"),
    }
    // systemd writes what it knows again.
    systemd.ok(&["systemctl", "daemon-reload"]);
    check(at_first);

    oci.ok(&["update", "--memory", "80m", "--pids-limit", "30", "--cpu-period", "200000", "one"]);
    let then = ["83886080", "260ms", "52000 200000", "30"];
    check(then);
    systemd.ok(&["systemctl", "daemon-reload"]);
    check(then);
    oci.fails(1, &["cpu.cpus"], &["update", "--cpuset-cpus", "999999", "one"]);
    oci.fails(1, &["memory.swap"], &["update", "--memory-swap", "1", "one"]);
    check(then);
}

/// The rules for devices stay as they are when systemd writes its own again.
#[test]
fn devices_stay_closed() {
    let under = Under::new(View::full(), &WAITS, |config| {
        config["process"]["capabilities"]["bounding"] = json!(["CAP_MKNOD"]);
        config["process"]["capabilities"]["effective"] = json!(["CAP_MKNOD"]);
        config["process"]["capabilities"]["permitted"] = json!(["CAP_MKNOD"]);
        config["linux"]["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]});
    });
    let Under { oci, systemd } = &under;
    under.create("one");
    oci.ok(&["start", "one"]);
    oci.ok(&["exec", "one", "mknod", "/dev/log", "c", "1", "11"]);
    let check = || {
        oci.ok(&["exec", "one", "sh", "-c", "echo >/dev/null"]);
        oci.fails(1, &["Operation not permitted"], &["exec", "one", "head", "-c", "1", "/dev/log"]);
    };
    check();
    systemd.ok(&["systemctl", "daemon-reload"]);
    check();
    systemd.ok(&["systemctl", "set-property", "--runtime", UNIT, "TasksMax=50"]);
    check();
    oci.ok(&["update", "--pids-limit", "60", "one"]);
    check();
}

#[test]
fn annotations_are_properties() {
    let under = Under::new(View::full(), &WAITS, |config| {
        config["annotations"] = json!({
            "org.systemd.property.TimeoutStopSec": "uint64 7",
            "org.systemd.property.CollectMode": "'inactive-or-failed'",
            "org.example.key": "'value'",
        });
    });
    under.create("one");
    assert_eq!(under.systemd.show(UNIT, "TimeoutStopUSec"), "7s");
    assert_eq!(under.systemd.show(UNIT, "CollectMode"), "inactive-or-failed");
}

#[test]
fn what_systemd_refuses_is_said_and_leaves_nothing() {
    let under = Under::new(View::full(), &WAITS, |_| {});
    let oci = &under.oci;
    let create = |words: &[&str]| {
        oci.fails(1, words, &["--systemd-cgroup", "create", "two"]);
        assert!(!oci.names().contains(&"two".to_owned()));
    };
    // In use: by a container, then by somebody else.
    under.create("one");
    create(&["linux.cgroupsPath", "container's cgroup is not empty"]);
    assert_eq!(oci.status("one"), "created");
    oci.ok(&["delete", "--force", "one"]);

    type Change = fn(&mut Value);
    let changes: [(Change, &[&str]); 6] = [
        (
            |c| c["linux"]["cgroupsPath"] = "/a/b".into(),
            &["linux.cgroupsPath", "slice:prefix:name"],
        ),
        (
            |c| c["linux"]["cgroupsPath"] = "a/b.slice:c:d".into(),
            &["linux.cgroupsPath", "name of a slice"],
        ),
        (
            |c| c["annotations"] = json!({"org.systemd.property.TasksMax": "seven"}),
            &["annotations[", "seven"],
        ),
        (
            |c| c["annotations"] = json!({"org.systemd.property.NoSuchThing": "1"}),
            &["making the unit tst-one.scope: systemd refuses it: ", "NoSuchThing"],
        ),
        (
            |c| c["linux"]["resources"] = json!({"cpu": {"cpus": "999999"}}),
            &["linux.resources.cpu.cpus"],
        ),
        (|c| c["process"]["args"] = json!(["/no/such/command"]), &["/no/such/command"]),
    ];
    for (change, words) in changes {
        under.configure(&WAITS, change);
        create(words);
        wait_until("nothing of it is left", || under.traces().is_empty());
    }
    // And one that failed is no obstacle to the next one of its name.
    under.configure(&WAITS, |_| {});
    under.create("one");
    oci.ok(&["delete", "--force", "one"]);
}

/// The container's processes have ended, and systemd has forgotten the unit, before somebody asks.
#[test]
fn a_scope_that_is_gone_already_is_no_error() {
    let under = Under::new(View::full(), &["true"], |_| {});
    under.create("one");
    under.oci.ok(&["start", "one"]);
    under.oci.wait_for("one", "stopped");
    wait_until("systemd has forgotten it", || under.units().is_empty());
    under.oci.fails(1, &["container not running"], &["update", "--pids-limit", "5", "one"]);
    under.oci.ok(&["delete", "one"]);
    assert_eq!(under.traces(), "");
}

#[test]
fn a_slice_can_be_the_containers() {
    let under = Under::new(View::full(), &WAITS, |config| {
        config["linux"]["cgroupsPath"] = "a.slice::a-tst.slice".into();
        config["linux"]["resources"] = json!({"pids": {"limit": 20}});
    });
    under.create("one");
    assert!(under.groups_of("one").contains(":/a.slice/a-tst.slice"), "{}", under.groups_of("one"));
    assert_eq!(under.systemd.show("a-tst.slice", "TasksMax"), "20");
    under.oci.ok(&["delete", "--force", "one"]);
    let state = || under.systemd.show("a-tst.slice", "ActiveState");
    wait_until("it has stopped", || state() == "inactive");
}

/// A bus between it and its callers, as on most machines.
#[test]
fn the_system_bus_is_the_way_where_there_is_one() {
    let config = tempfile::NamedTempFile::new_in("/tmp").unwrap();
    std::fs::write(config.path(), BUS).unwrap();
    let service = format!(
        "[Unit]\nDefaultDependencies=no\nRequires=dbus.socket\n[Service]\nType=notify\n\
         ExecStart=dbus-daemon --config-file={} --address=systemd: --nofork --nopidfile\n",
        config.path().display()
    );
    let socket =
        "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=/run/dbus/system_bus_socket\n";
    let units = [("dbus.service", &*service), ("dbus.socket", socket)];
    let systemd = Systemd::start_with(View::full(), "dbus.socket dbus.service", &units);
    wait_until("the bus answers", || {
        systemd.call(&["systemctl", "is-active", "dbus.service"]).code == 0
    });
    let under = Under::with(systemd, &WAITS, |_| {});
    // There is no other way then.
    under.systemd.ok(&["mv", "/run/systemd/private", "/run/systemd/elsewhere"]);
    under.create("one");
    under.oci.ok(&["start", "one"]);
    under.oci.ok(&["update", "--pids-limit", "30", "one"]);
    assert!(under.groups_of("one").contains(GROUP));
    under.oci.ok(&["delete", "--force", "one"]);
    under.systemd.ok(&["mv", "/run/systemd/elsewhere", "/run/systemd/private"]);
    wait_until("nothing of it is left", || under.traces().is_empty());
}

/// A bus that lets everybody do everything.
const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
  </policy>
</busconfig>
"#;

/// A user's own systemd, asked by root of a user namespace.
#[test]
fn a_users_containers_are_scopes_of_the_users_systemd() {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    let runtime = "XDG_RUNTIME_DIR=/run/user/1000";
    let service = format!(
        "[Unit]\nDefaultDependencies=no\n[Service]\nUser=1000\nDelegate=yes\nSlice=user-1000.slice\n\
         Environment={runtime} SYSTEMD_UNIT_PATH=/run/user/1000/systemd/transient\n\
         ExecStartPre=+sh -c 'mkdir -p /run/user/1000 && chown 1000 /run/user/1000'\n\
         ExecStart=systemd --user --unit=-.slice\n"
    );
    let systemd = Systemd::start_with(View::Unified, "user.service", &[("user.service", &service)]);
    wait_until("the user's systemd listens", || {
        systemd.call(&["test", "-S", "/run/user/1000/systemd/private"]).code == 0
    });
    let mut oci = Oci::new(&WAITS);
    oci.prefix = systemd.prefix();
    // Its procfs would be more than the one that is seen here.
    oci.configure(
        |config| {
            config["linux"]["cgroupsPath"] = ":tst:one".into();
            config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "proc");
        },
        &["sleep", "1000"],
    );
    std::fs::create_dir(oci.home()).unwrap();
    std::fs::set_permissions(oci.dir(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for path in [oci.home(), oci.bundle(), oci.bundle().join("rootfs")] {
        chown(path, Some(1000), Some(1000)).unwrap();
    }
    let above = "/user.slice/user-1000.slice/user.service";
    let call = |group: &str, args: &[&str]| {
        let script = "echo $$ >\"/sys/fs/cgroup$0/cgroup.procs\" && exec setpriv --reuid 1000 --regid 1000 \
                      --clear-groups env \"$@\"";
        let mut command = systemd.command(&["sh", "-c", script, group, "-C"]);
        command.arg(oci.bundle()).args([
            runtime,
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            BIN,
        ]);
        command.arg("--root").arg(oci.home()).args(args).stdin(std::process::Stdio::null());
        let output = std::fs::File::create(oci.dir().join("output")).unwrap();
        let done = command.stderr(output.try_clone().unwrap()).stdout(output).status().unwrap();
        (done.success(), std::fs::read_to_string(oci.dir().join("output")).unwrap())
    };
    // Not of the user's.
    systemd.ok(&["mkdir", "/sys/fs/cgroup/mine"]);
    let (done, words) = call("/mine", &["--systemd-cgroup", "create", "one"]);
    assert!(!done && words.contains("systemd-run --user --scope"), "{words}");

    systemd.ok(&["mkdir", &format!("/sys/fs/cgroup{above}/mine")]);
    systemd.ok(&["chown", "-R", "1000", &format!("/sys/fs/cgroup{above}/mine")]);
    let mine = format!("{above}/mine");
    for verb in [&["--systemd-cgroup", "create", "one"][..], &["start", "one"]] {
        let (done, words) = call(&mine, verb);
        assert!(done, "{verb:?}: {words}");
    }
    let place = format!("/sys/fs/cgroup{above}/user.slice/tst-one.scope/cgroup.procs");
    let listed = systemd.ok(&["cat", &place]);
    assert_eq!(listed.lines().count(), 1, "{listed}");
    let (done, words) = call(&mine, &["delete", "--force", "one"]);
    assert!(done, "{words}");
    wait_until("its group is gone", || systemd.call(&["test", "-e", &place]).code != 0);
}

#[test]
fn without_systemd_it_is_said() {
    let oci = Oci::new(&WAITS);
    oci.configure(|config| config["linux"]["cgroupsPath"] = PATH.into(), &WAITS);
    // A machine with another init.
    let script = "mount -t tmpfs tmpfs /run && exec \"$@\"";
    let out = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh", BIN, "--root"])
        .arg(oci.home())
        .args(["--systemd-cgroup", "create", "one"])
        .current_dir(oci.bundle())
        .output()
        .unwrap();
    let words = String::from_utf8(out.stderr).unwrap();
    assert!(!out.status.success() && words.contains("systemd cgroup flag passed"), "{words}");
    assert!(words.contains("/run/systemd/system"), "{words}");
    assert!(oci.names().is_empty());
}
