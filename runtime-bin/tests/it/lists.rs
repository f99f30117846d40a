//! Lists, formats and the small verbs: `ps`, `inspect`, `volume`, `system`, `rename`, `top`, `wait`.

use serde_json::{Value, json};

use crate::harness::{Root, arg, busybox, image};

/// The lines that a command prints.
fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

#[test]
fn ps_filters_and_formats() {
    let root = Root::new();
    let id = root.sleeper("web", &["-l", "tier=front", "-l", "x", "-v", "data:/data"]);
    let image = busybox();
    root.fails(
        3,
        &[],
        ["run", "--name", "old", "-l", "tier=back", arg(&image), "sh", "-c", "exit 3"],
    );
    let names = |options: &[&str]| {
        let args = [&["ps", "--format", "{{.Names}}"], options].concat();
        root.ok(args)
    };
    assert_eq!(names(&[]), "web");
    assert_eq!(names(&["-a"]), "old\nweb");
    assert_eq!(names(&["-l"]), "old");
    assert_eq!(names(&["-n", "1"]), "old");
    assert_eq!(names(&["-n", "5"]), "old\nweb");
    let image_id = root.inspect("web")["Image"].as_str().unwrap().to_owned();
    for (filter, expected) in [
        ("name=we", "web"),
        ("name=^ld$", ""),
        ("name=^(old|web)$", "old\nweb"),
        // With the slash that names have in inspect, and without.
        ("name=^/web$", "web"),
        ("name=/", "old\nweb"),
        ("label=tier", "old\nweb"),
        ("label=tier=back", "old"),
        ("label=x", "web"),
        ("exited=3", "old"),
        ("exited=0", ""),
        ("status=running", "web"),
        ("status=exited", "old"),
        ("volume=data", "web"),
        ("volume=/data", "web"),
        ("since=web", "old"),
        ("before=old", "web"),
        ("ancestor=busybox", "old\nweb"),
        (&format!("ancestor={}", &image_id[..19]), "old\nweb"),
        ("ancestor=nginx", ""),
        (&format!("id={}", &id[..10]), "web"),
        ("health=none", "old\nweb"),
        ("health=healthy", ""),
        ("network=none", "old\nweb"),
    ] {
        assert_eq!(names(&["-a", "--filter", filter]), expected, "{filter}");
    }
    assert_eq!(names(&["-a", "-f", "label=tier", "-f", "label=x"]), "web");
    // A filter by state shows what does not run without -a.
    assert_eq!(names(&["-f", "status=exited"]), "old");
    for (filter, words) in [
        ("nonsense=x", "invalid filter"),
        ("name", "name=value"),
        ("status=odd", "status=odd"),
        ("exited=x", "exited=x"),
        ("before=nosuch", "No such container"),
        ("name=(", "invalid filter name"),
    ] {
        root.fails(1, &[words], ["ps", "--filter", filter]);
    }

    let table = root.ok(["ps", "-a", "--format", r"table {{.ID}}\t{{.Label `tier`}}\t{{.Image}}"]);
    let words: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["CONTAINER", "ID", "TIER", "IMAGE"]);
    assert_eq!(words[2][..2], [&id[..12], "front"]);
    let line = root.ok(["ps", "--no-trunc", "--format", "{{json .}}"]);
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&value["ID"], &value["State"]), (&json!(id), &json!("running")));
    let mut same: Value =
        serde_json::from_str(&root.ok(["ps", "--format", "json", "--no-trunc"])).unwrap();
    for of_now in ["RunningFor", "Status"] {
        same[of_now] = value[of_now].clone();
    }
    assert_eq!(same, value);
    assert_eq!(value["Mounts"], "data");
    let shown = root.ok(["ps", "--format", "{{.Nope}}"].iter().chain(&["--last", "0"]).take(1));
    assert!(shown.contains("NAMES"));
    root.fails(1, &["character 3", ".Nope"], ["ps", "--format", "{{.Nope}}"]);
    root.fails(1, &["character"], ["ps", "--format", "{{.ID"]);

    // What the container has written is its size.
    root.ok(["exec", "web", "sh", "-c", "head -c 5000 /dev/zero > /file"]);
    let shown = root.ok(["ps", "-s"]);
    assert!(lines(&shown)[0].ends_with("SIZE"), "{shown}");
    assert!(shown.contains("5kB (virtual ") || shown.contains("5.0"), "{shown}");
    assert!(root.ok(["ps", "--format", "{{.Size}}"]).starts_with("5kB (virtual "));
}

#[test]
fn inspect_takes_templates_and_images() {
    let root = Root::new();
    root.sleeper("web", &["-l", "a.b=c", "-v", "data:/data"]);
    let shown = |format: &str| root.ok(["inspect", "-f", format, "web"]);
    assert_eq!(shown("{{.Name}} {{.State.Running}}"), "/web true");
    assert_eq!(shown("{{index .Config.Labels \"a.b\"}}"), "c");
    assert_eq!(shown("{{range .Mounts}}{{.Type}}:{{.Destination}}{{end}}"), "volume:/data");
    assert_eq!(shown("{{if .State.Health}}x{{else}}none{{end}}"), "none");
    assert_eq!(shown("{{json .HostConfig.NetworkMode}}"), "\"none\"");
    assert_eq!(shown("{{.State.Pid}}"), root.pid("web").to_string());
    root.fails(1, &["character", ".Stat"], ["inspect", "-f", "{{.Stat}}", "web"]);
    root.fails(1, &["function \"nope\""], ["inspect", "-f", "{{nope .}}", "web"]);
    // One line for each, and what failed at the end.
    let out = root.call(["inspect", "-f", "{{.Name}}", "web", "nosuch", "web"]);
    assert_eq!((out.code, &*out.stdout), (1, "/web\n/web\n"), "{out:?}");
    assert!(out.stderr.contains("No such object: nosuch"), "{out:?}");

    // An image by its name, if no container has it.
    let id = root.ok(["inspect", "-f", "{{.Id}}", "busybox"]);
    assert_eq!(id, root.inspect("web")["Image"]);
    let value = root.inspect("busybox");
    assert!(value["RepoTags"].to_string().contains("busybox"), "{value:#}");
    assert_eq!(value["RootFS"]["Type"], "layers");
    assert_eq!(
        (&value["Os"], &value["GraphDriver"]["Name"]),
        (&json!("linux"), &json!("overlay2"))
    );
    assert!(value["Config"]["Env"].is_array() && value["Size"].as_u64().unwrap() > 1_000_000);
    assert_eq!(root.inspect("data")["Driver"], "local");
    root.fails(1, &["no image web"], ["inspect", "--type", "image", "web"]);
    root.fails(1, &["No such container"], ["inspect", "--type=container", "busybox"]);
    root.fails(1, &["No such container"], ["container", "inspect", "busybox"]);
    root.fails(1, &["busybox"], ["inspect", "busyboy"]);
    let sizes =
        root.ok(["container", "inspect", "-s", "-f", "{{.SizeRw}} {{gt .SizeRootFs 1000}}", "web"]);
    assert!(sizes.ends_with(" true"), "{sizes}");
    let compact = root.ok(["inspect", "-f", "json", "web"]);
    assert!(compact.starts_with("[{") && !compact.contains('\n'));
}

#[test]
fn volumes_are_made_listed_and_removed() {
    let root = Root::new();
    assert_eq!(root.ok(["volume", "create", "--label", "a=b", "--label", "c", "data"]), "data");
    assert_eq!(root.ok(["volume", "create", "data"]), "data");
    let made_up = root.ok(["volume", "create"]);
    assert_eq!(made_up.len(), 64);
    let value: Value = serde_json::from_str(&root.ok(["volume", "inspect", "data"])).unwrap();
    assert_eq!(value[0]["Labels"], json!({"a": "b", "c": ""}));
    assert_eq!(value[0]["Mountpoint"], arg(&root.store().join("volumes/data/_data")));
    assert_eq!(value[0]["Scope"], "local");
    let listed = root.ok(["volume", "ls"]);
    assert!(listed.starts_with("DRIVER    VOLUME NAME\nlocal     "), "{listed}");
    let names = |filter: &str| root.ok(["volume", "ls", "-q", "--filter", filter]);
    assert_eq!(names("label=a=b"), "data");
    assert_eq!(names("name=dat"), "data");
    assert_eq!(lines(&names("dangling=true")).len(), 2);
    assert_eq!(
        root.ok(["volume", "ls", "--format", "{{.Name}} {{.Label \"a\"}}"]).lines().count(),
        2
    );

    // What lies beside the content is not in the container.
    assert_eq!(root.shell(&["-v", "data:/data"], "ls -a /data | wc -l; echo x > /data/file"), "2");
    root.ok(["run", "--name", "box", "-v", "data:/data", arg(&busybox()), "true"]);
    assert_eq!(lines(&names("dangling=true")), [&*made_up]);
    root.fails(
        1,
        &["data", "in use", &root.inspect("box")["Id"].as_str().unwrap()[..12]],
        ["volume", "rm", "data"],
    );
    root.fails(1, &["no such volume", "data"], ["volume", "rm", "dat"]);
    root.fails(1, &["no such volume"], ["volume", "inspect", "../x"]);
    root.ok(["volume", "rm", "-f", "nosuch"]);
    root.fails(1, &["a/b"], ["volume", "create", "a/b"]);
    root.fails(1, &["driver"], ["volume", "create", "-d", "nfs", "x"]);
    root.fails(1, &["type=tmpfs"], ["volume", "create", "-o", "type=tmpfs", "x"]);

    // Without -f it asks, and without an answer nothing happens.
    let out = root.call(["volume", "prune"]);
    assert!(out.code == 0 && out.stdout.contains("WARNING! This will remove anonymous"), "{out:?}");
    assert_eq!(lines(&root.ok(["volume", "ls", "-q"])).len(), 2);
    let text = root.ok(["volume", "prune", "-f"]);
    assert!(text.starts_with(&format!("Deleted Volumes:\n{made_up}\n")), "{text}");
    assert!(text.ends_with("Total reclaimed space: 0B"), "{text}");
    assert_eq!(root.ok(["volume", "ls", "-q"]), "data");
    root.ok(["rm", "box"]);
    assert_eq!(
        root.ok(["volume", "prune", "-af", "--filter", "label!=a"]),
        "Total reclaimed space: 0B"
    );
    let text = root.ok(["volume", "prune", "-a", "-f"]);
    assert!(text.contains("data\n") && text.ends_with("Total reclaimed space: 2B"), "{text}");
    root.assert_nothing_left();
}

#[test]
fn rename_keeps_all_but_the_name() {
    let root = Root::new();
    let id = root.sleeper("box", &["--rm"]);
    root.sleeper("other", &[]);
    root.fails(1, &["already in use", "other"], ["rename", "box", "other"]);
    root.fails(1, &["already"], ["rename", "box", "box"]);
    root.fails(1, &["invalid container name"], ["rename", "box", "a/b"]);
    root.fails(1, &["No such container"], ["rename", "nosuch", "x1"]);
    root.ok(["rename", "box", "crate"]);
    assert_eq!(root.inspect("crate")["Id"], id);
    assert_eq!(root.inspect("crate")["Name"], "/crate");
    root.fails(1, &["No such container: box"], ["exec", "box", "true"]);
    assert_eq!(root.ok(["exec", "crate", "echo", "well"]), "well");
    // The old name is free, and the new one is when the container has gone.
    root.ok(["rename", "other", "box"]);
    root.ok(["stop", "crate"]);
    root.ok(["rm", "-f", "box"]);
    root.assert_nothing_left();
}

#[test]
fn top_shows_the_containers_processes_only() {
    let root = Root::new();
    root.sleeper("box", &[]);
    let shown = root.ok(["top", "box"]);
    let lines = lines(&shown);
    assert!(lines[0].starts_with("UID ") && lines[0].contains("PID"), "{shown}");
    assert!(lines.len() >= 2 && lines[1..].iter().all(|l| l.contains("sleep") || l.contains("sh")));
    let pid = root.pid("box").to_string();
    let shown = root.ok(["container", "top", "box", "-o", "pid,args"]);
    assert!(shown.lines().any(|line| line.starts_with(&pid)), "{shown}");
    root.fails(1, &["PID"], ["top", "box", "-o", "args"]);
    root.fails(1, &["ps"], ["top", "box", "--no-such-option"]);
    root.ok(["stop", "box"]);
    root.fails(1, &["not running"], ["top", "box"]);
}

#[test]
fn wait_gives_the_exit_status() {
    let root = Root::new();
    let image = busybox();
    let script = "trap 'exit 7' TERM; while :; do sleep 1000 & wait $!; done";
    root.ok(["run", "-d", "--name", "box", arg(&image), "sh", "-c", script]);
    root.ok(["run", "-d", "--rm", "--name", "gone", arg(&image), "sh", "-c", script]);
    let wait = root.start(["wait", "box", "nosuch", "gone"]);
    // Both are known to it when its first line can come.
    let both = root.start(["container", "wait", "gone"]);
    for (waiter, locks) in [(&wait, 2), (&both, 1)] {
        crate::harness::wait_until("the waiters", || {
            let open = std::fs::read_dir(format!("/proc/{}/fd", waiter.pid())).unwrap();
            let links = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
            links.filter(|link| link.ends_with("lock")).count() == locks
        });
    }
    // The traps may not be there yet: it is sent until the container has ended.
    crate::harness::wait_until("the end", || {
        root.call(["kill", "-s", "TERM", "box"]);
        root.call(["kill", "-s", "TERM", "gone"]);
        root.ok(["ps", "-q"]).is_empty()
    });
    let out = wait.wait();
    assert_eq!((out.code, &*out.stdout), (1, "7\n7\n"), "{out:?}");
    assert!(out.stderr.contains("nosuch"), "{out:?}");
    assert_eq!(both.wait().stdout, "7\n");
    // One that has ended says it again.
    assert_eq!(root.ok(["wait", "box"]), "7");
}

#[test]
fn prune_port_and_the_system() {
    let root = Root::new();
    let id = root.sleeper("runs", &[]);
    root.ok(["run", "--name", "a1", "-l", "keep", arg(&busybox()), "true"]);
    root.ok(["run", "--name", "b1", "-v", "/v", arg(&busybox()), "sh", "-c", "echo x > /file"]);
    root.ok(["load", "-q", "-i", arg(&image("layers-5", "docker-oci"))]);
    let df = root.ok(["system", "df"]);
    let rows: Vec<Vec<&str>> = df.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
    assert_eq!(rows[1][..3], ["Images", "2", "1"]);
    assert_eq!(rows[2][..3], ["Containers", "3", "1"]);
    assert_eq!(rows[3][..4], ["Local", "Volumes", "1", "1"]);
    let verbose = root.ok(["system", "df", "-v"]);
    assert!(verbose.contains("UNIQUE SIZE") && verbose.contains("b1"), "{verbose}");
    assert_eq!(root.ok(["system", "df", "--format", "{{.Type}}"]).lines().count(), 4);

    let info = root.ok(["info"]);
    assert!(info.contains(" Running: 1\n") && info.contains("Storage Driver: overlay2"), "{info}");
    assert_eq!(root.ok(["system", "info", "-f", "{{.Containers}} {{.ContainersStopped}}"]), "3 2");
    assert_eq!(root.ok(["info", "--format", "{{.DockerRootDir}}"]), arg(&root.store()));

    assert_eq!(root.ok(["port", "runs"]), "");
    root.fails(1, &["no public port '80/tcp' published for runs"], ["port", "runs", "80"]);
    root.fails(1, &["invalid port"], ["port", "runs", "http"]);

    let text = root.ok(["container", "prune", "-f", "--filter", "label!=keep"]);
    assert_eq!(text.lines().count(), 4, "{text}");
    assert_eq!(root.ok(["container", "ls", "-a", "--format", "{{.Names}}"]), "a1\nruns");
    root.fails(1, &["until=soon"], ["container", "prune", "-f", "--filter", "until=soon"]);
    let text = root.ok(["container", "prune", "-f", "--filter", "until=24h"]);
    assert_eq!(text, "Total reclaimed space: 0B");
    let text = root.ok(["system", "prune", "-af", "--volumes"]);
    for heading in ["Deleted Containers:", "Deleted Volumes:", "Deleted Images:"] {
        assert!(text.contains(heading), "no {heading} in {text}");
    }
    assert_eq!(root.ok(["ps", "-aq", "--no-trunc"]), id);
    assert_eq!(root.ok(["images", "-q"]).lines().count(), 1);
    assert_eq!(root.ok(["volume", "ls", "-q"]), "");
}
