//! The arguments of `checkpoint` and `restore`, by runc's names.

use std::path::PathBuf;

use clap::Args;
use oci_runtime::CgroupsMode;

/// What `checkpoint` and `restore` both have.
#[derive(Debug, Args)]
pub(crate) struct CriuArgs {
    /// The directory of the checkpoint's files.
    #[arg(long, default_value = "checkpoint", value_name = "DIR")]
    pub(crate) image_path: PathBuf,
    /// The directory of CRIU's log (default: that of the files).
    #[arg(long, value_name = "DIR")]
    pub(crate) work_path: Option<PathBuf>,
    /// TCP connections may be open.
    #[arg(long)]
    pub(crate) tcp_established: bool,
    /// Unix sockets may be connected to processes outside.
    #[arg(long)]
    pub(crate) ext_unix_sk: bool,
    /// The terminal, or the session, may be that of a shell outside.
    #[arg(long)]
    pub(crate) shell_job: bool,
    /// Fetch memory only when it is needed, from the old processes, which wait: by `criu lazy-pages`.
    #[arg(long)]
    pub(crate) lazy_pages: bool,
    /// Files may be locked.
    #[arg(long)]
    pub(crate) file_locks: bool,
    /// What is done about cgroups: ignore, soft, full or strict.
    #[arg(long, default_value = "soft", value_parser = cgroups_mode, value_name = "MODE")]
    pub(crate) manage_cgroups_mode: CgroupsMode,
    /// A namespace whose content is left out; network, which always is one.
    #[arg(long, value_parser = ["network"], value_name = "KIND")]
    pub(crate) empty_ns: Vec<String>,
    /// Take out of an earlier checkpoint what a later one has.
    #[arg(long)]
    pub(crate) auto_dedup: bool,
}

fn cgroups_mode(text: &str) -> Result<CgroupsMode, String> {
    let found = CgroupsMode::ALL.iter().find(|(name, _)| *name == text);
    found.map(|(_, mode)| *mode).ok_or_else(|| "there are ignore, soft, full and strict".to_owned())
}

// Podman gives some twice.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct CheckpointArgs {
    #[command(flatten)]
    pub(crate) criu: CriuArgs,
    /// Where an earlier --pre-dump is, seen from --image-path.
    #[arg(long, value_name = "DIR")]
    pub(crate) parent_path: Option<PathBuf>,
    /// Let the container go on.
    #[arg(long)]
    pub(crate) leave_running: bool,
    /// Leave out TCP connections that are being made.
    #[arg(long)]
    pub(crate) tcp_skip_in_flight: bool,
    /// Open files that have no name any more may get one.
    #[arg(long)]
    pub(crate) link_remap: bool,
    /// Write the memory alone, and let the container go on.
    #[arg(long)]
    pub(crate) pre_dump: bool,
    /// Send the memory to a page server in the place of files; with --lazy-pages be that server.
    #[arg(long, value_parser = page_server, value_name = "ADDRESS:PORT")]
    pub(crate) page_server: Option<(String, u16)>,
    /// Descriptor that gets a zero byte when the server of --lazy-pages is there.
    #[arg(long, value_name = "N")]
    pub(crate) status_fd: Option<u32>,
    /// The container's id.
    pub(crate) id: String,
}

/// A host and a port; the host may have colons, in brackets.
fn page_server(text: &str) -> Result<(String, u16), String> {
    let wrong = || "it is not of the form ADDRESS:PORT".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match port.parse() {
        Ok(port) if port != 0 && !host.is_empty() => Ok((host.to_owned(), port)),
        _ => Err(wrong()),
    }
}

// Podman gives some twice.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    pub(crate) criu: CriuArgs,
    /// The bundle's directory.
    #[arg(short, long, default_value = ".", value_name = "DIR")]
    pub(crate) bundle: PathBuf,
    /// Socket that gets the terminal's master.
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// File that gets the first process's number.
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Do not wait for its end.
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Taken as runc's, and not needed: CRIU changes the root by itself.
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// Taken as runc's, and not needed: no processes are adopted.
    #[arg(long)]
    pub(crate) no_subreaper: bool,
    /// The processes' label, as apparmor:NAME or selinux:NAME, in the place of the old one.
    #[arg(long, value_name = "TYPE:NAME")]
    pub(crate) lsm_profile: Option<String>,
    /// The SELinux context of the mounts that have one.
    #[arg(long, value_name = "CONTEXT")]
    pub(crate) lsm_mount_context: Option<String>,
    /// The id of the new container.
    pub(crate) id: String,
}
