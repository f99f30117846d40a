//! What `process` asks of the kernel.

use std::path::Path;

use oci_runtime::{Error, Exit, Prepared, PreparedExec, Stdio};
use rustix::process::{PidfdFlags, pidfd_open};
use serde_json::json;

use crate::{config, run, script, spec, start};

#[test]
fn it_is_scheduled_as_the_configuration_says() {
    let mut config = script("cut -d' ' -f19,40,41 /proc/self/stat; ionice");
    config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 7});
    config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0});
    let (printed, _) = run(config).unwrap();
    assert_eq!(printed, "7 0 3\nidle\n");
    let mut config = script("cut -d' ' -f40,41 /proc/self/stat");
    config["process"]["scheduler"] =
        json!({"policy": "SCHED_FIFO", "priority": 12, "flags": ["SCHED_RESET_ON_FORK"]});
    match run(config) {
        // Its own number is 1 of the shell: what it forks is reset.
        Ok((printed, _)) => assert_eq!(printed, "0 0\n"),
        // A machine without real-time bandwidth for this cgroup.
        Err(error) => assert!(error.to_string().contains("process.scheduler"), "{error}"),
    }
}

#[test]
fn a_personality_is_set_for_it_and_for_what_joins_it() {
    let mut config = script("uname -m; sleep 1000");
    config["linux"]["personality"] = json!({"domain": "LINUX32"});
    let (running, pipe) = start(config).unwrap();
    let mut line = String::new();
    let mut reader = std::io::BufReader::new(std::fs::File::from(pipe));
    std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
    assert_eq!(line, "i686\n");
    running.kill().unwrap();
    running.wait().unwrap();
}

#[test]
fn memory_comes_from_where_it_is_to() {
    let mut config = script("grep -q ' prefer=relative:0 ' /proc/self/numa_maps && echo prefers");
    config["linux"]["memoryPolicy"] =
        json!({"mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]});
    assert_eq!(run(config).unwrap().0, "prefers\n");
    // And of what joins it.
    let (container, _pipe) = start(script("sleep 1000")).unwrap();
    let process = json!({
        "user": {}, "cwd": "/", "env": ["PATH=/usr/bin:/bin"],
        "args": ["grep", "-q", " prefer:0 ", "/proc/self/numa_maps"],
    });
    let process = serde_json::from_value(process).unwrap();
    let policy = serde_json::from_value(json!({"mode": "MPOL_PREFERRED", "nodes": "0"})).unwrap();
    let pidfd = pidfd_open(container.pid(), PidfdFlags::empty()).unwrap();
    let exec = PreparedExec::new(pidfd, container.pid(), &process, Stdio::null().unwrap()).unwrap();
    let exit = exec.memory_policy(&policy).unwrap().start().unwrap().wait().unwrap();
    assert_eq!(exit, Exit::Status(0));
    container.kill().unwrap();
    container.wait().unwrap();

    let mut config = script("true");
    config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_DEFAULT", "nodes": ""});
    run(config).unwrap();
    for (nodes, flags) in [("0", json!(["MPOL_F_STATIC_NODES"])), ("0-9876543210", json!([]))] {
        let mut config = script("true");
        config["linux"]["memoryPolicy"] =
            json!({"mode": "MPOL_DEFAULT", "nodes": nodes, "flags": flags});
        let error = run(config).unwrap_err().to_string();
        assert!(error.contains("linux.memoryPolicy"), "{error}");
    }
}

#[test]
fn exec_runs_on_the_processors_that_it_names() {
    let (container, _pipe) = start(script("sleep 1000")).unwrap();
    let exec = |affinity: serde_json::Value| {
        let process = json!({
            "user": {}, "cwd": "/", "execCPUAffinity": affinity, "env": ["PATH=/usr/bin:/bin"],
            "args": ["sh", "-c", "test \"$(nproc)\" = 1"],
        });
        let pidfd = pidfd_open(container.pid(), PidfdFlags::empty()).unwrap();
        let process = serde_json::from_value(process).unwrap();
        let stdio = Stdio::null().unwrap();
        PreparedExec::new(pidfd, container.pid(), &process, stdio)?.start()?.wait()
    };
    let own = rustix::thread::sched_getaffinity(None).unwrap();
    assert_eq!(exec(json!({"initial": "0"})).unwrap(), Exit::Status(0));
    assert_eq!(exec(json!({"initial": "0-1", "final": "0"})).unwrap(), Exit::Status(0));
    // Of one processor there are no two.
    let several = i32::from(own.count() > 1);
    assert_eq!(exec(json!({"initial": "0", "final": "0-1"})).unwrap(), Exit::Status(several));
    assert_eq!(
        rustix::thread::sched_getaffinity(None).unwrap(),
        own,
        "this thread's are as before"
    );
    let error = exec(json!({"final": "1023"})).unwrap_err().to_string();
    assert!(error.contains("process.execCPUAffinity.final"), "{error}");
    container.kill().unwrap();
    container.wait().unwrap();
}

#[test]
fn a_capability_that_cannot_be_granted_is_a_warning_and_left_out() {
    let machine = oci_runtime::machine_capabilities().unwrap();
    let lacking = [("CAP_SYS_RESOURCE", 24), ("CAP_AUDIT_CONTROL", 30), ("CAP_SYS_MODULE", 16)];
    let Some((name, _)) = lacking.iter().find(|(_, bit)| machine & 1 << bit == 0) else {
        // On a machine with all of them nothing can be refused: the unit tests have that case.
        return;
    };
    let mut config = script("grep CapEff /proc/self/status");
    let set = json!([name, "CAP_KILL"]);
    config["process"]["capabilities"] =
        json!({"bounding": set, "permitted": set, "effective": set});
    let prepared =
        Prepared::new(Path::new("/"), &spec(config.clone()), Stdio::null().unwrap()).unwrap();
    assert_eq!(prepared.warnings().len(), 1);
    let warning = &prepared.warnings()[0];
    assert!(warning.contains(&format!("(bounding, effective, permitted): {name}")), "{warning}");
    assert_eq!(run(config).unwrap().0, "CapEff:\t0000000000000020\n");
}

#[test]
fn a_limit_that_may_not_be_raised_is_named() {
    let (_, hard) = limits("Max open files");
    let mut config = script("true");
    let above = hard.parse::<u64>().unwrap() + (1 << 40);
    config["process"]["rlimits"] = json!([
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_NOFILE", "soft": above, "hard": above}
    ]);
    // Above the kernel's own maximum (fs.nr_open) it is refused whoever asks.
    let error = run(config).unwrap_err().to_string();
    assert!(error.starts_with("process.rlimits[1], RLIMIT_NOFILE"), "{error}");
    assert!(error.contains("CAP_SYS_RESOURCE"), "{error}");
}

fn limits(name: &str) -> (String, String) {
    let text = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let mut words = line.split_whitespace();
    (words.next().unwrap().to_owned(), words.next().unwrap().to_owned())
}

#[test]
fn a_container_without_a_process_is_created_and_not_started() {
    let mut config = config(&["true"]);
    config.as_object_mut().unwrap().remove("process");
    let prepared = Prepared::new(Path::new("/"), &spec(config), Stdio::null().unwrap()).unwrap();
    let created = prepared.create().unwrap();
    let pid = created.pid();
    assert!(Path::new(&format!("/proc/{pid}/ns/net")).exists());
    let error = created.start().unwrap_err();
    assert!(matches!(error, Error::NoProcess), "{error}");
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn without_pivot_root_the_root_is_the_containers_too() {
    let config = script("ls -di /; echo $$; cd ../../..; pwd; touch /x 2>&1; ls /tmp");
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let stdio = Stdio::new(Stdio::null_device().unwrap(), &write, &write).unwrap();
    drop(write);
    let prepared = Prepared::new(Path::new("/"), &spec(config), stdio).unwrap();
    let prepared = prepared.no_pivot().unwrap();
    let running = prepared.create().unwrap().start().unwrap();
    let printed = crate::text(read);
    running.wait().unwrap();
    assert!(printed.contains("\n1\n/\n"), "{printed}");
    assert!(printed.contains("Read-only file system"), "{printed}");
}

/// The host's procfs and sysfs stay below a root that was only changed by chroot(2). With one of them in
/// full, the kernel lets a user namespace of the container mount another, which nothing masks.
#[test]
fn without_pivot_root_nobody_gets_an_unmasked_procfs() {
    let root = tempfile::tempdir().unwrap();
    for name in ["bin", "proc", "dev", "tmp", "mnt"] {
        std::fs::create_dir(root.path().join(name)).unwrap();
    }
    crate::copy_program("/usr/bin/busybox", &root.path().join("bin/busybox"));
    let mount = "/bin/busybox unshare -mrpfn /bin/busybox mount -t";
    let script = format!(
        "{mount} proc none /mnt && echo bare; {mount} sysfs none /mnt && echo bare; \
         {mount} tmpfs none /mnt && echo tried"
    );
    for own in [false, true] {
        let mut config = config(&["/bin/busybox", "sh", "-c", &script]);
        config["root"] = json!({"path": root.path()});
        // The map of a namespace's root needs it.
        let names = json!(["CAP_SETFCAP"]);
        config["process"]["capabilities"] = json!({"bounding": names, "permitted": names});
        config["linux"]["maskedPaths"] = json!(["/proc/kcore", "/proc/acpi", "/proc/timer_list"]);
        if own {
            let map = json!([{"containerID": 0, "hostID": 0, "size": 1000}]);
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
            config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        }
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let stdio = Stdio::new(Stdio::null_device().unwrap(), &write, &write).unwrap();
        drop(write);
        let prepared = Prepared::new(Path::new("/"), &spec(config), stdio).unwrap();
        let running = prepared.no_pivot().unwrap().create().unwrap().start().unwrap();
        let printed = crate::text(read);
        running.wait().unwrap();
        assert!(!printed.contains("bare"), "{own}: {printed}");
        assert!(printed.ends_with("tried\n"), "{own}: {printed}");
        assert_eq!(printed.matches("permission denied").count(), 2, "{own}: {printed}");
    }
    // The host has its own still.
    assert!(Path::new("/proc/self").exists() && Path::new("/sys/kernel").exists());
}

#[test]
fn a_mount_namespace_may_be_anothers_or_the_callers() {
    let (first, _pipe) = start(script("sleep 1000")).unwrap();
    let path = format!("/proc/{}/ns/mnt", first.pid());
    let mut joining = script("readlink /proc/self/ns/mnt; touch /tmp/x && echo made");
    joining["linux"]["namespaces"] = json!([{"type": "pid"}, {"type": "mount", "path": path}]);
    joining.as_object_mut().unwrap().remove("hostname");
    let link = std::fs::read_link(&path).unwrap();
    let (printed, _) = run(joining).unwrap();
    assert_eq!(printed, format!("{}\nmade\n", link.display()));
    first.kill().unwrap();
    first.wait().unwrap();
    // In the caller's own nothing may be mounted, and the root is changed all the same.
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("bin")).unwrap();
    crate::copy_program("/usr/bin/busybox", &root.path().join("bin/sh"));
    let mut own = config(&["/bin/sh", "-c", "echo /*; exit 5"]);
    own["root"] = json!({"path": root.path()});
    own["linux"]["namespaces"] = json!([{"type": "pid"}]);
    own.as_object_mut().unwrap().remove("hostname");
    let error = run(own.clone()).unwrap_err().to_string();
    assert!(error.starts_with("mounts of the container's configuration"), "{error}");
    own["mounts"] = json!([]);
    let (printed, exit) = run(own).unwrap();
    assert_eq!((printed.as_str(), exit), ("/bin\n", Exit::Status(5)));
}

/// Otherwise it would have its starter's, which engines choose so that they are killed last.
#[test]
fn a_further_program_is_killed_as_soon_as_the_container_for_want_of_memory() {
    let (container, _pipe) = start(script("exec sleep 1000")).unwrap();
    let pidfd = pidfd_open(container.pid(), PidfdFlags::empty()).unwrap();
    let process = json!({
        "user": {"uid": 5, "gid": 5}, "cwd": "/", "oomScoreAdj": 777, "env": ["PATH=/usr/bin:/bin"],
        "args": ["sh", "-c", "test \"$(cat /proc/self/oom_score_adj)\" = 777"],
    });
    let process = serde_json::from_value(process).unwrap();
    let stdio = Stdio::null().unwrap();
    let exec = PreparedExec::new(pidfd, container.pid(), &process, stdio).unwrap();
    let exit = exec.start().unwrap().wait().unwrap();
    container.kill().unwrap();
    container.wait().unwrap();
    assert_eq!(exit, Exit::Status(0));
}

/// Those that tests have: whatever they are, with the annotation they are the container's.
#[test]
fn groups_are_the_creators_if_that_is_asked_for() {
    let of = |annotation: Option<&str>, in_user: bool| {
        let mut config = script("grep Groups /proc/self/status");
        if in_user {
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
            config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        }
        config["annotations"] = json!({"run.oci.keep_original_groups": annotation.unwrap_or("0")});
        let thread = std::thread::spawn(move || {
            // Of this thread alone.
            let own = [5, 7].map(rustix::process::Gid::from_raw);
            rustix::thread::set_thread_groups(&own).unwrap();
            run(config).unwrap().0
        });
        let said = thread.join().unwrap();
        said.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of(Some("1"), false), ["5", "7"]);
    // They have no names there.
    assert_eq!(of(Some("1"), true), ["65534", "65534"]);
    assert_eq!(of(None, false), [""; 0]);
    assert_eq!(of(None, true), [""; 0]);
}
