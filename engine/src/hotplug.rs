//! Volumes that are added to a container while it runs, and taken away again.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bindvol::{Kind, VolumeSpec, Volumes};
use rustix::fs::{AtFlags, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use crate::config::clean;
use crate::dir::Dir;
use crate::remove::is_used;
use crate::target::Target;
use crate::volumes::Subpaths;
use crate::{Container, Engine, Error, mounts, spec, view, volumes};

impl Engine {
    /// Adds a volume, bind or tmpfs to a running container. It is seen inside at once, shown by
    /// [`Engine::inspect`] and [`Engine::mounts`], and there again when the container is started anew.
    ///
    /// # Errors
    /// There is no such container, or it does not run; something is mounted on the target already
    /// ([`Error::TargetTaken`]); the source is not there; the target cannot be made, as in a read-only
    /// root. Then nothing is changed, but a volume with a name stays.
    pub fn mount(&self, container: &str, volume: &VolumeSpec) -> Result<(), Error> {
        let (dir, _) = self.find(container)?;
        let _held = dir.lock_volumes()?;
        let (container, target) = self.running(&dir)?;
        let root = view::of_process(&target, &container)?;
        let known = container.mounts.iter().any(|mount| mount.destination == volume.target);
        let there = open(root.as_fd(), &volume.target)?;
        let mounted = there.as_ref().map(|there| mount_id(there.as_fd())).transpose()?;
        if known || mounted.is_some_and(|(_, is_mount)| is_mount) {
            let target = volume.target.clone();
            return Err(Error::TargetTaken { target, name: container.name });
        }
        let volumes = Volumes::open(&self.root.volumes())?;
        if let Kind::Bind { source, create_source: true } = &volume.kind {
            bindvol::create_source(source)?;
        }
        let point = volumes::plan(volume, &volumes)?;
        let before = dir.volume_changes()?;
        let mut changes = before.clone();
        changes.add(point.clone());
        // Recorded first: of a mount that nobody knows of, nobody could say where it came from; and a volume
        // that nobody uses may be removed.
        dir.write_volume_changes(&changes)?;
        let add = || {
            let merged = dir.open("merged")?;
            volumes::make(volume, &point, &volumes, merged.as_fd(), &self.root.events())?;
            let mut subpaths = Subpaths::default();
            subpaths.open(&point, &volumes)?;
            let mount = spec::volume(&point, &subpaths)?;
            Ok(oci_runtime::mount_into(target.pidfd.as_fd(), &mount)?)
        };
        let added = add();
        if added.is_ok() {
            self.root.events().mounted(&point, &container);
        } else {
            // What went wrong first is what counts. A volume with a name may be another's by now.
            let _ = dir.write_volume_changes(&before);
            if let Some(name) = point.name.as_deref().filter(|_| point.anonymous)
                && let Ok(true) = volumes.remove_if(name, || !is_used(&self.root, name, None))
            {
                self.root.events().volume("destroy", name);
            }
        }
        added
    }

    /// Takes a volume out of a running container: one that was added to it, or one that it was made
    /// with; it is not there again when the container is started anew. The volume itself stays.
    ///
    /// One that a process of the container uses is not taken away, unless `lazy`: then whoever has
    /// something of it open keeps that, and nobody else sees it any more (umount2(2), MNT_DETACH).
    ///
    /// # Errors
    /// There is no such container, or it does not run; there is none of its volumes
    /// ([`Error::NotAVolume`]); it is in use ([`Error::VolumeInUse`]).
    pub fn unmount(&self, container: &str, target: &str, lazy: bool) -> Result<(), Error> {
        let (dir, _) = self.find(container)?;
        let _held = dir.lock_volumes()?;
        let (container, process) = self.running(&dir)?;
        let target = clean(target);
        let found = container.mounts.iter().find(|mount| mount.destination == target);
        let Some(point) = found else {
            let known = container.mounts.iter().map(|mount| mount.destination.clone()).collect();
            return Err(Error::NotAVolume { target, name: container.name, known });
        };
        let root = view::of_process(&process, &container)?;
        // Where the container itself took it away, only the record is left.
        if let Some(mounted) = open(root.as_fd(), &target)?
            && let (id, true) = mount_id(mounted.as_fd())?
            && id != mount_id(root.as_fd())?.0
        {
            if !lazy {
                let users = users(&process, &mounted_on(&process, id)?);
                if !users.is_empty() {
                    return Err(Error::VolumeInUse { target, name: container.name, users });
                }
            }
            oci_runtime::unmount_from(process.pidfd.as_fd(), mounted.as_fd(), &target)?;
        }
        let mut changes = dir.volume_changes()?;
        changes.remove(point);
        dir.write_volume_changes(&changes)?;
        self.root.events().unmounted(point, &container);
        Ok(())
    }

    /// The record of a container as it is now, and its process.
    fn running(&self, dir: &Dir) -> Result<(Container, Target), Error> {
        let gone = || Error::NoSuchContainer { text: dir.id().to_owned(), near: Vec::new() };
        let container = dir.container()?.ok_or_else(gone)?;
        match Target::of(&dir.state()?)? {
            Some(target) => Ok((container, target)),
            None => Err(Error::not_running(&container)),
        }
    }
}

/// What is at `target` in the container; `None` where nothing is.
fn open(root: BorrowedFd<'_>, target: &str) -> Result<Option<OwnedFd>, Error> {
    let failed = |errno: Errno| Error::system("open in the container", target, errno);
    let path = CString::new(target).map_err(|_| failed(Errno::INVAL))?;
    match sys::below::open(root, &path, OFlags::PATH) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(failed(errno)),
    }
}

/// The kernel's number of the mount that `fd` lies in, and whether it is that mount's root (statx(2),
/// Linux 5.8).
fn mount_id(fd: BorrowedFd<'_>) -> Result<(u64, bool), Error> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let stat = rustix::fs::statx(fd, c"", flags, StatxFlags::MNT_ID)
        .map_err(|errno| Error::system("look at", "the target in the container", errno))?;
    let is_root = stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    Ok((stat.stx_mnt_id, is_root))
}

/// The mount `id` of a process's mount namespace, and all that are mounted on it.
fn mounted_on(target: &Target, id: u64) -> Result<HashSet<u64>, Error> {
    let mounts = mounts::table(&target.pid.to_string())?;
    let mut ids = HashSet::from([id]);
    loop {
        let before = ids.len();
        let of_these = mounts.iter().filter(|mount| ids.contains(&u64::from(mount.parent)));
        let found: Vec<u64> = of_these.map(|mount| mount.id.into()).collect();
        ids.extend(found);
        if ids.len() == before {
            break;
        }
    }
    Ok(ids)
}

/// The processes of the container that have something of the mounts `ids` open: as a file, as their
/// working directory or root, or as a program or library that they run.
fn users(target: &Target, ids: &HashSet<u64>) -> Vec<String> {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let own = namespace(&target.pid.to_string());
    let names = |path: &str| {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok())
    };
    let uses = |pid: &str| {
        let single = ["cwd", "root", "exe"].map(|name| format!("/proc/{pid}/{name}"));
        let listed = ["fd", "map_files"].map(|list| format!("/proc/{pid}/{list}"));
        let listed = listed
            .into_iter()
            .flat_map(|list| names(&list).map(|name| format!("{list}/{name}")).collect::<Vec<_>>());
        single.into_iter().chain(listed).any(|path| {
            let flags = AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
            // What has ended or been closed meanwhile uses nothing.
            let stat = rustix::fs::statx(rustix::fs::CWD, &path, flags, StatxFlags::MNT_ID);
            stat.is_ok_and(|stat| ids.contains(&stat.stx_mnt_id))
        })
    };
    let is_pid = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
    let all = names("/proc").filter(is_pid);
    let users = all.filter(|pid| namespace(pid) == own && uses(pid));
    let described = users.map(|pid| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        format!("{} (pid {pid})", name.trim_end())
    });
    described.collect()
}
