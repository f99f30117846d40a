//! The power fails: at each call of a command that changes something, what is on the disk by then is kept, and then looked
//! at as after a boot. What somebody waited for is whole, all else is there or not, and the next command goes on.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::disk::{Content, Disk};
use crate::fault::{self, Fault};
use crate::fault_bin::{Before, STEPS, Step, World};
use crate::harness::{BIN, Out, Root};
use crate::lost;

/// What the kernel has put on the disk by itself, of what nobody has waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Nothing,
    /// All names, and no file's bytes: what it does first.
    Names,
}

/// What promises more than all else: it is on the disk before it has its name.
const DURABLE: &[Step] = &[
    Step {
        before: Before::Empty,
        args: &["load", "--durable", "-q", "FORM", "-i", "ARCHIVE"],
        both: true,
    },
    Step {
        before: Before::Empty,
        args: &["run", "--rm", "--durable", "-v", "/v", "FORM", "ARCHIVE", "true"],
        both: false,
    },
];

/// Points of each command at which the power fails; at all with RACE_SECONDS.
const SAMPLE: usize = 2;

/// A disk, and a directory that is on the host's.
fn disk() -> (tempfile::TempDir, Arc<Disk>) {
    let dir = tempfile::Builder::new().prefix("runtime-bin-power-").tempdir().unwrap();
    let disk = Disk::new(&dir.path().join("disk"), &dir.path().join("at"), 32, 4096);
    (dir, Arc::new(disk))
}

/// What is on the disk at some points of a command, and after it; how many points there were.
fn contents(
    disk: &Arc<Disk>,
    command: Command,
    written: Written,
    wanted: BTreeSet<usize>,
) -> (Vec<(usize, Content)>, usize) {
    let kept = Arc::new(Mutex::new(Vec::<(usize, Content)>::new()));
    let keep = {
        let (disk, kept) = (Arc::clone(disk), Arc::clone(&kept));
        move |number: usize| {
            if written == Written::Names {
                disk.commit();
            }
            let mut kept = kept.lock().unwrap();
            let content = disk.content(kept.last().map(|(_, content)| content));
            if kept.last().is_none_or(|(_, last)| *last != content) {
                kept.push((number, content));
            }
        }
    };
    let at_point = keep.clone();
    let (started, points) = fault::watch(command, Path::new(BIN), Fault::Kill, move |number| {
        if wanted.contains(&number) {
            at_point(number);
        }
        None
    });
    let out = started.wait();
    assert_eq!(out.code, 0, "{out:?}");
    let count = points.count();
    keep(usize::MAX);
    let kept = std::mem::take(&mut *kept.lock().unwrap());
    (kept, count)
}

/// Which points of so many.
fn sample(count: usize) -> BTreeSet<usize> {
    match std::env::var_os("RACE_SECONDS") {
        Some(_) => (1..=count).collect(),
        None => (0..SAMPLE).map(|part| (2 * part + 1) * count / (2 * SAMPLE) + 1).collect(),
    }
}

/// After a command that nothing was heard of any more.
fn unheard() -> Out {
    Out { code: -9, stdout: String::new(), stderr: String::new() }
}

/// Lets the power fail during each command.
#[expect(clippy::print_stdout, reason = "a test's words to its runner")]
fn sweep(written: Written) {
    let (mut cuts, mut looks, mut wrong) = (0, 0, Vec::new());
    // After a boot nothing runs that one could enter or stop.
    let others = STEPS
        .iter()
        .filter(|step| step.before != Before::Empty && !["exec", "stop"].contains(&step.args[0]));
    for step in DURABLE.iter().chain(others) {
        for form in step.forms() {
            let (_dir, disk) = disk();
            let mut world = World::new(Root::below(disk.at()), form);
            let command = |world: &mut World| {
                world.prepare(step.before);
                disk.sync();
                world.root.command(world.args(step.args))
            };
            let none = BTreeSet::new();
            let (_, count) = contents(&disk, command(&mut world), written, none);
            world.look(step, Fault::Kill, &unheard());
            let (kept, _) = contents(&disk, command(&mut world), written, sample(count));
            world.note_ids();
            world.call(&["rm", "-f", "-v", "box"]);
            world.root.assert_nothing_left();
            disk.unmount();
            cuts += sample(count).len() + 1;
            for (at, content) in kept {
                looks += 1;
                disk.put(&content);
                disk.mount();
                let looked = catch_unwind(AssertUnwindSafe(|| {
                    let is_promised = at == usize::MAX && step.args.contains(&"--durable");
                    let code = if is_promised { 0 } else { -9 };
                    world.look(step, Fault::Kill, &Out { code, ..unheard() });
                }));
                if let Err(why) = looked {
                    let why = why.downcast_ref::<String>().cloned().unwrap_or_default();
                    let name = step.args.join(" ");
                    wrong.push(format!("{name} ({form}), at {at} of {count}: {why}"));
                    world.call(&["rm", "-f", "-v", "box"]);
                }
                disk.unmount();
            }
        }
    }
    println!("{written:?} written: {cuts} power cuts, {looks} different disks");
    assert!(wrong.is_empty(), "{} of {looks}: {wrong:#?}", wrong.len());
    assert!(looks > STEPS.len(), "{looks} different disks");
}

/// Lets the power fail during loads whose bytes nobody waits for, and after them. Whatever was lost of them, the same load
/// makes the image whole again.
#[expect(clippy::print_stdout, reason = "a test's words to its runner")]
fn sweep_loads(written: Written) {
    let (mut looks, mut doubts, mut lost) = (0, 0, 0);
    for step in STEPS.iter().filter(|step| step.before == Before::Empty) {
        for form in step.forms() {
            let (_dir, disk) = disk();
            let mut world = World::new(Root::below(disk.at()), form);
            disk.sync();
            let command = |world: &World| world.root.command(world.args(step.args));
            let (_, count) = contents(&disk, command(&world), written, BTreeSet::new());
            world.look(step, Fault::Kill, &unheard());
            disk.sync();
            let (kept, _) = contents(&disk, command(&world), written, sample(count));
            world.look(step, Fault::Kill, &unheard());
            disk.unmount();
            for (at, content) in kept {
                looks += 1;
                let what = format!("{} ({form}), at {at} of {count}", step.args.join(" "));
                disk.put(&content);
                disk.mount();
                doubts += lost::reboot(&world.root.store());
                for args in [&["images"][..], &["system", "df"], &["image", "prune", "-f"]] {
                    lost::assert_sane(&what, &world.call(args));
                }
                lost += usize::from(world.call(&["check", "-q"]).code != 0);
                world.ok(&["load", "-q", "FORM", "-i", "ARCHIVE"]);
                world.look(step, Fault::Kill, &unheard());
                disk.unmount();
            }
        }
    }
    println!("{written:?} written: {looks} different disks, {lost} with a loss, {doubts} records");
    assert!(looks > 3, "{looks} different disks");
    // All names are there when the load has ended, and of its bytes none.
    assert!(written == Written::Nothing || lost > 0, "nothing was lost");
}

#[test]
fn loads_before_anything_is_written() {
    sweep_loads(Written::Nothing);
}

#[test]
fn loads_whose_names_are_written_and_bytes_are_not() {
    sweep_loads(Written::Names);
}

#[test]
fn before_anything_is_written() {
    sweep(Written::Nothing);
}

#[test]
fn when_names_are_written_and_bytes_are_not() {
    sweep(Written::Names);
}
