//! Small verbs about single containers, and `container`, which has all of them once more.

use std::path::Path;

use clap::{Args, Subcommand};
use engine::{Container, Engine};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::archive::ExportArgs;
use crate::cli::{
    AttachArgs, KillArgs, LogsArgs, MountsArgs, PauseArgs, RmArgs, StartArgs, StopArgs, Verb,
};
use crate::commit::CommitArgs;
use crate::cp::CpArgs;
use crate::diff::DiffArgs;
use crate::exec::ExecArgs;
use crate::filter::Filters;
use crate::inspect::{self, InspectContainerArgs};
use crate::lazy::Lazy;
use crate::limits::UpdateArgs;
use crate::mount::{MountArgs, UmountArgs};
use crate::output::{self, printable};
use crate::prune::{self, Confirm};
use crate::ps::PsArgs;
use crate::run::RunArgs;
use crate::stats::StatsArgs;
use crate::table::aligned_by;

/// The narrowest column of `top`, as in Docker.
const TOP_WIDTH: usize = 20;

/// `container`
#[derive(Debug, Subcommand)]
pub(crate) enum ContainerVerb {
    /// Create a new image from a container's changes
    Commit(Lazy<CommitArgs>),
    /// Copy files/folders between a container and the local filesystem
    Cp(Lazy<CpArgs>),
    /// Create a new container
    Create(Lazy<RunArgs>),
    /// Inspect changes to files or directories on a container's filesystem
    Diff(Lazy<DiffArgs>),
    /// Execute a command in a running container
    Exec(Lazy<ExecArgs>),
    /// Export a container's filesystem as a tar archive
    Export(Lazy<ExportArgs>),
    /// Display detailed information on one or more containers
    Inspect(Lazy<InspectContainerArgs>),
    /// Kill one or more running containers
    Kill(Lazy<KillArgs>),
    /// List containers
    #[command(visible_aliases = ["list", "ps"])]
    Ls(Lazy<PsArgs>),
    /// Fetch the logs of a container
    Logs(Lazy<LogsArgs>),
    /// Add volumes to a running container
    Mount(Lazy<MountArgs>),
    /// Show where each mount of a container comes from
    Mounts(Lazy<MountsArgs>),
    /// Pause all processes within one or more containers
    Pause(Lazy<PauseArgs>),
    /// Display a live stream of container(s) resource usage statistics
    Stats(Lazy<StatsArgs>),
    /// Unpause all processes within one or more containers
    Unpause(Lazy<PauseArgs>),
    /// Update configuration of one or more containers
    Update(Lazy<UpdateArgs>),
    /// List port mappings for the container
    Port(Lazy<PortArgs>),
    /// Remove all stopped containers
    Prune(Lazy<PruneArgs>),
    /// Rename a container
    Rename(Lazy<RenameArgs>),
    /// Restart one or more containers
    Restart(Lazy<StopArgs>),
    /// Attach local standard input, output, and error streams to a running container
    Attach(Lazy<AttachArgs>),
    /// Remove one or more containers
    #[command(visible_alias = "remove")]
    Rm(Lazy<RmArgs>),
    /// Create and run a new container from an image
    Run(Lazy<RunArgs>),
    /// Start one or more stopped containers
    Start(Lazy<StartArgs>),
    /// Stop one or more running containers
    Stop(Lazy<StopArgs>),
    /// Display the running processes of a container
    Top(Lazy<TopArgs>),
    /// Take volumes out of a running container
    Umount(Lazy<UmountArgs>),
    /// Block until one or more containers stop, then print their exit codes
    Wait(Lazy<WaitArgs>),
}

impl ContainerVerb {
    /// The same without `container`; what there is only with it stays.
    pub(crate) fn short(self) -> Verb {
        match self {
            ContainerVerb::Commit(args) => Verb::Commit(args),
            ContainerVerb::Cp(args) => Verb::Cp(args),
            ContainerVerb::Create(args) => Verb::Create(args),
            ContainerVerb::Diff(args) => Verb::Diff(args),
            ContainerVerb::Exec(args) => Verb::Exec(args),
            ContainerVerb::Export(args) => Verb::Export(args),
            ContainerVerb::Kill(args) => Verb::Kill(args),
            ContainerVerb::Ls(args) => Verb::Ps(args),
            ContainerVerb::Logs(args) => Verb::Logs(args),
            ContainerVerb::Mount(args) => Verb::Mount(args),
            ContainerVerb::Mounts(args) => Verb::Mounts(args),
            ContainerVerb::Pause(args) => Verb::Pause(args),
            ContainerVerb::Stats(args) => Verb::Stats(args),
            ContainerVerb::Unpause(args) => Verb::Unpause(args),
            ContainerVerb::Update(args) => Verb::Update(args),
            ContainerVerb::Port(args) => Verb::Port(args),
            ContainerVerb::Rename(args) => Verb::Rename(args),
            ContainerVerb::Restart(args) => Verb::Restart(args),
            ContainerVerb::Attach(args) => Verb::Attach(args),
            ContainerVerb::Rm(args) => Verb::Rm(args),
            ContainerVerb::Run(args) => Verb::Run(args),
            ContainerVerb::Start(args) => Verb::Start(args),
            ContainerVerb::Stop(args) => Verb::Stop(args),
            ContainerVerb::Top(args) => Verb::Top(args),
            ContainerVerb::Umount(args) => Verb::Umount(args),
            ContainerVerb::Wait(args) => Verb::Wait(args),
            only @ (ContainerVerb::Inspect(_) | ContainerVerb::Prune(_)) => {
                Verb::Container(only.into())
            }
        }
    }
}

/// What there is with `container` only; the others were made short when they were read.
pub(crate) fn only(root: &Path, verb: &ContainerVerb) -> anyhow::Result<u8> {
    match verb {
        ContainerVerb::Inspect(args) => inspect::containers(root, args),
        ContainerVerb::Prune(args) => prune(root, args),
        _ => anyhow::bail!("this verb of container has a short form; use that"),
    }
}

/// `port`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct PortArgs {
    /// Name or id of a container
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// A port in the container, as 80/tcp
    #[arg(value_name = "PRIVATE_PORT[/PROTO]")]
    port: Option<String>,
}

/// `rename`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct RenameArgs {
    /// Name or id of a container
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Its new name
    #[arg(value_name = "NEW_NAME")]
    name: String,
}

/// `top`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct TopArgs {
    /// Name or id of a container, then options of the host's ps (default -ef)
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CONTAINER"
    )]
    container_and_options: Vec<String>,
}

/// `wait`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct WaitArgs {
    /// Names or ids of containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// `container prune`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    confirm: Confirm,
    /// Provide filter values: until=TIME, label=KEY, label=KEY=VALUE, label!=…
    #[arg(long, value_name = "filter")]
    filter: Vec<String>,
}

/// The ports that the host has for a container's: there are none without a network of its own.
pub(crate) fn port(root: &Path, args: &PortArgs) -> anyhow::Result<u8> {
    let container = Engine::open(root)?.container(&args.container)?;
    let Some(port) = &args.port else { return Ok(0) };
    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    if number.parse::<u16>().is_err() || !matches!(protocol, "tcp" | "udp" | "sctp") {
        anyhow::bail!("invalid port {port:?}: write a number, and /tcp, /udp or /sctp behind it");
    }
    anyhow::bail!("no public port '{number}/{protocol}' published for {}", container.name)
}

pub(crate) fn rename(root: &Path, args: &RenameArgs) -> anyhow::Result<u8> {
    Engine::open(root)?.rename(&args.container, &args.name)?;
    Ok(0)
}

pub(crate) fn top(root: &Path, args: &TopArgs) -> anyhow::Result<u8> {
    let Some((container, options)) = args.container_and_options.split_first() else { return Ok(1) };
    let top = Engine::open(root)?.top(container, options)?;
    let lines = [&top.titles].into_iter().chain(&top.processes);
    let lines: String = lines
        .map(|cells| cells.iter().map(|cell| printable(cell)).collect::<Vec<_>>().join("\t") + "\n")
        .collect();
    output::print(&aligned_by(&lines, TOP_WIDTH))?;
    Ok(0)
}

/// Waits for each, in their order, and prints its exit status; what failed is told at the end.
pub(crate) fn wait(root: &Path, args: &WaitArgs) -> anyhow::Result<u8> {
    let engine = Engine::open(root)?;
    // All are taken hold of before the first is waited for: one may be gone by then.
    let waits: Vec<_> = args.containers.iter().map(|name| engine.watch(name)).collect();
    let mut errors = Vec::new();
    for wait in waits {
        match wait.and_then(engine::Wait::wait) {
            Ok(status) => output::print(&format!("{status}\n"))?,
            Err(error) => errors.push(error.into()),
        }
    }
    for error in &errors {
        output::complain("runtime-bin", error);
    }
    Ok(u8::from(!errors.is_empty()))
}

pub(crate) fn prune(root: &Path, args: &PruneArgs) -> anyhow::Result<u8> {
    let filters = Filters::parse(&args.filter, &["label", "label!", "until"])?;
    let chosen = chosen(&filters)?;
    if !args.confirm.ask("This will remove all stopped containers.")? {
        return Ok(0);
    }
    let pruned = Engine::open(root)?.prune_containers(chosen)?;
    prune::report(&[("Deleted Containers:", &pruned)])
}

/// Which containers the filters of a prune mean.
pub(crate) fn chosen(filters: &Filters) -> anyhow::Result<impl Fn(&Container) -> bool> {
    let until = prune::until(filters)?;
    Ok(move |container: &Container| {
        let created = OffsetDateTime::parse(&container.created, &Rfc3339).ok();
        let old = until.is_none_or(|until| created.is_some_and(|created| created < until));
        old && prune::labels(filters, &container.config.labels)
    })
}
