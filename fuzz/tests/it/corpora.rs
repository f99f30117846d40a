//! Each target with its corpus, as it is and changed: the same inputs each time.

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use fuzz::{TARGETS, inputs};

/// The corpus of a target: found by a fuzzer or written by hand, and what once made it panic.
pub(crate) fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let corpus = inputs(&Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name));
    assert!(corpus.len() >= 5, "{} inputs", corpus.len());
    corpus
}

/// Numbers without a pattern (xorshift64): the same ones on each machine.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }

    /// An input with a few changes.
    fn changed(&mut self, corpus: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = corpus[self.below(corpus.len())].1.clone();
        for _ in 0..=self.below(4) {
            let (at, length) = (self.below(bytes.len() + 1), self.below(16));
            let end = (at + length).min(bytes.len());
            match self.below(6) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                2 => drop(bytes.drain(at..end)),
                3 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
                4 => bytes.insert(at, self.below(256) as u8),
                _ => {
                    let other = &corpus[self.below(corpus.len())].1;
                    let from = self.below(other.len() + 1);
                    let part = &other[from..(from + length).min(other.len())];
                    drop(bytes.splice(at..end, part.iter().copied()));
                }
            }
        }
        bytes
    }
}

/// Where an input goes that made a target panic.
fn keep(name: &str, bytes: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("crash-{name}"));
    std::fs::write(&path, bytes).expect("keeping an input");
    path
}

/// Replays the corpus, and so many inputs made of it.
fn replay(name: &str, count: usize) {
    let run = TARGETS.iter().find(|target| target.name == name).expect("a target").run;
    let corpus = corpus(name);
    for (path, bytes) in &corpus {
        assert!(catch_unwind(|| run(bytes)).is_ok(), "{path}");
    }
    let mut random = Random(20_231_114);
    for number in 0..count {
        let bytes = random.changed(&corpus);
        if catch_unwind(|| run(&bytes)).is_err() {
            let path = keep(name, &bytes);
            panic!(
                "input {number} made of the corpus is kept: cargo run -p fuzz --bin {name} {}",
                path.display()
            );
        }
    }
}

#[test]
fn tar_reader() {
    replay("tar_reader", 3000);
}

#[test]
fn image_documents() {
    replay("image_documents", 3000);
}

#[test]
fn registry_answers() {
    replay("registry_answers", 1000);
}

#[test]
fn layer_stack() {
    replay("layer_stack", 200);
}

#[test]
fn index_writer() {
    replay("index_writer", 2000);
}

#[test]
fn oci_config() {
    replay("oci_config", 1000);
}

#[test]
fn option_syntax() {
    replay("option_syntax", 10_000);
}

#[test]
fn seccomp_filter() {
    replay("seccomp_filter", 2000);
}

#[test]
fn mountinfo() {
    replay("mountinfo", 10_000);
}

#[test]
fn every_target_has_its_program_and_its_test() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests = std::fs::read_to_string(here.join("tests/it/corpora.rs")).expect("this file");
    for target in TARGETS {
        let program = here.join("fuzz_targets").join(target.name).with_extension("rs");
        assert!(program.is_file(), "{}", program.display());
        assert!(tests.contains(&format!("replay(\"{}\", ", target.name)), "{}", target.name);
    }
    let programs = std::fs::read_dir(here.join("fuzz_targets")).expect("the programs");
    assert_eq!(programs.count(), TARGETS.len());
}

/// Bytes of all corpora: every clone has them.
#[test]
fn corpora_are_small() {
    let bytes = |name| corpus(name).iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    let sum: usize = TARGETS.iter().map(|target| bytes(target.name)).sum();
    assert!(sum < 200 << 10, "{sum} bytes");
}
