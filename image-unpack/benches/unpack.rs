//! What a layer costs: decoded and verified, and written as a directory; and what opening an archive does.
//! Writing is as fast as the file system of TMPDIR makes files.
#![allow(missing_docs, reason = "criterion's macro makes an undocumented function")]

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use image_unpack::{Archive, Digest, Options, Platform};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// A layer of 2,000 files in 100 directories, 20 MB of which half compress well.
fn layer() -> Outcome<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut noise = 1_u64;
    for at in 0..2000 {
        let content: Vec<u8> = (0..10_000)
            .map(|byte| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if byte % 2 == 0 { (noise >> 56) as u8 } else { b'x' }
            })
            .collect();
        append(&mut tar, &format!("usr/share/{}/{at}", at % 100), &content)?;
    }
    Ok(tar.into_inner()?)
}

fn append(tar: &mut tar::Builder<Vec<u8>>, name: &str, content: &[u8]) -> Outcome<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, name, content)?;
    Ok(())
}

/// A docker-archive of one layer that is stored so.
fn archive(dir: &Path, name: &str, stored: &[u8], plain: &[u8]) -> Outcome<Archive> {
    let config = format!(
        r#"{{"os":"linux","architecture":"{}","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        Platform::host().architecture,
        Digest::of(plain)
    );
    let manifest = r#"[{"Config":"config.json","RepoTags":null,"Layers":["layer.tar"]}]"#;
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, "config.json", config.as_bytes())?;
    append(&mut tar, "layer.tar", stored)?;
    append(&mut tar, "manifest.json", manifest.as_bytes())?;
    let path = dir.join(name);
    fs::write(&path, tar.into_inner()?)?;
    Ok(Archive::open(&path, dir)?)
}

fn unpack(criterion: &mut Criterion) {
    measure(criterion).unwrap_or_else(|error| panic!("{error}"));
}

fn measure(criterion: &mut Criterion) -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let plain = layer()?;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&plain)?;
    let (gzip, zstd) = (gzip.finish()?, zstd::encode_all(&plain[..], 3)?);
    let mut group = criterion.benchmark_group("layer of 20 MB in 2,000 files");
    group.throughput(Throughput::Bytes(plain.len() as u64)).sample_size(10);
    for (name, stored) in [("plain", &plain), ("gzip", &gzip), ("zstd", &zstd)] {
        let archive = archive(dir.path(), &format!("{name}.tar"), stored, &plain)?;
        let image = archive.images(&Platform::host())?.remove(0);
        let layer = &image.layers[0];
        group.bench_function(format!("verify, {name}"), |bencher| {
            bencher.iter(|| archive.verify(layer));
        });
        let options =
            Options { owners: rustix::process::geteuid().is_root(), ..Options::default() };
        group.bench_function(format!("unpack, {name}"), |bencher| {
            bencher.iter_batched(
                || tempfile::tempdir_in(dir.path()).map(|into| (File::open(into.path()), into)),
                |into| -> Outcome<tempfile::TempDir> {
                    let (fd, into) = into?;
                    archive.unpack(layer, fd?.as_fd(), &options, &|_| ())?;
                    Ok(into) // criterion removes it outside of what it measures
                },
                BatchSize::PerIteration,
            );
        });
        if name == "plain" {
            let path = dir.path().join("plain.tar");
            group.bench_function("open, and find the image", |bencher| {
                bencher.iter(|| Archive::open(&path, dir.path())?.images(&Platform::host()));
            });
        }
    }
    group.finish();
    Ok(())
}

criterion_group!(benches, unpack);
criterion_main!(benches);
