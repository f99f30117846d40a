//! The command line: Docker's verbs, options and words.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::archive::{ExportArgs, SaveArgs};
use crate::check::CheckArgs;
use crate::commit::{CommitArgs, ImportArgs};
use crate::completions::{CompleteArgs, CompletionsArgs, ManArgs};
use crate::container::{ContainerVerb, PortArgs, RenameArgs, TopArgs, WaitArgs};
use crate::cp::CpArgs;
use crate::diff::DiffArgs;
use crate::events::EventsArgs;
use crate::exec::ExecArgs;
use crate::image::{ImageVerb, RmiArgs, TagArgs};
use crate::images::{HistoryArgs, ImagesArgs};
use crate::inspect::InspectArgs;
use crate::lazy::Lazy;
use crate::limits::UpdateArgs;
use crate::log::{Level, LogFormat};
use crate::mount::{MountArgs, UmountArgs};
use crate::ps::PsArgs;
use crate::pull::PullArgs;
use crate::run::RunArgs;
use crate::stats::StatsArgs;
use crate::system::{InfoArgs, SystemVerb};
use crate::volume::VolumeVerb;
use crate::{help, later, log, quick};

mod layers;

pub(crate) use layers::{DurableArg, FormArg, ImageLimitArgs, LayersArgs};

/// Where images, containers and volumes are, unless `--root` says otherwise.
pub(crate) const ROOT: &str = "/var/lib/runtime-bin";

/// A container runtime that runs an image from a tar file or a registry
#[derive(Debug, Parser)]
#[command(
    name = "runtime-bin",
    version,
    disable_version_flag = true,
    disable_help_subcommand = true,
    args_override_self = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    /// Directory that holds images, containers and volumes
    #[arg(
        long,
        global = true,
        display_order = 1000,
        value_name = "DIR",
        default_value = ROOT
    )]
    pub(crate) root: PathBuf,
    /// Set the logging level: what is told on standard error
    #[arg(
        long,
        global = true,
        display_order = 1001,
        value_name = "string",
        value_enum,
        default_value_t
    )]
    pub(crate) log_level: Level,
    /// Format of errors and warnings: text, or a JSON object a line
    #[arg(
        long,
        global = true,
        display_order = 1002,
        value_name = "string",
        value_enum,
        default_value_t
    )]
    pub(crate) log_format: LogFormat,
    /// Only tell what failed: no progress, no notes (the same as --log-level error)
    #[arg(long = "quiet", id = "only_errors")]
    pub(crate) quiet: bool,
    /// Print version information and quit
    #[arg(short = 'v', long, action = clap::ArgAction::Version)]
    pub(crate) version: Option<bool>,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Create and run a new container from an image
    Run(Lazy<RunArgs>),
    /// Create a new container
    Create(Lazy<RunArgs>),
    /// Start one or more stopped containers
    Start(Lazy<StartArgs>),
    /// Restart one or more containers
    Restart(Lazy<StopArgs>),
    /// Attach local standard input, output, and error streams to a running container
    Attach(Lazy<AttachArgs>),
    /// Fetch the logs of a container
    Logs(Lazy<LogsArgs>),
    /// Execute a command in a running container
    Exec(Lazy<ExecArgs>),
    /// List containers
    Ps(Lazy<PsArgs>),
    /// Return low-level information on containers, images and volumes
    Inspect(Lazy<InspectArgs>),
    /// Stop one or more running containers
    Stop(Lazy<StopArgs>),
    /// Kill one or more running containers
    Kill(Lazy<KillArgs>),
    /// Remove one or more containers
    Rm(Lazy<RmArgs>),
    /// List images
    Images(Lazy<ImagesArgs>),
    /// Load an image from a tar archive or STDIN
    Load(Lazy<LoadArgs>),
    /// Download an image from a registry
    Pull(Lazy<PullArgs>),
    /// Save one or more images to a tar archive (streamed to STDOUT by default)
    Save(Lazy<SaveArgs>),
    /// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
    Tag(Lazy<TagArgs>),
    /// Remove one or more images
    Rmi(Lazy<RmiArgs>),
    /// Show the history of an image
    History(Lazy<HistoryArgs>),
    /// Create a new image from a container's changes
    Commit(Lazy<CommitArgs>),
    /// Export a container's filesystem as a tar archive
    Export(Lazy<ExportArgs>),
    /// Import the contents from a tarball to create a filesystem image
    Import(Lazy<ImportArgs>),
    /// Show where each mount of a container comes from
    Mounts(Lazy<MountsArgs>),
    /// Get real time events from the store
    Events(Lazy<EventsArgs>),
    /// Rename a container
    Rename(Lazy<RenameArgs>),
    /// Pause all processes within one or more containers
    Pause(Lazy<PauseArgs>),
    /// Unpause all processes within one or more containers
    Unpause(Lazy<PauseArgs>),
    /// Update configuration of one or more containers
    Update(Lazy<UpdateArgs>),
    /// Display a live stream of container(s) resource usage statistics
    Stats(Lazy<StatsArgs>),
    /// List port mappings for the container
    Port(Lazy<PortArgs>),
    /// Display the running processes of a container
    Top(Lazy<TopArgs>),
    /// Block until one or more containers stop, then print their exit codes
    Wait(Lazy<WaitArgs>),
    /// Display system-wide information
    Info(Lazy<InfoArgs>),
    /// Verify the store: records, layers, links and names
    Check(Lazy<CheckArgs>),
    /// Manage containers
    #[command(subcommand)]
    Container(Lazy<ContainerVerb>),
    /// Manage images
    #[command(subcommand)]
    Image(Lazy<ImageVerb>),
    /// Manage volumes
    #[command(subcommand)]
    Volume(Lazy<VolumeVerb>),
    /// Manage the store as a whole
    #[command(subcommand)]
    System(Lazy<SystemVerb>),
    /// Copy files/folders between a container and the local filesystem
    Cp(Lazy<CpArgs>),
    /// Inspect changes to files or directories on a container's filesystem
    Diff(Lazy<DiffArgs>),
    /// Add volumes to a running container
    Mount(Lazy<MountArgs>),
    /// Take volumes out of a running container
    Umount(Lazy<UmountArgs>),
    /// Print the script by which a shell completes this program's command line
    Completions(Lazy<CompletionsArgs>),
    /// Names, for the scripts of `completions`
    #[command(name = "__complete", hide = true)]
    Complete(Lazy<CompleteArgs>),
    /// Manual pages, for `cargo xtask man`
    #[command(name = "__man", hide = true)]
    Man(Lazy<ManArgs>),
    /// Show the version information
    Version,
}

/// `start`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct StartArgs {
    /// Attach STDOUT/STDERR and forward signals
    #[arg(short, long)]
    pub(crate) attach: bool,
    #[command(flatten)]
    pub(crate) detach_keys: DetachKeysArg,
    /// Attach container's STDIN
    #[arg(short, long)]
    pub(crate) interactive: bool,
    #[command(flatten)]
    pub(crate) sig_proxy: SigProxyArg,
    /// Names or ids of containers
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `attach`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct AttachArgs {
    #[command(flatten)]
    pub(crate) detach_keys: DetachKeysArg,
    /// Do not attach STDIN
    #[arg(long)]
    pub(crate) no_stdin: bool,
    #[command(flatten)]
    pub(crate) sig_proxy: SigProxyArg,
    /// Name or id of a container
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: String,
}

/// `--detach-keys`
#[derive(Debug, Default, Args)]
pub(crate) struct DetachKeysArg {
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    detach_keys: String,
}

impl DetachKeysArg {
    pub(crate) fn read(&self) -> anyhow::Result<engine::DetachKeys> {
        Ok(self.detach_keys.parse()?)
    }
}

/// `--sig-proxy`
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct SigProxyArg {
    /// Proxy received signals to the process
    #[arg(
        long,
        value_name = "bool",
        default_value_t = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub(crate) sig_proxy: bool,
}

impl Default for SigProxyArg {
    fn default() -> Self {
        Self { sig_proxy: true }
    }
}

/// `logs`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct LogsArgs {
    /// Follow log output
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string")]
    pub(crate) since: Option<String>,
    /// Number of lines to show from the end of the logs
    #[arg(short = 'n', long, value_name = "string", default_value = "all")]
    pub(crate) tail: String,
    /// Show timestamps
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string")]
    pub(crate) until: Option<String>,
    /// The container's name or id
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: String,
}

/// `stop`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct StopArgs {
    /// Seconds to wait before killing the container; -1 to wait as long as it takes (default 10)
    #[arg(
        short,
        long,
        alias = "time",
        value_name = "int",
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(i64).range(-1..=i64::from(u32::MAX))
    )]
    pub(crate) timeout: Option<i64>,
    /// Names or ids of containers
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `pause` and `unpause`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct PauseArgs {
    /// Names or ids of containers
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `kill`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct KillArgs {
    /// Signal to send to the container
    #[arg(short, long, value_name = "string", default_value = "KILL")]
    pub(crate) signal: String,
    /// Names or ids of containers
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `rm`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct RmArgs {
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Remove anonymous volumes associated with the container
    #[arg(short, long)]
    pub(crate) volumes: bool,
    /// Names or ids of containers
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `load`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    pub(crate) durable: DurableArg,
    #[command(flatten)]
    pub(crate) layers: LayersArgs,
    /// Read from tar archive file or OCI layout directory, instead of STDIN
    #[arg(short, long, value_name = "string")]
    pub(crate) input: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) limits: ImageLimitArgs,
    /// Suppress the load output
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Load only the given platform variant, formatted as "os/arch[/variant]" ("linux/amd64")
    #[arg(long, value_name = "string")]
    pub(crate) platform: Option<String>,
}

/// `mounts`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct MountsArgs {
    /// Format of the output: a picture of the tree, or JSON
    #[arg(long, value_name = "string", value_enum, default_value_t)]
    pub(crate) format: MountsFormat,
    /// Name or id of a container
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: String,
}

/// How `mounts` shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum MountsFormat {
    /// A tree for the terminal.
    #[default]
    Tree,
    /// An array of objects.
    Json,
}

/// A command line that cannot be followed, or one that asks for help.
#[derive(Debug)]
pub(crate) struct Usage {
    error: clap::Error,
    /// The exit status if it is a failure.
    status: u8,
    form: LogFormat,
}

/// Reads a command line, the program's own name first.
pub(crate) fn parse(args: Vec<OsString>) -> Result<Cli, Usage> {
    if let Some(cli) = quick::parse(args.iter().skip(1).cloned()) {
        return Ok(cli);
    }
    let form = log_format(&args);
    let read = match Cli::command().try_get_matches_from(&args) {
        // Examples are made for those who want to see them.
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            help::with_examples(Cli::command()).try_get_matches_from(&args)
        }
        read => read,
    };
    let mut cli = read
        .and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches))
        .map_err(|error| Usage { status: status(&error), error, form })?;
    cli.verb = match cli.verb {
        Verb::Container(verb) => verb.into_inner().short(),
        Verb::Image(verb) => verb.into_inner().short(),
        verb => verb,
    };
    Ok(cli)
}

/// In which form errors are wanted, for a command line that cannot be parsed.
fn log_format(args: &[OsString]) -> LogFormat {
    let mut words = args.iter().skip(1).map(|arg| arg.to_str().unwrap_or_default());
    let mut form = LogFormat::Text;
    while let Some(word) = words.next() {
        let value = match word.strip_prefix("--log-format") {
            Some("") => words.next(),
            Some(value) => value.strip_prefix('='),
            None => None,
        };
        form = value.and_then(|value| LogFormat::from_str(value, false).ok()).unwrap_or(form);
    }
    form
}

/// As Docker: 125 for an option that is not known or has a wrong value, 1 for words that are too few or
/// too many, or are no verb. But a wrong level for messages, which Docker reads later, is 1.
fn status(error: &clap::Error) -> u8 {
    let of_option = |argument: &ContextValue| match argument {
        ContextValue::String(name) => name.starts_with('-') && !name.starts_with("--log-level"),
        _ => false,
    };
    match error.get(ContextKind::InvalidArg) {
        Some(argument) if of_option(argument) => 125,
        _ => 1,
    }
}

impl Usage {
    /// Prints help to standard output, or what is wrong to standard error; the exit status.
    pub(crate) fn report(&self) -> u8 {
        match self.error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                // As `docker` alone does: it is no failure to ask what there is.
                let shown = if self.error.use_stderr() {
                    write!(io::stdout().lock(), "{}", self.error.render())
                } else {
                    self.error.print()
                };
                match shown {
                    Err(error) if error.kind() != io::ErrorKind::BrokenPipe => 1,
                    _ => 0,
                }
            }
            _ => {
                let text =
                    later::of(&self.error).unwrap_or_else(|| self.error.render().to_string());
                let text = text.strip_prefix("error: ").unwrap_or(&text);
                log::choose(Level::Error, self.form);
                let told = format!("runtime-bin: {}", text.trim_end());
                log::write(Level::Error, text.trim_end(), &told);
                self.status
            }
        }
    }
}

#[cfg(test)]
mod tests;
