//! The runtime's own program, which a container can get to see, and not to write (CVE-2019-5736).

use std::fs;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use sys::mount::Change;

use crate::harness::{BIN, Root, Started, arg, busybox, wait_until, write_script};
use crate::init::is_dynamic;
use crate::oci::{Oci, WAITS};

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

/// A mount without a place can be changed, and moved to a place, by whoever gets to it and may mount in a namespace of its
/// own, as long as anybody has the descriptor that it was made by (mount_setattr(2)). A process that was in the container
/// when that was the program gets to it by `/proc/PID/exe`.
#[test]
fn nobody_can_make_its_mount_writable() {
    let open_to_write = |started: &Started| {
        let exe = format!("/proc/{}/exe", started.pid());
        let exe = rustix::fs::open(exe, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let flags = rustix::fs::fstatvfs(&exe).unwrap().f_flag;
        assert!(flags.contains(StatVfsMountFlags::RDONLY), "{flags:?}");
        // Nor make another one of it.
        assert_eq!(sys::mount::clone_tree(&exe, c"", false).err(), Some(Errno::INVAL));
        let clear = Some(MountAttrFlags::MOUNT_ATTR_RDONLY);
        sys::mount::change(&exe, &Change { clear, ..Change::default() })
    };
    let oci = Oci::new(&WAITS);
    let run = Started::new(oci.command(&["run", "a"]), None);
    wait_until("the container", || oci.call(&["state", "a"]).stdout.contains("running"));
    assert_eq!(open_to_write(&run), Err(Errno::INVAL), "runtime-oci run");
    // Its child is on its way into the container and gets no further.
    oci.ok(&["pause", "a"]);
    let exec = Started::new(oci.command(&["exec", "--ignore-paused", "a", "true"]), None);
    let children = format!("/proc/{0}/task/{0}/children", exec.pid());
    wait_until("the child", || !fs::read_to_string(&children).unwrap().is_empty());
    assert_eq!(open_to_write(&exec), Err(Errno::INVAL), "runtime-oci exec");
    oci.ok(&["resume", "a"]);
    assert_eq!(exec.wait().code, 0);
    oci.ok(&["delete", "--force", "a"]);
    run.wait();

    let root = Root::new();
    root.ok(["load", "-q", "-i", arg(&busybox())]);
    let run = root.start(["run", "--rm", "--name", "box", "busybox", "sleep", "1000"]);
    let runs = || root.call(["exec", "box", "true"]).code == 0;
    wait_until("the container", runs);
    assert_eq!(open_to_write(&run), Err(Errno::INVAL), "runtime-bin run");
    let exec = root.start(["exec", "box", "sh", "-c", "touch /here; exec sleep 1000"]);
    let runs = || root.call(["exec", "box", "test", "-e", "/here"]).code == 0;
    wait_until("the program in the container", runs);
    assert_eq!(open_to_write(&exec), Err(Errno::INVAL), "runtime-bin exec");
    root.ok(["rm", "-f", "box"]);
    for started in [run, exec] {
        started.wait();
    }
}

/// A loader that is told to run it (ld.so(8)) is the file that was executed: its bytes must not be mapped in the program's
/// place. One that needs no loader is executed by it.
#[test]
fn a_loader_that_is_told_to_run_it_is_not_taken_for_it() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut paths = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    let loader = match is_dynamic() {
        true => paths.find(|path| path.contains("/ld-")).unwrap(),
        false => return,
    };
    let mut command = Command::new(loader);
    command.args([crate::oci::BIN, "exec", "a", "true"]);
    let out = Started::new(command, None).wait();
    assert!(out.code > 0 && !out.stderr.is_empty(), "{out:?}");
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

/// What the kernel notes of a process's memory and strings is told to it anew when the program goes over to another mount.
#[test]
fn what_the_kernel_notes_of_it_is_as_it_was() {
    let oci = Oci::new(&WAITS);
    for env in [&[][..], &[("A", "1")], &[("A", ""), ("LONGER", "value with spaces")]] {
        let mut command = oci.command(&["run", "a"]);
        command.env_clear().envs(env.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null());
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<_> = words.map(|word| word.to_str().unwrap().to_owned() + "\0").collect();
        let mut program = command.spawn().unwrap();
        wait_until("the container", || oci.call(&["state", "a"]).stdout.contains("running"));
        let of = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", program.id())).unwrap();
        assert_eq!(of("cmdline"), words.concat());
        let variables = env.iter().map(|(name, value)| format!("{name}={value}\0"));
        assert_eq!(of("environ"), variables.collect::<String>());
        // By what is noted the kernel finds these names (proc_pid_maps(5)).
        let maps = of("maps");
        assert!(maps.contains("[heap]") && maps.contains("[stack]"), "{maps}");
        // startcode and endcode (proc_pid_stat(5)), behind the name, which has no parenthesis
        let stat = of("stat");
        let fields = stat.rsplit_once(") ").unwrap().1.split(' ').skip(26 - 3).take(2);
        let code: Vec<u64> = fields.map(|field| field.parse().unwrap()).collect();
        let range = |line: &str| {
            let (range, rest) = line.split_once(' ')?;
            let (start, end) = range.split_once('-')?;
            let number = |text| u64::from_str_radix(text, 16).ok();
            rest.starts_with("r-x").then_some((number(start)?, number(end)?))
        };
        let found = maps
            .lines()
            .filter_map(range)
            .any(|(start, end)| start <= code[0] && code[0] < code[1] && code[1] <= end);
        assert!(found, "{code:x?} {maps}");
        oci.ok(&["delete", "--force", "a"]);
        program.wait().unwrap();
    }
}
