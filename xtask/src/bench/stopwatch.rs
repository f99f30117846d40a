//! Short commands, timed in turns by a small program (sys/examples/stopwatch.rs): xtask's own weight, and GNU time's
//! hundredths of a second, would be in the figures of a start.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::measure::{Series, Taken};
use crate::sh;

/// How many lines of what a failed command said are shown.
const SAID: usize = 4;

/// What a line of the plan is for, as the stopwatch names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Time,
    Reap,
}

/// A command of a plan.
#[derive(Clone, Debug)]
struct Line {
    kind: Kind,
    every: usize,
    words: Vec<String>,
}

/// Commands that are run in turns. `{}` in their words becomes a number that is another one in each round.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan(Vec<Line>);

impl Plan {
    /// One command, timed.
    pub(super) fn of(words: &[&str]) -> Plan {
        let mut plan = Plan::default();
        plan.time(words);
        plan
    }

    /// A command whose time counts. It must succeed.
    pub(super) fn time(&mut self, words: &[&str]) -> &mut Plan {
        self.line(Kind::Time, words)
    }

    /// Waits until no process is there that earlier commands left behind.
    pub(super) fn reap(&mut self) -> &mut Plan {
        self.line(Kind::Reap, &[])
    }

    /// Lets all commands run in each so many-th round only.
    pub(super) fn every(mut self, rounds: usize) -> Plan {
        self.0.iter_mut().for_each(|line| line.every = rounds);
        self
    }

    /// How many of its commands are timed.
    pub(super) fn timed(&self) -> usize {
        self.0.iter().filter(|line| line.kind == Kind::Time).count()
    }

    fn line(&mut self, kind: Kind, words: &[&str]) -> &mut Plan {
        let words = words.iter().map(|&word| word.to_owned()).collect();
        self.0.push(Line { kind, every: 1, words });
        self
    }

    fn text(&self) -> Result<String> {
        let mut text = String::new();
        for Line { kind, every, words } in &self.0 {
            let kind = match kind {
                Kind::Time => "time",
                Kind::Reap => "reap",
            };
            text.push_str(&format!("{kind}\t{every}"));
            for (number, word) in words.iter().enumerate() {
                // A PATH is not searched while the clock runs.
                let found = (number == 0).then(|| sh::which(word)).flatten();
                let word = found.map_or(word.clone(), |path| path.to_string_lossy().into_owned());
                if word.contains(['\t', '\n']) {
                    bail!("the stopwatch separates words by tabs, and this one has such: {word:?}");
                }
                text.push('\t');
                text.push_str(&word);
            }
            text.push('\n');
        }
        Ok(text)
    }
}

/// The program, and a directory for what it reads and writes.
pub(super) struct Stopwatch {
    program: PathBuf,
    dir: PathBuf,
}

/// How often a plan runs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rounds {
    /// In turns, so often, after so many rounds that do not count.
    InTurns { rounds: usize, warm_up: usize },
    /// Each command by so many processes at once, each so often: one figure for all of them.
    Together { jobs: usize, rounds: usize },
}

impl Rounds {
    /// Once, to see whether it goes.
    pub(super) const ONCE: Rounds = Rounds::InTurns { rounds: 1, warm_up: 0 };
}

impl Stopwatch {
    pub(super) fn new(program: &Path, dir: &Path) -> Result<Stopwatch> {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(Stopwatch { program: program.to_owned(), dir: dir.to_owned() })
    }

    /// Runs all plans as one, and gives the figures of each timed command, in their order.
    pub(super) fn run(&self, plans: &[&Plan], how: Rounds) -> Result<Vec<Series>> {
        let lines: Vec<Line> = plans.iter().flat_map(|plan| plan.0.clone()).collect();
        let whole = Plan(lines);
        let [commands, report, said] =
            ["commands", "report", "said"].map(|name| self.dir.join(name));
        fs::write(&commands, whole.text()?)?;
        let mut stopwatch = Command::new(&self.program);
        match how {
            Rounds::InTurns { rounds, warm_up } => {
                stopwatch.args(["--rounds", &rounds.to_string()]);
                stopwatch.args(["--warm-up", &warm_up.to_string()]);
            }
            Rounds::Together { jobs, rounds } => {
                stopwatch.args(["--rounds", &rounds.to_string(), "--jobs", &jobs.to_string()]);
            }
        }
        stopwatch.arg(&commands).arg(&report);
        // What containers inherit is no pipe of this process: one that stays would keep it open.
        stopwatch.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&said)?);
        let status = stopwatch.status().context("cannot run the stopwatch")?;
        let said = fs::read(&said)?;
        let said = String::from_utf8_lossy(&said);
        if !status.success() {
            bail!("the stopwatch failed: {status}\n{}", said.trim_end());
        }
        series(&whole, &fs::read_to_string(&report)?, &said)
    }

    /// Runs a plan once: whether it goes, and what it takes.
    pub(super) fn once(&self, plan: &Plan) -> Result<Vec<Series>> {
        self.run(&[plan], Rounds::ONCE)
    }
}

/// The figures of each timed line, in a report of the stopwatch.
fn series(plan: &Plan, report: &str, said: &str) -> Result<Vec<Series>> {
    let mut series: Vec<Series> = plan.0.iter().map(|_| Series::default()).collect();
    for line in report.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if let ["failed", number, status] = words[..] {
            let command = plan.0.get(number.parse::<usize>()?).map(|line| line.words.join(" "));
            // Rust programs may add to an error where it came from.
            let said = said.split("Stack backtrace:").next().unwrap_or_default();
            let from = said.lines().count().saturating_sub(SAID);
            let said: Vec<&str> = said.lines().skip(from).collect();
            bail!(
                "`{}` failed with status {status}: {}",
                command.unwrap_or_default(),
                said.join("\n")
            );
        }
        let numbers: Vec<f64> = words.iter().filter_map(|word| word.parse().ok()).collect();
        let [line, wall, cpu, memory] = numbers[..] else {
            bail!("the stopwatch reported {line:?}");
        };
        let series = series.get_mut(line as usize).context("the stopwatch reported no line")?;
        series.push(Taken { wall: wall / 1e9, cpu: cpu / 1e6, memory: memory * 1.024 / 1e3 });
    }
    let timed = series.into_iter().zip(&plan.0).filter(|(_, line)| line.kind == Kind::Time);
    Ok(timed.map(|(series, _)| series).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let mut plan = Plan::default();
        plan.time(&["/a", "{}"]).reap().time(&["/c"]);
        plan
    }

    #[test]
    fn a_plan_is_a_line_for_each_command() {
        let text = plan().every(3).text().unwrap();
        assert_eq!(text, "time\t3\t/a\t{}\nreap\t3\ntime\t3\t/c\n");
        assert!(Plan::of(&["/a", "b\tc"]).text().is_err());
    }

    #[test]
    fn figures_go_to_their_commands() {
        let report = "0 2000000 1500 1000\n2 4000000 0 2000\n0 6000000 2500 1000\n";
        let series = series(&plan(), report, "").unwrap();
        assert_eq!(series.len(), plan().timed());
        assert_eq!(series[0].median(|taken| taken.wall), 0.002);
        assert_eq!(series[0].most(|taken| taken.cpu), 0.0025);
        assert_eq!(series[1].median(|taken| taken.memory), 2.048);
    }

    #[test]
    fn a_failure_is_told_with_what_was_said() {
        let error = series(&plan(), "failed 2 125\n", "one\nno such thing\n").unwrap_err();
        let error = error.to_string();
        assert!(error.contains("`/c` failed with status 125: one\nno such thing"), "{error}");
        assert!(series(&plan(), "0 1 2\n", "").is_err());
    }
}
