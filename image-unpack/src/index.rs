//! A layer's entries become an index over the layer's own bytes: nothing is unpacked.
//!
//! What is read, refused and limited is the same as for a directory ([`crate::apply`]).

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use erofs_index::{Data, Device, INLINE_FREE, Merged, maps_to_blocks};

use crate::archive::{Archive, Layer, verify};
use crate::decode::{Format, LayerInput, Verified};
use crate::entry::{Entry, Kind, Meta};
use crate::error::{Refusal, show};
use crate::files::Files;
use crate::limits::{Limit, Limits};
use crate::path::{self, Name};
use crate::source::{BUFFER, Extent, Input, Outer};
use crate::tarstream::TarStream;
use crate::{Digest, Error, LayerTar};

/// Bytes read for one header of a tar that was verified before; data between headers is passed over.
const HEADERS: usize = 16 << 10;

/// Where the bytes of an indexed layer's files are going to be.
#[derive(Debug, Clone, Copy)]
pub enum Keep<'a> {
    /// The layer's tar, decoded, is written to this file, from its beginning.
    Into(&'a File),
    /// They stay where they are, in the archive: for a layer with a place there ([`Archive::place`]).
    InPlace,
}

/// The index of one layer, in memory. Its files' data is on a device that has a number once it is merged.
pub struct Indexed {
    layer: erofs_index::Layer,
    /// Bytes of the layer's tar.
    pub tar: u64,
    /// Bytes of its files, holes included.
    pub bytes: u64,
    /// The layer, for messages.
    what: String,
}

impl std::fmt::Debug for Indexed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Indexed").field("tar", &self.tar).finish_non_exhaustive()
    }
}

impl Archive {
    /// Where a layer that is not compressed lies in the archive's own file: offset and length in bytes. `None` where
    /// the archive is not one file that can be read by position, or the layer is compressed.
    ///
    /// # Errors
    /// The layer is not in the archive, or cannot be read.
    pub fn place(&self, layer: &Layer) -> Result<Option<(u64, u64)>, Error> {
        let Files::Tar { .. } = self.files else { return Ok(None) };
        let what = self.name_of(layer);
        let extent = self.file(&layer.path, &what)?;
        let mut reader = extent.reader(HEADERS);
        let start = std::io::BufRead::fill_buf(&mut reader)
            .map_err(|source| Error::Read { what: what.clone(), source })?;
        let plain = Format::detect(start, &what)? == Format::Plain;
        Ok((plain && extent.offset.is_multiple_of(512)).then_some((extent.offset, extent.len)))
    }

    /// The archive's own file, where it is one tar that is not compressed. One that is compressed, or came from a
    /// pipe, is a copy without a name.
    pub fn file_of_all(&self) -> Option<&File> {
        match &self.files {
            Files::Tar { tar, .. } => Some(&tar.file),
            _ => None,
        }
    }

    /// Decodes a layer, verifies it, and indexes it, all in one pass. See [`Archive::unpack`] for `progress`.
    ///
    /// # Errors
    /// As [`Archive::unpack`], and what an index cannot hold ([`Error::Index`]); a file that takes no more
    /// ([`Error::Copy`]).
    pub fn index(
        &self,
        layer: &Layer,
        keep: Keep<'_>,
        limits: &Limits,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Indexed, Error> {
        let what = self.name_of(layer);
        let mut input = self.layer_input(layer, limits, progress, &what)?;
        let base = match keep {
            Keep::Into(file) => {
                let source = match &self.files {
                    Files::Blobs(_) => None,
                    _ => Some(self.file(&layer.path, &what)?),
                };
                input = input.copied(file, source.as_ref());
                0
            }
            Keep::InPlace => match self.place(layer)? {
                Some((offset, _)) => offset,
                None => {
                    let source =
                        std::io::Error::other("it is compressed, or in no file of its own");
                    return Err(Error::Read { what: what.clone(), source });
                }
            },
        };
        let (mut input, mut indexed) = entries(input, base, limits, &what)?;
        input.drain()?;
        indexed.tar = input.decoded();
        verify(input, layer, &what)?;
        Ok(indexed)
    }
}

impl LayerTar {
    /// Indexes the layer, with its tar written to `into`, and says which digest the tar has: the layer's diff_id.
    /// See [`LayerTar::unpack`].
    ///
    /// # Errors
    /// As there, and as [`Archive::index`].
    pub fn index(
        &self,
        into: &File,
        limits: &Limits,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(Digest, Indexed), Error> {
        let (tar, what) = (&self.tar, &self.what);
        let reader = Box::new(tar.reader(BUFFER));
        let input = LayerInput::new(reader, tar.len, false, progress, limits, what)?;
        let (mut input, mut indexed) = entries(input.copied(into, Some(tar)), 0, limits, what)?;
        input.drain()?;
        indexed.tar = input.decoded();
        let (diff_id, _) = input.finish()?;
        Ok((diff_id, indexed))
    }
}

/// Indexes a plain tar of `length` bytes at `offset` of a file, which was verified when it was kept: only its headers
/// are read. `what` is for messages.
///
/// # Errors
/// It cannot be read, or is no longer what it was: malformed, or refused.
pub fn index_tar(
    file: File,
    offset: u64,
    length: u64,
    limits: &Limits,
    what: &str,
) -> Result<Indexed, Error> {
    let extent = Extent { file: Arc::new(file), offset, len: length };
    let (_, mut indexed) =
        entries(Outer { reader: extent.reader(HEADERS), what }, offset, limits, what)?;
    indexed.tar = length;
    Ok(indexed)
}

/// The layers of an image, about to become one index.
#[derive(Debug)]
pub struct Merge<'a> {
    merged: Merged,
    what: &'a str,
}

impl<'a> Merge<'a> {
    /// No layer yet. `what` is the image, for messages; limits of one layer that were raised hold for all of them.
    pub fn new(what: &'a str, limits: &Limits) -> Merge<'a> {
        Merge { merged: Merged::new(of_index(limits)), what }
    }

    /// Puts a layer on top, with the number of the device that has its tar, counted from 1.
    ///
    /// # Errors
    /// A hard link whose target no layer has ([`Error::LinkTarget`]); a limit ([`Error::Index`]).
    pub fn add(&mut self, indexed: &mut Indexed, device: u16) -> Result<(), Error> {
        indexed.layer.set_device(device);
        self.merged.stack(&mut indexed.layer).map_err(|error| indexed.failed(error))
    }

    /// Writes the index, to be the lower directory of an overlay; gives its bytes. `devices` says how many bytes each
    /// device has, `uuid` becomes the file system's.
    ///
    /// # Errors
    /// What an index cannot hold; what the writer says ([`Error::Index`]).
    pub fn write(
        &self,
        devices: &[u64],
        uuid: [u8; 16],
        out: &mut impl Write,
    ) -> Result<u64, Error> {
        let failed = |source| Error::Index { what: self.what.to_owned(), source };
        let too_large = || {
            let (limit, unit) = (2 << 40, "bytes of one layer's tar");
            failed(erofs_index::Error::Limit { limit, unit })
        };
        let devices = devices.iter().map(|size| Device::of_size(*size).ok_or_else(too_large));
        let options = erofs_index::Options { devices: devices.collect::<Result<_, _>>()?, uuid };
        let index = self.merged.index(erofs_index::Use::Lower, &options).map_err(failed)?;
        index.write_to(out).map_err(failed)?;
        Ok(index.size())
    }
}

impl Indexed {
    fn failed(&self, error: erofs_index::Error) -> Error {
        let layer = self.what.clone();
        match error {
            erofs_index::Error::LinkTarget { path: entry, target } => {
                Error::LinkTarget { layer, entry, target }
            }
            source => Error::Index { what: layer, source },
        }
    }
}

/// What an index may hold: the names of a tar are counted before, those of directories that no entry lists only here.
fn of_index(limits: &Limits) -> erofs_index::Limits {
    let own = erofs_index::Limits::default();
    let raised = |limit: u64, own: u32| u32::try_from(limit).unwrap_or(u32::MAX - 1).max(own);
    erofs_index::Limits {
        entries: raised(limits.entries, own.entries),
        memory: raised(limits.memory, own.memory),
        path: usize::try_from(limits.path).unwrap_or(usize::MAX),
        depth: usize::try_from(limits.depth).unwrap_or(usize::MAX),
        ..own
    }
}

/// All entries of a tar, and the input back. `base` is where the tar begins on its device.
fn entries<I: Input>(
    input: I,
    base: u64,
    limits: &Limits,
    what: &str,
) -> Result<(I, Indexed), Error> {
    let mut stream = TarStream::new(input, limits, what);
    let layer = erofs_index::Layer::new(of_index(limits));
    let indexed = Indexed { layer, tar: 0, bytes: 0, what: what.to_owned() };
    let mut tree = Tree { indexed, base, limits };
    while let Some(entry) = stream.next()? {
        tree.add(&entry, &mut stream)?;
    }
    Ok((stream.into_input(), tree.indexed))
}

/// The layer as it grows.
struct Tree<'a> {
    indexed: Indexed,
    base: u64,
    limits: &'a Limits,
}

impl Tree<'_> {
    fn add<I: Input>(&mut self, entry: &Entry, stream: &mut TarStream<'_, I>) -> Result<(), Error> {
        let layer = &mut self.indexed.layer;
        let done = match path::name(&entry.name, self.limits, &self.indexed.what)? {
            Name::Aufs => Ok(()),
            Name::Opaque(directory) => layer.opaque(&directory),
            Name::Whiteout(path) => layer.whiteout(&path),
            Name::Plain(path) if entry.kind == Kind::Directory => {
                let kept = xattrs(&entry.meta, true);
                layer.add(&path, &meta(&entry.meta, &kept), erofs_index::Kind::Directory)
            }
            Name::Plain(path) if path.is_empty() => return Err(self.refused(entry, Refusal::Root)),
            Name::Plain(path) => {
                self.indexed.bytes = self.indexed.bytes.saturating_add(entry.size);
                let what = &self.indexed.what;
                self.limits.check_at(Limit::Bytes, self.indexed.bytes, what, &entry.name)?;
                return self.add_other(&path, entry, stream);
            }
        };
        done.map_err(|error| self.failed(entry, error))
    }

    /// What is no directory.
    fn add_other<I: Input>(
        &mut self,
        path: &[u8],
        entry: &Entry,
        stream: &mut TarStream<'_, I>,
    ) -> Result<(), Error> {
        let kind = match entry.kind {
            Kind::HardLink => {
                let what = &self.indexed.what;
                let target = path::link_target(&entry.link, &entry.name, self.limits, what)?;
                let linked = self.indexed.layer.link(path, &target);
                return linked.map_err(|error| self.failed(entry, error));
            }
            Kind::File | Kind::Directory => return self.add_file(path, entry, stream),
            Kind::Symlink if entry.link.is_empty() => {
                return Err(self.refused(entry, Refusal::EmptyLink));
            }
            Kind::Symlink => erofs_index::Kind::Symlink(&entry.link),
            Kind::Character(0, 0) => return Err(self.refused(entry, Refusal::WhiteoutDevice)),
            Kind::Character(major, minor) => erofs_index::Kind::Character { major, minor },
            Kind::Block(major, minor) => erofs_index::Kind::Block { major, minor },
            Kind::Fifo => erofs_index::Kind::Fifo,
        };
        let kept = xattrs(&entry.meta, false);
        let mut meta = meta(&entry.meta, &kept);
        if entry.kind == Kind::Symlink {
            meta.mode = 0o777; // as every file system has it: the entry's means nothing
        }
        let added = self.indexed.layer.add(path, &meta, kind);
        added.map_err(|error| self.failed(entry, error))
    }

    fn add_file<I: Input>(
        &mut self,
        path: &[u8],
        entry: &Entry,
        stream: &mut TarStream<'_, I>,
    ) -> Result<(), Error> {
        let (size, offset) = (entry.size, self.base + entry.data_at);
        let small = size <= INLINE_FREE as u64;
        let bytes;
        let data = match &entry.sparse {
            None if small => {
                bytes = stored(stream)?;
                Data::Bytes(&bytes)
            }
            None => Data::Extent { device: 1, offset, size },
            Some(map) if maps_to_blocks(map) => Data::Sparse { size, device: 1, offset, map },
            Some(map) => {
                let sum = map.iter().map(|(_, length)| length).sum();
                let what = &self.indexed.what;
                self.limits.check_at(Limit::Memory, sum, what, &entry.name)?;
                bytes = stored(stream)?;
                Data::SparseBytes { size, map, bytes: &bytes }
            }
        };
        let kept = xattrs(&entry.meta, true);
        let kind = erofs_index::Kind::File(data);
        let added = self.indexed.layer.add(path, &meta(&entry.meta, &kept), kind);
        added.map_err(|error| self.failed(entry, error))
    }

    fn refused(&self, entry: &Entry, why: Refusal) -> Error {
        Error::Refused { layer: self.indexed.what.clone(), entry: show(&entry.name), why }
    }

    /// As it is told where a layer is unpacked, as far as that is refused there too.
    fn failed(&self, entry: &Entry, error: erofs_index::Error) -> Error {
        use erofs_index::Problem;
        match error {
            erofs_index::Error::Entry { why: Problem::LinkToDirectory(_), .. } => {
                self.refused(entry, Refusal::LinkToDirectory)
            }
            erofs_index::Error::Entry { why: Problem::LinkAround(_), .. } => {
                self.refused(entry, Refusal::LinkAround)
            }
            erofs_index::Error::Entry { why: Problem::DeviceNumber(..), .. } => {
                self.refused(entry, Refusal::Device)
            }
            other => self.indexed.failed(other),
        }
    }
}

/// The stored bytes of the current entry, which the index is going to hold. The caller has looked how many.
fn stored<I: Input>(stream: &mut TarStream<'_, I>) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    loop {
        let bytes = stream.data()?;
        let count = bytes.len();
        if count == 0 {
            return Ok(out);
        }
        out.extend_from_slice(bytes);
        stream.consume(count);
    }
}

fn meta<'a>(meta: &Meta, xattrs: &'a [(Vec<u8>, Vec<u8>)]) -> erofs_index::Meta<'a> {
    let Meta { mode, uid, gid, mtime, .. } = meta;
    let mtime = erofs_index::Time { seconds: mtime.seconds, nanos: mtime.nanos };
    erofs_index::Meta { mode: (mode & 0o7777) as u16, uid: *uid, gid: *gid, mtime, xattrs }
}

/// The attributes that a file gets when it is unpacked: symlinks, devices and FIFOs can have no `user.` ones, and the
/// label of another host's policy means nothing on this one.
fn xattrs(meta: &Meta, takes_user: bool) -> Vec<(Vec<u8>, Vec<u8>)> {
    let kept = |(name, _): &&(Vec<u8>, Vec<u8>)| {
        name != b"security.selinux" && (takes_user || !name.starts_with(b"user."))
    };
    meta.xattrs.iter().filter(kept).cloned().collect()
}
