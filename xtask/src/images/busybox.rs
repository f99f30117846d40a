//! Images of the static busybox: alone, and below many small layers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::json;

use super::debian::{Debian, PATH};
use super::image::{Image, Layer};
use super::tarball::{Node, TarWriter, sha256};
use super::tree::Tree;
use crate::sh;

/// The static busybox with a hard link for each applet, as in the official image.
pub(crate) fn layer(debian: &Debian<'_>, work: &Path) -> Result<Arc<Layer>> {
    let debs = debian.archive()?.fetch(&["busybox-static"])?;
    let mut package = Tree::default();
    package.add_packages(&debs)?;
    let program = package.content("usr/bin/busybox")?;

    // The program itself says which applets it has.
    let copy = work.join("busybox");
    fs::write(&copy, program)
        .and_then(|()| fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {}", copy.display()))?;
    let applets = sh::text(Command::new(&copy).arg("--list"))?;
    let names: BTreeSet<&str> = applets.lines().chain(["busybox", "["]).collect();

    let mut tree = Tree::default();
    tree.file("bin/[", 0o755, program);
    for name in names {
        if name != "[" {
            tree.put(format!("bin/{name}"), Node::hardlink("bin/["));
        }
    }
    tree.directory("dev", 0o755);
    let group = "root:x:0:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n";
    tree.file("etc/group", 0o644, group);
    let passwd = "root:x:0:0:root:/root:/bin/sh\n\
        www-data:x:33:33:www-data:/var/www:/bin/false\n\
        nobody:x:65534:65534:nobody:/home:/bin/false\n";
    tree.file("etc/passwd", 0o644, passwd);
    tree.put("home", Node::directory(0o755).owned_by(65534, 65534));
    tree.directory("root", 0o700);
    tree.directory("tmp", 0o1777);
    tree.link("usr/bin", "../bin");
    tree.put("var/spool/mail", Node::directory(0o755).owned_by(8, 8));
    Layer::of("ADD busybox.tar / # buildkit", &tree)
}

/// busybox, alone.
pub(crate) fn busybox(layer: Arc<Layer>) -> Image {
    Image::new("busybox", vec![layer], json!({"Env": [PATH], "Cmd": ["sh"]}))
}

/// The same image for arm64, with one program: `true`, in 32 bits' worth of instructions times
/// three. Nothing runs it here; its architecture is what counts.
pub(crate) fn for_arm64() -> Result<Image> {
    let mut elf = Vec::new();
    elf.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"); // 64 bits, little-endian
    elf.extend_from_slice(&[2, 0, 183, 0, 1, 0, 0, 0]); // an executable, AArch64
    let base = 0x40_0000_u64;
    for word in [base + 120, 64, 0] {
        elf.extend_from_slice(&word.to_le_bytes()); // entry, program headers, no sections
    }
    elf.extend_from_slice(&[0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    elf.extend_from_slice(&[1, 0, 0, 0, 5, 0, 0, 0]); // load, read and execute
    for word in [0, base, base, 132, 132, 0x1_0000] {
        elf.extend_from_slice(&word.to_le_bytes());
    }
    for instruction in [0xd280_0000_u32, 0xd280_0ba8, 0xd400_0001] {
        elf.extend_from_slice(&instruction.to_le_bytes()); // mov x0, 0; mov x8, 93 (exit); svc 0
    }
    let mut tree = Tree::default();
    tree.file("bin/sh", 0o755, elf);
    let layer = Layer::of("ADD arm64.tar / # buildkit", &tree)?;
    let config = json!({"Env": [PATH], "Cmd": ["sh"]});
    Ok(Image::for_platform("busybox", vec![layer], config, "arm64"))
}

/// busybox and `count - 1` layers whose sum the last one knows: /opt/check, the command, says
/// whether they were stacked right. Some layers are empty, and those are all equal.
pub(crate) fn layers(bottom: Arc<Layer>, count: usize) -> Result<Image> {
    let mut layers = vec![bottom];
    let mut there: BTreeMap<String, String> = BTreeMap::new(); // below /opt: path and content
    for i in 1..count {
        let last = i == count - 1;
        let mut tar = TarWriter::new(Vec::new());
        let mut step = "RUN true".to_owned();
        if i % 20 != 7 || last {
            step = format!("RUN step {i}");
            for (name, node) in changes(i, &mut there) {
                tar.add(name, &node)?;
            }
        }
        if last {
            tar.add("etc", &Node::directory(0o755))?;
            let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1234:2345:app:/opt:/bin/sh\n";
            tar.file("etc/passwd", passwd.as_bytes())?;
            tar.file("etc/group", b"root:x:0:\napp:x:2345:\nextra:x:3456:app\n")?;
            let want: String = there
                .iter()
                .map(|(path, text)| format!("{}  ./{path}\n", sha256(text.as_bytes())))
                .collect();
            let check = include_str!("files/layers-check")
                .replace("@COUNT@", &count.to_string())
                .replace("@WANT@", &want);
            tar.add("opt/check", &Node::file(check, 0o755))?;
        }
        layers.push(Layer::new(&step, tar.finish()?));
    }
    let config = json!({"User": "app", "Env": [PATH], "WorkingDir": "/opt", "Cmd": ["/opt/check"]});
    Ok(Image::new(&format!("layers-{count}"), layers, config))
}

/// The entries of layer `i`; `there` follows what a right stacking shows below /opt.
fn changes(i: usize, there: &mut BTreeMap<String, String>) -> Vec<(String, Node)> {
    let line = format!("{i}\n");
    let mut entries = vec![("opt".to_owned(), Node::directory(0o755))];
    let folder = |name: &str| (format!("opt/{name}"), Node::directory(0o755));
    let mark = |name: &str| (format!("opt/{name}"), Node::file("", 0));
    let add = |there: &mut BTreeMap<String, String>, path: String, text: String| {
        there.insert(path.clone(), text.clone());
        (format!("opt/{path}"), Node::file(text, 0o644))
    };
    entries.push(add(there, "latest".to_owned(), line.clone()));
    entries.push(folder("files"));
    let text = format!("layer {i}\n").repeat(i % 7 + 1);
    entries.push(add(there, format!("files/{i:03}"), text));
    if i.is_multiple_of(10) && there.remove(&format!("files/{:03}", i - 3)).is_some() {
        entries.push(mark(&format!("files/.wh.{:03}", i - 3)));
    }
    entries.push(folder("scratch"));
    if i.is_multiple_of(25) {
        there.retain(|path, _| !path.starts_with("scratch/"));
        entries.push(mark("scratch/.wh..wh..opq"));
    }
    entries.push(add(there, format!("scratch/{i:03}"), line.clone()));
    // A name that is by turns a file and a directory.
    if i % 2 == 1 {
        there.remove("turns");
        entries.push(folder("turns"));
        entries.push(add(there, "turns/inside".to_owned(), line));
    } else {
        there.remove("turns/inside");
        entries.push(add(there, "turns".to_owned(), line));
    }
    entries
}
