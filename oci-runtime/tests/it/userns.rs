//! Containers in user namespaces, and with clocks of their own.

use std::os::unix::fs::MetadataExt;

use oci_runtime::spec::Process;
use oci_runtime::{Error, Exit, PreparedExec, Running, Stdio};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, pidfd_open};
use serde_json::{Value, json};

use crate::{run, script, start, text};

/// Where the container's ids begin on the host.
const FIRST: u32 = 700_000;

/// In a new user namespace, beside the others.
fn mapped(command: &str) -> Value {
    let mut config = script(command);
    let map = json!([{"containerID": 0, "hostID": FIRST, "size": 65536}]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    config
}

#[test]
fn root_inside_is_nobody_outside_and_has_its_own_mounts_and_devices() {
    let mut config = mapped(
        "cat /proc/self/uid_map; id -u; echo x >/tmp/f && stat -c %u:%g /tmp/f; \
         echo to-null >/dev/null && echo null; stat -c %t:%T /dev/null; hostname; ls /sys/class/net; \
         cat /proc/self/setgroups; grep -E 'Cap(Eff|Bnd)' /proc/self/status; \
         cat /proc/sys/net/ipv4/ip_default_ttl; wc -c </proc/version; sleep 1000",
    );
    config["process"]["capabilities"] = json!({"bounding": ["CAP_SYS_ADMIN"], "effective": ["CAP_SYS_ADMIN"], "permitted": ["CAP_SYS_ADMIN"]});
    config["linux"]["sysctl"] = json!({"net.ipv4.ip_default_ttl": "77"});
    config["linux"]["maskedPaths"] = json!(["/proc/version"]);
    config["mounts"].as_array_mut().unwrap().push(json!(
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}
    ));
    let (running, pipe) = start(config).unwrap();
    let status = std::fs::metadata(format!("/proc/{}", running.pid())).unwrap();
    let mut printed = String::new();
    let pipe = std::fs::File::from(pipe);
    for line in std::io::BufRead::lines(std::io::BufReader::new(pipe)).take(12) {
        printed += &format!("{}\n", line.unwrap());
    }
    running.kill().unwrap();
    running.wait().unwrap();
    let map = printed.lines().next().unwrap();
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "700000", "65536"]);
    let rest: Vec<&str> = printed.lines().skip(1).collect();
    let want = [
        "0",
        "0:0",
        "null",
        "1:3",
        "contained",
        "lo",
        "allow",
        "CapEff:\t0000000000200000",
        "CapBnd:\t0000000000200000",
        "77",
        "0",
    ];
    assert_eq!(rest[..11], want, "{printed}");
    assert_eq!(status.uid(), FIRST, "on the host it is somebody else");
}

/// What a program prints that is run in the container.
fn exec(container: &Running, process: Value) -> Result<(String, Exit), Error> {
    let process: Process = serde_json::from_value(process).unwrap();
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let stdio = Stdio::new(Stdio::null_device()?, &write, &write)?;
    let pidfd = pidfd_open(container.pid(), PidfdFlags::empty()).unwrap();
    let running = PreparedExec::new(pidfd, container.pid(), &process, stdio)?.start()?;
    drop(write);
    let printed = text(read);
    Ok((printed, running.wait()?))
}

#[test]
fn exec_joins_the_user_namespace() {
    let (container, _pipe) = start(mapped("sleep 1000")).unwrap();
    let link = |kind: &str| {
        let link = std::fs::read_link(format!("/proc/{}/ns/{kind}", container.pid())).unwrap();
        link.to_str().unwrap().to_owned()
    };
    let command = "for n in user mnt pid net; do readlink /proc/self/ns/$n; done; id -u; ulimit -n; \
                   grep CapEff /proc/self/status";
    let (printed, exit) = exec(
        &container,
        json!({
            "user": {"uid": 7, "gid": 7, "additionalGids": [9]}, "cwd": "/", "args": ["sh", "-c", command],
            "env": ["PATH=/usr/bin:/bin"],
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 33, "hard": 44}],
        }),
    )
    .unwrap();
    let of_container = ["user", "mnt", "pid", "net"].map(link).join("\n");
    assert_eq!(printed, format!("{of_container}\n7\n33\nCapEff:\t0000000000000000\n"));
    assert_eq!(exit, Exit::Status(0));
    container.kill().unwrap();
    container.wait().unwrap();
}

#[test]
fn a_user_namespace_that_is_there_is_joined() {
    let (first, _pipe) = start(mapped("sleep 1000")).unwrap();
    let mut config =
        script("readlink /proc/self/ns/user; id -u; echo $$; touch /tmp/x && echo made");
    let path = |kind: &str| format!("/proc/{}/ns/{kind}", first.pid());
    config["linux"]["namespaces"] = json!([
        {"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "cgroup"},
        {"type": "user", "path": path("user")}, {"type": "network", "path": path("net")},
    ]);
    let (printed, _) = run(config).unwrap();
    let user = std::fs::read_link(path("user")).unwrap();
    assert_eq!(printed, format!("{}\n0\n1\nmade\n", user.display()));
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn with_the_hosts_network_the_hosts_sysfs_is_bound() {
    let mut config = mapped("ls /sys/class/net; grep ' /sys ' /proc/self/mounts; ls /dev/mqueue");
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "network" && namespace["type"] != "ipc");
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.push(
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}),
    );
    let (printed, exit) = run(config).unwrap();
    assert_eq!(exit, Exit::Status(2), "there is no /dev/mqueue: {printed}");
    for entry in std::fs::read_dir("/sys/class/net").unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(printed.lines().any(|line| line == name), "{name}: {printed}");
    }
    let mount = printed.lines().rfind(|line| line.contains(" /sys sysfs ")).unwrap();
    assert!(mount.contains("ro,") || mount.contains(" ro"), "{mount}");
}

#[test]
fn one_id_alone_is_enough() {
    let mut config = mapped("id -u; cat /proc/self/gid_map");
    let map = json!([{"containerID": 0, "hostID": FIRST, "size": 1}]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
    let (printed, _) = run(config).unwrap();
    assert_eq!(printed.split_whitespace().collect::<Vec<_>>(), ["0", "0", "700000", "1"]);
}

#[test]
fn an_id_that_is_not_mapped_is_an_error() {
    let mut config = mapped("true");
    config["process"]["user"] = json!({"uid": 65536, "gid": 0});
    let error = run(config).unwrap_err().to_string();
    assert!(error.contains("becoming the user"), "{error}");
}

#[test]
fn clocks_are_moved_in_a_time_namespace() {
    let own: f64 = uptime(&std::fs::read_to_string("/proc/uptime").unwrap());
    let mut config = script("cat /proc/uptime /proc/self/timens_offsets");
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
    config["linux"]["timeOffsets"] =
        json!({"boottime": {"secs": 1_000_000}, "monotonic": {"secs": -3, "nanosecs": 5}});
    let (printed, _) = run(config).unwrap();
    let moved = uptime(&printed);
    // Both are rounded to hundredths of a second.
    assert!((999_999.9..1_000_300.0).contains(&(moved - own)), "{own} {printed}");
    let words: Vec<&str> = printed.split_whitespace().skip(2).collect();
    assert_eq!(words, ["monotonic", "-3", "5", "boottime", "1000000", "0"]);
}

#[test]
fn a_time_namespace_that_is_there_is_joined() {
    let mut config = script("sleep 1000");
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
    config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000}});
    let (first, _pipe) = start(config).unwrap();
    let mut config = script("readlink /proc/self/ns/time; cat /proc/uptime");
    let path = format!("/proc/{}/ns/time", first.pid());
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "time", "path": path}));
    let (printed, _) = run(config).unwrap();
    assert!(printed.starts_with(std::fs::read_link(path).unwrap().to_str().unwrap()), "{printed}");
    assert!(uptime(printed.lines().nth(1).unwrap()) >= 1_000_000.0, "{printed}");
    first.kill().unwrap();
    first.wait().unwrap();
}

fn uptime(text: &str) -> f64 {
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// Nobody may make nodes there: this program does, on the host.
#[test]
fn devices_have_the_owner_and_the_mode_that_are_asked_for() {
    let mut config = mapped("stat -c %u:%g:%a /dev/foo /dev/zero; head -c3 /dev/foo | wc -c");
    config["linux"]["devices"] = json!([
        {"path": "/dev/foo", "type": "c", "major": 1, "minor": 5, "fileMode": 0o647, "uid": 10, "gid": 11},
        // Whose owner has no id there: the host's is bound, as it is.
        {"path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "uid": 100_000},
    ]);
    let (printed, exit) = run(config).unwrap();
    assert_eq!((printed.as_str(), exit), ("10:11:647\n65534:65534:666\n3\n", Exit::Status(0)));
}

/// Two devices of the host's, of a kind that goes with its namespace; gone at the end, whatever happens.
struct Pair([String; 2]);

impl Pair {
    fn new() -> Self {
        let pair = Self(["a", "b"].map(|end| format!("oci{}{end}", std::process::id())));
        let [one, other] = &pair.0;
        ip(&["link", "add", one, "type", "veth", "peer", "name", other]);
        pair
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip").args(["link", "del", &self.0[0]]).output();
    }
}

fn ip(args: &[&str]) -> String {
    let output = std::process::Command::new("ip").args(args).output().unwrap();
    assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn is_there(device: &str) -> bool {
    std::path::Path::new("/sys/class/net").join(device).exists()
}

#[test]
fn network_devices_of_the_host_become_the_containers() {
    let pair = Pair::new();
    let [one, other] = &pair.0;
    ip(&["address", "add", "192.0.2.7/24", "dev", one]);
    ip(&["address", "add", "2001:db8::7/64", "dev", one, "nodad"]);
    let show = "ls /sys/class/net; ip -o address show dev eth7; cat /sys/class/net/eth7/flags";
    let mut config = script(show);
    config["mounts"].as_array_mut().unwrap().push(json!(
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}
    ));
    // A name that is there already: nothing is moved.
    config["linux"]["netDevices"] = json!({one: {"name": "eth7"}, other: {"name": "lo"}});
    let error = run(config.clone()).unwrap_err().to_string();
    let want = format!("linux.netDevices[{:?}] of the container's configuration: ", other);
    assert!(error.starts_with(&want) && error.contains("File exists"), "{error}");
    assert!(is_there(one) && is_there(other), "taken back");
    assert!(ip(&["address", "show", "dev", one]).contains("192.0.2.7/24"));
    config["linux"]["netDevices"] = json!({one: {"name": "eth7"}, other: {}});
    let (printed, exit) = run(config.clone()).unwrap();
    assert_eq!(exit, Exit::Status(0), "{printed}");
    assert!(printed.starts_with(&format!("eth7\nlo\n{}\n", other)), "{printed}");
    assert!(printed.contains("192.0.2.7/24") && printed.contains("2001:db8::7/64"), "{printed}");
    let flags = printed.lines().last().unwrap().trim_start_matches("0x");
    assert_eq!(u32::from_str_radix(flags, 16).unwrap() & 1, 1, "up: {printed}");
    assert!(!is_there(one) && !is_there(other));
    let error = run(config).unwrap_err().to_string();
    assert!(error.contains("No such device"), "{error}");
}
