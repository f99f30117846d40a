//! The command lines that engines write, read at once ([`crate::words`]): what engines call again and again takes no
//! description of options.

use std::ffi::OsString;

use crate::cli::{
    CgroupManager, Cli, CreateArgs, DeleteArgs, ExecArgs, IdArgs, KillArgs, LogFormat, Rootless,
    RunArgs, Verb,
};
use crate::words::{Given, Known, Takes};

const GLOBAL: &[Known] = &[
    ("root", None, Takes::Value),
    ("log", None, Takes::Value),
    ("log-format", None, Takes::Value),
    ("debug", None, Takes::Nothing),
    ("systemd-cgroup", None, Takes::Nothing),
];
/// Before the verb alone.
const ROOTLESS: &[Known] = &[("rootless", None, Takes::Value)];
const CREATE: &[Known] = &[
    ("bundle", Some('b'), Takes::Value),
    ("console-socket", None, Takes::Value),
    ("pid-file", None, Takes::Value),
    ("no-pivot", None, Takes::Nothing),
    ("no-new-keyring", None, Takes::Nothing),
    ("preserve-fds", None, Takes::Value),
];
const RUN: &[Known] = &[("detach", Some('d'), Takes::Nothing), ("keep", None, Takes::Nothing)];
const KILL: &[Known] = &[("all", Some('a'), Takes::Nothing)];
const DELETE: &[Known] = &[("force", Some('f'), Takes::Nothing)];
const EXEC: &[Known] = &[
    ("process", Some('p'), Takes::Value),
    ("console-socket", None, Takes::Value),
    ("pid-file", None, Takes::Value),
    ("cwd", None, Takes::Value),
    ("env", Some('e'), Takes::Values),
    ("tty", Some('t'), Takes::Nothing),
    ("detach", Some('d'), Takes::Nothing),
    ("preserve-fds", None, Takes::Value),
];

/// The command line, where it is such a one; `words` are those after the program's name.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Option<Cli> {
    let mut given = Given::of(words)?;
    given.read(&[GLOBAL, ROOTLESS], 1)?;
    let verb = given.plain.pop()?;
    let verb = match &verb[..] {
        "create" => Verb::Create(given.create(&[GLOBAL, CREATE])?.into()),
        "run" => {
            let create = given.create(&[GLOBAL, CREATE, RUN])?;
            let (detach, keep) = (given.flag("detach"), given.flag("keep"));
            Verb::Run(RunArgs { create, detach, keep, no_subreaper: false }.into())
        }
        "start" => Verb::Start(IdArgs { id: given.id(&[GLOBAL])? }.into()),
        "state" => Verb::State(IdArgs { id: given.id(&[GLOBAL])? }.into()),
        "delete" => {
            let id = given.id(&[GLOBAL, DELETE])?;
            Verb::Delete(DeleteArgs { force: given.flag("force"), regex: false, id }.into())
        }
        "kill" => {
            given.read(&[GLOBAL, KILL], usize::MAX)?;
            let (id, signal) = match &given.plain[..] {
                [id] => (id.clone(), "TERM".to_owned()),
                [id, signal] => (id.clone(), signal.clone()),
                _ => return None,
            };
            Verb::Kill(KillArgs { all: given.flag("all"), id, signal }.into())
        }
        "exec" => Verb::Exec(given.exec()?.into()),
        _ => return None,
    };
    Some(Cli {
        root: given.path("root"),
        log: given.path("log"),
        log_format: given.one_of("log-format", LogFormat::Text)?,
        debug: given.flag("debug"),
        systemd_cgroup: given.flag("systemd-cgroup"),
        cgroup_manager: CgroupManager::Cgroupfs,
        rootless: given.one_of("rootless", Rootless::Auto)?,
        criu: None,
        version: false,
        verb: Some(verb),
    })
}

impl Given {
    /// The one word beside the options `known`.
    fn id(&mut self, known: &[&[Known]]) -> Option<String> {
        self.read(known, usize::MAX)?;
        let id = self.plain.pop()?;
        self.plain.is_empty().then_some(id)
    }

    fn create(&mut self, known: &[&[Known]]) -> Option<CreateArgs> {
        Some(CreateArgs {
            id: self.id(known)?,
            bundle: self.path("bundle").unwrap_or_else(|| ".".into()),
            config: "config.json".into(),
            console_socket: self.path("console-socket"),
            pidfd_socket: None,
            pid_file: self.path("pid-file"),
            no_pivot: self.flag("no-pivot"),
            no_new_keyring: self.flag("no-new-keyring"),
            preserve_fds: self.number("preserve-fds")?,
        })
    }

    fn exec(&mut self) -> Option<ExecArgs> {
        let mut command = self.rest(&[GLOBAL, EXEC])?;
        let id = command.remove(0);
        // Whose is an option here?
        if command.first().is_some_and(|word| word.starts_with('-')) {
            return None;
        }
        Some(ExecArgs {
            console_socket: self.path("console-socket"),
            pidfd_socket: None,
            cwd: self.value("cwd"),
            env: self.values("env"),
            tty: self.flag("tty"),
            user: None,
            additional_gids: Vec::new(),
            process: self.path("process"),
            detach: self.flag("detach"),
            pid_file: self.path("pid-file"),
            process_label: None,
            apparmor: None,
            no_new_privs: false,
            cap: Vec::new(),
            preserve_fds: self.number("preserve-fds")?,
            cgroup: Vec::new(),
            ignore_paused: false,
            id,
            command,
        })
    }

    /// 0 if it is not given; `None` if it is no number.
    fn number(&self, name: &str) -> Option<u32> {
        match self.value(name) {
            Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
            Some(_) => None,
            None => Some(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use proptest::prelude::*;

    use super::*;

    fn clap(words: &[&str]) -> Result<String, String> {
        let parsed = Cli::try_parse_from([&["runtime-oci"], words].concat());
        parsed.map(|cli| format!("{cli:?}")).map_err(|error| error.to_string())
    }

    fn quick(words: &[&str]) -> Option<String> {
        parse(words.iter().map(OsString::from)).map(|cli| format!("{cli:?}"))
    }

    /// As Podman (conmon), containerd's shim, CRI-O and a shell's user write them.
    #[test]
    fn what_engines_write_is_read() {
        for line in [
            "--root /r --log /l --log-format json --systemd-cgroup create --bundle /b --pid-file /p 1f",
            "--log-format=json --log=/l --rootless=true create --bundle /b --pid-file /p --console-socket /c 1f",
            "create -b /b --no-pivot --no-new-keyring --preserve-fds 3 1f",
            "--root /r --log /l --log-format json start 1f",
            "start 1f",
            "--root /r state 1f",
            "--root /r --log /l --log-format json kill 1f 9",
            "kill 1f KILL",
            "kill --all 1f 15",
            "kill 1f",
            "--root /r --log /l --log-format json delete --force 1f",
            "delete 1f",
            "delete -f 1f",
            "run -b /b --detach 1f",
            "run 1f --keep --debug",
            "--root /r exec --process /p --pid-file /f --detach 1f",
            "exec --process /p --console-socket /c --tty -d 1f",
            "exec -t -e A=B --env C=D 1f sh -c true --root",
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(quick(&words), Some(clap(&words).unwrap()), "{line}");
        }
    }

    #[test]
    fn the_rest_is_left() {
        for line in [
            "",
            "--help",
            "run",
            "run --help",
            "run a b",
            "run --bundle a",
            "--root --debug run a",
            "create --detach a",
            "run --no-subreaper a",
            "run --debug=true a",
            "run -db /b a",
            "--root a --root b state c",
            "--root= state c",
            "--root a state --root b c",
            "exec a -d sh",
            "exec a -- sh",
            "run -- a",
            "kill a -9",
            "kill a b c",
            "ps a",
            "run --preserve-fds -1 a",
            "run --preserve-fds +1 a",
            "--log-format xml state a",
            "--rootless x state a",
            "state --rootless true a",
            "exec -e=A a sh",
        ] {
            let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
            assert_eq!(quick(&words), None, "{line}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        /// Whatever is read here is read alike by clap.
        #[test]
        fn both_read_alike(
            words in proptest::collection::vec(
                prop_oneof![
                    3 => proptest::sample::select(vec!["run", "create", "start", "state", "kill", "delete", "exec"]),
                    3 => proptest::sample::select(vec![
                        "--root", "--root=/r", "--log", "--log-format", "json", "text", "--debug", "--systemd-cgroup",
                        "--rootless", "auto", "--bundle", "-b", "--pid-file", "--console-socket", "--no-pivot", "-d",
                        "--detach", "--keep", "--force", "-f", "--all", "-a", "--process", "-p", "--tty", "-t",
                        "--preserve-fds", "3", "--cwd", "-e", "--env", "-td", "--no-new-keyring", "--config", "-bd", "--", "-", "",
                    ]),
                    3 => proptest::sample::select(vec!["a", "sh", "/p", "9", "TERM"]),
                ],
                0..9,
            ),
        ) {
            if let Some(read) = quick(&words) {
                prop_assert_eq!(Ok(read), clap(&words));
            }
        }
    }
}
