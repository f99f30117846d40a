//! A layer's bytes into a file of the caller's, piece by piece while they are hashed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::io::Errno;

use crate::Error;
use crate::source::Extent;

/// A copy in the making.
pub(crate) struct Copy<'a> {
    to: &'a File,
    /// Where the bytes lie already, as far as the kernel can copy them from there: file and offset.
    source: Option<(Arc<File>, u64)>,
    at: u64,
}

impl<'a> Copy<'a> {
    pub(crate) fn new(to: &'a File, source: Option<&Extent>) -> Copy<'a> {
        let source = source.map(|extent| (Arc::clone(&extent.file), extent.offset));
        Copy { to, source, at: 0 }
    }

    /// The next bytes. The page cache has them, since they were just read: where the file systems share blocks,
    /// copy_file_range(2) copies nothing, else it copies from there.
    pub(crate) fn piece(&mut self, bytes: &[u8], what: &str) -> Result<(), Error> {
        let failed = |source| Error::Copy { what: what.to_owned(), source };
        let mut done = 0;
        while let Some((from, start)) = &self.source
            && done < bytes.len()
        {
            let (mut off_in, mut off_out) = (start + self.at, self.at);
            let (input, output) = (Some(&mut off_in), Some(&mut off_out));
            match rustix::fs::copy_file_range(from, input, self.to, output, bytes.len() - done) {
                // Shorter than when it was read: the caller's next read says so.
                Ok(0) => self.source = None,
                Ok(count) => {
                    done += count;
                    self.at += count as u64;
                }
                Err(Errno::INTR) => {}
                // Other file systems, or a kernel that has no such call; a full disk is told by the write below.
                Err(_) => self.source = None,
            }
        }
        self.to.write_all_at(&bytes[done..], self.at).map_err(failed)?;
        self.at += (bytes.len() - done) as u64;
        Ok(())
    }
}
