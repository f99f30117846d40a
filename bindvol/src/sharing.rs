//! Whether a source lies in a mount that can be shared with a container.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{AtFlags, StatxFlags};
use sys::mount::Propagation;
use sys::mountinfo;

use crate::Error;
use crate::spec::propagation_word;

const MOUNTINFO: &str = "/proc/thread-self/mountinfo";

/// Refuses `shared` for a source whose mount has no peers, and `slave` for one that has no master
/// either: the container would see none of the mounts that it is meant to.
pub(crate) fn check(
    source: BorrowedFd<'_>,
    shown: &Path,
    target: &str,
    propagation: (Propagation, bool),
) -> Result<(), Error> {
    let needed = match propagation.0 {
        Propagation::Shared => "shared",
        Propagation::Slave => "shared or slave",
        Propagation::Private | Propagation::Unbindable => return Ok(()),
    };
    let status = rustix::fs::statx(source, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
        .map_err(Error::io("looking at the source", shown))?;
    let path = Path::new(MOUNTINFO);
    let text = sys::whole::read_path(path).map_err(Error::io("reading", path))?;
    let mounts = mountinfo::parse(&text)?;
    let mount = mounts.iter().find(|mount| u64::from(mount.id) == status.stx_mnt_id);
    let shares = mount.is_some_and(|mount| {
        mount.propagation.iter().any(|field| {
            field.starts_with("shared:")
                || (propagation.0 == Propagation::Slave && field.starts_with("master:"))
        })
    });
    if shares {
        return Ok(());
    }
    Err(Error::NotShared {
        source_path: shown.to_owned(),
        target: target.to_owned(),
        word: propagation_word(propagation),
        // A detached mount is in no table.
        mount: mount.map_or_else(|| shown.to_owned(), |mount| mount.target.clone()),
        needed,
    })
}
