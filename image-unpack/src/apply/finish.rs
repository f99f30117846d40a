//! The end of a layer: whiteouts, opaque marks, and directories' attributes.

use std::os::fd::AsFd;

use super::Tree;
use crate::Error;
use crate::dirs;
use crate::entry::Meta;
use crate::options::Unpacked;
use crate::path;
use crate::pending::Pending;

impl Tree<'_> {
    /// What is left once all entries are there.
    pub(crate) fn finish(mut self) -> Result<Unpacked, Error> {
        let whiteouts = self.write_whiteouts()?;
        let attributes = self.finish_directories()?;
        Ok(Unpacked {
            entries: self.entries,
            bytes: self.bytes,
            tally: (!self.replaced).then_some(self.tally),
            omitted: self.omitted,
            pending: Pending {
                layer: self.place.layer.to_owned(),
                options: self.options.clone(),
                attributes,
                links: self.links,
                whiteouts,
                opaque_root: self.dirs.get(&b""[..]).is_some_and(|root| root.opaque),
            },
        })
    }

    /// Whether lower layers are hidden at `path` by a directory above it.
    fn is_covered(&self, path: &[u8]) -> bool {
        path::ancestors(path)
            .any(|dir| self.dirs.get(dir).is_some_and(|dir| dir.opaque || dir.erased))
    }

    /// A whiteout where the layer has nothing; a directory that was made again becomes opaque; a file hides anyway.
    fn write_whiteouts(&mut self) -> Result<Vec<Vec<u8>>, Error> {
        let (place, form) = (self.place, self.options.form);
        let mut written = Vec::new();
        for path in std::mem::take(&mut self.whiteouts) {
            let (parent, name) = path::split(&path).unwrap_or((b"", &path));
            // Nothing below shows through, or a later entry made the parent a file.
            if self.is_covered(&path) || !self.find_directory(parent)? {
                continue;
            }
            match dirs::stat(self.last(), name).map_err(|e| place.error("look at", &path, e))? {
                Some(stat) if dirs::is_directory(&stat) => {
                    self.dirs.entry(path).or_default().erased = true
                }
                Some(_) => {}
                None if self.links.contains_key(&path) => {}
                None => {
                    dirs::make_whiteout(self.last(), name, form)
                        .map_err(|e| place.error("make the whiteout of", &path, e))?;
                    self.tally.names += 1;
                    self.dirs.entry(parent.to_vec()).or_default().whiteouts = true;
                    written.push(path);
                }
            }
        }
        Ok(written)
    }

    /// Deepest first, so that nothing changes a directory's time after it is set.
    /// Returns the directories that take their attributes from a lower layer.
    fn finish_directories(&mut self) -> Result<Vec<Vec<u8>>, Error> {
        let (place, form) = (self.place, self.options.form);
        let unlisted = Meta { mode: 0o755, ..Meta::default() };
        let mut from_below = Vec::new();
        let mut omitted = 0;
        for (path, directory) in self.dirs.iter().rev() {
            let fd = dirs::open(self.root, path, dirs::READ)
                .map_err(|e| place.error("open the directory", path, e))?;
            // overlayfs does not look for an opaque mark on a layer's root: Pending::settle does what it means.
            let marked = if (directory.opaque || directory.erased) && !path.is_empty() {
                dirs::mark_opaque(&fd, form)
            } else if directory.whiteouts {
                dirs::mark_whiteouts(&fd, form)
            } else {
                Ok(())
            };
            marked.map_err(|e| place.error("mark the directory", path, e))?;
            let meta = directory.meta.as_ref().unwrap_or(&unlisted);
            omitted += self.setter.on_fd(fd.as_fd(), meta).map_err(self.failed(path))?;
            if directory.meta.is_none() && !directory.erased && !self.is_covered(path) {
                from_below.push(path.clone());
            }
        }
        self.omitted.xattrs += omitted;
        Ok(from_below)
    }
}
