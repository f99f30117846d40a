//! Images in many dialects of tar: by GNU tar from small trees, and by hand where no program
//! writes such a thing of itself. Their commands check that everything arrived.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::json;
use tar::Header;

use super::debian::PATH;
use super::image::{Image, Layer};
use super::tarball::{EPOCH, Node, TarWriter, sha256};
use crate::sh;

/// pax headers that hold nothing of this run.
const PAX: &[&str] =
    &["--format=pax", "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"];

/// Fills a folder with what a dialect is to show.
type Fill = fn(&Path) -> std::io::Result<()>;

/// busybox and a layer for each dialect.
pub(crate) fn odd(bottom: Arc<Layer>, work: &Path) -> Result<Image> {
    let ids = ["--owner=huge:3000000000", "--group=huge:2500000"];
    let dialects: Vec<(&str, Vec<&str>, Fill)> = vec![
        ("v7", vec!["--format=v7"], nothing),
        ("ustar", vec!["--format=ustar"], prefix),
        ("gnu", vec!["--format=gnu"], long),
        ("gnu-ids", vec!["--format=gnu", ids[0], ids[1]], old),
        ("pax-sparse-0.0", [PAX, &["--sparse", "--sparse-version=0.0"]].concat(), sparse),
        ("pax-sparse-0.1", [PAX, &["--sparse", "--sparse-version=0.1"]].concat(), sparse),
        ("pax-sparse-1.0", [PAX, &["--sparse", "--sparse-version=1.0"]].concat(), sparse),
        ("pax-ids", [PAX, &ids[..]].concat(), old),
        (
            "pax-global",
            [
                PAX,
                &["--pax-option=globexthdr.name=pax_global_header,globexthdr.mtime=0,comment=made"],
            ]
            .concat(),
            long,
        ),
        ("dot-slash", vec!["--format=gnu"], latin1),
        ("replaced", vec!["--format=gnu"], nothing),
        ("emptied", vec!["--format=gnu"], nothing),
    ];
    let mut layers = vec![bottom];
    for (name, options, fill) in dialects {
        layers.push(pack(work, name, &options, fill)?);
    }
    layers.push(Layer::new("COPY changes /", by_hand()?));
    let config = json!({"Env": [PATH], "Cmd": ["/odd/changes/check"]});
    Ok(Image::new("odd", layers, config))
}

/// busybox and a layer with an old GNU sparse file (type "S").
pub(crate) fn odd_sparse(bottom: Arc<Layer>, work: &Path) -> Result<Image> {
    let layer = pack(work, "gnu-sparse", &["--format=gnu", "--sparse"], sparse)?;
    let file = fs::read(work.join("gnu-sparse/odd/gnu-sparse/sparse"))?;
    let command = format!("sha256sum /odd/gnu-sparse/sparse | grep {} && echo ok", sha256(&file));
    let config = json!({"Env": [PATH], "Cmd": ["sh", "-c", command]});
    Ok(Image::new("odd-sparse", vec![bottom, layer], config))
}

/// busybox and a layer with two entries of one name, of which the last one counts.
pub(crate) fn odd_twice(bottom: Arc<Layer>) -> Result<Image> {
    let mut tar = TarWriter::new(Vec::new());
    tar.file("twice", b"first\n")?;
    tar.file("once", b"once\n")?;
    tar.file("twice", b"second\n")?;
    let layers = vec![bottom, Layer::new("ADD twice.tar /", tar.finish()?)];
    let command = "grep second /twice && echo ok";
    let config = json!({"Env": [PATH], "Cmd": ["sh", "-c", command]});
    Ok(Image::new("odd-twice", layers, config))
}

/// A layer that GNU tar makes of a small tree: odd/NAME with a file, its two links, a FIFO, and
/// what `fill` adds.
fn pack(work: &Path, name: &str, options: &[&str], fill: Fill) -> Result<Arc<Layer>> {
    let top = work.join(name);
    let here = top.join("odd").join(name);
    let made = || -> std::io::Result<()> {
        fs::create_dir_all(&here)?;
        fs::write(here.join("plain"), format!("{name}\n"))?;
        symlink("plain", here.join("symlink"))?;
        fs::hard_link(here.join("plain"), here.join("hardlink"))?;
        fill(&here)
    };
    made().with_context(|| format!("cannot make the tree {}", here.display()))?;
    if name != "v7" {
        sh::output(Command::new("mkfifo").arg(here.join("fifo")))?; // v7 knows none
    }
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(&top).args([&format!("--mtime=@{EPOCH}"), "--clamp-mtime", "--sort=name"]);
    tar.args(["--mode=u+rw,go=rX", "--numeric-owner", "--owner=root:0", "--group=root:0"]);
    tar.args(options).args(["-cf", "-", if name == "dot-slash" { "./" } else { "odd" }]);
    let mut bytes = sh::output(tar.env("LC_ALL", "C.UTF-8").env("TZ", "UTC"))?;
    forget_process(&mut bytes)?;
    Ok(Layer::new(&format!("tar {}", options.join(" ")), bytes))
}

/// GNU tar writes its process id into the names of pax's sparse files, and no option changes that:
/// puts 0 there.
fn forget_process(tar: &mut [u8]) -> Result<()> {
    const MARK: &[u8] = b"GNUSparseFile.";
    let mut at = 0;
    while let Some(block) = tar.get_mut(at..at + 512)
        && block[0] != 0
    {
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        let name = header.as_old().name;
        if let Some(mark) = name.windows(MARK.len()).position(|window| window == MARK) {
            let number = mark + MARK.len();
            let digits = name[number..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let renamed = [&name[..number], b"0", &name[number + digits..]].concat();
            let field = &mut header.as_old_mut().name;
            field.fill(0);
            field[..renamed.len()].copy_from_slice(&renamed);
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
        let size = usize::try_from(header.entry_size()?)?;
        at += 512 + size.next_multiple_of(512);
    }
    Ok(())
}

fn nothing(_: &Path) -> std::io::Result<()> {
    Ok(())
}

fn nested(here: &Path, component: &str, times: usize, text: &str) -> std::io::Result<()> {
    let folder = here.join(vec![component; times].join("/"));
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("file"), text)
}

/// A name that fills ustar's prefix field too.
fn prefix(here: &Path) -> std::io::Result<()> {
    nested(here, "fifty-characters-of-directory-name-in-one-component", 3, "prefix\n")
}

/// Names and links longer than ustar can hold.
fn long(here: &Path) -> std::io::Result<()> {
    nested(here, "forty-characters-in-one-path-component!!", 4, "long\n")?;
    symlink("x".repeat(300), here.join("long-link"))
}

/// 9 MiB with more islands of data than one header holds.
fn sparse(here: &Path) -> std::io::Result<()> {
    let mut file = File::create(here.join("sparse"))?;
    file.set_len(9 << 20)?;
    for i in 0..40 {
        file.seek(SeekFrom::Start(i * 200_000))?;
        write!(file, "island {i}")?;
    }
    Ok(())
}

/// A file from before 1970; the layer's owner is above what seven octal digits hold.
fn old(here: &Path) -> std::io::Result<()> {
    fs::write(here.join("huge-ids"), "ids above 2097151\n")?;
    let file = File::create(here.join("old"))?;
    let before = UNIX_EPOCH - Duration::from_secs(1000);
    file.set_times(FileTimes::new().set_modified(before))
}

/// A name that is not UTF-8.
fn latin1(here: &Path) -> std::io::Result<()> {
    fs::write(here.join(OsStr::from_bytes(b"latin1-\xe9")), "not UTF-8\n")
}

/// What no tar program writes of itself.
fn by_hand() -> Result<Vec<u8>> {
    let mut tar = TarWriter::new(Vec::new());
    tar.add("odd/changes", &Node::directory(0o755))?;
    tar.file("odd/replaced", b"a directory below, a file here\n")?;
    tar.add("odd/v7/symlink", &Node::directory(0o755))?; // a link below, a directory here
    tar.file("odd/v7/symlink/inside", b"inside\n")?;
    tar.add("odd/.wh.never-existed", &Node::file("", 0))?;
    tar.file("odd/changes/no/parents/listed", b"made\n")?;
    tar.add("odd/changes/read-only", &Node::directory(0o555))?;
    tar.add("odd/changes/read-only/file", &Node::file("readable\n", 0o444))?;
    tar.file("/odd/changes/leading-slash", b"under the root\n")?;
    tar.file("odd/changes/.whiteout-like", b"kept\n")?;
    tar.add("odd/emptied", &Node::directory(0o755))?;
    tar.file("odd/emptied/added-before-opaque", b"kept\n")?;
    tar.add("odd/emptied/.wh..wh..opq", &Node::file("", 0))?;
    let check = Node::file(include_str!("files/odd-check"), 0o755);
    tar.add("odd/changes/check", &check)?;
    Ok(tar.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_process_goes() {
        let sparse_by = |process: u32| {
            let mut tar = TarWriter::new(Vec::new());
            tar.file("before", &[b'x'; 700]).unwrap();
            tar.file(&format!("a/GNUSparseFile.{process}/sparse"), b"y").unwrap();
            let mut bytes = tar.finish().unwrap();
            forget_process(&mut bytes).unwrap();
            bytes
        };
        let one = sparse_by(7);
        assert_eq!(one, sparse_by(4_194_303));
        let mut archive = tar::Archive::new(&one[..]);
        let mut names =
            archive.entries().unwrap().map(|entry| entry.unwrap().path_bytes().to_vec());
        assert_eq!(names.next().unwrap(), b"before");
        assert_eq!(names.next().unwrap(), b"a/GNUSparseFile.0/sparse");
    }
}
