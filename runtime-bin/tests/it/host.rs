//! What the host shows of containers: its mount table, processes, namespaces, cgroups, and HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::harness::DEADLINE;

/// One line of a mount table, as `mount` shows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mount {
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) kind: String,
    pub(crate) options: Vec<String>,
}

impl Mount {
    /// `SOURCE on TARGET type TYPE (OPTIONS)`.
    pub(crate) fn parse(line: &str) -> Mount {
        let parse = || {
            let (source, rest) = line.split_once(" on ")?;
            let (target, rest) = rest.split_once(" type ")?;
            let (kind, options) = rest.split_once(" (")?;
            let options = options.trim_end().strip_suffix(')')?;
            Some(Mount {
                source: source.to_owned(),
                target: target.to_owned(),
                kind: kind.to_owned(),
                options: options.split(',').map(str::to_owned).collect(),
            })
        };
        parse().unwrap_or_else(|| panic!("no line of mount: {line:?}"))
    }

    pub(crate) fn has(&self, words: &[&str]) -> bool {
        words.iter().all(|word| self.options.iter().any(|option| option == word))
    }

    /// The value of an option of overlayfs.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        self.options.iter().find_map(|option| option.strip_prefix(key)?.strip_prefix('='))
    }
}

/// The table that `mount` printed.
pub(crate) fn mount_table(text: &str) -> Vec<Mount> {
    text.lines().map(Mount::parse).collect()
}

/// A process's mounts, of /proc/PID/mounts: what `mount` shows, with the mount's and the
/// superblock's options in one list.
pub(crate) fn mounts_of(pid: &str) -> Vec<Mount> {
    let text = fs::read_to_string(format!("/proc/{pid}/mounts")).unwrap_or_default();
    let mount = |line: &str| {
        let mut fields = line.split(' ').map(|field| field.replace("\\040", " "));
        let mut next = || fields.next().unwrap_or_default();
        Mount {
            source: next(),
            target: next(),
            kind: next(),
            options: next().split(',').map(str::to_owned).collect(),
        }
    };
    text.lines().map(mount).collect()
}

/// The host's mounts below a directory.
pub(crate) fn mounts_below(dir: &Path) -> Vec<Mount> {
    let mut mounts = mounts_of("self");
    mounts.retain(|mount| Path::new(&mount.target).starts_with(dir));
    mounts
}

/// The host's mounts of the containers of stores below a directory: their roots, and what should not be there. The mount
/// of an image's index, which containers share, is none of them.
pub(crate) fn container_mounts(dir: &Path) -> Vec<Mount> {
    let mut mounts = mounts_below(dir);
    mounts.retain(|mount| mount.kind != "erofs");
    mounts
}

/// Loop devices whose file lies below a directory.
pub(crate) fn loops_below(dir: &Path) -> Vec<String> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let of_dir = devices.filter(|device| {
        let file = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        Path::new(file.trim_end()).starts_with(dir)
    });
    of_dir.map(|device| device.file_name().display().to_string()).collect()
}

/// The cgroups, in all hierarchies, that are named after one of these ids.
pub(crate) fn groups_of(ids: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    let mut dirs = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = dirs.pop() {
        let children = fs::read_dir(&dir).into_iter().flatten().flatten();
        for child in children.filter(|child| child.file_type().is_ok_and(|kind| kind.is_dir())) {
            let name = child.file_name();
            let id = name.to_str().and_then(|name| name.rsplit('-').next());
            if id.is_some_and(|id| ids.contains(id)) {
                found.push(child.path().display().to_string());
            }
            dirs.push(child.path());
        }
    }
    found
}

/// The mount that a path of the host lies on.
pub(crate) fn mount_at(path: &Path) -> Mount {
    let path = path.canonicalize().unwrap();
    let on = |mount: &Mount| path.starts_with(&mount.target);
    // Of those on one target, the last one is seen.
    mounts_of("self").into_iter().filter(on).max_by_key(|mount| mount.target.len()).unwrap()
}

/// `major:minor` of the file system that a path of the host lies on.
pub(crate) fn device_of(path: &Path) -> (u32, u32) {
    let dev = rustix::fs::stat(path).unwrap().st_dev;
    (rustix::fs::major(dev), rustix::fs::minor(dev))
}

/// The fields of /proc/PID/mountinfo's optional part, by target: propagation.
pub(crate) fn propagation(pid: i32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let line = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        let end = fields.iter().position(|field| *field == "-").unwrap();
        (fields[4].to_owned(), fields[6..end].join(" "))
    };
    text.lines().map(line).collect()
}

fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

pub(crate) fn command_line(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}

/// Processes of the stores below `dir`: those that have it on their command line, and those whose
/// root is one of its containers'.
pub(crate) fn processes_of(dir: &Path) -> Vec<(i32, String)> {
    let text = dir.to_str().unwrap();
    let own = std::process::id();
    let mounts = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let hosts = mounts("self");
    let is_of = |pid: &i32| {
        let line = command_line(*pid);
        // The host's own mounts, which are many, tell nothing of a process.
        line.contains(text)
            || mounts(&pid.to_string()) != hosts
                && fs::read_to_string(format!("/proc/{pid}/mountinfo"))
                    .is_ok_and(|info| info.lines().any(|l| l.contains(" / / ") && l.contains(text)))
    };
    let others = pids().into_iter().filter(|pid| u32::try_from(*pid) != Ok(own));
    others.filter(is_of).map(|pid| (pid, command_line(pid))).collect()
}

/// Processes in other mount namespaces than this one's that have a mount on a path, and their command lines.
pub(crate) fn processes_with_mount(target: &Path) -> Vec<(u32, String)> {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let own = namespace("self");
    let has_it = |pid: &i32| {
        let pid = pid.to_string();
        namespace(&pid) != own
            && mounts_of(&pid).iter().any(|mount| Path::new(&mount.target) == target)
    };
    pids().into_iter().filter(has_it).map(|pid| (pid.cast_unsigned(), command_line(pid))).collect()
}

/// A number of /proc/PID/stat, by its index after the name: 0 is the state.
fn stat_field(pid: i32, index: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = stat.rsplit_once(") ")?.1;
    fields.split(' ').nth(index).map(str::to_owned)
}

pub(crate) fn parent(pid: i32) -> i32 {
    stat_field(pid, 1).expect("a process").parse().unwrap()
}

/// Whether there is such a process, and it is no zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    stat_field(pid, 0).is_some_and(|state| state != "Z")
}

/// Whether a process's first thread holds a signal back.
pub(crate) fn blocks(pid: u32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let held = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    let held = held.map_or(0, |set| u64::from_str_radix(set.trim(), 16).unwrap());
    held & 1 << (signal.as_raw() - 1) != 0
}

/// The namespaces of a process: `mnt:[4026531841]` and so on.
pub(crate) fn namespaces(pid: i32) -> BTreeMap<String, String> {
    ["mnt", "pid", "ipc", "uts", "net", "cgroup", "user"]
        .iter()
        .map(|name| {
            let link = fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
            ((*name).to_owned(), link.to_str().unwrap().to_owned())
        })
        .collect()
}

/// Whether a process or a mount holds any of these namespaces. A zombie does not count: it goes when
/// its parent, which may be the machine's init, asks for it.
pub(crate) fn is_held(namespaces: &[String]) -> bool {
    let by_process = pids().into_iter().filter(|pid| is_alive(*pid)).any(|pid| {
        let links = fs::read_dir(format!("/proc/{pid}/ns")).into_iter().flatten().flatten();
        links
            .filter_map(|link| fs::read_link(link.path()).ok())
            .any(|link| namespaces.iter().any(|namespace| link.as_os_str() == namespace.as_str()))
    });
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    by_process || namespaces.iter().any(|namespace| table.contains(namespace))
}

/// The cgroups of a process that are not this process's own, as directories.
pub(crate) fn own_cgroups(pid: i32) -> Vec<String> {
    let read = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let ours = read("self");
    let theirs = read(&pid.to_string());
    let theirs = theirs.lines().filter(|line| !ours.lines().any(|our| our == *line));
    theirs
        .map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let controllers = parts.next().unwrap().replace("name=", "");
            let path = parts.next().unwrap();
            // The second version's hierarchy is beside those of the first on a hybrid machine.
            let v2 = || mounts_of("self").into_iter().find(|mount| mount.kind == "cgroup2");
            match controllers.is_empty() {
                true => v2().unwrap().target + path,
                false => format!("/sys/fs/cgroup/{controllers}{path}"),
            }
        })
        .collect()
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// What a server on the host's loopback answers; `None` if none listens.
pub(crate) fn http(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// A script for bash that asks the server of the container itself.
pub(crate) const ASK: &str = "exec 3<>/dev/tcp/127.0.0.1/80 && \
    printf 'GET / HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3 && cat <&3";
