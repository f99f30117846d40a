//! The usual command lines of `run` and `exec`, read at once ([`crate::words`]): `run` alone has eighty options to be
//! described, and few of them are used.

use std::ffi::OsString;

use crate::cli::{Cli, ROOT, Verb};
use crate::exec::ExecArgs;
use crate::log::{Level, LogFormat};
use crate::run::RunArgs;
use crate::words::{Given, Known, Takes};

const GLOBAL: &[Known] = &[
    ("root", None, Takes::Value),
    ("log-level", None, Takes::Value),
    ("log-format", None, Takes::Value),
];

/// The command line, where it is such a one; `words` are those after the program's name.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Option<Cli> {
    let mut given = Given::of(words)?;
    given.read(&[GLOBAL], 1)?;
    let verb = match &given.plain.pop()?[..] {
        "run" => {
            let rest = given.rest(&[GLOBAL, RunArgs::QUICK])?;
            Verb::Run(RunArgs::quick(&given, rest).into())
        }
        "exec" => {
            let rest = given.rest(&[GLOBAL, ExecArgs::QUICK]).filter(|rest| rest.len() >= 2)?;
            Verb::Exec(ExecArgs::quick(&given, rest).into())
        }
        _ => return None,
    };
    Some(Cli {
        root: given.path("root").unwrap_or_else(|| ROOT.into()),
        log_level: given.one_of("log-level", Level::default())?,
        log_format: given.one_of("log-format", LogFormat::default())?,
        quiet: false,
        version: None,
        verb,
    })
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, FromArgMatches as _};
    use proptest::prelude::*;

    use super::*;

    fn clap(words: &[&str]) -> Result<String, String> {
        let read = Cli::command().try_get_matches_from([&["runtime-bin"], words].concat());
        let parsed = read.and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
        parsed.map(|cli| format!("{cli:?}")).map_err(|error| error.to_string())
    }

    fn quick(words: &[&str]) -> Option<String> {
        parse(words.iter().map(OsString::from)).map(|cli| format!("{cli:?}"))
    }

    #[test]
    fn what_is_usual_is_read() {
        for line in [
            "run image.tar",
            "run --rm -it busybox sh -c true --rm -- -x",
            "run -dit --name a b",
            "--root /r run --rm image.tar true",
            "run --root=/r -d --name=a -e A=B -e C=D -v /a:/b:ro -v c:/c -w /b -u 1:2 -h a b",
            "--log-level error --log-format json run --network none --entrypoint sh --read-only --init b",
            "run -l a=b --label=c=d --hostname h --workdir /w --user u --env=A=B=C --volume /a --interactive --tty b",
            "exec -it a sh",
            "exec -d -e A=B -u 0 -w / a sh -c -- -d",
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(quick(&words), Some(clap(&words).unwrap()), "{line}");
        }
    }

    #[test]
    fn the_rest_is_left() {
        for line in [
            "",
            "run",
            "run --rm",
            "run --help",
            "run --rm=true a",
            "run --rm --rm a",
            "run --name a --name b c",
            "run --name= a",
            "run -v a",
            "run -iv /a b",
            "run -e -x b",
            "run -eA=B b",
            "run -m 5m b",
            "run - true",
            "run -- a",
            "--quiet run a",
            "--log-level loud run a",
            "--root a run --root b c",
            "exec a",
            "create a",
            "container run a",
        ] {
            let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
            assert_eq!(quick(&words), None, "{line}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// Whatever is read here is read alike by clap.
        #[test]
        fn both_read_alike(
            before in proptest::sample::subsequence(vec!["--root", "/r", "--log-level", "warn", "--log-format=json"], 0..4),
            verb in proptest::sample::select(vec!["run", "exec"]),
            words in proptest::collection::vec(
                prop_oneof![
                    4 => proptest::sample::select(vec![
                        "--rm", "-d", "-it", "-ti", "-dit", "--interactive", "--tty", "--detach", "--init", "--read-only",
                        "-t", "-i", "--rm=true", "-ie", "-e", "--env", "--env=A=B", "-v", "--volume=/a:/b", "--name",
                        "--name=x", "--network", "--net", "-u", "--user", "-w", "--workdir=/w", "-h", "--hostname",
                        "--entrypoint", "-l", "--label", "--root", "--log-level", "--", "-", "", "-q", "--pull",
                    ]),
                    3 => proptest::sample::select(vec!["a", "sh", "/p:/q", "A=B", "=", "never", "debug"]),
                ],
                0..8,
            ),
        ) {
            let words = [before, vec![verb], words].concat();
            if let Some(read) = quick(&words) {
                prop_assert_eq!(Ok(read), clap(&words));
            }
        }
    }
}
