//! `run`: a new container.

use std::io::{self, IsTerminal};
use std::path::Path;

use clap::{ArgAction, Args};
use engine::{
    AttachEnd, AttachOptions, DetachKeys, Engine, ImageArg, RunRequest, Session, Streams,
};

use crate::cli::{DetachKeysArg, DurableArg, ImageLimitArgs, LayersArgs, SigProxyArg};
use crate::files::{self, Reserved};
use crate::health::HealthArgs;
use crate::log;
use crate::options::HostArgs;
use crate::output;
use crate::progress::Bar;
use crate::pull::PullOptions;
use crate::volumes::VolumeArgs;
use crate::words::{Given, Known, Takes};

/// The restart policy, unless `--restart` says otherwise.
const NO_RESTART: &str = "no";

/// `run`. Options end at IMAGE: what comes behind it is the command's.
#[derive(Debug, Default, Args)]
#[command(
    override_usage = "runtime-bin run [OPTIONS] IMAGE [COMMAND] [ARG...]",
    args_override_self = true,
    disable_help_flag = true
)]
pub(crate) struct RunArgs {
    /// Add Linux capabilities
    #[arg(long, value_name = "list")]
    cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "list")]
    cap_drop: Vec<String>,
    /// Run container in background and print container ID
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    detach_keys: DetachKeysArg,
    #[command(flatten)]
    durable: DurableArg,
    #[command(flatten)]
    layers: LayersArgs,
    #[command(flatten)]
    limits: ImageLimitArgs,
    /// Overwrite the default ENTRYPOINT of the image
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    entrypoint: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "list", allow_hyphen_values = true)]
    env: Vec<String>,
    #[command(flatten)]
    health: HealthArgs,
    /// Print usage
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    /// Container host name
    #[arg(short = 'h', long, value_name = "string", allow_hyphen_values = true)]
    hostname: Option<String>,
    /// Run an init inside the container that forwards signals and reaps processes
    #[arg(long)]
    init: bool,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    interactive: bool,
    /// Set meta data on a container
    #[arg(short, long, value_name = "list", allow_hyphen_values = true)]
    label: Vec<String>,
    /// Assign a name to the container
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    name: Option<String>,
    /// Connect a container to a network: none or host (default none)
    #[arg(long, alias = "net", value_name = "network")]
    network: Option<String>,
    /// Set platform, formatted as "os/arch[/variant]" ("linux/amd64")
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    #[command(flatten)]
    pull: PullOptions,
    /// Mount the container's root filesystem as read only
    #[arg(long)]
    read_only: bool,
    /// Restart policy to apply when a container exits: no, on-failure, on-failure:N, always, unless-stopped
    #[arg(long, value_name = "string", default_value = NO_RESTART)]
    restart: String,
    /// Automatically remove the container and its associated anonymous volumes when it exits
    #[arg(long)]
    rm: bool,
    #[command(flatten)]
    sig_proxy: SigProxyArg,
    /// Signal to stop the container
    #[arg(long, value_name = "string")]
    stop_signal: Option<String>,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    tty: bool,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long, value_name = "string", allow_hyphen_values = true)]
    user: Option<String>,
    #[command(flatten)]
    host: HostArgs,
    #[command(flatten)]
    volumes: VolumeArgs,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string", allow_hyphen_values = true)]
    workdir: Option<String>,
    /// The image: a tar archive's path, an OCI layout's directory, - for STDIN, or an image's name or
    /// id; then the command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE")]
    image_and_command: Vec<String>,
}

impl RunArgs {
    /// The options that are read without clap.
    pub(crate) const QUICK: &'static [Known] = &[
        ("detach", Some('d'), Takes::Nothing),
        ("entrypoint", None, Takes::Value),
        ("env", Some('e'), Takes::Values),
        ("hostname", Some('h'), Takes::Value),
        ("init", None, Takes::Nothing),
        ("interactive", Some('i'), Takes::Nothing),
        ("label", Some('l'), Takes::Values),
        ("name", None, Takes::Value),
        ("network", None, Takes::Value),
        ("read-only", None, Takes::Nothing),
        ("rm", None, Takes::Nothing),
        ("tty", Some('t'), Takes::Nothing),
        ("user", Some('u'), Takes::Value),
        ("volume", Some('v'), Takes::Values),
        ("workdir", Some('w'), Takes::Value),
    ];

    /// What clap would make of the options that were `given`, and the rest.
    pub(crate) fn quick(given: &Given, image_and_command: Vec<String>) -> RunArgs {
        RunArgs {
            detach: given.flag("detach"),
            entrypoint: given.value("entrypoint"),
            env: given.values("env"),
            hostname: given.value("hostname"),
            init: given.flag("init"),
            interactive: given.flag("interactive"),
            label: given.values("label"),
            name: given.value("name"),
            network: given.value("network"),
            read_only: given.flag("read-only"),
            restart: NO_RESTART.to_owned(),
            rm: given.flag("rm"),
            tty: given.flag("tty"),
            user: given.value("user"),
            volumes: VolumeArgs::of(given.values("volume")),
            workdir: given.value("workdir"),
            image_and_command,
            ..RunArgs::default()
        }
    }

    /// What the engine is asked for, and when the image is pulled.
    ///
    /// # Errors
    /// An option's value that cannot be understood.
    fn request(self) -> anyhow::Result<(RunRequest, PullOptions)> {
        let mut words = self.image_and_command.into_iter();
        let image = words.next().unwrap_or_default();
        let host = self.host.options()?;
        let env = files::environment(&self.host.env_file, self.env)?;
        // What is typed comes last, and holds.
        let mut labels = Vec::new();
        for path in &self.host.label_file {
            labels.extend(files::entries("--label-file", path)?);
        }
        labels.extend(self.label);
        let request = RunRequest {
            image: ImageArg::parse(&image, Path::exists),
            command: words.collect(),
            name: given(self.name),
            detach: self.detach,
            remove: self.rm,
            interactive: self.interactive,
            tty: self.tty,
            env,
            workdir: given(self.workdir),
            user: given(self.user),
            entrypoint: self.entrypoint,
            hostname: given(self.hostname),
            read_only: self.read_only,
            network: given(self.network).map(|name| name.parse()).transpose()?.unwrap_or_default(),
            cap_add: self.cap_add,
            cap_drop: self.cap_drop,
            init: self.init,
            volumes: self.volumes.specs()?,
            platform: given(self.platform).map(|text| text.parse()).transpose()?,
            labels,
            stop_signal: given(self.stop_signal),
            restart: self.restart.parse()?,
            health: self.health.check()?,
            stop_timeout: self.host.stop_timeout,
            domainname: given(self.host.domainname),
            host,
            inherited: Vec::new(),
        };
        Ok((request, self.pull))
    }
}

/// An empty value is none, as Docker has it.
pub(crate) fn given(value: Option<String>) -> Option<String> {
    value.filter(|text| !text.is_empty())
}

/// Refuses `-i -t` where standard input is no terminal.
pub(crate) fn check_terminal(interactive: bool, tty: bool, detach: bool) -> anyhow::Result<()> {
    if interactive && tty && !detach && !io::stdin().is_terminal() {
        anyhow::bail!(
            "the input device is not a TTY: standard input is no terminal; leave -t out, or run it \
             from a terminal"
        );
    }
    Ok(())
}

/// Runs a container, and returns its exit status, or 0 with `-d`.
pub(crate) fn run(root: &Path, args: RunArgs) -> anyhow::Result<u8> {
    let (keys, proxy) = (args.detach_keys.read()?, args.sig_proxy);
    let (durable, layers) = (args.durable.durable, args.layers.into());
    let limits = args.limits.clone();
    let pid_file = args.host.pidfile.clone();
    let (request, pull) = args.request()?;
    check_terminal(request.interactive, request.tty, request.detach)?;
    let id_file = request.host.id_file.as_deref().map(Reserved::id).transpose()?;
    let engine = Engine::open(root)?.with_durable(durable).with_layers(layers).with_warn(log::warn);
    let engine = limits.hold(engine)?;
    let session =
        pull.provide(&engine, &request, |engine, request| engine.run(request, &Bar::hidden()))?;
    if let Some(file) = id_file {
        file.write(session.id())?;
    }
    if let (Some(path), Some(pid)) = (pid_file, session.pid()) {
        files::write_pid(&path, pid)?;
    }
    if request.detach {
        output::print(&format!("{}\n", session.id()))?;
        return Ok(0);
    }
    attach(session, request.interactive, proxy, keys)
}

/// Joins a process and the terminal; the exit status.
pub(crate) fn attach(
    session: Session,
    input: bool,
    proxy: SigProxyArg,
    detach_keys: DetachKeys,
) -> anyhow::Result<u8> {
    let options = AttachOptions { input, sig_proxy: proxy.sig_proxy, detach_keys };
    Ok(match engine::attach(session, Streams::own(), &options)? {
        AttachEnd::Exited(status) => exit_status(status),
        AttachEnd::Detached => 0,
        AttachEnd::Interrupted(signal) => exit_status(128 + signal),
    })
}

/// Makes a container, and prints its id.
pub(crate) fn create(root: &Path, args: RunArgs) -> anyhow::Result<u8> {
    let (durable, layers) = (args.durable.durable, args.layers.into());
    let limits = args.limits.clone();
    let (request, pull) = args.request()?;
    let id_file = request.host.id_file.as_deref().map(Reserved::id).transpose()?;
    let engine = Engine::open(root)?.with_durable(durable).with_layers(layers).with_warn(log::warn);
    let engine = limits.hold(engine)?;
    let id =
        pull.provide(&engine, &request, |engine, request| engine.create(request, &Bar::hidden()))?;
    if let Some(file) = id_file {
        file.write(&id)?;
    }
    output::print(&format!("{id}\n"))?;
    Ok(0)
}

/// A process's exit status as this program's: its lower 8 bits, as the kernel has it.
fn exit_status(status: i32) -> u8 {
    status.to_le_bytes()[0]
}

#[cfg(test)]
mod tests;
