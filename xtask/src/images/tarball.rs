//! Writing tars: pax, and the same bytes for the same input.

use std::io::{self, Write};

use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

/// The time of everything that has none of its own, and the latest that any file gets:
/// 2025-01-01, in seconds since 1970.
pub(crate) const EPOCH: u64 = 1_735_689_600;

/// What an entry of a tar is, with its content.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Directory,
    File(Vec<u8>),
    Symlink(Vec<u8>),
    /// Another name of the file at this path.
    Hardlink(Vec<u8>),
}

/// One file system object: what it is, and its metadata.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// Seconds since 1970.
    pub(crate) mtime: u64,
    /// Extended attributes: name and value.
    pub(crate) xattrs: Vec<(String, Vec<u8>)>,
}

impl Node {
    /// An object of root's, of the date [`EPOCH`].
    pub(crate) fn new(kind: Kind, mode: u32) -> Node {
        Node { kind, mode, uid: 0, gid: 0, mtime: EPOCH, xattrs: Vec::new() }
    }

    pub(crate) fn directory(mode: u32) -> Node {
        Node::new(Kind::Directory, mode)
    }

    pub(crate) fn file(content: impl Into<Vec<u8>>, mode: u32) -> Node {
        Node::new(Kind::File(content.into()), mode)
    }

    pub(crate) fn symlink(target: impl Into<Vec<u8>>) -> Node {
        Node::new(Kind::Symlink(target.into()), 0o777)
    }

    pub(crate) fn hardlink(target: impl Into<Vec<u8>>) -> Node {
        Node::new(Kind::Hardlink(target.into()), 0o644)
    }

    pub(crate) fn owned_by(self, uid: u64, gid: u64) -> Node {
        Node { uid, gid, ..self }
    }

    pub(crate) fn with_xattr(mut self, name: &str, value: &[u8]) -> Node {
        self.xattrs.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// Writes entries in the order in which they come, as Docker writes a layer: ustar headers, and a
/// pax header before an entry that needs one.
pub(crate) struct TarWriter<W: Write> {
    out: W,
}

impl<W: Write> TarWriter<W> {
    pub(crate) fn new(out: W) -> TarWriter<W> {
        TarWriter { out }
    }

    /// One entry. The name is written as it is, whatever it holds.
    pub(crate) fn add(&mut self, name: impl AsRef<[u8]>, node: &Node) -> io::Result<()> {
        match &node.kind {
            Kind::Directory => self.header(name, node, EntryType::Directory, b"", 0),
            Kind::Symlink(to) => self.header(name, node, EntryType::Symlink, to, 0),
            Kind::Hardlink(to) => self.header(name, node, EntryType::Link, to, 0),
            Kind::File(content) => {
                self.header(name, node, EntryType::Regular, b"", content.len())?;
                self.data(content)
            }
        }
    }

    /// A regular file of the mode 0644 with this content.
    pub(crate) fn file(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let node = Node::file(Vec::new(), 0o644);
        self.header(name, &node, EntryType::Regular, b"", content.len())?;
        self.data(content)
    }

    /// Ends the tar with two blocks of zeros and gives the writer back.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 1024])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn header(
        &mut self,
        name: impl AsRef<[u8]>,
        node: &Node,
        kind: EntryType,
        link: &[u8],
        size: usize,
    ) -> io::Result<()> {
        let mut name = name.as_ref().to_vec();
        if kind.is_dir() {
            name.push(b'/');
        }
        let mut pax = Vec::new();
        let long = |value: &[u8]| value.len() > 100 || !value.is_ascii();
        if long(&name) {
            record(&mut pax, "path", &name);
        }
        if long(link) {
            record(&mut pax, "linkpath", link);
        }
        // What does not fit seven octal digits.
        for (key, id) in [("uid", node.uid), ("gid", node.gid)] {
            if id > 0o7_777_777 {
                record(&mut pax, key, id.to_string().as_bytes());
            }
        }
        for (key, value) in &node.xattrs {
            record(&mut pax, &format!("SCHILY.xattr.{key}"), value);
        }
        if !pax.is_empty() {
            let about = Node { xattrs: Vec::new(), ..Node::file(Vec::new(), 0o644) };
            self.block(b"PaxHeaders.0/entry", &about, EntryType::XHeader, b"", pax.len())?;
            self.data(&pax)?;
        }
        self.block(&name, node, kind, link, size)
    }

    fn block(
        &mut self,
        name: &[u8],
        node: &Node,
        kind: EntryType,
        link: &[u8],
        size: usize,
    ) -> io::Result<()> {
        let mut header = Header::new_ustar();
        let fields = header.as_old_mut();
        put(&mut fields.name, name);
        put(&mut fields.linkname, link);
        let fits = |id: u64| if id > 0o7_777_777 { 0 } else { id };
        header.set_entry_type(kind);
        header.set_mode(node.mode);
        header.set_uid(fits(node.uid));
        header.set_gid(fits(node.gid));
        header.set_mtime(node.mtime);
        header.set_size(size as u64);
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }

    fn data(&mut self, content: &[u8]) -> io::Result<()> {
        self.out.write_all(content)?;
        let padding = content.len().next_multiple_of(512) - content.len();
        self.out.write_all(&[0; 512][..padding])
    }
}

/// Copies what fits of a name into its field.
fn put(field: &mut [u8; 100], value: &[u8]) {
    let fits = value.len().min(field.len());
    field[..fits].copy_from_slice(&value[..fits]);
}

/// One record of a pax header: its own length in decimal, a space, `key=value`, a newline.
fn record(pax: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    pax.extend_from_slice(format!("{length} {key}=").as_bytes());
    pax.extend_from_slice(value);
    pax.push(b'\n');
}

/// The SHA-256 of some bytes in hexadecimal, as digests are written.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let long = "d/".repeat(150) + "file";
        let mut tar = TarWriter::new(Vec::new());
        tar.add("dir", &Node::directory(0o1777)).unwrap();
        let node = Node::file("hello", 0o640).owned_by(3_000_000_000, 7);
        tar.add(&long, &node.with_xattr("user.x", b"a\xff\n")).unwrap();
        tar.add("snow \u{2603}", &Node::symlink("x".repeat(300))).unwrap();
        tar.add("again", &Node::hardlink(long.as_bytes())).unwrap();
        let bytes = tar.finish().unwrap();
        assert_eq!(bytes.len() % 512, 0);
        // The crate tar takes a newline for the end of a record, so look at the bytes.
        let record = b"27 SCHILY.xattr.user.x=a\xff\n\n";
        assert!(bytes.windows(record.len()).any(|window| window == record));

        let mut archive = tar::Archive::new(&bytes[..]);
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            seen.push((
                String::from_utf8(entry.path_bytes().into_owned()).unwrap(),
                entry.header().mode().unwrap(),
                entry.header().uid().unwrap(),
                entry.link_name_bytes().map(|link| link.len()),
                content,
            ));
        }
        let file = String::new;
        assert_eq!(seen[0], ("dir/".into(), 0o1777, 0, None, file()));
        assert_eq!(seen[1], (long.clone(), 0o640, 3_000_000_000, None, "hello".into()));
        assert_eq!(seen[2], ("snow \u{2603}".into(), 0o777, 0, Some(300), file()));
        assert_eq!(seen[3], ("again".into(), 0o644, 0, Some(long.len()), file()));
    }

    #[test]
    fn a_record_counts_itself() {
        for size in [0, 1, 80, 90, 91, 92, 93, 900, 985, 990, 995] {
            let mut pax = Vec::new();
            record(&mut pax, "path", &vec![b'x'; size]);
            let text = String::from_utf8(pax).unwrap();
            let (length, _) = text.split_once(' ').unwrap();
            assert_eq!(length.parse::<usize>().unwrap(), text.len());
        }
    }

    #[test]
    fn digests_are_written_as_usual() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256(b""), empty);
    }
}
