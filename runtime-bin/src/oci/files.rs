//! What is written for callers.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Prints to standard output.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("writing to standard output")
}

/// Prints JSON as runc does, on several lines.
pub(crate) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Writes a process's number, by rename: who finds the file finds all of it.
pub(crate) fn write_pid(path: &Path, pid: rustix::process::Pid) -> anyhow::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}"));
    std::fs::write(&new, pid.as_raw_nonzero().to_string())
        .and_then(|()| std::fs::rename(&new, path))
        .with_context(|| format!("writing the pid file {}", path.display()))
}

/// The bundle's absolute path.
pub(crate) fn bundle(dir: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(dir).with_context(|| format!("naming the bundle {}", dir.display()))
}
