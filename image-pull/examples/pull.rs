//! Pulls an image into a store and prints what it became: `pull ROOT NAME`. Without arguments, a small
//! image, from a registry that it serves itself, into a store that goes when it ends.
#![allow(clippy::print_stdout, reason = "that is what the example is for")]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use image_pull::{PullOptions, Reference, pull};
use image_store::{Digest, Platform, Store};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [root, name] => show(Path::new(root), name),
        [] => {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let name = format!("{}/small:1", listener.local_addr()?);
            // It ends with the process.
            std::thread::spawn(move || listener.incoming().flatten().try_for_each(serve));
            let root = std::env::temp_dir().join(format!("image-pull-{}", std::process::id()));
            let shown = show(&root, &name);
            std::fs::remove_dir_all(&root)?;
            shown
        }
        _ => Err("usage: pull [ROOT NAME] (a directory of its own, and an image's name)".into()),
    }
}

fn show(root: &Path, name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let store = Store::open(root)?;
    let reference: Reference = name.parse()?;
    let pulled = pull(&store, &reference, &PullOptions::default(), &())?;
    println!("{reference}\n  digest {}\n  id {}", pulled.digest, pulled.image.id);
    for layer in &pulled.image.layers {
        println!("  {} {}", layer.link, layer.diff_id);
    }
    Ok(())
}

/// Answers one request of a registry that has one image without layers.
fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut line = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    reader.read_line(&mut line)?;
    while reader.read_line(&mut String::new())? > 2 {}
    let config = format!(
        r#"{{"os":"linux","architecture":"{}","rootfs":{{"type":"layers","diff_ids":[]}}}}"#,
        Platform::host().architecture
    );
    let kind = "application/vnd.oci.image";
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{kind}.manifest.v1+json","config":{{"mediaType":"{kind}.config.v1+json","digest":"{}","size":{}}},"layers":[]}}"#,
        Digest::of(config.as_bytes()),
        config.len()
    );
    let body = if line.contains("/manifests/") { &manifest } else { &config };
    let length = body.len();
    write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
}
