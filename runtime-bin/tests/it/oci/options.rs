//! Options that all or several verbs have, and the verbs that need no container.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Oci, WAITS, read_soon};
use crate::harness::Started;

#[test]
fn options_stand_before_and_after_the_id() {
    let oci = Oci::new(&WAITS);
    let bundle = oci.bundle();
    let bundle = bundle.to_str().unwrap();
    let elsewhere = |args: &[&str]| {
        let mut command = oci.command(args);
        command.current_dir(oci.dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().unwrap().success()
    };
    assert!(elsewhere(&["create", "a", "--bundle", bundle, "--pid-file", "a.pid"]));
    let other = format!("{}-other", oci.group());
    oci.configure(|config| config["linux"]["cgroupsPath"] = other.into(), &WAITS);
    assert!(elsewhere(&["create", "-b", "bundle", "--no-pivot", "--no-new-keyring", "b"]));
    // Relative to the caller's directory, not to the bundle.
    let pid = std::fs::read_to_string(oci.dir.path().join("a.pid")).unwrap();
    assert_eq!(pid, oci.state("a")["pid"].to_string());
    assert_eq!(oci.state("b")["bundle"], bundle);
    oci.ok(&["kill", "a", "9", "--all"]);
    oci.ok(&["delete", "a", "--force"]);
}

#[test]
fn messages_go_to_the_log_in_the_form_asked_for() {
    let oci = Oci::new(&WAITS);
    let log = oci.dir.path().join("log");
    let path = log.to_str().unwrap();
    let stderr = oci.fails(
        1,
        &["container does not exist"],
        &["--log", path, "--log-format", "json", "state", "a"],
    );
    assert!(!stderr.starts_with("time="), "the log has the time: {stderr}");
    let line = read_soon(&log);
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["level"], "error");
    assert!(value["msg"].as_str().unwrap().starts_with("container does not exist"), "{line}");
    assert!(value["time"].as_str().unwrap().ends_with('Z'), "{line}");

    let stderr = oci.fails(1, &[], &["state", "a"]);
    let start = stderr.starts_with("time=\"20");
    assert!(start && stderr.contains(" level=error msg=\"container does not exist"), "{stderr}");

    std::fs::remove_file(&log).unwrap();
    oci.create(&["--debug", "--log", path, "a"]);
    let text = read_soon(&log);
    assert!(text.contains(" level=debug msg=\""));
    // What is looked for in the logs of runc.
    for stage in [
        "nsexec container setup",
        "child process in init()",
        "init: closing the pipe to signal completion",
    ] {
        assert!(text.contains(stage), "{stage}: {text}");
    }
    oci.ok(&["start", "a"]);
    let told = oci.call(&["--debug", "exec", "a", "true"]);
    assert!(told.stderr.contains("setns_init: about to exec \\\"true\\\""), "{}", told.stderr);
    oci.fails(1, &["/no/such/log"], &["--log", "/no/such/log", "state", "a"]);
}

#[test]
fn descriptors_are_preserved_if_asked_for_and_no_others() {
    let script = "cat <&3; ls /proc/self/fd | wc -l";
    let oci = Oci::new(&["sh", "-c", script]);
    let file = oci.dir.path().join("file");
    std::fs::write(&file, "preserved\n").unwrap();
    let run = |options: &str| {
        let line = format!("exec 3<{} 4</etc/passwd 5</; exec \"$@\" {options} a", file.display());
        let inner = oci.command(&["run"]);
        let mut command = Command::new("sh");
        command.args(["-c", &line, "sh"]).arg(inner.get_program()).args(inner.get_args());
        command.current_dir(oci.bundle());
        Started::new(command, None).wait()
    };
    let out = run("--preserve-fds 1");
    // 0, 1, 2, 3, and that of ls itself.
    assert_eq!((out.code, &*out.stdout), (0, "preserved\n5\n"), "{}", out.stderr);
    let out = run("");
    assert!(out.stderr.contains("3: Bad file descriptor"), "{}", out.stderr);
    // 6 is not open here, nor there: 0 to 5, and that of ls. (Beyond, who runs the tests may have some open.)
    let out = run("--preserve-fds 4");
    assert_eq!((out.code, &*out.stdout), (0, "preserved\n7\n"), "{}", out.stderr);
    assert!(oci.names().is_empty());
}

#[test]
fn sockets_of_the_caller_are_the_containers() {
    let oci = Oci::new(&["sh", "-c", "cat <&3; echo $LISTEN_FDS $LISTEN_PID"]);
    let run = |pid: &str| {
        let line = format!("exec 3</proc/version; {pid} exec env LISTEN_FDS=1 \"$@\"");
        let inner = oci.command(&["run", "a"]);
        let mut command = Command::new("sh");
        command.args(["-c", &line, "sh"]).arg(inner.get_program()).args(inner.get_args());
        command.current_dir(oci.bundle()).env_remove("LISTEN_PID");
        Started::new(command, None).wait()
    };
    for ours in ["", "LISTEN_PID=$$"] {
        let out = run(ours);
        assert!(out.stdout.starts_with("Linux version"), "{}{}", out.stdout, out.stderr);
        assert!(out.stdout.ends_with("\n1 1\n"), "{}", out.stdout);
    }
    let out = run("LISTEN_PID=1");
    assert!(out.stderr.contains("3: Bad file descriptor"), "{}", out.stderr);
    assert_eq!(out.stdout, "\n");
}

/// The descriptor of a directory of the host, and a working directory that leads through it.
#[test]
fn a_preserved_directory_is_no_working_directory() {
    let oci = Oci::new(&["sh", "-c", "pwd; ls"]);
    oci.configure(|config| config["process"]["cwd"] = "/proc/self/fd/3".into(), &["ls"]);
    let inner = oci.command(&["run", "--preserve-fds", "1", "a"]);
    let mut command = Command::new("sh");
    command.args(["-c", "exec 3</; exec \"$@\"", "sh"]);
    command.arg(inner.get_program()).args(inner.get_args()).current_dir(oci.bundle());
    let out = Started::new(command, None).wait();
    assert_eq!(out.code, 1, "{}", out.stdout);
    assert!(out.stderr.contains("working directory"), "{}", out.stderr);
}

#[test]
fn the_version_and_a_first_configuration_are_printed() {
    let oci = Oci::new(&["true"]);
    let features: Value = serde_json::from_str(&oci.ok(&["features"])).unwrap();
    let spec = features["ociVersionMax"].as_str().unwrap();
    for option in ["--version", "-v"] {
        let text = oci.ok(&[option]);
        assert!(text.starts_with("runtime-oci version "), "{text}");
        assert!(text.contains(&format!("\nspec: {spec}\n")), "{text}");
        assert!(text.contains("\n+SYSTEMD ") && text.contains(" +SECCOMP "), "{text}");
    }
    oci.fails(1, &["exists"], &["spec"]);
    std::fs::remove_file(oci.bundle().join("config.json")).unwrap();
    oci.ok(&["spec"]);
    let written = std::fs::read(oci.bundle().join("config.json")).unwrap();
    let config: Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(config["ociVersion"], spec);
    assert_eq!(config["process"]["args"][0], "sh");
    let elsewhere = oci.dir.path().to_str().unwrap();
    oci.ok(&["spec", "--rootless", "--bundle", elsewhere]);
    assert!(oci.dir.path().join("config.json").exists());
    oci.fails(1, &["No help topic for 'foo'"], &["foo", "-h"]);
    // As runc's, with the name that the program was called by.
    let help = oci.ok(&["delete", "-h"]);
    assert!(help.starts_with("NAME:\n   runtime-oci delete - Remove a container\n"), "{help}");
    let link = oci.dir().join("runc");
    std::os::unix::fs::symlink(super::BIN, &link).unwrap();
    let help = Command::new(&link).arg("-h").output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    assert!(help.starts_with("NAME:\n   runc - Open Container Initiative runtime\n"), "{help}");
    assert!(help.contains("Usage: runc [OPTIONS] [COMMAND]"), "{help}");
    let help = oci.ok(&["--help"]);
    for verb in ["create", "start", "state", "kill", "delete", "run", "exec", "list", "spec"] {
        assert!(help.contains(&format!("  {verb}")), "{verb}: {help}");
    }
}

#[test]
fn the_callers_processors_are_not_the_containers() {
    let oci = Oci::new(&["grep", "Cpus_allowed_list", "/proc/self/status"]);
    let kept_to_one = |args: &[&str]| {
        let inner = oci.command(args);
        let mut command = std::process::Command::new("taskset");
        command.args(["-c", "0"]).arg(inner.get_program()).args(inner.get_args());
        command.current_dir(oci.bundle());
        let out = Started::new(command, None).wait();
        assert_eq!(out.code, 0, "{}", out.stderr);
        out.stdout
    };
    let all = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    let all = format!("Cpus_allowed_list:\t{all}");
    assert_eq!(kept_to_one(&["run", "a"]), all);
    oci.configure(|_| {}, &super::WAITS);
    oci.create(&["b"]);
    oci.ok(&["start", "b"]);
    assert_eq!(kept_to_one(&["exec", "b", "grep", "Cpus_allowed_list", "/proc/self/status"]), all);
}

/// On a machine whose mounts are private, as without systemd.
#[test]
fn what_is_mounted_privately_is_shared_inside_with_a_warning() {
    let mut oci = Oci::new(&WAITS);
    oci.prefix = ["unshare", "--mount", "--propagation", "private"].map(Into::into).into();
    for (word, seen, needed) in
        [("rshared", " shared:", "no shared mount"), ("rslave", " - ", "no shared or slave mount")]
    {
        oci.configure(
            |config| {
                let bind = serde_json::json!({
                    "destination": "/tmp", "type": "bind", "source": oci.dir(), "options": ["rbind", word],
                });
                config["mounts"].as_array_mut().unwrap().push(bind);
            },
            &["grep", " /tmp ", "/proc/self/mountinfo"],
        );
        let out = oci.call(&["run", "one"]);
        assert_eq!(out.code, 0, "{}", out.stderr);
        assert!(out.stdout.contains(seen), "{word}: {}", out.stdout);
        assert!(
            out.stderr.contains("level=warning") && out.stderr.contains(needed),
            "{}",
            out.stderr
        );
    }
}
