//! Restores: a container whose processes go on from where a checkpoint was made of them ([`Making::restore`]).

use std::cell::RefCell;
use std::ffi::{CString, OsStr};
use std::fs::DirBuilder;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ns_core::{Child, Namespaces, Spawn};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;
use rustix::process::Pid;
use sys::Step;
use sys::mount::{Change, Propagation};

use crate::container::end;
use crate::create::Making;
use crate::criu::{Criu, Notice, Request};
use crate::criu_groups::GroupOptions;
use crate::criu_message::Message;
use crate::criu_options::Directories;
use crate::external::{self, Bind, DESCRIPTORS, NULL};
use crate::group::{Made, OwnGroup};
use crate::home::RESTORE_ROOT;
use crate::hooks::Hooks;
use crate::inside::{stay, until_done};
use crate::namespaces::makes_network;
use crate::{CriuOptions, Error, Running, Stdio, spec};

/// What an error says was tried.
const OP: &str = "restoring";
/// CRIU's log.
const LOG: &str = "restore.log";

/// How a container is restored.
#[derive(Clone, Debug, Default)]
pub struct Restore {
    /// What checkpoints have, too.
    pub options: CriuOptions,
    /// The label of the processes, as `apparmor:NAME` or `selinux:NAME`, in the place of the old one.
    pub lsm_profile: Option<String>,
    /// The label of the mounts that have one.
    pub lsm_mount_context: Option<String>,
}

impl Making {
    /// Lets the processes of a checkpoint go on as this container, of the configuration `spec`, with the pipes among
    /// `stdio` in the place of those that they had. The `prestart` and `createRuntime` hooks are run (as runc).
    ///
    /// # Errors
    /// [`Error::NoCriu`], [`Error::OldCriu`]; there is no checkpoint; CRIU ([`Error::Criu`]) or a hook fails. No process
    /// of it is left; [`Making::abandon`] takes away the rest.
    pub fn restore(
        &mut self,
        spec: &spec::Spec,
        wanted: &Restore,
        stdio: Stdio,
    ) -> Result<Running, Error> {
        let own = Own::prepare(self, spec, &wanted.options)?;
        let mut group = self.restore_group(spec)?;
        let options = GroupOptions::find();
        let restored = group
            .as_ref()
            .map_or(Ok(()), Made::limit_devices)
            .and_then(|()| self.restore_in(spec, wanted, stdio, &own, group.as_ref()));
        let warnings =
            options.map(GroupOptions::put_back).unwrap_or_else(|error| vec![error.to_string()]);
        let restored = restored.and_then(|(child, terminal)| {
            match group.as_mut().map_or(Ok(()), Made::has_process) {
                Ok(()) => Ok(Running::new(child, terminal, warnings)),
                Err(error) => {
                    end(&child);
                    Err(error)
                }
            }
        });
        if restored.is_err() {
            group.iter().for_each(Made::take_back);
        }
        restored
    }

    /// Makes its group, as for a new container.
    fn restore_group(&mut self, spec: &spec::Spec) -> Result<Option<Made>, Error> {
        let mut group = OwnGroup::prepare(&spec.linux().clone().unwrap_or_default())?;
        let (hierarchies, location) = self.group();
        group.put_at(hierarchies, location);
        if let Some(scope) = self.take_scope() {
            group.in_scope(scope);
        }
        group.make()
    }

    fn restore_in(
        &mut self,
        spec: &spec::Spec,
        wanted: &Restore,
        stdio: Stdio,
        own: &Own,
        group: Option<&Made>,
    ) -> Result<(Child, Option<OwnedFd>), Error> {
        let directories = wanted.options.open(false, LOG)?;
        let kept: Vec<BorrowedFd<'_>> = own.namespaces.iter().map(|(fd, _)| fd.as_fd()).collect();
        let criu = Criu::start(&wanted.options, stdio, group.map(|group| &group.join), &kept)?;
        // Before what is mounted for it is taken away.
        let read_only = spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false);
        let root = RestoreRoot::mount(self.path(), &own.rootfs, read_only)?;
        let message = own.message(self, spec, wanted, &directories, root.path())?;
        let id = self.id().to_owned();
        let new_network = makes_network(spec);
        // What came of the notices: the process, once it is there, and its terminal.
        let made: RefCell<(Option<Child>, Option<OwnedFd>)> = RefCell::default();
        let asked = criu.ask(Request::Restore, &message, &mut |notice: Notice| {
            match (notice.name.as_str(), notice.pid, notice.descriptor) {
                ("setup-namespaces", Some(pid), _) => {
                    if new_network {
                        loopback_up(pid)?;
                    }
                    own.hooks.restore(pid)?;
                }
                // It has all but has not gone on yet: whatever happens to the caller, it is not lost.
                ("post-restore", Some(pid), _) => {
                    let child = Child::adopt(pid)?;
                    self.note_process(pid)?;
                    made.borrow_mut().0 = Some(child);
                }
                ("orphan-pts-master", _, Some(master)) => made.borrow_mut().1 = Some(master),
                _ => {}
            }
            Ok(())
        });
        let (child, terminal) = made.into_inner();
        match (asked, child) {
            (Ok(_), Some(child)) => Ok((child, terminal)),
            (Ok(_), None) => {
                let reason = "it told of no process".to_owned();
                Err(Error::Criu { op: OP, id, reason, log: directories.log })
            }
            (Err(refusal), child) => {
                child.iter().for_each(end);
                Err(refusal.explained(OP, &id, &directories.log))
            }
        }
    }
}

/// What a restore needs of a configuration, found before anything is made.
struct Own {
    rootfs: PathBuf,
    binds: Vec<Bind>,
    hooks: Hooks,
    /// Those that CRIU gets open, with their keys.
    namespaces: Vec<(OwnedFd, &'static str)>,
    /// Those that it joins by path: kind and path.
    joined: Vec<(&'static str, PathBuf)>,
    /// The standard descriptors that were pipes, by number.
    pipes: Vec<(u64, String)>,
}

impl Own {
    fn prepare(making: &Making, spec: &spec::Spec, options: &CriuOptions) -> Result<Self, Error> {
        let rootfs = making.rootfs().to_owned();
        let binds = external::binds(spec, making.bundle());
        let (mut namespaces, mut joined) = (Vec::new(), Vec::new());
        for (kind, path) in external::joined(spec) {
            if let Some((.., key)) = external::NAMESPACES.iter().find(|(known, ..)| *known == kind)
            {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                let file = rustix::fs::open(path, flags, Mode::empty())
                    .map_err(|errno| Error::io("opening the namespace", path)(errno.into()))?;
                namespaces.push((file, *key));
                continue;
            }
            use spec::LinuxNamespaceType as Type;
            let name = match kind {
                Type::Ipc => "ipc",
                Type::Mount => "mnt",
                Type::Uts => "uts",
                Type::User => "user",
                _ => {
                    let reason = format!(
                        "CRIU joins no {kind} namespace at {}; leave the path out, and a new one is made",
                        path.display()
                    );
                    return Err(Error::field("linux.namespaces", reason));
                }
            };
            joined.push((name, path.to_owned()));
        }
        let hooks = Hooks::prepare(spec, making.id(), making.bundle())?;
        let pipes = pipes(&options.images)?;
        external::make_places(spec, &rootfs, &binds)?;
        Ok(Self { rootfs, binds, hooks, namespaces, joined, pipes })
    }

    /// As criu_opts has it.
    fn message(
        &self,
        making: &Making,
        spec: &spec::Spec,
        wanted: &Restore,
        directories: &Directories,
        root: &Path,
    ) -> Result<Message, Error> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut message = wanted
            .options
            .message(directories, spec)
            .bytes(13, text(root))
            // Nodes of the host's devices may be found elsewhere; the process becomes a child of this one.
            .flag(6, true)
            .flag(26, true)
            .flag(12, true)
            .text(53, wanted.lsm_profile.as_deref())
            .text(63, wanted.lsm_mount_context.as_deref());
        for (key, source) in self.mounts(spec)? {
            message = message
                .message(23, &Message::default().bytes(1, text(&key)).bytes(2, text(&source)));
        }
        for (controllers, path) in making.group_lines() {
            let controllers = Some(controllers).filter(|names| !names.is_empty());
            message = message
                .message(25, &Message::default().text(1, controllers.as_deref()).bytes(2, path));
        }
        let inherited = |key: &str, number: u64| Message::default().bytes(1, key).number(2, number);
        for (fd, key) in &self.namespaces {
            let number = u64::try_from(fd.as_raw_fd()).unwrap_or_default();
            message = message.message(27, &inherited(key, number));
        }
        for (number, pipe) in &self.pipes {
            message = message.message(27, &inherited(pipe, *number));
        }
        for (kind, path) in &self.joined {
            message = message.message(39, &Message::default().bytes(1, kind).bytes(2, text(path)));
        }
        Ok(message)
    }

    /// The keys of what comes from outside, and where that is.
    fn mounts(&self, spec: &spec::Spec) -> Result<Vec<(PathBuf, PathBuf)>, Error> {
        let mut all = vec![(NULL.into(), NULL.into())];
        let root = external::open_root(&self.rootfs)?;
        let host = external::mounts_of("self")?;
        for bind in &self.binds {
            let place = external::place(root.as_fd(), &bind.target);
            for (below, source) in external::submounts(bind, &host) {
                let below = place.join(below.strip_prefix(&bind.target).unwrap_or(&below));
                all.push((below, source.target.clone()));
            }
            // runc's key, which knows no links.
            if place != bind.target {
                all.push((place, bind.source.clone()));
            }
            all.push((bind.target.clone(), bind.source.clone()));
        }
        let devices = spec.linux().iter().flat_map(|linux| linux.devices().iter().flatten());
        let standard = pivot::standard::devices().into_iter().map(|device| device.path.into());
        for device in devices.map(|device| device.path().clone()).chain(standard) {
            if device != Path::new(NULL) {
                all.push((device.clone(), device));
            }
        }
        Ok(all)
    }
}

/// Which of the standard descriptors were pipes when the checkpoint in `images` was made.
fn pipes(images: &Path) -> Result<Vec<(u64, String)>, Error> {
    let path = images.join(DESCRIPTORS);
    let reading = || Error::io("reading, of the checkpoint,", &path);
    let bytes = std::fs::read(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::Option {
            option: format!("--image-path {}", images.display()),
            reason: format!(
                "there is no checkpoint: it has no file {DESCRIPTORS}; give the directory of one"
            ),
        },
        _ => reading()(error),
    })?;
    let names: Vec<String> =
        serde_json::from_slice(&bytes).map_err(|error| reading()(error.into()))?;
    // More than three would be descriptors of this program's own.
    Ok((0..3).zip(names).filter(|(_, name)| name.starts_with("pipe:")).collect())
}

/// CRIU makes a new network namespace as the kernel does, in which the loopback device is down.
fn loopback_up(pid: Pid) -> Result<(), Error> {
    let process = Child::adopt(pid)?;
    let spawn = Spawn::new().join(process.pidfd(), Namespaces::NETWORK);
    let what = |_| "the network of the restored container".to_owned();
    let child = until_done(&spawn, &what, |gate| {
        sys::net::loopback_up().step("setting the loopback device up")?;
        stay(gate)
    })?;
    child.wait()?;
    Ok(())
}

/// The container's root where CRIU takes it from: a mount, which others' mounts do not come to and which does not come
/// to others. In the container's directory, so that whoever is interrupted leaves it where it is found ([`Place::remove`]).
///
/// [`Place::remove`]: crate::home::Place::remove
struct RestoreRoot {
    path: PathBuf,
}

impl RestoreRoot {
    fn mount(place: &Path, rootfs: &Path, read_only: bool) -> Result<Self, Error> {
        // CRIU compares it with what the kernel says.
        let place =
            std::fs::canonicalize(place).map_err(Error::io("finding the path of", place))?;
        let root = Self { path: place.join(RESTORE_ROOT) };
        DirBuilder::new()
            .mode(0o700)
            .create(&root.path)
            .map_err(Error::io("making the directory", &root.path))?;
        let io = |op| {
            let path = rootfs.to_owned();
            move |errno: rustix::io::Errno| Error::io(op, path)(errno.into())
        };
        let tree = external::open_root(rootfs).and_then(|dir| {
            sys::mount::clone_tree(&dir, c"", true)
                .map_err(io("cloning the mount of the container's root"))
        })?;
        let private = Change {
            propagation: Some(Propagation::Private),
            recursive: true,
            ..Change::default()
        };
        sys::mount::change(&tree, &private)
            .map_err(io("cutting off the host's mounts the root"))?;
        if read_only {
            // Of the root's own mount CRIU restores no flags: it has those of the one that is given.
            let set = Some(MountAttrFlags::MOUNT_ATTR_RDONLY);
            sys::mount::change(&tree, &Change { set, ..Change::default() })
                .map_err(io("making read-only the root"))?;
        }
        let target = external::open_root(&root.path)?;
        sys::mount::attach(&tree, &target).map_err(io("mounting, for CRIU, the root"))?;
        Ok(root)
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RestoreRoot {
    fn drop(&mut self) {
        // What is left is taken away with the container.
        let _ = unmount(&self.path);
    }
}

/// Takes away the mount of a restore, and its directory; what is not there is no error.
pub(crate) fn unmount(path: &Path) -> std::io::Result<()> {
    let name = CString::new(AsRef::<OsStr>::as_ref(path).as_bytes())?;
    match sys::mount::detach(&name) {
        // No mount; no directory.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        done => done?,
    }
    match std::fs::remove_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
