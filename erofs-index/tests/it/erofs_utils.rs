//! erofs-utils 1.8, as `cargo xtask erofs-utils` fetches it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A program of erofs-utils, with the loader and the libraries that it came with.
pub(crate) fn program(name: &str) -> Command {
    let root = root();
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(&libraries).arg(root.join("usr/bin").join(name));
    command
}

fn root() -> PathBuf {
    if let Some(root) = std::env::var_os("EROFS_UTILS") {
        return root.into();
    }
    let below = |dir: &Path| dir.join("erofs-utils");
    // The tests are below the target directory.
    let own = std::env::current_exe().unwrap();
    let target = own.ancestors().map(below);
    let workspace = [Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/erofs-utils")];
    let found = target.chain(workspace).find(|dir| dir.join("usr/bin/fsck.erofs").is_file());
    found.expect("erofs-utils 1.8 below target/erofs-utils (`cargo xtask erofs-utils` fetches it) or in EROFS_UTILS")
}

pub(crate) fn run(command: &mut Command) -> String {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(done.status.success(), "{command:?}: {}: {said}", done.status);
    said
}

/// That fsck.erofs accepts an index with these devices.
pub(crate) fn fsck(index: &Path, devices: &[PathBuf]) {
    let mut fsck = program("fsck.erofs");
    fsck.args(devices.iter().map(|device| format!("--device={}", device.display())));
    run(fsck.arg(index));
}
