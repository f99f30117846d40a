//! A container as an OCI runtime configuration (config.md and config-linux.md of the OCI runtime
//! specification).

use std::ffi::CString;
use std::os::fd::BorrowedFd;
use std::path::Path;

use oci_runtime::standard::{self, StandardMount};
use oci_spec::runtime::{LinuxBuilder, Mount, MountBuilder, RootBuilder, Spec, SpecBuilder};
use rustix::fs::Mode;
use rustix::io::Errno;

use crate::shared::Shared;
use crate::volumes::{Subpaths, depth};
use crate::{
    Container, Error, MountKind, MountPoint, devices, etc, group, init_binary, process, seccomp,
};

/// Where the standard mounts have the cgroup file systems: behind this one, as in Docker.
const BEFORE_CGROUP: &str = "/sys";

const SHM: &str = "/dev/shm";

/// The configuration of `container`, whose own directory is `dir` and whose root is `merged`, with
/// `subpaths` of [`crate::volumes::resolve`] and what it has `shared`. Makes the working directory in the root if the image
/// has none there, as Docker does.
///
/// # Errors
/// The user is not there ([`crate::user::resolve`]); the working directory cannot be one
/// ([`Error::Invalid`], [`Error::System`]); `--init` with a program that is not static
/// ([`Error::InitNotStatic`]).
pub(crate) fn build(
    container: &Container,
    dir: &Path,
    merged: BorrowedFd<'_>,
    subpaths: &Subpaths,
    shared: &Shared,
) -> Result<Spec, Error> {
    let host = &container.host_config;
    let mut own = own_mounts(container, dir, subpaths)?;
    let command = [&container.path].into_iter().chain(&container.args).cloned();
    let mut args: Vec<String> = command.collect();
    if container.host_config.init {
        args.splice(0..0, [init_binary::TARGET.to_owned(), "--".to_owned()]);
        let program = init_binary::program()?;
        let options = ["bind", "rprivate", "ro", "nosuid", "nodev"];
        own.push(mount(init_binary::TARGET, "bind", &program, &options)?);
    }
    // Parents first; what is equally deep stays in its order.
    own.sort_by_key(|mount| depth(&mount.destination().to_string_lossy()));
    let mut mounts = standard_mounts(container, shared)?;
    mounts.append(&mut own);
    make_workdir(container, &mounts, merged)?;

    let root = RootBuilder::default()
        .path(dir.join("merged"))
        .readonly(container.host_config.readonly_rootfs)
        .build()?;
    let mut linux = LinuxBuilder::default()
        .namespaces(shared.namespaces(container)?)
        .rootfs_propagation("private")
        .devices(devices::list(container)?)
        .build()?;
    linux.set_resources(Some(group::resources(container)?));
    let hides = !host.privileged && !host.unmasked;
    let read_only = standard::READ_ONLY.iter().map(|&path| path.to_owned()).collect();
    linux.set_masked_paths(hides.then(standard::masked_paths));
    linux.set_readonly_paths(hides.then_some(read_only));
    let sysctls = host.sysctls.clone();
    linux.set_sysctl(sysctls.map(|sysctls| sysctls.into_iter().collect()));
    let process = process::first(container, args, merged)?;
    linux.set_seccomp(seccomp::filter(container, &process)?);
    let mut spec = SpecBuilder::default()
        .version(oci_spec::runtime::VERSION)
        .root(root)
        .mounts(mounts)
        .process(process)
        .linux(linux)
        .build()?;
    spec.set_annotations(None);
    // A name that is the host's is not set.
    let own_names = host.uts_mode.is_empty();
    let domain = Some(container.config.domainname.clone()).filter(|name| !name.is_empty());
    spec.set_hostname(own_names.then(|| container.config.hostname.clone()));
    spec.set_domainname(domain.filter(|_| own_names));
    Ok(spec)
}

/// The standard mounts, without those that a volume takes the place of or would hide.
fn standard_mounts(container: &Container, shared: &Shared) -> Result<Vec<Mount>, Error> {
    let host = &container.host_config;
    let taken = |target: &str| {
        let hides = |mount: &MountPoint| Path::new(target).starts_with(&mount.destination);
        container.mounts.iter().any(hides)
    };
    let mut mounts = Vec::new();
    let mut add = |standard: &StandardMount| -> Result<(), Error> {
        if !taken(standard.target) {
            let source = Path::new(standard.source);
            let mut options: Vec<String> =
                standard.options.iter().map(|&word| word.to_owned()).collect();
            match (standard.target, &shared.shm) {
                (SHM, Some(source)) => {
                    let options = ["rbind", "rprivate", "nosuid", "nodev", "noexec"];
                    mounts.push(mount(SHM, "bind", source, &options)?);
                    return Ok(());
                }
                (SHM, None) if host.ipc_mode == "none" => return Ok(()),
                (SHM, None) => {
                    if let Some(size) = host.shm_size {
                        options.retain(|word| !word.starts_with("size="));
                        options.push(format!("size={size}"));
                    }
                }
                _ if host.privileged => options.retain(|word| word != "ro"),
                _ => {}
            }
            mounts.push(mount(standard.target, standard.fstype, source, &options)?);
        }
        Ok(())
    };
    for standard in &standard::MOUNTS {
        add(standard)?;
        if standard.target == BEFORE_CGROUP {
            add(&standard::CGROUP)?;
        }
    }
    Ok(mounts)
}

/// The volumes and the files of `/etc`, except for those where the user mounts something else.
pub(crate) fn own_mounts(
    container: &Container,
    dir: &Path,
    subpaths: &Subpaths,
) -> Result<Vec<Mount>, Error> {
    let mut mounts = Vec::new();
    for (name, target) in etc::FILES {
        if !container.mounts.iter().any(|mount| mount.destination == target) {
            let mut options = vec!["rbind", "rprivate"];
            if container.host_config.readonly_rootfs {
                options.push("ro");
            }
            mounts.push(mount(target, "bind", &dir.join(name), &options)?);
        }
    }
    for point in &container.mounts {
        mounts.push(volume(point, subpaths)?);
    }
    Ok(mounts)
}

/// A volume, a bind or a tmpfs of the container's record as a mount.
pub(crate) fn volume(point: &MountPoint, subpaths: &Subpaths) -> Result<Mount, Error> {
    let target = &point.destination;
    match point.kind {
        MountKind::Tmpfs => mount(target, "tmpfs", Path::new("tmpfs"), &point.options),
        MountKind::Bind | MountKind::Volume => {
            let open = subpaths.source(target);
            let source = open.as_deref().unwrap_or_else(|| Path::new(&point.source));
            mount(target, "bind", source, &point.options)
        }
    }
}

fn mount<S: AsRef<str>>(
    target: &str,
    fstype: &str,
    source: &Path,
    options: &[S],
) -> Result<Mount, Error> {
    let options: Vec<String> = options.iter().map(|word| word.as_ref().to_owned()).collect();
    let mount = MountBuilder::default().destination(target).typ(fstype).source(source);
    Ok(mount.options(options).build()?)
}

/// Makes the working directory below the root, owned by root; not where a mount will hide it.
fn make_workdir(
    container: &Container,
    mounts: &[Mount],
    merged: BorrowedFd<'_>,
) -> Result<(), Error> {
    let path = &container.config.working_dir;
    let hidden = mounts.iter().any(|mount| Path::new(path).starts_with(mount.destination()));
    if path.is_empty() || hidden {
        return Ok(());
    }
    let invalid = |why| Error::invalid("working directory", path, why);
    let target = CString::new(path.as_str()).map_err(|_| invalid("it has a NUL byte in it"))?;
    let mode = Mode::from_raw_mode(0o755);
    match sys::below::make(merged, &target, sys::below::Kind::Directory, mode) {
        Ok(_) => Ok(()),
        Err(Errno::NOTDIR | Errno::EXIST) => {
            Err(invalid("the image has something else than a directory there, or on the way to it"))
        }
        Err(Errno::LOOP) => Err(invalid("the image has too many symbolic links on the way to it")),
        Err(Errno::NAMETOOLONG) => Err(invalid("it is too long for a path")),
        Err(errno) => Err(Error::system("make the container's working directory", path, errno)),
    }
}

#[cfg(test)]
mod tests;
