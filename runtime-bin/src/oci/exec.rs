//! `exec`: a further program in a container.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, bail};
use oci_runtime::spec::{Capabilities, Capability, LinuxCapabilities, Process, User};
use oci_runtime::{PreparedExec, Recorded, Stdio};

use crate::cli::ExecArgs;
use crate::{Context, descriptors, files};

/// Runs the program, and waits for its end unless it is to be detached.
pub(crate) fn exec(context: &Context, args: ExecArgs, preserved: u32) -> anyhow::Result<u8> {
    let container = Recorded::open(&context.home, &args.id)?;
    let (pid, pidfd) = container.process_for_exec(args.ignore_paused)?;
    let mut config = container.config_for_exec(&context.home)?;
    let own = config.take_process();
    let mut process = match &args.process {
        Some(file) => {
            let (process, warnings) = oci_runtime::load_process_with_warnings(file)?;
            context.log.warnings(&warnings);
            as_the_containers(process, own)
        }
        None => process(context, own, &args)?,
    };
    let terminal = process.terminal().unwrap_or(false);
    match (terminal, args.detach, &args.console_socket) {
        (true, true, None) => bail!(
            "cannot allocate tty if runtime-oci will detach without setting console socket: use \
             --console-socket, or no --tty"
        ),
        (false, _, Some(_)) | (_, false, Some(_)) => bail!(
            "cannot use console socket if runtime-oci will not detach or allocate tty: leave \
             --console-socket out, or give --tty and --detach"
        ),
        _ => {}
    }
    if !args.detach {
        oci_runtime::set_size(&mut process, &[std::io::stdin().as_fd()]);
    }
    let root = format!("/proc/{}/root", pid.as_raw_nonzero());
    oci_runtime::set_home(&mut process, root.as_ref());
    let stdio = if terminal { Stdio::null()? } else { Stdio::inherit()? };
    let mut prepared = PreparedExec::new(pidfd, pid, &process, stdio)?.preserve(preserved);
    if terminal && descriptors::copies_to_no_terminal(args.console_socket.as_deref()) {
        prepared = prepared.plain_line_ends();
    }
    if let Some(personality) = config.personality() {
        prepared = prepared.personality(personality)?;
    }
    if let Some(policy) = config.memory_policy() {
        prepared = prepared.memory_policy(policy)?;
    }
    context.log.warnings(prepared.warnings());
    prepared = prepared.seccomp_of(container.bundle(), config, &context.home)?.id(&args.id);
    let join = match &args.cgroup[..] {
        [] => container.join()?,
        groups => container.join_below(groups)?,
    };
    if let Some(join) = join {
        prepared = prepared.group(join);
    }
    context.log.debug(&format!("nsexec container setup: joining container {}", args.id));
    if let Some(mask) = prepared.initial_affinity() {
        context.log.debug(&format!("nsexec container setup: affinity: {mask}"));
    }
    let command = process.args().iter().flatten().next().map_or("", |word| word);
    context.log.debug(&format!("setns_init: about to exec {command:?}"));
    let mut running = prepared.start()?;
    let announced = announce(&args, &mut running);
    if let Err(error) = announced {
        running.kill()?;
        return Err(error);
    }
    context.log.debug(&format!(
        "child process in init(): process {} runs in {}",
        running.pid(),
        args.id
    ));
    if args.detach {
        return Ok(0);
    }
    let exit = oci_runtime::wait_in_foreground(running, None)?;
    // Nothing is left to do: to take the configuration and all else apart would cost 25 µs for nobody.
    sys::program::exit_now(u8::try_from(exit.code()).unwrap_or(u8::MAX))
}

/// Tells the caller of the process.
fn announce(args: &ExecArgs, running: &mut oci_runtime::Running) -> anyhow::Result<()> {
    if let Some(socket) = &args.console_socket
        && let Some(master) = running.take_terminal()
    {
        oci_runtime::send_terminal(socket, master.as_fd())?;
    }
    if let Some(socket) = &args.pidfd_socket {
        oci_runtime::send_pidfd(socket, running.pidfd())?;
    }
    if let Some(path) = &args.pid_file {
        files::write_pid(path, running.pid())?;
    }
    Ok(())
}

/// A process from a file: what holds the container's own process in holds it too, where the file says
/// nothing else (as runc).
fn as_the_containers(mut process: Process, own: Option<Process>) -> Process {
    let Some(own) = own else { return process };
    let missing = |label: &Option<String>| label.as_deref().unwrap_or_default().is_empty();
    if missing(process.apparmor_profile()) {
        process.set_apparmor_profile(own.apparmor_profile().clone());
    }
    if missing(process.selinux_label()) {
        process.set_selinux_label(own.selinux_label().clone());
    }
    if process.capabilities().is_none() {
        process.set_capabilities(own.capabilities().clone());
    }
    if process.rlimits().as_ref().is_none_or(Vec::is_empty) {
        process.set_rlimits(own.rlimits().clone());
    }
    if process.oom_score_adj().is_none() {
        process.set_oom_score_adj(own.oom_score_adj());
    }
    if process.scheduler().is_none() {
        process.set_scheduler(own.scheduler().clone());
    }
    if process.io_priority().is_none() {
        process.set_io_priority(*own.io_priority());
    }
    process
}

/// The container's own process with what the options change of it.
fn process(context: &Context, own: Option<Process>, args: &ExecArgs) -> anyhow::Result<Process> {
    if args.command.is_empty() {
        bail!("no command is given: write it behind the id, or give --process");
    }
    let mut process = own.unwrap_or_default();
    process.set_args(Some(args.command.clone()));
    process.set_terminal(Some(args.tty));
    process.set_console_size(None);
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.into());
    }
    if let Some(label) = &args.process_label {
        process.set_selinux_label(Some(label.clone()));
    }
    if let Some(profile) = &args.apparmor {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    let mut env = process.env().clone().unwrap_or_default();
    for entry in &args.env {
        // Of two with a name most programs see the first.
        let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
        env.retain(|other| name(other) != name(entry));
        env.push(entry.clone());
    }
    process.set_env(Some(env));
    let user = user(process.user(), args)?;
    process.set_user(user);
    if !args.cap.is_empty() {
        let own = process.capabilities().clone().unwrap_or_default();
        process.set_capabilities(Some(capabilities(context, own, &args.cap)));
    }
    Ok(process)
}

fn user(own: &User, args: &ExecArgs) -> anyhow::Result<User> {
    let number = |option: &str, text: &str| {
        text.parse::<u32>()
            .with_context(|| format!("{option} {text:?}: an id is a number from 0 to 4294967294"))
    };
    let mut user = own.clone();
    if let Some(text) = &args.user {
        let (uid, gid) = match text.split_once(':') {
            Some((uid, gid)) => (uid, Some(gid)),
            None => (text.as_str(), None),
        };
        user.set_uid(number("--user", uid)?);
        if let Some(gid) = gid {
            user.set_gid(number("--user", gid)?);
        }
    }
    let mut groups = user.additional_gids().clone().unwrap_or_default();
    for group in &args.additional_gids {
        groups.push(number("--additional-gids", group)?);
    }
    user.set_additional_gids(Some(groups));
    Ok(user)
}

/// As runc: what is added can be used, and is not passed on to programs of other users unless the configuration
/// lets it be inherited. A name that nobody knows is left out, as one of the configuration.
fn capabilities(
    context: &Context,
    mut sets: LinuxCapabilities,
    add: &[String],
) -> LinuxCapabilities {
    let known = |name: &String| {
        let found = serde_json::from_value::<Capability>(name.to_uppercase().into()).ok();
        if found.is_none() {
            let warning = format!("--cap {name:?}: there is no such capability; it is left out");
            context.log.warnings(&[warning]);
        }
        found
    };
    let add: Vec<Capability> = add.iter().filter_map(known).collect();
    let with = |set: &Option<Capabilities>| {
        let mut set = set.clone().unwrap_or_default();
        set.extend(add.iter().copied());
        Some(set)
    };
    sets.set_bounding(with(sets.bounding()));
    sets.set_effective(with(sets.effective()));
    sets.set_permitted(with(sets.permitted()));
    // What programs may inherit by the configuration they get without a file's capabilities, too (as runc 1.2).
    if let Some(inheritable) = sets.inheritable() {
        let add = add.iter().filter(|one| inheritable.contains(one)).copied();
        let mut ambient = sets.ambient().clone().unwrap_or_default();
        ambient.extend(add);
        sets.set_ambient(Some(ambient));
    }
    sets
}
