#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

pub mod image_documents;
pub mod index_writer;
pub mod layer_stack;
mod memory;
mod more;
pub mod mountinfo;
pub mod oci_config;
pub mod option_syntax;
mod parts;
pub mod registry_answers;
pub mod seccomp_filter;
pub mod tar_reader;

// What the crates' own tests compare with: one model of each thing, and one reader.
#[path = "../../erofs-index/tests/it/files.rs"]
mod files;
#[path = "../../erofs-index/tests/it/meaning.rs"]
mod meaning;
#[path = "../../seccomp-oci/tests/it/model.rs"]
#[allow(dead_code, reason = "seccomp-oci's own tests use all of it")]
mod model;
#[path = "../../erofs-index/tests/it/ops.rs"]
#[allow(dead_code, reason = "erofs-index's own tests use all of it")]
mod ops;
#[path = "../../erofs-index/tests/it/reader.rs"]
mod reader;
#[path = "../../image-unpack/tests/it/spec.rs"]
mod spec;
#[path = "../../image-unpack/tests/it/tar.rs"]
#[allow(dead_code, reason = "image-unpack's own tests use all of it")]
mod tar;
#[path = "../../erofs-index/tests/it/tree.rs"]
#[allow(dead_code, reason = "erofs-index's own tests use all of it")]
mod tree;

/// A border that untrusted bytes cross.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// That of its program and of its corpus.
    pub name: &'static str,
    /// Takes any bytes, and panics where a promise is broken.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "tar_reader", run: tar_reader::run },
    Target { name: "image_documents", run: image_documents::run },
    Target { name: "registry_answers", run: registry_answers::run },
    Target { name: "layer_stack", run: layer_stack::run },
    Target { name: "index_writer", run: index_writer::run },
    Target { name: "oci_config", run: oci_config::run },
    Target { name: "option_syntax", run: option_syntax::run },
    Target { name: "seccomp_filter", run: seccomp_filter::run },
    Target { name: "mountinfo", run: mountinfo::run },
];

/// The `main` of a target's program.
#[macro_export]
macro_rules! program {
    ($run:path) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|bytes: &[u8]| $run(bytes));

        #[cfg(not(fuzzing))]
        fn main() -> std::process::ExitCode {
            $crate::replay($run)
        }
    };
}

/// Runs a target on each file that the command line names, and on the files of each directory: a crash of a fuzzer's
/// shows itself again, without one.
#[allow(clippy::print_stderr, reason = "a program's words to who started it")]
pub fn replay(run: fn(&[u8])) -> ExitCode {
    let mut count = 0;
    for path in std::env::args_os().skip(1) {
        for (name, bytes) in inputs(Path::new(&path)) {
            eprintln!("{name}");
            run(&bytes);
            count += 1;
        }
    }
    eprintln!("{count} inputs");
    if count == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// A file, or the files of a directory, by name; sorted.
///
/// # Panics
/// They cannot be read.
pub fn inputs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        let entries = std::fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        files = entries.map(|entry| entry.expect("an entry of a directory").path()).collect();
        files.sort();
    }
    let read = |path: &std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        (path.display().to_string(), bytes)
    };
    files.iter().map(read).collect()
}
