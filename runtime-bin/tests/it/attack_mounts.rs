//! Directories, devices, consoles and sources that lead elsewhere while a container's mounts are made.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::attack::{Canary, SECRET, forms};
use crate::attack_proc::{delete, started, with};
use crate::harness::{Root, arg, wait_until};
use crate::host;
use crate::image::{Archive, Layer};
use crate::oci::{Oci, WAITS};
use crate::pty::Terminal;

/// 2026-41579, 2026-47766 and the like: directories that the runtime mounts on and makes files in are links.
#[test]
fn standard_directories_that_are_links() {
    for form in forms() {
        let root = Root::new();
        let canary = Canary::new(root.dir());
        for name in [
            "dev",
            "sys",
            "proc",
            "etc",
            "etc/hosts",
            "etc/resolv.conf",
            "etc/hostname",
            "run",
            "tmp",
        ] {
            for to in
                [canary.path().to_owned(), canary.up(), format!("/proc/self/root{}", canary.path())]
            {
                let image =
                    Archive::busybox([Layer::new().symlink(name, &to)]).write(root.dir(), "x.tar");
                for options in [&[][..], &["-t"], &["--init"], &["--read-only"]] {
                    if name == "etc/hosts" || options.is_empty() {
                        let args =
                            [&["run", "--rm", form], options, &[arg(&image), "/bin/true"]].concat();
                        let out = root.call(args);
                        assert!(
                            matches!(out.code, 0 | 125) && !out.stderr.contains("panicked"),
                            "{name}: {out:?}"
                        );
                    }
                    canary.assert_untouched();
                }
            }
        }
        root.assert_nothing_left();
    }
}

#[test]
fn standard_directories_that_are_links_for_runtime_oci() {
    let oci = Oci::new(&WAITS);
    let canary = Canary::new(oci.dir());
    let rootfs = oci.bundle().join("rootfs");
    let more = json!([
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["mode=1777"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
    ]);
    // With a file system on /dev, and with the devices in the root's own directory.
    for own_dev in [false, true] {
        for name in [
            "dev",
            "sys",
            "proc",
            "dev/pts",
            "dev/shm",
            "dev/mqueue",
            "dev/null",
            "dev/console",
            "dev/fd",
            "dev/ptmx",
        ] {
            for to in [canary.path().to_owned(), canary.up(), format!("{}/alive", canary.path())] {
                let _ = fs::remove_file(rootfs.join("dev"));
                let _ = fs::remove_dir_all(rootfs.join("dev"));
                let path = rootfs.join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                let _ = fs::remove_dir(&path);
                symlink(&to, &path).unwrap();
                with(&oci, |config| {
                    let mounts = config["mounts"].as_array_mut().unwrap();
                    if own_dev {
                        mounts.remove(1);
                    }
                    mounts.extend(more.as_array().unwrap().iter().cloned());
                    config["linux"]["maskedPaths"] = json!(["/proc/kcore", "/proc/keys"]);
                });
                let start = started(&oci);
                canary.assert_untouched();
                // Without a terminal /dev/console is nobody's affair.
                if (own_dev && name != "dev/console") || !name.starts_with("dev/") {
                    assert_eq!(start, None, "{name} is a link to {to}");
                }
                delete(&oci);
                canary.assert_untouched();
                let _ = fs::remove_file(&path);
            }
        }
    }
}

/// 2025-31133: what is bound on a masked file is the null device, or nothing starts.
#[test]
fn masks_are_made_of_the_null_device() {
    let oci = Oci::new(&WAITS);
    let canary = Canary::new(oci.dir());
    let rootfs = oci.bundle().join("rootfs");
    fs::write(rootfs.join("secret"), "hidden").unwrap();
    let dev = oci.dir().join("dev");
    for to in [
        format!("{}/alive", canary.path()),
        "/secret".into(),
        "/dev/zero".into(),
        "/proc/sysrq-trigger".into(),
    ] {
        for shared in [false, true] {
            let place = if shared { dev.clone() } else { rootfs.join("dev") };
            fs::create_dir_all(&place).unwrap();
            let _ = fs::remove_file(place.join("null"));
            symlink(&to, place.join("null")).unwrap();
            with(&oci, |config| {
                let mounts = config["mounts"].as_array_mut().unwrap();
                mounts.truncate(1);
                if shared {
                    let bind = json!({"destination": "/dev", "type": "bind", "source": arg(&dev), "options": ["rbind"]});
                    mounts.push(bind);
                }
                config["linux"]["maskedPaths"] = json!(["/secret", "/proc/kcore"]);
            });
            if started(&oci).is_some() {
                assert_eq!(
                    oci.ok(&["exec", "a", "sh", "-c", "cat /secret; stat -c %t:%T /secret"]),
                    "1:3\n",
                    "{to}"
                );
            }
            delete(&oci);
            canary.assert_untouched();
            let _ = fs::remove_file(place.join("null"));
        }
    }
}

/// 2025-52565: the terminal that a container gets is its own, and is bound on nothing that others put there.
#[test]
fn consoles_that_lead_elsewhere() {
    let root = Root::new();
    let canary = Canary::new(root.dir());
    let dev = root.host_dir("dev");
    for (name, to) in [
        ("console", format!("{}/alive", canary.path())),
        ("console", "/proc/sysrq-trigger".to_owned()),
        ("ptmx", format!("{}/alive", canary.path())),
        ("pts", canary.path().to_owned()),
    ] {
        let _ = fs::remove_dir_all(&dev);
        fs::create_dir_all(&dev).unwrap();
        symlink(&to, dev.join(name)).unwrap();
        let volume = format!("{}:/dev", arg(&dev));
        let image = crate::harness::busybox();
        let command = root.command([
            "run",
            "--rm",
            "-it",
            "-v",
            &volume,
            arg(&image),
            "sh",
            "-c",
            "tty; echo over",
        ]);
        let mut user = Terminal::start(&command, 24, 80);
        let code = user.wait();
        assert!(matches!(code, Some(0 | 125)), "{name}: {code:?}");
        canary.assert_untouched();
        assert_eq!(host::mounts_below(&dev), [], "{name}");
    }
    // A directory of the host's on /dev/pts, with a link or a file in place of the terminals' maker.
    let pts = root.host_dir("pts");
    symlink("/dev/pts/ptmx", pts.join("ptmx")).unwrap();
    fs::write(pts.join("0"), "").unwrap();
    let volume = format!("{}:/dev/pts", arg(&pts));
    let image = crate::harness::busybox();
    let command = root.command(["run", "--rm", "-it", "-v", &volume, arg(&image), "true"]);
    assert_eq!(Terminal::start(&command, 24, 80).wait(), Some(125));
    wait_until("all is gone", || root.traces().is_empty());
}

/// The same of `runtime-oci`: links in the bundle's own `/dev`, in one that is bound there, and on `/dev/pts`.
#[test]
fn consoles_that_lead_elsewhere_for_runtime_oci() {
    let args = ["sh", "-c", "tty; echo over"];
    let oci = Oci::new(&args);
    let canary = Canary::new(oci.dir());
    let file = format!("{}/alive", canary.path());
    let hostile = oci.dir().join("dev");
    let rootfs_dev = oci.bundle().join("rootfs/dev");
    for (name, to) in [
        ("console", &*file),
        ("console", "/proc/sysrq-trigger"),
        ("ptmx", &file),
        ("pts", canary.path()),
        ("pts/ptmx", &file),
    ] {
        for bound in [false, true] {
            let dev = if bound { &hostile } else { &rootfs_dev };
            let _ = fs::remove_dir_all(dev);
            fs::create_dir_all(dev.join(name).parent().unwrap()).unwrap();
            symlink(to, dev.join(name)).unwrap();
            fs::create_dir_all(&rootfs_dev).unwrap();
            oci.configure(
                |config| {
                    config["process"]["terminal"] = true.into();
                    let mounts = config["mounts"].as_array_mut().unwrap();
                    let at = mounts.iter().position(|mount| mount["destination"] == "/dev").unwrap();
                    mounts.remove(at);
                    let bind = |on: &str, from: &std::path::Path| json!({"destination": on, "type": "bind", "source": arg(from), "options": ["rbind"]});
                    match (bound, name.strip_prefix("pts/")) {
                        (true, Some(_)) => mounts.push(bind("/dev/pts", &hostile.join("pts"))),
                        (true, None) => mounts.insert(at, bind("/dev", &hostile)),
                        (false, _) => {}
                    }
                },
                &args,
            );
            let mut user = Terminal::start(&oci.command(&["run", "a"]), 24, 80);
            let code = user.wait();
            assert!(matches!(code, Some(0 | 1)), "{name}, {bound}: {code:?}");
            canary.assert_untouched();
            assert_eq!(host::mounts_below(dev), [], "{name}, {bound}");
            delete(&oci);
        }
    }
}

/// 2024-9407: what rides along in a word of a mount is no option of another one.
#[test]
fn options_within_options() {
    let oci = Oci::new(&["ls", "/x"]);
    let canary = Canary::new(oci.dir());
    let source = oci.dir().join("source");
    fs::create_dir(&source).unwrap();
    for words in [
        "rprivate,src=/",
        "bind,source=/",
        "ro,rbind,src=/",
        "mode=0,source=/",
        "lowerdir=/",
        "x\u{0}y",
        "ro\nsrc=/",
    ] {
        for kind in ["bind", "tmpfs"] {
            let mount = json!({"destination": "/x", "type": kind, "source": arg(&source), "options": ["rbind", words]});
            let mount = if kind == "tmpfs" {
                json!({"destination": "/x", "type": kind, "source": "tmpfs", "options": [words]})
            } else {
                mount
            };
            oci.configure(
                |config| config["mounts"].as_array_mut().unwrap().push(mount),
                &["ls", "/x"],
            );
            let out = oci.call(&["run", "a"]);
            // A bind mount has no options of a file system: they are left out with a warning, and what is bound is empty.
            let left_out = kind == "bind" && out.code == 0;
            assert!(out.code == 1 || left_out, "{kind} {words:?}: {out:?}");
            assert!(out.stdout.is_empty(), "{kind} {words:?}: {out:?}");
            assert!(
                !out.stderr.contains("panicked") && !out.stderr.contains(SECRET),
                "{kind} {words:?}: {out:?}"
            );
        }
    }
    canary.assert_untouched();
}

/// 2024-1753: a source below an image or a volume is a link to the host's.
#[test]
fn sources_that_are_links_of_images_and_volumes() {
    for form in forms() {
        let root = Root::new();
        let canary = Canary::new(root.dir());
        for (to, at) in [
            (canary.path().to_owned(), "/data"),
            (canary.up(), "/data"),
            (canary.path().to_owned(), "/data/nest"),
        ] {
            let layer = Layer::new().symlink("data", &to);
            let archive = Archive::busybox([layer]).with("Volumes", json!({at: {}}));
            let image = archive.write(root.dir(), "x.tar");
            let named = format!("filled:{at}");
            for options in [&[][..], &["-v", &named]] {
                let args = [
                    &["run", "--rm", form],
                    options,
                    &[arg(&image), "sh", "-c", "cat /data/* /data/*/*; ls /data/"],
                ]
                .concat();
                let out = root.call(args);
                assert!(!(out.stdout + &out.stderr).contains(SECRET), "{to}");
                canary.assert_untouched();
            }
            root.call(["volume", "rm", "filled"]);
        }
        // A part of a volume, which the container that has it changes.
        root.ok(["volume", "create", "shared"]);
        let content = root.store().join("volumes/shared/_data");
        let list = |subpath: &str| {
            let mount = format!("type=volume,src=shared,dst=/x,volume-subpath={subpath}");
            let image = crate::harness::busybox();
            root.call(["run", "--rm", "--mount", &mount, form, arg(&image), "ls", "/x"])
        };
        for (name, to) in [
            ("abs", canary.path().to_owned()),
            ("up", canary.up()),
            ("magic", "/proc/self/root".into()),
        ] {
            symlink(to, content.join(name)).unwrap();
            let out = list(name);
            assert!(out.code == 125 && out.stdout.is_empty(), "{name}: {out:?}");
        }
        for subpath in ["..", "../..", "a/../../..", "/../x"] {
            let out = list(subpath);
            // What goes up from the volume's root is the volume's root.
            assert!(
                !out.stdout.contains("_data") && !out.stdout.contains("shared"),
                "{subpath}: {out:?}"
            );
        }
        canary.assert_untouched();
        root.ok(["volume", "rm", "shared"]);
        root.assert_nothing_left();
    }
}
