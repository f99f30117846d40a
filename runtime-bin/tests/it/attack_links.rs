//! Archives whose names and links lead outside, and those that two readers take for two things: through `load`,
//! `run`, `cp -` and `import`, in each form of layers.

use std::fs;
use std::process::Command;

use crate::attack::{Canary, forms};
use crate::harness::{Root, arg, wait_until};
use crate::image::{Archive, Layer};

/// What becomes of an archive.
enum End {
    /// Refused, with this in its sentence.
    Refused(&'static str),
    /// What a script prints in its container.
    Shows(&'static str, &'static str),
}
use End::{Refused, Shows};

/// Runs an image of these layers in each form.
#[track_caller]
fn attack(layers: impl Fn(&Canary) -> Vec<Layer>, end: &End) {
    for form in forms() {
        let root = Root::new();
        let canary = Canary::new(root.dir());
        let archive = Archive::busybox(layers(&canary)).write(root.dir(), "x.tar");
        let (command, words) = match end {
            Refused(words) => ("true", words),
            Shows(script, printed) => (*script, printed),
        };
        let out = root.call(["run", "--rm", form, arg(&archive), "sh", "-c", command]);
        canary.assert_untouched();
        let said = format!("{form}: {out:?}");
        assert!(!out.stderr.contains("panicked"), "{said}");
        match end {
            Refused(_) => {
                assert!(out.code == 125 && out.stderr.contains(words), "{words}: {said}");
                assert_eq!(root.ok(["images", "-q"]), "", "{said}");
            }
            Shows(..) => {
                assert!(out.code == 0 && out.stdout.trim_end() == *words, "{words}: {said}")
            }
        }
        root.assert_nothing_left();
    }
}

/// 2014-9356 and many since.
#[test]
fn names_that_lead_outside() {
    for name in ["../canary/alive", "a/../../canary/alive", "/../canary/alive", "..", "bin/.."] {
        for kind in *b"05" {
            let data: &[u8] = if kind == b'0' { b"dead" } else { b"" };
            attack(|_| vec![Layer::new().raw(kind, name, "", data)], &Refused(".."));
        }
    }
    let absolute = |canary: &Canary| {
        vec![Layer::new().raw(b'0', &format!("{}/alive", canary.path()), "", b"in")]
    };
    attack(absolute, &Shows("find /tmp -path '*/canary/alive' -exec cat {} +", "in"));
}

/// A link, and then a file, a directory or a whiteout through it (2018-20990, 2021-38511, 2026-33056).
#[test]
fn names_through_symbolic_links() {
    type Target = fn(&Canary) -> String;
    let targets: [Target; 4] = [
        |canary| canary.path().to_owned(),
        |canary| canary.up(),
        |canary| format!("/proc/self/root{}", canary.path()),
        |_| "..".to_owned(),
    ];
    for target in targets {
        let one = |canary: &Canary| {
            let to = target(canary);
            let layer = Layer::new()
                .symlink("a", &to)
                .file("a/alive", 0o777, "dead")
                .symlink("b", &to)
                .directory("b")
                .file("b/nest/egg", 0o777, "dead")
                .symlink("c", &format!("{to}/alive"))
                .file("c", 0o777, "dead")
                .symlink("d", &format!("{to}/alive"))
                .fifo("d")
                .symlink("e", &to)
                .hard_link("f", "e")
                .file("f/alive", 0o777, "dead");
            vec![layer]
        };
        let script =
            "cat /a/alive /b/nest/egg /c /f/alive; for n in a b c d e f; do stat -c %F /$n; done";
        let shown =
            "deaddeaddeaddeaddirectory\ndirectory\nregular file\nfifo\nsymbolic link\ndirectory";
        attack(one, &Shows(script, shown));
        // The link is the lower layer's.
        let two = |canary: &Canary| {
            let lower = Layer::new().symlink("a", &target(canary)).symlink("b", &target(canary));
            vec![lower, Layer::new().file("a/alive", 0o777, "dead").file("b/.wh.alive", 0o644, "")]
        };
        attack(two, &Shows("cat /a/alive; stat -c %F /a /b; ls -A /b", "deaddirectory\ndirectory"));
        let marked = |canary: &Canary| {
            let lower = Layer::new().symlink("o", &target(canary));
            vec![lower, Layer::new().file("o/.wh..wh..opq", 0o644, "").file("o/x", 0o644, "x")]
        };
        attack(marked, &Shows("ls -A /o", "x"));
    }
}

#[test]
fn hard_links_that_lead_outside() {
    for to in ["../canary/alive", "/../canary/alive", "a/../../canary/alive"] {
        attack(|_| vec![Layer::new().raw(b'1', "l", to, b"")], &Refused(".."));
    }
    // An absolute one is of the layer itself, and is not there.
    let absolute = |canary: &Canary| {
        vec![Layer::new().raw(b'1', "l", &format!("{}/alive", canary.path()), b"")]
    };
    attack(absolute, &Refused("hard link"));
    // Through a link of the same layer, and of a lower one.
    let through =
        |canary: &Canary| vec![Layer::new().symlink("s", canary.path()).hard_link("l", "s/alive")];
    attack(through, &Refused("hard link"));
    let lower = |canary: &Canary| {
        vec![Layer::new().symlink("s", canary.path()), Layer::new().hard_link("l", "s/alive")]
    };
    attack(lower, &Refused("hard link"));
}

/// 2021-29136: the root of a layer is a link.
#[test]
fn a_root_that_is_a_link() {
    for name in [".", "./", "/"] {
        let layers = |canary: &Canary| {
            vec![Layer::new().raw(b'2', name, canary.path(), b"").file("alive", 0o644, "dead")]
        };
        attack(layers, &Refused("the root of a layer can only be a directory"));
    }
}

#[test]
fn whiteouts_that_lead_outside() {
    for (name, words) in [
        (".wh...", "whiteout of . or .."),
        ("etc/.wh...", "whiteout of . or .."),
        (".wh..", "whiteout of . or .."),
        (".wh.", "whiteout without a name"),
        ("../.wh.canary", "name with .."),
        (".wh.etc/passwd", "reserved for whiteouts"),
    ] {
        attack(|_| vec![Layer::new().raw(b'0', name, "", b"")], &Refused(words));
    }
    // The device that overlayfs takes for one.
    attack(|_| vec![Layer::new().character_device("etc", 0, 0)], &Refused("whiteout on overlayfs"));
}

/// A tar whose headers have two sizes (2025-62518, 2026-33055): what GNU tar lists is what is there.
#[test]
fn sizes_that_readers_disagree_on() {
    let pax = |records: &[(&str, &str)]| -> String {
        let record = |key: &str, value: &str| {
            let body = format!(" {key}={value}\n");
            let digits = |n: usize| n.to_string().len();
            let mut length = body.len() + digits(body.len());
            length = body.len() + digits(length);
            format!("{length}{body}")
        };
        records.iter().map(|(key, value)| record(key, value)).collect()
    };
    // In the data of the one file stands the header of another.
    let hidden = Layer::new().file("hidden/file", 0o644, "").finish();
    let data = &hidden[..512];
    let mut layer = Layer::new()
        .directory("list")
        .raw(b'x', "pax", "", pax(&[("size", "512")]).as_bytes())
        .raw(b'0', "list/a", "", b"")
        .finish();
    // Behind the header that says 0 and means 512, and before the end.
    let end = layer.len() - 1024;
    layer.splice(end..end, data.iter().copied());
    let mut rest = Layer::new().file("list/b", 0o644, "b").finish();
    let end = layer.len() - 1024;
    layer.splice(end.., rest.drain(..));
    let root = Root::new();
    let file = root.dir().join("layer.tar");
    fs::write(&file, &layer).unwrap();
    let listed = Command::new("tar").arg("-tf").arg(&file).output().unwrap();
    assert!(listed.status.success(), "{listed:?}");
    assert_eq!(String::from_utf8(listed.stdout).unwrap(), "list\nlist/a\nlist/b\n");
    for form in forms() {
        let root = Root::new();
        let mut archive = Archive::busybox([]);
        archive.layers.push(layer.clone());
        let archive = archive.write(root.dir(), "x.tar");
        let script = "ls /list; stat -c %s /list/a; ls -d /hidden";
        let out = root.call(["run", "--rm", form, arg(&archive), "sh", "-c", script]);
        assert_eq!(out.stdout, "a\nb\n512\n", "{form}: {out:?}");
        assert!(out.stderr.contains("/hidden"), "{form}: {out:?}");
    }
}

/// The same archives copied into a container, and made an image of.
#[test]
fn hostile_archives_for_cp_and_import() {
    let root = Root::new();
    let canary = Canary::new(root.dir());
    root.sleeper("box", &[]);
    let up = canary.up();
    let archives = [
        Layer::new().raw(b'0', "../canary/alive", "", b"dead"),
        Layer::new().raw(b'0', &format!("{}/alive", canary.path()), "", b"dead"),
        Layer::new().symlink("a", canary.path()).file("a/alive", 0o777, "dead"),
        Layer::new().symlink("a", &up).file("a/nest/egg", 0o777, "dead").directory("a/nest"),
        Layer::new().symlink("a", canary.path()).file("a/.wh.alive", 0o644, ""),
        Layer::new().symlink("a", canary.path()).hard_link("b", "a/alive"),
        Layer::new().raw(b'1', "b", "../../../../../../canary/alive", b""),
        Layer::new().raw(b'2', ".", canary.path(), b"").file("alive", 0o777, "dead"),
        Layer::new().symlink("a", "/proc/self/root").file("a/alive", 0o777, "dead"),
    ];
    for (number, layer) in archives.into_iter().enumerate() {
        let bytes = layer.finish();
        for place in ["box:/", "box:/tmp", "box:/tmp/."] {
            let out = root.call_with_input(["cp", "-", place], &bytes);
            assert!(!out.stderr.contains("panicked"), "{out:?}");
            canary.assert_untouched();
        }
        let file = root.dir().join("rootfs.tar");
        fs::write(&file, &bytes).unwrap();
        let out = root.call(["import", arg(&file), &format!("made:{number}")]);
        assert!(!out.stderr.contains("panicked"), "{out:?}");
        if out.code == 0 {
            root.call(["run", "--rm", &format!("made:{number}"), "/none"]);
        }
        canary.assert_untouched();
    }
    root.ok(["rm", "-f", "box"]);
    wait_until("all is gone", || root.traces().is_empty());
}
