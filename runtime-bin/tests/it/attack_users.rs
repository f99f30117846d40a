//! Users that become root, files of users that are none, and other users of the host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde_json::json;

use crate::attack::{Canary, Openings, SECRET, Swapper, forms, race};
use crate::harness::{Root, Started, arg};
use crate::image::{Archive, Layer};
use crate::oci::{Oci, WAITS};

/// Numbers that are 0 or "no change" once they are cut to 32 bits (crun 2026-30892, containerd 2024-40635).
const OVERFLOWING: [&str; 6] =
    ["4294967296", "-1", "4294967295", "18446744073709551616", "0x100000000", "1:4294967296"];

#[test]
fn ids_that_overflow() {
    for form in forms() {
        let root = Root::new();
        // As the entry of a user and of a group, too.
        let passwd =
            "big:x:4294967296:0::/:\nminus:x:-1:-1::/:\nnone:x:4294967295:5::/:\nok:x:5:5::/:\n";
        let group = "big:x:4294967296:\nminus:x:-1:ok\nnone:x:4294967295:ok\nok:x:7:ok\n";
        let layer = Layer::new().file("etc/passwd", 0o644, passwd).file("etc/group", 0o644, group);
        let image = Archive::busybox([layer]).write(root.dir(), "x.tar");
        root.ok(["run", "-d", "--name", "box", form, arg(&image), "sleep", "1000"]);
        let named = ["big", "minus", "none", "ok:big", "ok:minus", "1:none"];
        for user in OVERFLOWING.iter().chain(&named) {
            let option = format!("--user={user}");
            let out = root.call(["run", "--rm", &option, arg(&image), "id"]);
            assert!(out.code == 125 && out.stdout.is_empty(), "{user}: {out:?}");
            let out = root.call(["exec", &option, "box", "id"]);
            assert!(out.code != 0 && out.stdout.is_empty(), "{user}: {out:?}");
        }
        let groups = ["4294967296", "-1", "4294967295", "big", "minus"];
        for group in groups {
            let out = root.call(["run", "--rm", "--group-add", group, arg(&image), "id"]);
            assert!(out.code == 125 && out.stdout.is_empty(), "{group}: {out:?}");
        }
        // What is no number among the groups of a user gives it none.
        assert_eq!(root.ok(["exec", "-u", "ok", "box", "sh", "-c", "id -u; id -G"]), "5\n5 7");
        for user in OVERFLOWING {
            let archive =
                Archive::busybox([]).with("User", json!(user)).write(root.dir(), "user.tar");
            let out = root.call(["run", "--rm", form, arg(&archive), "id"]);
            assert!(out.code == 125 && out.stdout.is_empty(), "{user}: {out:?}");
        }
        root.ok(["rm", "-f", "box"]);
    }
}

#[test]
fn ids_that_overflow_for_runtime_oci() {
    let oci = Oci::new(&WAITS);
    oci.create(&["a"]);
    oci.ok(&["start", "a"]);
    for user in OVERFLOWING {
        let out = oci.call(&["exec", &format!("--user={user}"), "a", "id"]);
        assert!(out.code == 255 && out.stdout.is_empty(), "{user}: {out:?}");
    }
    for group in ["4294967296", "-1", "4294967295"] {
        let out = oci.call(&["exec", &format!("--additional-gids={group}"), "a", "id"]);
        assert!(out.code == 255 && out.stdout.is_empty(), "{group}: {out:?}");
    }
    let numbers = [
        json!(4294967296_u64),
        json!(-1),
        json!(4294967295_u64),
        json!(0.5),
        json!("0"),
        json!(1e10),
    ];
    for (field, number) in
        ["uid", "gid"].into_iter().flat_map(|field| numbers.iter().map(move |n| (field, n)))
    {
        oci.configure(
            |config| {
                config["process"]["user"][field] = number.clone();
                config["linux"]["cgroupsPath"] = format!("{}-b", oci.group()).into();
            },
            &["id"],
        );
        oci.fails(1, &[&format!("process.user.{field}")], &["run", "b"]);
    }
    for number in &numbers {
        oci.configure(
            |config| {
                config["process"]["user"]["additionalGids"] = json!([number]);
                config["linux"]["cgroupsPath"] = format!("{}-b", oci.group()).into();
            },
            &["id"],
        );
        oci.fails(1, &["process.user.additionalGids"], &["run", "b"]);
    }
    oci.ok(&["delete", "--force", "a"]);
}

/// What an image can have in place of a file of users: it is neither waited for, nor read for ever, nor opened if
/// it is a device (2024-9676).
fn files() -> [Layer; 5] {
    [
        Layer::new().symlink("etc/passwd", "/dev/zero"),
        Layer::new().fifo("etc/passwd"),
        Layer::new().character_device("etc/passwd", 1, 5),
        Layer::new().file("etc/passwd", 0o644, "x:x:1:1:::\n".repeat(1 << 20)),
        Layer::new().symlink("etc/passwd", "/proc/self/fd/0"),
    ]
}

/// Makes something of a file: `ln -s TARGET`, `mkfifo`, `mknod MAJOR MINOR` (a character device).
fn put(path: &Path, args: &[&str]) {
    let node = |kind, device| mknodat(CWD, path, kind, Mode::from_raw_mode(0o666), device).unwrap();
    match args {
        ["ln", "-s", target] => std::os::unix::fs::symlink(target, path).unwrap(),
        ["mkfifo"] => node(FileType::Fifo, 0),
        ["mknod", major, minor] => {
            let device = makedev(major.parse().unwrap(), minor.parse().unwrap());
            node(FileType::CharacterDevice, device);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_of_users_that_are_none() {
    for form in forms() {
        let root = Root::new();
        for layer in files() {
            let image = Archive::busybox([layer]).write(root.dir(), "x.tar");
            let run = ["run", "--rm", form, "-u", "www-data", arg(&image), "true"];
            root.fails(125, &["passwd"], run);
            root.assert_nothing_left();
        }
        // Changed while it runs, as by the container itself; `exec` reads it again.
        root.sleeper("box", &[]);
        let passwd = PathBuf::from(format!("/proc/{}/root/etc/passwd", root.pid("box")));
        for args in [
            &["mkfifo"][..],
            &["ln", "-s", "/dev/zero"],
            &["mknod", "1", "5"],
            &["ln", "-s", "/proc/1/fd/0"],
        ] {
            fs::remove_file(&passwd).unwrap();
            put(&passwd, args);
            for user in ["www-data", "0", "12345"] {
                let out = root.call(["exec", "-u", user, "box", "true"]);
                let said = out.code == 0 && user != "www-data" || out.stderr.contains("passwd");
                assert!(said, "{args:?} {user}: {out:?}");
            }
        }
        root.ok(["rm", "-f", "box"]);
    }
}

/// `runtime-oci` looks for HOME there. A device that the image brings is not opened: some do things when they are.
#[test]
fn files_of_users_that_are_none_for_runtime_oci() {
    let oci = Oci::new(&["sh", "-c", "echo $HOME"]);
    let passwd = oci.bundle().join("rootfs/etc/passwd");
    assert_eq!(oci.ok(&["run", "a"]), "/root\n");
    for node in [&["mkfifo"][..], &["mknod", "1", "5"], &["mknod", "1", "3"]] {
        fs::remove_file(&passwd).unwrap();
        put(&passwd, node);
        let openings = Openings::of(&passwd);
        assert_eq!(oci.ok(&["run", "a"]), "/\n", "{node:?}");
        assert!(!openings.any(), "{node:?} was opened");
    }
    let _ = fs::remove_file(&passwd);
    fs::write(&passwd, "x:x:1:1::/x:\n".repeat(1 << 20) + "root:x:0:0::/late:\n").unwrap();
    assert_eq!(oci.ok(&["run", "a"]), "/\n");
    let canary = Canary::new(oci.dir());
    for target in [format!("{}/alive", canary.path()), "/dev/zero".into(), "/proc/self/fd/0".into()]
    {
        let _ = fs::remove_file(&passwd);
        std::os::unix::fs::symlink(&target, &passwd).unwrap();
        assert_eq!(oci.ok(&["run", "a"]), "/\n", "{target}");
    }
}

/// A container makes a device of what is copied, between the look at it and its opening.
#[test]
fn a_file_that_becomes_a_device_is_not_opened() {
    let root = Root::new();
    root.sleeper("box", &[]);
    let script = "mkdir /w; echo file >/w/file; mknod /w/node c 1 3";
    root.ok(["exec", "box", "sh", "-c", script]);
    let place = PathBuf::from(format!("/proc/{}/root/w", root.pid("box")));
    let openings = Openings::of(&place.join("node"));
    let swapper = Swapper::start(&place, "file", "node");
    let copy = root.dir().join("copy");
    race("cp of a file that becomes a device", 20, || {
        for from in ["box:/w/file", "box:/w/node", "box:/w"] {
            let out = root.call(["cp", from, arg(&copy)]);
            assert!(!out.stderr.contains("panicked"), "{out:?}");
            let _ = fs::remove_dir_all(&copy);
            let _ = fs::remove_file(&copy);
        }
        assert!(!openings.any(), "the device was opened");
    });
    assert!(swapper.end() > 1000, "there was no race");
    // Who opens it is seen.
    fs::read(place.join("node")).unwrap_or_default();
    fs::read(place.join("file")).unwrap_or_default();
    assert!(openings.any());
}

/// Another user of the host.
fn as_another_user(script: &str) -> String {
    let mut command = Command::new("sh");
    command.args(["-c", script]).uid(54321).gid(54321).current_dir("/");
    let out = Started::new(command, None).wait();
    out.stdout + &out.stderr
}

/// 2021-41091, 2021-41103: what containers have is there for nobody else, whatever the mask of who made the store.
#[test]
fn another_user_of_the_host_sees_nothing() {
    for form in forms() {
        let root = Root::new();
        // A user's own directories are open to all, as /var/lib is.
        fs::set_permissions(root.dir(), fs::Permissions::from_mode(0o755)).unwrap();
        let layer = Layer::new().file("bin/become-root", 0o4755, fs::read("/bin/true").unwrap());
        let image =
            Archive::busybox([layer.file("open", 0o666, SECRET)]).write(root.dir(), "x.tar");
        let mut command = Command::new("sh");
        let inner = root.command([
            "run",
            "-d",
            "--name",
            "box",
            "-v",
            "data:/data",
            form,
            arg(&image),
            "sleep",
            "1000",
        ]);
        command
            .args(["-c", "umask 0; exec \"$@\"", "sh"])
            .arg(inner.get_program())
            .args(inner.get_args());
        let out = Started::new(command, None).wait();
        assert_eq!(out.code, 0, "{out:?}");
        let id = out.stdout.trim().to_owned();
        let (store, pid) = (root.store(), root.pid("box"));
        let seen = as_another_user(&format!(
            "find {0} -mindepth 1 2>/dev/null; cat {0}/containers/{id}/merged/open; \
             cd {0}/containers/{id}/merged && echo ENTERED; cat /proc/{pid}/root/open; ls /proc/{pid}/fd && echo ENTERED; \
             {0}/containers/{id}/merged/bin/become-root && echo ENTERED; touch {0}/new && echo ENTERED",
            arg(&store)
        ));
        assert!(!seen.contains(SECRET) && !seen.contains("ENTERED"), "{form}: {seen}");
        assert!(!seen.lines().any(|line| line.starts_with(arg(&store))), "{form}: {seen}");
        // Nor has anything in it bits for others beyond what the image and its users say: the store's own does not.
        for name in ["containers", "images", "volumes"] {
            let mode = fs::metadata(store.join(name)).unwrap().permissions().mode() & 0o022;
            assert_eq!(mode, 0, "{name}");
        }
        root.ok(["rm", "-f", "-v", "box"]);
    }
}

#[test]
fn another_user_of_the_host_sees_nothing_of_runtime_oci() {
    let oci = Oci::new(&WAITS);
    fs::set_permissions(oci.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    let inner = oci.command(&["create", "--pid-file", arg(&oci.dir().join("pid")), "a"]);
    let mut command = Command::new("sh");
    command
        .args(["-c", "umask 0; exec \"$@\" >/dev/null 2>&1", "sh"])
        .arg(inner.get_program())
        .args(inner.get_args());
    command.current_dir(oci.bundle());
    let out = Started::new(command, None).wait();
    assert_eq!(out.code, 0, "{out:?}");
    let home = oci.home();
    let seen = as_another_user(&format!(
        "find {0} -mindepth 1 2>/dev/null; cat {0}/a/state.json && echo ENTERED; touch {0}/x && echo ENTERED; \
         echo x >{0}/a/start && echo ENTERED; ls /proc/{1}/root/ && echo ENTERED; ls /proc/{1}/fd && echo ENTERED",
        arg(&home),
        oci.state("a")["pid"]
    ));
    assert!(!seen.contains("ENTERED"), "{seen}");
    assert!(!seen.lines().any(|line| line.starts_with(arg(&home))), "{seen}");
    oci.ok(&["delete", "--force", "a"]);
}

/// The names of abstract sockets in this process's network namespace.
fn abstract_sockets() -> Vec<String> {
    let table = fs::read_to_string("/proc/net/unix").unwrap();
    let names = table.lines().filter_map(|line| line.split_whitespace().nth(7));
    names.filter(|name| name.starts_with('@')).map(str::to_owned).collect()
}

/// 2020-15257: a container with the host's network sees the sockets that have no place in a file system.
#[test]
fn there_are_no_abstract_sockets() {
    let root = Root::new();
    let before = abstract_sockets();
    root.sleeper("box", &["--network", "host"]);
    let new = |names: Vec<String>| {
        names.into_iter().filter(|name| !before.contains(name)).collect::<Vec<_>>()
    };
    // Others on this machine may open some: ours are opened for as long as a container runs.
    let own = |names: Vec<String>| {
        new(names)
            .into_iter()
            .filter(|n| n.contains("runtime") || n.contains("containers"))
            .collect::<Vec<_>>()
    };
    assert_eq!(own(abstract_sockets()), [""; 0]);
    let table = root.ok(["exec", "box", "cat", "/proc/net/unix"]);
    let sockets: Vec<&str> = table.lines().filter(|line| line.contains(arg(root.dir()))).collect();
    // By a path that is not there in the container.
    for line in sockets {
        let path = line.split_whitespace().nth(7).unwrap();
        root.fails(1, &[], ["exec", "box", "test", "-e", path]);
        assert!(Path::new(path).starts_with(root.store()), "{line}");
    }
    root.ok(["rm", "-f", "box"]);
    let oci = Oci::new(&WAITS);
    let host = |config: &mut serde_json::Value| {
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "network");
    };
    oci.configure(host, &WAITS);
    oci.create(&["a"]);
    assert_eq!(own(abstract_sockets()), [""; 0]);
    oci.ok(&["delete", "--force", "a"]);
}
