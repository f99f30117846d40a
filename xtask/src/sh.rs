//! Running commands: a failure shows the command and what it said.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The command as a person would type it.
pub(crate) fn line(command: &Command) -> String {
    let mut words = vec![quote(command.get_program())];
    words.extend(command.get_args().map(quote));
    words.join(" ")
}

fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else if word.contains('\'') && !word.contains(['"', '$', '`', '\\', '!']) {
        format!("\"{word}\"")
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Runs a command with this process's own output. An exit status other than 0 is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", line(command));
    }
    Ok(())
}

/// Runs a command, its words as they are typed, without input, and without what it says to standard output.
pub(crate) fn quietly(words: &[String]) -> Result<()> {
    let mut command = Command::new(&words[0]);
    run(command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()))
}

/// Runs a command and gives its standard output. An exit status other than 0 is an error that
/// holds what the command wrote to standard error.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run `{}`", line(command)))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        bail!("`{}` failed: {}\n{}", line(command), done.status, said.trim_end());
    }
    Ok(done.stdout)
}

/// As [`output`], as text.
pub(crate) fn text(command: &mut Command) -> Result<String> {
    let bytes = output(command)?;
    String::from_utf8(bytes).with_context(|| format!("`{}` did not print UTF-8", line(command)))
}

/// The path of a program in `PATH` or in the directories for the superuser's programs.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// The workspace's root directory.
pub(crate) fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Cargo's target directory, as it is configured (`CARGO_TARGET_DIR`, `.cargo/config.toml`).
pub(crate) fn target() -> Result<PathBuf> {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("cannot ask cargo for the target directory")?;
    Ok(metadata.target_directory.into_std_path_buf())
}

/// Builds for release, static, what `what` names to cargo, and gives the directory in which it is.
pub(crate) fn release(target: &Path, what: &[&str]) -> Result<PathBuf> {
    build(&[&["--release"], what].concat())?;
    Ok(target.join(triple()).join("release"))
}

/// The same of one program, and gives it and the linker's map of it, which changes nothing in it.
pub(crate) fn with_map(target: &Path, package: &str, program: &str) -> Result<(PathBuf, PathBuf)> {
    let built = target.join(triple()).join("release").join(program);
    let map = built.with_extension("map");
    let mut option = OsString::from("link-arg=-Map=");
    option.push(&map);
    let mut cargo = cargo();
    cargo.arg("rustc").args(["--release", "--package", package, "--bin", program]);
    cargo.args(["--target", &triple(), "--", "-C", "link-arg=-Xlinker", "-C"]).arg(option);
    build_by(cargo)?;
    Ok((built, map))
}

/// The same with the development profile.
pub(crate) fn debug(target: &Path, what: &[&str]) -> Result<PathBuf> {
    build(what)?;
    Ok(debug_dir(target))
}

/// Where [`debug`] builds, and where `.ci/run` does.
pub(crate) fn debug_dir(target: &Path) -> PathBuf {
    target.join(triple()).join("debug")
}

fn triple() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// Cargo, in the workspace's root, as a person would call it. What the cargo that runs xtask says of xtask's own package
/// is left out: build scripts that look at it (ring's does) would run again, and all that stands on them be built again,
/// each time that a task follows a command or the other way round.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let of_package =
        |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(of_package) {
            cargo.env_remove(name);
        }
    }
    cargo.current_dir(root());
    cargo
}

fn build(what: &[&str]) -> Result<()> {
    let mut cargo = cargo();
    cargo.args(["build", "--target", &triple()]).args(what);
    build_by(cargo)
}

fn build_by(mut cargo: Command) -> Result<()> {
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
    println!("RUSTFLAGS='-C target-feature=+crt-static' {}", line(&cargo));
    run(&mut cargo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_can_be_pasted() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo it's", "it's $1", "", "a=b"]);
        assert_eq!(line(&command), r#"sh -c "echo it's" 'it'\''s $1' '' a=b"#);
    }

    #[test]
    fn a_cargo_of_a_task_hears_nothing_of_xtask() {
        assert!(std::env::var_os("CARGO_PKG_NAME").is_some(), "this test is run by cargo");
        let cargo = cargo();
        let removed: Vec<_> = cargo.get_envs().filter(|(_, value)| value.is_none()).collect();
        assert!(removed.contains(&(OsStr::new("CARGO_PKG_NAME"), None)), "{removed:?}");
        assert!(removed.contains(&(OsStr::new("CARGO_MANIFEST_DIR"), None)), "{removed:?}");
        assert_eq!(cargo.get_program(), std::env::var_os("CARGO").unwrap_or("cargo".into()));
    }

    #[test]
    fn a_failure_shows_what_was_said() {
        let error = output(Command::new("sh").args(["-c", "echo no >&2; exit 3"]));
        let error = format!("{:#}", error.expect_err("exit 3"));
        assert!(error.contains("no") && error.contains("exit status: 3"), "{error}");
        let error = output(&mut Command::new("/nowhere")).expect_err("no such program");
        assert!(format!("{error:#}").contains("cannot run `/nowhere`"));
    }
}
