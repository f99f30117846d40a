//! `runtime-bin`: runs containers from image tars, with Docker's words for what to do.
//!
//! This program parses a command line, asks [`engine`] to do it, and prints what came of it. It
//! knows nothing of how anything is done. Under the name `docker-init` it is the init that
//! `run --init` puts into a container.

#![forbid(unsafe_code)]
#![cfg_attr(all(target_env = "gnu", not(test)), no_main)]

mod archive;
mod causes;
mod check;
mod cli;
mod commit;
mod completions;
mod container;
mod cp;
mod diff;
mod events;
mod exec;
mod files;
mod filter;
mod format;
mod health;
mod help;
mod image;
mod images;
mod inspect;
mod later;
mod lazy;
mod limits;
mod listing;
mod load;
mod log;
mod logs;
mod moment;
mod mount;
mod mounts;
mod options;
mod output;
mod progress;
mod prune;
mod ps;
mod pull;
mod quick;
mod run;
mod several;
mod shells;
mod start;
mod stats;
mod system;
mod table;
mod template;
mod volume;
mod volumes;
mod words;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use cli::{Cli, Verb};

/// The verbs that start something in a container.
const STARTERS: [&str; 4] = ["run", "start", "restart", "exec"];

sys::main!(program);

fn program() -> u8 {
    let args: Vec<OsString> = std::env::args_os().collect();
    if args.first().and_then(|name| Path::new(name).file_name()) == Some(OsStr::new("docker-init"))
    {
        return init(args);
    }
    // What executes itself again is spared reading its arguments twice. An error is told by the second try, below.
    if STARTERS.iter().any(|verb| args.iter().any(|arg| arg == verb)) {
        let _ = engine::shield();
    }
    let cli = match cli::parse(args) {
        Ok(cli) => cli,
        Err(usage) => return usage.report(),
    };
    let level = if cli.quiet { log::Level::Error } else { cli.log_level };
    log::choose(level, cli.log_format);
    if let Verb::Run(_) | Verb::Start(_) | Verb::Restart(_) | Verb::Exec(_) = cli.verb
        && let Err(error) = engine::shield()
    {
        output::complain("runtime-bin", &error.into());
        return 125;
    }
    let is_exec = matches!(cli.verb, Verb::Exec(_));
    let is_create = matches!(cli.verb, Verb::Create(_));
    let default =
        if matches!(cli.verb, Verb::Run(_) | Verb::Create(_) | Verb::Exec(_)) { 125 } else { 1 };
    match act(cli) {
        Ok(status) => status,
        Err(error) => {
            output::complain("runtime-bin", &error);
            match error.downcast_ref::<engine::Error>() {
                // The command was never asked for: as Docker, this is a failure of the client's own.
                Some(
                    engine::Error::NoSuchContainer { .. }
                    | engine::Error::AmbiguousContainer { .. }
                    | engine::Error::NotRunning { .. }
                    | engine::Error::Paused { .. },
                ) if is_exec => 1,
                // Docker's daemon says these, and they are told as those of any other verb.
                Some(error) if is_create && !error.is_of_option() => 1,
                Some(error) if default == 125 => error.exit_code(),
                _ => default,
            }
        }
    }
}

/// Does what was asked for, and returns the exit status.
fn act(cli: Cli) -> anyhow::Result<u8> {
    let root = &cli.root;
    match cli.verb {
        Verb::Run(args) => run::run(root, args.into_inner()),
        Verb::Create(args) => run::create(root, args.into_inner()),
        Verb::Start(args) => start::start(root, &args),
        Verb::Restart(args) => several::restart(root, &args),
        Verb::Attach(args) => start::attach(root, &args),
        Verb::Logs(args) => logs::logs(root, &args),
        Verb::Exec(args) => exec::exec(root, args.into_inner()),
        Verb::Ps(args) => ps::ps(root, &args),
        Verb::Inspect(args) => inspect::inspect(root, &args),
        Verb::Stop(args) => several::stop(root, &args),
        Verb::Kill(args) => several::kill(root, &args),
        Verb::Rm(args) => several::rm(root, &args),
        Verb::Images(args) => images::images(root, &args),
        Verb::Check(args) => check::check(root, &args),
        Verb::Load(args) => load::load(root, &args),
        Verb::Pull(args) => pull::pull(root, &args),
        Verb::Save(args) => archive::save(root, &args),
        Verb::Tag(args) => image::tag(root, &args),
        Verb::Rmi(args) => image::rmi(root, &args),
        Verb::History(args) => images::history(root, &args),
        Verb::Commit(args) => commit::commit(root, &args),
        Verb::Export(args) => archive::export(root, &args),
        Verb::Import(args) => commit::import(root, &args),
        Verb::Image(verb) => image::only(root, &verb),
        Verb::Mounts(args) => mounts::mounts(root, &args),
        Verb::Rename(args) => container::rename(root, &args),
        Verb::Pause(args) => several::pause(root, &args),
        Verb::Unpause(args) => several::unpause(root, &args),
        Verb::Update(args) => several::update(root, &args),
        Verb::Stats(args) => stats::stats(root, &args),
        Verb::Port(args) => container::port(root, &args),
        Verb::Top(args) => container::top(root, &args),
        Verb::Events(args) => events::events(root, &args),
        Verb::Wait(args) => container::wait(root, &args),
        Verb::Info(args) => system::info(root, &args),
        Verb::Container(verb) => container::only(root, &verb),
        Verb::Volume(verb) => volume::volume(root, &verb),
        Verb::System(verb) => system::system(root, &verb),
        Verb::Cp(args) => cp::cp(root, &args),
        Verb::Diff(args) => diff::diff(root, &args),
        Verb::Mount(args) => mount::mount(root, &args),
        Verb::Umount(args) => mount::umount(root, &args),
        Verb::Completions(args) => completions::completions(&args),
        Verb::Complete(args) => completions::complete(root, &args),
        Verb::Man(args) => completions::man(&args),
        Verb::Version => version(),
    }
}

fn version() -> anyhow::Result<u8> {
    output::print(&format!(
        "runtime-bin:\n Version:  {}\n OS/Arch:  {}\n",
        env!("CARGO_PKG_VERSION"),
        engine::Platform::host()
    ))?;
    Ok(0)
}

/// Is the init of a container: `docker-init -- COMMAND [ARG...]`.
fn init(args: Vec<OsString>) -> u8 {
    match engine::init(args.into_iter().skip(1)) {
        Ok(status) => status,
        Err(error) => {
            let status = error.exit_code();
            output::complain("docker-init", &error.into());
            status
        }
    }
}
