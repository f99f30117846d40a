//! A file system of its own (proc, tmpfs, devpts …), prepared in the parent, mounted in the child.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use sys::fscontext::FsContext;
use sys::mount::{self, Change, Propagation};
use sys::{Failure, Step};

use crate::Error;
use crate::error::c_string;
use crate::target::{Target, components};
use crate::words::{Datum, MountWords};

/// Longest value that fsconfig(2) takes, bytes without the NUL.
const OPTION_MAX: usize = 255;

/// File systems of the kernel that a container trusts, and what statfs(2) says of each
/// (linux/magic.h): they are mounted through no symbolic link, and looked at afterwards.
const KERNEL: [(&str, u64); 6] = [
    ("proc", 0x9fa0),
    ("sysfs", 0x6265_6572),
    ("cgroup", 0x0027_e0eb),
    ("cgroup2", 0x6367_7270),
    ("devpts", 0x1cd1),
    ("mqueue", 0x1980_0202),
];

/// An option's name, and its value where it has one.
pub(crate) type Setting = (CString, Option<CString>);

/// A file system to be made and mounted: type, options, mount flags and target, all checked.
#[derive(Debug)]
pub struct Filesystem {
    fstype: CString,
    source: Option<CString>,
    data: Vec<Setting>,
    attributes: MountAttrFlags,
    propagation: Option<(Propagation, bool)>,
    target: Target,
    magic: Option<u64>,
    copy_up: bool,
    description: String,
}

impl Filesystem {
    /// Prepares a mount of type `fstype` on `target` (absolute, in the container). `source` is what
    /// `mount` shows, or the device; `options` are words as in OCI mounts and fstab(5).
    ///
    /// Where the target lies in `/dev`, `/proc` or `/sys`, or the type is one of the kernel's own
    /// (proc, sysfs, cgroup, devpts, mqueue), the path there may lead through no symbolic link of
    /// the image; otherwise links are followed below the root.
    ///
    /// For the type `cgroup` of an OCI configuration, whose form depends on the host, see
    /// [`crate::Cgroups`]; given here it means one legacy hierarchy, named in the options.
    ///
    /// Errors: options that only bind mounts have, values longer than 255 bytes, a target of `/`, a
    /// `/proc` that is not of type proc, anything below `/proc` (writes to sysctls and labels would go
    /// elsewhere: CVE-2019-19921).
    pub fn new<S: AsRef<str>>(
        fstype: &str,
        target: &str,
        source: Option<&str>,
        options: &[S],
    ) -> Result<Self, Error> {
        let words = MountWords::parse(options);
        let only_for_binds = |option| {
            Err(Error::OnlyForBinds {
                option,
                target: target.to_owned(),
                fstype: fstype.to_owned(),
            })
        };
        match (words.bind, words.idmap, words.remount) {
            (Some(recursive), ..) => {
                return only_for_binds(if recursive { "rbind" } else { "bind" });
            }
            (_, Some(recursive), _) => {
                return only_for_binds(if recursive { "ridmap" } else { "idmap" });
            }
            (_, _, true) => return only_for_binds("remount"),
            _ => {}
        }
        for (given, word) in [
            (words.copy_symlink, "copy-symlink"),
            (words.source_nofollow, "src-nofollow"),
            (words.target_nofollow, "dest-nofollow"),
        ] {
            if given {
                return only_for_binds(word);
            }
        }
        let magic = KERNEL.iter().find(|(name, _)| *name == fstype).map(|&(_, magic)| magic);
        let mut data = Vec::with_capacity(words.data.len() + 1);
        let attributes = (words.mount.set - words.tree.clear) | words.tree.set;
        // The kernel's own file systems have one superblock for many mounts, which must not become
        // read-only with one of them; that of a disk must, before it is opened. A tmpfs stays
        // writable behind its read-only mount, so that targets can still be made in it.
        let shared = magic.is_some() || fstype == "tmpfs";
        if attributes.contains(MountAttrFlags::MOUNT_ATTR_RDONLY) && !shared {
            data.push((c"ro".to_owned(), None));
        }
        data.extend(prepare_data(&words.data, target)?);
        let given: Vec<&str> = options.iter().map(AsRef::as_ref).collect();
        Ok(Self {
            target: prepare_target(fstype, target, magic.is_some())?,
            fstype: c_string("file system type", fstype)?,
            source: source
                .filter(|source| !source.is_empty())
                .map(|source| c_string("mount source", source))
                .transpose()?,
            data,
            attributes,
            propagation: words.propagation,
            magic,
            copy_up: words.copy_up,
            description: format!("the {fstype} file system on {target} ({})", given.join(",")),
        })
    }

    /// Child side. Makes the file system, sets its options, makes the target below `root` where it
    /// is missing, and attaches it there.
    ///
    /// The failure has the kernel's log where an option is refused. ELOOP: the target leads through
    /// a symbolic link that is refused. ESTALE: what is there afterwards is not what was mounted.
    pub fn apply(&self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        let mount = self.detached()?;
        self.attach(root, mount.as_fd())
    }

    /// Child side. The first half of [`Filesystem::apply`]: the mount, attached nowhere yet.
    pub fn detached(&self) -> Result<OwnedFd, Failure> {
        let mount = self.make(self.attributes)?;
        self.spread(&mount)?;
        Ok(mount)
    }

    /// As [`Filesystem::detached`], with what `fill` puts into it before it becomes what the options say:
    /// read-only, perhaps. `fill` may do what the caller may.
    pub fn filled<E: From<Failure>>(
        &self,
        fill: impl FnOnce(BorrowedFd<'_>) -> Result<(), E>,
    ) -> Result<OwnedFd, E> {
        let mount = self.make(MountAttrFlags::empty())?;
        fill(mount.as_fd())?;
        if !self.attributes.is_empty() {
            let clear = Some(MountAttrFlags::MOUNT_ATTR__ATIME);
            let change = Change { set: Some(self.attributes), clear, ..Change::default() };
            mount::change(&mount, &change).step("setting the flags of the mount")?;
        }
        self.spread(&mount)?;
        Ok(mount)
    }

    fn make(&self, attributes: MountAttrFlags) -> Result<OwnedFd, Failure> {
        let context = FsContext::open(&self.fstype)?;
        if let Some(source) = &self.source {
            context.string(c"source", source)?;
        }
        set_all(&context, &self.data)?;
        context.mount(attributes)
    }

    fn spread(&self, mount: &OwnedFd) -> Result<(), Failure> {
        let Some((propagation, recursive)) = self.propagation else { return Ok(()) };
        let change = Change { propagation: Some(propagation), recursive, ..Change::default() };
        mount::change(mount, &change).step("setting the mount's propagation")
    }

    /// Child side. The second half of [`Filesystem::apply`].
    pub fn attach(&self, root: BorrowedFd<'_>, mount: BorrowedFd<'_>) -> Result<(), Failure> {
        mount::attach(mount, self.target.make(root)?).step("attaching the mount to its target")?;
        if let Some(magic) = self.magic {
            let there = self.target.make(root)?;
            let stat = rustix::fs::fstatfs(&there).step("looking at the mounted file system")?;
            if stat.f_type as u64 != magic {
                return Err(Failure::new(
                    "finding the file system that was just mounted at its target",
                    Errno::STALE,
                ));
            }
        }
        Ok(())
    }

    /// Whether `tmpcopyup` was given: who mounts copies the covered directory's content, which takes
    /// more than the child may do ([`Filesystem::filled`] gives the place to copy to).
    pub fn copy_up(&self) -> bool {
        self.copy_up
    }

    /// `the tmpfs file system on /dev (nosuid,mode=755)`, for sentences about a failure.
    pub fn describe(&self) -> String {
        self.description.clone()
    }
}

/// Options as fsconfig(2) takes them.
pub(crate) fn prepare_data(data: &[Datum], target: &str) -> Result<Vec<Setting>, Error> {
    let prepare = |Datum { key, value }: &Datum| {
        let value = value.as_deref();
        if let Some(value) = value
            && value.len() > OPTION_MAX
        {
            let (option, target) = (key.clone(), target.to_owned());
            return Err(Error::OptionTooLong { option, target, len: value.len() });
        }
        let value = value.map(|value| c_string("mount option", value)).transpose()?;
        Ok((c_string("mount option", key)?, value))
    };
    data.iter().map(prepare).collect()
}

/// Child side.
pub(crate) fn set_all(context: &FsContext, data: &[Setting]) -> Result<(), Failure> {
    for (key, value) in data {
        match value {
            Some(value) => context.string(key, value)?,
            None => context.flag(key)?,
        }
    }
    Ok(())
}

fn prepare_target(fstype: &str, target: &str, kernel: bool) -> Result<Target, Error> {
    let refuse = |reason| {
        Err(Error::Target { target: target.to_owned(), fstype: fstype.to_owned(), reason })
    };
    if !target.starts_with('/') {
        return refuse("it is not absolute; begin it with a slash");
    }
    let names: Vec<&str> = target.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    match names[..] {
        [] => return refuse("the root is mounted already; choose a directory below it"),
        ["proc"] if fstype != "proc" => {
            return refuse("what is on /proc is trusted with sysctls and labels; use type proc");
        }
        ["proc", _, ..] => {
            return refuse(
                "only the proc file system itself shows what is below /proc; leave it out",
            );
        }
        _ => {}
    }
    if kernel || matches!(names[0], "dev" | "proc" | "sys") {
        Ok(Target::NoLinks(components("mount target", target)?))
    } else {
        Ok(Target::InRoot(c_string("mount target", target)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(fstype: &str, target: &str, options: &[&str]) -> Result<Filesystem, Error> {
        Filesystem::new(fstype, target, Some(fstype), options)
    }

    fn error(fstype: &str, target: &str, options: &[&str]) -> String {
        new(fstype, target, options).unwrap_err().to_string()
    }

    #[test]
    fn options_go_where_they_belong() {
        let options = ["nosuid", "ro", "strictatime", "mode=755", "rslave", "tmpcopyup"];
        let dev = new("tmpfs", "/dev", &options).unwrap();
        let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_STRICTATIME;
        assert_eq!(dev.attributes, flags);
        assert_eq!(dev.data, [(c"mode".to_owned(), Some(c"755".to_owned()))]);
        assert_eq!(dev.propagation, Some((Propagation::Slave, true)));
        assert!(dev.copy_up());
        let disk = new("ext4", "/data", &["ro"]).unwrap();
        assert_eq!(disk.data, [(c"ro".to_owned(), None)]);
    }

    #[test]
    fn links_are_refused_where_the_kernel_is_trusted() {
        let no_links =
            |fstype, target| matches!(new(fstype, target, &[]).unwrap().target, Target::NoLinks(_));
        assert!(no_links("proc", "/elsewhere/proc"));
        assert!(no_links("tmpfs", "/dev"));
        assert!(no_links("tmpfs", "//./dev/shm"));
        assert!(!no_links("tmpfs", "/var/run"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(error("tmpfs", "/a", &["rbind"]).contains("\"rbind\" for /a"));
        assert!(error("tmpfs", "/a", &["idmap"]).contains("\"idmap\""));
        assert!(error("tmpfs", "/a", &["remount"]).contains("\"remount\""));
        let long = format!("context={}", "x".repeat(256));
        assert!(error("tmpfs", "/a", &[&long]).contains("\"context\" for /a has 256 bytes"));
        assert!(error("tmpfs", "/a", &["a\0b"]).contains("NUL"));
        assert!(error("tmpfs", "a", &[]).contains("not absolute"));
        assert!(error("tmpfs", "/./", &[]).contains("the root is mounted already"));
        assert!(error("tmpfs", "/proc/", &[]).contains("use type proc"));
        assert!(error("tmpfs", "/proc/sys", &[]).contains("below /proc"));
        assert!(error("proc", "/x/../proc", &[]).contains("\"..\""));
    }

    proptest::proptest! {
        #[test]
        fn any_input_is_a_value_or_an_error(
            fstype in "\\PC{0,8}", target in "[/a-z.\\x00]{0,20}", option in "\\PC{0,300}"
        ) {
            if let Err(error) = Filesystem::new(&fstype, &target, None, &[option]) {
                proptest::prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
