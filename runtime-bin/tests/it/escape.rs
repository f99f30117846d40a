//! Row 10: what a container tries, to see more than what lies below its own root.

use std::fs;

use rustix::fs::{Mode, OFlags};

use crate::harness::{Root, arg, busybox};
use crate::host;

const SECRET: &str = "the-secret-of-the-host";

/// A file of the host that no container may read, and a container named `box` that tries.
struct Prison {
    root: Root,
    canary: String,
}

impl Prison {
    fn new(options: &[&str]) -> Prison {
        let root = Root::new();
        let canary = root.dir().join("canary-of-the-host");
        fs::write(&canary, SECRET).unwrap();
        root.sleeper("box", options);
        let canary = arg(&canary).to_owned();
        Prison { root, canary }
    }

    /// Runs a script in the container; what it printed, on both streams.
    fn attempt(&self, script: &str) -> String {
        let script = format!("H={}; S={}; {script}", self.canary, self.root.store().display());
        let out = self.root.call(["exec", "box", "sh", "-c", &script]);
        out.stdout + &out.stderr
    }

    /// Runs a script that must not get at the canary.
    #[track_caller]
    fn try_in_vain(&self, script: &str) -> String {
        let seen = self.attempt(script);
        assert!(!seen.contains(SECRET), "the host's file was read: {seen}");
        assert!(!seen.contains("FOUND"), "{seen}");
        assert_eq!(fs::read_to_string(&self.canary).unwrap(), SECRET, "the file was written to");
        seen
    }
}

#[test]
fn by_name() {
    let prison = Prison::new(&[]);
    prison.try_in_vain("cat $H");
    prison.try_in_vain("cat /../../../../../../../../../..$H; cd /; cd ../../../..; cat .$H");
    prison.try_in_vain("ls -d $S && echo FOUND");
    prison.try_in_vain("echo written > $H");
    prison.try_in_vain("ln -s $H /tmp/link; ln -s ../../../../..$H /tmp/l2; cat /tmp/link /tmp/l2");
    // Everything that its own root has, but for what the kernel has in /proc and /sys.
    prison.try_in_vain("find / -name 'canary-of-the-host*' -print | grep . && echo FOUND");
    let table = prison.attempt("cat /proc/self/mountinfo /proc/mounts");
    // The store is named as overlay's options and as the sources of its own binds, and nowhere else.
    for line in table.lines().filter(|line| line.contains(arg(prison.root.dir()))) {
        let own = line.contains("overlay") || line.contains("/etc/");
        assert!(own, "{line}");
    }
}

#[test]
fn by_another_container() {
    let prison = Prison::new(&[]);
    let other = prison.root.sleeper("other", &["-v", "data:/data"]);
    let script = format!("echo {SECRET} > /other-file; echo {SECRET} > /data/file");
    prison.root.ok(["exec", "other", "sh", "-c", &script]);
    prison.try_in_vain("cat /other-file /data/file");
    prison.try_in_vain(&format!("cat $S/containers/{other}/diff/other-file"));
    prison.try_in_vain("find / -name other-file | grep . && echo FOUND");
    // Nor are its processes to be seen or reached.
    let pid = prison.root.pid("other");
    prison.try_in_vain(&format!("ls /proc/{pid} && echo FOUND; kill -9 {pid} && echo FOUND"));
    assert!(host::is_alive(pid));
}

#[test]
fn by_proc() {
    let prison = Prison::new(&[]);
    prison.try_in_vain("for p in /proc/[0-9]* /proc/self; do cat $p/root$H $p/cwd$H; done");
    prison.try_in_vain("for p in /proc/[0-9]*; do cat $p/cwd/../../../../../..$H; done");
    // A process is the container's own, each of which has the same root.
    let seen =
        prison.attempt("for p in /proc/[0-9]*; do stat -L -c %d:%i $p/root/; done | sort -u");
    let roots = seen.lines().filter(|line| !line.contains("No such file")).count();
    assert_eq!(roots, 1, "{seen}");
    prison.try_in_vain("cat /proc/self/map_files/* /proc/self/exe 2>/dev/null | head -c0");
}

#[test]
fn by_an_inherited_descriptor() {
    // The runtime itself is started with a directory of the host's open, as careless callers do.
    let inherited = rustix::fs::open("/", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
    let inherited = inherited.unwrap();
    let prison = Prison::new(&[]);
    prison.try_in_vain("for f in /proc/[0-9]*/fd/*; do cat $f$H $f/../../../../../..$H; done");
    // Of process 1 and of an exec: nothing but the three standard streams, none of them a directory.
    let pid = prison.root.pid("box");
    let names = |dir: String| {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    };
    let of_shell = |name: &String| name.parse::<u32>().unwrap() < 10; // sh saves its own at 10
    let mut first = names(format!("/proc/{pid}/fd"));
    first.retain(of_shell);
    assert_eq!(first, ["0", "1", "2"]);
    let seen = prison.attempt("ls -l /proc/self/fd");
    let links = seen.lines().filter(|line| line.contains(" -> "));
    let links: Vec<_> = links.filter(|line| !line.contains("/proc/")).collect();
    assert_eq!(links.len(), 3, "{seen}"); // and 3, ls's own, of /proc/N/fd
    drop(inherited);
}

/// CVE-2024-21626: a working directory below a descriptor that was left open.
#[test]
fn by_a_working_directory_in_proc() {
    let prison = Prison::new(&[]);
    let image = busybox();
    let script = format!("cat ../../../../../../..{0} .{0}", prison.canary);
    for number in 3..12 {
        let workdir = format!("/proc/self/fd/{number}");
        let command = ["sh", "-c", &script];
        let run = ["run", "--rm", "-w", &workdir, arg(&image)];
        let exec = ["exec", "-w", &workdir, "box"];
        for args in [[&run[..], &command].concat(), [&exec[..], &command].concat()] {
            let out = prison.root.call(&args);
            assert_ne!(out.code, 0, "{args:?}: {out:?}");
            assert!(!out.stdout.contains(SECRET), "{args:?}: {out:?}");
        }
    }
}

/// The disk on which the host's file lies, as a node of the container's own making.
#[test]
fn by_a_device_node() {
    for options in [&[][..], &["--cap-add", "ALL"]] {
        let prison = Prison::new(options);
        let (major, minor) = host::device_of(prison.root.dir());
        // The partition, the whole disk, and the memory.
        for node in [format!("b {major} {minor}"), format!("b {major} 0"), "c 1 1".to_owned()] {
            for dir in ["/", "/tmp", "/dev", "/dev/shm"] {
                let seen = prison.try_in_vain(&format!(
                    "rm -f {dir}/node; mknod {dir}/node {node} && head -c 512 {dir}/node >/dev/null \
                     && echo FOUND"
                ));
                let refused = ["not permitted", "denied", "No such device"];
                assert!(refused.iter().any(|word| seen.contains(word)), "{node} in {dir}: {seen}");
            }
        }
    }
}

/// The same node as a file of the image's layer, tried by the container's first process too.
#[test]
fn by_a_device_node_of_the_image() {
    let root = Root::new();
    let (major, minor) = host::device_of(root.dir());
    let layer = crate::image::Layer::new().block_device("disk", major, minor);
    let image = crate::image::Archive::busybox([layer]).write(root.dir(), "x.tar");
    for options in [&[][..], &["--cap-add", "ALL"]] {
        let command = ["sh", "-c", "ls -l /disk; head -c 512 /disk > /dev/null && echo FOUND"];
        let out = root.call([&["run", "--rm"], options, &[arg(&image)], &command].concat());
        assert!(out.stdout.starts_with('b'), "{out:?}");
        assert!(!out.stdout.contains("FOUND"), "the host's disk was read: {out:?}");
    }
}

/// A file system of the host's devices, where the container may mount.
#[test]
fn by_a_mount_of_devices() {
    let prison = Prison::new(&["--cap-add", "SYS_ADMIN"]);
    let (major, minor) = host::device_of(prison.root.dir());
    prison.try_in_vain(&format!(
        "mkdir -p /mnt; mount -t devtmpfs x /mnt; for d in /mnt/*; do \
         [ \"$(stat -c %t:%T $d)\" = {major:x}:{minor:x} ] && head -c 512 $d > /dev/null && \
         echo FOUND; done; mount -t tmpfs x /mnt && mknod /mnt/disk b {major} {minor} && \
         head -c 512 /mnt/disk > /dev/null && echo FOUND"
    ));
}

#[test]
fn by_a_mount() {
    let prison = Prison::new(&[]);
    for script in [
        "mount -t tmpfs x /mnt && echo FOUND",
        "mount -t proc x /mnt && echo FOUND",
        "mount --bind / /mnt && echo FOUND",
        "mount -o remount,rw /sys && echo FOUND",
        "mount -o remount,rw,bind /proc/sys && echo FOUND",
        "umount /proc/sys && echo FOUND",
        "umount /proc/kcore && echo FOUND",
        "umount /etc/hosts && echo FOUND",
        "chroot / mount -t tmpfs x /mnt && echo FOUND",
        "unshare -m true && echo FOUND",
        "nsenter -t 1 -m cat $H",
    ] {
        prison.try_in_vain(&format!("mkdir -p /mnt; {script}"));
    }
    // In namespaces of its own it may mount, and still sees only its own root.
    let in_own = "mkdir -p /mnt; unshare -U -r -m sh -c 'mount -t tmpfs x /mnt; mount --rbind / /mnt; \
        cat /mnt$H /mnt/..$H /proc/1/root$H; umount -l /; cat $H /..$H'";
    prison.try_in_vain(in_own);
}

/// With the capability to mount, it is still its own root that it mounts on.
#[test]
fn by_a_mount_with_the_capability() {
    let prison = Prison::new(&["--cap-add", "SYS_ADMIN"]);
    let seen = prison.try_in_vain(
        "mkdir -p /mnt && mount -t tmpfs x /mnt && echo made && umount /mnt && \
         mount --rbind / /mnt && cat /mnt$H /mnt/..$H",
    );
    assert!(seen.contains("made"), "{seen}");
    // The old root is not below the new one.
    prison.try_in_vain("umount -l /; cat $H /..$H; ls /proc/1/root$H");
    prison.try_in_vain("unshare -m sh -c 'umount -l /proc; umount -l /dev; umount -l /; cat $H'");
    // What it mounts is its own affair: the host's table has the one line.
    let mounts = host::container_mounts(prison.root.dir());
    assert_eq!(mounts.len(), 1, "{mounts:#?}");
}

/// chroot(2) and `..`, which leads out where the root was changed with chroot.
#[test]
fn by_chroot() {
    let prison = Prison::new(&[]);
    prison.try_in_vain(
        "mkdir -p /tmp/jail/bin; cp /bin/busybox /tmp/jail/bin; cd /; \
         chroot /tmp/jail /bin/busybox true; \
         chroot /proc/1/root cat $H; chroot /proc/1/cwd cat $H; chroot /.. cat $H",
    );
}

/// The program itself is out of reach: CVE-2019-5736.
#[test]
fn by_the_runtimes_own_binary() {
    let root = Root::new();
    let before = crate::image::sha256(&fs::read(crate::harness::BIN).unwrap());
    let layer = crate::image::Layer::new()
        .file("bin/self", 0o755, "#!/proc/self/exe\n")
        .symlink("bin/exe", "/proc/self/exe");
    let image = crate::image::Archive::busybox([layer]).write(root.dir(), "x.tar");
    for command in ["/bin/self", "/proc/self/exe", "/bin/exe"] {
        let out = root.call(["run", "--rm", arg(&image), command]);
        assert!(!out.stderr.contains("panicked"), "{out:?}");
    }
    let script = "trap 'exit 0' TERM; while :; do for p in /proc/[0-9]*; do \
        echo x 2>/dev/null >> $p/exe; done; done";
    root.ok(["run", "-d", "--rm", "--name", "box", arg(&image), "sh", "-c", script]);
    for _ in 0..5 {
        root.call(["exec", "box", "true"]);
        root.call(["exec", "box", "/bin/self"]);
    }
    root.ok(["kill", "box"]);
    root.assert_nothing_left();
    assert_eq!(crate::image::sha256(&fs::read(crate::harness::BIN).unwrap()), before);
}
