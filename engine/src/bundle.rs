//! What a start of a container needs: its root mounted, its files of `/etc`, its OCI configuration.

use std::os::fd::AsFd;

use oci_runtime::spec::{BoxBuilder, Process};
use oci_runtime::{Prepared, Stdio};
use overlay::Overlay;
use rustix::fs::{Mode, OFlags};

use crate::dir::{Dir, Root};
use crate::{Container, Error, attach, etc, group, shared, spec, volumes};

/// Mounts the image's layers, and over them the container's own directory, at `merged`, on the host.
///
/// # Errors
/// A layer is not there; the kernel refuses the overlay.
pub(crate) fn mount(root: &Root, dir: &Dir, container: &Container) -> Result<(), Error> {
    if container.host_config.auto_remove {
        // The kernel's mark that a volatile overlay was mounted, which no second mount passes
        // (overlayfs.rst, "Volatile mount"). Since then only this container's life went on.
        let mark = dir.path().join("work/work/incompat/volatile");
        match std::fs::remove_dir_all(&mark) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::system("remove", mark, error));
            }
            _ => {}
        }
    }
    let lowers = container.lowers.iter().map(|lower| root.path().join(&lower.link));
    let overlay = Overlay::new()
        .lowers(lowers)
        .upper(dir.path().join("diff"))
        .work(dir.path().join("work"))
        // What is thrown away at the end need not reach the disk before.
        .volatile(container.host_config.auto_remove);
    let base = rustix::fs::open(root.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::system("open", root.path(), errno))?;
    overlay.mount_at(dir.open("merged")?.as_fd(), base.as_fd())?;
    Ok(())
}

/// Writes the bundle of a container whose root is mounted, and prepares its start, in a new cgroup.
pub(crate) fn prepare(
    root: &Root,
    dir: &Dir,
    container: &Container,
    stdio: Stdio,
) -> Result<Prepared, Error> {
    let merged = dir.open("merged")?;
    let volumes = bindvol::Volumes::open(&root.volumes())?;
    let subpaths = volumes::reopen(container, &volumes)?;
    let own = rustix::fs::open(dir.path(), OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::system("open", dir.path(), errno))?;
    etc::write(container, own.as_fd())?;
    // Open until the start is prepared.
    let shared = shared::open(root, dir, container)?;
    let mut spec = spec::build(container, dir.path(), merged.as_fd(), &subpaths, &shared)?;
    if let Some(process) = spec.process_mut() {
        set_size(process);
    }
    dir.write("config.json", &spec)?;
    // That of the last run, where this is a further one.
    group::remove(dir)?;
    Ok(Prepared::new(dir.path(), &spec, stdio)?.cgroup(group::make(dir, container)?))
}

/// Gives a process's terminal the size of the starter's.
pub(crate) fn set_size(process: &mut Process) {
    let size = attach::window_size(&[std::io::stdout().as_fd(), std::io::stdin().as_fd()]);
    if let Some(size) = size.filter(|_| process.terminal() == Some(true)) {
        let size = BoxBuilder::default().height(size.ws_row).width(size.ws_col).build();
        process.set_console_size(size.ok());
    }
}
