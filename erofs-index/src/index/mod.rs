//! A tree on disk. First a walk that says what goes where, then one pass that writes from the first byte to the last.
//!
//! In this order: the superblock and the table of devices; inodes, the root's first and a directory's together, each
//! with its attributes, its pointers to data or its short data; shared attributes; blocks of directories and of
//! files whose data the index holds.

mod attributes;
mod dirs;
mod layout;
mod walk;
mod write;

use std::io::Write;

use crate::Error;
use crate::entry::Device;
use crate::merged::{Merged, Settled};
use crate::tree::Tree;

use layout::Layout;

/// What a tree is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    /// Whiteouts and opaque marks, for overlayfs to merge it with what is below.
    pub(crate) stacked: bool,
    /// The image's own `trusted.overlay.*` get one more `overlay.`, which overlayfs strips.
    pub(crate) escape: bool,
}

/// How a merged tree is going to be mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Use {
    /// As a lower directory of an overlay. Attributes `trusted.overlay.*` that the image brings would mean
    /// something to overlayfs, so they are escaped: the overlay shows them under their own names.
    #[default]
    Lower,
    /// By itself: all attributes have their own names.
    Alone,
}

/// What else an index says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// The data devices, numbered from 1 in this order; 4,096 at most.
    pub devices: Vec<Device>,
    /// The file system's UUID. What is equal should have the same: a part of a digest, or zeros.
    pub uuid: [u8; 16],
}

/// An index whose layout is known and that only has to be written.
pub struct Index<'a> {
    tree: &'a Tree,
    layout: Layout,
    options: &'a Options,
}

impl<'a> Index<'a> {
    fn new(tree: &'a Tree, form: Form, options: &'a Options) -> Result<Index<'a>, Error> {
        Ok(Index { tree, layout: Layout::new(tree, form, options)?, options })
    }

    /// Bytes of the index: a multiple of 512.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.layout.size()
    }

    /// Inodes of the index.
    #[must_use]
    pub fn inodes(&self) -> u64 {
        self.layout.inodes()
    }

    /// Writes the index. The same entries and options give the same bytes.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write_to(&self, out: &mut impl Write) -> Result<(), Error> {
        write::write(self.tree, &self.layout, self.options, out)
            .map_err(|source| Error::Write { source })
    }

    /// The index in memory.
    ///
    /// # Errors
    /// None that a `Vec` gives.
    pub fn to_vec(&self) -> Result<Vec<u8>, Error> {
        let mut out = Vec::with_capacity(usize::try_from(self.size()).unwrap_or(0));
        self.write_to(&mut out)?;
        Ok(out)
    }
}

impl std::fmt::Debug for Index<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index")
            .field("size", &self.size())
            .field("inodes", &self.inodes())
            .finish_non_exhaustive()
    }
}

impl Settled {
    /// The layer's index, to be one of several lower directories of an overlay: whiteouts are character devices 0:0,
    /// opaque directories have `trusted.overlay.opaque=y`, and attributes `trusted.overlay.*` of the image's own
    /// are escaped, as for [`Use::Lower`].
    ///
    /// # Errors
    /// Data beyond the end of its device, and what is over a limit of the format.
    pub fn index<'a>(&'a self, options: &'a Options) -> Result<Index<'a>, Error> {
        Index::new(&self.layer().tree, Form { stacked: true, escape: true }, options)
    }
}

impl Merged {
    /// The index of all layers as one file system, without whiteouts and opaque marks.
    ///
    /// # Errors
    /// Data beyond the end of its device, and what is over a limit of the format.
    pub fn index<'a>(&'a self, usage: Use, options: &'a Options) -> Result<Index<'a>, Error> {
        let form = Form { stacked: false, escape: usage == Use::Lower };
        Index::new(&self.tree, form, options)
    }
}
