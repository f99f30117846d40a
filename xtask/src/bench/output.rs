//! Output of a process that writes as fast as it can, through a container into a pipe, beside the pipe alone.

use anyhow::Result;

use super::bundle::IMAGE;
use super::site::{Entry, Measured, Place, Site};

/// What is written, and by what.
struct Work {
    megabytes: usize,
    how: &'static str,
    /// A shell's words, for so many megabytes.
    producer: fn(usize) -> String,
    /// Whether also to json-file, which takes too long for very short lines.
    to_json: bool,
}

const WORKS: [Work; 3] = [
    Work {
        megabytes: 256,
        how: "MiB in blocks of 64 KiB",
        producer: |megabytes| {
            format!("dd if=/dev/zero bs=64k count={} 2>/dev/null", megabytes * 16)
        },
        to_json: false,
    },
    Work {
        megabytes: 25,
        how: "MB in lines of 2 bytes",
        producer: |megabytes| format!("yes | head -c {megabytes}000000"),
        to_json: false,
    },
    Work {
        megabytes: 25,
        how: "MB in lines of 80 bytes",
        producer: |megabytes| format!("yes {:079} | head -c {megabytes}000000", 0),
        to_json: true,
    },
];

/// Our logs: what they are called, their options, and whether they are not for all works.
const LOGS: [(&str, &[&str], bool); 3] = [
    ("default log", &[], false),
    ("no log", &["--log-driver=none"], false),
    ("json-file", &["--log-driver=json-file"], true),
];

/// Measures all, in turns. The starts are in the figures.
pub(super) fn run(site: &Site<'_>) -> Result<Vec<Measured>> {
    let mut entries = Vec::new();
    for Work { megabytes, how, producer, to_json } in WORKS {
        let megabytes = megabytes / site.options.less_output;
        // A work's name lasts as long as the program, as those that are constants.
        let (work, producer) = (&*format!("{megabytes} {how}").leak(), &*producer(megabytes));
        let words = ["sh", "-c", producer].map(str::to_owned);
        let entry = Entry::new(work, "a pipe", Place::Floor, &to_pipe(&words));
        entries.push(entry.note("no container; the host's programs"));
        for (name, options, is_json) in LOGS {
            if is_json && !to_json {
                continue;
            }
            let words = [&["run", "--rm"], options, &[IMAGE, "sh", "-c", producer]].concat();
            let name = format!("runtime-bin, {name}");
            let words = to_pipe(&site.bundles.engine(&words));
            entries.push(Entry::new(work, &name, Place::Ours, &words));
        }
        for engine in site.engines() {
            let words = engine.run(&[], &["/bin/sh", "-c", producer]).unwrap_or_default();
            let entry = Entry::new(work, engine.peer.program(), Place::Peer, &to_pipe(&words));
            entries.push(entry.note(engine.peer.note()).seldom());
        }
    }
    site.in_turns(entries, site.options.rounds)
}

/// The command with a reader at its output, as one command, which fails where it does.
fn to_pipe(words: &[String]) -> Vec<String> {
    let pipeline = "set -o pipefail; \"$@\" | cat >/dev/null";
    let start = ["bash", "-c", pipeline, "bash"].map(str::to_owned);
    start.into_iter().chain(words.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_fails_is_noticed_behind_its_pipe() {
        for (program, succeeds) in [("true", true), ("false", false)] {
            let words = to_pipe(&[program.to_owned()]);
            let status = std::process::Command::new(&words[0]).args(&words[1..]).status().unwrap();
            assert_eq!(status.success(), succeeds, "{program}");
        }
    }
}
