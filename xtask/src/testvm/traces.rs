//! What a test can leave on a machine: processes, mounts, cgroups, loop and network devices, sockets without a place,
//! files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Context;
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal};

/// Directories that programs write to by habit; what is new in one of them was left there. A test's own directory lies
/// in one of them too, and is gone by its end.
const PLACES: [&str; 12] = [
    "/",
    "/tmp",
    "/var/tmp",
    "/run",
    "/run/lock",
    "/var/lib",
    "/var/log",
    "/dev",
    "/dev/shm",
    "/dev/mqueue",
    "/etc",
    "/root",
];
/// Nodes that the kernel makes of devices which it keeps for the next user, and what mount(8) and CRIU write for themselves.
const KEPT: [&str; 4] = ["/dev/loop", "/dev/dm-", "/run/mount", "/run/criu.kdat"];

#[derive(Debug, Default)]
pub(super) struct Traces {
    processes: BTreeSet<(i32, String)>,
    /// By place and number, for they may lie on each other.
    mounts: BTreeSet<(String, String)>,
    groups: BTreeSet<String>,
    /// Loop devices that have a file.
    loops: BTreeSet<String>,
    /// Network devices, of this namespace.
    links: BTreeSet<String>,
    /// Names of abstract sockets.
    sockets: BTreeSet<String>,
    files: BTreeSet<String>,
}

impl Traces {
    /// What is there now.
    pub(super) fn now() -> anyhow::Result<Traces> {
        let mounts =
            fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
        let mut groups = BTreeSet::new();
        list_groups(Path::new("/sys/fs/cgroup"), &mut groups);
        let sockets = fs::read_to_string("/proc/net/unix").unwrap_or_default();
        let files = PLACES.iter().flat_map(|place| names(Path::new(place)));
        Ok(Traces {
            processes: processes(),
            mounts: mounts.lines().filter_map(mount_point).collect(),
            groups,
            loops: loops(),
            links: names(Path::new("/sys/class/net")).collect(),
            sockets: sockets.lines().filter_map(abstract_socket).collect(),
            files: files.filter(|file| !KEPT.iter().any(|kept| file.starts_with(kept))).collect(),
        })
    }

    /// What is there and was not before.
    pub(super) fn beyond(self, before: &Traces) -> Traces {
        fn new<T: Ord>(mut now: BTreeSet<T>, before: &BTreeSet<T>) -> BTreeSet<T> {
            now.retain(|item| !before.contains(item));
            now
        }
        Traces {
            processes: new(self.processes, &before.processes),
            mounts: new(self.mounts, &before.mounts),
            groups: new(self.groups, &before.groups),
            loops: new(self.loops, &before.loops),
            links: new(self.links, &before.links),
            sockets: new(self.sockets, &before.sockets),
            files: new(self.files, &before.files),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names().is_empty()
    }

    /// For people.
    pub(super) fn names(&self) -> Vec<String> {
        let processes = self.processes.iter().map(|(pid, name)| format!("process {pid} ({name})"));
        let mounts = self.mounts.iter().map(|(place, _)| format!("mount {place}"));
        let others = [
            ("cgroup", &self.groups),
            ("loop device", &self.loops),
            ("network device", &self.links),
            ("socket", &self.sockets),
            ("file", &self.files),
        ];
        let others = others
            .into_iter()
            .flat_map(|(kind, names)| names.iter().map(move |name| format!("{kind} {name}")));
        processes.chain(mounts).chain(others).collect()
    }

    /// As far as it goes: what stays is seen by no later test as its own.
    pub(super) fn remove(&self) {
        for pid in self.processes.iter().filter_map(|(pid, _)| Pid::from_raw(*pid)) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        for (mount, _) in self.mounts.iter().rev() {
            let _ = rustix::mount::unmount(mount, UnmountFlags::DETACH);
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        for group in self.groups.iter().rev() {
            let _ = fs::remove_dir(group);
        }
        for file in &self.files {
            let _ = fs::remove_file(file).or_else(|_| fs::remove_dir_all(file));
        }
    }
}

/// Loop devices that have a file, as directories of /sys/block.
pub(crate) fn loops() -> BTreeSet<String> {
    let is_used = |name: &String| Path::new(name).join("loop/backing_file").exists();
    names(Path::new("/sys/block")).filter(is_used).collect()
}

/// The place and the number of a line of mountinfo.
pub(crate) fn mount_point(line: &str) -> Option<(String, String)> {
    let mut fields = line.split(' ');
    let number = fields.next()?.to_owned();
    Some((fields.nth(3)?.to_owned(), number))
}

/// The name of a line of /proc/net/unix, if it lies in no file system.
fn abstract_socket(line: &str) -> Option<String> {
    let name = line.split_whitespace().nth(7)?;
    name.starts_with('@').then(|| name.to_owned())
}

/// What is in a directory, by its whole name.
fn names(dir: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.path().display().to_string())
}

fn list_groups(dir: &Path, found: &mut BTreeSet<String>) {
    let children = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    for child in children.filter(|child| child.file_type().is_ok_and(|kind| kind.is_dir())) {
        found.insert(child.path().display().to_string());
        list_groups(&child.path(), found);
    }
}

/// All processes but this one, the kernel's own and zombies: number and name.
pub(super) fn processes() -> BTreeSet<(i32, String)> {
    const KTHREADD: i32 = 2;
    let all = all_processes().into_iter();
    let own = all.filter(|process| {
        process.pid != 1 && process.pid != KTHREADD && process.parent != KTHREADD
    });
    own.map(|process| (process.pid, process.name)).collect()
}

/// A process, as /proc/PID/stat has it.
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) name: String,
    pub(crate) parent: i32,
}

/// All processes but zombies.
pub(crate) fn all_processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let (name, rest) = (stat.split_once('(')?.1).rsplit_once(") ")?;
            let mut fields = rest.split(' ');
            let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
            (state != "Z").then(|| Process { pid, name: name.to_owned(), parent })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};

    #[test]
    fn what_was_left_is_named_and_removed() {
        let before = Traces::now().unwrap();
        let name = format!("left-by-a-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixListener::bind_addr(&address).unwrap();
        let dir = Path::new("/tmp").join(&name);
        fs::create_dir_all(dir.join("deep")).unwrap();
        let left = Traces::now().unwrap().beyond(&before);
        // Others work on this machine too.
        let own = |left: &Traces| -> Vec<String> {
            left.names().into_iter().filter(|text| text.contains(&name)).collect()
        };
        assert_eq!(own(&left), [format!("socket @{name}"), format!("file {}", dir.display())]);
        Traces { files: BTreeSet::from([dir.display().to_string()]), ..Traces::default() }.remove();
        drop(socket);
        assert_eq!(own(&Traces::now().unwrap().beyond(&before)), [""; 0]);
    }

    #[test]
    fn lines_of_the_kernel_are_read() {
        let line = "ffff888: 00000002 00000000 00010000 0001 01 1234 @name";
        assert_eq!(abstract_socket(line).as_deref(), Some("@name"));
        assert_eq!(abstract_socket(&line.replace('@', "/")), None);
        let line = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount_point(line), Some(("/mnt2".to_owned(), "36".to_owned())));
    }
}
