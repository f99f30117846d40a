//! `commit` and `import`: new images.

use std::io::{self, IsTerminal};
use std::path::Path;

use clap::{ArgAction, Args};
use engine::{CommitRequest, Engine, ImportSource};

use crate::cli::ImageLimitArgs;
use crate::output;
use crate::progress::Bar;
use crate::run::given;

/// `commit`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct CommitArgs {
    /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    author: String,
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    #[command(flatten)]
    limits: ImageLimitArgs,
    /// Commit message
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    message: String,
    /// Pause container during commit (default true)
    #[arg(
        short,
        long,
        value_name = "bool",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = ArgAction::Set
    )]
    pause: Option<bool>,
    /// Do not pause container during commit
    #[arg(long)]
    no_pause: bool,
    /// Name or id of a container
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Name of the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

/// `import`
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct ImportArgs {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    #[command(flatten)]
    limits: ImageLimitArgs,
    /// Set commit message for imported image
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    message: String,
    /// Set platform if server is multi-platform capable ("linux/arm64")
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// The archive of a root file system, or - for STDIN
    #[arg(value_name = "file|-")]
    source: String,
    /// Name of the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

pub(crate) fn commit(root: &Path, args: &CommitArgs) -> anyhow::Result<u8> {
    let request = CommitRequest {
        name: given(args.name.clone()),
        author: args.author.clone(),
        message: args.message.clone(),
        changes: args.change.clone(),
        pause: args.pause.unwrap_or(true) && !args.no_pause,
    };
    let engine = args.limits.hold(Engine::open(root)?)?;
    let image = engine.commit(&args.container, &request, &Bar::hidden())?;
    output::print(&format!("{}\n", image.id))?;
    Ok(0)
}

pub(crate) fn import(root: &Path, args: &ImportArgs) -> anyhow::Result<u8> {
    let source = match args.source.as_str() {
        "-" if io::stdin().is_terminal() => anyhow::bail!(
            "cannot import from a terminal: give a file, or an archive to standard input"
        ),
        "-" => ImportSource::Stdin,
        url if url.starts_with("http://") || url.starts_with("https://") => anyhow::bail!(
            "cannot import from {}: URLs are not there; fetch it first, as `curl -L URL | \
             runtime-bin import -`",
            output::printable(url)
        ),
        path => ImportSource::Path(path.into()),
    };
    let platform = given(args.platform.clone()).map(|text| text.parse()).transpose()?;
    let request = CommitRequest {
        name: given(args.name.clone()),
        author: String::new(),
        message: args.message.clone(),
        changes: args.change.clone(),
        pause: false,
    };
    let engine = args.limits.hold(Engine::open(root)?)?;
    let image = engine.import(&source, &request, platform.as_ref(), &Bar::hidden())?;
    output::print(&format!("{}\n", image.id))?;
    Ok(0)
}
