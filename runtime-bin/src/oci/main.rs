//! `runtime-oci`: the OCI runtime that Podman, Docker, containerd and others call, with runc's command
//! line.
//!
//! This program parses a command line, asks [`oci_runtime`] to do it, and prints what came of it.

#![forbid(unsafe_code)]
#![cfg_attr(all(target_env = "gnu", not(test)), no_main)]

#[path = "../causes.rs"]
mod causes;
mod checkpoint;
mod cli;
mod create;
mod criu_args;
mod delete;
mod description;
mod descriptors;
mod events;
mod exec;
mod files;
mod help;
#[path = "../lazy.rs"]
mod lazy;
mod list;
mod log;
mod moment;
mod ps;
mod quick;
#[path = "../shells.rs"]
mod shells;
mod spec;
mod update;
#[path = "../words.rs"]
mod words;

use std::os::fd::AsFd as _;
use std::path::PathBuf;

use cli::{CgroupManager, Cli, Rootless, Verb};
use log::Log;
use oci_runtime::{CgroupDriver, Home, Recorded};

/// What every command has.
struct Context {
    home: Home,
    log: Log,
    rootless: Rootless,
    systemd: bool,
    /// CRIU, where it is named.
    criu: Option<PathBuf>,
}

impl Context {
    /// Whether a container may be without a cgroup where none may be made.
    fn is_rootless(&self) -> bool {
        match self.rootless {
            Rootless::True => true,
            Rootless::False => false,
            Rootless::Auto => oci_runtime::is_rootless(),
        }
    }
}

impl Context {
    /// Who makes cgroups.
    fn driver(&self) -> CgroupDriver {
        match self.systemd {
            true => CgroupDriver::Systemd { user: self.is_rootless() },
            false => CgroupDriver::Cgroupfs,
        }
    }
}

/// The verbs that always start something in a container.
const STARTERS: [&str; 3] = ["create", "run", "exec"];

sys::main!(program);

fn program() -> u8 {
    // What executes itself again is spared reading its arguments twice. An error is told by the second try, in `act`.
    if std::env::args_os().any(|arg| STARTERS.iter().any(|verb| arg == *verb)) {
        let _ = oci_runtime::shield();
    }
    let cli = match quick::parse(std::env::args_os().skip(1)).map_or_else(help::parse, Ok) {
        Ok(cli) => cli,
        Err(usage) => {
            let wanted = !usage.use_stderr();
            // A closed output hears nothing.
            let _ = usage.print();
            if let Some(verb) = no_such_verb(&usage) {
                log::print_error(&format!("No help topic for '{verb}'"));
            }
            return if wanted { 0 } else { 1 };
        }
    };
    // Before anything is opened: what is to be preserved must be there now.
    let preserved = descriptors::preserved(&cli);
    let systemd = cli.systemd_cgroup || cli.cgroup_manager == CgroupManager::Systemd;
    let Cli { root, log, log_format, debug, verb, version, rootless, criu, .. } = cli;
    let log = match Log::open(log.as_deref(), log_format, debug) {
        Ok(log) => log,
        Err(error) => {
            if let Ok(log) = Log::open(None, log_format, debug) {
                log.error(&sentence(&error));
            }
            return 1;
        }
    };
    let home = Home::new(root.unwrap_or_else(default_root));
    let context = Context { home, log, rootless, systemd, criu };
    let verb = match verb {
        Some(verb) if !version => verb,
        _ => return told(&context, print_version(version), 1),
    };
    let failure = if matches!(verb, Verb::Exec(_)) { 255 } else { 1 };
    told(&context, act(&context, verb, preserved), failure)
}

/// Tells of an error, and gives the exit status: `failure` then.
fn told(context: &Context, done: anyhow::Result<u8>, failure: u8) -> u8 {
    match done {
        Ok(status) => status,
        Err(error) => {
            context.log.error(&sentence(&error));
            failure
        }
    }
}

/// An error with its causes.
fn sentence(error: &anyhow::Error) -> String {
    causes::joined(error.chain().map(ToString::to_string))
}

/// The word that stands where a verb should, in runc's words for it.
fn no_such_verb(usage: &clap::Error) -> Option<String> {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    match (usage.kind(), usage.get(ContextKind::InvalidSubcommand)) {
        (ErrorKind::InvalidSubcommand, Some(ContextValue::String(verb))) => Some(verb.clone()),
        _ => None,
    }
}

/// Does what was asked for, and returns the exit status.
fn act(context: &Context, verb: Verb, preserved: u32) -> anyhow::Result<u8> {
    if let Verb::Create(_) | Verb::Run(_) | Verb::Exec(_) = verb {
        oci_runtime::shield()?;
        // As runc: an engine's own processors are not the container's.
        if let Err(error) = oci_runtime::use_all_processors() {
            context.log.warnings(&[sentence(&error.into())]);
        }
    }
    let Context { home, log, .. } = context;
    match verb {
        Verb::Create(args) => create::create(context, args.into_inner(), preserved),
        Verb::Run(args) => create::run(context, args.into_inner(), preserved),
        Verb::Exec(args) => exec::exec(context, args.into_inner(), preserved),
        Verb::Start(args) => {
            let container = Recorded::open(home, &args.id)?;
            if container.start_enters()? {
                oci_runtime::shield()?;
            }
            let notify = descriptors::notify_socket().map(|told| container.notify(&told));
            let process = if notify.is_some() { container.process()? } else { None };
            let notify = notify.transpose()?.flatten();
            Recorded::start(home, &args.id)?;
            log.debug(&format!("started container {}", args.id));
            if let (Some(notify), Some((_, pidfd))) = (notify, process) {
                notify.wait(pidfd.as_fd(), None)?;
            }
            Ok(0)
        }
        Verb::State(args) => list::state(home, &args.id),
        Verb::Kill(args) => {
            let container = Recorded::open(home, &args.id)?;
            match (oci_runtime::signal(&args.signal), args.all) {
                (Some(signal), true) => container.kill_all(signal)?,
                (Some(signal), false) => container.kill(signal)?,
                (None, true) if args.signal == "0" => {}
                (None, false) if args.signal == "0" => container.has_process()?,
                (None, _) => anyhow::bail!(
                    "unknown signal {:?}; give a number, or a name as TERM",
                    args.signal
                ),
            }
            Ok(0)
        }
        Verb::Delete(args) => delete::delete(context, &args),
        Verb::List(args) => list::list(context, &args),
        Verb::Ps(args) => ps::ps(home, &args),
        Verb::Pause(args) => {
            Recorded::pause(home, &args.id)?;
            Ok(0)
        }
        Verb::Resume(args) => {
            Recorded::resume(home, &args.id)?;
            Ok(0)
        }
        Verb::Update(args) => update::update(home, &args),
        Verb::Events(args) => events::events(home, &args),
        Verb::Features => {
            files::print_json(&oci_runtime::features())?;
            Ok(0)
        }
        Verb::Spec(args) => spec::spec(&args),
        Verb::Completions(args) => description::completions(&args),
        Verb::Man(args) => description::man(&args),
        Verb::Checkpoint(args) => checkpoint::checkpoint(context, args.into_inner()),
        Verb::Restore(args) => checkpoint::restore(context, args.into_inner()),
    }
}

/// As runc's, with a name of its own: below /run, or for other users below their own directory.
fn default_root() -> PathBuf {
    const NAME: &str = "runtime-oci";
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if !dir.is_empty() && !rustix::process::geteuid().is_root() => {
            PathBuf::from(dir).join(NAME)
        }
        _ => PathBuf::from("/run").join(NAME),
    }
}

/// What is there of what crun can be built without, in its words: its tests look here for what to try.
const FEATURES: &str = "+SYSTEMD +SELINUX +APPARMOR +CAP +SECCOMP +EBPF";

fn print_version(asked: bool) -> anyhow::Result<u8> {
    if !asked {
        files::print(&<Cli as clap::CommandFactory>::command().render_help().to_string())?;
        return Ok(0);
    }
    files::print(&format!(
        "runtime-oci version {}\nspec: {}\n{FEATURES}\n",
        env!("CARGO_PKG_VERSION"),
        oci_runtime::SPEC_VERSION
    ))?;
    Ok(0)
}
