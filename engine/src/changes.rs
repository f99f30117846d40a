//! `--change`: the instructions of a Dockerfile that alter an image's configuration, for `commit` and `import`.

mod words;

use serde_json::{Map, Value, json};

use crate::error::shorten;
use crate::{Error, config, signal};
use words::{Variables, split, word};

/// An image's `config`, by Docker's keys.
pub(crate) type ImageConfig = Map<String, Value>;

/// Makes the changes, in their order. Each may be of several lines.
///
/// # Errors
/// One that is no instruction, or none that can be made without a build, or whose words break its rules
/// ([`Error::Change`]).
pub(crate) fn apply(config: &mut ImageConfig, changes: &[String]) -> Result<(), Error> {
    // An entry point of its own takes the image's CMD away, unless there is one among the changes too.
    let mut has_cmd = false;
    for line in changes.iter().flat_map(|change| change.lines()).map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let failed = |why: String| Error::Change { change: shorten(line), why };
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        if rest.is_empty() {
            return Err(failed(format!("{} needs a value behind it", shorten(name))));
        }
        instruction(config, &name.to_ascii_uppercase(), rest, &mut has_cmd).map_err(failed)?;
    }
    Ok(())
}

fn instruction(
    config: &mut ImageConfig,
    name: &str,
    rest: &str,
    has_cmd: &mut bool,
) -> Result<(), String> {
    let env = env_of(config);
    let variables = Variables(&env);
    match name {
        "CMD" => {
            let command = command(config, rest);
            set(config, "Cmd", json!(command));
            *has_cmd = true;
        }
        "ENTRYPOINT" => {
            let command = command(config, rest);
            set(
                config,
                "Entrypoint",
                if command.is_empty() { Value::Null } else { json!(command) },
            );
            if !*has_cmd {
                config.remove("Cmd");
            }
        }
        "ENV" => {
            for (key, value) in pairs(rest, variables)? {
                set_env(config, &key, &value);
            }
        }
        "LABEL" => {
            let pairs = pairs(rest, variables)?;
            extend(config, "Labels", pairs.into_iter().map(|(key, value)| (key, json!(value))));
        }
        "EXPOSE" => {
            for port in split(rest, variables)? {
                let ports = ports(&port)?;
                extend(config, "ExposedPorts", ports.into_iter().map(|port| (port, json!({}))));
            }
        }
        "VOLUME" => {
            let paths = match array(rest) {
                Some(paths) => paths,
                None => split(rest, variables)?,
            };
            for path in paths {
                if path.trim().is_empty() {
                    return Err("VOLUME specified can not be an empty string".to_owned());
                }
                extend(config, "Volumes", [(path, json!({}))]);
            }
        }
        "USER" => set(config, "User", json!(one(rest, variables)?)),
        "WORKDIR" => {
            let path = one(rest, variables)?;
            let before = config.get("WorkingDir").and_then(Value::as_str).unwrap_or("/");
            let path = if path.starts_with('/') { path } else { format!("{before}/{path}") };
            let path = config::clean(&format!("/{path}"));
            set(config, "WorkingDir", json!(path));
        }
        "STOPSIGNAL" => {
            let name = one(rest, variables)?;
            signal::parse(&name).map_err(|error| error.to_string())?;
            set(config, "StopSignal", json!(name));
        }
        "ONBUILD" => {
            let trigger = rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            if matches!(&trigger[..], "ONBUILD" | "FROM" | "MAINTAINER") {
                return Err(format!("{trigger} isn't allowed as an ONBUILD trigger"));
            }
            let triggers = config.entry("OnBuild").or_insert(Value::Null);
            let mut all = triggers.as_array().cloned().unwrap_or_default();
            all.push(json!(rest));
            *triggers = Value::Array(all);
        }
        "HEALTHCHECK" => {
            let check = healthcheck(rest)?;
            set(config, "Healthcheck", check);
        }
        _ => {
            return Err(format!(
                "{} is not a valid change command; there are CMD, ENTRYPOINT, ENV, EXPOSE, \
                 HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR",
                shorten(name)
            ));
        }
    }
    Ok(())
}

fn set(config: &mut ImageConfig, key: &str, value: Value) {
    config.insert(key.to_owned(), value);
}

/// Puts these into the object at `key`, made where there is none.
fn extend(config: &mut ImageConfig, key: &str, items: impl IntoIterator<Item = (String, Value)>) {
    let mut map = match config.remove(key) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    map.extend(items);
    set(config, key, Value::Object(map));
}

/// An array of strings in JSON.
fn array(text: &str) -> Option<Vec<String>> {
    if text.starts_with('[') { serde_json::from_str(text).ok() } else { None }
}

/// The words of an array, or all of it for a shell.
fn command(config: &ImageConfig, text: &str) -> Vec<String> {
    if let Some(words) = array(text) {
        return words;
    }
    let shell = config.get("Shell").and_then(|shell| serde_json::from_value(shell.clone()).ok());
    let mut words: Vec<String> = shell
        .filter(|words: &Vec<String>| !words.is_empty())
        .unwrap_or_else(|| ["/bin/sh", "-c"].map(str::to_owned).into());
    words.push(text.to_owned());
    words
}

/// A value that is one word.
fn one(text: &str, variables: Variables<'_>) -> Result<String, String> {
    let value = word(text, variables)?;
    if value.is_empty() {
        return Err("its value is empty".to_owned());
    }
    Ok(value)
}

/// `a=b c=d`, or `a b` for one.
fn pairs(text: &str, variables: Variables<'_>) -> Result<Vec<(String, String)>, String> {
    let first = text.split_whitespace().next().unwrap_or_default();
    if !first.contains('=') {
        let (key, value) = text
            .split_once(char::is_whitespace)
            .ok_or_else(|| format!("{} has no value: write KEY=VALUE", shorten(text)))?;
        return Ok(vec![(word(key, variables)?, word(value.trim(), variables)?)]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("can't find = in {:?}. Must be of the form: name=value", shorten(&word))),
    };
    split(text, variables)?.into_iter().map(pair).collect()
}

fn env_of(config: &ImageConfig) -> Vec<String> {
    let env = config.get("Env").and_then(Value::as_array).into_iter().flatten();
    env.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Gives a variable its value, where it stands or at the end.
fn set_env(config: &mut ImageConfig, key: &str, value: &str) {
    let mut env = env_of(config);
    let line = format!("{key}={value}");
    match env.iter_mut().find(|old| old.split('=').next() == Some(key)) {
        Some(old) => *old = line,
        None => env.push(line),
    }
    set(config, "Env", json!(env));
}

/// `80`, `80/udp`, `80-82/tcp`, each with its protocol.
fn ports(text: &str) -> Result<Vec<String>, String> {
    let bad = || format!("{:?} is no port: write 80, 80/udp or 8000-8010/tcp", shorten(text));
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(&protocol[..], "tcp" | "udp" | "sctp") {
        return Err(bad());
    }
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let number = |text: &str| text.parse::<u16>().map_err(|_| bad());
    let (first, last) = (number(first)?, number(last)?);
    if first == 0 || last < first {
        return Err(bad());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// `NONE`, or `[--interval=30s --timeout=3s --start-period=5s --start-interval=1s --retries=3] CMD …`.
fn healthcheck(text: &str) -> Result<Value, String> {
    let mut check = Map::new();
    let mut rest = text;
    while rest.starts_with("--") {
        let (option, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        rest = after.trim_start();
        let (name, value) = option
            .split_once('=')
            .ok_or_else(|| format!("the option {} has no value", shorten(option)))?;
        let key = match name {
            "--interval" => "Interval",
            "--timeout" => "Timeout",
            "--start-period" => "StartPeriod",
            "--start-interval" => "StartInterval",
            "--retries" => {
                let retries: u32 =
                    value.parse().map_err(|_| "--retries wants a number".to_owned())?;
                check.insert("Retries".to_owned(), json!(retries));
                continue;
            }
            _ => return Err(format!("there is no option {}", shorten(name))),
        };
        let nanoseconds = words::duration(value)
            .ok_or_else(|| format!("{name} wants a time as 30s or 1m30s, and no {value:?}"))?;
        check.insert(key.to_owned(), json!(nanoseconds));
    }
    let (kind, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let rest = rest.trim();
    let test = match (kind.to_ascii_uppercase().as_str(), rest.is_empty()) {
        ("NONE", true) => vec!["NONE".to_owned()],
        ("CMD", false) => match array(rest) {
            Some(mut words) => {
                words.insert(0, "CMD".to_owned());
                words
            }
            None => vec!["CMD-SHELL".to_owned(), rest.to_owned()],
        },
        _ => return Err("it is neither NONE nor CMD and a command".to_owned()),
    };
    check.insert("Test".to_owned(), json!(test));
    Ok(Value::Object(check))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(base: Value, changes: &[&str]) -> Value {
        let mut config = base.as_object().cloned().unwrap();
        let changes: Vec<String> = changes.iter().map(|&text| text.to_owned()).collect();
        apply(&mut config, &changes).unwrap();
        Value::Object(config)
    }

    #[test]
    fn each_instruction_changes_what_it_names() {
        for (change, key, expected) in [
            ("CMD [\"a\", \"b c\"]", "Cmd", json!(["a", "b c"])),
            ("cmd echo $X", "Cmd", json!(["/bin/sh", "-c", "echo $X"])),
            ("ENTRYPOINT [\"/x\"]", "Entrypoint", json!(["/x"])),
            ("ENTRYPOINT []", "Entrypoint", Value::Null),
            ("ENV A=1 B=\"2 3\" C=${X}y", "Env", json!(["X=old", "A=1", "B=2 3", "C=oldy"])),
            ("ENV X new value", "Env", json!(["X=new value"])),
            ("LABEL a.b=c \"d e\"='f'", "Labels", json!({"k": "v", "a.b": "c", "d e": "f"})),
            (
                "EXPOSE 80 53/udp 8000-8001",
                "ExposedPorts",
                json!({"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}}),
            ),
            ("VOLUME /a /b", "Volumes", json!({"/a": {}, "/b": {}})),
            ("VOLUME [\"/a b\"]", "Volumes", json!({"/a b": {}})),
            ("USER nobody:nogroup", "User", json!("nobody:nogroup")),
            ("WORKDIR sub/../x", "WorkingDir", json!("/w/x")),
            ("WORKDIR /y", "WorkingDir", json!("/y")),
            ("STOPSIGNAL SIGQUIT", "StopSignal", json!("SIGQUIT")),
            ("ONBUILD RUN x", "OnBuild", json!(["RUN x"])),
            ("HEALTHCHECK NONE", "Healthcheck", json!({"Test": ["NONE"]})),
            (
                "HEALTHCHECK --interval=1m30s --retries=2 CMD curl -f x",
                "Healthcheck",
                json!({"Interval": 90_000_000_000_u64, "Retries": 2, "Test": ["CMD-SHELL", "curl -f x"]}),
            ),
        ] {
            let base = json!({"Env": ["X=old"], "Labels": {"k": "v"}, "WorkingDir": "/w"});
            assert_eq!(changed(base, &[change])[key], expected, "{change}");
        }
    }

    #[test]
    fn an_entry_point_takes_the_images_cmd_away_and_not_ones_own() {
        let base = json!({"Cmd": ["old"]});
        assert_eq!(changed(base.clone(), &["ENTRYPOINT x"]).get("Cmd"), None);
        let both = changed(base.clone(), &["CMD new", "ENTRYPOINT x"]);
        assert_eq!(both["Cmd"], json!(["/bin/sh", "-c", "new"]));
        assert_eq!(changed(base, &["# nothing\n\nUSER a\nUSER b"])["User"], "b");
    }

    #[test]
    fn what_is_no_change_is_said() {
        for (change, word) in [
            ("RUN x", "valid change command"),
            ("CMD", "needs a value"),
            ("ENV A", "KEY=VALUE"),
            ("ENV A=1 B", "name=value"),
            ("ENV A=\"1", "quote"),
            ("EXPOSE 0", "port"),
            ("EXPOSE 90-80", "port"),
            ("EXPOSE 80/icmp", "port"),
            ("STOPSIGNAL NONSENSE", "NONSENSE"),
            ("ONBUILD FROM x", "trigger"),
            ("HEALTHCHECK CMD", "neither"),
            ("HEALTHCHECK --interval=x CMD y", "interval"),
            ("HEALTHCHECK --nope=1 CMD y", "--nope"),
            ("USER $NOTHING", "empty"),
        ] {
            let error = apply(&mut Map::new(), &[change.to_owned()]).unwrap_err().to_string();
            assert!(error.contains(word), "{change}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_change_panics(name in "CMD|ENV|LABEL|EXPOSE|VOLUME|USER|WORKDIR|HEALTHCHECK|ENTRYPOINT", rest in ".{0,40}") {
            let _ = apply(&mut Map::new(), &[format!("{name} {rest}")]);
        }
    }
}
