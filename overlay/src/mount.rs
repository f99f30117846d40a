//! The mount itself, in the forms that the crate's documentation lists.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountAttrFlags, MountFlags};
use sys::Step;
use sys::fscontext::FsContext;
use sys::{Failure, mount};

use crate::options::{PAGE, VALUE, escape};
use crate::{Error, MAX_LOWERS, Overlay};

/// How the layers were handed to the kernel, which is how `mount` prints them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// mount(2) with `lowerdir=A:B,upperdir=…,workdir=…`.
    OneString,
    /// fsconfig(2) with `lowerdir+` for each layer (Linux 6.8); printed as
    /// `lowerdir+=A,lowerdir+=B,…`.
    PerLayer,
    /// As `OneString`, the paths relative to the base directory.
    Relative,
}

impl Overlay {
    /// Mounts the overlay at the directory that `target` is open on; its source is `overlay`.
    ///
    /// `base`: relative paths are taken from here, and where the options do not fit otherwise,
    /// absolute paths below it are made relative to it. Both descriptors may be O_PATH. Needs
    /// `/proc`. Allocates; starts a thread where paths are relative, and so is no call for a child
    /// between clone and exec.
    pub fn mount_at(&self, target: BorrowedFd<'_>, base: BorrowedFd<'_>) -> Result<Form, Error> {
        self.mount_with(target, base, takes_layers_alone)
    }

    /// `per_layer` answers whether this kernel has `lowerdir+`; it is asked only where it matters.
    fn mount_with(
        &self,
        target: BorrowedFd<'_>,
        base: BorrowedFd<'_>,
        per_layer: impl FnOnce() -> bool + Send,
    ) -> Result<Form, Error> {
        self.check()?;
        let whole = self.string(Path::to_owned)?;
        if whole.to_bytes_with_nul().len() <= PAGE {
            self.there(base, || self.one_string(target, &whole))??;
            return Ok(Form::OneString);
        }
        let values_fit = || self.paths().all(|(_, path)| path.as_os_str().len() <= VALUE);
        let takes = per_layer();
        if takes && values_fit() {
            self.there(base, || self.per_layer(target))??;
            return Ok(Form::PerLayer);
        }
        let short = self.relative_to(base)?;
        if short.to_bytes_with_nul().len() <= PAGE {
            in_directory(base, || self.one_string(target, &short))??;
            return Ok(Form::Relative);
        }
        if takes {
            // Paths over 255 bytes: by descriptor, which Linux 6.13 takes.
            self.there(base, || self.per_layer(target))??;
            return Ok(Form::PerLayer);
        }
        let bytes = short.to_bytes_with_nul().len();
        Err(Error::TooLong { layers: self.lowers.len(), bytes })
    }

    /// Makes the overlay as a detached mount, attached nowhere: it goes when the descriptor is
    /// closed unless it is moved somewhere first. Relative paths are taken from the working
    /// directory. (Linux 5.2; before 6.5 no path may have a comma in it, and before 6.8 all lower
    /// paths together may have 255 bytes.)
    pub fn detached(&self) -> Result<OwnedFd, Error> {
        self.check()?;
        self.string(Path::to_owned)?; // for the error of a NUL
        self.attempt(|| self.context())
    }

    /// What needs no look at the file system.
    fn check(&self) -> Result<(), Error> {
        match (&self.upper, &self.work) {
            (Some(_), None) => return Err(Error::Incomplete { missing: "workdir" }),
            (None, Some(_)) => return Err(Error::Incomplete { missing: "upperdir" }),
            _ => {}
        }
        match self.lowers.as_slice() {
            [] => Err(Error::NoLower),
            [lower] if self.upper.is_none() => Err(Error::OneLower { lower: lower.clone() }),
            lowers if lowers.len() > MAX_LOWERS => {
                Err(Error::TooManyLowers { layers: lowers.len() })
            }
            _ => Ok(()),
        }
    }

    /// Runs `work` where the relative paths mean what they should.
    fn there<T: Send>(
        &self,
        base: BorrowedFd<'_>,
        work: impl FnOnce() -> T + Send,
    ) -> Result<T, Error> {
        if self.paths().all(|(_, path)| path.is_absolute()) {
            return Ok(work());
        }
        in_directory(base, work)
    }

    fn attempt<T>(&self, mount: impl FnOnce() -> Result<T, Failure>) -> Result<T, Error> {
        self.check_upper()?;
        mount().map_err(|failure| self.explain(failure))
    }

    fn one_string(&self, target: BorrowedFd<'_>, options: &CStr) -> Result<(), Error> {
        // mount(2) has no descriptor for its target; the magic link leads to the very same object.
        let target = sys::process::proc_path(target);
        let flags = MountFlags::empty();
        self.attempt(|| {
            rustix::mount::mount(c"overlay", &target, c"overlay", flags, options)
                .step("mount(2) of the overlay at its target")
        })
    }

    fn per_layer(&self, target: BorrowedFd<'_>) -> Result<(), Error> {
        self.attempt(|| {
            let tree = self.context()?;
            mount::attach(&tree, target).step("attaching the overlay at its target")
        })
    }

    /// The overlay by fsopen(2).
    pub(crate) fn context(&self) -> Result<OwnedFd, Failure> {
        let context = FsContext::open(c"overlay")?;
        context.string(c"source", c"overlay")?;
        let mut list = Vec::new();
        for (index, lower) in self.lowers.iter().enumerate() {
            if index > 0 {
                list.push(b':');
            }
            escape(lower, b":,", &mut list);
        }
        if list.len() <= VALUE {
            context.string(c"lowerdir", &c_string(list)?)?;
        } else {
            for lower in &self.lowers {
                // Not unescaped by the kernel: its own name is the whole value.
                set(&context, c"lowerdir+", lower, lower.as_os_str().as_bytes())?;
            }
        }
        for (key, path) in [(c"upperdir", &self.upper), (c"workdir", &self.work)] {
            if let Some(path) = path {
                let mut value = Vec::new();
                escape(path, b"", &mut value);
                set(&context, key, path, &value)?;
            }
        }
        for (key, value) in self.fixed() {
            context.string(key, value)?;
        }
        for flag in self.flags() {
            context.flag(flag)?;
        }
        context.mount(MountAttrFlags::empty())
    }

    /// The option string with every path below `base` made relative to it.
    fn relative_to(&self, base: BorrowedFd<'_>) -> Result<CString, Error> {
        let base = sys::process::path_of(base).map_err(Error::Base)?;
        self.string(|path| match path.strip_prefix(&base) {
            Ok(rest) if rest.as_os_str().is_empty() => PathBuf::from("."),
            Ok(rest) => rest.to_owned(),
            Err(_) => path.to_owned(),
        })
    }
}

fn in_directory<T: Send>(
    base: BorrowedFd<'_>,
    work: impl FnOnce() -> T + Send,
) -> Result<T, Error> {
    sys::process::in_directory(base, work).map_err(Error::Base)
}

fn c_string(bytes: Vec<u8>) -> Result<CString, Failure> {
    CString::new(bytes)
        .map_err(|_| Failure::new("setting a mount option", rustix::io::Errno::INVAL))
}

/// Sets `key` to `path`: as `value` where fsconfig(2) takes a string of that length, by descriptor
/// (Linux 6.13) beyond.
fn set(context: &FsContext, key: &CStr, path: &Path, value: &[u8]) -> Result<(), Failure> {
    if value.len() <= VALUE {
        return context.string(key, &c_string(value.to_vec())?);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let layer = rustix::fs::open(path, flags, Mode::empty()).step("opening a layer")?;
    context.descriptor(key, layer.as_fd())
}

/// Whether this kernel has `lowerdir+`. Before 6.5 overlayfs takes any option at first and looks at
/// them when the mount is made, so that a nonsense one is taken too.
fn takes_layers_alone() -> bool {
    let Ok(context) = FsContext::open(c"overlay") else { return false };
    context.string(c"no-such-option", c"/").is_err() && context.string(c"lowerdir+", c"/").is_ok()
}

#[cfg(test)]
mod tests;
