//! Runs a command in a container of an image tar, as root:
//! `cargo run -p engine --example run -- IMAGE.tar COMMAND…`. Without arguments it makes a tiny image of
//! its own, which has no program, and shows what is said of that.

use std::error::Error;
use std::io::Write;
use std::path::Path;

use engine::{AttachEnd, AttachOptions, Engine, ImageArg, RunRequest, Streams, attach};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let dir = std::env::temp_dir().join(format!("engine-example-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    let ran = run(&dir, args.next(), args.collect());
    std::fs::remove_dir_all(&dir)?;
    ran
}

fn run(dir: &Path, image: Option<String>, command: Vec<String>) -> Result<(), Box<dyn Error>> {
    let (image, command) = match image {
        Some(image) => (image.into(), command),
        None => (tiny_image(dir)?, vec!["/no/such/program".to_owned()]),
    };
    let engine = Engine::open(&dir.join("root"))?;
    let request = RunRequest {
        image: ImageArg::Archive(image),
        command,
        remove: true,
        ..RunRequest::default()
    };
    let words = match engine.run(&request, &()) {
        Ok(session) => match attach(session, Streams::own(), &AttachOptions::default())? {
            AttachEnd::Exited(status) => format!("exit status {status}"),
            _ => "detached".to_owned(),
        },
        Err(error) => format!("exit status {}: {error}", error.exit_code()),
    };
    writeln!(std::io::stdout(), "{words}")?;
    Ok(())
}

/// An image of one layer with nothing but a file in it, in the form of `docker save`.
fn tiny_image(dir: &Path) -> Result<std::path::PathBuf, Box<dyn Error>> {
    use sha2::{Digest, Sha256};
    let header = |size: usize| {
        let mut header = tar::Header::new_ustar();
        header.set_size(size as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header
    };
    let mut layer = tar::Builder::new(Vec::new());
    layer.append_data(&mut header(6), "hello", &b"hello\n"[..])?;
    let layer = layer.into_inner()?;
    let digest: String = Sha256::digest(&layer).iter().map(|byte| format!("{byte:02x}")).collect();
    let config = serde_json::json!({
        "os": "linux", "architecture": engine::Platform::host().architecture.to_string(),
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    let manifest =
        serde_json::json!([{"Config": "c.json", "RepoTags": ["tiny:1"], "Layers": ["layer.tar"]}]);
    let path = dir.join("tiny.tar");
    let mut image = tar::Builder::new(std::fs::File::create(&path)?);
    for (name, bytes) in [
        ("c.json", config.to_string().into_bytes()),
        ("manifest.json", manifest.to_string().into_bytes()),
        ("layer.tar", layer),
    ] {
        image.append_data(&mut header(bytes.len()), name, &bytes[..])?;
    }
    image.into_inner()?;
    Ok(path)
}
