//! The tar of one layer, without an image around it.

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::apply::Tree;
use crate::decode::{LayerInput, Verified};
use crate::limits::Limits;
use crate::options::{Options, Unpacked};
use crate::source::{self, BUFFER, Extent};
use crate::tarstream::TarStream;
use crate::{Digest, Error};

/// A tar that is to become a layer: the archive of a root file system, or what changed in one.
#[derive(Debug)]
pub struct LayerTar {
    pub(crate) tar: Extent,
    pub(crate) what: String,
}

impl LayerTar {
    /// Use an open file: a regular one from where it stands. A compressed one and anything else (standard input) is
    /// read to its end and kept, decoded, in an unnamed file in `spool`. `name` is for messages; the limits
    /// hold for what is kept.
    ///
    /// # Errors
    /// What cannot be read, is empty, or is compressed in a way that is not known.
    pub fn open(file: File, name: &str, spool: &Path, limits: &Limits) -> Result<LayerTar, Error> {
        let tar = source::plain(file, name, spool, limits)?;
        Ok(LayerTar { tar, what: name.to_owned() })
    }

    /// Bytes of the tar.
    pub fn size(&self) -> u64 {
        self.tar.len
    }

    /// Write the layer into the empty directory `into`, and say which digest the tar has: the layer's diff_id. See
    /// [`Archive::unpack`](crate::Archive::unpack).
    ///
    /// # Errors
    /// A tar that is malformed; entries that are refused; a limit; a failed system call.
    pub fn unpack(
        &self,
        into: BorrowedFd<'_>,
        options: &Options,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(Digest, Unpacked), Error> {
        let mut tree = Tree::new(into, options, &self.what);
        let reader = self.tar.reader(BUFFER);
        let limits = &options.limits;
        let input =
            LayerInput::new(Box::new(reader), self.tar.len, false, progress, limits, &self.what)?;
        let mut stream = TarStream::new(input, limits, &self.what);
        while let Some(entry) = stream.next()? {
            tree.add(entry, &mut stream)?;
        }
        let (diff_id, _) = stream.into_input().finish()?;
        Ok((diff_id, tree.finish()?))
    }
}
