//! What strace saw, counted.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Counted, Counts};
use crate::bench::bundle::{Bundles, IMAGE, PROGRAM, text_of};
use crate::sh;

/// Each command is counted so often, and the smallest number of each call is taken.
const ROUNDS: usize = 3;

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The standard library checks each descriptor that it closes, if it is built with debug assertions.
const CHECK: &str = "F_GETFD";

/// By which a supervisor puts away what was open when it was started: as often as the caller of this program has it.
const INHERITED: &str = "dup3";

/// The programs, and where they work.
pub(super) struct Counter<'a> {
    pub(super) bundles: &'a Bundles,
    pub(super) runtime: &'a Path,
    pub(super) dir: &'a Path,
}

impl Counter<'_> {
    /// All commands, once to fill the caches, and then those that count.
    pub(super) fn all(&self) -> Result<Counted> {
        let mut least = self.round(0)?;
        for round in 1..=ROUNDS {
            let counted = self.round(round)?;
            for ((_, least), (_, counts)) in least.iter_mut().zip(counted) {
                match round {
                    1 => *least = counts,
                    _ => smallest(least, &counts),
                }
            }
        }
        Ok(least)
    }

    /// Takes away what an interrupted round left. What is not there needs no removal.
    pub(super) fn clean_up(&self) {
        for round in 0..=ROUNDS {
            let id = format!("budget-{round}");
            for words in
                [self.oci(&["delete", "--force", &id]), self.bundles.engine(&["rm", "-f", &id])]
            {
                let _ = sh::output(Command::new(&words[0]).args(&words[1..]));
            }
        }
    }

    fn round(&self, round: usize) -> Result<Counted> {
        let Bundles { run, stay, .. } = self.bundles;
        let id = format!("budget-{round}");
        let oci = |words: &[&str]| self.oci(words);
        let own = |words: &[&str]| self.bundles.engine(words);
        let mut counted = Counted::new();
        let mut add = |name: &str, counts: Counts| counted.push((name.to_owned(), counts));

        add("oci run", self.count(&oci(&["run", "--bundle", &run.full, &id]))?);
        // The container's process is `create`'s, to its end: its calls after `start` are there.
        let create = self.begin("create", &oci(&["create", "--bundle", &run.full, &id]))?;
        create.until_first_ends()?;
        let start = self.count(&oci(&["start", &id]))?;
        add("oci create", create.end()?);
        add("oci start", start);
        add("oci delete", self.count(&oci(&["delete", &id]))?);

        sh::quietly(&oci(&["run", "--detach", "--bundle", &stay.full, &id]))?;
        let exec = self.count(&oci(&["exec", &id, PROGRAM]));
        sh::quietly(&oci(&["delete", "--force", &id]))?;
        add("oci exec", exec?);

        add("run", self.count(&own(&["run", "--rm", IMAGE, PROGRAM]))?);
        // With its supervisor, to the end.
        add("run -d", self.count(&own(&["run", "-d", "--rm", IMAGE, PROGRAM]))?);
        sh::quietly(&own(&["run", "-d", "--rm", "--name", &id, IMAGE, "sleep", "3600"]))?;
        let exec = self.count(&own(&["exec", &id, PROGRAM]));
        sh::quietly(&own(&["rm", "-f", &id]))?;
        add("exec", exec?);
        Ok(counted)
    }

    fn oci(&self, words: &[&str]) -> Vec<String> {
        let root = text_of(&self.dir.join("state"));
        let start = [text_of(self.runtime), "--root".to_owned(), root];
        start.into_iter().chain(words.iter().map(|&word| word.to_owned())).collect()
    }

    fn count(&self, words: &[String]) -> Result<Counts> {
        self.begin("command", words)?.end()
    }

    /// Starts a command below strace.
    fn begin(&self, name: &str, words: &[String]) -> Result<Traced> {
        let [log, said] = ["log", "said"].map(|kind| self.dir.join(format!("{name}.{kind}")));
        // What is read there while it runs is not to be the last one's.
        File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let mut strace = Command::new("strace");
        strace.args(["-f", "-q", "-e", "signal=none", "-s", "64", "-o"]).arg(&log).args(words);
        // A container that stays would keep a pipe of this process open.
        let said_to = File::create(&said)?;
        strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said_to);
        let child = strace.spawn().context("cannot run strace")?;
        Ok(Traced { child, log: text_of(&log), said: text_of(&said), command: words.join(" ") })
    }
}

/// A command that strace follows.
struct Traced {
    child: Child,
    log: String,
    said: String,
    command: String,
}

impl Traced {
    /// Waits until the process that was started has ended, whatever goes on behind it.
    fn until_first_ends(&self) -> Result<()> {
        let start = Instant::now();
        loop {
            let log = fs::read(&self.log).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let first = log.split(' ').next().filter(|pid| !pid.is_empty());
            let ended = |line: &str| {
                let rest = first.and_then(|pid| line.strip_prefix(pid));
                rest.is_some_and(|rest| rest.trim_start().starts_with("+++ "))
            };
            if log.lines().any(ended) {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                bail!("`{}` does not end", self.command);
            }
            sleep(Duration::from_millis(5));
        }
    }

    fn end(mut self) -> Result<Counts> {
        let start = Instant::now();
        let status = loop {
            match self.child.try_wait()? {
                Some(status) => break status,
                None if start.elapsed() > PATIENCE => {
                    self.child.kill()?;
                    self.child.wait()?;
                    bail!("`{}` does not end", self.command);
                }
                None => sleep(Duration::from_millis(2)),
            }
        };
        if !status.success() {
            let said = fs::read_to_string(&self.said)?;
            bail!("`{}` failed: {status}\n{}", self.command, said.trim_end());
        }
        let log = fs::read(&self.log).with_context(|| format!("cannot read {}", self.log))?;
        Ok(calls(&String::from_utf8_lossy(&log)))
    }
}

/// The calls in a log of `strace -f`, up to the exec of the container's program: its own are its library's.
fn calls(log: &str) -> Counts {
    let exec = format!("execve(\"{PROGRAM}\"");
    let mut counts = Counts::new();
    let mut gone = HashSet::new();
    for line in log.lines() {
        let Some((pid, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        // `<... read resumed>` is the end of a call that was counted.
        let Some((name, _)) = call.split_once('(') else { continue };
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let by_others = (name == "fcntl" && call.contains(CHECK)) || name == INHERITED;
        if !is_name || gone.contains(pid) || by_others {
            continue;
        }
        *counts.entry(name.to_owned()).or_default() += 1;
        if call.starts_with(&exec) {
            gone.insert(pid);
        }
    }
    counts
}

/// The smaller number of each call.
fn smallest(least: &mut Counts, counts: &Counts) {
    for (name, count) in least.iter_mut() {
        *count = (*count).min(counts.get(name).copied().unwrap_or(0));
    }
    least.retain(|_, count| *count > 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_once_and_up_to_the_program() {
        let log = "10 execve(\"/x\", [\"x\", \"/bin/true\"], 0x7 /* 3 vars */) = 0\n\
                   10    read(3,  <unfinished ...>\n\
                   11    read(4, \"<...\", 8) = 8\n\
                   10    <... read resumed>\"\", 8) = 0\n\
                   11    execve(\"/bin/true\", [\"/bin/true\"], 0x7) = 0\n\
                   11    brk(NULL) = 0\n\
                   10    fcntl(3, F_GETFD) = 0x1 (flags FD_CLOEXEC)\n\
                   10    fcntl(3, F_DUPFD_CLOEXEC, 3) = 4\n\
                   11    +++ exited with 0 +++\n\
                   10    dup3(4, 10, O_CLOEXEC) = 10\n\
                   10    ???( <detached ...>\n";
        let counts = calls(log);
        let want = [("execve", 2), ("fcntl", 1), ("read", 2)];
        assert_eq!(counts, want.map(|(name, count)| (name.to_owned(), count)).into());
    }

    #[test]
    fn the_smallest_number_counts() {
        let mut least: Counts = [("a".to_owned(), 3), ("b".to_owned(), 1)].into();
        smallest(&mut least, &[("a".to_owned(), 2), ("c".to_owned(), 9)].into());
        assert_eq!(least, [("a".to_owned(), 2)].into());
    }
}
