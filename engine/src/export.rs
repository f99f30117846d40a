//! A container's root file system as an archive.

use std::io::Write;

use image_store::Pack;

use crate::view::Extent;
use crate::{Engine, Error};

impl Engine {
    /// Writes a container's root file system, as it is now, as a tar: without what is mounted in it, as
    /// Docker does. One that does not run is neither started nor removed meanwhile.
    ///
    /// # Errors
    /// There is no such container; its root cannot be read; `out` takes no more.
    pub fn export(&self, container: &str, out: &mut dyn Write) -> Result<(), Error> {
        let (dir, container) = self.find(container)?;
        let rootfs = self.rootfs(&dir, &container, Extent::Root)?;
        Pack::default().write(rootfs.root(), out)?;
        Ok(())
    }
}
