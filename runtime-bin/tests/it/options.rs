//! `run`'s options, as Docker has them.

use serde_json::json;

use crate::harness::{Root, arg, busybox, is_id, wait_until};
use crate::image::{Archive, Layer};

#[test]
fn the_exit_status_is_the_commands() {
    let root = Root::new();
    for status in [0, 1, 42, 125, 126, 127, 255] {
        let out = root.busybox(&[], &["sh", "-c", &format!("exit {status}")]);
        assert_eq!((out.code, &*out.stderr), (status, ""), "{out:?}");
    }
    root.assert_nothing_left();
}

#[test]
fn output_goes_where_it_should() {
    let root = Root::new();
    let out = root.busybox(&[], &["sh", "-c", "echo out; echo err >&2; echo more"]);
    assert_eq!((&*out.stdout, &*out.stderr), ("out\nmore\n", "err\n"));
}

#[test]
fn much_output_arrives_whole() {
    let root = Root::new();
    let script =
        "i=0; while [ $i -lt 20 ]; do head -c 100000 /dev/zero | tr '\\0' x; i=$((i+1)); done";
    assert_eq!(root.shell(&[], script).len(), 2_000_000);
}

#[test]
fn interactive() {
    let root = Root::new();
    let image = busybox();
    let run = |options: &[&str], input: &[u8]| {
        let args = [&["run", "--rm"], options, &[arg(&image), "cat"]].concat();
        root.call_with_input(args, input)
    };
    assert_eq!(run(&["-i"], b"some words\n").stdout, "some words\n");
    assert_eq!(run(&["--interactive"], b"").stdout, "");
    // Without -i it is /dev/null.
    assert_eq!(run(&[], b"some words\n").stdout, "");
    let large = vec![b'y'; 3 << 20];
    assert_eq!(run(&["-i"], &large).stdout.len(), large.len());
}

#[test]
fn detached() {
    let root = Root::new();
    let image = busybox();
    let script = "echo out; echo err >&2; sleep 1000";
    let options = ["run", "-d", "--name", "box", "--log-driver", "json-file"];
    let id = root.ok([&options[..], &[arg(&image), "sh", "-c", script]].concat());
    assert!(is_id(&id), "{id}");
    // Its output is kept, as Docker's json-file driver does.
    let log = root.store().join("containers").join(&id).join(format!("{id}-json.log"));
    assert_eq!(root.inspect("box")["LogPath"], arg(&log));
    let mut text = String::new();
    wait_until("the log", || {
        text = std::fs::read_to_string(&log).unwrap_or_default();
        text.lines().count() == 2
    });
    let mut lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.sort_by_key(|line| line["stream"].to_string());
    assert_eq!((&lines[0]["stream"], &lines[0]["log"]), (&json!("stderr"), &json!("err\n")));
    assert_eq!((&lines[1]["stream"], &lines[1]["log"]), (&json!("stdout"), &json!("out\n")));
    assert!(lines[0]["time"].as_str().unwrap().ends_with('Z'));
    root.ok(["rm", "-f", "box"]);
    root.assert_nothing_left();
}

#[test]
fn removed_only_when_asked() {
    let root = Root::new();
    root.ok(["run", "--name", "stays", arg(&busybox()), "sh", "-c", "echo x > /file"]);
    assert_eq!(root.inspect("stays")["State"]["Status"], "exited");
    let upper = root.inspect("stays")["GraphDriver"]["Data"]["UpperDir"].clone();
    let file = std::path::Path::new(upper.as_str().unwrap()).join("file");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "x\n");
    root.ok(["rm", "stays"]);
    assert!(!file.exists());
    root.assert_nothing_left();
}

#[test]
fn names_are_made_up() {
    let root = Root::new();
    root.ok(["run", "-d", arg(&busybox()), "true"]);
    let id = root.ok(["ps", "-a", "-q"]);
    let name = root.inspect(&id)["Name"].as_str().unwrap().to_owned();
    assert!(name.starts_with('/') && name.contains('_'), "{name}");
    assert_eq!(root.inspect(&name[1..])["Name"], name);
    root.ok(["rm", "-f", &name[1..]]);
    root.assert_nothing_left();
}

#[test]
fn environment() {
    let root = Root::new();
    let layer = Layer::new().directory("x");
    let env = json!(["PATH=/bin", "OF_IMAGE=1", "CHANGED=image"]);
    let image = Archive::busybox([layer]).with("Env", env).write(root.dir(), "x.tar");
    let options = ["-e", "CHANGED=flag", "-e", "NEW=a=b c", "-e", "FROM_CALLER", "-e", "EMPTY="];
    let options = [&options[..], &["-e", "NOT_SET", "--env", "LONG=1"]].concat();
    let args = [&["run", "--rm"], &options[..], &[arg(&image), "env"]].concat();
    let mut command = root.command(args);
    command.env("FROM_CALLER", "the caller's").env("SECRET_OF_CALLER", "1").env_remove("NOT_SET");
    let out = crate::harness::Started::new(command, None).wait();
    let lines: Vec<&str> = out.stdout.lines().collect();
    for line in ["OF_IMAGE=1", "CHANGED=flag", "NEW=a=b c", "FROM_CALLER=the caller's", "EMPTY="] {
        assert!(lines.contains(&line), "no {line} in {out:?}");
    }
    assert!(lines.contains(&"LONG=1") && lines.contains(&"PATH=/bin"), "{out:?}");
    assert!(lines.contains(&"HOME=/root"), "{out:?}");
    assert!(lines.iter().any(|line| line.starts_with("HOSTNAME=")), "{out:?}");
    assert!(!out.stdout.contains("NOT_SET") && !out.stdout.contains("SECRET"), "{out:?}");
    assert!(!out.stdout.contains("TERM="), "{out:?}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("CHANGED=")).count(), 1);
}

#[test]
fn working_directory() {
    let root = Root::new();
    assert_eq!(root.shell(&[], "pwd"), "/");
    assert_eq!(root.shell(&["-w", "/etc"], "pwd"), "/etc");
    // It is made, as Docker does.
    for option in ["-w", "--workdir"] {
        let shown = root.shell(&[option, "/not/made/yet"], "pwd; ls -ld .");
        assert!(shown.starts_with("/not/made/yet\ndrwxr-xr-x"), "{shown}");
    }
    let image =
        Archive::busybox([]).with("WorkingDir", json!("/of/image")).write(root.dir(), "x.tar");
    assert_eq!(root.ok(["run", "--rm", arg(&image), "pwd"]), "/of/image");
}

#[test]
fn user() {
    let root = Root::new();
    let layer = Layer::new()
        .file("etc/passwd", 0o644, "root:x:0:0::/root:/bin/sh\napp:x:1234:2345::/opt:/bin/sh\n")
        .file("etc/group", 0o644, "root:x:0:\napp:x:2345:\nextra:x:3456:app\nother:x:4567:\n");
    let image = Archive::busybox([layer]).with("User", json!("app")).write(root.dir(), "x.tar");
    let ids = |options: &[&str]| {
        let script = "id -u; id -g; id -G; echo $HOME";
        let shown =
            root.ok([&["run", "--rm"], options, &[arg(&image), "sh", "-c", script]].concat());
        shown.lines().collect::<Vec<_>>().join("|")
    };
    let of_app = "1234|2345|2345 3456|/opt";
    assert_eq!(ids(&[]), of_app);
    assert_eq!(ids(&["-u", "app"]), of_app);
    assert_eq!(ids(&["-u", "1234"]), of_app);
    assert_eq!(ids(&["--user", "root"]), "0|0|0|/root");
    assert_eq!(ids(&["-u", "app:other"]), "1234|4567|4567|/opt");
    // Numbers need no entry.
    assert_eq!(ids(&["-u", "77:88"]), "77|88|88|/");
    assert_eq!(ids(&["-u", "77"]), "77|0|0|/");
    assert_eq!(ids(&["-u", "4294967294:4294967294"]), "4294967294|4294967294|4294967294|/");
}

#[test]
fn entry_point() {
    let root = Root::new();
    let layer = Layer::new().file("entry", 0o755, "#!/bin/sh\necho \"entry($#): $*\"\n");
    let archive = Archive::busybox([layer])
        .with("Entrypoint", json!(["/entry", "first"]))
        .with("Cmd", json!(["of", "image"]));
    let image = archive.write(root.dir(), "x.tar");
    let run = |options: &[&str], command: &[&str]| {
        root.ok([&["run", "--rm"], options, &[arg(&image)], command].concat())
    };
    assert_eq!(run(&[], &[]), "entry(3): first of image");
    assert_eq!(run(&[], &["mine", "a b"]), "entry(3): first mine a b");
    // What comes after the image is the command's, options too.
    assert_eq!(run(&[], &["-d", "--rm"]), "entry(3): first -d --rm");
    // It drops the image's command.
    assert_eq!(run(&["--entrypoint", "/entry"], &[]), "entry(0):");
    assert_eq!(run(&["--entrypoint", "echo"], &["x"]), "x");
    assert_eq!(run(&["--entrypoint", ""], &["echo", "cleared"]), "cleared");
}

#[test]
fn host_name() {
    let root = Root::new();
    let shown = root
        .shell(&["--hostname", "web.example"], "hostname; cat /etc/hostname; grep web /etc/hosts");
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[..2], ["web.example", "web.example"]);
    assert!(shown.lines().nth(2).is_some_and(|line| line.contains("web.example")), "{shown}");
    // That of the host, where the network is.
    let own = rustix::system::uname();
    let own = own.nodename().to_str().unwrap();
    assert_eq!(root.shell(&["--network", "host"], "hostname"), own);
    assert_eq!(root.shell(&["-h", "short"], "hostname"), "short");
}

#[test]
fn read_only() {
    let root = Root::new();
    let volume = root.host_dir("volume");
    let spec = format!("{}:/volume", arg(&volume));
    let script = "(echo x > /file) 2>&1; (mkdir /etc/x) 2>&1; echo x > /volume/file && echo x > /tmpfs/file \
        && echo x > /dev/shm/file && echo done; mount | head -n 1 | cut -c 1-29";
    let options = ["--read-only", "-v", &spec, "--tmpfs", "/tmpfs"];
    let shown = root.shell(&options, script);
    assert_eq!(shown.matches("Read-only file system").count(), 2, "{shown}");
    assert!(shown.contains("done"), "{shown}");
    assert!(shown.ends_with("overlay on / type overlay (ro"), "{shown}");
}

#[test]
fn network_of_the_host() {
    let root = Root::new();
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let seen = root.shell(&["--network", "host"], "readlink /proc/self/ns/net");
    assert_eq!(seen, own.to_str().unwrap());
    let seen = root.shell(&["--net=none"], "readlink /proc/self/ns/net");
    assert_ne!(seen, own.to_str().unwrap());
}

#[test]
fn labels_and_the_configuration_are_kept() {
    let root = Root::new();
    let archive = Archive::busybox([])
        .with("Labels", json!({"a": "image", "b": "image"}))
        .with("ExposedPorts", json!({"80/tcp": {}}));
    let image = archive.write(root.dir(), "x.tar");
    let args = ["run", "-d", "--name", "box", "--label", "b=flag", "-l", "c", "-e", "X=1"];
    root.ok([&args[..], &[arg(&image), "sleep", "1000"]].concat());
    let value = root.inspect("box");
    assert_eq!(value["Config"]["Labels"], json!({"a": "image", "b": "flag", "c": ""}));
    assert_eq!(value["Config"]["ExposedPorts"], json!({"80/tcp": {}}));
    assert_eq!(value["Config"]["Cmd"], json!(["sleep", "1000"]));
    assert_eq!(value["Path"], "sleep");
    assert_eq!(value["Args"], json!(["1000"]));
    let env = value["Config"]["Env"].as_array().unwrap();
    assert!(env.contains(&json!("X=1")), "{env:?}");
    assert_eq!(value["HostConfig"]["NetworkMode"], "none");
}
