//! Files between the host and a container, which runs or not: `cp`.
//!
//! A tar goes from the one to the other, as in Docker, whose rules for paths hold. What lies in the
//! container may be its processes' to rename and link meanwhile (CVE-2018-15664), so both sides work
//! below descriptors: the tar is made and unpacked by this process, and nothing is found by a path that
//! leaves the container's root.

mod place;

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use image_store::{Extract, Links, Pack};
use rustix::fs::{AtFlags, Mode, OFlags, StatVfsMountFlags, StatxFlags};

use crate::view::{Extent, Rootfs};
use crate::{Engine, Error};
use place::{Side, Source, Target};

/// How files are copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// A source that is a symbolic link is followed, and not copied as a link. Links below it never
    /// are.
    pub follow: bool,
    /// What is copied out of a container keeps the numbers of its owners, and with them set-id bits
    /// and capabilities; without, it belongs to the caller.
    pub archive: bool,
}

impl Engine {
    /// Copies `path` of a container to `to` on the host, by Docker's rules: into a directory that is
    /// there under its own name, else as `to`; of a `path` that ends in `/.` what is in it. Returns the
    /// bytes of the files.
    ///
    /// # Errors
    /// There is no such container or path; `to` cannot take it ([`Error::Copy`]). What was copied
    /// before stays.
    pub fn copy_from(
        &self,
        container: &str,
        path: &str,
        to: &Path,
        options: CopyOptions,
    ) -> Result<u64, Error> {
        let rootfs = self.whole_root(container)?;
        let host = host()?;
        let source = Source::find(Side::Container(rootfs.root()), path.as_bytes(), options.follow)?;
        let to = absolute(to)?;
        let target = Target::find(Side::Host(host.as_fd()), &to, &source)?;
        let ids = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let owner = (!options.archive).then_some(ids);
        copy(&source, &target, owner)
    }

    /// Writes `path` of a container to `out` as a tar, whose names begin with that of the path. Returns
    /// the tar's bytes.
    ///
    /// # Errors
    /// There is no such container or path; `out` takes no more.
    pub fn copy_from_as_tar(
        &self,
        container: &str,
        path: &str,
        out: impl Write,
        options: CopyOptions,
    ) -> Result<u64, Error> {
        let rootfs = self.whole_root(container)?;
        let source = Source::find(Side::Container(rootfs.root()), path.as_bytes(), options.follow)?;
        let pack = Pack::default();
        Ok(pack.write_entry(source.dir.as_fd(), &source.entry, source.name(), out)?)
    }

    /// Copies `from` of the host to `path` of a container, by Docker's rules as
    /// [`Engine::copy_from`]. Owners keep their numbers. Returns the bytes of the files.
    ///
    /// # Errors
    /// As there; the container's root or the volume is read-only.
    pub fn copy_to(
        &self,
        from: &Path,
        container: &str,
        path: &str,
        options: CopyOptions,
    ) -> Result<u64, Error> {
        let rootfs = self.whole_root(container)?;
        let host = host()?;
        let source = Source::find(Side::Host(host.as_fd()), &absolute(from)?, options.follow)?;
        let target = Target::find(Side::Container(rootfs.root()), path.as_bytes(), &source)?;
        writable(&rootfs, &target, path)?;
        copy(&source, &target, None)
    }

    /// Unpacks a tar (plain, gzip or zstd) in the directory `path` of a container. Returns the bytes of
    /// the files.
    ///
    /// # Errors
    /// There is no such container or directory; it is read-only; `tar` is none, or has names that lead
    /// outside.
    pub fn copy_tar_to(&self, tar: impl Read, container: &str, path: &str) -> Result<u64, Error> {
        let rootfs = self.whole_root(container)?;
        let (target, place) = Target::directory(Side::Container(rootfs.root()), path.as_bytes())?;
        writable(&rootfs, &target, path)?;
        // Docker unpacks it in a chroot, so that links of the root (/lib -> usr/lib) lead on inside.
        let links = Some(Links { root: rootfs.root(), place: &place });
        let extract = Extract { what: "the archive", owner: None, links };
        Ok(extract.unpack(tar, target.into.as_fd()).map_err(image_store::Error::from)?)
    }

    fn whole_root(&self, container: &str) -> Result<Rootfs, Error> {
        let (dir, container) = self.find(container)?;
        self.rootfs(&dir, &container, Extent::WithVolumes)
    }
}

/// The host's root, below which its paths are taken as they are.
fn host() -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(c"/", flags, Mode::empty())
        .map_err(|errno| Error::system("open the directory", "/", errno))
}

/// A path of the host with the working directory before it; its end, which means something, stays.
fn absolute(path: &Path) -> Result<Vec<u8>, Error> {
    let bytes = path.as_os_str().as_bytes();
    if path.is_absolute() || bytes.is_empty() {
        return Ok(bytes.to_vec());
    }
    let here = std::env::current_dir()
        .map_err(|error| Error::system("find the working directory for", path, error))?;
    Ok([here.as_os_str().as_bytes(), b"/", bytes].concat())
}

/// Docker says so before it writes, and which of the two it is.
fn writable(rootfs: &Rootfs, target: &Target, path: &str) -> Result<(), Error> {
    let failed = |errno| Error::system("look in the container at", path, errno);
    let mounted = rustix::fs::fstatvfs(&target.into).map_err(failed)?;
    if !mounted.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(());
    }
    let id = |fd: BorrowedFd<'_>| {
        let stat = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID);
        stat.map(|stat| stat.stx_mnt_id).map_err(failed)
    };
    let why = match id(target.into.as_fd())? == id(rootfs.root())? {
        true => "container rootfs is marked read-only",
        false => "mounted volume is marked read-only",
    };
    Err(Error::Copy { path: path.to_owned(), why: format!("{why}; choose another place") })
}

/// Sends a source through a pipe as a tar, and unpacks it at its target.
fn copy(source: &Source, target: &Target, owner: Option<(u32, u32)>) -> Result<u64, Error> {
    let (reader, writer) =
        std::io::pipe().map_err(|error| Error::system("make", "a pipe", error))?;
    let what = source.shown();
    let extract = Extract { what: &what, owner, links: None };
    let into = target.into.as_fd();
    let name = target.name.as_deref().unwrap_or(source.name());
    let (packed, unpacked) = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("unpack".to_owned());
        let unpacking = thread.spawn_scoped(scope, move || extract.unpack(reader, into));
        let unpacking = unpacking.map_err(|error| Error::system("start", "a thread", error))?;
        let packed = Pack::default().write_entry(source.dir.as_fd(), &source.entry, name, writer);
        match unpacking.join() {
            Ok(unpacked) => Ok::<_, Error>((packed, unpacked)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    match (packed, unpacked) {
        // Whoever fails first makes the other one fail: a tar cut off, a pipe that nobody reads.
        (Err(error @ image_store::Error::Output { .. }), Ok(_)) => Err(error.into()),
        (Err(image_store::Error::Output { .. }), Err(error)) | (Ok(_), Err(error)) => {
            Err(image_store::Error::from(error).into())
        }
        (Err(error), _) => Err(error.into()),
        (Ok(_), Ok(bytes)) => Ok(bytes),
    }
}
