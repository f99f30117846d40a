//! What is said to CRIU of a checkpoint and of a restore alike: the options that `checkpoint` and `restore` share.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::criu::Refusal;
use crate::criu_message::Message;
use crate::{Error, spec};

/// The annotation that names a file of options for CRIU; an empty one says that there is none.
const CONFIG: &str = "org.criu.config";
/// The file of such options for all containers: ours, and runc's where that is not there.
const CONFIGS: [&str; 2] = ["/etc/criu/runtime-oci.conf", "/etc/criu/runc.conf"];
/// As runc has it: the network's devices and addresses are an engine's, not CRIU's (CLONE_NEWNET).
const EMPTY_NAMESPACES: u64 = 0x4000_0000;
/// Warnings and errors, and what CRIU does.
const LOG_LEVEL: u64 = 4;
/// Of criu_network_lock_method.
const NFTABLES: u64 = 2;
/// Lines of the log that an error has.
const SHOWN: usize = 5;

/// How CRIU is called, and what it may do.
#[derive(Clone, Debug, Default)]
pub struct CriuOptions {
    /// The program, where it is not `criu` in PATH.
    pub program: Option<PathBuf>,
    /// The directory of the files of a checkpoint; made where it is not there.
    pub images: PathBuf,
    /// The directory of its log and its statistics; that of the files where none is given.
    pub work: Option<PathBuf>,
    /// TCP connections may be open.
    pub tcp_established: bool,
    /// Unix sockets may be connected to processes outside.
    pub ext_unix_sk: bool,
    /// The session or the terminal may be another's.
    pub shell_job: bool,
    /// Files may be locked.
    pub file_locks: bool,
    /// Memory is fetched when the restored processes need it, from where the old ones wait until all is there.
    pub lazy_pages: bool,
    /// What is in a later checkpoint is taken out of an earlier one.
    pub auto_dedup: bool,
    /// What is done about cgroups.
    pub cgroups: CgroupsMode,
}

/// What CRIU does about the groups that processes are in: `--manage-cgroups-mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CgroupsMode {
    /// Nothing: all processes are in the container's own group.
    Ignore,
    /// Those that are not there are made, with what was set in them.
    #[default]
    Soft,
    /// All are made or set.
    Full,
    /// None may be there before.
    Strict,
}

impl CgroupsMode {
    /// All, by their names.
    pub const ALL: [(&'static str, Self); 4] = [
        ("ignore", Self::Ignore),
        ("soft", Self::Soft),
        ("full", Self::Full),
        ("strict", Self::Strict),
    ];

    /// As criu_cg_mode has it.
    fn number(self) -> u64 {
        match self {
            Self::Ignore => 0,
            Self::Soft => 3,
            Self::Full => 4,
            Self::Strict => 5,
        }
    }
}

/// The directories of a checkpoint, open.
#[derive(Debug)]
pub(crate) struct Directories {
    images: OwnedFd,
    work: Option<OwnedFd>,
    /// Of the log.
    pub(crate) log: PathBuf,
}

impl CriuOptions {
    /// Opens the directories, made before if `make`; `log` is the log's name.
    pub(crate) fn open(&self, make: bool, log: &'static str) -> Result<Directories, Error> {
        let absolute = |path: &Path| {
            std::path::absolute(path).map_err(Error::io("naming the directory", path))
        };
        let open = |path: &Path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty())
                .map_err(|errno| Error::io("opening the directory", path)(errno.into()))
        };
        if make {
            make_dir(&self.images)?;
        }
        let images = open(&self.images)?;
        let work = self.work.as_deref().map(|path| make_dir(path).and_then(|()| open(path)));
        let log = absolute(self.work.as_deref().unwrap_or(&self.images))?.join(log);
        // What an earlier attempt wrote there is not this one's.
        match std::fs::remove_file(&log) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("removing the old log", log)(error));
            }
            _ => {}
        }
        Ok(Directories { images, work: work.transpose()?, log })
    }

    /// As criu_opts has them; `spec` may name a file with more.
    pub(crate) fn message(&self, directories: &Directories, spec: &spec::Spec) -> Message {
        let descriptor = |fd: &OwnedFd| u64::try_from(fd.as_raw_fd()).unwrap_or_default();
        let log = directories.log.file_name().unwrap_or_default();
        let mut message = Message::default()
            .number(1, descriptor(&directories.images))
            .number(9, LOG_LEVEL)
            .bytes(10, log.as_encoded_bytes())
            .flag(4, self.tcp_established)
            .flag(5, self.ext_unix_sk)
            .flag(7, self.shell_job)
            .flag(8, self.file_locks)
            .flag(16, self.auto_dedup)
            .flag(24, true)
            .flag(48, self.lazy_pages)
            .number(34, self.cgroups.number())
            .number(38, EMPTY_NAMESPACES)
            // The master of a terminal is who shows it, outside.
            .flag(50, true)
            .text(51, config_file(spec).as_deref());
        // CRIU's own way of stopping a network's packets meanwhile is a program; nf_tables itself needs none.
        if crate::criu::in_path("iptables-restore").is_none() {
            message = message.number(64, NFTABLES);
        }
        if let Some(work) = &directories.work {
            message = message.number(17, descriptor(work));
        }
        message
    }
}

/// As `mkdir -p`, for root alone.
fn make_dir(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().mode(0o700).recursive(true).create(path);
    made.map_err(Error::io("making the directory", path))
}

fn config_file(spec: &spec::Spec) -> Option<String> {
    match spec.annotations().as_ref().and_then(|all| all.get(CONFIG)) {
        Some(path) => Some(path.clone()).filter(|path| !path.is_empty()),
        None => CONFIGS.iter().find(|path| Path::new(path).exists()).map(|path| (*path).to_owned()),
    }
}

impl Refusal {
    /// As an error, with the last of what stands in the log.
    pub(crate) fn explained(self, op: &'static str, id: &str, log: &Path) -> Error {
        let said = match self {
            Self::Own(said) => said,
            Self::Other(error) => return error,
        };
        let reason = errors_of(&std::fs::read(log).unwrap_or_default());
        let reason = if reason.is_empty() { said } else { reason };
        Error::Criu { op, id: id.to_owned(), reason, log: log.to_owned() }
    }
}

/// The last lines that tell of errors, without the time before and the place behind.
fn errors_of(log: &[u8]) -> String {
    let log = String::from_utf8_lossy(log);
    let mut lines: Vec<&str> = log
        .lines()
        .filter_map(|line| line.split_once("Error ").map(|(_, error)| error.trim()))
        .collect();
    lines.dedup();
    let first = lines.len().saturating_sub(SHOWN);
    lines[first..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_errors_of_a_log_are_told() {
        let log = b"(00.000123) Error (criu/a.c:1): first\n(00.000124) pie: 1: all is well\n\
                    (00.000125) pie: 1: Error (criu/b.c:2): second\n(00.1) Error (criu/b.c:2): second\n\xff\n";
        assert_eq!(errors_of(log), "(criu/a.c:1): first; (criu/b.c:2): second");
        let many: String = (0..9).map(|n| format!("(0) Error (x): {n}\n")).collect();
        assert_eq!(errors_of(many.as_bytes()).split("; ").count(), SHOWN);
        assert_eq!(errors_of(b""), "");
    }

    #[test]
    fn the_annotation_names_the_file_of_options() {
        let spec = |annotations| {
            let spec = serde_json::json!({"ociVersion": "1.2.0", "annotations": annotations});
            serde_json::from_value(spec).unwrap()
        };
        let file = config_file(&spec(serde_json::json!({CONFIG: "/x"})));
        assert_eq!(file.as_deref(), Some("/x"));
        assert_eq!(config_file(&spec(serde_json::json!({CONFIG: ""}))), None);
    }
}
