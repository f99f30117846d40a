//! The walk: nginx and httpd at the same time, each with a volume, looked at from both sides.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Root, arg, image, is_id, wait_until};
use crate::host::{self, ASK, Mount, mount_table};
use crate::indexed::{self, INDEX};
use crate::pty::Terminal;

/// A running server of the walk.
struct Server {
    name: &'static str,
    id: String,
    volume: PathBuf,
    inspect: Value,
}

impl Server {
    /// Rows 1 and 2.
    fn start(root: &Root, name: &'static str, format: &str) -> Server {
        let volume = root.host_dir(&format!("{name}_volume"));
        fs::write(volume.join(format!("{name}_file")), "of the host\n").unwrap();
        let archive = image(name, format);
        let spec = format!("{}:/{name}_volume", arg(&volume));
        let id = root.ok(["run", "-d", "--rm", "--name", name, "-v", &spec, arg(&archive)]);
        assert!(is_id(&id), "{id:?}");
        Server { name, id, volume, inspect: root.inspect(name) }
    }

    fn merged(&self) -> PathBuf {
        self.inspect["GraphDriver"]["Data"]["MergedDir"].as_str().unwrap().into()
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.inspect["State"]["Pid"].as_i64().unwrap()).unwrap()
    }

    fn exec(&self, root: &Root, command: &[&str]) -> String {
        root.ok([&["exec", self.name], command].concat())
    }

    fn mount_table(&self, root: &Root) -> Vec<Mount> {
        mount_table(&self.exec(root, &["mount"]))
    }

    /// Waits for the page, asked for in the container.
    fn page(&self, root: &Root) -> String {
        let mut answer = String::new();
        wait_until(&format!("the page of {}", self.name), || {
            let out = root.call(["exec", self.name, "bash", "-c", ASK]);
            answer = out.stdout;
            out.code == 0 && answer.contains("200 OK")
        });
        answer
    }
}

#[test]
fn nginx_and_httpd_side_by_side() {
    side_by_side("--layer-form=dir", [5, 3]);
}

#[test]
fn nginx_and_httpd_side_by_side_of_indexes() {
    if indexed::is_possible() {
        side_by_side(INDEX, [1, 1]);
    }
}

/// All rows, with images in this form, which gives them so many lower directories.
fn side_by_side(form: &str, lowers: [usize; 2]) {
    let root = Root::new();
    // What is loaded already starts at once.
    for name in ["nginx", "httpd"] {
        root.ok(["load", form, "-i", arg(&image(name, "docker-oci"))]);
    }
    let begin = Instant::now();
    let nginx = Server::start(&root, "nginx", "docker-oci");
    let httpd = Server::start(&root, "httpd", "docker-oci");
    assert!(begin.elapsed() < Duration::from_secs(30), "-d does not return at once");
    assert_ne!(nginx.id, httpd.id);
    assert!(nginx.page(&root).contains("It is nginx"));
    assert!(httpd.page(&root).contains("It works!"));

    for server in [&nginx, &httpd] {
        check_table(&root, server);
        check_volume(&root, server);
        check_inspect(&root, server);
        check_host_mount(&root, server);
        check_merged(&root, server);
    }
    // Row 6: their own overlays, and neither sees the other's volume.
    let [first, second] = [&nginx, &httpd].map(|server| server.mount_table(&root).remove(0));
    let count = |mount: &Mount| mount.value("lowerdir").unwrap().split(':').count();
    assert_eq!([count(&first), count(&second)], lowers, "{form}");
    for key in ["lowerdir", "upperdir", "workdir"] {
        assert_ne!(first.value(key).unwrap(), second.value(key).unwrap(), "{key}");
    }
    root.fails(2, &["No such file"], ["exec", "nginx", "ls", "/httpd_volume"]);
    root.fails(2, &["No such file"], ["exec", "httpd", "ls", "/nginx_volume"]);
    // They share no namespace with each other or with the host, but that of users.
    let own = host::namespaces(i32::try_from(std::process::id()).unwrap());
    let [first, second] = [&nginx, &httpd].map(|server| host::namespaces(server.pid()));
    for kind in ["mnt", "pid", "ipc", "uts", "net", "cgroup"] {
        assert_ne!(first[kind], second[kind], "{kind}");
        assert_ne!(first[kind], own[kind], "{kind}");
    }

    // Row 12.
    let namespaces = [first, second].into_iter().flatten().filter(|(kind, _)| kind != "user");
    let namespaces: Vec<_> = namespaces.map(|(_, link)| link).collect();
    assert!(host::is_held(&namespaces));
    let groups: Vec<_> =
        [&nginx, &httpd].into_iter().flat_map(|server| host::own_cgroups(server.pid())).collect();
    root.ok(["stop", "nginx", "httpd"]);
    root.assert_nothing_left();
    wait_until("the end of the namespaces", || !host::is_held(&namespaces));
    assert!(groups.iter().all(|group| !Path::new(group).exists()), "{groups:?}");
    for server in [&nginx, &httpd] {
        let file = server.volume.join(format!("{}_file", server.name));
        assert_eq!(fs::read_to_string(file).unwrap(), "of the host\n");
        assert_eq!(fs::read_to_string(server.volume.join("written")).unwrap(), "inside\n");
    }
}

/// Row 4: the whole table.
fn check_table(root: &Root, server: &Server) {
    let table = server.mount_table(root);
    let text = format!("{table:#?}");
    let [overlay, ..] = &table[..] else { panic!("no mounts") };
    assert_eq!((&*overlay.source, &*overlay.target, &*overlay.kind), ("overlay", "/", "overlay"));
    let shown = &overlay.options;
    assert_eq!(shown[..2], ["rw", "relatime"]);
    let dir = root.store().join("containers").join(&server.id);
    let lowers: Vec<&str> = overlay.value("lowerdir").unwrap().split(':').collect();
    assert_eq!(shown[2], format!("lowerdir={}", lowers.join(":")));
    let links = format!("{}/l/", root.store().display());
    for lower in &lowers {
        let link = lower.strip_prefix(&links).unwrap_or_else(|| panic!("{lower}"));
        assert_eq!(link.len(), 26, "{link}");
        assert!(fs::symlink_metadata(lower).unwrap().is_symlink(), "{lower}");
    }
    assert_eq!(shown[3], format!("upperdir={}/diff", dir.display()));
    assert_eq!(shown[4], format!("workdir={}/work", dir.display()));

    let mut rest: Vec<&Mount> = table[1..].iter().collect();
    let mut take = |target: &str| {
        let at = rest.iter().position(|mount| mount.target == target);
        rest.remove(at.unwrap_or_else(|| panic!("nothing on {target}: {text}")))
    };
    let volume = format!("/{}_volume", server.name);
    for (target, source, kind, options) in [
        ("/proc", "proc", "proc", "rw,nosuid,nodev,noexec,relatime"),
        ("/dev", "tmpfs", "tmpfs", "rw,nosuid,size=65536k,mode=755"),
        ("/dev/pts", "devpts", "devpts", "rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=666"),
        ("/sys", "sysfs", "sysfs", "ro,nosuid,nodev,noexec,relatime"),
        ("/dev/mqueue", "mqueue", "mqueue", "rw,nosuid,nodev,noexec,relatime"),
        ("/dev/shm", "shm", "tmpfs", "rw,nosuid,nodev,noexec,relatime,size=65536k"),
        ("/proc/bus", "proc", "proc", "ro,nosuid,nodev,noexec,relatime"),
        ("/proc/fs", "proc", "proc", "ro,nosuid,nodev,noexec,relatime"),
        ("/proc/irq", "proc", "proc", "ro,nosuid,nodev,noexec,relatime"),
        ("/proc/sys", "proc", "proc", "ro,nosuid,nodev,noexec,relatime"),
        ("/proc/sysrq-trigger", "proc", "proc", "ro,nosuid,nodev,noexec,relatime"),
    ] {
        if target.starts_with("/proc/") && !Path::new(target).exists() {
            continue; // /proc/bus and the like: not in every kernel
        }
        let mount = take(target);
        assert_eq!((&*mount.source, &*mount.kind), (source, kind), "{target}");
        let words: Vec<&str> = options.split(',').collect();
        assert!(mount.has(&words), "{target}: {mount:?}");
    }
    let cgroup = take("/sys/fs/cgroup");
    assert!(cgroup.has(&["ro", "nosuid", "nodev", "noexec"]), "{cgroup:?}");
    assert!(["tmpfs", "cgroup2"].contains(&&*cgroup.kind), "{cgroup:?}");
    // Row 11: the volume shows the host's file system and its device.
    let there = host::mount_at(&server.volume);
    for target in [volume.as_str(), "/etc/resolv.conf", "/etc/hostname", "/etc/hosts"] {
        let mount = take(target);
        assert_eq!((&mount.source, &mount.kind), (&there.source, &there.kind), "{target}");
        assert!(mount.has(&["rw"]), "{mount:?}");
    }
    for mount in rest {
        let target = mount.target.as_str();
        let of_image = ["/var/cache/nginx", "/var/www/html", "/var/log/apache2"].contains(&target);
        let hidden =
            ["/proc/", "/sys/firmware", "/sys/devices/"].iter().any(|p| target.starts_with(p));
        assert!(
            (of_image && mount.kind == there.kind)
                || (hidden && mount.kind == "tmpfs")
                || (target.starts_with("/sys/fs/cgroup/") && mount.has(&["ro"])),
            "{mount:?}"
        );
    }
}

/// Row 5: both ways, at once.
fn check_volume(root: &Root, server: &Server) {
    let inside = format!("/{}_volume", server.name);
    let file = format!("{}_file", server.name);
    assert_eq!(server.exec(root, &["ls", &inside]), file);
    server.exec(root, &["bash", "-c", &format!("echo inside > {inside}/written")]);
    assert_eq!(fs::read_to_string(server.volume.join("written")).unwrap(), "inside\n");
    fs::write(server.volume.join("later"), "outside\n").unwrap();
    assert_eq!(server.exec(root, &["cat", &format!("{inside}/later")]), "outside");
}

/// Row 7, and the other keys that scripts read.
fn check_inspect(root: &Root, server: &Server) {
    let value = &server.inspect;
    let dir = root.store().join("containers").join(&server.id);
    assert_eq!(value["Id"], server.id);
    assert_eq!(value["Name"], format!("/{}", server.name));
    assert_eq!(value["State"]["Status"], "running");
    assert_eq!(value["State"]["ExitCode"], 0);
    assert_eq!(value["GraphDriver"]["Name"], "overlay2");
    let data = &value["GraphDriver"]["Data"];
    let overlay = server.mount_table(root).remove(0);
    assert_eq!(data["MergedDir"], arg(&dir.join("merged")));
    assert_eq!(data["UpperDir"], overlay.value("upperdir").unwrap());
    assert_eq!(data["WorkDir"], overlay.value("workdir").unwrap());
    let lowers = data["LowerDir"].as_str().unwrap().split(':');
    let mounted = overlay.value("lowerdir").unwrap().split(':');
    let same = |path: &str| fs::canonicalize(path).unwrap();
    assert_eq!(lowers.map(same).collect::<Vec<_>>(), mounted.map(same).collect::<Vec<_>>());
    let mounts = value["Mounts"].as_array().unwrap();
    let mount = mounts.iter().find(|mount| mount["Type"] == "bind").unwrap();
    assert_eq!(mount["Source"], arg(&server.volume));
    assert_eq!(mount["Destination"], format!("/{}_volume", server.name));
    assert_eq!(mount["RW"], true);
    assert_eq!(value["HostConfig"]["AutoRemove"], true);
}

/// Row 8: one overlay line of this container, with the very options that it shows itself.
fn check_host_mount(root: &Root, server: &Server) {
    let out = std::process::Command::new("mount").output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let merged = server.merged();
    let lines = text.lines().filter(|line| line.contains(&server.id));
    let lines: Vec<Mount> = lines.map(Mount::parse).collect();
    let [line] = &lines[..] else { panic!("{lines:#?}") };
    assert_eq!(line.target, arg(&merged));
    let inside = server.mount_table(root).remove(0);
    assert_eq!(*line, Mount { target: line.target.clone(), ..inside });
}

/// Row 9: the host reaches the container's file system.
fn check_merged(root: &Root, server: &Server) {
    let merged = server.merged();
    let os = server.exec(root, &["cat", "/etc/os-release"]);
    assert_eq!(fs::read_to_string(merged.join("usr/lib/os-release")).unwrap().trim_end(), os);
    server.exec(root, &["bash", "-c", "echo by the container > /made"]);
    assert_eq!(fs::read_to_string(merged.join("made")).unwrap(), "by the container\n");
    fs::write(merged.join("made-outside"), "by the host\n").unwrap();
    assert_eq!(server.exec(root, &["cat", "/made-outside"]), "by the host");
    fs::remove_file(merged.join("made")).unwrap();
    root.fails(1, &[], ["exec", server.name, "test", "-e", "/made"]);
}

/// Row 3: an interactive shell on a real terminal.
#[test]
fn a_shell_in_nginx() {
    let root = Root::new();
    Server::start(&root, "nginx", "docker-oci");
    let mut user = Terminal::start(&root.command(["exec", "-it", "nginx", "bash"]), 40, 120);
    let before = user.before.clone();
    user.expect("# ");
    user.press("stty size\r");
    user.expect("40 120");
    // Line editing: a line and a character deleted, a digit put two to the left.
    user.press("echo wrong\x15");
    user.press("echo $((100+12\x7f))\x1b[D\x1b[D1\r");
    user.expect("111");
    user.press("tty; ps -o stat= -p $$\r");
    user.expect("/dev/pts/");
    user.expect("s\r"); // a session's leader
    // The window grows: the shell hears of it.
    user.resize(50, 100);
    wait_until("the new size of the terminal", || {
        user.press("stty size\r");
        std::thread::sleep(Duration::from_millis(100));
        user.text().contains("50 100")
    });
    user.press("clear; echo width:$COLUMNS:\r");
    user.expect("width:100:");
    user.press("echo \"asleep:$((40+2))\"; sleep 1000\r");
    user.expect("asleep:42");
    let sleeps = || host::processes_of(root.dir()).iter().any(|(_, line)| line == "sleep 1000 ");
    wait_until("the sleep", sleeps);
    user.press("\x03");
    user.expect("^C");
    user.press("echo status:$?:\r");
    user.expect("status:130:");
    user.press("exit 42\r");
    assert_eq!(user.wait(), Some(42));
    let after = user.settings();
    assert_eq!(after.local_modes, before.local_modes);
    assert_eq!(after.input_modes, before.input_modes);
    assert_eq!(after.output_modes, before.output_modes);
    root.ok(["stop", "nginx"]);
    root.assert_nothing_left();
}

/// The pages over the host's network, on ports of their own.
#[test]
fn both_servers_on_the_hosts_network() {
    let root = Root::new();
    let servers = [("nginx", "NGINX_PORT", "It is nginx"), ("httpd", "HTTPD_PORT", "It works!")];
    let mut ports = Vec::new();
    for (name, variable, _) in servers {
        let port = host::free_port();
        let env = format!("{variable}={port}");
        let archive = image(name, "docker-oci");
        let options = ["run", "-d", "--rm", "--name", name, "--network", "host", "-e", &env];
        root.ok([&options[..], &[arg(&archive)]].concat());
        ports.push(port);
    }
    let own = host::namespaces(i32::try_from(std::process::id()).unwrap());
    for ((name, _, page), port) in servers.iter().zip(&ports) {
        let mut answer = String::new();
        wait_until(&format!("the page of {name}"), || {
            answer = host::http(*port).unwrap_or_default();
            !answer.is_empty()
        });
        assert!(answer.contains("200 OK") && answer.contains(page), "{answer}");
        assert_eq!(host::namespaces(root.pid(name))["net"], own["net"]);
    }
    root.ok(["stop", "nginx", "httpd"]);
    root.assert_nothing_left();
    for port in ports {
        assert_eq!(host::http(port), None);
    }
}
