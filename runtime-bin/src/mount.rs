//! `mount` and `umount`: volumes of containers that run.

use std::path::Path;

use anyhow::bail;
use clap::Args;
use engine::Engine;

use crate::volumes::VolumeArgs;

/// `mount`
#[derive(Debug, Args)]
#[command(override_usage = "runtime-bin mount CONTAINER -v SRC:DST[:OPTIONS]...")]
pub(crate) struct MountArgs {
    #[command(flatten)]
    volumes: VolumeArgs,
    /// Name or id of a running container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// `umount`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct UmountArgs {
    /// Take it away though it is in use; who has something of it open keeps that
    #[arg(short, long)]
    lazy: bool,
    /// Name or id of a running container
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Where the volumes are in the container
    #[arg(required = true, value_name = "DST")]
    targets: Vec<String>,
}

/// Adds volumes, one after the other; those before one that fails stay.
pub(crate) fn mount(root: &Path, args: &MountArgs) -> anyhow::Result<u8> {
    let volumes = args.volumes.specs()?;
    if volumes.is_empty() {
        bail!("nothing to mount: say what with -v SRC:DST, --mount or --tmpfs");
    }
    let engine = Engine::open(root)?;
    for volume in &volumes {
        engine.mount(&args.container, volume)?;
    }
    Ok(0)
}

/// Takes volumes away, one after the other.
pub(crate) fn umount(root: &Path, args: &UmountArgs) -> anyhow::Result<u8> {
    let engine = Engine::open(root)?;
    for target in &args.targets {
        engine.unmount(&args.container, target, args.lazy)?;
    }
    Ok(0)
}
