//! The pages of `--help`, which begin as runc's: with the name by which this program was called.

use std::path::Path;

use clap::{Command, CommandFactory, FromArgMatches};

use crate::cli::Cli;

/// The summary stands beside the name.
const PAGE: &str = "{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}";

/// Reads the command line. Pages take longer to make than most verbs to be done, so only who may want one pays.
pub(crate) fn parse() -> Result<Cli, clap::Error> {
    let wanted = |arg: std::ffi::OsString| arg == "-h" || arg == "--help" || arg == "help";
    match std::env::args_os().any(wanted) {
        true => Cli::from_arg_matches(&with_names(Cli::command()).try_get_matches()?),
        false => clap::Parser::try_parse(),
    }
}

fn with_names(command: Command) -> Command {
    let called = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&called).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let all = command.mut_subcommands(|verb| {
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        let title = format!("NAME:\n   {name} {} - {about}", verb.get_name());
        verb.before_help(title).help_template(PAGE)
    });
    all.before_help(format!("NAME:\n   {name} - Open Container Initiative runtime"))
}
