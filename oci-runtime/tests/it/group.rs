//! A container's cgroup, as `linux.cgroupsPath` and `linux.resources` ask for it.

use cgroup::{Group, Hierarchies, Location};
use oci_runtime::{Error, Exit, PreparedExec, Stdio};
use serde_json::{Value, json};

use crate::{config, run, script, spec, start, text};

fn path(test: &str) -> String {
    format!("/oci-runtime-test-{test}-{}", std::process::id())
}

fn group(path: &str) -> Result<Group, cgroup::Error> {
    let hierarchies = Hierarchies::find().unwrap();
    hierarchies.open(&hierarchies.locate(path).unwrap())
}

/// A group that goes with its test, with what is in it.
struct Ended(Group);

impl Drop for Ended {
    fn drop(&mut self) {
        let done = self.0.destroy();
        assert!(done.is_ok() || std::thread::panicking(), "{done:?}");
    }
}

impl std::ops::Deref for Ended {
    type Target = Group;

    fn deref(&self) -> &Group {
        &self.0
    }
}

fn limited(mut config: Value, path: &str, resources: Value) -> Value {
    config["linux"]["cgroupsPath"] = json!(path);
    config["linux"]["resources"] = resources;
    config
}

#[test]
fn a_container_and_its_execs_begin_in_their_group_with_its_limits() {
    let path = path("life");
    let resources = json!({
        "devices": [{"allow": false, "access": "rwm"}],
        "memory": {"limit": 64 << 20}, "pids": {"limit": 33}, "cpu": {"quota": 50_000},
    });
    let sleeper = limited(config(&["sleep", "1000"]), &path, resources);
    let (running, _output) = start(sleeper.clone()).unwrap();
    let group = Ended(group(&path).unwrap());
    let stats = group.stats().unwrap();
    assert_eq!(stats.memory.unwrap().limit, Some(64 << 20));
    assert_eq!(stats.pids.unwrap().limit, Some(33));
    let groups = Location::of_process(&running.pid().as_raw_nonzero().to_string()).unwrap();
    for (controllers, _) in group.paths() {
        let of = match &controllers[..] {
            "" => groups.unified(),
            names => groups.legacy(names),
        };
        assert_eq!(of, Some(&path[..]), "{controllers}");
    }
    // Its own groups are the roots of what it sees, in every hierarchy; so is what it may open.
    let seen = "cat /proc/self/cgroup; for d in null zero full; do (: < /dev/$d) || exit 1; done; \
                mknod /tmp/kmsg c 1 11 || exit 3; (: > /tmp/kmsg) 2>/dev/null && exit 2; exit 0";
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let stdio = Stdio::new(Stdio::null_device().unwrap(), &write, &write).unwrap();
    let mut with_nodes = script(seen);
    let sets = ["bounding", "permitted", "effective"].map(|set| (set, json!(["CAP_MKNOD"])));
    with_nodes["process"]["capabilities"] = Value::from_iter(sets);
    let process = spec(with_nodes).process().clone().unwrap();
    let pidfd = running.pidfd().try_clone_to_owned().unwrap();
    let exec = PreparedExec::new(pidfd, running.pid(), &process, stdio).unwrap();
    let exec = exec.group(group.join().unwrap()).start().unwrap();
    drop(write);
    let printed = text(read);
    assert_eq!(exec.wait().unwrap(), Exit::Status(0), "{printed}");
    let own = printed.lines().filter(|line| line.contains(':'));
    assert!(own.clone().count() > 0 && own.clone().all(|line| line.ends_with(":/")), "{printed}");
    running.kill().unwrap();
    running.wait().unwrap();
    drop(group);
    assert!(self::group(&path).unwrap_err().is_not_found());
}

#[test]
fn of_what_fails_no_group_is_left() {
    let path = path("fails");
    let missing = limited(config(&["/no/such/program"]), &path, json!({"pids": {"limit": 5}}));
    assert!(matches!(run(missing), Err(Error::Command { .. })));
    assert!(group(&path).unwrap_err().is_not_found());
    for (resources, field) in [
        (json!({"cpu": {"idle": 7}}), "linux.resources.cpu.idle: "),
        (json!({"memory": {"limit": -5}}), "linux.resources.memory.limit: "),
        (
            json!({"unified": {"no.such": "1"}}),
            "linux.resources.unified[\"no.such\"]: the requested cgroup controller",
        ),
        (
            json!({"devices": [{"allow": true, "access": "q"}]}),
            "linux.resources.devices[0].access ",
        ),
    ] {
        let error = run(limited(config(&["true"]), &path, resources)).unwrap_err().to_string();
        assert!(error.starts_with(field), "{error}");
        assert!(group(&path).unwrap_err().is_not_found());
    }
    let error = run(limited(config(&["true"]), "/", json!({}))).unwrap_err().to_string();
    assert!(error.starts_with("linux.cgroupsPath "), "{error}");
}

#[test]
fn limits_without_a_group_are_refused() {
    let mut config = config(&["true"]);
    config["linux"]["resources"] = json!({"pids": {"limit": 5}});
    let error = run(config).unwrap_err().to_string();
    assert!(error.starts_with("linux.cgroupsPath "), "{error}");
}

/// The kernel lets it mount none, since its cgroup namespace is the host's.
#[test]
fn in_a_user_namespace_its_own_group_is_shown_and_no_other() {
    let path = path("mapped");
    let script = "cd /sys/fs/cgroup; cat pids.max pids/pids.max 2>/dev/null; \
                  find . -mindepth 2 -type d; touch x 2>/dev/null && echo writable; \
                  cat /proc/self/cgroup";
    let mut config = limited(self::script(script), &path, json!({"pids": {"limit": 77}}));
    let map = json!([{"containerID": 0, "hostID": 700_000, "size": 65536}]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "cgroup");
    namespaces.push(json!({"type": "user"}));
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/sys", "type": "sysfs", "options": ["ro"]}));
    mounts.push(json!(
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}
    ));
    let (printed, exit) = run(config).unwrap();
    let group = Ended(group(&path).unwrap());
    let (groups, shown): (Vec<_>, Vec<_>) = printed.lines().partition(|line| line.contains(':'));
    assert_eq!((shown, exit), (vec!["77"], Exit::Status(0)), "{printed}");
    assert!(groups.iter().any(|line| line.ends_with(&path)), "no namespace hides it: {printed}");
    drop(group);
}
