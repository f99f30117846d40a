//! The files of an archive by name: of a tar by its index, of a layout directory by descriptor.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::Error;
use crate::blobs::Blobs;
use crate::docker;
use crate::entry::Kind;
use crate::error::{TarProblem, show};
use crate::limits::{Limit, Limits};
use crate::source::{Extent, Outer};
use crate::tarstream::{End, TarStream};

/// Bytes read for one header of the outer tar; data between headers is passed over.
const HEADERS: usize = 16 << 10;

/// Symlinks followed in the index, as many as the kernel would.
const HOPS: usize = 40;

/// Where the files are.
pub(crate) enum Files {
    /// In a tar.
    Tar { tar: Extent, index: HashMap<Vec<u8>, Member>, end: End },
    /// In a directory.
    Directory(OwnedFd),
    /// Elsewhere, to be asked for one by one; only the layout's code does that.
    Blobs(Arc<dyn Blobs>),
}

/// A member of a tar, as far as an image can use it.
pub(crate) enum Member {
    File {
        offset: u64,
        len: u64,
    },
    /// A symlink or hard link to this path, cleaned.
    Link(Vec<u8>),
    /// A directory, a device, a file with holes.
    Other,
}

impl Files {
    /// Read all headers of a tar.
    pub(crate) fn index(tar: Extent, limits: &Limits, name: &str) -> Result<Files, Error> {
        let outer = Outer { reader: tar.reader(HEADERS), what: name };
        let mut stream = TarStream::new(outer, limits, name);
        let mut index = HashMap::new();
        let mut kept = 0;
        while let Some(entry) = stream.next()? {
            // Outside of an image's own paths anything may stand, even `..`: it is only never found.
            let Some(path) = resolve(b"", &entry.name) else { continue };
            kept += (path.len() + entry.link.len()) as u64 + 64;
            limits.check(Limit::Memory, kept, name)?;
            let member = match entry.kind {
                Kind::File if entry.sparse.is_none() => {
                    Member::File { offset: entry.data_at, len: entry.size }
                }
                Kind::Symlink => {
                    let parent = crate::path::split(&path).map_or(&b""[..], |(parent, _)| parent);
                    resolve(parent, &entry.link).map_or(Member::Other, Member::Link)
                }
                Kind::HardLink => resolve(b"", &entry.link).map_or(Member::Other, Member::Link),
                _ => Member::Other,
            };
            index.insert(path, member);
        }
        let end = stream.end();
        Ok(Files::Tar { tar, index, end })
    }

    /// The file at `path`; None if there is none, or something else than a regular file.
    pub(crate) fn get(&self, path: &str) -> Result<Option<Extent>, Error> {
        match self {
            Files::Tar { tar, index, .. } => {
                let Some(mut at) = resolve(b"", path.as_bytes()) else { return Ok(None) };
                for _ in 0..HOPS {
                    match index.get(&at) {
                        Some(Member::File { offset, len }) => {
                            let offset = tar.offset + offset;
                            return Ok(Some(Extent {
                                file: Arc::clone(&tar.file),
                                offset,
                                len: *len,
                            }));
                        }
                        Some(Member::Link(target)) => at.clone_from(target),
                        Some(Member::Other) | None => return Ok(None),
                    }
                }
                Ok(None)
            }
            Files::Directory(dir) => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                let inside =
                    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
                let failed = |source| Error::Read { what: format!("{path} of the layout"), source };
                let file = match rustix::fs::openat2(dir, path, flags, Mode::empty(), inside) {
                    Ok(fd) => File::from(fd),
                    Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                    Err(e) => return Err(failed(e.into())),
                };
                if !file.metadata().map_err(failed)?.is_file() {
                    return Ok(None);
                }
                Extent::whole(file, 0).map(Some).map_err(failed)
            }
            Files::Blobs(_) => Ok(None),
        }
    }

    pub(crate) fn has(&self, path: &str) -> Result<bool, Error> {
        if let Files::Blobs(_) = self {
            // They are an OCI layout's, and all that it names is taken for there until it is asked for.
            return Ok(path != docker::MANIFEST);
        }
        Ok(self.get(path)?.is_some())
    }

    /// Why something may be missing.
    pub(crate) fn note(&self) -> &'static str {
        match self {
            Files::Tar { end: End::Unmarked, .. } => {
                "; the archive ends without an end mark, so it is probably cut off"
            }
            _ => "",
        }
    }

    /// Whether there is something at this path, or below it.
    pub(crate) fn mentions(&self, path: &str) -> bool {
        match self {
            Files::Tar { index, .. } => {
                let below = format!("{path}/");
                index
                    .keys()
                    .any(|name| name == path.as_bytes() || name.starts_with(below.as_bytes()))
            }
            Files::Directory(dir) => {
                rustix::fs::statat(dir, path, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok()
            }
            Files::Blobs(_) => false,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Files::Tar { index, .. } if index.is_empty())
    }
}

/// A path below `parent`, with `.` and `..` taken out; None if it leads above the root.
fn resolve(parent: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    let parent = if path.starts_with(b"/") { b"" } else { parent };
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in parent.split(|byte| *byte == b'/').chain(path.split(|byte| *byte == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            _ => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

/// A failed first read of a tar, told as what the file is not.
pub(crate) fn not_a_tar(error: Error, archive: &str) -> Error {
    match error {
        Error::Tar { problem: TarProblem::NotATar, .. } => Error::NotAnImage {
            archive: show(archive.as_bytes()),
            hint: "it is neither a tar (plain, gzip or zstd) nor an OCI layout directory",
        },
        other => other,
    }
}
