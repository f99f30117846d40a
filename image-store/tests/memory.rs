//! How much memory a load takes: the same for any size of image.

mod common;

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};

use image_store::{LayerForm, LoadOptions, Source, Store};

/// Bytes of each of three layers.
const LAYER: usize = 100 << 20;
/// What a load may take at most, bytes; with an index half of it.
const LIMIT: u64 = 128 << 20;
/// The same test in its child: the store's root, the archive, and whether it comes by a pipe.
const CHILD: &str = "IMAGE_STORE_TEST_MEMORY";

/// Bytes that no compression makes smaller: it looks back for less than a tenth of them.
fn noise() -> Vec<u8> {
    let mut bytes = vec![0; LAYER / 10];
    File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes.repeat(10)
}

/// An archive of three layers, packed each by itself.
fn write(path: &Path, pack: fn(&[u8]) -> Vec<u8>) {
    let layers: Vec<Vec<u8>> = (1..=3).map(|_| common::layer(&[("noise", &noise())])).collect();
    let config = common::config(&layers, "");
    let names: Vec<String> = (0..layers.len()).map(|at| format!("{at}/layer.tar")).collect();
    let manifest =
        serde_json::json!([{ "Config": "config.json", "RepoTags": ["big:1"], "Layers": names }]);
    let mut tar = tar::Builder::new(BufWriter::new(File::create(path).unwrap()));
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    for (name, layer) in names.iter().zip(&layers) {
        add(name, &pack(layer));
    }
    add("config.json", &config);
    add("manifest.json", manifest.to_string().as_bytes());
    tar.into_inner().unwrap().flush().unwrap();
}

/// The most that this process had in memory, bytes (`VmHWM`, proc_pid_status(5)).
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
}

/// In the child: loads, and fails if it took too much.
fn load_in_child(root: &str) {
    let archive = std::env::var_os("IMAGE_STORE_TEST_TAR").unwrap();
    let source = match std::env::var_os("IMAGE_STORE_TEST_PIPE") {
        None => Source::Path(archive.into()),
        Some(_) => Source::Stdin(File::from(io::stdin().as_fd().try_clone_to_owned().unwrap())),
    };
    let layer_form = std::env::var("IMAGE_STORE_TEST_FORM").unwrap().parse().unwrap();
    let options = LoadOptions { durable: false, layer_form, ..LoadOptions::default() };
    let store = Store::open(root.as_ref()).unwrap();
    assert_eq!(store.load(&source, &options, &()).unwrap()[0].size, 3 * LAYER as u64);
    let peak = peak();
    let limit = if layer_form == LayerForm::Dir { LIMIT } else { LIMIT / 2 };
    assert!(peak < limit, "a load took {peak} bytes of memory");
}

/// Loads from a file, or by a pipe where `ways` says so, each time in a process that runs `test` alone.
fn assert_bounded(test: &str, form: LayerForm, pack: fn(&[u8]) -> Vec<u8>, ways: &[bool]) {
    if let Ok(root) = std::env::var(CHILD) {
        return load_in_child(&root);
    }
    let temp = tempfile::tempdir().unwrap();
    let archive = temp.path().join("big.tar");
    write(&archive, pack);
    for &pipe in ways {
        let root = temp.path().join("store");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--test-threads=1"]);
        command.env(CHILD, &root).env("IMAGE_STORE_TEST_TAR", &archive);
        command.env("IMAGE_STORE_TEST_FORM", form.to_string());
        let cat = pipe.then(|| {
            let mut cat = Command::new("cat").arg(&archive).stdout(Stdio::piped()).spawn().unwrap();
            command.env("IMAGE_STORE_TEST_PIPE", "1").stdin(cat.stdout.take().unwrap());
            cat
        });
        let out = command.output().unwrap();
        if let Some(mut cat) = cat {
            cat.wait().unwrap();
        }
        assert!(
            out.status.success(),
            "{form}, pipe: {pipe}: {}",
            String::from_utf8_lossy(&out.stdout)
        );
        fs::remove_dir_all(root).unwrap();
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_load_takes_little_memory() {
    assert_bounded("a_load_takes_little_memory", LayerForm::Dir, gzip, &[false, true]);
}

#[test]
fn of_zstd() {
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    assert_bounded("of_zstd", LayerForm::Dir, zstd, &[false]);
}

// Where an index cannot be mounted, the same as above.
#[test]
fn with_an_index() {
    assert_bounded("with_an_index", LayerForm::Auto, gzip, &[false]);
}

#[test]
fn with_an_index_of_plain_layers() {
    let plain = <[u8]>::to_vec;
    assert_bounded("with_an_index_of_plain_layers", LayerForm::Auto, plain, &[false, true]);
}
