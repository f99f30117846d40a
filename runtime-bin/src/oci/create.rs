//! `create` and `run`.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::bail;
use oci_runtime::spec::Spec;
use oci_runtime::{Ahead, Config, Created, Making, Notify, Prepared, Recorded, Running, Stdio};

use crate::cli::{CreateArgs, RunArgs};
use crate::{Context, descriptors, files, moment};

/// Makes a container whose program waits for `start`, without this process.
#[inline(never)] // what it needs of the stack is not for every command
pub(crate) fn create(context: &Context, args: CreateArgs, preserved: u32) -> anyhow::Result<u8> {
    let begun = read(context, &args, true)?;
    let (mut making, prepared) = begin(context, &args, begun, preserved)?;
    let made = prepared
        .and_then(|prepared| prepared.wait_in(making.dir()))
        .and_then(|prepared| prepared.create_while(|pid| making.write_down(pid)))
        .map_err(anyhow::Error::from)
        .and_then(|(created, ())| Ok(announced(context, &mut making, &args, created)?.leave()?));
    match made {
        Ok(()) => {
            context
                .log
                .debug("init: closing the pipe to signal completion: it waits by itself now");
            context.log.debug(&format!("created container {}", making.finish().id()));
            Ok(0)
        }
        Err(error) => Err(abandon(making, error)),
    }
}

/// Makes a container and lets its program run.
#[inline(never)]
pub(crate) fn run(context: &Context, args: RunArgs, preserved: u32) -> anyhow::Result<u8> {
    let RunArgs { create: args, detach, keep, .. } = args;
    let begun = read(context, &args, detach)?;
    let (mut making, prepared) = begin(context, &args, begun, preserved)?;
    let notify = descriptors::notify_socket().map(|told| making.notify(&told));
    let started = prepared
        .and_then(|prepared| {
            let notify = notify.transpose()?.flatten();
            Ok((notify, prepared.create_while(|pid| making.write_down(pid))?.0))
        })
        .map_err(anyhow::Error::from)
        .and_then(|(notify, created)| {
            Ok((notify, announced(context, &mut making, &args, created)?.start()?))
        });
    let (notify, running) = match started {
        Ok(started) => started,
        Err(error) => return Err(abandon(making, error)),
    };
    let container = making.finish();
    context.log.debug(&format!(
        "init: closing the pipe to signal completion: container {} runs",
        container.id()
    ));
    if detach {
        if let Some(notify) = notify {
            notify.wait(running.pidfd(), Some(running.pid()))?;
        }
        return Ok(0);
    }
    attend(context, container, running, notify, keep)
}

/// Waits for the end of a container's process, and removes the container unless it is to be kept. Gives its status.
pub(crate) fn attend(
    context: &Context,
    container: Recorded,
    running: Running,
    notify: Option<Notify>,
    keep: bool,
) -> anyhow::Result<u8> {
    let exit = oci_runtime::wait_in_foreground(running, notify);
    if !keep {
        context.log.warnings(&container.remove(&context.home, true)?);
    }
    // 128 and more than 255 is no status, which no signal's number leads to.
    Ok(u8::try_from(exit?.code()).unwrap_or(u8::MAX))
}

/// A bundle, its configuration, and what was begun of that.
struct Begun {
    bundle: PathBuf,
    config: Config,
    ahead: Ahead,
}

fn read(context: &Context, args: &CreateArgs, detached: bool) -> anyhow::Result<Begun> {
    let bundle = files::bundle(&args.bundle)?;
    let file = bundle.join(&args.config);
    let (mut config, warnings, ahead) = Config::load_and_begin(&file, &context.home)?;
    context.log.warnings(&warnings);
    complete(&mut config, args.console_socket.as_deref(), detached)?;
    Ok(Begun { bundle, config, ahead })
}

/// Gives a configuration what the caller has for its process, once it is clear who gets the terminal.
pub(crate) fn complete(
    config: &mut Config,
    console_socket: Option<&Path>,
    detached: bool,
) -> anyhow::Result<()> {
    let terminal = has_terminal(config.spec());
    match (terminal, detached, console_socket) {
        (true, true, None) => bail!(
            "cannot allocate tty if runtime-oci will detach without setting console socket: use \
             --console-socket, or set process.terminal to false"
        ),
        (false, _, Some(_)) | (_, false, Some(_)) => bail!(
            "cannot use console socket if runtime-oci will not detach or allocate tty: leave \
             --console-socket out, or set process.terminal to true and detach"
        ),
        _ => {}
    }
    if let Some(process) = config.process_mut() {
        if !detached {
            oci_runtime::set_size(process, &[std::io::stdin().as_fd()]);
        }
        let env = descriptors::listen_env();
        if !env.is_empty() {
            process.env_mut().get_or_insert_default().extend(env);
        }
    }
    Ok(())
}

pub(crate) fn has_terminal(spec: &Spec) -> bool {
    spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false)
}

/// Puts the container on record, and prepares its process.
fn begin(
    context: &Context,
    args: &CreateArgs,
    begun: Begun,
    preserved: u32,
) -> anyhow::Result<(Making, Result<Prepared, oci_runtime::Error>)> {
    let Begun { bundle, mut config, ahead } = begun;
    let bundle = &bundle;
    // The first words of these lines are runc's names of the same stages, which are looked for in logs.
    let bundle_shown = bundle.display();
    context
        .log
        .debug(&format!("nsexec container setup: making container {} of {bundle_shown}", args.id));
    let mut making =
        Making::begin(&context.home, &args.id, bundle, &config, moment::now(), context.driver())?;
    // The record has none, for `exec` may have another user.
    add_home(bundle, &mut config);
    let offered = match descriptors::notify_socket() {
        Some(told) => making.offer_notify(&told, &mut config),
        None => Ok(()),
    };
    let terminal = has_terminal(config.spec());
    let stdio = if terminal { Stdio::null() } else { Stdio::inherit() };
    let prepared = offered.and(stdio).and_then(|stdio| {
        let programs = context.home.programs(&config);
        let programs = programs.as_ref().map(|dir| dir.as_fd());
        let (hierarchies, location) = making.group();
        let scope = making.take_scope();
        let mut prepared = Prepared::with_config(bundle, &config, stdio, programs)?
            .group(hierarchies, location)
            .scope(scope)
            .ahead(ahead)
            .preserve(preserved)
            .id(&args.id);
        context.log.warnings(prepared.warnings());
        prepared.note().iter().for_each(|note| context.log.debug(note));
        if context.is_rootless() {
            prepared = prepared.rootless();
        }
        if terminal && descriptors::copies_to_no_terminal(args.console_socket.as_deref()) {
            prepared = prepared.plain_line_ends();
        }
        if args.no_new_keyring {
            prepared = prepared.callers_keyring();
        }
        if args.no_pivot {
            prepared = prepared.no_pivot()?;
        }
        Ok(prepared)
    });
    Ok((making, prepared))
}

/// Gives the configuration's process its HOME.
fn add_home(bundle: &Path, config: &mut Config) {
    let root = config.spec().root().as_ref().map(|root| bundle.join(root.path()));
    if let (Some(process), Some(root)) = (config.process_mut(), root) {
        oci_runtime::set_home(process, &root);
    }
}

/// The container, once its process is told of; of which nobody knows is ended.
fn announced(
    context: &Context,
    making: &mut Making,
    args: &CreateArgs,
    mut created: Created,
) -> anyhow::Result<Created> {
    match announce(context, making, args, &mut created) {
        Ok(()) => Ok(created),
        Err(error) => {
            context.log.warnings(&created.abandon());
            Err(error)
        }
    }
}

/// Tells the record and the caller of the process, before it goes on.
fn announce(
    context: &Context,
    making: &mut Making,
    args: &CreateArgs,
    created: &mut Created,
) -> anyhow::Result<()> {
    making.note(created)?;
    context.log.debug(&format!(
        "child process in init(): process {} has its namespaces, mounts and user",
        created.pid()
    ));
    if let Some(socket) = &args.console_socket
        && let Some(master) = created.take_terminal()
    {
        oci_runtime::send_terminal(socket, master.as_fd())?;
    }
    if let Some(socket) = &args.pidfd_socket {
        oci_runtime::send_pidfd(socket, created.pidfd())?;
    }
    if let Some(path) = &args.pid_file {
        files::write_pid(path, created.pid())?;
    }
    Ok(())
}

/// Takes a container off the record that came to nothing.
pub(crate) fn abandon(making: Making, error: anyhow::Error) -> anyhow::Error {
    match making.abandon() {
        Ok(()) => error,
        Err(second) => error.context(format!("tidying up after it failed too ({second})")),
    }
}
