//! Images: names, lists, archives of them, and new ones of containers and of root file systems.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Root, arg, busybox, image, wait_until};
use crate::image::{Archive, Layer, busybox_layer, sha256};

fn id(root: &Root, name: &str) -> String {
    root.ok(["images", "-q", "--no-trunc", name]).lines().next().unwrap_or_default().to_owned()
}

fn inspect(root: &Root, image: &str) -> Value {
    let text = root.ok(["image", "inspect", image]);
    serde_json::from_str::<Vec<Value>>(&text).unwrap().remove(0)
}

/// The names in a tar.
fn members(tar: &Path) -> Vec<String> {
    let mut tar = tar::Archive::new(File::open(tar).unwrap());
    let entries = tar.entries().unwrap();
    entries.map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
}

fn no_parts(dir: &Path) {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let parts: Vec<_> = names.filter(|name| name.to_string_lossy().ends_with(".part")).collect();
    assert!(parts.is_empty(), "{parts:?}");
}

#[test]
fn names_come_and_go() {
    let root = Root::new();
    root.ok(["load", "-i", arg(&busybox())]);
    assert_eq!(root.ok(["tag", "localhost/busybox", "mine:1"]), "");
    root.ok(["image", "tag", "mine:1", "registry:5000/mine"]);
    let first = id(&root, "mine");
    assert_eq!(id(&root, "registry:5000/mine:latest"), first);
    root.fails(1, &["nosuch"], ["tag", "nosuch", "x"]);
    root.fails(1, &["No:Good:Name"], ["tag", "mine:1", "No:Good:Name"]);
    // One of several names is taken away, and the image stays.
    assert_eq!(root.ok(["rmi", "mine:1"]), "Untagged: mine:1");
    root.fails(1, &["several names"], ["rmi", &first[7..19]]);
    // One that a container is of, running or not, loses its names at most.
    root.ok(["run", "--name", "ended", "localhost/busybox", "true"]);
    let out = root.call(["rmi", "-f", &first[7..19], "nosuch"]);
    assert_eq!(
        out.stdout,
        "Untagged: localhost/busybox:latest\nUntagged: registry:5000/mine:latest\n"
    );
    assert!(out.code == 0 && out.stderr.contains("nosuch"), "{out:?}");
    root.fails(1, &["conflict", "ended"], ["rmi", "-f", &first]);
    assert_eq!(root.ok(["images", "-q", "--no-trunc"]), first);
}

#[test]
fn the_last_name_takes_the_image_with_it() {
    let root = Root::new();
    root.ok(["load", "-i", arg(&image("layers-5", "docker-oci"))]);
    let (first, name) = (id(&root, "localhost/layers-5"), "localhost/layers-5");
    root.ok(["run", "--name", "ended", name, "true"]);
    root.fails(1, &["conflict", "container ended"], ["rmi", name]);
    assert_eq!(root.ok(["rmi", "-f", name]), format!("Untagged: {name}:latest"));
    root.fails(1, &["conflict"], ["rmi", "-f", &first]);
    assert_eq!(root.ok(["images", "--filter", "dangling=true", "-q"]), first[7..19]);
    assert_eq!(root.ok(["image", "prune", "-f"]), "Total reclaimed space: 0B");
    root.ok(["rm", "ended"]);
    let pruned = root.ok(["image", "prune", "-f"]);
    assert!(pruned.starts_with(&format!("Deleted Images:\ndeleted: {first}\n\n")), "{pruned}");
    assert!(!pruned.ends_with(" 0B"), "{pruned}");
    // By name, and all of it is told: the image, then its layers from the top.
    root.ok(["load", "-i", arg(&image("layers-5", "docker-oci"))]);
    let removed = root.ok(["image", "rm", name]);
    let lines: Vec<&str> = removed.lines().collect();
    assert_eq!(lines[..2], [format!("Untagged: {name}:latest"), format!("Deleted: {first}")]);
    assert!(lines.len() > 5 && lines[2..].iter().all(|line| line.starts_with("Deleted: sha256:")));
    assert_eq!(root.ok(["images", "-q"]), "");
    let out = root.call(["rmi", "-f", "nosuch"]);
    assert!(out.code == 0 && out.stderr.contains("nosuch"), "{out:?}");
    // Unused ones go with -a though they have names.
    root.ok(["load", "-i", arg(&busybox())]);
    assert_eq!(root.ok(["image", "prune", "-f"]), "Total reclaimed space: 0B");
    root.ok(["image", "prune", "-a", "-f"]);
    assert_eq!(root.ok(["image", "ls", "-q"]), "");
}

#[test]
fn images_are_filtered_and_formatted() {
    let root = Root::new();
    let archive = Archive::busybox([]).with("Labels", json!({"tier": "web"}));
    root.ok(["load", "-i", arg(&archive.write(root.dir(), "labelled.tar"))]);
    root.ok(["load", "-i", arg(&busybox())]);
    root.ok(["tag", "localhost/busybox", "other/busybox:1.37"]);
    let names = |args: &[&str]| {
        let args = [&["images", "--format", "{{.Repository}}:{{.Tag}}"], args].concat();
        let mut names: Vec<String> = root.ok(args).lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    let (busybox, test) = ("localhost/busybox:latest", "localhost/test:latest");
    assert_eq!(names(&[]), [busybox, test, "other/busybox:1.37"]);
    assert_eq!(names(&["localhost/*"]), [busybox, test]);
    assert_eq!(names(&["--filter", "reference=*/busybox:1*"]), ["other/busybox:1.37"]);
    assert_eq!(names(&["--filter", "label=tier=web"]), [test]);
    assert_eq!(names(&["--filter", "dangling=true"]), [""; 0]);
    let out = root.call_with_input(["import", "-", "new:1"], &busybox_layer());
    assert_eq!(out.code, 0, "{out:?}");
    assert_eq!(names(&["--filter", &format!("since={test}")]), ["new:1"]);
    assert_eq!(names(&["--filter", "before=new:1"]).len(), 3);
    assert_eq!(root.ok(["images"]).lines().nth(1).unwrap().split_whitespace().next(), Some("new"));
    root.fails(1, &["colour"], ["images", "--filter", "colour=red"]);
    root.fails(1, &["nosuch"], ["images", "--filter", "before=nosuch"]);
    let line = root.ok(["images", "--format", "json", "localhost/test"]);
    let value: Value = serde_json::from_str(&line).unwrap();
    let keys = [
        "Containers",
        "CreatedAt",
        "CreatedSince",
        "Digest",
        "ID",
        "Repository",
        "SharedSize",
        "Size",
        "Tag",
        "UniqueSize",
        "VirtualSize",
    ];
    assert_eq!(value.as_object().unwrap().keys().collect::<Vec<_>>(), keys);
    assert!(root.ok(["images", "--digests"]).lines().next().unwrap().contains("DIGEST"));
    assert_eq!(inspect(&root, test)["Config"]["Labels"]["tier"], "web");
    let history = root.ok(["history", "--no-trunc", test]);
    assert!(history.starts_with("IMAGE") && history.contains("a test"), "{history}");
    assert_eq!(root.ok(["image", "history", "-q", test]), id(&root, "localhost/test")[7..19]);
}

#[test]
fn what_is_saved_is_the_same_every_time_and_can_be_loaded() {
    let root = Root::new();
    root.ok(["load", "-i", arg(&image("layers-5", "docker-containerd"))]);
    root.ok(["tag", "localhost/layers-5", "five:1"]);
    let (one, two) = (root.dir().join("one.tar"), root.dir().join("two.tar"));
    for format in ["docker-archive", "oci-archive"] {
        root.ok(["save", "--format", format, "-o", arg(&one), "five:1", "localhost/layers-5"]);
        // To standard output, in another order, over a store of what was saved.
        let other = Root::new();
        let loaded = other.ok(["load", "-i", arg(&one)]);
        assert_eq!(loaded, "Loaded image: five:1\nLoaded image: localhost/layers-5:latest");
        let file = File::create(&two).unwrap();
        let args = ["save", "--format", format, "localhost/layers-5", "five"];
        let status = other.command(args).stdout(file).status().unwrap();
        assert!(status.success());
        assert!(fs::read(&one).unwrap() == fs::read(&two).unwrap(), "{format} changes");
        let run = |root: &Root| {
            root.ok([
                "run",
                "--rm",
                "-u",
                "0",
                "five:1",
                "/bin/busybox",
                "find",
                "/",
                "-xdev",
                "-exec",
                "stat",
                "-c",
                "%n %F %a %u %g %s",
                "{}",
                "+",
            ])
        };
        let shown = |root: &Root| {
            let mut lines: Vec<String> = run(root).lines().map(str::to_owned).collect();
            lines.retain(|line| {
                !line.starts_with("/proc")
                    && !line.starts_with("/dev")
                    && !line.starts_with("/etc/")
            });
            lines.sort();
            lines
        };
        assert_eq!(shown(&root), shown(&other));
    }
    let names = members(&one);
    assert!(
        names.contains(&"index.json".to_owned()) && !names.contains(&"manifest.json".to_owned())
    );
    no_parts(root.dir());
}

#[test]
fn a_save_that_fails_leaves_nothing() {
    let root = Root::new();
    root.ok(["load", "-i", arg(&busybox())]);
    let out = root.dir().join("out.tar");
    root.fails(1, &["nosuch"], ["save", "-o", arg(&out), "localhost/busybox", "nosuch"]);
    assert!(!out.exists());
    root.fails(1, &["none/out.tar"], ["save", "-o", "none/out.tar", "localhost/busybox"]);
    root.fails(1, &["directory"], ["save", "-o", arg(root.dir()), "localhost/busybox"]);
    root.fails(1, &["No space left"], ["save", "-o", "/dev/full", "localhost/busybox"]);
    root.fails(125, &["docker-archive"], ["save", "--format", "zip", "localhost/busybox"]);
    no_parts(root.dir());
}

#[test]
fn a_containers_changes_become_an_image() {
    let root = Root::new();
    let base = Archive::busybox([Layer::new()
        .directory("gone")
        .file("gone/file", 0o644, "x")
        .directory("again")
        .file("again/old", 0o644, "x")
        .file("kept", 0o644, "below")]);
    let base = base.with("Cmd", json!(["sh"])).with("Healthcheck", json!({"Test": ["NONE"]}));
    root.ok(["load", "-i", arg(&base.write(root.dir(), "base.tar"))]);
    let script = "rm -r /gone /again; mkdir /again; echo new > /again/new; ln /again/new /again/linked; \
        chown 7:8 /again/new; chmod 4711 /again/new; ln -s /kept /link; mknod /fifo p; mkdir -p /v; \
        echo in a volume > /v/file; echo is up > /up; while :; do sleep 1000; done";
    root.ok([
        "run",
        "-d",
        "--name",
        "box",
        "-e",
        "A=b",
        "-w",
        "/again",
        "-v",
        "/v",
        "--label",
        "mine=yes",
        "localhost/test",
        "sh",
        "-c",
        script,
    ]);
    wait_until("the changes", || root.call(["exec", "box", "cat", "/up"]).code == 0);
    let first = root.ok([
        "commit",
        "-m",
        "a message",
        "-a",
        "me",
        "-c",
        "CMD [\"cat\", \"/again/new\"]",
        "-c",
        "ENV C=${A}d",
        "box",
        "made",
    ]);
    assert!(first.starts_with("sha256:") && first.len() == 71, "{first}");
    let value = inspect(&root, "made");
    let config = &value["Config"];
    assert_eq!(config["Cmd"], json!(["cat", "/again/new"]));
    assert_eq!(
        (&config["WorkingDir"], &config["Labels"]["mine"]),
        (&json!("/again"), &json!("yes"))
    );
    assert_eq!(config["Healthcheck"], json!({"Test": ["NONE"]}));
    let env = config["Env"].as_array().unwrap();
    assert!(env.contains(&json!("A=b")) && env.contains(&json!("C=bd")), "{env:?}");
    assert_eq!((&value["Author"], &value["Comment"]), (&json!("me"), &json!("a message")));
    assert!(root.ok(["history", "made"]).lines().nth(1).unwrap().contains("a message"));
    assert_eq!(root.ok(["run", "--rm", "made"]), "new");
    let look = "ls -d /gone /again/old 2>/dev/null; stat -c '%u %g %a %h' /again/new; readlink /link; \
        stat -c %F /fifo; cat /kept; ls /v";
    let shown = root.ok(["run", "--rm", "made", "sh", "-c", look]);
    assert_eq!(shown, "7 8 4711 2\n/kept\nfifo\nbelow");
    // The files that are bound over the image's are none of it, and not what was made for them.
    root.ok(["export", "-o", "made.tar", "box"]);
    root.ok(["stop", "-t", "0", "box"]);
    // Of one that does not run, and without a name.
    let second = root.ok(["commit", "--pause=false", "box"]);
    assert_ne!(first, second);
    assert_eq!(inspect(&root, &second)["RepoTags"], json!([]));
    assert_eq!(root.ok(["ps", "-aq"]).lines().count(), 1);
    root.fails(1, &["RUN x", "valid change"], ["commit", "-c", "RUN x", "box", "bad"]);
    root.fails(1, &["Bad Name"], ["commit", "box", "Bad Name"]);
    root.fails(1, &["nosuch"], ["commit", "nosuch", "x"]);
    root.ok(["rm", "box"]);
    // What was committed is written the same again: its ids last.
    root.ok(["save", "-o", "saved.tar", "made"]);
    let layers: Vec<Value> = value["RootFS"]["Layers"].as_array().unwrap().clone();
    let top = layers.last().unwrap().as_str().unwrap().replace("sha256:", "blobs/sha256/");
    assert!(members(&root.dir().join("saved.tar")).contains(&top));
}

#[test]
fn a_root_file_system_goes_out_and_comes_back() {
    let root = Root::new();
    root.ok([
        "run",
        "--name",
        "box",
        "-v",
        "data:/data",
        arg(&busybox()),
        "sh",
        "-c",
        "echo x > /file; chmod 640 /file; chown 1:2 /file; echo no > /data/no",
    ]);
    let out = root.dir().join("root.tar");
    root.ok(["export", "-o", arg(&out), "box"]);
    let names = members(&out);
    for there in ["./", "file", "data/", "bin/"] {
        assert!(names.contains(&there.to_owned()), "no {there}");
    }
    assert!(!names.contains(&"data/no".to_owned()), "what is mounted is no part of it");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(arg(root.dir())), "{mounts}");
    let args =
        ["import", "-c", "CMD [\"cat\", \"/file\"]", "-m", "from there", arg(&out), "back:1"];
    let id = root.ok(args);
    assert_eq!(root.ok(["run", "--rm", "back:1"]), "x");
    assert_eq!(root.ok(["run", "--rm", "back:1", "stat", "-c", "%a %u %g", "/file"]), "640 1 2");
    let value = inspect(&root, "back:1");
    assert_eq!((&value["Id"], &value["Comment"]), (&json!(id), &json!("from there")));
    let tar = fs::read(&out).unwrap();
    assert_eq!(value["RootFS"]["Layers"], json!([format!("sha256:{}", sha256(&tar))]));
    // From a pipe; and what a pipe takes of a container that runs.
    let imported = root.call_with_input(["import", "-", "piped"], &busybox_layer());
    assert_eq!(imported.code, 0, "{imported:?}");
    assert!(root.ok(["history", "piped"]).contains("Imported from -"));
    root.sleeper("runs", &[]);
    let mut pipe =
        root.command(["export", "runs"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut bytes = Vec::new();
    pipe.stdout.take().unwrap().read_to_end(&mut bytes).unwrap();
    assert!(pipe.wait().unwrap().success());
    fs::write(&out, bytes).unwrap();
    assert!(members(&out).contains(&"bin/".to_owned()));
    let before = root.ok(["images", "-q"]);
    root.fails(1, &["nosuch.tar"], ["import", "nosuch.tar"]);
    root.fails(1, &["curl"], ["import", "https://example.com/x.tar"]);
    let broken = root.call_with_input(["import", "-", "broken"], &busybox_layer()[..5000]);
    assert!(broken.code == 1 && broken.stderr.contains("standard input"), "{broken:?}");
    root.fails(1, &["nosuch"], ["export", "nosuch"]);
    assert_eq!(root.ok(["images", "-q"]), before);
}
