//! What looking at containers costs, with one and with a hundred on record: `ps`, and `inspect` by name.

use std::error::Error;
use std::path::{Path, PathBuf};

use criterion::{Criterion, criterion_group, criterion_main};
use engine::{Engine, ImageArg, RunRequest};

/// How many there are.
const COUNTS: [usize; 2] = [1, 100];

/// A root file system of one file, in the form of `docker save`.
fn image(dir: &Path) -> Result<PathBuf, Box<dyn Error>> {
    use sha2::{Digest, Sha256};
    let append = |tar: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes)
    };
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, "hello", b"hello\n")?;
    let layer = layer.into_inner()?;
    let digest: String = Sha256::digest(&layer).iter().map(|byte| format!("{byte:02x}")).collect();
    let config = serde_json::json!({
        "os": "linux", "architecture": engine::Platform::host().architecture.to_string(),
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    let manifest =
        serde_json::json!([{"Config": "c.json", "RepoTags": ["bench:1"], "Layers": ["layer.tar"]}]);
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, "c.json", config.to_string().as_bytes())?;
    append(&mut tar, "manifest.json", manifest.to_string().as_bytes())?;
    append(&mut tar, "layer.tar", &layer)?;
    let path = dir.join("image.tar");
    std::fs::write(&path, tar.into_inner()?)?;
    Ok(path)
}

fn records(c: &mut Criterion) {
    measure(c).unwrap_or_else(|error| panic!("needs root: {error}"));
}

fn measure(c: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let image = image(dir.path())?;
    let root = dir.path().join("root");
    c.bench_function("open the root", |b| b.iter(|| Engine::open(&root)));
    let engine = Engine::open(&root)?;
    let mut made = 0;
    for count in COUNTS {
        while made < count {
            made += 1;
            let request = RunRequest {
                image: ImageArg::Archive(image.clone()),
                name: Some(format!("bench-{made}")),
                command: vec!["/hello".to_owned()],
                ..RunRequest::default()
            };
            engine.create(&request, &())?;
        }
        c.bench_function(&format!("list {count}"), |b| b.iter(|| engine.list()));
        c.bench_function(&format!("inspect one of {count}"), |b| {
            b.iter(|| engine.inspect("bench-1"));
        });
    }
    Ok(())
}

criterion_group!(benches, records);
criterion_main!(benches);
