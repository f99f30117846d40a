//! Small images made here: busybox with something wrong, or something of its own.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::harness::image;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file of a tar.
pub(crate) fn member(archive: &Path, wanted: impl Fn(&str) -> bool) -> Vec<u8> {
    let mut tar = tar::Archive::new(File::open(archive).unwrap());
    for entry in tar.entries_with_seek().unwrap() {
        let mut entry = entry.unwrap();
        if wanted(entry.path().unwrap().to_str().unwrap()) && entry.size() > 0 {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            return bytes;
        }
    }
    panic!("{} does not have the file", archive.display());
}

/// The layer of busybox, as a tar.
pub(crate) fn busybox_layer() -> Vec<u8> {
    member(&image("busybox", "docker-legacy"), |name| name.ends_with("/layer.tar"))
}

/// busybox itself, which needs no other file.
pub(crate) fn busybox_program() -> Vec<u8> {
    let layer = busybox_layer();
    let mut tar = tar::Archive::new(&layer[..]);
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap().starts_with("bin") && entry.size() > 1_000_000 {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            return bytes;
        }
    }
    panic!("the image busybox has another form than this knows");
}

/// A layer in the making.
pub(crate) struct Layer(Builder<Vec<u8>>);

impl Layer {
    pub(crate) fn new() -> Layer {
        Layer(Builder::new(Vec::new()))
    }

    fn add(mut self, name: &str, kind: EntryType, mode: u32, link: &str, data: &[u8]) -> Layer {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(data.len() as u64);
        if link.is_empty() {
            self.0.append_data(&mut header, name, data).unwrap();
        } else {
            self.0.append_link(&mut header, name, link).unwrap();
        }
        self
    }

    pub(crate) fn file(self, name: &str, mode: u32, data: impl AsRef<[u8]>) -> Layer {
        self.add(name, EntryType::Regular, mode, "", data.as_ref())
    }

    pub(crate) fn directory(self, name: &str) -> Layer {
        self.add(name, EntryType::Directory, 0o755, "", b"")
    }

    pub(crate) fn symlink(self, name: &str, to: &str) -> Layer {
        self.add(name, EntryType::Symlink, 0o777, to, b"")
    }

    pub(crate) fn block_device(self, name: &str, major: u32, minor: u32) -> Layer {
        self.device(EntryType::Block, name, major, minor)
    }

    pub(crate) fn character_device(self, name: &str, major: u32, minor: u32) -> Layer {
        self.device(EntryType::Char, name, major, minor)
    }

    fn device(mut self, kind: EntryType, name: &str, major: u32, minor: u32) -> Layer {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o666);
        header.set_size(0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.0.append_data(&mut header, name, &[][..]).unwrap();
        self
    }

    pub(crate) fn hard_link(self, name: &str, to: &str) -> Layer {
        self.add(name, EntryType::Link, 0o644, to, b"")
    }

    pub(crate) fn fifo(self, name: &str) -> Layer {
        self.add(name, EntryType::Fifo, 0o644, "", b"")
    }

    /// An entry with just these bytes as its name and its link, which no honest writer would write.
    pub(crate) fn raw(mut self, kind: u8, name: &str, link: &str, data: &[u8]) -> Layer {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::new(kind));
        header.set_mode(0o755);
        header.set_size(data.len() as u64);
        let fields = header.as_old_mut();
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// A Docker archive in the making.
pub(crate) struct Archive {
    /// The layers' files, lowest first.
    pub(crate) layers: Vec<Vec<u8>>,
    /// The image configuration's `config`.
    pub(crate) config: Value,
    pub(crate) architecture: &'static str,
    pub(crate) name: &'static str,
}

impl Archive {
    /// busybox, and these layers above it.
    pub(crate) fn busybox(above: impl IntoIterator<Item = Layer>) -> Archive {
        let layers = std::iter::once(busybox_layer()).chain(above.into_iter().map(Layer::finish));
        Archive {
            layers: layers.collect(),
            config: json!({"Env": [PATH], "Cmd": ["sh"]}),
            architecture: "amd64",
            name: "localhost/test:latest",
        }
    }

    /// Sets a field of `config`.
    pub(crate) fn with(mut self, key: &str, value: Value) -> Archive {
        self.config[key] = value;
        self
    }

    /// Writes it into `dir`.
    pub(crate) fn write(&self, dir: &Path, file: &str) -> PathBuf {
        self.write_with(dir, file, |_, bytes| Some(bytes))
    }

    /// Writes it with `change` made to each file of the archive; `None` leaves it out.
    pub(crate) fn write_with(
        &self,
        dir: &Path,
        file: &str,
        change: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>,
    ) -> PathBuf {
        let digests: Vec<String> = self.layers.iter().map(|layer| sha256(layer)).collect();
        let diff_ids: Vec<_> = digests.iter().map(|digest| format!("sha256:{digest}")).collect();
        let config = json!({
            "architecture": self.architecture,
            "os": "linux",
            "created": "2025-01-01T00:00:00Z",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": digests.iter().map(|_| json!({"created_by": "a test"})).collect::<Vec<_>>(),
        })
        .to_string();
        let config_name = format!("{}.json", sha256(config.as_bytes()));
        let names: Vec<_> = digests.iter().map(|digest| format!("{digest}/layer.tar")).collect();
        let manifest = json!([{"Config": config_name, "RepoTags": [self.name], "Layers": names}]);
        let mut files = vec![(config_name, config.into_bytes())];
        files.extend(names.into_iter().zip(self.layers.iter().cloned()));
        files.push(("manifest.json".to_owned(), manifest.to_string().into_bytes()));
        let path = dir.join(file);
        let mut tar = Builder::new(File::create(&path).unwrap());
        for (name, bytes) in files {
            if let Some(bytes) = change(&name, bytes) {
                let mut header = Header::new_ustar();
                header.set_mode(0o644);
                header.set_size(bytes.len() as u64);
                tar.append_data(&mut header, name, &bytes[..]).unwrap();
            }
        }
        tar.into_inner().unwrap().sync_all().unwrap();
        path
    }
}

/// A program that the kernel takes for one of another machine: the head of an ELF file.
pub(crate) fn foreign_program() -> Vec<u8> {
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    elf.extend_from_slice(&[2, 0, 183, 0, 1, 0, 0, 0]); // an executable, AArch64
    elf.resize(120, 0);
    elf
}
