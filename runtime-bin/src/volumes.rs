//! `-v`, `--mount` and `--tmpfs`, in the order in which they were typed: a later one may lie below
//! an earlier one.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use engine::VolumeSpec;

type Read = fn(&str) -> Result<VolumeSpec, engine::SyntaxError>;

/// Each option with how its text is read.
const OPTIONS: [(&str, Read); 3] = [
    ("volume", VolumeSpec::parse_volume),
    ("mount", VolumeSpec::parse_mount),
    ("tmpfs", VolumeSpec::parse_tmpfs),
];

/// The options as typed.
#[derive(Debug, Default)]
pub(crate) struct VolumeArgs(Vec<(Read, String)>);

impl VolumeArgs {
    /// Those of `--volume` alone.
    pub(crate) fn of(texts: Vec<String>) -> VolumeArgs {
        let (_, read) = OPTIONS[0];
        VolumeArgs(texts.into_iter().map(|text| (read, text)).collect())
    }

    /// What the options say.
    ///
    /// # Errors
    /// One of them says nothing that can be understood.
    pub(crate) fn specs(&self) -> Result<Vec<VolumeSpec>, engine::SyntaxError> {
        self.0.iter().map(|(read, text)| read(text)).collect()
    }
}

impl Args for VolumeArgs {
    fn augment_args(command: Command) -> Command {
        let list = |name: &'static str, help: &'static str| {
            Arg::new(name).long(name).help(help).value_name("list").action(ArgAction::Append)
        };
        command
            .arg(list("volume", "Bind mount a volume").short('v'))
            .arg(list("mount", "Attach a filesystem mount to the container").value_name("mount"))
            .arg(list("tmpfs", "Mount a tmpfs directory"))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for VolumeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<VolumeArgs, clap::Error> {
        let mut typed = Vec::new();
        for (name, read) in OPTIONS {
            let places = matches.indices_of(name).into_iter().flatten();
            let texts = matches.get_many::<String>(name).into_iter().flatten();
            typed.extend(places.zip(texts).map(|(place, text)| (place, read, text.clone())));
        }
        typed.sort_by_key(|(place, ..)| *place);
        Ok(VolumeArgs(typed.into_iter().map(|(_, read, text)| (read, text)).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
