//! What a start costs, from the specification to the end of a program that does nothing; its preparation
//! alone, and reading the configuration. As root.

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use oci_runtime::spec::Spec;
use oci_runtime::{Prepared, Stdio, standard};

/// The configuration that containers of Docker have, without a filter.
fn config() -> serde_json::Value {
    let mounts = standard::MOUNTS.map(|mount| {
        serde_json::json!({"destination": mount.target, "type": mount.fstype,
            "source": mount.source, "options": mount.options})
    });
    serde_json::json!({
        "ociVersion": "1.2.0",
        "root": {"path": "/", "readonly": true},
        "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["/bin/true"]},
        "mounts": mounts,
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}, {"type": "cgroup"}],
            "maskedPaths": standard::masked_paths(),
            "readonlyPaths": standard::READ_ONLY,
        },
    })
}

fn start(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("config.json"), config().to_string()).expect("a file");
    let load = || -> Spec { oci_runtime::load(dir.path()).expect("a specification") };
    c.bench_function("read config.json", |b| b.iter(|| black_box(load())));
    let spec = load();
    let prepare = || Prepared::new(Path::new("/"), &spec, Stdio::null().expect("/dev/null"));
    c.bench_function("prepare", |b| b.iter(|| black_box(prepare().expect("needs root"))));
    c.bench_function("start", |b| {
        b.iter(|| {
            let created = prepare().expect("needs root").create().expect("a container");
            created.start().expect("/bin/true").wait().expect("its end")
        });
    });
}

criterion_group!(benches, start);
criterion_main!(benches);
