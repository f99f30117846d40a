//! Errors that say what was wrong, where, and what the kernel said of it.

use std::fs;
use std::os::unix::process::CommandExt;

use crate::harness::{Root, Started, arg, busybox, write_script};
use crate::image::{Archive, Layer, foreign_program};

/// Which of the reasons it was that a command could not be executed: of `run` and of `exec`.
#[test]
fn a_command_that_cannot_be_executed() {
    let root = Root::new();
    // A dynamic program whose loader the image has not: an ELF head and the name behind it.
    let mut dynamic = foreign_program();
    let machine: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    let interpreter = b"/lib/ld-no-such.so.1\0";
    dynamic[18..20].copy_from_slice(&machine.to_le_bytes());
    dynamic[32..40].copy_from_slice(&64_u64.to_le_bytes()); // the program headers' place
    dynamic[54..56].copy_from_slice(&56_u16.to_le_bytes()); // size of one
    dynamic[56..58].copy_from_slice(&1_u16.to_le_bytes()); // and how many
    dynamic.resize(120, 0);
    dynamic[64..68].copy_from_slice(&3_u32.to_le_bytes()); // PT_INTERP
    dynamic[72..80].copy_from_slice(&120_u64.to_le_bytes());
    dynamic[96..104].copy_from_slice(&(interpreter.len() as u64).to_le_bytes());
    dynamic[104..112].copy_from_slice(&(interpreter.len() as u64).to_le_bytes());
    dynamic.extend_from_slice(interpreter);
    let layer = Layer::new()
        .file("bin/orphan", 0o755, "#!/no/such/interpreter\n")
        .file("bin/dynamic", 0o755, dynamic)
        .file("bin/foreign", 0o755, foreign_program())
        .file("bin/crlf", 0o755, "#!/bin/sh\r\necho hello\r\n")
        .file("plain", 0o644, "#!/bin/sh\n")
        .file("text", 0o755, "echo hello\n");
    let image = Archive::busybox([layer]).write(root.dir(), "x.tar");
    let volume = root.host_dir("volume");
    write_script(&volume.join("program"), "#!/bin/sh\n");
    let volume = format!("{}:/v:noexec", arg(&volume));
    let box_ = ["run", "-d", "--name", "box", "-v", &volume, arg(&image), "sleep", "1000"];
    root.ok(box_);
    for (command, code, words) in [
        ("no-such", 127, &["not found in $PATH", "PATH is /"][..]),
        ("/bin/no-such", 127, &["no such file or directory"]),
        (
            "orphan",
            127,
            &[
                "exec /bin/orphan: no such file or directory",
                "\"/no/such/interpreter\"",
                "not in the image",
            ],
        ),
        (
            "dynamic",
            127,
            &["exec /bin/dynamic: no such file or directory", "loader \"/lib/ld-no-such.so.1\""],
        ),
        ("crlf", 127, &["CR LF", "dos2unix"]),
        ("/plain", 126, &["0644", "no x bit"]),
        ("/v/program", 126, &["noexec"]),
        ("foreign", 126, &["exec format error", "a program for", "and this machine is"]),
        ("/text", 126, &["exec format error", "#!/bin/sh"]),
        ("/etc", 126, &["directory"]),
    ] {
        root.fails(code, words, ["exec", "box", command]);
        // The reason is the same; one is enough of those that take a container.
        if matches!(command, "foreign" | "/v/program") {
            root.fails(code, words, ["run", "--rm", "-v", &volume, arg(&image), command]);
        }
    }
}

/// Which component of a volume's source is to blame.
#[test]
fn a_source_that_cannot_be_reached() {
    let root = Root::new();
    let dir = root.host_dir("dir");
    fs::write(dir.join("file"), "").unwrap();
    std::os::unix::fs::symlink("nowhere", dir.join("dangling")).unwrap();
    let image = busybox();
    for (path, blamed) in [
        ("missing/a/b", "there is no \"{dir}/missing\""),
        ("file/a", "\"{dir}/file\" is no directory"),
        ("dangling/a", "the symbolic link \"{dir}/dangling\" leads to \"nowhere\""),
    ] {
        let blamed = blamed.replace("{dir}", arg(&dir));
        let spec = format!("{}/{path}:/v", arg(&dir));
        root.fails(125, &[&blamed, "/v"], ["run", "--rm", "-v", &spec, arg(&image), "true"]);
    }
    root.assert_nothing_left();
}

/// A mount that the kernel refuses: the option, and the kernel's own words where it has any.
#[test]
fn a_mount_that_the_kernel_refuses() {
    let root = Root::new();
    let image = busybox();
    for (option, value, words) in [
        ("--tmpfs", "/t:size=lots", &["/t", "size", "lots"][..]),
        ("--tmpfs", "/t:mode=9", &["/t", "mode"]),
        ("--tmpfs", "/t:uid=nobody", &["/t", "uid"]),
        ("--mount", "type=tmpfs,dst=/t,tmpfs-size=x", &["tmpfs-size", "x"]),
        ("-v", "/tmp:/v:shared", &["/v", "shared"]),
    ] {
        let args = ["run", "--rm", option, value, arg(&image), "true"];
        let out = root.call(args);
        // Whether /tmp is shared is the machine's.
        if value == "/tmp:/v:shared" && out.code == 0 {
            continue;
        }
        assert_eq!(out.code, 125, "{value}: {out:?}");
        for word in words {
            assert!(out.stderr.contains(word), "{value}: no {word:?} in {}", out.stderr);
        }
    }
    // The log of the kernel's own parser, on a running container as well.
    root.sleeper("box", &[]);
    let said = root.fails(
        1,
        &["tmpfs", "/t", "the kernel says"],
        ["mount", "box", "--tmpfs", "/t:mpol=x"],
    );
    assert!(said.contains("mpol"), "{said}");
    root.ok(["rm", "-f", "box"]);
    root.assert_nothing_left();
}

/// A user who may not do it is told which directory it is about.
#[test]
fn a_store_of_another_user() {
    let root = Root::new();
    let mut command = root.command(["ps"]);
    command.uid(65534).gid(65534);
    let out = Started::new(command, None).wait();
    assert_eq!(out.code, 1);
    assert!(out.stderr.contains(arg(root.dir())), "{out:?}");
}
