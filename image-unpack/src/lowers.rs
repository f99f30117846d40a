//! What shows through from the layers below, read as overlayfs would.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, Stat};

use crate::dirs;
use crate::options::WhiteoutForm;

/// The lower layers' directories, topmost first.
pub(crate) struct Lowers<'a> {
    pub(crate) layers: &'a [BorrowedFd<'a>],
    pub(crate) form: WhiteoutForm,
}

/// What a path is in the lower layers.
pub(crate) enum Found {
    /// A directory, open for reading: the topmost one, whose attributes show.
    Directory(OwnedFd),
    /// Anything else: the directory that it is in, and its status.
    Other(OwnedFd, Box<Stat>),
}

/// What one layer says of a path.
enum Seen {
    Found(Found),
    /// Nothing; the layers below may.
    Through,
    /// Nothing, and it hides the layers below.
    Hidden,
}

impl Lowers<'_> {
    /// What shows at `path`.
    pub(crate) fn find(&self, path: &[u8]) -> rustix::io::Result<Option<Found>> {
        for layer in self.layers {
            match self.look(*layer, path)? {
                Seen::Found(found) => return Ok(Some(found)),
                Seen::Hidden => return Ok(None),
                Seen::Through => {}
            }
        }
        Ok(None)
    }

    fn look(&self, layer: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<Seen> {
        let mut dir = dirs::open(layer, b"", dirs::READ)?;
        if path.is_empty() {
            return Ok(Seen::Found(Found::Directory(dir)));
        }
        let mut opaque = false;
        let mut parts = path.split(|byte| *byte == b'/').peekable();
        while let Some(part) = parts.next() {
            let Some(stat) = dirs::stat(dir.as_fd(), part)? else {
                return Ok(if opaque { Seen::Hidden } else { Seen::Through });
            };
            let last = parts.peek().is_none();
            if dirs::is_directory(&stat) {
                dir = rustix::fs::openat(&dir, part, dirs::READ, Mode::empty())?;
                opaque |= dirs::is_opaque(dir.as_fd(), self.form)?;
            } else if dirs::is_whiteout(dir.as_fd(), part, &stat, self.form)? || !last {
                return Ok(Seen::Hidden);
            } else {
                return Ok(Seen::Found(Found::Other(dir, Box::new(stat))));
            }
        }
        Ok(Seen::Found(Found::Directory(dir)))
    }

    /// The names that show in the root.
    pub(crate) fn root_names(&self) -> rustix::io::Result<BTreeSet<Vec<u8>>> {
        let (mut shown, mut gone) = (BTreeSet::new(), BTreeSet::new());
        for layer in self.layers {
            let dir = dirs::open(*layer, b"", dirs::READ)?;
            for name in dirs::names(dir.as_fd())? {
                let Some(stat) = dirs::stat(dir.as_fd(), &name)? else { continue };
                if dirs::is_whiteout(dir.as_fd(), &name, &stat, self.form)? {
                    gone.insert(name);
                } else if !gone.contains(&name) {
                    shown.insert(name);
                }
            }
        }
        Ok(shown)
    }
}
