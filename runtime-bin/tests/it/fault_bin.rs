//! Faults at each step of `runtime-bin`: each process that a command makes is killed at each call that changes
//! something, and each such call fails. A fixed sample of them; all with RACE_SECONDS (`cargo xtask test-host --nightly`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::fault::Fault;
use crate::harness::{BIN, Out, Root, arg, is_id, wait_until};
use crate::host;
use crate::image::{Archive, Layer, busybox_program};
use crate::indexed::{self, INDEX};
use crate::sweep::{self, Sweep};

const IMAGE: &str = "localhost/tiny:latest";
const DIR: &str = "--layer-form=dir";

/// Where a store is before a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    Empty,
    Loaded,
    Created,
    Running,
}
use Before::{Created, Empty, Loaded, Running};

/// A command, from a place that is the same each time.
pub(crate) struct Step {
    pub(crate) before: Before,
    /// `ARCHIVE` and `FORM` stand for what they say.
    pub(crate) args: &'static [&'static str],
    /// Whether the form of the layers matters.
    pub(crate) both: bool,
}

impl Step {
    /// The forms of layers that matter and are possible here.
    pub(crate) fn forms(&self) -> Vec<&'static str> {
        let index = self.both && indexed::is_possible();
        [Some(DIR), index.then_some(INDEX)].into_iter().flatten().collect()
    }
}

pub(crate) const STEPS: &[Step] = &[
    Step { before: Empty, args: &["load", "-q", "FORM", "-i", "ARCHIVE"], both: true },
    Step {
        before: Empty,
        args: &["run", "--rm", "-v", "/v", "FORM", "ARCHIVE", "true"],
        both: false,
    },
    Step {
        before: Loaded,
        args: &["run", "--rm", "-v", "/v", "--name", "box", IMAGE, "true"],
        both: true,
    },
    Step {
        before: Loaded,
        args: &["run", "-d", "--name", "box", IMAGE, "sleep", "1000"],
        both: true,
    },
    Step {
        before: Loaded,
        args: &["create", "--name", "box", "-v", "/v", IMAGE, "sleep", "1000"],
        both: false,
    },
    Step { before: Created, args: &["start", "box"], both: true },
    Step { before: Created, args: &["rm", "-v", "box"], both: false },
    Step { before: Created, args: &["commit", "box", "new:1"], both: true },
    Step { before: Created, args: &["cp", "box:/etc/passwd", "."], both: false },
    Step { before: Running, args: &["exec", "box", "true"], both: false },
    Step { before: Running, args: &["stop", "-t", "0", "box"], both: false },
    Step { before: Running, args: &["rm", "-f", "-v", "box"], both: true },
    Step { before: Loaded, args: &["rmi", IMAGE], both: true },
];

/// A store that is brought to the same place again and again.
pub(crate) struct World {
    pub(crate) root: Root,
    archive: PathBuf,
    form: &'static str,
    /// All containers that were seen.
    ids: BTreeSet<String>,
}

impl World {
    pub(crate) fn new(root: Root, form: &'static str) -> World {
        let lower = Layer::new()
            .file("bin/busybox", 0o755, busybox_program())
            .symlink("bin/sh", "busybox")
            .hard_link("bin/true", "bin/busybox")
            .symlink("bin/sleep", "busybox")
            .file("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\n")
            .file("gone/file", 0o644, "covered");
        let upper = Layer::new().file("gone/.wh.file", 0o644, "").file("upper", 0o644, "upper");
        let mut tiny = Archive::busybox([upper]);
        tiny.layers[0] = lower.finish();
        tiny.name = IMAGE;
        let archive = tiny.write(root.dir(), "tiny.tar");
        World { root, archive, form, ids: BTreeSet::new() }
    }

    pub(crate) fn args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let one = |word: &&'a str| match *word {
            "ARCHIVE" => arg(&self.archive),
            "FORM" => self.form,
            other => other,
        };
        args.iter().map(one).collect()
    }

    pub(crate) fn ok(&self, args: &[&str]) -> String {
        self.root.ok(self.args(args))
    }

    pub(crate) fn call(&self, args: &[&str]) -> Out {
        self.root.call(self.args(args))
    }

    fn has_box(&self) -> bool {
        self.call(&["inspect", "box"]).code == 0
    }

    pub(crate) fn prepare(&self, before: Before) {
        if before == Empty {
            return;
        }
        self.ok(&["load", "-q", "FORM", "-i", "ARCHIVE"]);
        match before {
            Empty | Loaded => {}
            Created => {
                drop(self.ok(&["create", "--name", "box", "-v", "/v", IMAGE, "sleep", "1000"]))
            }
            Running => {
                drop(self.ok(&["run", "-d", "--name", "box", "-v", "/v", IMAGE, "sleep", "1000"]))
            }
        }
    }

    /// The containers that there are by now, also half.
    pub(crate) fn note_ids(&mut self) {
        let entries = std::fs::read_dir(self.root.store().join("containers")).into_iter().flatten();
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        self.ids.extend(names.filter(|name| is_id(name)));
    }

    /// After a command that came to no good end, or to one.
    pub(crate) fn look(&mut self, step: &Step, fault: Fault, out: &Out) {
        self.note_ids();
        assert!(!out.stderr.contains("panicked"), "{out:?}");
        // The next command, whatever it is, takes away what the dead have left.
        self.ok(&["ps", "-a"]);
        let checked = self.call(&["check", "-q"]);
        assert_eq!((checked.code, &*checked.stdout), (0, ""), "after {out:?}");
        let left = |name: &str| {
            std::fs::read_dir(self.root.store().join(name)).into_iter().flatten().count()
        };
        assert_eq!(left("staging"), 0, "in staging, after {out:?}");
        // Whose starter was killed ends by itself.
        if step.args[..2] == ["run", "--rm"] {
            wait_until("its end", || !self.has_box());
        }
        let has_box = self.has_box();
        let has_run = fault == Fault::Kill || out.code == 0;
        match (step.args[0], out.code) {
            ("create", 0) => assert!(has_box, "{out:?}"),
            ("run", 0) if step.args[1] == "-d" => assert!(has_box, "{out:?}"),
            ("create" | "run", _) if !has_run => assert!(!has_box, "half left: {out:?}"),
            ("rm", 0) => assert!(!has_box, "{out:?}"),
            ("rmi", 0) => assert!(!self.ok(&["images"]).contains("tiny"), "{out:?}"),
            ("load", 0) => assert!(self.ok(&["images"]).contains("tiny"), "{out:?}"),
            ("start" | "exec" | "stop" | "commit" | "cp", _) => assert!(has_box, "{out:?}"),
            _ => {}
        }
        if has_box && step.args[0] == "exec" {
            assert_eq!(self.root.inspect("box")["State"]["Status"], "running", "{out:?}");
        }
        if !has_box {
            self.root.assert_nothing_left();
        }
        self.again(step, has_box);
        self.call(&["rm", "-f", "-v", "box"]);
        self.call(&["rmi", "new:1"]);
        self.root.assert_nothing_left();
        assert_eq!(host::groups_of(&self.ids), [""; 0], "after {out:?}");
        if step.before == Empty || step.args[0] == "rmi" {
            self.call(&["image", "prune", "-a", "-f"]);
            let store = self.root.store();
            for name in ["images", "layers", "blobs", "mounts", "l"] {
                let names: Vec<_> = std::fs::read_dir(store.join(name))
                    .unwrap()
                    .flatten()
                    .map(|entry| entry.path())
                    .collect();
                assert!(names.is_empty(), "{names:?} after {out:?}");
            }
        }
        let checked = self.call(&["check"]);
        assert!(
            !checked.stdout.contains("left over") && checked.code == 0,
            "{checked:?} after {out:?}"
        );
        assert_eq!(left("volumes"), 0, "after {out:?}");
    }

    /// The same command once more, which must work without repair.
    fn again(&self, step: &Step, has_box: bool) {
        match step.args[0] {
            // The name is taken by what was made.
            "create" | "run" if has_box => drop(self.ok(&["rm", "-f", "-v", "box"])),
            // It was done.
            "rm" if !has_box => return,
            // What it left is collected by the next removal.
            "rmi" if !self.ok(&["images"]).contains("tiny") => {
                drop(self.ok(&["load", "-q", "FORM", "-i", "ARCHIVE"]));
            }
            _ => {}
        }
        self.ok(step.args);
    }
}

/// One fault at each of some points of each step that is wanted.
fn sweep_of(fault: Fault, sample: usize, is_wanted: impl Fn(&Step) -> bool) {
    let mut sweep = Sweep::new(fault, sample);
    for step in STEPS.iter().filter(|step| is_wanted(step)) {
        let forms = step.forms();
        // A sample of errors takes what is more to do; kills, and all, both.
        let several = sweep.is_all() || fault == Fault::Kill;
        let skipped = if several { 0 } else { forms.len() - 1 };
        for form in forms.into_iter().skip(skipped) {
            let name = format!("{} ({form})", step.args.join(" "));
            let prepare = |world: &mut World| {
                world.prepare(step.before);
                world.root.command(world.args(step.args))
            };
            let look = |world: &mut World, out: Out, errno: Option<Errno>| {
                errno.into_iter().for_each(|errno| sweep::assert_said(errno, &out));
                world.look(step, fault, &out);
            };
            let new = || World::new(Root::new(), form);
            sweep.step(&name, Path::new(BIN), new, prepare, look);
        }
    }
    sweep.end();
}

fn sweep(fault: Fault, sample: usize) {
    sweep_of(fault, sample, |_| true);
}

/// At all points: a sample may miss the one call that makes the thread that unpacks.
#[test]
fn no_memory_anywhere_in_a_copy() {
    sweep_of(Fault::Errno(Errno::NOMEM), usize::MAX, |step| step.args[0] == "cp");
}

#[test]
fn killed_anywhere() {
    sweep(Fault::Kill, 2);
}

#[test]
fn no_space_anywhere() {
    sweep(Fault::Errno(Errno::NOSPC), 2);
}

#[test]
fn no_descriptor_anywhere() {
    sweep(Fault::Errno(Errno::MFILE), 2);
}

#[test]
fn no_memory_anywhere() {
    sweep(Fault::Errno(Errno::NOMEM), 1);
}

#[test]
fn a_broken_disk_anywhere() {
    sweep(Fault::Errno(Errno::IO), 1);
}
