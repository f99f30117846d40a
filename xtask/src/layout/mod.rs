//! `cargo xtask layout`: what the common commands need of the programs, as linker scripts that put it side by side
//! (docs/performance.md, "Where functions lie"). To be run when much has changed; what a script does not know is where
//! the linker puts it, and what is gone does no harm.

mod map;
mod script;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::bench;
use crate::bench::bundle::{self, Bundles, IMAGE, text_of};
use crate::{apt, sh};
use map::{Map, Section};
use script::Patterns;

/// What the containers run, by its name: that is looked for, as most programs are.
const PROGRAM: &str = "true";

/// Where the scripts are.
const SCRIPTS: &str = "runtime-bin/layout";

/// Write down for the linker which functions the common commands need
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs `cargo xtask layout`.
pub(crate) fn run(_args: Args) -> Result<()> {
    ensure!(apt::is_root(), "containers are made as root: run this as root");
    apt::ensure(&["tar", "unshare"])?;
    bench::hide_old_cgroups()?;
    let target = sh::target()?;
    let archive = bundle::archive(&target)?;
    let steps = sh::release(&target, &["--package", "sys", "--example", "steps"])?;
    let engine = Program::build(&target, "runtime-bin")?;
    let runtime = Program::build(&target, "runtime-oci")?;
    let dir = target.join("layout").join(std::process::id().to_string());
    let written = Bundles::new(&engine.path, &archive, &dir).and_then(|bundles| {
        let stepper = Stepper { steps: &steps.join("examples/steps"), dir: &dir };
        runtime.write(&of_runtime(&runtime, &bundles, &stepper)?)?;
        engine.write(&of_engine(&bundles, &archive, &stepper)?)
    });
    if dir.exists() {
        bench::remove(&dir)?;
    }
    written
}

/// The addresses that the OCI runtime's commands come to, those of the first command first.
fn of_runtime(program: &Program, bundles: &Bundles, stepper: &Stepper<'_>) -> Result<Vec<u64>> {
    let (path, state) = (text_of(&program.path), text_of(&stepper.dir.join("state")));
    let oci = |words: &[&str]| -> Vec<String> {
        let all = [&[&path[..], "--root", &state], words].concat();
        all.into_iter().map(str::to_owned).collect()
    };
    let (run, stay) = (&bundles.run.full, &bundles.stay.full);
    sh::quietly(&oci(&["run", "--detach", "--bundle", stay, "layout"]))?;
    let exec = stepper.step(&oci(&["exec", "layout", PROGRAM]));
    let state = stepper.step(&oci(&["state", "layout"]));
    sh::quietly(&oci(&["delete", "--force", "layout"]))?;
    let run = stepper.step(&oci(&["run", "--bundle", run, "layout"]));
    // What `create` leaves waits for `start`, and would be followed until then: its functions are `run`'s.
    sh::quietly(&oci(&["create", "--bundle", stay, "layout"]))?;
    let start = stepper.step(&oci(&["start", "layout"]));
    let kill = stepper.step(&oci(&["kill", "layout", "KILL"]));
    let delete = stepper.step(&oci(&["delete", "--force", "layout"]));
    let all: Result<Vec<_>> = [exec, run, start, kill, delete, state].into_iter().collect();
    Ok(all?.concat())
}

/// The same of the engine's.
fn of_engine(bundles: &Bundles, archive: &Path, stepper: &Stepper<'_>) -> Result<Vec<u64>> {
    let step = |words: &[&str]| stepper.step(&bundles.engine(words));
    let mut all = vec![
        step(&["run", "--rm", IMAGE, PROGRAM])?,
        step(&["run", "--rm", &text_of(archive), PROGRAM])?,
        step(&["run", "-d", "--name", "layout", IMAGE, PROGRAM])?,
        step(&["ps", "--all"])?,
        step(&["rm", "--force", "layout"])?,
    ];
    sh::quietly(&bundles.engine(&["run", "-d", "--name", "layout", IMAGE, "sleep", "3600"]))?;
    let exec = step(&["exec", "layout", PROGRAM]);
    sh::quietly(&bundles.engine(&["rm", "--force", "layout"]))?;
    all.push(exec?);
    Ok(all.concat())
}

/// Runs commands instruction by instruction.
struct Stepper<'a> {
    steps: &'a Path,
    dir: &'a Path,
}

impl Stepper<'_> {
    /// The addresses at which the command was, in the order in which it came to them.
    fn step(&self, words: &[String]) -> Result<Vec<u64>> {
        let out = self.dir.join("steps");
        sh::quietly(&[&[text_of(self.steps), text_of(&out)], words].concat())?;
        let text = fs::read_to_string(&out)?;
        fs::remove_file(&out)?;
        text.lines().map(|line| Ok(u64::from_str_radix(line, 16)?)).collect()
    }
}

/// A program as it is shipped, and the linker's map of it.
struct Program {
    name: &'static str,
    path: PathBuf,
    map: Map,
}

impl Program {
    fn build(target: &Path, name: &'static str) -> Result<Self> {
        let (path, map) = sh::with_map(target, "runtime-bin", name)?;
        let read = || Map::parse(&fs::read_to_string(&map)?);
        let map = read().with_context(|| {
            format!(
                "cannot use {} (where cargo found nothing to do, `cargo clean --release --package runtime-bin` has it \
                 made again)",
                map.display()
            )
        })?;
        Ok(Self { name, path, map })
    }

    /// Writes its script of the sections at these addresses, and says what a script cannot do.
    fn write(&self, addresses: &[u64]) -> Result<()> {
        let needed = in_order(&self.map, addresses);
        let sections = || needed.iter().map(|&at| &self.map.sections[at]);
        let patterns: Vec<Patterns> = sections().filter_map(Patterns::of).collect();
        let script = script::script(self.name, &patterns);
        let path = sh::root().join(SCRIPTS).join(format!("{}.ld", self.name));
        let old = fs::read_to_string(&path).unwrap_or_default();
        // One that is newer has both programs built again.
        if old != script {
            fs::write(&path, script).with_context(|| format!("cannot write {}", path.display()))?;
        }
        let bytes: u64 = sections().map(|section| section.end - section.start).sum();
        let all = self.map.sections.iter().filter(|section| section.out.starts_with(".text"));
        let count = (needed.len(), all.count(), bytes / 1024);
        println!("{}: {} of {} sections, {} KiB", path.display(), count.0, count.1, count.2);
        let apart = sections().filter(|section| section.out != script::COMMON);
        println!(
            "in this program, by the script as it was, {} of them lie elsewhere",
            apart.clone().count()
        );
        let has_failed = |section: &&Section| {
            Patterns::of(section).is_none_or(|patterns| old.contains(&patterns.exact))
        };
        for section in apart.filter(has_failed) {
            println!("cannot be placed: {}:({})", section.file, section.name);
        }
        Ok(())
    }
}

/// The sections at these addresses by their indices, each once, the first first.
fn in_order(map: &Map, addresses: &[u64]) -> Vec<usize> {
    let mut seen = HashSet::new();
    let sections = addresses.iter().filter_map(|&address| map.at(address));
    sections.filter(|&at| seen.insert(at)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_come_to_first_comes_first() {
        let section = |start: u64| {
            let (file, name, out) = ("a.o".into(), format!(".text.{start}"), ".text".into());
            Section { start, end: start + 4, file, name, out }
        };
        let map = Map { sections: [0, 8, 16].map(section).into() };
        assert_eq!(in_order(&map, &[17, 30, 8, 9, 6, 18, 1, 8]), [2, 1, 0]);
    }
}
