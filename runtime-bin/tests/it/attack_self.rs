//! The runtime's own program and descriptors, as a container can get at them: both programs, each form of layers.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::attack::{Canary, SECRET, forms, race};
use crate::harness::{BIN, Root, Started, arg, write_script};
use crate::image::{Archive, Layer, sha256};
use crate::oci::{self, Oci, WAITS};

fn digest(program: &str) -> String {
    sha256(&fs::read(program).unwrap())
}

/// Each process that it sees it opens for reading, and then what it has open for writing: that goes as soon as the
/// program ends (2019-5736).
const WRITER: &str = "while :; do for p in /proc/[0-9]*; do \
    (exec 3<$p/exe; for i in 1 2 3; do echo x >>/proc/self/fd/3; done; echo x >>$p/exe) 2>/dev/null; done; done";

/// A script whose interpreter is the program that starts it, a link to that program, and a loader that is it.
#[test]
fn the_program_cannot_be_overwritten() {
    let before = digest(BIN);
    for form in forms() {
        let root = Root::new();
        let layer = Layer::new()
            .file("bin/script", 0o755, "#!/proc/self/exe\n")
            .file("bin/descriptor", 0o755, "#!/proc/self/fd/3\n")
            .symlink("bin/link", "/proc/self/exe");
        let archive = Archive::busybox([layer]).with("Entrypoint", json!(["/bin/script"]));
        let image = archive.write(root.dir(), "x.tar");
        for command in
            ["/bin/script", "/bin/descriptor", "/bin/link", "/proc/self/exe", "/proc/1/exe"]
        {
            let out =
                root.call(["run", "--rm", form, "--entrypoint", command, arg(&image), "version"]);
            assert!(!out.stderr.contains("panicked"), "{command}: {out:?}");
        }
        let out = root.call(["run", "--rm", form, arg(&image)]);
        assert_ne!(out.code, 0, "{out:?}");
        // `sh` is the image's entry point's argument otherwise.
        let run = ["run", "-d", "--name", "box", "--entrypoint", "sh", arg(&image), "-c", WRITER];
        root.ok(run);
        race(&format!("exec beside a writer, {form}"), 20, || {
            root.ok(["exec", "box", "true"]);
            root.call(["exec", "box", "/bin/script"]);
            root.call(["exec", "box", "/proc/self/exe", "version"]);
            root.ok(["cp", "box:/etc/passwd", arg(&root.dir().join("copy"))]);
        });
        root.ok(["rm", "-f", "box"]);
        root.assert_nothing_left();
    }
    assert_eq!(digest(BIN), before, "the program on the host has changed");
}

#[test]
fn runtime_oci_cannot_be_overwritten() {
    let before = digest(oci::BIN);
    let oci = Oci::new(&["sh", "-c", WRITER]);
    let rootfs = oci.bundle().join("rootfs/bin");
    write_script(&rootfs.join("script"), "#!/proc/self/exe\n");
    oci.create(&["a"]);
    oci.ok(&["start", "a"]);
    race("runtime-oci exec beside a writer", 20, || {
        oci.ok(&["exec", "a", "true"]);
        let out = oci.call(&["exec", "a", "/bin/script", "--version"]);
        assert!(!out.stderr.contains("panicked"), "{out:?}");
        let out = oci.call(&["exec", "a", "/proc/self/exe", "--version"]);
        assert!(!out.stderr.contains("panicked"), "{out:?}");
    });
    oci.ok(&["delete", "--force", "a"]);
    for args in
        [&["/bin/script"][..], &["/proc/self/exe", "--version"], &["/proc/1/exe", "--version"]]
    {
        oci.configure(|_| {}, args);
        let out = oci.call(&["run", "a"]);
        assert!(!out.stderr.contains("panicked"), "{out:?}");
    }
    assert_eq!(digest(oci::BIN), before, "the program on the host has changed");
}

/// With descriptors of the host's directories open, as careless callers have them.
pub(crate) fn careless(command: &Command) -> Command {
    let mut careless = Command::new("sh");
    let open: String = (3..10).map(|number| format!("exec {number}</;")).collect();
    careless.args(["-c", &format!("{open} exec \"$@\""), "sh"]);
    careless.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        careless.env(key, value.unwrap_or_default());
    }
    if let Some(dir) = command.get_current_dir() {
        careless.current_dir(dir);
    }
    careless
}

/// 2024-21626: a working directory below a descriptor that was left open, of `run`, `exec` and the image.
#[test]
fn a_working_directory_below_a_descriptor() {
    for form in forms() {
        let root = Root::new();
        let canary = Canary::new(root.dir());
        let script = format!("cat ../../../../../../..{0}/alive .{0}/alive; pwd -P", canary.path());
        let layer = Layer::new().symlink("work", "/proc/self/fd/7");
        let archive = Archive::busybox([layer]).with("WorkingDir", json!("/proc/self/fd/8"));
        let image = archive.write(root.dir(), "x.tar");
        root.ok(["load", "-q", form, "-i", arg(&image)]);
        root.ok(["run", "-d", "--name", "box", "-w", "/", arg(&image), "sleep", "1000"]);
        let mut places: Vec<String> =
            (3..=30).map(|number| format!("/proc/self/fd/{number}")).collect();
        places.extend(
            ["/proc/1/fd/7", "/proc/self/cwd", "/work", "/proc/thread-self/fd/9"]
                .map(str::to_owned),
        );
        for place in &places {
            let run = ["run", "--rm", "-w", place, arg(&image), "sh", "-c", &script];
            let exec = ["exec", "-w", place, "box", "sh", "-c", &script];
            for args in [&run[..], &exec[..]] {
                let out = Started::new(careless(&root.command(args)), None).wait();
                assert_ne!(out.code, 0, "{args:?}: {out:?}");
                assert!(!out.stdout.contains(SECRET), "{args:?}: {out:?}");
            }
        }
        // The image's own.
        let out = Started::new(
            careless(&root.command(["run", "--rm", arg(&image), "sh", "-c", &script])),
            None,
        );
        let out = out.wait();
        assert!(out.code == 125 && !out.stdout.contains(SECRET), "{out:?}");
        canary.assert_untouched();
        root.ok(["rm", "-f", "box"]);
    }
}

#[test]
fn a_working_directory_below_a_descriptor_of_runtime_oci() {
    let oci = Oci::new(&WAITS);
    let canary = Canary::new(oci.dir());
    oci.create(&["a"]);
    oci.ok(&["start", "a"]);
    let script = format!("cat ../../../../../../..{0}/alive .{0}/alive", canary.path());
    let call = |args: &[&str]| {
        let out = Started::new(careless(&oci.command(args)), None).wait();
        assert_ne!(out.code, 0, "{args:?}: {out:?}");
        assert!(!out.stdout.contains(SECRET), "{args:?}: {out:?}");
    };
    for number in 3..=30 {
        let place = format!("/proc/self/fd/{number}");
        call(&["exec", "--cwd", &place, "a", "sh", "-c", &script]);
        // A group of its own: "a" has the usual one.
        let change = |config: &mut serde_json::Value| {
            config["process"]["cwd"] = place.as_str().into();
            config["linux"]["cgroupsPath"] = format!("{}-b", oci.group()).into();
        };
        oci.configure(change, &["sh", "-c", &script]);
        call(&["run", "b"]);
        call(&["run", "--preserve-fds", "5", "b"]);
    }
    canary.assert_untouched();
    oci.ok(&["delete", "--force", "a"]);
}

/// 2026-41567: nothing of an image is run for the host, whatever its name.
#[test]
fn no_program_of_an_image_runs_for_the_host() {
    let names = [
        "gzip",
        "unpigz",
        "pigz",
        "zstd",
        "xz",
        "tar",
        "docker-untar",
        "sh",
        "ls",
        "ps",
        "mount",
        "id",
    ];
    for form in forms() {
        let root = Root::new();
        let canary = Canary::new(root.dir());
        let marks = root.host_dir("marks");
        // Where it is run for the host it has the host's root, and where it is run in the container, that.
        let program = format!(
            "#!/bin/busybox sh\necho $0 >>{0}/ran; echo dead >{1}/alive\n",
            arg(&marks),
            canary.path()
        );
        let layer = names.iter().fold(Layer::new(), |layer, name| {
            let in_bin = layer.file(&format!("usr/local/sbin/{name}"), 0o755, &program);
            in_bin.file(&format!("usr/local/bin/{name}"), 0o755, &program)
        });
        let image = Archive::busybox([layer]).write(root.dir(), "x.tar");
        let volume = format!("{0}:{0}", arg(&marks));
        let run = [
            "run",
            "-d",
            "--name",
            "box",
            "-v",
            &volume,
            form,
            arg(&image),
            "/bin/busybox",
            "sleep",
            "1000",
        ];
        root.ok(run);
        let copy = root.dir().join("copy");
        root.ok(["cp", "box:/etc", arg(&copy)]);
        root.ok(["cp", arg(&image), "box:/etc/"]);
        let gzipped = crate::harness::image("busybox", "oci-gzip");
        root.ok(["cp", arg(&gzipped), "box:/etc/gzipped"]);
        root.ok(["diff", "box"]);
        root.ok(["top", "box"]);
        root.ok(["mounts", "box"]);
        root.ok(["export", "-o", arg(&root.dir().join("out.tar")), "box"]);
        root.ok(["commit", "box", "made:1"]);
        root.ok(["save", "-o", arg(&root.dir().join("saved.tar")), "made:1"]);
        assert_eq!(fs::read_dir(&marks).unwrap().count(), 0, "{:?}", fs::read(marks.join("ran")));
        // They would have left their mark.
        root.call(["exec", "box", "gzip"]);
        assert!(fs::read_to_string(marks.join("ran")).unwrap().contains("gzip"));
        canary.assert_untouched();
        root.ok(["rm", "-f", "box"]);
    }
}
