//! `checkpoint` and `restore`: what CRIU is asked for, and what is said where it is not there or fails, with a program in
//! its place.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Oci, WAITS};
use crate::harness::{Started, arg, wait_until, write_script};

pub(super) fn directory(oci: &Oci, name: &str) -> PathBuf {
    let path = oci.dir().join(name);
    std::fs::create_dir(&path).unwrap();
    path
}

/// A container `a` that runs, with the volume `vol`, which `change` may have made something else.
pub(super) fn running(args: &[&str], change: impl FnOnce(&mut Value)) -> (Oci, PathBuf) {
    let oci = Oci::new(args);
    let volume = directory(&oci, "vol");
    configure(&oci, args, change);
    oci.create(&["a"]);
    oci.ok(&["start", "a"]);
    (oci, volume)
}

pub(super) fn configure(oci: &Oci, args: &[&str], change: impl FnOnce(&mut Value)) {
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
pub(super) fn goes_on(oci: &Oci) {
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

pub(super) fn text(bytes: &[u8]) -> String {
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
    let off = [4, 5, 7, 8, 14, 15, 16, 18, 46, 48];
    assert_eq!(off.map(|field| number(&plain, field)), [None; 10]);
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
        "--lazy-pages",
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
    let on = [4, 5, 7, 8, 12, 16, 18, 46, 48];
    assert_eq!(on.map(|field| number(&full, field)), [Some(1); 9], "with notices");
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

/// Who fetches the memory hears that it can, on the descriptor that was named; and others can look at the container meanwhile.
#[test]
fn who_fetches_memory_lazily_hears_when_it_is_there() {
    let (oci, _) = running(&WAITS, |_| {});
    let go = oci.dir().join("go");
    let script = format!(
        "{}ask /dev/null\ntell '\\010\\006\\020\\001\\052\\016\\012\\014status-ready'\nask {}\n\
         while ! [ -e {} ]; do sleep 0.05; done\ntell '\\010\\001\\020\\001'\n",
        version(3, 17),
        arg(&oci.dir().join("reply")),
        arg(&go)
    );
    let criu = program(&oci, &script);
    let images = oci.dir().join("images");
    let call = ["--criu", &criu, "checkpoint", "--image-path", arg(&images), "--lazy-pages"];
    let call = [&call[..], &["--status-fd", "1", "--leave-running", "a"]].concat();
    let checkpoint = Started::new(oci.command(&call), None);
    wait_until("CRIU has its answer", || {
        std::fs::metadata(oci.dir().join("reply")).is_ok_and(|reply| reply.len() > 0)
    });
    goes_on(&oci);
    std::fs::write(&go, "").unwrap();
    let out = checkpoint.wait();
    assert_eq!((out.code, out.stdout.as_str()), (0, "\0"), "{}", out.stderr);
    let reply = fields(&std::fs::read(oci.dir().join("reply")).unwrap());
    assert_eq!(reply[1], (3, Field::Number(1)), "{reply:?}");
}

#[test]
fn what_cannot_be_checkpointed_is_refused() {
    let (oci, _) = running(&WAITS, |_| {});
    for (option, words) in [
        (&["--parent-path", "/abs"][..], "must be relative"),
        (&["--parent-path", "../none"], "no such directory"),
        (&["--status-fd", "77"], "--status-fd 77"),
        (&["--status-fd", "x"], "--status-fd"),
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
        "--lazy-pages",
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
    assert!(asked.contains(&(48, Field::Number(1))), "{asked:?}");
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
}
