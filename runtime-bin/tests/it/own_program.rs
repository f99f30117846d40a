//! The runtime's own program, which a container can get to see, and not to write (CVE-2019-5736).

use std::fs;

use crate::harness::{BIN, Root, arg, busybox, wait_until, write_script};
use crate::init::is_dynamic;

/// A command, and a script's interpreter, that is the program which starts the container. It runs, where
/// it needs nothing of the image, and cannot be overwritten while it runs or afterwards.
#[test]
fn it_cannot_be_overwritten_from_a_container() {
    let root = Root::new();
    root.ok(["load", "-q", "-i", arg(&busybox())]);
    let before = fs::read(BIN).unwrap();
    let bin = root.host_dir("bin");
    write_script(&bin.join("script"), "#!/proc/self/exe\n");
    let volume = format!("{}:/bin/own", bin.display());
    // It waits for an archive on its standard input, which stays open.
    let command = ["/proc/self/exe", "--root", "/store", "load", "-q", "-i", "-"];
    let run = ["run", "-d", "-i", "--name", "box", "-v", &volume, "busybox"];
    let words: Vec<&str> = run.into_iter().chain(command).collect();
    if is_dynamic() {
        // Its loader is not in the image.
        root.fails(127, &["/proc/self/exe"], &words);
        return;
    }
    root.ok(&words);
    let write = |file: &str| {
        let script = format!("echo overwritten >{file}");
        root.call(["exec", "box", "sh", "-c", &script]).stderr
    };
    let exe = || root.ok(["exec", "box", "readlink", "/proc/1/exe"]);
    wait_until("the program in the container", || !exe().is_empty());
    let said = write("/proc/1/exe");
    assert!(said.contains("Read-only file system"), "{said}");
    // A process of exec that is the program, too: with a descriptor that outlives it.
    let held = "exec 3</proc/1/exe; echo overwritten >/proc/self/fd/3";
    let out = root.call(["exec", "box", "sh", "-c", held]);
    assert!(out.stderr.contains("Read-only file system"), "{}", out.stderr);
    let out = root.call(["exec", "box", "/proc/self/exe", "version"]);
    assert!(out.stdout.contains("Version"), "{} {}", out.stdout, out.stderr);
    // What comes behind `#!` is the program, the script its argument.
    let out = root.call(["exec", "box", "/bin/own/script"]);
    assert_ne!(out.code, 0, "{}", out.stdout);
    root.ok(["rm", "-f", "box"]);
    assert!(fs::read(BIN).unwrap() == before, "the program on the host has changed");
}

/// `ps` and `pkill` on the host find it by its name.
#[test]
fn its_supervisor_has_its_name() {
    let root = Root::new();
    root.sleeper("box", &[]);
    let processes = crate::host::processes_of(root.dir());
    let name = |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let names: Vec<String> = processes.iter().map(|(pid, _)| name(*pid)).collect();
    assert!(names.iter().any(|name| name == "runtime-bin\n"), "{names:?}");
}
