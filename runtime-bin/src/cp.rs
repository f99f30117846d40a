//! `cp`: files between a container and the host.

use std::io::{self, IsTerminal};
use std::path::Path;

use anyhow::bail;
use clap::Args;
use engine::{CopyOptions, Engine};

use crate::format::size;
use crate::output::{self, printable};

/// `cp`
#[derive(Debug, Args)]
#[command(
    override_usage = "runtime-bin cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n       \
                      runtime-bin cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    args_override_self = true
)]
pub(crate) struct CpArgs {
    /// Archive mode (copy all uid/gid information)
    #[arg(short, long)]
    archive: bool,
    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Suppress progress output during copy
    #[arg(short, long)]
    quiet: bool,
    /// CONTAINER:PATH, a path of the host, or - for a tar archive from STDIN
    #[arg(value_name = "SRC_PATH")]
    source: String,
    /// CONTAINER:PATH, a path of the host, or - for a tar archive to STDOUT
    #[arg(value_name = "DEST_PATH")]
    destination: String,
}

/// What one of the two arguments says.
#[derive(Debug, PartialEq)]
enum End<'a> {
    Container(&'a str, &'a str),
    Host(&'a str),
}

impl<'a> End<'a> {
    /// Docker's rule: what begins with a slash or a dot, or has no colon, is the host's.
    fn parse(text: &'a str) -> End<'a> {
        match text.split_once(':') {
            Some((container, path))
                if !text.starts_with('/')
                    && !container.starts_with('.')
                    && !container.is_empty() =>
            {
                End::Container(container, path)
            }
            _ => End::Host(text),
        }
    }
}

/// Copies, and says on standard error what it did, where standard output is a terminal.
pub(crate) fn cp(root: &Path, args: &CpArgs) -> anyhow::Result<u8> {
    let (source, destination) = (End::parse(&args.source), End::parse(&args.destination));
    for (end, what) in [(&source, "source"), (&destination, "destination")] {
        if matches!(end, End::Host("")) {
            bail!("{what} can not be empty");
        }
    }
    let options = CopyOptions { follow: args.follow_link, archive: args.archive };
    let open = || Engine::open(root);
    let bytes = match (source, destination) {
        (End::Container(..), End::Container(..)) => {
            bail!("copying between containers is not supported; copy to the host first")
        }
        (End::Host(_), End::Host(_)) => {
            bail!(
                "must specify at least one container source: write CONTAINER:PATH for one of them"
            )
        }
        (End::Container(container, path), End::Host("-")) => {
            if io::stdout().is_terminal() {
                bail!("cowardly refusing to write a tar archive to a terminal; redirect it");
            }
            let stdout = io::stdout().lock();
            open()?.copy_from_as_tar(container, path, stdout, options)?;
            return Ok(0);
        }
        (End::Container(container, path), End::Host(to)) => {
            open()?.copy_from(container, path, Path::new(to), options)?
        }
        (End::Host("-"), End::Container(container, path)) => {
            open()?.copy_tar_to(io::stdin().lock(), container, path)?
        }
        (End::Host(from), End::Container(container, path)) => {
            open()?.copy_to(Path::new(from), container, path, options)?
        }
    };
    if !args.quiet && io::stdout().is_terminal() {
        let to = printable(&args.destination);
        output::tell(&format!("Successfully copied {} to {to}", size(bytes)));
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_makes_a_container() {
        assert_eq!(End::parse("box:/etc"), End::Container("box", "/etc"));
        assert_eq!(End::parse("box:etc:x"), End::Container("box", "etc:x"));
        assert_eq!(End::parse("box:"), End::Container("box", ""));
        for host in ["/a:b", "./a:b", "../a:b", "a", "-", ".", "", ":x"] {
            assert_eq!(End::parse(host), End::Host(host));
        }
    }
}
