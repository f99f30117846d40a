//! A systemd of a test's own: the machine's program as the first process of namespaces, with cgroups that only it has.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::harness::{Started, wait_until};

/// Which hierarchies it sees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum View {
    /// v2 alone, with the controllers that it has on this machine.
    Unified,
    /// v1's and v2, as a hybrid machine has them.
    Hybrid,
}

impl View {
    /// Those that can be had here.
    pub(crate) fn all() -> Vec<View> {
        match View::full() {
            View::Hybrid => vec![View::Unified, View::Hybrid],
            View::Unified => vec![View::Unified],
        }
    }

    /// The one in which all controllers are.
    pub(crate) fn full() -> View {
        match Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            true => View::Unified,
            false => View::Hybrid,
        }
    }
}

/// Begins as root in the machine's namespaces and ends as systemd in its own: nothing that it does is seen outside.
const SCRIPT: &str = r#"
set -e
cd /sys/fs/cgroup
for hierarchy in $HIERARCHIES; do
    mkdir "$hierarchy/$GROUP"
    # A new group of v1 has no processors, and takes no process.
    for file in cpuset.cpus cpuset.mems; do
        if [ -e "$hierarchy/tasks" ] && [ -e "$hierarchy/$file" ]; then
            cat "$hierarchy/$file" >"$hierarchy/$GROUP/$file"
        fi
    done
    echo $$ >"$hierarchy/$GROUP/cgroup.procs"
done
cd /
exec unshare --pid --fork --kill-child --mount --propagation private --cgroup --uts --ipc --net sh -ec '
    read -r pid rest </proc/self/stat
    echo $pid >"$DIR/pid.new"
    ip link set lo up
    mount -t proc proc /proc
    mount --bind /proc/sys /proc/sys
    mount -o remount,bind,ro /proc/sys
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir /run/dbus
    # It writes to /etc and /var/lib as a machine starts, and containerd to /opt.
    for dir in etc opt var/lib; do
        mkdir -p "/run/over/$dir/upper" "/run/over/$dir/work"
        mount -t overlay -o "lowerdir=/$dir,upperdir=/run/over/$dir/upper,workdir=/run/over/$dir/work" over "/$dir"
    done
    echo 0123456789abcdef0123456789abcdef >/etc/machine-id
    touch "$DIR/console"
    mount --bind "$DIR/console" /dev/console
    umount -R /sys/fs/cgroup
    case $VIEW in
    Unified) mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup ;;
    Hybrid)
        mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
        for hierarchy in $HIERARCHIES; do
            mkdir "/sys/fs/cgroup/$hierarchy"
            case $hierarchy in
            unified) mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified ;;
            systemd) mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd ;;
            *) mount -t cgroup -o "$hierarchy" cgroup "/sys/fs/cgroup/$hierarchy" ;;
            esac
        done
        ;;
    esac
    mv "$DIR/pid.new" "$DIR/pid"
    until [ -e "$DIR/go" ]; do sleep 0.01; done
    # The units that it makes, and the test: none of the machine.
    units=/run/systemd/transient:/run/systemd/system.control:/run/systemd/system:$DIR/units
    exec env -i container=test PATH="$PATH" SYSTEMD_UNIT_PATH="$units" \
        systemd --system --unit=test.target --show-status=no --log-target=console --log-level=info'
"#;

/// The hierarchies of this machine, by the names of their directories; `.` for v2 alone.
fn hierarchies() -> Vec<String> {
    let base = Path::new("/sys/fs/cgroup");
    if View::full() == View::Unified {
        return vec![".".to_owned()];
    }
    let device = |path: &Path| path.symlink_metadata().unwrap().dev();
    let entries = std::fs::read_dir(base).unwrap().map(|entry| entry.unwrap().path());
    // `cpu,cpuacct` has links beside it; directories without a mount are somebody's mistake.
    let mounted =
        entries.filter(|path| path.is_dir() && !path.is_symlink() && device(path) != device(base));
    mounted.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

/// It, running. Dropping it ends all that runs under it.
pub(crate) struct Systemd {
    dir: TempDir,
    unshare: Child,
    pid: i32,
    groups: Vec<PathBuf>,
    /// The group of v2 that commands begin in.
    callers: PathBuf,
}

impl Systemd {
    /// Starts it with `units`, names and texts, beside its own; and waits until it has started `test.target`, which
    /// wants those that are named in `wants`.
    pub(crate) fn start_with(view: View, wants: &str, units: &[(&str, &str)]) -> Systemd {
        for program in ["systemd", "systemctl"] {
            let there = Command::new(program).arg("--version").output();
            assert!(
                there.is_ok_and(|out| out.status.success()),
                "{program} is not there: `cargo xtask test-host` installs it (Debian's package systemd)"
            );
        }
        let dir = tempfile::Builder::new().prefix("systemd-").tempdir_in("/tmp").unwrap();
        std::fs::create_dir(dir.path().join("units")).unwrap();
        let target = format!("[Unit]\nDescription=all that is started\nWants={wants}\n");
        for (name, text) in [("test.target", &*target)].iter().chain(units) {
            std::fs::write(dir.path().join("units").join(name), text).unwrap();
        }
        let group = dir.path().file_name().unwrap().to_str().unwrap().to_owned();
        let hierarchies = hierarchies();
        let base = Path::new("/sys/fs/cgroup");
        let groups = hierarchies.iter().map(|name| base.join(name).join(&group)).collect();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", SCRIPT])
            .env("DIR", dir.path())
            .env("GROUP", &group)
            .env("HIERARCHIES", hierarchies.join(" "))
            .env("VIEW", format!("{view:?}"))
            .stdin(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .stdout(log);
        let unshare = command.spawn().unwrap();
        let unified = if View::full() == View::Unified { "." } else { "unified" };
        let callers = base.join(unified).join(&group).join("callers");
        let mut systemd = Systemd { dir, unshare, pid: 0, groups, callers };
        wait_until("systemd's namespaces are made", || {
            let ended = systemd.unshare.try_wait().unwrap();
            assert!(ended.is_none(), "{}", systemd.log());
            let pid = std::fs::read_to_string(systemd.dir.path().join("pid")).unwrap_or_default();
            systemd.pid = pid.trim().parse().unwrap_or_default();
            systemd.pid > 0
        });
        std::fs::create_dir(&systemd.callers).unwrap();
        // A group of v2 that has a process gives none of its groups controllers, and unshare(1) is in systemd's root.
        let outside = base.join(unified).join("cgroup.procs");
        std::fs::write(outside, systemd.unshare.id().to_string()).unwrap();
        std::fs::write(systemd.dir.path().join("go"), "").unwrap();
        wait_until("systemd has started", || {
            let ended = systemd.unshare.try_wait().unwrap();
            assert!(ended.is_none(), "{}", systemd.log());
            systemd.call(&["systemctl", "is-active", "test.target"]).code == 0
        });
        systemd
    }

    pub(crate) fn start(view: View) -> Systemd {
        Systemd::start_with(view, "", &[])
    }

    fn log(&self) -> String {
        let read = |name| std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        read("log") + &read("console")
    }

    /// What makes a command one of the machine that this systemd is the init of: with a group below its root, out of which
    /// alone a process may be moved in it (cgroup-v2.rst, "Delegation Containment"), and in its namespaces.
    pub(crate) fn prefix(&self) -> Vec<OsString> {
        let pid = self.pid.to_string();
        let script = "echo $$ >\"$0/cgroup.procs\" && exec \"$@\"";
        let mut prefix: Vec<OsString> = ["sh", "-c", script].map(OsString::from).into();
        prefix.push(self.callers.clone().into());
        let enter = ["nsenter", "--target", &pid, "--mount", "--pid", "--cgroup", "--uts", "--ipc"];
        prefix.extend(enter.iter().chain(&["--net", "--"]).map(OsString::from));
        prefix
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let prefix = self.prefix();
        let mut command = Command::new(&prefix[0]);
        command.args(&prefix[1..]).args(args);
        command
    }

    pub(crate) fn call(&self, args: &[&str]) -> crate::harness::Out {
        Started::new(self.command(args), None).wait()
    }

    /// Runs a command that must succeed; what it printed.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let out = self.call(args);
        assert_eq!(out.code, 0, "{args:?}: stdout: {}\nstderr: {}", out.stdout, out.stderr);
        out.stdout.trim_end().to_owned()
    }

    /// A property of a unit.
    #[track_caller]
    pub(crate) fn show(&self, unit: &str, property: &str) -> String {
        self.ok(&["systemctl", "show", "--value", "-p", property, unit])
    }

    /// A file of a group, in the hierarchy that has it.
    #[track_caller]
    pub(crate) fn group_file(&self, hierarchy: &str, group: &str, file: &str) -> String {
        self.ok(&["cat", &format!("/sys/fs/cgroup/{hierarchy}{group}/{file}")])
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // What it started ends with it: it is the first process of a PID namespace.
        let _ = Pid::from_raw(self.pid).map(|pid| kill_process(pid, Signal::KILL));
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "systemd's log:\n{}", self.log());
        }
        for group in &self.groups {
            let removed = || remove_tree(group).is_ok();
            if std::thread::panicking() {
                // A second panic would end the program; the kernel takes the killed out of a group a little later.
                let mut tries = 0..500;
                while !removed() && tries.next().is_some() {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
            } else {
                wait_until(&format!("{} is empty", group.display()), removed);
            }
        }
    }
}

/// Removes groups, the lowest first.
fn remove_tree(group: &Path) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(group) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    std::fs::remove_dir(group)
}
