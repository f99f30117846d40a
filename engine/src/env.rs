//! The environment: what the user, the image and the engine say, by Docker's rules.

use crate::error::shorten;
use crate::{Container, Error};

/// `PATH` where neither the user nor the image says one (Docker's default).
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What `-e` says, with the caller's values for bare names; a bare name that the caller does not
/// have stays bare, and removes the variable.
///
/// # Errors
/// A variable without a name, or a value of the caller that is no text ([`Error::Invalid`]).
pub(crate) fn typed(
    typed: &[String],
    caller: impl Fn(&str) -> Option<std::ffi::OsString>,
) -> Result<Vec<String>, Error> {
    let one = |entry: &String| {
        if name(entry).is_empty() {
            return Err(Error::invalid("environment variable", entry, "it has no name"));
        }
        check(entry)?;
        if entry.contains('=') {
            return Ok(entry.clone());
        }
        match caller(entry).map(std::ffi::OsString::into_string) {
            None => Ok(entry.clone()),
            Some(Ok(value)) => Ok(format!("{entry}={value}")),
            Some(Err(_)) => {
                let why = "its value here is not UTF-8; give the value with -e NAME=VALUE";
                Err(Error::invalid("environment variable", entry, why))
            }
        }
    };
    typed.iter().map(one).collect()
}

/// The user's variables, then the image's that the user does not name: Docker's `.Config.Env`.
///
/// # Errors
/// One of the image's cannot be handed to a program ([`Error::Invalid`]).
pub(crate) fn merge(user: Vec<String>, image: &[String]) -> Result<Vec<String>, Error> {
    let mut merged = user;
    let typed = merged.len();
    for entry in image {
        check(entry)?;
        if !merged[..typed].iter().any(|other| name(other) == name(entry)) {
            merged.push(entry.clone());
        }
    }
    Ok(merged)
}

/// What a process of the container gets: `PATH`, `HOSTNAME` and, with a terminal, `TERM`; over them
/// `.Config.Env`, over it `more` (of `exec`), and `HOME` where none of them has one.
pub(crate) fn process(
    container: &Container,
    tty: bool,
    more: &[String],
    home: &str,
) -> Vec<String> {
    let mut env = vec![format!("PATH={PATH}"), format!("HOSTNAME={}", container.config.hostname)];
    if tty {
        env.push("TERM=xterm".to_owned());
    }
    for entry in container.config.env.iter().chain(more) {
        let place = env.iter().position(|other| name(other) == name(entry));
        match (entry.contains('='), place) {
            (true, Some(at)) => env[at].clone_from(entry),
            (true, None) => env.push(entry.clone()),
            (false, Some(at)) => drop(env.remove(at)),
            (false, None) => {}
        }
    }
    // As runc: an empty one counts as none.
    env.retain(|entry| entry != "HOME=");
    if !env.iter().any(|entry| name(entry) == "HOME") {
        env.push(format!("HOME={home}"));
    }
    env
}

fn name(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

fn check(entry: &str) -> Result<(), Error> {
    if entry.contains('\0') {
        let value = shorten(entry);
        return Err(Error::invalid("environment variable", &value, "it has a NUL byte in it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    fn strings(entries: &[&str]) -> Vec<String> {
        entries.iter().map(|&entry| entry.to_owned()).collect()
    }

    #[test]
    fn bare_names_take_the_callers_value() {
        let caller = |name: &str| match name {
            "HERE" => Some("a=b".into()),
            "BYTES" => Some(OsString::from_vec(vec![0xff])),
            _ => None,
        };
        let typed = |entries: &[&str]| typed(&strings(entries), caller);
        assert_eq!(
            typed(&["A=1", "HERE", "GONE", "EMPTY="]).unwrap(),
            ["A=1", "HERE=a=b", "GONE", "EMPTY="]
        );
        for (bad, why) in [("=x", "no name"), ("", "no name"), ("BYTES", "UTF-8"), ("A=\0", "NUL")]
        {
            let error = typed(&[bad]).unwrap_err().to_string();
            assert!(error.starts_with("invalid environment variable"), "{error}");
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn the_user_wins_over_the_image() {
        let image = strings(&["PATH=/bin", "A=image", "B=image"]);
        let merged = merge(strings(&["A=user", "B"]), &image).unwrap();
        assert_eq!(merged, ["A=user", "B", "PATH=/bin"]);
        merge(vec![], &strings(&["A=\0"])).unwrap_err();
    }

    #[test]
    fn a_process_has_the_defaults_where_nothing_else_is_said() {
        let mut container = testing::container();
        container.config.hostname = "h".into();
        container.config.env = vec![];
        assert_eq!(
            process(&container, true, &[], "/root"),
            [&format!("PATH={PATH}")[..], "HOSTNAME=h", "TERM=xterm", "HOME=/root"]
        );
        container.config.env = strings(&["A=1", "PATH=/p", "HOSTNAME", "HOME=/h", "A=2"]);
        let more = strings(&["A=3", "C=4", "PATH"]);
        assert_eq!(process(&container, false, &[], "/"), ["PATH=/p", "A=2", "HOME=/h"]);
        assert_eq!(process(&container, false, &more, "/"), ["A=3", "HOME=/h", "C=4"]);
        container.config.env = strings(&["HOME="]);
        assert!(process(&container, false, &[], "/x").contains(&"HOME=/x".to_owned()));
    }

    proptest::proptest! {
        #[test]
        fn no_name_is_there_twice_and_all_have_values(
            env in proptest::collection::vec("[A-C]{1,2}(=[a-c=]{0,2})?", 0..12),
            more in proptest::collection::vec("[A-C]{1,2}(=[a-c=]{0,2})?", 0..12),
        ) {
            let mut container = testing::container();
            container.config.env = env.clone();
            let result = process(&container, false, &more, "/");
            let names: std::collections::HashSet<&str> = result.iter().map(|e| name(e)).collect();
            proptest::prop_assert_eq!(names.len(), result.len());
            proptest::prop_assert!(result.iter().all(|entry| entry.contains('=')));
            for entry in &result {
                let last = env.iter().chain(&more).rfind(|other| name(other) == name(entry));
                proptest::prop_assert!(last.is_none_or(|last| last == entry));
            }
        }
    }
}
