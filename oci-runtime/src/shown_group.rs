//! A container's own cgroup, shown by binds: where the kernel lets it mount no cgroup file system, since it is in a user
//! namespace and has no cgroup namespace of that one (cgroup_namespaces(7)).

use std::path::{Path, PathBuf};

use bindvol::{Attributes, Bind};
use pivot::{Filesystem, MountWords, Remount};
use rustix::mount::MountAttrFlags;

use crate::Error;
use crate::mounts::Kind;
use crate::symlink::Symlink;

/// Mounts on `target` (absolute) with the OCI option words `options` that show the group whose directories on the host
/// `paths` has by their controllers, v2's under the empty name: that directory alone on a unified host, otherwise a tmpfs
/// with one for each hierarchy in which the container has a group (as runc and crun).
///
/// # Errors
/// A directory cannot be opened; an option has no meaning.
pub(crate) fn kinds(
    target: &str,
    options: &[String],
    paths: &[(String, PathBuf)],
) -> Result<Vec<Kind>, Error> {
    let words = MountWords::parse(options);
    let attributes = Attributes {
        set: words.mount.set,
        clear: words.mount.clear,
        propagation: words.propagation,
        ..Attributes::default()
    };
    let bind = |path: &Path, on: &str| {
        Ok::<_, Error>(Kind::Bind(Bind::prepare(path, on, false, &attributes)?))
    };
    if let [(controllers, path)] = paths
        && controllers.is_empty()
    {
        return Ok(vec![bind(path, target)?]);
    }
    let read_only = words.mount.set.contains(MountAttrFlags::MOUNT_ATTR_RDONLY);
    // Directories are made in the tmpfs before it becomes read-only.
    let mut base: Vec<&str> =
        options.iter().map(String::as_str).filter(|word| *word != "ro").collect();
    base.push("mode=755");
    let mut all = vec![Kind::Filesystem(Filesystem::new("tmpfs", target, Some("tmpfs"), &base)?)];
    for (controllers, path) in paths {
        let name = match controllers.strip_prefix("name=").unwrap_or(controllers) {
            "" => "unified",
            name => name,
        };
        all.push(bind(path, &format!("{target}/{name}"))?);
        if name.contains(',') {
            for controller in name.split(',') {
                let link = Symlink::new(&format!("{target}/{controller}"), Path::new(name))?;
                all.push(Kind::Symlink(link));
            }
        }
    }
    if read_only {
        all.push(Kind::Remount(Remount::new(target, &["bind", "ro"])?));
    }
    Ok(all)
}
