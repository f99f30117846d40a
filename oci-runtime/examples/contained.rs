//! Runs a command in a container whose root is the host's own, read-only. As root:
//! `cargo run -p oci-runtime --example contained -- sh -c 'mount; ps ax'`

use std::error::Error;
use std::path::Path;

use oci_runtime::spec::Spec;
use oci_runtime::{Prepared, Stdio};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if args.is_empty() {
        args = ["sh", "-c", "hostname; cat /proc/self/mounts"].map(str::to_owned).into();
    }
    let json = serde_json::json!({
        "ociVersion": "1.2.0",
        "hostname": "contained",
        "root": {"path": "/", "readonly": true},
        "process": {
            "user": {"uid": 0, "gid": 0},
            "cwd": "/",
            "args": args,
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
        ],
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}],
            "maskedPaths": ["/proc/kcore"],
        },
    });
    let spec: Spec = serde_json::from_value(json)?;
    let running = Prepared::new(Path::new("/"), &spec, Stdio::inherit()?)?.create()?.start()?;
    let exit = running.wait()?;
    if exit.code() != 0 {
        return Err(exit.to_string().into());
    }
    Ok(())
}
