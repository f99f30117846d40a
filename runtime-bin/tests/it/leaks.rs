//! What a container's process has: all of it is what was asked for, and nothing is its caller's. Of `run` and `exec` of
//! both programs, called by somebody who has a lot open, ignored, raised and set.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use rustix::process::{dumpable_behavior, parent_process_death_signal};

use crate::harness::{Root, Started, arg, busybox, copy_program};
use crate::host;
use crate::init::is_dynamic;
use crate::oci::{Oci, WAITS};

/// This test program, in a container.
const WITNESS: &str = "/bin/witness";

/// A way into a container.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Way {
    Run,
    Exec,
    OciRun,
    OciExec,
}
use Way::{Exec, OciExec, OciRun, Run};

impl Way {
    pub(crate) const ALL: [Way; 4] = [Run, Exec, OciRun, OciExec];
}

impl Way {
    pub(crate) fn is_oci(self) -> bool {
        matches!(self, OciRun | OciExec)
    }

    /// The process is the container's first.
    pub(crate) fn is_first(self) -> bool {
        matches!(self, Run | OciRun)
    }
}

/// The containers that are looked into.
pub(crate) struct Cells {
    pub(crate) root: Root,
    oci: Oci,
    /// The name of the container `box` in itself.
    pub(crate) host_name: String,
}

impl Cells {
    pub(crate) fn new() -> Cells {
        let (root, oci) = (Root::new(), Oci::new(&WAITS));
        let id = root.sleeper("box", &["--security-opt", "systempaths=unconfined"]);
        oci.create(&["box"]);
        oci.ok(&["start", "box"]);
        if !is_dynamic() {
            let program = std::env::current_exe().unwrap();
            copy_program(&program, &oci.bundle().join("rootfs/bin/witness"));
            root.ok(["cp", arg(&program), "box:/bin/witness"]);
        }
        Cells { root, oci, host_name: id[..12].to_owned() }
    }

    /// What a program prints that is a process of its own right in the container.
    #[track_caller]
    fn print(&self, way: Way, program: &[&str]) -> String {
        let out = Started::new(spoiled(&self.command(way, false, program)), None).wait();
        assert_eq!(out.code, 0, "{way:?} {program:?}: {out:?}");
        out.stdout
    }

    /// The command that runs it, maybe on a terminal of its own.
    pub(crate) fn command(&self, way: Way, terminal: bool, program: &[&str]) -> Command {
        let image = busybox();
        let exe = std::env::current_exe().unwrap();
        let volume = format!("{}:/bin/witness:ro", arg(&exe));
        let tty: &[&str] = if terminal { &["-t"] } else { &[] };
        let mut run = vec![
            "run",
            "--rm",
            "--hostname",
            &self.host_name,
            "--security-opt",
            "systempaths=unconfined",
        ];
        if program[0] == WITNESS {
            run.extend(["-v", &volume]);
        }
        run.extend(tty);
        run.push(arg(&image));
        match way {
            Run => self.root.command([&run, program].concat()),
            Exec => self.root.command([&["exec"], tty, &["box"], program].concat()),
            OciRun => {
                let group = format!("{}-run", self.oci.group());
                let change = |config: &mut serde_json::Value| {
                    config["linux"]["cgroupsPath"] = group.into();
                    config["process"]["terminal"] = terminal.into();
                };
                self.oci.configure(change, program);
                self.oci.command(&["run", "new"])
            }
            OciExec => self.oci.command(&[&["exec"], tty, &["box"], program].concat()),
        }
    }

    /// Looks at it in each way.
    #[track_caller]
    pub(crate) fn each(&self, program: &[&str], check: impl Fn(Way, &str)) {
        for way in Way::ALL {
            check(way, &self.print(way, program));
        }
    }
}

/// With all that a process hands on to what it starts.
pub(crate) fn spoiled(command: &Command) -> Command {
    let script = "umask 077; trap '' HUP INT QUIT TERM USR1 USR2 PIPE ALRM TSTP; export LEAK=of-the-caller; \
        exec 3</ 4</etc/passwd 5>/dev/null 8</proc/self/fd; \
        exec setpriv --pdeathsig KILL --inh-caps +chown,+sys_admin \"$@\"";
    let mut spoiled = Command::new("sh");
    spoiled.args(["-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        spoiled.env(key, value.unwrap_or_default());
    }
    spoiled.current_dir(command.get_current_dir().unwrap());
    spoiled
}

#[test]
fn descriptors() {
    let cells = Cells::new();
    cells.each(&["ls", "-l", "/proc/self/fd"], |way, text| {
        let links: BTreeMap<&str, &str> = text
            .lines()
            .skip(1) // the total
            .map(|line| {
                let (left, target) = line.split_once(" -> ").unwrap_or((line, "gone by now"));
                (left.split_whitespace().last().unwrap(), target)
            })
            .collect();
        // 3 is the directory that `ls` reads.
        assert_eq!(
            links.keys().copied().collect::<Vec<_>>(),
            ["0", "1", "2", "3"],
            "{way:?}: {text}"
        );
        assert_eq!(links["0"], "/dev/null", "{way:?}: {text}");
        assert!(
            links["1"].starts_with("pipe:") && links["2"].starts_with("pipe:"),
            "{way:?}: {text}"
        );
        let own = |link: &str| {
            link == "gone by now" || link.starts_with("/proc/") && link.ends_with("/fd")
        };
        assert!(own(links["3"]), "{way:?}: {text}");
    });
}

#[test]
fn the_environment() {
    let cells = Cells::new();
    let check = |way: Way, lines: Vec<&str>| {
        let mut lines = lines;
        lines.sort_unstable();
        let name = format!("HOSTNAME={}", cells.host_name);
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let oci = ["FROM=config", "HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"];
        let own = ["HOME=/root", &name, path];
        assert_eq!(lines, if way.is_oci() { oci } else { own }, "{way:?}");
    };
    cells.each(&["env"], |way, text| check(way, text.lines().collect()));
    // As the kernel has it, too.
    cells.each(&["cat", "/proc/self/environ"], |way, text| {
        check(way, text.split_terminator('\0').collect());
    });
    cells.each(&["cat", "/proc/self/cmdline"], |way, text| {
        assert_eq!(text, "cat\0/proc/self/cmdline\0", "{way:?}");
    });
}

#[test]
fn mounts() {
    let cells = Cells::new();
    cells.each(&["cat", "/proc/self/mountinfo"], |way, text| {
        let mut targets = Vec::new();
        for line in text.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let end = fields.iter().position(|field| *field == "-").unwrap();
            // It neither sends mounts nor receives any.
            assert_eq!(fields[6..end], [""; 0], "{way:?}: {line}");
            let of_host = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"].contains(&fields[4]);
            let store = [cells.root.dir(), cells.oci.dir()].map(|dir| line.contains(arg(dir)));
            assert!(!store[0] || of_host || fields[4] == "/", "{way:?} names the host's: {line}");
            assert!(!store[1] || fields[4] == "/", "{way:?} names the host's: {line}");
            targets.push(fields[4]);
        }
        targets.sort_unstable();
        let groups = |target: &&str| target.starts_with("/sys/fs/cgroup/");
        if way.is_oci() {
            assert_eq!(targets, ["/", "/dev", "/dev/pts", "/proc", "/tmp"], "{way:?}");
        } else {
            targets.retain(|target| !groups(target));
            let all = "/ /dev /dev/mqueue /dev/pts /dev/shm /etc/hostname /etc/hosts /etc/resolv.conf \
                       /proc /sys /sys/fs/cgroup";
            assert_eq!(targets.join(" "), all, "{way:?}");
        }
    });
}

/// The lines of /proc/PID/status.
pub(crate) fn status(text: &str) -> BTreeMap<&str, &str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key, value.trim()))
        .collect()
}

#[test]
fn the_status() {
    let cells = Cells::new();
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = status(&own);
    let granted = u64::from_str_radix(own["CapBnd"], 16).unwrap();
    cells.each(&["cat", "/proc/self/status"], |way, text| {
        let status = status(text);
        let caps = if way.is_oci() { 1 << 5 } else { 0xa804_25fb_u64 };
        let caps = format!("{:016x}", caps & granted);
        let none = "0000000000000000";
        let (filtered, filters) = if way.is_oci() { ("0", "0") } else { ("2", "1") };
        let mut expected = vec![
            // The specification leaves it as it is; Docker has one of its own.
            ("Umask", if way.is_oci() { "0077" } else { "0022" }),
            ("TracerPid", "0"),
            ("Uid", "0\t0\t0\t0"),
            ("Gid", "0\t0\t0\t0"),
            ("Threads", "1"),
            ("SigPnd", none),
            ("ShdPnd", none),
            ("SigBlk", none),
            ("SigIgn", none),
            ("SigCgt", none),
            ("CapInh", none),
            ("CapPrm", &caps),
            ("CapEff", &caps),
            ("CapBnd", &caps),
            ("CapAmb", none),
            ("NoNewPrivs", "0"),
            ("Seccomp", filtered),
            ("Cpus_allowed", own["Cpus_allowed"]),
            ("Mems_allowed", own["Mems_allowed"]),
        ];
        if status.contains_key("Seccomp_filters") {
            expected.push(("Seccomp_filters", filters));
        }
        if way.is_first() {
            // Its parent, and what is before it in its session and group, are not the container's.
            expected.extend([
                ("Pid", "1"),
                ("PPid", "0"),
                ("NSpid", "1"),
                ("NSpgid", "1"),
                ("NSsid", "1"),
            ]);
        } else {
            expected.push(("PPid", "0"));
            // A session of its own.
            assert_eq!(status["NSpid"], status["NSsid"], "{way:?}: {text}");
            assert_eq!(status["NSpid"].split_whitespace().count(), 1, "{way:?}: {text}");
        }
        for (key, value) in expected {
            assert_eq!(status.get(key), Some(&value), "{way:?}: {key}");
        }
        // The image's groups of root, for the one; what the configuration says, none, for the other.
        let groups: Vec<&str> = status["Groups"].split_whitespace().collect();
        assert_eq!(groups, if way.is_oci() { vec![] } else { vec!["0"] }, "{way:?}");
    });
}

#[test]
fn limits_and_what_else_the_kernel_keeps() {
    let cells = Cells::new();
    // What nobody asked for is the caller's, as with every runtime: it lets the container do no more than that.
    for file in [
        "limits",
        "oom_score_adj",
        "timerslack_ns",
        "personality",
        "coredump_filter",
        "uid_map",
        "gid_map",
        "projid_map",
        "setgroups",
        "timens_offsets",
        "loginuid",
        "sessionid",
    ] {
        let path = format!("/proc/self/{file}");
        let Ok(own) = fs::read_to_string(&path) else { continue };
        cells.each(&["cat", &path], |way, text| assert_eq!(text, own, "{way:?}: {file}"));
    }
    cells.each(&["readlink", "/proc/self/cwd"], |way, text| assert_eq!(text, "/\n", "{way:?}"));
    cells.each(&["readlink", "/proc/self/root"], |way, text| assert_eq!(text, "/\n", "{way:?}"));
    cells.each(&["readlink", "/proc/self/exe"], |way, text| {
        assert!(text.starts_with("/bin/"), "{way:?}: {text}")
    });
    // No memory that is a file of the host's, as that of a program that was in its place before.
    cells.each(&["cat", "/proc/self/maps"], |way, text| {
        let files = text.lines().filter_map(|line| line.split_whitespace().nth(5));
        let foreign: Vec<_> =
            files.filter(|name| !name.starts_with('[') && !name.starts_with("/bin/")).collect();
        assert_eq!(foreign, [""; 0], "{way:?}");
    });
}

#[test]
fn namespaces_and_cgroups() {
    let cells = Cells::new();
    let own = host::namespaces(i32::try_from(std::process::id()).unwrap());
    let time = fs::read_link("/proc/self/ns/time").map(|link| link.display().to_string());
    let kinds = ["mnt", "pid", "ipc", "uts", "net", "cgroup", "user", "time"];
    for kind in kinds.into_iter().filter(|kind| *kind != "time" || time.is_ok()) {
        let mut of_way = Vec::new();
        for way in Way::ALL {
            let link = cells.print(way, &["readlink", &format!("/proc/self/ns/{kind}")]);
            let own = own.get(kind).or(time.as_ref().ok()).unwrap();
            let is_own = link.trim() == own;
            // A user namespace nobody asked for, nor one of clocks, nor did the bundle for one of cgroups.
            let shared = ["user", "time"].contains(&kind) || (kind == "cgroup" && way.is_oci());
            assert_eq!(is_own, shared, "{way:?}: {kind}");
            of_way.push(link);
        }
    }
    cells.each(&["cat", "/proc/self/cgroup"], |way, text| {
        for line in text.lines() {
            let path = line.splitn(3, ':').nth(2).unwrap();
            let group = cells.oci.group();
            // One name in the host's tree for the bundle, which asked for it; its own root for the other.
            let good = if way.is_oci() {
                path.contains(&group) || !path.contains("runtime")
            } else {
                path == "/"
            };
            assert!(good, "{way:?}: {line}");
        }
    });
    // Of the host's processes none is there, in any form.
    cells.each(&["sh", "-c", "ls -d /proc/[0-9]* | wc -l"], |way, text| {
        let most = if way.is_first() { 4 } else { 6 };
        assert!(text.trim().parse::<u32>().unwrap() <= most, "{way:?}: {text}");
    });
}

/// Each has a session keyring of its own, which is empty.
#[test]
fn keyrings() {
    let Ok(own) = fs::read_to_string("/proc/keys") else { return };
    let cells = Cells::new();
    let sessions = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.contains("keyring") && line.contains(" _ses"));
        lines.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
    };
    let before = sessions(&own);
    cells.each(&["cat", "/proc/keys"], |way, text| {
        let new: Vec<_> = text
            .lines()
            .filter(|line| line.contains(" _ses") && !before.iter().any(|id| line.starts_with(id)))
            .collect();
        assert!(!new.is_empty(), "{way:?}: {text}");
        assert!(new.iter().any(|line| line.trim_end().ends_with("empty")), "{way:?}: {text}");
    });
}

/// As a program in a container: says what no file of /proc has.
#[test]
#[expect(clippy::print_stdout, reason = "what it sees is told to the test")]
fn as_a_witness() {
    if std::env::args().next().as_deref() != Some(WITNESS) {
        return;
    }
    println!("parent-death signal {:?}", parent_process_death_signal().unwrap());
    println!("dumpable {:?}", dumpable_behavior().unwrap());
    println!("secure bits {:?}", rustix::thread::capabilities_secure_bits().unwrap().bits());
    println!("keep capabilities {}", rustix::thread::get_keep_capabilities().unwrap());
    println!("no new privileges {}", rustix::thread::no_new_privs().unwrap());
    println!("priority {}", rustix::process::getpriority_process(None).unwrap());
    println!("scheduler {:?}", fs::read_to_string("/proc/self/stat").unwrap().split(' ').nth(40));
}

#[test]
fn what_no_file_tells() {
    if is_dynamic() {
        return;
    }
    let cells = Cells::new();
    let own = rustix::process::getpriority_process(None).unwrap();
    let witness = [WITNESS, "--exact", "leaks::as_a_witness", "--nocapture"];
    cells.each(&witness, |way, text| {
        for line in [
            "parent-death signal None".to_owned(),
            "dumpable Some(Dumpable)".to_owned(),
            "secure bits 0".to_owned(),
            "keep capabilities false".to_owned(),
            "no new privileges false".to_owned(),
            format!("priority {own}"),
            "scheduler Some(\"0\")".to_owned(),
        ] {
            // With a single processor the harness has the test's name on the first line, too.
            let found = text
                .lines()
                .map(|shown| shown.strip_prefix("test leaks::as_a_witness ... ").unwrap_or(shown))
                .any(|shown| shown == line || shown == line.replace("Some(Dumpable)", "Dumpable"));
            assert!(found, "{way:?}: no {line:?} in {text}");
        }
    });
}
