//! Runs the container of a bundle, by the library alone: `cargo run -p oci-runtime --example run-a-bundle -- BUNDLE`, as
//! root. It has a cgroup if its configuration names one. Without a bundle, the container's root is the host's, read-only.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use oci_runtime::{Prepared, Stdio};

const CONFIG: &str = r#"{"ociVersion": "1.2.0",
    "root": {"path": "/", "readonly": true},
    "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["/bin/true"]},
    "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}],
    "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}]}}"#;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    match std::env::args_os().nth(1) {
        Some(bundle) => run(Path::new(&bundle)),
        None => {
            let dir = tempfile::tempdir()?;
            std::fs::write(dir.path().join("config.json"), CONFIG)?;
            run(dir.path())
        }
    }
}

fn run(bundle: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let spec = oci_runtime::load(bundle)?;
    let running = Prepared::new(bundle, &spec, Stdio::inherit()?)?.create()?.start()?;
    Ok(ExitCode::from(u8::try_from(running.wait()?.code())?))
}
