//! `cargo xtask tidy`: the rules of the source tree that the compiler does not know.

mod named;
mod text;

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, TargetKind};

use crate::sh;

/// Which crate of the workspace may stand on which: an edge that is not here is a finding, a row
/// may be wider than what is. ARCHITECTURE.md repeats this table and says why.
const EDGES: &[(&str, &[&str])] = &[
    ("sys", &[]),
    ("ns-core", &["sys"]),
    ("overlay", &["sys"]),
    ("bindvol", &["sys"]),
    ("pivot", &["sys"]),
    ("cgroup", &["sys"]),
    ("seccomp-oci", &["sys"]),
    ("systemd", &["cgroup"]),
    ("erofs-index", &[]),
    ("image-unpack", &["sys", "erofs-index"]),
    ("image-store", &["image-unpack", "overlay", "sys"]),
    ("image-pull", &["image-store"]),
    (
        "oci-runtime",
        &["ns-core", "overlay", "bindvol", "pivot", "cgroup", "seccomp-oci", "systemd", "sys"],
    ),
    (
        "engine",
        &[
            "image-store",
            "image-pull",
            "oci-runtime",
            "overlay",
            "bindvol",
            "cgroup",
            "ns-core",
            "seccomp-oci",
            "sys",
        ],
    ),
    ("runtime-bin", &["engine", "oci-runtime", "sys"]),
    (
        "fuzz",
        &[
            "engine",
            "oci-runtime",
            "image-pull",
            "image-unpack",
            "erofs-index",
            "bindvol",
            "seccomp-oci",
            "sys",
        ],
    ),
    ("xtask", &[]),
];

/// Crates of others that only these crates may use, and why.
const ONLY_IN: &[(&str, &[&str], &str)] = &[
    ("libc", &["sys", "ns-core"], "system calls are rustix's, and what it lacks is in sys"),
    (
        "oci-spec",
        &["image-unpack", "image-store", "oci-runtime", "engine"],
        "the others know nothing of the specifications",
    ),
    ("anyhow", &["runtime-bin", "xtask"], "libraries have errors with types"),
    ("zvariant", &["systemd"], "only who asks systemd speaks D-Bus"),
    ("ureq", &["image-pull"], "only who pulls speaks to the network"),
    ("rustls", &["image-pull"], "only who pulls speaks to the network"),
];

/// The crates that may hold `unsafe`.
const UNSAFE: &[&str] = &["sys", "ns-core"];

const FILE_LINES: usize = 500;
const ARCHITECTURE_LINES: usize = 200;

/// The command line of `cargo xtask tidy`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {}

/// A rule that is broken, and where.
#[derive(Debug, PartialEq)]
struct Finding {
    path: PathBuf,
    /// From 1.
    line: usize,
    sentence: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.sentence)
    }
}

fn finding(path: impl Into<PathBuf>, line: usize, sentence: impl Into<String>) -> Finding {
    Finding { path: path.into(), line, sentence: sentence.into() }
}

/// What the checks need to know of a crate of the workspace. Paths are relative to its root.
#[derive(Debug, Default)]
struct Member {
    name: String,
    folder: PathBuf,
    /// Names of the normal and build dependencies.
    uses: Vec<String>,
    /// The root files of its libraries and programs.
    roots: Vec<PathBuf>,
    library: bool,
    examples: Vec<String>,
}

/// Runs `cargo xtask tidy`.
pub(crate) fn run(_args: Args) -> Result<()> {
    let root = sh::root();
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("cannot ask cargo for the workspace's crates")?;
    let members = members(&metadata, root);
    let mut findings = edges(&members);
    findings.extend(example_names(&members));
    for member in &members {
        findings.extend(files_of(member, root)?);
    }
    findings.extend(documents(root)?);
    let mut files = Vec::new();
    list(root, Path::new(""), &mut files)?;
    for file in &files {
        let bytes =
            fs::read(root.join(file)).with_context(|| format!("cannot read {}", file.display()))?;
        if let Ok(text) = String::from_utf8(bytes) {
            let member = members.iter().find(|member| file.starts_with(&member.folder));
            let may_be_unsafe = member.is_some_and(|member| UNSAFE.contains(&&member.name[..]));
            findings.extend(text::check(file, &text, may_be_unsafe));
            if file.starts_with("docs") {
                let source = |path: &Path| fs::read_to_string(root.join(path)).ok();
                findings.extend(named::check(file, &text, source));
            }
        }
    }
    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => {
            println!("tidy: {} crates, {} files", members.len(), files.len());
            Ok(())
        }
        count => bail!("tidy: {count} findings"),
    }
}

fn members(metadata: &Metadata, root: &Path) -> Vec<Member> {
    let below = |path: &Path| path.strip_prefix(root).unwrap_or(path).to_owned();
    let member = |package: &Package| {
        let of_kind = |kind: TargetKind| {
            package.targets.iter().filter(move |target| target.kind.contains(&kind))
        };
        let programs = of_kind(TargetKind::Lib).chain(of_kind(TargetKind::Bin));
        Member {
            name: package.name.to_string(),
            folder: below(package.manifest_path.as_std_path().parent().unwrap_or(root)),
            uses: package
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind != DependencyKind::Development)
                .map(|dependency| dependency.name.clone())
                .collect(),
            roots: programs.map(|target| below(target.src_path.as_std_path())).collect(),
            library: of_kind(TargetKind::Lib).next().is_some(),
            examples: of_kind(TargetKind::Example).map(|target| target.name.clone()).collect(),
        }
    };
    metadata.workspace_packages().into_iter().map(member).collect()
}

/// The dependencies against the tables.
fn edges(members: &[Member]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for member in members {
        let manifest = member.folder.join("Cargo.toml");
        let name = &member.name;
        let Some((_, allowed)) = EDGES.iter().find(|(row, _)| row == name) else {
            let sentence = format!("the table of dependencies has no row for the crate {name}");
            findings.push(finding(manifest, 1, sentence));
            continue;
        };
        for used in &member.uses {
            let own = members.iter().any(|member| member.name == *used);
            if own && !allowed.contains(&&used[..]) {
                let sentence = format!("{name} must not depend on {used}");
                findings.push(finding(&manifest, 1, sentence));
            }
            let only = ONLY_IN.iter().find(|(row, _, _)| row == used);
            if let Some((_, allowed, why)) = only.filter(|row| !row.1.contains(&&name[..])) {
                let homes = allowed.join(", ");
                let sentence = format!("{name} must not depend on {used} ({homes} may): {why}");
                findings.push(finding(&manifest, 1, sentence));
            }
        }
    }
    findings
}

/// Examples of one name: cargo builds all of a workspace into one folder, where one replaces the other.
fn example_names(members: &[Member]) -> Vec<Finding> {
    let all = || members.iter().flat_map(|member| member.examples.iter().map(move |x| (member, x)));
    let twice = all().enumerate().filter_map(|(at, (member, name))| {
        let (other, _) = all().take(at).find(|(_, earlier)| *earlier == name)?;
        let sentence = format!("{} has an example named {name} too", other.name);
        Some(finding(member.folder.join("examples"), 1, sentence))
    });
    twice.collect()
}

/// What a crate consists of.
fn files_of(member: &Member, root: &Path) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let (name, folder) = (&member.name, &member.folder);
    let manifest = folder.join("Cargo.toml");
    if !root.join(folder).join("README.md").is_file() {
        findings.push(finding(folder.join("README.md"), 1, format!("{name} has no README")));
    }
    if member.library && member.examples.is_empty() {
        let sentence = format!("the library {name} has no example below examples/");
        findings.push(finding(folder.join("examples"), 1, sentence));
    }
    if !read(root, &manifest)?.replace(' ', "").contains("[lints]\nworkspace=true") {
        let sentence = format!("{name} does not take the workspace's lints");
        findings.push(finding(&manifest, 1, sentence));
    }
    for file in member.roots.iter().filter(|_| !UNSAFE.contains(&&name[..])) {
        if !read(root, file)?.lines().any(|line| line.trim() == "#![forbid(unsafe_code)]") {
            let sentence = format!("{name} does not say #![forbid(unsafe_code)]");
            findings.push(finding(file, 1, sentence));
        }
    }
    Ok(findings)
}

/// The documents of the whole.
fn documents(root: &Path) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for name in [
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "SECURITY.md",
    ] {
        if !root.join(name).is_file() {
            findings.push(finding(name, 1, "this document is missing"));
        }
    }
    let name = Path::new("ARCHITECTURE.md");
    if root.join(name).is_file() {
        let lines = read(root, name)?.lines().count();
        if lines > ARCHITECTURE_LINES {
            let sentence = format!("{lines} lines, where {ARCHITECTURE_LINES} are the limit");
            findings.push(finding(name, lines, sentence));
        }
    }
    Ok(findings)
}

fn read(root: &Path, file: &Path) -> Result<String> {
    fs::read_to_string(root.join(file)).with_context(|| format!("cannot read {}", file.display()))
}

/// The files below a folder, without what is built and what git and editors keep.
fn list(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(root.join(folder))
        .with_context(|| format!("cannot list {}", root.join(folder).display()))?;
    for entry in entries {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let hidden = name.starts_with('.') && !matches!(&name[..], ".ci" | ".cargo");
        if entry.file_type()?.is_dir() {
            if name != "target" && !hidden {
                list(root, &path, files)?;
            }
        } else if entry.file_type()?.is_file() && !hidden {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}
