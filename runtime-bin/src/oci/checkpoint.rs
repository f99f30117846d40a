//! `checkpoint` and `restore`.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::Context as _;
use oci_runtime::{Checkpoint, Config, CriuOptions, Making, Recorded, Restore, Running, Stdio};

use crate::create;
use crate::criu_args::{CheckpointArgs, CriuArgs, RestoreArgs};
use crate::{Context, files, moment};

/// Writes a container's processes to files, and removes it unless it is to go on.
#[inline(never)] // as create
pub(crate) fn checkpoint(context: &Context, args: CheckpointArgs) -> anyhow::Result<u8> {
    let wanted = Checkpoint {
        options: options(args.criu, context),
        leave_running: args.leave_running,
        pre_dump: args.pre_dump,
        parent: args.parent_path,
        tcp_skip_in_flight: args.tcp_skip_in_flight,
        link_remap: args.link_remap,
        page_server: args.page_server,
        status: args.status_fd.map(open_status).transpose()?,
    };
    context.log.warnings(&Recorded::checkpoint(&context.home, &args.id, &wanted)?);
    context.log.debug(&format!("made a checkpoint of container {}", args.id));
    Ok(0)
}

/// Makes a container of a checkpoint.
#[inline(never)] // as create
pub(crate) fn restore(context: &Context, args: RestoreArgs) -> anyhow::Result<u8> {
    let wanted = Restore {
        options: options(args.criu, context),
        lsm_profile: args.lsm_profile,
        lsm_mount_context: args.lsm_mount_context,
    };
    let console_socket = args.console_socket.as_deref();
    let (home, driver) = (&context.home, context.driver());
    let bundle = files::bundle(&args.bundle)?;
    let (mut config, warnings) = Config::load(&bundle.join("config.json"), home)?;
    context.log.warnings(&warnings);
    create::complete(&mut config, console_socket, args.detach)?;
    let mut making = Making::begin(home, &args.id, &bundle, &config, moment::now(), driver)?;
    // The filter of its processes is in the checkpoint.
    let spec = config.spec();
    let terminal = create::has_terminal(spec);
    let restored = if terminal { Stdio::null() } else { Stdio::inherit() }
        .and_then(|stdio| making.restore(spec, &wanted, stdio))
        .map_err(anyhow::Error::from)
        .and_then(|running| announced(running, console_socket, args.pid_file.as_deref()));
    let running = match restored {
        Ok(running) => running,
        Err(error) => return Err(create::abandon(making, error)),
    };
    let container = making.finish();
    context.log.warnings(running.warnings());
    context.log.debug(&format!("restored container {}", container.id()));
    if args.detach {
        return Ok(0);
    }
    create::attend(context, container, running, None, false)
}

/// Tells the caller of the process; one that it cannot be told of is ended.
fn announced(
    mut running: Running,
    console_socket: Option<&Path>,
    pid_file: Option<&Path>,
) -> anyhow::Result<Running> {
    let mut announce = || {
        if let Some(socket) = console_socket
            && let Some(master) = running.take_terminal()
        {
            oci_runtime::send_terminal(socket, master.as_fd())?;
        }
        pid_file.map_or(Ok(()), |path| files::write_pid(path, running.pid()))
    };
    if let Err(error) = announce() {
        running.kill()?;
        running.wait()?;
        return Err(error);
    }
    Ok(running)
}

/// A descriptor of the caller's, once more, for writing.
fn open_status(number: u32) -> anyhow::Result<File> {
    let path = format!("/proc/self/fd/{number}");
    File::options()
        .write(true)
        .open(path)
        .with_context(|| format!("--status-fd {number}: give one that is open for writing"))
}

fn options(args: CriuArgs, context: &Context) -> CriuOptions {
    CriuOptions {
        program: context.criu.clone(),
        images: args.image_path,
        work: args.work_path,
        tcp_established: args.tcp_established,
        ext_unix_sk: args.ext_unix_sk,
        shell_job: args.shell_job,
        file_locks: args.file_locks,
        lazy_pages: args.lazy_pages,
        auto_dedup: args.auto_dedup,
        cgroups: args.manage_cgroups_mode,
    }
}
