//! `checkpoint` and `restore`: what CRIU is asked for, and what is said where it is not there or fails, with a program in
//! its place; and the whole with CRIU itself, which the kernels of the virtual machine have and others may not.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::terminal::{read_until, receive};
use super::{Oci, WAITS, lives};
use crate::harness::{Started, arg, wait_until, write_script};

/// Counts in a file of the volume, as long as it lives: a number in memory that a new start would lose.
const COUNTS: [&str; 3] = [
    "sh",
    "-c",
    "trap 'exit 3' TERM; i=1000; while :; do i=$((i+1)); echo $i >/vol/new; mv /vol/new /vol/count; sleep 0.05; done",
];

fn directory(oci: &Oci, name: &str) -> PathBuf {
    let path = oci.dir().join(name);
    std::fs::create_dir(&path).unwrap();
    path
}

/// A container `a` that runs, with the volume `vol`, which `change` may have made something else.
fn running(args: &[&str], change: impl FnOnce(&mut Value)) -> (Oci, PathBuf) {
    let oci = Oci::new(args);
    let volume = directory(&oci, "vol");
    configure(&oci, args, change);
    oci.create(&["a"]);
    oci.ok(&["start", "a"]);
    (oci, volume)
}

fn configure(oci: &Oci, args: &[&str], change: impl FnOnce(&mut Value)) {
    let volume = oci.dir().join("vol");
    let with_volume = |config: &mut Value| {
        let bind = json!({"destination": "/vol", "type": "bind", "source": arg(&volume), "options": ["rbind", "rw"]});
        config["mounts"].as_array_mut().unwrap().push(bind);
        change(config);
    };
    oci.configure(with_volume, args);
}

/// The first words of a program in the place of CRIU, which tells this version; `$fd` is the socket, `ask` reads a
/// request, `tell` sends an answer.
fn version(major: u8, minor: u8) -> String {
    format!(
        "#!/bin/bash\nfd=$2\nask() {{ dd bs=65536 count=1 of=$1 <&$fd 2>/dev/null; }}\n\
         tell() {{ printf \"$1\" >$0.said; dd bs=65536 if=$0.said >&$fd 2>/dev/null; }}\nask /dev/null\n\
         tell '\\010\\012\\020\\001\\122\\004\\010\\{major:03o}\\020\\{minor:03o}'\n"
    )
}

/// A program in the place of CRIU.
fn program(oci: &Oci, script: &str) -> String {
    let path = oci.dir().join("criu");
    write_script(&path, script);
    arg(&path).to_owned()
}

/// The container goes on as if nothing had been.
#[track_caller]
fn goes_on(oci: &Oci) {
    assert_eq!(oci.status("a"), "running");
    assert_eq!(oci.ok(&["exec", "a", "echo", "here"]), "here\n");
}

#[test]
fn without_criu_it_says_what_to_install() {
    let (oci, _) = running(&WAITS, |_| {});
    let images = oci.dir().join("images");
    let call = ["checkpoint", "--image-path", arg(&images), "a"];
    oci.fails(1, &["CRIU", "/no/criu", "install"], &[&["--criu", "/no/criu"], &call[..]].concat());
    let mut command = oci.command(&call);
    let out = Started::new(
        {
            command.env("PATH", "/no");
            command
        },
        None,
    )
    .wait();
    assert_eq!(out.code, 1);
    assert!(out.stderr.contains("no program criu") && out.stderr.contains("/no"), "{}", out.stderr);
    let old = program(&oci, &version(3, 14));
    oci.fails(1, &["CRIU 3.14.0 is too old", "3.15"], &[&["--criu", &old], &call[..]].concat());
    for script in [
        "#!/bin/sh\nexit 3\n",
        "#!/bin/sh\ntrue <&\"$2\"\necho no answer >&\"$2\"\n",
        "#!/bin/none\n",
    ] {
        let other = program(&oci, script);
        oci.fails(1, &["criu"], &[&["--criu", &other], &call[..]].concat());
    }
    assert!(!images.exists(), "it is made for nothing");
    goes_on(&oci);
}

#[test]
fn what_criu_says_of_its_failure_is_told() {
    let (oci, _) = running(&WAITS, |_| {});
    let (images, work) = (oci.dir().join("images"), oci.dir().join("work"));
    let log = work.join("dump.log");
    let script = format!(
        "{}ask /dev/null\necho '(00.1) all is well' >{log}\necho '(00.2) Error (criu/x.c:1): a socket' >>{log}\n\
         touch {images}/half.img\ntell '\\010\\001\\020\\000\\070\\026'\n",
        version(3, 17),
        log = arg(&log),
        images = arg(&images)
    );
    let criu = program(&oci, &script);
    let call = [
        "--criu",
        &criu,
        "checkpoint",
        "--image-path",
        arg(&images),
        "--work-path",
        arg(&work),
        "a",
    ];
    let words = ["making a checkpoint of container", "(criu/x.c:1): a socket", arg(&log)];
    oci.fails(1, &words, &call);
    assert_eq!(std::fs::read_dir(&images).unwrap().count(), 0, "a half checkpoint is none");
    assert!(log.exists());
    // Without a log there is its errno, and without an answer its end.
    program(
        &oci,
        &format!("{}ask /dev/null\ntell '\\010\\001\\020\\000\\070\\026'\n", version(3, 17)),
    );
    oci.fails(1, &["Invalid argument"], &call);
    let freezes = format!("{}ask /dev/null\nkill -9 $$\n", version(3, 17));
    program(&oci, &freezes);
    oci.fails(1, &["killed by signal 9"], &call);
    goes_on(&oci);
}

/// What is in a request: the fields of `criu_opts`, by their numbers.
fn options(request: &[u8]) -> Vec<(u64, Field)> {
    let all = fields(request);
    let found = all.into_iter().find(|(field, _)| *field == 2);
    let Some((_, Field::Bytes(bytes))) = found else { panic!("no options: {request:?}") };
    fields(&bytes)
}

#[derive(Clone, Debug, PartialEq)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Field)> {
    let varint = |bytes: &mut &[u8]| {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    };
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = varint(&mut bytes);
        all.push((
            key >> 3,
            match key & 7 {
                0 => Field::Number(value),
                2 => {
                    let (content, rest) = bytes.split_at(value as usize);
                    bytes = rest;
                    Field::Bytes(content.to_vec())
                }
                other => panic!("a value of the kind {other}"),
            },
        ));
    }
    all
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The texts that stand in a field: of one that has two in it, both.
fn texts(options: &[(u64, Field)], wanted: u64) -> Vec<String> {
    let of = |field: &(u64, Field)| match field {
        (number, Field::Bytes(bytes)) if *number == wanted => Some(match wanted {
            11 | 23 | 39 => {
                let parts = fields(bytes).into_iter().map(|(_, part)| match part {
                    Field::Bytes(bytes) => text(&bytes),
                    Field::Number(number) => number.to_string(),
                });
                parts.collect::<Vec<_>>().join("=")
            }
            _ => text(bytes),
        }),
        _ => None,
    };
    options.iter().filter_map(of).collect()
}

#[test]
fn criu_is_asked_for_what_the_options_say() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let (oci, _) = running(&WAITS, |config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        let bind = |to: &str| json!({"destination": to, "source": arg(file.path()), "options": ["bind", "ro"]});
        mounts.push(bind("/etc/x"));
        mounts.push(json!({"destination": "/remounted", "type": "tmpfs"}));
        config["linux"]["namespaces"][4]["path"] = "/proc/self/ns/net".into();
        config["linux"]["maskedPaths"] = json!(["/proc/kcore", "/proc/acpi", "/nowhere"]);
        config["annotations"]["org.criu.config"] = "/etc/some.conf".into();
    });
    let (images, request) = (oci.dir().join("images"), oci.dir().join("request"));
    let script = format!("{}ask {}\ntell '\\010\\001\\020\\001'\n", version(4, 2), arg(&request));
    let criu = program(&oci, &script);
    let call = |more: &[&str]| {
        let first = ["--criu", &criu, "checkpoint", "--image-path", arg(&images)];
        oci.ok(&[&first[..], more, &["a"]].concat());
        std::fs::read(&request).unwrap()
    };
    // Twice, as Podman has it with --export.
    let asked = call(&["--leave-running", "--leave-running"]);
    assert_eq!(fields(&asked)[0], (1, Field::Number(1)), "a dump");
    let plain = options(&asked);
    let number = |options: &[(u64, Field)], wanted: u64| {
        options.iter().find_map(|field| match field {
            (found, Field::Number(number)) if *found == wanted => Some(*number),
            _ => None,
        })
    };
    let pid = oci.state("a")["pid"].as_u64();
    assert_eq!(number(&plain, 2), pid);
    assert_eq!(texts(&plain, 13), [arg(&oci.bundle().join("rootfs"))]);
    assert_eq!(texts(&plain, 10), ["dump.log"]);
    assert_eq!(texts(&plain, 51), ["/etc/some.conf"]);
    assert_eq!(texts(&plain, 23), ["/etc/x=/etc/x", "/vol=/vol"], "masks are the container's own");
    let inode =
        std::os::unix::fs::MetadataExt::ino(&std::fs::metadata("/proc/self/ns/net").unwrap());
    assert_eq!(texts(&plain, 37), [format!("net[{inode}]:extRootNetNS")]);
    let freezer = texts(&plain, 44);
    assert!(freezer[0].ends_with(&oci.group()) && Path::new(&freezer[0]).is_dir(), "{freezer:?}");
    // soft; the network alone is empty; a terminal's master is handed over; it goes on.
    assert_eq!(
        [34, 38, 50, 3].map(|field| number(&plain, field)),
        [Some(3), Some(1 << 30), Some(1), Some(1)]
    );
    assert_eq!([4, 5, 7, 8, 14, 15, 16, 18, 46].map(|field| number(&plain, field)), [None; 9]);
    let descriptors = std::fs::read_to_string(images.join("descriptors.json")).unwrap();
    let descriptors: Vec<String> = serde_json::from_str(&descriptors).unwrap();
    assert_eq!(descriptors[1], arg(&oci.dir().join("output")));

    let all = [
        "--tcp-established",
        "--ext-unix-sk",
        "--shell-job",
        "--file-locks",
        "--auto-dedup",
        "--link-remap",
        "--tcp-skip-in-flight",
        "--manage-cgroups-mode",
        "ignore",
        "--empty-ns",
        "network",
        "--page-server",
        "[::1]:27277",
        "--leave-running",
    ];
    let full = options(&call(&all));
    assert_eq!([4, 5, 7, 8, 16, 18, 46].map(|field| number(&full, field)), [Some(1); 7]);
    assert_eq!(number(&full, 34), Some(0));
    assert_eq!(texts(&full, 11), ["::1=27277"]);

    let first = call(&["--pre-dump"]);
    assert_eq!(fields(&first)[0], (1, Field::Number(13)), "a single dump of the memory");
    assert_eq!((number(&options(&first), 15), texts(&options(&first), 23).len()), (Some(1), 0));
    std::fs::create_dir(oci.dir().join("before")).unwrap();
    let second = options(&call(&["--parent-path", "../before", "--leave-running"]));
    assert_eq!((texts(&second, 14), number(&second, 15)), (vec!["../before".to_owned()], Some(1)));
    goes_on(&oci);

    // And without --leave-running it is gone, whoever ended its processes.
    call(&[]);
    assert!(oci.names().is_empty());
}

#[test]
fn what_cannot_be_checkpointed_is_refused() {
    let (oci, _) = running(&WAITS, |_| {});
    for (option, words) in [
        (&["--parent-path", "/abs"][..], "must be relative"),
        (&["--parent-path", "../none"], "no such directory"),
        (&["--lazy-pages"], "not supported"),
        (&["--manage-cgroups-mode", "some"], "soft"),
        (&["--empty-ns", "pid"], "network"),
        (&["--page-server", "host"], "ADDRESS:PORT"),
        (&["--page-server", "host:0"], "ADDRESS:PORT"),
    ] {
        let criu = program(&oci, &version(3, 17));
        let images = oci.dir().join("images");
        let first = ["--criu", &criu, "checkpoint", "--image-path", arg(&images)];
        oci.fails(1, &[words], &[&first[..], option, &["a"]].concat());
    }
    oci.fails(1, &["container does not exist"], &["checkpoint", "none"]);
    oci.ok(&["kill", "a", "KILL"]);
    oci.wait_for("a", "stopped");
    oci.fails(1, &["container cannot be checkpointed", "stopped"], &["checkpoint", "a"]);
    oci.ok(&["delete", "a"]);
    oci.create(&["a"]);
    oci.fails(1, &["container cannot be checkpointed", "created"], &["checkpoint", "a"]);
}

#[test]
fn a_mount_with_other_owners_is_not_lost() {
    let args = WAITS;
    let oci = Oci::new(&args);
    directory(&oci, "vol");
    configure(&oci, &args, |config| {
        let map = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
        let volume = config["mounts"].as_array_mut().unwrap().last_mut().unwrap();
        volume["uidMappings"] = map.clone();
        volume["gidMappings"] = map;
    });
    oci.create(&["a"]);
    oci.ok(&["start", "a"]);
    oci.fails(1, &["mounts[4]", "other owners"], &["checkpoint", "--image-path", "x", "a"]);
    goes_on(&oci);
}

/// Nothing is left of a restore that fails: [`Oci`] looks for it.
#[test]
fn a_restore_that_fails_leaves_nothing() {
    let oci = Oci::new(&WAITS);
    let (images, request) = (directory(&oci, "images"), oci.dir().join("request"));
    directory(&oci, "vol");
    configure(&oci, &WAITS, |config| {
        config["linux"]["namespaces"][4]["path"] = "/proc/self/ns/net".into();
        config["linux"]["namespaces"][2]["path"] = "/proc/self/ns/ipc".into();
        config["hooks"] = json!({"createRuntime": [{"path": "/bin/false"}]});
    });
    let script =
        format!("{}ask {}\ntell '\\010\\002\\020\\000\\070\\002'\n", version(3, 17), arg(&request));
    let criu = program(&oci, &script);
    let call = [
        "--criu",
        &criu,
        "restore",
        "-d",
        "--image-path",
        arg(&images),
        "--lsm-profile",
        "apparmor:x",
        "a",
    ];
    oci.fails(1, &["there is no checkpoint", "descriptors.json"], &call);
    std::fs::write(
        images.join("descriptors.json"),
        r#"["/dev/null", "pipe:[12]", "x", "pipe:[13]"]"#,
    )
    .unwrap();
    oci.fails(1, &["restoring container", "No such file", "restore.log"], &call);
    assert!(oci.names().is_empty() && oci.groups().is_empty(), "{:?}", oci.names());

    let asked = options(&std::fs::read(&request).unwrap());
    let home = std::fs::canonicalize(oci.home()).unwrap();
    assert_eq!(texts(&asked, 13), [arg(&home.join("a/root"))]);
    let mounts = texts(&asked, 23);
    let volume = format!("/vol={}", arg(&oci.dir().join("vol")));
    assert!(
        mounts.contains(&volume) && mounts.contains(&"/dev/null=/dev/null".to_owned()),
        "{mounts:?}"
    );
    assert_eq!(texts(&asked, 39), ["ipc=/proc/self/ns/ipc"]);
    assert_eq!(texts(&asked, 53), ["apparmor:x"]);
    let inherited: Vec<String> = asked
        .iter()
        .filter_map(|field| match field {
            (27, Field::Bytes(bytes)) => match &fields(bytes)[..] {
                [(1, Field::Bytes(key)), (2, Field::Number(number))] => {
                    Some(if *number < 3 { format!("{}={number}", text(key)) } else { text(key) })
                }
                other => panic!("{other:?}"),
            },
            _ => None,
        })
        .collect();
    assert_eq!(
        inherited,
        ["extRootNetNS", "pipe:[12]=1"],
        "no more than the three are standard descriptors"
    );

    // A hook that fails ends it, and is what is told.
    let script = format!(
        "{}ask /dev/null\ntell '\\010\\006\\020\\001\\052\\024\\012\\020setup-namespaces\\020\\001'\nask {}\n\
         tell '\\010\\002\\020\\000\\070\\002'\n",
        version(3, 17),
        arg(&request)
    );
    program(&oci, &script);
    oci.fails(1, &["error running createRuntime hook #0", "/bin/false"], &call);
    assert_eq!(fields(&std::fs::read(&request).unwrap())[1], (3, Field::Number(0)));
    oci.fails(
        1,
        &["/no/directory", "there is no checkpoint"],
        &["restore", "--image-path", "/no/directory", "a"],
    );
    oci.fails(1, &["not supported"], &["restore", "--lazy-pages", "a"]);
}

/// Whether CRIU works here. Its version of Debian 12 does not on kernels that are much later; in the virtual machine it must.
fn works() -> bool {
    let checked = Command::new("criu").arg("check").output();
    let works = checked.as_ref().is_ok_and(|output| output.status.success());
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let must = release.lines().any(|line| line == "ID=test-vm");
    assert!(works || !must, "CRIU is to work here: {checked:?}");
    works
}

/// Where CRIU does not work, its failure is told, and the container goes on.
fn is_told_that_it_does_not(oci: &Oci) {
    oci.fails(1, &["CRIU"], &["checkpoint", "--image-path", arg(&oci.dir().join("images")), "a"]);
    goes_on(oci);
}

fn count(volume: &Path) -> u64 {
    let text = std::fs::read_to_string(volume.join("count")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Restores `a`, without this process's pipes.
#[track_caller]
fn restore(oci: &Oci, options: &[&str]) {
    let images = oci.dir().join("images");
    let output = File::create(oci.dir().join("restored")).unwrap();
    let mut command =
        oci.command(&[&["restore", "-d", "--image-path", arg(&images)], options, &["a"]].concat());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
    let status = command.status().unwrap();
    assert!(status.success(), "{}", std::fs::read_to_string(oci.dir().join("restored")).unwrap());
}

/// Standard input, output and error of its own: files of the host are none of a container's.
fn quiet(args: &[&str]) -> Vec<String> {
    let mut all: Vec<String> = args.iter().map(|word| (*word).to_owned()).collect();
    all[2] = format!("exec </dev/null >/dev/null 2>&1; {}", all[2]);
    all
}

#[test]
fn a_restored_container_goes_on_from_where_it_was() {
    let args = quiet(&COUNTS);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (oci, volume) = running(&args, |config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "cgroup"}));
        config["mounts"]
            .as_array_mut()
            .unwrap()
            .push(json!({"destination": "/sys", "type": "sysfs"}));
        config["linux"]["resources"] = json!({"pids": {"limit": 40}});
        config["linux"]["maskedPaths"] = json!(["/proc/kcore", "/proc/acpi"]);
        config["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
    });
    wait_until("it counts", || count(&volume) > 1010);
    if !works() {
        return is_told_that_it_does_not(&oci);
    }
    let (images, pid_file) = (oci.dir().join("images"), oci.dir().join("pid"));
    let before = oci.state("a");
    let groups = || {
        let all = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        all.lines()
            .filter(|line| line.contains(" - cgroup2 "))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let groups_before = groups();
    // Twice: what was restored can be checkpointed.
    for _ in 0..2 {
        let pid = oci.state("a")["pid"].as_i64().unwrap();
        oci.ok(&["checkpoint", "--image-path", arg(&images), "a"]);
        assert!(oci.names().is_empty() && !lives(pid) && oci.groups().is_empty());
        let stopped = count(&volume);
        assert!(stopped > 1010);

        restore(&oci, &["--pid-file", arg(&pid_file)]);
        wait_until("it counts on", || count(&volume) > stopped);
        assert!(count(&volume) < stopped + 1000, "it counts from where it was");
        let state = oci.state("a");
        assert_eq!(state["status"], "running");
        assert_eq!(
            (&state["bundle"], &state["annotations"]),
            (&before["bundle"], &before["annotations"])
        );
        assert_eq!(std::fs::read_to_string(&pid_file).unwrap(), state["pid"].to_string());
        let group = std::fs::read_to_string(format!("/proc/{}/cgroup", state["pid"])).unwrap();
        assert!(group.trim_end().ends_with(&oci.group()), "{group}");
    }
    assert_eq!(groups(), groups_before, "all of the machine has the options that it had");
    let inside = |script: &str| oci.ok(&["exec", "a", "sh", "-c", script]);
    assert_eq!(inside("hostname; echo $$ >/dev/null; cat /proc/1/comm"), "contained\nsh\n");
    assert_eq!(
        inside("cat /proc/kcore | wc -c; ls /proc/acpi | wc -l"),
        "0\n0\n",
        "masks are there"
    );
    assert!(inside("cat /sys/class/net/lo/flags").starts_with("0x9"), "the loopback device is up");
    oci.fails(1, &[], &["exec", "a", "sh", "-c", "echo x >/proc/sys/kernel/hostname"]);
    let limit =
        |group: &PathBuf| std::fs::read_to_string(group.join("pids.max")).unwrap_or_default();
    assert!(oci.groups().iter().any(|group| limit(group) == "40\n"));
    oci.ok(&["pause", "a"]);
    assert_eq!(oci.status("a"), "paused");
    oci.ok(&["resume", "a"]);
    oci.fails(1, &["cannot delete container that is not stopped"], &["delete", "a"]);
    oci.ok(&["kill", "a", "TERM"]);
    oci.wait_for("a", "stopped");
    oci.ok(&["delete", "a"]);
}

#[test]
fn a_container_may_go_on_after_its_checkpoint() {
    let args = quiet(&COUNTS);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (oci, volume) = running(&args, |_| {});
    wait_until("it counts", || count(&volume) > 1000);
    if !works() {
        return is_told_that_it_does_not(&oci);
    }
    let (images, before) = (oci.dir().join("images"), oci.dir().join("before"));
    let pid = oci.state("a")["pid"].clone();
    oci.ok(&["checkpoint", "--pre-dump", "--image-path", arg(&before), "a"]);
    oci.ok(&["checkpoint", "--leave-running", "--image-path", arg(&images), "a"]);
    let reached = count(&volume);
    wait_until("it goes on", || count(&volume) > reached);
    assert_eq!((oci.status("a"), &oci.state("a")["pid"]), ("running".to_owned(), &pid));
    oci.ok(&["delete", "-f", "a"]);
    // The earlier one is as good as it was, and so is a paused one with what changed since.
    restore(&oci, &[]);
    wait_until("it counts on", || count(&volume) > reached);
    oci.ok(&["pause", "a"]);
    oci.ok(&["checkpoint", "--image-path", arg(&before), "a"]);
    assert!(oci.names().is_empty());
}

#[test]
fn pipes_are_those_of_who_restores() {
    let script = "while read line; do echo got $line; done; echo no more >&2";
    let oci = Oci::new(&["sh", "-c", script]);
    directory(&oci, "vol");
    configure(&oci, &["sh", "-c", script], |_| {});
    let start = |args: &[&str]| {
        let mut command = oci.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let say = |child: &mut std::process::Child, words: &str| {
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), words.as_bytes()).unwrap();
    };
    let mut first = start(&["run", "a"]);
    say(&mut first, "one\n");
    let mut bytes = [0; 8];
    first.stdout.as_mut().unwrap().read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"got one\n");
    if !works() {
        is_told_that_it_does_not(&oci);
        oci.ok(&["delete", "-f", "a"]);
        first.wait().unwrap();
        return;
    }
    let images = oci.dir().join("images");
    oci.ok(&["checkpoint", "--image-path", arg(&images), "a"]);
    first.wait().unwrap();
    // In the foreground: its status is the container's.
    let mut second = start(&["restore", "--image-path", arg(&images), "a"]);
    say(&mut second, "two\n");
    let out = second.wait_with_output().unwrap();
    let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
    assert_eq!((out.status.code(), &*stdout, &*stderr), (Some(0), "got two\n", "no more\n"));
    assert!(oci.names().is_empty());
}

#[test]
fn a_restored_terminal_goes_to_the_console_socket() {
    let script = "tty; while read line; do echo got $line; done";
    let oci = Oci::new(&["sh", "-c", script]);
    directory(&oci, "vol");
    configure(&oci, &["sh", "-c", script], |config| config["process"]["terminal"] = true.into());
    let socket = oci.dir().join("console");
    let listener = UnixListener::bind(&socket).unwrap();
    oci.create(&["--console-socket", arg(&socket), "a"]);
    let mut master = File::from(receive(&listener).0);
    oci.ok(&["start", "a"]);
    read_until(&mut master, "/dev/pts/0");
    if !works() {
        return is_told_that_it_does_not(&oci);
    }
    let images = oci.dir().join("images");
    oci.ok(&["checkpoint", "--image-path", arg(&images), "a"]);
    oci.fails(1, &["cannot allocate tty"], &["restore", "-d", "--image-path", arg(&images), "a"]);
    restore(&oci, &["--console-socket", arg(&socket)]);
    let (master, name) = receive(&listener);
    assert_eq!(name, "/dev/ptmx");
    let mut master = File::from(master);
    std::io::Write::write_all(&mut master, b"a line\n").unwrap();
    read_until(&mut master, "got a line");
    assert_eq!(oci.ok(&["exec", "a", "sh", "-c", "[ -c /dev/console ] && echo yes"]), "yes\n");
}

/// Hooks, a network of somebody else's, mounts in mounts, a target that is a link.
#[test]
fn what_comes_from_outside_is_there_again() {
    let args = quiet(&COUNTS);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let oci = Oci::new(&args);
    let (hook, heard) = (oci.dir().join("hook"), oci.dir().join("heard"));
    write_script(
        &hook,
        &format!("#!/bin/sh\necho $1 >>{}\ncat >{}.state\n", arg(&heard), arg(&heard)),
    );
    let [volume, outer, nested] = ["vol", "outer", "nested"].map(|name| directory(&oci, name));
    std::fs::create_dir_all(oci.bundle().join("rootfs/real")).unwrap();
    std::os::unix::fs::symlink("/real", oci.bundle().join("rootfs/link")).unwrap();
    let mut keeper = Command::new("unshare").args(["-n", "sleep", "1000"]).spawn().unwrap();
    let network = format!("/proc/{}/ns/net", keeper.id());
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    wait_until("there is a network", || std::fs::read_link(&network).is_ok_and(|link| link != own));
    configure(&oci, &args, |config| {
        let bind = |to: &str, from: &Path| json!({"destination": to, "type": "bind", "source": arg(from), "options": ["rbind"]});
        let more = [
            bind("/outer", &outer),
            bind("/outer/for/nested", &nested),
            bind("/link", &outer),
            bind("/hook", &hook),
        ];
        config["mounts"].as_array_mut().unwrap().extend(more);
        config["linux"]["namespaces"][4]["path"] = network.as_str().into();
        config["root"]["readonly"] = true.into();
        let run = |word: &str| json!([{"path": arg(&hook), "args": ["hook", word]}]);
        config["hooks"] = json!({
            "prestart": run("prestart"), "createRuntime": run("createRuntime"), "poststart": run("poststart"),
            "poststop": run("poststop"),
        });
    });
    oci.create(&["a"]);
    oci.ok(&["start", "a"]);
    wait_until("it counts", || count(&volume) > 1000);
    std::fs::write(nested.join("file"), "nested").unwrap();
    let hooks = || std::fs::read_to_string(&heard).unwrap_or_default();
    if works() {
        let images = oci.dir().join("images");
        oci.ok(&["checkpoint", "--image-path", arg(&images), "a"]);
        assert!(hooks().ends_with("poststop\n"), "{}", hooks());
        // What was made for the nested mount is made again.
        std::fs::remove_dir_all(outer.join("for")).unwrap();
        std::fs::remove_file(&heard).unwrap();
        restore(&oci, &[]);
        assert_eq!(hooks(), "prestart\ncreateRuntime\n", "as runc");
        let state: Value =
            serde_json::from_slice(&std::fs::read(oci.dir().join("heard.state")).unwrap()).unwrap();
        assert_eq!((&state["id"], &state["pid"]), (&"a".into(), &oci.state("a")["pid"]));
        let reached = count(&volume);
        wait_until("it counts on", || count(&volume) > reached);
        let network_now =
            std::fs::read_link(format!("/proc/{}/ns/net", oci.state("a")["pid"])).unwrap();
        assert_eq!(network_now, std::fs::read_link(&network).unwrap());
        assert_eq!(oci.ok(&["exec", "a", "cat", "/outer/for/nested/file"]), "nested");
        assert_eq!(oci.ok(&["exec", "a", "ls", "/link"]), "for\n");
        oci.fails(1, &["Read-only"], &["exec", "a", "touch", "/file"]);
    } else {
        is_told_that_it_does_not(&oci);
    }
    oci.ok(&["delete", "-f", "a"]);
    assert!(hooks().ends_with("poststop\n"), "{}", hooks());
    keeper.kill().unwrap();
    keeper.wait().unwrap();
}
