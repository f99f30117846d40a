//! `process.apparmorProfile` and `process.selinuxLabel`: what the process is to the kernel's security
//! module from its exec on.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

use oci_spec::runtime as oci;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use sys::{Failure, Step};

use crate::Error;

/// `Y` where AppArmor is on.
const APPARMOR: &str = "/sys/module/apparmor/parameters/enabled";
/// There where SELinux is on.
const SELINUX: &str = "/sys/fs/selinux/status";
/// statfs(2) of proc (linux/magic.h).
const PROC_MAGIC: u64 = 0x9fa0;

/// Labels to be written, and the caller's own procfs to write them to, whose files a container cannot
/// have put anything in place of (CVE-2019-16884).
#[derive(Debug, Default)]
pub(crate) struct Labels {
    proc: Option<OwnedFd>,
    writes: Vec<Write>,
}

#[derive(Debug)]
struct Write {
    field: &'static str,
    /// Below the procfs; the second is what older kernels have (AppArmor's own: Linux 5.8).
    files: [CString; 2],
    text: Vec<u8>,
}

/// Whether the kernel has AppArmor, and it is on.
pub(crate) fn has_apparmor() -> bool {
    std::fs::read(APPARMOR).is_ok_and(|text| text.starts_with(b"Y"))
}

/// Whether the kernel has SELinux, and it is on.
pub(crate) fn has_selinux() -> bool {
    Path::new(SELINUX).exists()
}

impl Labels {
    /// # Errors
    /// The kernel does not have what is asked for.
    pub(crate) fn prepare(process: &oci::Process) -> Result<Self, Error> {
        let mut labels = Self::default();
        let text = |label: &Option<String>| label.clone().filter(|label| !label.is_empty());
        if let Some(profile) = text(process.apparmor_profile()) {
            let field = "process.apparmorProfile";
            if !has_apparmor() {
                let reason =
                    "apparmor is not supported by this kernel, or not enabled; leave it out";
                return Err(Error::field(field, reason));
            }
            let files =
                [c"thread-self/attr/apparmor/exec".to_owned(), c"thread-self/attr/exec".to_owned()];
            labels.writes.push(Write {
                field,
                files,
                text: format!("exec {profile}").into_bytes(),
            });
        }
        if let Some(label) = text(process.selinux_label()) {
            let field = "process.selinuxLabel";
            if !has_selinux() {
                let reason =
                    "selinux is not supported by this kernel, or not enabled; leave it out";
                return Err(Error::field(field, reason));
            }
            let files = [c"thread-self/attr/exec".to_owned(), c"thread-self/attr/exec".to_owned()];
            labels.writes.push(Write { field, files, text: label.into_bytes() });
        }
        if !labels.writes.is_empty() {
            labels.proc = Some(own_proc()?);
        }
        Ok(labels)
    }

    /// Child side, before no_new_privs, which would narrow the choice.
    pub(crate) fn apply(&self) -> Result<(), Failure> {
        let Some(proc) = &self.proc else { return Ok(()) };
        for (index, write) in self.writes.iter().enumerate() {
            let of_write = |failure: Failure| failure.of(0, index as u32);
            let resolve =
                ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let open = |file| rustix::fs::openat2(proc, file, flags, Mode::empty(), resolve);
            let file = match open(&write.files[0]) {
                Err(Errno::NOENT) => open(&write.files[1]),
                result => result,
            };
            let file = file.step("opening the process's label").map_err(of_write)?;
            rustix::io::write(&file, &write.text)
                .step("writing the process's label (is the profile loaded?)")
                .map_err(of_write)?;
        }
        Ok(())
    }

    /// What the failure of `index` is about.
    pub(crate) fn describe(&self, index: u32) -> String {
        match self.writes.get(index as usize) {
            Some(write) => format!("{} {:?}", write.field, String::from_utf8_lossy(&write.text)),
            None => "the labels of the process".to_owned(),
        }
    }
}

fn own_proc() -> Result<OwnedFd, Error> {
    let io = |op| move |errno: Errno| Error::io(op, "/proc")(errno.into());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = rustix::fs::open(c"/proc", flags, Mode::empty()).map_err(io("opening"))?;
    let filesystem = rustix::fs::fstatfs(&proc).map_err(io("looking at the file system of"))?;
    match filesystem.f_type as u64 == PROC_MAGIC {
        true => Ok(proc),
        false => Err(io("finding the proc file system at")(Errno::NODEV)),
    }
}
