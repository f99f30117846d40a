//! `exec`: a further process in a container.

use std::path::{Path, PathBuf};

use clap::{ArgAction, Args};
use engine::{Engine, ExecRequest};

use crate::cli::{DetachKeysArg, SigProxyArg};
use crate::files;
use crate::run::{attach, check_terminal, given};
use crate::words::{Given, Known, Takes};

/// `exec`. Options end at CONTAINER: what comes behind it is the command's.
#[derive(Debug, Default, Args)]
#[command(
    override_usage = "runtime-bin exec [OPTIONS] CONTAINER COMMAND [ARG...]",
    args_override_self = true,
    disable_help_flag = true
)]
pub(crate) struct ExecArgs {
    /// Detached mode: run command in the background
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    detach_keys: DetachKeysArg,
    /// Set environment variables
    #[arg(short, long, value_name = "list", allow_hyphen_values = true)]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list")]
    env_file: Vec<PathBuf>,
    /// Print usage
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    interactive: bool,
    /// Give extended privileges to the command
    #[arg(long)]
    privileged: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    tty: bool,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long, value_name = "string", allow_hyphen_values = true)]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string", allow_hyphen_values = true)]
    workdir: Option<String>,
    /// The container's name or id; then the command and its arguments
    #[arg(
        required = true,
        num_args = 2..,
        trailing_var_arg = true,
        value_names = ["CONTAINER", "COMMAND"]
    )]
    container_and_command: Vec<String>,
}

impl ExecArgs {
    /// The options that are read without clap.
    pub(crate) const QUICK: &'static [Known] = &[
        ("detach", Some('d'), Takes::Nothing),
        ("env", Some('e'), Takes::Values),
        ("interactive", Some('i'), Takes::Nothing),
        ("tty", Some('t'), Takes::Nothing),
        ("user", Some('u'), Takes::Value),
        ("workdir", Some('w'), Takes::Value),
    ];

    /// What clap would make of the options that were `given`, and the rest.
    pub(crate) fn quick(given: &Given, container_and_command: Vec<String>) -> ExecArgs {
        ExecArgs {
            detach: given.flag("detach"),
            env: given.values("env"),
            interactive: given.flag("interactive"),
            tty: given.flag("tty"),
            user: given.value("user"),
            workdir: given.value("workdir"),
            container_and_command,
            ..ExecArgs::default()
        }
    }

    /// The container, and what the engine is asked for.
    ///
    /// # Errors
    /// A file of variables cannot be read.
    fn request(self) -> anyhow::Result<(String, ExecRequest)> {
        let mut words = self.container_and_command.into_iter();
        let container = words.next().unwrap_or_default();
        let request = ExecRequest {
            command: words.collect(),
            interactive: self.interactive,
            tty: self.tty,
            detach: self.detach,
            env: files::environment(&self.env_file, self.env)?,
            workdir: given(self.workdir),
            user: given(self.user),
            privileged: self.privileged,
        };
        Ok((container, request))
    }
}

/// Runs a command in a container, and returns its exit status, or 0 with `-d`.
pub(crate) fn exec(root: &Path, args: ExecArgs) -> anyhow::Result<u8> {
    let keys = args.detach_keys.read()?;
    let (container, request) = args.request()?;
    check_terminal(request.interactive, request.tty, request.detach)?;
    let session = Engine::open(root)?.exec(&container, &request)?;
    if request.detach {
        return Ok(0);
    }
    attach(session, request.interactive, SigProxyArg { sig_proxy: true }, keys)
}

#[cfg(test)]
mod tests {
    use crate::cli::{Verb, parse};

    fn request(words: &[&str]) -> (String, engine::ExecRequest) {
        let args = ["runtime-bin", "exec"].iter().chain(words).map(Into::into).collect();
        match parse(args).unwrap().verb {
            Verb::Exec(args) => args.into_inner().request().unwrap(),
            _ => unreachable!(),
        }
    }

    #[test]
    fn options_end_at_the_container() {
        let (container, request) =
            request(&["-it", "-e", "A=b", "web", "sh", "-c", "-d", "--", "x"]);
        assert_eq!(container, "web");
        assert_eq!(request.command, ["sh", "-c", "-d", "--", "x"]);
        assert!(request.interactive && request.tty && !request.detach);
        assert_eq!(request.env, ["A=b"]);
        assert_eq!((request.user, request.workdir), (None, None));
    }

    #[test]
    fn every_option_is_read() {
        let (_, request) =
            request(&["-d", "-u", "-1", "-w", "/srv", "--privileged", "web", "true"]);
        assert!(request.privileged);
        assert!(request.detach && !request.interactive && !request.tty);
        assert_eq!(request.user.as_deref(), Some("-1"));
        assert_eq!(request.workdir.as_deref(), Some("/srv"));
    }

    #[test]
    fn a_command_is_needed() {
        for words in [&["runtime-bin", "exec"][..], &["runtime-bin", "exec", "web"]] {
            assert!(parse(words.iter().map(Into::into).collect()).is_err(), "{words:?}");
        }
    }
}
