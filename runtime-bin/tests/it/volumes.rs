//! `-v`, `--mount`, `--tmpfs`, and the image's own volumes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use serde_json::json;

use crate::harness::{Root, arg, busybox};
use crate::host::{self, Mount};
use crate::image::{Archive, Layer};

/// A tmpfs on the host, gone with the value.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn on(path: &Path) -> Tmpfs {
        fs::create_dir_all(path).unwrap();
        mount("of-the-test", path, "tmpfs", MountFlags::empty(), None).unwrap();
        Tmpfs(path.to_owned())
    }

    fn shared(path: &Path) -> Tmpfs {
        let tmpfs = Tmpfs::on(path);
        mount_change(path, MountPropagationFlags::SHARED).unwrap();
        tmpfs
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// The mount on a target in a container, of a `-v` option and the like.
#[track_caller]
fn mounted(root: &Root, options: &[&str], target: &str) -> Mount {
    let text = root.shell(options, "cat /proc/self/mounts");
    let line = text.lines().rfind(|line| line.split(' ').nth(1) == Some(target));
    let fields: Vec<&str> =
        line.unwrap_or_else(|| panic!("nothing on {target}: {text}")).split(' ').collect();
    Mount::parse(&format!("{} on {target} type {} ({})", fields[0], fields[2], fields[3]))
}

#[test]
fn a_directory_and_a_file() {
    let root = Root::new();
    let dir = root.host_dir("dir");
    fs::write(dir.join("file"), "in the directory\n").unwrap();
    let file = root.dir().join("single");
    fs::write(&file, "a file\n").unwrap();
    let (a, b) = (format!("{}:/a", arg(&dir)), format!("{}:/etc/b.conf", arg(&file)));
    let script = "cat /a/file /etc/b.conf; echo more >> /etc/b.conf; echo new > /a/new";
    assert_eq!(root.shell(&["-v", &a, "--volume", &b], script), "in the directory\na file");
    assert_eq!(fs::read_to_string(&file).unwrap(), "a file\nmore\n");
    assert_eq!(fs::read_to_string(dir.join("new")).unwrap(), "new\n");
    // The same by --mount, with the names that Docker has for each field.
    let a = format!("type=bind,source={},target=/a", arg(&dir));
    let b = format!("type=bind,src={},dst=/b,readonly", arg(&file));
    let script = "cat /a/new /b; (echo x > /b) 2>&1 | grep -o 'Read-only file system'";
    let expected = "new\na file\nmore\nRead-only file system";
    assert_eq!(root.shell(&["--mount", &a, "--mount", &b], script), expected);
    root.assert_nothing_left();
}

#[test]
fn a_relative_source() {
    let root = Root::new();
    fs::write(root.host_dir("dir").join("file"), "relative\n").unwrap();
    assert_eq!(root.shell(&["-v", "./dir:/a"], "cat /a/file"), "relative");
}

#[test]
fn read_only_is_recursive() {
    let root = Root::new();
    let dir = root.host_dir("dir");
    let below = Tmpfs::on(&dir.join("below"));
    fs::write(below.0.join("file"), "below\n").unwrap();
    let spec = |options: &str| format!("{}:/v{options}", arg(&dir));
    let script = "cat /v/below/file; for f in /v/x /v/below/x; do (echo x > $f) 2>/dev/null && echo wrote $f; done";
    assert_eq!(
        root.shell(&["-v", &spec("")], script),
        "below\nwrote /v/x\nwrote /v/below/x\n".trim_end()
    );
    fs::remove_file(dir.join("x")).unwrap();
    let out = root.busybox(&["-v", &spec(":ro")], &["sh", "-c", script]);
    assert_eq!(out.stdout, "below\n", "{out:?}");
    let mount = format!("type=bind,src={},dst=/v,ro", arg(&dir));
    let out = root.busybox(&["--mount", &mount], &["sh", "-c", script]);
    assert_eq!(out.stdout, "below\n", "{out:?}");
    assert!(!dir.join("x").exists());
    // Not recursive when that is asked for.
    let mount = format!("type=bind,src={},dst=/v,ro,bind-recursive=writable", arg(&dir));
    let out = root.busybox(&["--mount", &mount], &["sh", "-c", script]);
    assert_eq!(out.stdout, "below\nwrote /v/below/x\n", "{out:?}");
    // What is mounted below does not come along where that is asked for.
    let mount = format!("type=bind,src={},dst=/v,bind-recursive=disabled", arg(&dir));
    assert_eq!(root.shell(&["--mount", &mount], "ls /v/below"), "");
}

#[test]
fn nosuid_nodev_noexec() {
    let root = Root::new();
    let dir = root.host_dir("dir");
    let spec = |options: &str| format!("{}:/v{options}", arg(&dir));
    let plain = mounted(&root, &["-v", &spec("")], "/v");
    assert!(!["nosuid", "nodev", "noexec"].iter().any(|word| plain.has(&[word])), "{plain:?}");
    let all = mounted(&root, &["-v", &spec(":nosuid,nodev,noexec,ro")], "/v");
    assert!(all.has(&["ro", "nosuid", "nodev", "noexec"]), "{all:?}");
    let script = "cp /bin/busybox /v/echo; /v/echo ran";
    assert_eq!(root.shell(&["-v", &spec("")], script), "ran");
    let out = root.busybox(&["-v", &spec(":noexec")], &["sh", "-c", script]);
    assert_eq!((out.code, &*out.stdout), (126, ""), "{out:?}");
    // As the command itself: said which mount it is.
    root.fails(
        126,
        &["/v/echo", "noexec"],
        ["run", "--rm", "-v", &spec(":noexec"), arg(&busybox()), "/v/echo"],
    );
}

#[test]
fn propagation() {
    let root = Root::new();
    let outside = tempfile::tempdir().unwrap();
    let dir = outside.path().join("shared");
    let _shared = Tmpfs::shared(&dir);
    for (word, kinds) in [
        ("", ""),
        (":rprivate", ""),
        (":private", ""),
        (":rslave", "master"),
        (":slave", "master"),
        (":rshared", "shared"),
        (":shared", "shared"),
    ] {
        root.sleeper("box", &["--rm", "-v", &format!("{}:/v{word}", arg(&dir))]);
        let fields = host::propagation(root.pid("box"));
        let found: Vec<_> = fields["/v"].split(' ').map(|f| f.split(':').next().unwrap()).collect();
        assert_eq!(found.join(" "), kinds, "{word}");
        // What the host mounts there later is seen, or not.
        let later = Tmpfs::on(&dir.join("later"));
        fs::write(later.0.join("file"), "").unwrap();
        let seen = root.call(["exec", "box", "test", "-e", "/v/later/file"]).code == 0;
        assert_eq!(seen, !kinds.is_empty(), "{word}");
        drop(later);
        root.ok(["kill", "box"]);
        root.assert_nothing_left();
    }
    // The same by --mount.
    let mount = format!("type=bind,src={},dst=/v,bind-propagation=rslave", arg(&dir));
    root.sleeper("box", &["--rm", "--mount", &mount]);
    assert!(host::propagation(root.pid("box"))["/v"].starts_with("master:"));
    root.ok(["rm", "-f", "box"]);
}

#[test]
fn a_tmpfs() {
    let root = Root::new();
    let plain = mounted(&root, &["--tmpfs", "/t"], "/t");
    assert_eq!(plain.kind, "tmpfs");
    assert!(plain.has(&["rw", "nosuid", "nodev", "noexec"]), "{plain:?}");
    let options = ["--tmpfs", "/t:size=1m,mode=1750,exec"];
    let sized = mounted(&root, &options, "/t");
    assert!(sized.has(&["size=1024k", "mode=1750"]) && !sized.has(&["noexec"]), "{sized:?}");
    let spec = ["--mount", "type=tmpfs,dst=/t,tmpfs-size=65536,tmpfs-mode=700"];
    let mount = mounted(&root, &spec, "/t");
    assert!(mount.has(&["size=64k", "mode=700"]), "{mount:?}");
    assert_eq!(root.shell(&options, "echo x > /t/f; cat /t/f"), "x");
}

/// A named volume is filled from the image when it is new, and then kept.
#[test]
fn a_named_volume() {
    let root = Root::new();
    let layer = Layer::new().directory("data").file("data/of-image", 0o640, "image\n");
    let image = Archive::busybox([layer]).write(root.dir(), "x.tar");
    let run = |options: &[&str], script: &str| {
        root.ok([&["run", "--rm"], options, &[arg(&image), "sh", "-c", script]].concat())
    };
    let script =
        "cat /data/of-image; stat -c %a /data/of-image; echo mine > /data/of-image; rm -f /data/x";
    assert_eq!(run(&["-v", "one:/data"], script), "image\n640");
    let on_host = root.store().join("volumes/one/_data/of-image");
    assert_eq!(fs::read_to_string(&on_host).unwrap(), "mine\n");
    // Not filled again; at another target it is the same volume.
    assert_eq!(run(&["-v", "one:/data"], "cat /data/of-image"), "mine");
    assert_eq!(run(&["--mount", "type=volume,src=one,dst=/other"], "cat /other/of-image"), "mine");
    assert_eq!(run(&["-v", "two:/data:nocopy"], "ls -A /data"), "");
    assert_eq!(run(&["--mount", "src=three,dst=/data,volume-nocopy"], "ls -A /data"), "");
    // One that has content is not filled.
    run(&["-v", "four:/elsewhere"], "echo x > /elsewhere/own");
    assert_eq!(run(&["-v", "four:/data"], "ls /data"), "own");
    let mut left = root.leftovers();
    left.sort();
    assert_eq!(left, ["four", "one", "three", "two"].map(|name| format!("volumes/{name}")));
}

#[test]
fn the_images_volumes() {
    let root = Root::new();
    let layer = Layer::new().directory("data").file("data/of-image", 0o644, "image\n");
    let archive = Archive::busybox([layer]).with("Volumes", json!({"/data": {}, "/empty": {}}));
    let image = archive.write(root.dir(), "x.tar");
    root.ok(["run", "-d", "--name", "box", arg(&image), "sleep", "1000"]);
    assert_eq!(root.ok(["exec", "box", "cat", "/data/of-image"]), "image");
    let mounts = root.inspect("box")["Mounts"].clone();
    let mounts = mounts.as_array().unwrap();
    assert_eq!(mounts.len(), 2, "{mounts:?}");
    for mount in mounts {
        assert_eq!(mount["Type"], "volume");
        assert_eq!(mount["Name"].as_str().unwrap().len(), 64);
    }
    root.ok(["exec", "box", "sh", "-c", "echo x > /data/new"]);
    let upper = root.inspect("box")["GraphDriver"]["Data"]["UpperDir"].clone();
    assert!(!Path::new(upper.as_str().unwrap()).join("data/new").exists());
    root.ok(["rm", "-f", "-v", "box"]);
    root.assert_nothing_left();
    // The user's mount takes its place; with --rm the others go.
    let dir = format!("{}:/data", arg(&root.host_dir("dir")));
    assert_eq!(root.ok(["run", "--rm", "-v", &dir, arg(&image), "ls", "-A", "/data"]), "");
    root.assert_nothing_left();
}

/// Parents before children, in whatever order they are given.
#[test]
fn volumes_in_volumes() {
    let root = Root::new();
    let (outer, inner) = (root.host_dir("outer"), root.host_dir("inner"));
    fs::create_dir(outer.join("deep")).unwrap();
    fs::write(inner.join("file"), "inner\n").unwrap();
    let (outer, inner) = (format!("{}:/v", arg(&outer)), format!("{}:/v/deep", arg(&inner)));
    assert_eq!(root.shell(&["-v", &inner, "-v", &outer], "cat /v/deep/file"), "inner");
}

#[test]
fn missing_targets_are_made() {
    let root = Root::new();
    let dir = root.host_dir("dir");
    let file = root.dir().join("single");
    fs::write(&file, "a file\n").unwrap();
    let a = format!("{}:/not/made/yet", arg(&dir));
    let b = format!("{}:/nor/this/file", arg(&file));
    let script = "stat -c '%F %a %u' /not /not/made; cat /nor/this/file";
    let directory = "directory 755 0";
    assert_eq!(
        root.shell(&["-v", &a, "-v", &b], script),
        format!("{directory}\n{directory}\na file")
    );
    // Where the root is read-only, too.
    assert_eq!(root.shell(&["--read-only", "-v", &a], "ls -d /not/made/yet"), "/not/made/yet");
}

/// Links of the image that lead out of the root lead to what has that name inside.
#[test]
fn a_target_behind_a_link_that_leads_out() {
    let root = Root::new();
    let canary = root.host_dir("canary");
    fs::write(canary.join("file"), "unharmed").unwrap();
    let up = format!("{}{}", "../".repeat(20), arg(&canary).trim_start_matches('/'));
    let layer = Layer::new()
        .symlink("absolute", arg(&canary))
        .symlink("relative", &up)
        .symlink("proc-link", "/proc/self/root/../../../tmp")
        .symlink("loop", "loop");
    let image = Archive::busybox([layer]).write(root.dir(), "x.tar");
    let dir = root.host_dir("dir");
    fs::write(dir.join("mine"), "").unwrap();
    for link in ["absolute", "relative"] {
        let spec = format!("{}:/{link}/made", arg(&dir));
        let script = format!("ls /{link}/made; ls {}/made", arg(&canary));
        let args = ["run", "--rm", "-v", &spec, arg(&image), "sh", "-c", &script];
        assert_eq!(root.ok(args), "mine\nmine", "{link}");
        let spec = format!("{}:/{link}", arg(&dir));
        let out = root.call(["run", "--rm", "-v", &spec, arg(&image), "ls", &format!("/{link}/")]);
        assert!(out.code == 125 || out.stdout == "mine\n", "{link}: {out:?}");
    }
    for link in ["proc-link", "loop"] {
        let spec = format!("{}:/{link}/made", arg(&dir));
        let out = root.call(["run", "--rm", "-v", &spec, arg(&image), "true"]);
        assert!(matches!(out.code, 0 | 125), "{link}: {out:?}");
    }
    assert_eq!(fs::read_dir(&canary).unwrap().count(), 1, "the host's directory was changed");
    assert_eq!(fs::read_to_string(canary.join("file")).unwrap(), "unharmed");
    assert_eq!(host::mounts_below(root.dir()), []);
    root.assert_nothing_left();
}

/// The image's `/proc`, `/dev` or `/sys` is a link to a directory of the host.
#[test]
fn standard_mounts_on_links() {
    let root = Root::new();
    let canary = root.host_dir("canary");
    for name in ["proc", "dev", "sys", "etc/resolv.conf", "etc/hosts"] {
        let archive = Archive::busybox([Layer::new().symlink(name, arg(&canary))]);
        let image = archive.write(root.dir(), "x.tar");
        let out = root.call(["run", "--rm", arg(&image), "true"]);
        assert!(matches!(out.code, 0 | 125), "{name}: {out:?}");
        assert_eq!(fs::read_dir(&canary).unwrap().count(), 0, "{name}: the host was written to");
        root.assert_nothing_left();
    }
}

/// A link on the host is followed there, as the user's own.
#[test]
fn a_source_that_is_a_link() {
    let root = Root::new();
    let dir = root.host_dir("dir");
    fs::write(dir.join("file"), "linked\n").unwrap();
    let link = root.dir().join("link");
    symlink(&dir, &link).unwrap();
    let spec = format!("{}:/v", arg(&link));
    assert_eq!(root.shell(&["-v", &spec], "cat /v/file"), "linked");
}

/// `mount` in the container tells where volumes sit: the host's file system and device.
#[test]
fn the_table_shows_the_device() {
    let root = Root::new();
    let dir = root.host_dir("dir");
    let there = host::mount_at(&dir);
    let mount = mounted(&root, &["-v", &format!("{}:/v", arg(&dir))], "/v");
    assert_eq!((mount.source, mount.kind), (there.source, there.kind));
    let _tmpfs = Tmpfs::on(&dir);
    let mount = mounted(&root, &["-v", &format!("{}:/v", arg(&dir))], "/v");
    assert_eq!((&*mount.source, &*mount.kind), ("of-the-test", "tmpfs"));
}
