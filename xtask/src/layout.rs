//! `cargo xtask layout`: which functions the common commands need, as linker scripts that put them side by side
//! (docs/performance.md, "Where functions lie"). To be run when much has changed; what a script does not know is where
//! the linker puts it, and what is gone does no harm.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::bench;
use crate::bench::bundle::{self, Bundles, IMAGE, PROGRAM, text_of};
use crate::{apt, sh};

/// Where the scripts are.
const SCRIPTS: &str = "runtime-bin/layout";

/// Write down for the linker which functions the common commands need
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Look at the programs in this directory, release builds with their symbols, and build none
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// Runs `cargo xtask layout`.
pub(crate) fn run(args: Args) -> Result<()> {
    ensure!(apt::is_root(), "containers are made as root: run this as root");
    apt::ensure(&["nm", "tar"])?;
    let target = sh::target()?;
    let archive = bundle::archive(&target)?;
    let steps = sh::release(&target, &["--package", "sys", "--example", "steps"])?;
    let programs = match args.programs {
        Some(dir) => dir,
        None => sh::with_symbols(&target, &["--package", "runtime-bin"])?,
    };
    let dir = target.join("layout").join(std::process::id().to_string());
    let written = write(&steps.join("examples/steps"), &programs, &archive, &dir);
    if dir.exists() {
        bench::remove(&dir)?;
    }
    written
}

fn write(steps: &Path, programs: &Path, archive: &Path, dir: &Path) -> Result<()> {
    let [engine, runtime] = ["runtime-bin", "runtime-oci"].map(|name| programs.join(name));
    let bundles = Bundles::new(&engine, archive, dir)?;
    let stepper = Stepper { steps, dir };
    let objects = Objects::of_libc()?;
    let (program, state) = (text_of(&runtime), text_of(&dir.join("state")));
    let oci = |words: &[&str]| -> Vec<String> {
        let all = [&[&program[..], "--root", &state], words].concat();
        all.into_iter().map(str::to_owned).collect()
    };
    let own = |words: &[&str]| bundles.engine(words);

    let mut functions = Functions::of(&runtime)?;
    let (run, stay) = (&bundles.run.full, &bundles.stay.full);
    sh::quietly(&oci(&["run", "--detach", "--bundle", stay, "layout"]))?;
    let traced = [oci(&["exec", "layout", PROGRAM]), oci(&["state", "layout"])];
    let traced =
        traced.iter().try_for_each(|words| stepper.step(words).map(|found| functions.add(found)));
    sh::quietly(&oci(&["delete", "--force", "layout"]))?;
    traced?;
    functions.add(stepper.step(&oci(&["run", "--bundle", run, "layout"]))?);
    // What `create` leaves waits for `start`, and would be followed until then: its functions are `run`'s.
    sh::quietly(&oci(&["create", "--bundle", stay, "layout"]))?;
    let start = stepper.step(&oci(&["start", "layout"]));
    let kill = stepper.step(&oci(&["kill", "layout", "KILL"]));
    let delete = stepper.step(&oci(&["delete", "--force", "layout"]));
    for found in [start, kill, delete] {
        functions.add(found?);
    }
    functions.write("runtime-oci", &objects)?;

    let mut functions = Functions::of(&engine)?;
    functions.add(stepper.step(&own(&["run", "--rm", IMAGE, PROGRAM]))?);
    functions.add(stepper.step(&own(&["run", "--rm", &text_of(archive), PROGRAM]))?);
    functions.add(stepper.step(&own(&["run", "-d", "--name", "layout", IMAGE, PROGRAM]))?);
    functions.add(stepper.step(&own(&["ps", "--all"]))?);
    functions.add(stepper.step(&own(&["rm", "--force", "layout"]))?);
    sh::quietly(&own(&["run", "-d", "--name", "layout", IMAGE, "sleep", "3600"]))?;
    let traced = stepper.step(&own(&["exec", "layout", PROGRAM]));
    sh::quietly(&own(&["rm", "--force", "layout"]))?;
    functions.add(traced?);
    functions.write("runtime-bin", &objects)
}

/// Runs commands instruction by instruction.
struct Stepper<'a> {
    steps: &'a Path,
    dir: &'a Path,
}

impl Stepper<'_> {
    /// The addresses at which the command was.
    fn step(&self, words: &[String]) -> Result<BTreeSet<u64>> {
        let out = self.dir.join("steps");
        sh::quietly(&[&[text_of(self.steps), text_of(&out)], words].concat())?;
        let text = fs::read_to_string(&out)?;
        fs::remove_file(&out)?;
        text.lines().map(|line| Ok(u64::from_str_radix(line, 16)?)).collect()
    }
}

/// A function of a program.
struct Function {
    start: u64,
    end: u64,
    name: String,
}

/// A program's functions, and those of them that are needed, the ones of a first command first.
struct Functions {
    all: Vec<Function>,
    needed: Vec<usize>,
}

impl Functions {
    fn of(program: &Path) -> Result<Self> {
        let text = sh::text(Command::new("nm").args(["-n", "-S", "--defined-only"]).arg(program))?;
        let function = |line: &str| {
            let fields: Vec<&str> = line.split(' ').collect();
            let [start, size, "t" | "T" | "w" | "W" | "i", name] = fields[..] else { return None };
            let number = |text| u64::from_str_radix(text, 16).ok();
            let (start, size) = (number(start)?, number(size)?);
            Some(Function { start, end: start + size, name: name.to_owned() })
        };
        let all: Vec<Function> = text.lines().filter_map(function).collect();
        ensure!(!all.is_empty(), "{} has no symbols", program.display());
        Ok(Self { all, needed: Vec::new() })
    }

    /// Adds those that lie at these addresses and are not there yet, in the order of their addresses.
    fn add(&mut self, addresses: BTreeSet<u64>) {
        let known: HashSet<usize> = self.needed.iter().copied().collect();
        let mut new = BTreeSet::new();
        for address in addresses {
            let after = self.all.partition_point(|function| function.start <= address);
            let at = after.checked_sub(1).filter(|&at| address < self.all[at].end);
            new.extend(at.filter(|at| !known.contains(at)));
        }
        self.needed.extend(new);
    }

    fn write(&self, program: &str, objects: &Objects) -> Result<()> {
        let mut seen = HashSet::new();
        let mut script = format!(
            "/* By `cargo xtask layout`: the functions that {program}'s common commands need. */\nSECTIONS {{\n  \
             .text.common : {{\n"
        );
        let names = self.needed.iter().map(|&at| &self.all[at].name[..]);
        for pattern in names.filter_map(|name| objects.pattern(name)) {
            if seen.insert(pattern.clone()) {
                script.push_str(&format!("    {pattern}\n"));
            }
        }
        script.push_str("  }\n}\nINSERT BEFORE .text;\n");
        let path = sh::root().join(SCRIPTS).join(format!("{program}.ld"));
        fs::write(&path, script).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}: {} of {} functions", path.display(), self.needed.len(), self.all.len());
        Ok(())
    }
}

/// The objects of the C library that define its functions: they have one section for all of an object's.
struct Objects {
    by_function: HashMap<String, String>,
}

impl Objects {
    fn of_libc() -> Result<Self> {
        let path = sh::text(Command::new("cc").arg("-print-file-name=libc.a"))?;
        let text = sh::text(Command::new("nm").args(["-A", "--defined-only", path.trim()]))?;
        let mut by_function = HashMap::new();
        for line in text.lines() {
            // PATH:OBJECT:ADDRESS KIND NAME
            let Some((place, name)) = line.rsplit_once(' ') else { continue };
            let Some(object) = place.split(':').nth(1) else { continue };
            by_function.entry(name.to_owned()).or_insert_with(|| object.to_owned());
        }
        Ok(Self { by_function })
    }

    /// What the linker finds the function by; None where it cannot be moved.
    fn pattern(&self, name: &str) -> Option<String> {
        match self.by_function.get(name) {
            _ if name.starts_with("_ZN") || name.starts_with("_R") || name == "main" => {
                let name = without_hashes(name);
                // What LLVM holds for seldom is apart by its name.
                Some(format!("*(.text.{name} .text.unlikely.{name})"))
            }
            Some(object) => Some(format!("*libc.a:{object}(.text .text.*)")),
            None => None,
        }
    }
}

/// A mangled name with `*` for what differs from build to build: of the older mangling the hash of 16 digits at its end, of
/// the newer one each crate's (`Cs…_`), and what LTO adds.
fn without_hashes(name: &str) -> String {
    let name = name.split_once(".llvm.").map_or(name, |(name, _)| name);
    if let Some(start) = name.strip_suffix('E').and_then(|name| name.len().checked_sub(19))
        && name.starts_with("_ZN")
        && name[start..].starts_with("17h")
    {
        return format!("{}17h*", &name[..start]);
    }
    let mut parts = name.split("Cs");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(part.len());
        match part[digits..].starts_with('_') && digits > 0 {
            true => text.push_str(&format!("Cs*{}", &part[digits..])),
            false => text.push_str(&format!("Cs{part}")),
        }
    }
    if text.starts_with("_R") { text + "*" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_build_to_build_is_left_out() {
        let old = "_ZN3sys7process5ended17h0123456789abcdefE";
        assert_eq!(without_hashes(old), "_ZN3sys7process5ended17h*");
        assert_eq!(without_hashes(&format!("{old}.llvm.12345")), "_ZN3sys7process5ended17h*");
        let new = "_RNvNtCs6d7GoaNTBIz_3sys7process5ended";
        assert_eq!(without_hashes(new), "_RNvNtCs*_3sys7process5ended*");
        let part = "_RNvNtCs6d7GoaNTBIz_3sys4Csum";
        assert_eq!(without_hashes(part), "_RNvNtCs*_3sys4Csum*");
    }

    #[test]
    fn the_first_commands_functions_come_first() {
        let function = |start, name: &str| Function { start, end: start + 4, name: name.into() };
        let all = vec![function(0, "_ZN1a"), function(8, "malloc"), function(16, "_start")];
        let mut functions = Functions { all, needed: vec![] };
        functions.add([8, 9].into());
        functions.add([1, 6, 8, 17, 30].into());
        assert_eq!(functions.needed, [1, 0, 2]);
        let by_function = [("malloc".to_owned(), "malloc.o".to_owned())].into();
        let objects = Objects { by_function };
        let patterns: Vec<_> =
            functions.needed.iter().map(|&at| objects.pattern(&functions.all[at].name)).collect();
        let expected = [
            Some("*libc.a:malloc.o(.text .text.*)"),
            Some("*(.text._ZN1a .text.unlikely._ZN1a)"),
            None,
        ];
        assert_eq!(patterns, expected.map(|pattern| pattern.map(str::to_owned)));
    }
}
