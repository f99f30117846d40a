//! Builds tars byte by byte, also such as no honest program writes.

/// The fields of one header.
#[derive(Clone)]
pub(crate) struct Header {
    pub(crate) name: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) mtime: u64,
    pub(crate) kind: u8,
    pub(crate) link: Vec<u8>,
    pub(crate) device: (u32, u32),
    /// The size field, if it is not the length of the data.
    pub(crate) size: Option<u64>,
    pub(crate) magic: [u8; 8],
    pub(crate) prefix: Vec<u8>,
}

pub(crate) const POSIX: [u8; 8] = *b"ustar\x0000";
pub(crate) const GNU: [u8; 8] = *b"ustar  \0";

pub(crate) fn header(kind: u8, name: &str) -> Header {
    Header {
        name: name.into(),
        mode: if kind == b'5' { 0o755 } else { 0o644 },
        uid: 0,
        gid: 0,
        mtime: 1_700_000_000,
        kind,
        link: Vec::new(),
        device: (0, 0),
        size: None,
        magic: POSIX,
        prefix: Vec::new(),
    }
}

impl Header {
    pub(crate) fn mode(mut self, mode: u32) -> Header {
        self.mode = mode;
        self
    }
    pub(crate) fn owner(mut self, uid: u64, gid: u64) -> Header {
        (self.uid, self.gid) = (uid, gid);
        self
    }
    pub(crate) fn link(mut self, to: &str) -> Header {
        self.link = to.into();
        self
    }
    pub(crate) fn device(mut self, major: u32, minor: u32) -> Header {
        self.device = (major, minor);
        self
    }
    pub(crate) fn size(mut self, size: u64) -> Header {
        self.size = Some(size);
        self
    }
    pub(crate) fn mtime(mut self, mtime: u64) -> Header {
        self.mtime = mtime;
        self
    }

    /// The block, with its checksum.
    pub(crate) fn block(&self, data: usize) -> [u8; 512] {
        let mut block = [0_u8; 512];
        put(&mut block[..100], &self.name);
        number(&mut block[100..108], u64::from(self.mode));
        number(&mut block[108..116], self.uid);
        number(&mut block[116..124], self.gid);
        number(&mut block[124..136], self.size.unwrap_or(data as u64));
        number(&mut block[136..148], self.mtime);
        block[156] = self.kind;
        put(&mut block[157..257], &self.link);
        block[257..265].copy_from_slice(&self.magic);
        number(&mut block[329..337], u64::from(self.device.0));
        number(&mut block[337..345], u64::from(self.device.1));
        put(&mut block[345..500], &self.prefix);
        checksum(&mut block);
        block
    }
}

fn put(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}

/// Octal, or base 256 where that does not fit.
pub(crate) fn number(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let text = format!("{value:0digits$o}");
    if text.len() <= digits {
        field[..digits].copy_from_slice(text.as_bytes());
        return;
    }
    let start = field.len() - 8;
    field[start..].copy_from_slice(&value.to_be_bytes());
    field[0] |= 0x80;
}

pub(crate) fn checksum(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// A PAX record, whose length counts its own digits.
pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let mut length = body + 1;
    while length != body + length.to_string().len() {
        length = body + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// A tar in the making.
#[derive(Clone, Default)]
pub(crate) struct Tar(pub(crate) Vec<u8>);

impl Tar {
    pub(crate) fn new() -> Tar {
        Tar::default()
    }
    pub(crate) fn add(mut self, header: Header, data: &[u8]) -> Tar {
        self.0.extend(header.block(data.len()));
        self.data(data)
    }
    pub(crate) fn data(mut self, data: &[u8]) -> Tar {
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }
    pub(crate) fn block(mut self, block: [u8; 512]) -> Tar {
        self.0.extend(block);
        self
    }
    pub(crate) fn dir(self, name: &str) -> Tar {
        self.add(header(b'5', name), b"")
    }
    pub(crate) fn file(self, name: &str, data: &[u8]) -> Tar {
        self.add(header(b'0', name), data)
    }
    pub(crate) fn symlink(self, name: &str, to: &str) -> Tar {
        self.add(header(b'2', name).link(to), b"")
    }
    pub(crate) fn link(self, name: &str, to: &str) -> Tar {
        self.add(header(b'1', name).link(to), b"")
    }
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let data: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.add(header(b'x', "PaxHeaders/x"), &data)
    }
    /// With the two blocks of zeros at the end.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}
