//! Checkpoints: the processes of a container as files, from which they go on later ([`Recorded::checkpoint`]).

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use cgroup::Group;
use rustix::process::Pid;

use crate::criu::{Criu, Notice, Request};
use crate::criu_groups::GroupOptions;
use crate::criu_message::Message;
use crate::external::{self, DESCRIPTORS};
use crate::{CriuOptions, Error, Home, Recorded, Status, Stdio, spec};

/// What an error says was tried.
const OP: &str = "making a checkpoint of";
/// CRIU's log.
const LOG: &str = "dump.log";

/// How a checkpoint is made.
#[derive(Debug, Default)]
pub struct Checkpoint {
    /// What restores have, too.
    pub options: CriuOptions,
    /// The container goes on then; else it is removed.
    pub leave_running: bool,
    /// Only the memory is written, and the container goes on: a later checkpoint has what changed since.
    pub pre_dump: bool,
    /// The directory of such an earlier one, as a path from that of the files.
    pub parent: Option<PathBuf>,
    /// TCP connections that are being made are left out.
    pub tcp_skip_in_flight: bool,
    /// Files that have no name any more may get one.
    pub link_remap: bool,
    /// Who takes the memory, in the place of files: a host and a port. With [`CriuOptions::lazy_pages`] it is this one's own,
    /// where a `criu lazy-pages` asks for the memory.
    pub page_server: Option<(String, u16)>,
    /// What gets a zero byte when others can ask for the memory there.
    pub status: Option<File>,
}

impl Recorded {
    /// Writes the processes of the container `id` to files. Then it is removed, as by [`Recorded::delete`], unless it is
    /// to go on; what failed of that is a sentence in what it returns. Whatever fails before, it goes on.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`]; it does not run ([`Error::Refused`]); it has something that is not restored
    /// ([`Error::Field`]); [`Error::NoCriu`], [`Error::OldCriu`]; CRIU fails ([`Error::Criu`]).
    pub fn checkpoint(home: &Home, id: &str, wanted: &Checkpoint) -> Result<Vec<String>, Error> {
        let (container, lock) = Self::open_locked(home, id)?;
        let refuse = |status| container.refuse("container cannot be checkpointed", status);
        let paused = match container.status_locked(&lock)? {
            Status::Running => false,
            Status::Paused => true,
            status => return Err(refuse(status)),
        };
        let (pid, _pidfd) = container.process()?.ok_or_else(|| refuse(Status::Stopped))?;
        if let Some(parent) = &wanted.parent {
            check_parent(&wanted.options.images, parent)?;
        }
        let config = container.config()?;
        let unified = container.hierarchies()?.is_unified();
        external::check(&config, unified)?;
        let group = container.group()?;
        let freezer = group.as_ref().and_then(|group| freezer(group, unified));
        let criu = Criu::start(&wanted.options, Stdio::null()?, None, &[])?;
        let fresh = is_fresh(&wanted.options.images);
        let directories = wanted.options.open(true, LOG)?;
        let options = GroupOptions::find()?;
        let mut lock = Some(lock);
        let done = wanted
            .message(&container, &config, pid, freezer.as_deref())
            .map(|own| wanted.options.message(&directories, &config).and(&own))
            .and_then(|message| {
                let request = if wanted.pre_dump { Request::PreDump } else { Request::Dump };
                criu.ask(request, &message, &mut |notice: Notice| {
                    if notice.name == "status-ready" {
                        // From now on it may take long, and is another's to end.
                        lock = None;
                        wanted.tell_status()?;
                    }
                    Ok(())
                })
                .map_err(|refusal| refusal.explained(OP, id, &directories.log))
            });
        let mut warnings = options.put_back();
        if let Err(error) = done {
            // One that was killed itself has left them frozen.
            if let Some(group) = group.filter(|_| !paused)
                && group.is_frozen()?
            {
                group.thaw()?;
            }
            if fresh {
                remove_files(&wanted.options.images, &directories.log)?;
            }
            return Err(error);
        }
        drop(lock);
        if !wanted.leave_running && !wanted.pre_dump {
            warnings.extend(container.remove(home, true)?);
        }
        Ok(warnings)
    }
}

impl Checkpoint {
    /// As criu_opts has it, beside what restores have, too.
    fn message(
        &self,
        container: &Recorded,
        config: &spec::Spec,
        pid: Pid,
        freezer: Option<&Path>,
    ) -> Result<Message, Error> {
        let process = pid.as_raw_nonzero().get();
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut message = Message::default()
            .number(2, process.unsigned_abs().into())
            .bytes(13, text(&container.record.rootfs))
            .flag(3, self.leave_running)
            // Notices: of what is there for others to fetch.
            .flag(12, self.options.lazy_pages)
            .flag(46, self.tcp_skip_in_flight)
            .flag(18, self.link_remap)
            .text(44, freezer.map(text).as_deref());
        if let Some((host, port)) = &self.page_server {
            message =
                message.message(11, &Message::default().bytes(1, host).number(2, (*port).into()));
        }
        if let Some(parent) = &self.parent {
            message = message.bytes(14, text(parent));
        }
        // A pre-dump is the beginning of a series, whose later members have what changed.
        message = message.flag(15, self.pre_dump || self.parent.is_some());
        for (kind, name, key) in external::NAMESPACES {
            if external::joined(config).any(|(joined, _)| joined == kind) {
                let path = format!("/proc/{process}/ns/{name}");
                let stat = rustix::fs::stat(&path)
                    .map_err(|errno| Error::io("looking at the namespace", &path)(errno.into()))?;
                message = message.bytes(37, format!("{name}[{}]:{key}", stat.st_ino));
            }
        }
        if self.pre_dump {
            return Ok(message);
        }
        let root = external::open_root(Path::new(&format!("/proc/{process}/root")))?;
        let binds = external::binds(config, container.bundle());
        let mounts = external::mounts_of(&process.to_string())?;
        let host = external::mounts_of("self")?;
        for (place, key) in external::mounted(&binds, &mounts, &host, root.as_fd()) {
            message = message
                .message(23, &Message::default().bytes(1, text(&place)).bytes(2, text(&key)));
        }
        self.write_descriptors(process)?;
        Ok(message)
    }

    /// Says that its memory can be asked for.
    fn tell_status(&self) -> Result<(), Error> {
        let Some(mut status) = self.status.as_ref() else { return Ok(()) };
        status.write_all(&[0]).map_err(Error::io("writing to", "the descriptor of --status-fd"))
    }

    /// Writes down what standard input, output and error are: what was a pipe of the engine's is one again.
    fn write_descriptors(&self, process: i32) -> Result<(), Error> {
        let name = |number: i32| {
            let path = format!("/proc/{process}/fd/{number}");
            // A closed one is nothing that could be given again.
            std::fs::read_link(path).unwrap_or_default().to_string_lossy().into_owned()
        };
        let path = self.options.images.join(DESCRIPTORS);
        File::create(&path)
            .and_then(|file| Ok(serde_json::to_writer(file, &[name(0), name(1), name(2)])?))
            .map_err(Error::io("writing", path))
    }
}

fn check_parent(images: &Path, parent: &Path) -> Result<(), Error> {
    let wrong = |reason: &str| {
        Err(Error::Option {
            option: format!("--parent-path {}", parent.display()),
            reason: reason.to_owned(),
        })
    };
    if parent.is_absolute() {
        return wrong(
            "it must be relative: the way from --image-path to the directory of an earlier checkpoint",
        );
    }
    match images.join(parent).is_dir() {
        true => Ok(()),
        false => wrong(
            "there is no such directory, seen from --image-path; make a checkpoint by --pre-dump there before",
        ),
    }
}

/// Where CRIU freezes the processes: the container's own group.
fn freezer(group: &Group, unified: bool) -> Option<PathBuf> {
    let mut paths = group.paths().into_iter();
    let found = paths.find(|(controllers, _)| match unified {
        true => controllers.is_empty(),
        false => controllers.split(',').any(|name| name == "freezer"),
    });
    found.map(|(_, path)| path)
}

/// Whether nothing is in the directory yet.
fn is_fresh(images: &Path) -> bool {
    std::fs::read_dir(images).map_or(true, |mut entries| entries.next().is_none())
}

/// Removes what a checkpoint that failed has written, but not its log.
fn remove_files(images: &Path, log: &Path) -> Result<(), Error> {
    let failed = || Error::io("removing the rest of a checkpoint in", images);
    for entry in std::fs::read_dir(images).map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        let is_log = path.file_name() == log.file_name();
        // A link is the way to an earlier one; a directory is none of CRIU's.
        if !is_log && !path.symlink_metadata().is_ok_and(|kind| kind.is_dir()) {
            std::fs::remove_file(path).map_err(failed())?;
        }
    }
    Ok(())
}
