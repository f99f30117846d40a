//! The command line: runc's, since engines call that.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::criu_args::{CheckpointArgs, RestoreArgs};
use crate::lazy::Lazy;
use crate::shells::KnownShell;

/// The OCI runtime that container engines call: one container from one bundle.
///
/// A bundle is a directory with a file config.json and a root file system, as the OCI runtime
/// specification has it. Commands, options and what is printed are those of
/// runc.
#[derive(Debug, Parser)]
#[command(name = "runtime-oci", disable_version_flag = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// Directory of the containers' state (default: /run/runtime-oci; of a user who is not root,
    /// runtime-oci in $XDG_RUNTIME_DIR).
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Write messages to this file (default: standard error).
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// How messages are written.
    #[arg(long, global = true, value_enum, default_value = "text", value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,
    /// Write more messages.
    #[arg(long, global = true)]
    pub(crate) debug: bool,
    /// Let systemd make the cgroups of create and run: linux.cgroupsPath is SLICE:PREFIX:NAME then.
    #[arg(long, global = true)]
    pub(crate) systemd_cgroup: bool,
    /// Who makes the cgroups (as crun): cgroupfs is this program itself; systemd is as --systemd-cgroup.
    #[arg(long, global = true, value_enum, default_value = "cgroupfs", value_name = "NAME")]
    pub(crate) cgroup_manager: CgroupManager,
    /// Whether a container may be without a cgroup where none may be made: true, false, or auto, for users who
    /// are not root.
    #[arg(long, value_enum, default_value = "auto", value_name = "WHEN")]
    pub(crate) rootless: Rootless,
    /// The program CRIU, which checkpoint and restore call (default: criu in PATH).
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) criu: Option<PathBuf>,
    /// Print the version.
    #[arg(short = 'v', long)]
    pub(crate) version: bool,
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Who makes the cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CgroupManager {
    Cgroupfs,
    Systemd,
}

/// Whether missing rights over cgroups would be ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rootless {
    True,
    False,
    Auto,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make a container; its program waits for start.
    Create(Lazy<CreateArgs>),
    /// Let the program of a created container run.
    Start(Lazy<IdArgs>),
    /// Make a container, let its program run, and remove the container after its end.
    Run(Lazy<RunArgs>),
    /// Print the state of a container as JSON.
    State(Lazy<IdArgs>),
    /// Send the container's first process a signal (default: TERM).
    Kill(Lazy<KillArgs>),
    /// Remove a container.
    Delete(Lazy<DeleteArgs>),
    /// Run a further program in a container.
    Exec(Lazy<ExecArgs>),
    /// List the containers.
    List(Lazy<ListArgs>),
    /// Show the processes of a container.
    Ps(Lazy<PsArgs>),
    /// Freeze all processes of a container.
    Pause(Lazy<IdArgs>),
    /// Let the processes of a paused container go on.
    Resume(Lazy<IdArgs>),
    /// Change a container's limits.
    Update(Lazy<UpdateArgs>),
    /// Print what a container uses, and when its memory was short, as lines of JSON.
    Events(Lazy<EventsArgs>),
    /// Print what can be asked for, as JSON (features.md of the specification).
    Features,
    /// Write a config.json to begin with.
    Spec(Lazy<SpecArgs>),
    /// Print a shell's script that completes this program's words.
    Completions(Lazy<CompletionsArgs>),
    #[command(name = "__man", hide = true)]
    Man(Lazy<ManArgs>),
    /// Write the processes of a container to files, by CRIU, and remove the container.
    Checkpoint(Lazy<CheckpointArgs>),
    /// Make a container of the files of a checkpoint, whose processes go on from there.
    Restore(Lazy<RestoreArgs>),
}

#[derive(Debug, Args)]
pub(crate) struct IdArgs {
    /// The container's id.
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The bundle's directory.
    #[arg(short, long, default_value = ".", value_name = "DIR")]
    pub(crate) bundle: PathBuf,
    /// The configuration, in the bundle or elsewhere (as crun).
    #[arg(short = 'f', long, default_value = "config.json", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Socket that gets the terminal's master.
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// Socket that gets the first process's descriptor (pidfd).
    #[arg(long, value_name = "SOCKET")]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// File that gets the first process's number.
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Taken as runc's, and not needed: the root may lie on any file system.
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// Give the container the session keyring of the caller.
    #[arg(long)]
    pub(crate) no_new_keyring: bool,
    /// Leave the descriptors 3 to 2 + N open for the program.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) preserve_fds: u32,
    /// The container's id: letters, digits, _ + , - .
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) create: CreateArgs,
    /// Do not wait for its end.
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Do not remove the container after its end.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Taken as runc's, and not needed: no processes are adopted.
    #[arg(long)]
    pub(crate) no_subreaper: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// Send it to all processes of the container.
    #[arg(short, long)]
    pub(crate) all: bool,
    /// The container's id.
    pub(crate) id: String,
    /// 9, KILL or SIGKILL.
    #[arg(default_value = "TERM")]
    pub(crate) signal: String,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// End it first, if it runs, with SIGKILL; one that is not there is no error.
    #[arg(short, long)]
    pub(crate) force: bool,
    /// ID is a regular expression: remove all containers whose ids have a part that it matches.
    #[arg(short, long)]
    pub(crate) regex: bool,
    /// The container's id.
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Socket that gets the terminal's master.
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// Socket that gets the process's descriptor (pidfd).
    #[arg(long, value_name = "SOCKET")]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// The working directory in the container.
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<String>,
    /// Set an environment variable (NAME=VALUE).
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// Give it a terminal.
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// The user, as UID or UID:GID.
    #[arg(short, long, value_name = "UID[:GID]")]
    pub(crate) user: Option<String>,
    /// Further groups.
    #[arg(short = 'g', long, value_name = "GID")]
    pub(crate) additional_gids: Vec<String>,
    /// File with the process as JSON, as `process` of a config.json.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) process: Option<PathBuf>,
    /// Do not wait for its end.
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// File that gets the process's number.
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// The process's SELinux label.
    #[arg(long, value_name = "LABEL")]
    pub(crate) process_label: Option<String>,
    /// The process's AppArmor profile.
    #[arg(long, value_name = "PROFILE")]
    pub(crate) apparmor: Option<String>,
    /// Set no_new_privs.
    #[arg(long)]
    pub(crate) no_new_privs: bool,
    /// Add a capability.
    #[arg(short, long, value_name = "CAP")]
    pub(crate) cap: Vec<String>,
    /// Leave the descriptors 3 to 2 + N open for the program.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) preserve_fds: u32,
    /// Run it in a group below the container's cgroup, which must be there.
    #[arg(long, value_name = "[CONTROLLERS:]PATH")]
    pub(crate) cgroup: Vec<String>,
    /// Run it in a paused container too.
    #[arg(long)]
    pub(crate) ignore_paused: bool,
    /// The container's id.
    pub(crate) id: String,
    /// The command, unless --process has it.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

/// Table or JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// How they are printed.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) format: Format,
    /// Print ids only.
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// How they are printed.
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) format: Format,
    /// The container's id, and what ps gets in place of -ef.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_names = ["ID", "PS OPTION"],
        num_args = 1..
    )]
    pub(crate) words: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// File with the limits as JSON, as linux.resources of a config.json; - is standard input. All other
    /// options are ignored then.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) resources: Option<PathBuf>,
    /// The share of block devices, 10 to 1000.
    #[arg(long, value_name = "N")]
    pub(crate) blkio_weight: Option<u16>,
    /// The period of the processor's quota, µs.
    #[arg(long, value_name = "N")]
    pub(crate) cpu_period: Option<u64>,
    /// The processor's quota in a period, µs.
    #[arg(long, allow_negative_numbers = true, value_name = "N")]
    pub(crate) cpu_quota: Option<i64>,
    /// What may be saved up of the quota, µs.
    #[arg(long, value_name = "N")]
    pub(crate) cpu_burst: Option<u64>,
    /// The share of the processor, of which 1024 is the usual one.
    #[arg(long, alias = "cpu-shares", value_name = "N")]
    pub(crate) cpu_share: Option<u64>,
    /// The period of the quota of real-time processes, µs.
    #[arg(long, value_name = "N")]
    pub(crate) cpu_rt_period: Option<u64>,
    /// The quota of real-time processes in a period, µs.
    #[arg(long, allow_negative_numbers = true, value_name = "N")]
    pub(crate) cpu_rt_runtime: Option<i64>,
    /// The processors, as 0-2,4.
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// The nodes of memory, as 0-1.
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// 1: run only when nobody else wants to.
    #[arg(long, value_name = "N")]
    pub(crate) cpu_idle: Option<i64>,
    /// The most memory: bytes, or with k, m, g; -1: any.
    #[arg(long, allow_hyphen_values = true, value_parser = bytes, value_name = "SIZE")]
    pub(crate) memory: Option<i64>,
    /// The memory that is left to it longest.
    #[arg(long, allow_hyphen_values = true, value_parser = bytes, value_name = "SIZE")]
    pub(crate) memory_reservation: Option<i64>,
    /// The most of memory and swap together; -1: any.
    #[arg(long, allow_hyphen_values = true, value_parser = bytes, value_name = "SIZE")]
    pub(crate) memory_swap: Option<i64>,
    /// Ignored: the kernel's memory has no limit of its own.
    #[arg(long, allow_hyphen_values = true, hide = true)]
    pub(crate) kernel_memory: Option<String>,
    /// Ignored, as --kernel-memory.
    #[arg(long, allow_hyphen_values = true, hide = true)]
    pub(crate) kernel_memory_tcp: Option<String>,
    /// The most processes and threads; -1: any number.
    #[arg(long, allow_negative_numbers = true, value_name = "N")]
    pub(crate) pids_limit: Option<i64>,
    /// The container's id.
    pub(crate) id: String,
}

/// A size as runc takes it: bytes, or with a unit of 1024.
fn bytes(text: &str) -> Result<i64, String> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match lower[digits.len()..].trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err("its unit is none of b, k, m, g, t".to_owned()),
    };
    let number = digits.parse::<i64>().map_err(|_| "it is no whole number".to_owned())?;
    match number.checked_mul(1 << shift) {
        Some(bytes) if bytes >= -1 => Ok(bytes),
        _ => Err("it is too large, or negative and not -1".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// How often the numbers are printed: 5s, 500ms, 1m.
    #[arg(long, default_value = "5s", value_parser = interval, value_name = "TIME")]
    pub(crate) interval: Duration,
    /// Print the numbers once.
    #[arg(long)]
    pub(crate) stats: bool,
    /// The container's id.
    pub(crate) id: String,
}

/// A time as Go writes it, of one unit.
fn interval(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("it ends with ms, s, m or h".to_owned()),
    };
    let number = digits.parse::<f64>().map_err(|_| "it begins with a number".to_owned())?;
    // Go's longest, in seconds: a moment after that cannot be named.
    const LONGEST: f64 = 9_223_372_036.0;
    match Duration::try_from_secs_f64(number * unit) {
        Ok(time) if time > Duration::ZERO && time.as_secs_f64() <= LONGEST => Ok(time),
        _ => Err("it must be greater than 0, and less than 292 years".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct SpecArgs {
    /// The bundle's directory.
    #[arg(short, long, default_value = ".", value_name = "DIR")]
    pub(crate) bundle: PathBuf,
    /// For a user who is not root.
    #[arg(id = "for_user", long = "rootless")]
    pub(crate) rootless: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_name = "SHELL")]
    pub(crate) shell: KnownShell,
}

/// `__man`, which `cargo xtask man` calls.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The directory for the pages, which is there.
    pub(crate) dir: PathBuf,
}
