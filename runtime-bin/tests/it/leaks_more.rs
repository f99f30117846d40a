//! What a container's process has on a terminal, and what it sees of `/proc`: as in `leaks`, nothing is its caller's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::host;
use crate::leaks::{Cells, Way, spoiled, status};
use crate::pty::Terminal;

/// What a program prints on the container's terminal, without the carriage returns.
#[track_caller]
fn print(cells: &Cells, way: Way, script: &str) -> String {
    let script = format!("{script}; echo --end");
    let command = spoiled(&cells.command(way, true, &["sh", "-c", &script]));
    let mut terminal = Terminal::start(&command, 30, 100);
    assert_eq!(terminal.wait(), Some(0), "{way:?}: {:?}", terminal.text());
    // What was written is read by another thread.
    crate::harness::wait_until("the end of the output", || terminal.text().contains("--end"));
    let text = terminal.text().replace('\r', "");
    text.split("--end").next().unwrap().to_owned()
}

#[test]
fn on_a_terminal() {
    let cells = Cells::new();
    let script = "ls -l /proc/$$/fd; echo --; env; echo --; cut -d' ' -f1,5-8 /proc/$$/stat; echo --; \
        cat /proc/self/status; echo --; cut -d' ' -f5 /proc/self/mountinfo; echo --; tty; \
        test /dev/tty -ef /dev/console || ls /dev/pts";
    for way in Way::ALL {
        let text = print(&cells, way, script);
        let parts: Vec<&str> = text.split("--\n").collect();
        let [descriptors, env, stat, state, mounts, name] = parts[..] else {
            panic!("{way:?}: {text}")
        };

        // The terminal three times, the container's own.
        let links: BTreeMap<&str, &str> = descriptors
            .lines()
            .filter_map(|line| line.split_once(" -> "))
            .map(|(left, target)| (left.split_whitespace().last().unwrap(), target))
            .collect();
        let own = name.lines().next().unwrap();
        assert!(own.starts_with("/dev/pts/") || own == "/dev/console", "{way:?}: {name}");
        let all = [("0", own), ("1", own), ("2", own)];
        assert_eq!(links, BTreeMap::from(all), "{way:?}: {descriptors}");

        // Docker's TERM, and what is there without one.
        let host_name = format!("HOSTNAME={}", cells.host_name);
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let wanted: &[&str] = match way.is_oci() {
            true => &["FROM=config", "HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            false => &["HOME=/root", &host_name, path, "TERM=xterm"],
        };
        // The shell's own, which it has exported to nobody but env.
        let shells = ["PWD=", "SHLVL=", "_="];
        let env = env.lines().filter(|line| !shells.iter().any(|own| line.starts_with(own)));
        let env: BTreeSet<&str> = env.collect();
        assert_eq!(env, wanted.iter().copied().collect(), "{way:?}");

        // Number, group, session, terminal and its foreground: it leads a session of its own, with the terminal.
        let numbers: Vec<i64> =
            stat.split_whitespace().map(|number| number.parse().unwrap()).collect();
        let [pid, group, session, terminal, foreground] = numbers[..] else {
            panic!("{way:?}: {stat}")
        };
        assert_eq!((group, session, foreground), (pid, pid, pid), "{way:?}: {stat}");
        assert_ne!(terminal, 0, "{way:?}: {stat}");

        // Of the shell's child: the shell itself ignores SIGQUIT on a terminal.
        let state = status(state);
        for key in ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "CapInh", "CapAmb"] {
            assert_eq!(state[key], "0000000000000000", "{way:?}: {key}");
        }
        let mounts: BTreeSet<&str> = mounts.lines().collect();
        // The container of an exec was started without.
        assert_eq!(mounts.contains("/dev/console"), way.is_first(), "{way:?}: {mounts:?}");
        assert!(!text.contains("LEAK"), "{way:?}: {text}");
    }
}

/// The names in `/proc` are the kernel's own, and no process of the host is among them; those that Docker masks are empty,
/// and those that it makes read-only cannot be written to. Of a container as everybody runs it.
#[test]
fn entries_of_proc() {
    let cells = Cells::new();
    let names = |text: &str| -> BTreeSet<String> {
        let kernels = text.split_whitespace().filter(|name| name.parse::<u32>().is_err());
        kernels.map(str::to_owned).collect()
    };
    let of_host = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
    let of_host: Vec<String> = of_host.map(|name| name.into_string().unwrap()).collect();
    let of_host = names(&of_host.join(" "));
    cells.each(&["ls", "/proc"], |way, text| {
        let beyond: Vec<_> = names(text).difference(&of_host).cloned().collect();
        assert_eq!(beyond, [""; 0], "{way:?}");
    });

    let id = cells.root.sleeper("masked", &[]);
    let pid = cells.root.pid("masked");
    let root = format!("/proc/{pid}/root");
    for name in
        ["acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi"]
            .into_iter()
            .chain(["timer_list", "timer_stats"])
            .filter(|name| of_host.contains(*name))
    {
        let path = format!("{root}/proc/{name}");
        match fs::read_dir(&path) {
            Ok(entries) => assert_eq!(entries.count(), 0, "{name}"),
            Err(_) => assert_eq!(fs::read(&path).unwrap(), b"", "{name}"),
        }
    }
    for name in ["bus", "fs", "irq", "sys", "sysrq-trigger"] {
        if !of_host.contains(name) {
            continue;
        }
        let mount = host::mounts_of(&pid.to_string());
        let mount = mount.iter().rfind(|mount| mount.target == format!("/proc/{name}"));
        assert!(mount.is_some_and(|mount| mount.has(&["ro"])), "{name}: {mount:?}");
    }
    // Its own number is 1, and that of none of the host's processes is seen.
    let seen = cells.root.ok(["exec", &id, "sh", "-c", "ls -d /proc/[0-9]*"]);
    assert!(seen.lines().count() <= 4 && seen.lines().any(|line| line == "/proc/1"), "{seen}");
}
