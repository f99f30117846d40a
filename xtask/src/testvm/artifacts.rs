//! The workspace's tests as static programs: built by Cargo, told apart by what they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use cargo_metadata::{Artifact, Message, Metadata, MetadataCommand, Package, TargetKind};

use super::protocol::{Kind, Program};
use crate::sh;

/// Static executables, procedural macros and all, need the target named.
const TARGET: &str = "x86_64-unknown-linux-gnu";
const STATIC: &str = "-C target-feature=+crt-static";

/// What was built.
#[derive(Debug)]
pub(super) struct Artifacts {
    /// The programs with tests, in the order to run them.
    pub(super) programs: Vec<Program>,
    /// The workspace's own programs, which tests start.
    pub(super) binaries: Vec<PathBuf>,
    /// `xtask` itself, which is the guest's init.
    pub(super) init: PathBuf,
}

/// The workspace, as Cargo describes it.
pub(super) fn metadata() -> anyhow::Result<Metadata> {
    Ok(MetadataCommand::new().no_deps().manifest_path(sh::root().join("Cargo.toml")).exec()?)
}

/// Builds tests, examples, doc tests and programs of these packages; of all of them, if none is named.
pub(super) fn build(
    metadata: &Metadata,
    packages: &[String],
    doc_tests: &Path,
) -> anyhow::Result<Artifacts> {
    for name in packages {
        if !metadata.packages.iter().any(|package| package.name == *name) {
            bail!("the workspace has no package {name:?}");
        }
    }
    let mut selection = Vec::new();
    for name in packages.iter().map(String::as_str).chain(["xtask"]) {
        selection.extend(["-p", name]);
    }
    if packages.is_empty() {
        selection = vec!["--workspace"];
    }
    let mut found = Artifacts { programs: Vec::new(), binaries: Vec::new(), init: PathBuf::new() };
    // In one command: programs alone would be built without the features that the tests' dependencies switch on, so
    // that most crates would be built twice.
    let mut command = cargo(&["build", "--bins", "--tests", "--examples"]);
    for artifact in messages(command.args(&selection))? {
        take(metadata, packages, artifact, &mut found)?;
    }
    if found.init.as_os_str().is_empty() {
        bail!("`cargo build --bins` built no xtask");
    }
    found.programs.extend(build_doc_tests(metadata, packages, &selection, &found.init, doc_tests)?);
    found.programs.sort_by(|a, b| (rank(a), &a.id).cmp(&(rank(b), &b.id)));
    found.binaries.sort();
    found.binaries.dedup();
    Ok(found)
}

/// Unit tests first, for they say most about what is broken; then integration tests, examples and doc tests.
fn rank(program: &Program) -> u8 {
    match () {
        () if program.id.contains("::doc") => 3,
        () if program.id.contains("::example/") => 2,
        () if program.id.contains("::") => 1,
        () => 0,
    }
}

fn cargo(what: &[&str]) -> Command {
    let mut command = sh::cargo();
    command.args(what).args(["--target", TARGET]);
    command.env("RUSTFLAGS", STATIC).env("RUSTDOCFLAGS", STATIC);
    command
}

/// Runs Cargo and gives the programs that it built.
fn messages(command: &mut Command) -> anyhow::Result<Vec<Artifact>> {
    command.arg("--message-format=json-render-diagnostics");
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("running {}", sh::line(command)))?;
    if !output.status.success() {
        bail!("{} failed: {}", sh::line(command), output.status);
    }
    let mut artifacts = Vec::new();
    for message in Message::parse_stream(&output.stdout[..]) {
        if let Message::CompilerArtifact(artifact) = message.context("reading Cargo's messages")? {
            artifacts.push(artifact);
        }
    }
    Ok(artifacts)
}

fn take(
    metadata: &Metadata,
    packages: &[String],
    artifact: Artifact,
    found: &mut Artifacts,
) -> anyhow::Result<()> {
    let (Some(path), Some(package)) = (
        &artifact.executable,
        metadata.packages.iter().find(|package| package.id == artifact.package_id),
    ) else {
        return Ok(());
    };
    let (name, target) = (&package.name, &artifact.target);
    let is = |kind: TargetKind| target.kind.contains(&kind);
    let id = match () {
        () if is(TargetKind::Example) => format!("{name}::example/{}", target.name),
        () if is(TargetKind::Test) => format!("{name}::{}", target.name),
        () if is(TargetKind::Bin) && !artifact.profile.test => {
            if name.as_str() == "xtask" {
                found.init = path.clone().into();
            }
            found.binaries.push(path.clone().into());
            return Ok(());
        }
        () if is(TargetKind::Bin) && target.name != name.as_str() => {
            format!("{name}::bin/{}", target.name)
        }
        () => name.to_string(),
    };
    if !packages.is_empty() && !packages.iter().any(|wanted| wanted == name.as_str()) {
        return Ok(());
    }
    let harness = artifact.profile.test && !without_harness(package, &target.name)?;
    let kind = if harness { Kind::Harness } else { Kind::Plain };
    found.programs.push(program(package, id, kind, path.clone().into()));
    Ok(())
}

fn program(package: &Package, id: String, kind: Kind, path: PathBuf) -> Program {
    let dir: PathBuf = package.manifest_path.parent().map_or_else(PathBuf::new, Into::into);
    let env = [
        ("CARGO_MANIFEST_DIR", dir.display().to_string()),
        ("CARGO_PKG_NAME", package.name.to_string()),
        ("CARGO_PKG_VERSION", package.version.to_string()),
    ];
    let env = env.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Program { id, kind, path, dir, env }
}

/// Whether the manifest says `harness = false` for this target. `cargo metadata` does not tell.
fn without_harness(package: &Package, target: &str) -> anyhow::Result<bool> {
    let text = fs::read_to_string(&package.manifest_path)
        .with_context(|| format!("reading {}", package.manifest_path))?;
    Ok(harness_is_off(&text, target))
}

pub(super) fn harness_is_off(manifest: &str, target: &str) -> bool {
    let name = format!("name=\"{target}\"");
    manifest.split("\n[").any(|section| {
        let mut lines = section.lines().map(|line| line.replace(' ', ""));
        let head = lines.next().unwrap_or_default();
        let rest: Vec<_> = lines.collect();
        head.ends_with("[test]]")
            && rest.contains(&name)
            && rest.iter().any(|line| line == "harness=false")
    })
}

/// Builds the doc tests. Only rustdoc knows how, and only by running them: so Cargo is given a runner,
/// [`collect_doc_test`], that keeps each program and runs none. `selection` is that of the other tests: with another
/// one, features of dependencies would differ, and Cargo would build them again.
fn build_doc_tests(
    metadata: &Metadata,
    packages: &[String],
    selection: &[&str],
    xtask: &Path,
    dir: &Path,
) -> anyhow::Result<Vec<Program>> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    let mut programs = Vec::new();
    let wanted = |package: &&Package| {
        let listed = packages.is_empty() || packages.iter().any(|name| package.name == *name);
        listed && package.targets.iter().any(|target| target.doctest)
    };
    let chosen: Vec<_> = metadata.packages.iter().filter(wanted).collect();
    if chosen.is_empty() {
        return Ok(programs);
    }
    // The one just built: this program's own file may have been replaced by it.
    let runner =
        serde_json::to_string(&[xtask, Path::new("test-vm"), Path::new("--collect"), dir])?;
    let mut command = cargo(&["test", "--doc"]);
    command.args(["--config", &format!("target.{TARGET}.runner={runner}")]);
    command.args(selection);
    sh::output(&mut command).context("building the doc tests")?;
    for package in chosen {
        let mut files: Vec<PathBuf> = match fs::read_dir(dir.join(package.name.as_str())) {
            Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
            // No doc test that runs.
            Err(_) => continue,
        };
        files.sort();
        for (index, path) in files.into_iter().enumerate() {
            let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            let merged = contains(&bytes, b"RUSTDOC_DOCTEST_BIN_PATH");
            let (id, kind) = if merged {
                (format!("{}::doc", package.name), Kind::DocTests)
            } else {
                (format!("{}::doc/{index}", package.name), Kind::Plain)
            };
            let mut program = program(package, id, kind, path.clone());
            // Each in a process of its own: the merged program starts itself by this path.
            program.env.insert("RUSTDOC_DOCTEST_BIN_PATH".into(), path.display().to_string());
            programs.push(program);
        }
    }
    Ok(programs)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The runner that Cargo calls for each doc test: copies the program into `dir`, under its package's name.
pub(super) fn collect_doc_test(dir: &Path, command: &[String]) -> anyhow::Result<()> {
    let program = command.first().context("Cargo's runner was given no program")?;
    let package =
        std::env::var("CARGO_PKG_NAME").context("rustdoc was started without CARGO_PKG_NAME")?;
    let dir = dir.join(package);
    fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    let to = dir.join(std::process::id().to_string());
    fs::copy(program, &to).with_context(|| format!("copying {program} to {}", to.display()))?;
    Ok(())
}

/// The environment of the guest's tests.
pub(super) fn environment() -> BTreeMap<String, String> {
    [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/root"),
        ("USER", "root"),
        ("SHELL", "/bin/sh"),
        ("TERM", "linux"),
        ("LC_ALL", "C"),
        ("TMPDIR", "/tmp"),
        ("RUST_BACKTRACE", "1"),
        // A kernel does not differ by input: all cases run on the host, some of them in the emulator.
        ("PROPTEST_CASES", "32"),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}
