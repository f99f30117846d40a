//! One command, timed from outside: wall clock, processor time, memory.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::sh;

/// What one run took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    /// Seconds from start to end.
    pub(crate) wall: f64,
    /// Seconds of the processors, user and system, of the command and what it waited for. A daemon's are not in it.
    pub(crate) cpu: f64,
    /// Largest resident set of one of its processes, MB.
    pub(crate) memory: f64,
}

/// Runs a command by GNU time; `scratch` is a file for its report. A failure shows what the command said.
pub(crate) fn run(command: &Command, scratch: &Path) -> Result<Taken> {
    let mut timed = Command::new("time");
    timed.args(["-f", "%U %S %M", "-o"]).arg(scratch);
    timed.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => timed.env(name, value),
            None => timed.env_remove(name),
        };
    }
    timed.stdin(Stdio::null());
    let start = Instant::now();
    let done = timed.output().with_context(|| format!("cannot run `{}`", sh::line(&timed)))?;
    let wall = start.elapsed().as_secs_f64();
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        bail!("`{}` failed: {}\n{}", sh::line(command), done.status, said.trim_end());
    }
    let report = std::fs::read_to_string(scratch)
        .with_context(|| format!("cannot read {}", scratch.display()))?;
    let numbers: Vec<f64> =
        report.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    ensure!(numbers.len() == 3, "time(1) reported {report:?}");
    Ok(Taken { wall, cpu: numbers[0] + numbers[1], memory: numbers[2] / 1000.0 })
}

/// The runs of one command.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series(Vec<Taken>);

impl Series {
    pub(crate) fn push(&mut self, taken: Taken) {
        self.0.push(taken);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The median of one of the numbers; with an even count, the lower of the two.
    pub(crate) fn median(&self, of: impl Fn(&Taken) -> f64) -> f64 {
        self.sorted(of).get(self.0.len().saturating_sub(1) / 2).copied().unwrap_or_default()
    }

    pub(crate) fn most(&self, of: impl Fn(&Taken) -> f64) -> f64 {
        self.sorted(of).last().copied().unwrap_or_default()
    }

    /// The smallest number that so large a part of them do not exceed.
    pub(crate) fn quantile(&self, part: f64, of: impl Fn(&Taken) -> f64) -> f64 {
        let values = self.sorted(of);
        let rank = (values.len() as f64 * part).ceil() as usize;
        values.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    pub(crate) fn mean(&self, of: impl Fn(&Taken) -> f64) -> f64 {
        self.0.iter().map(of).sum::<f64>() / self.0.len().max(1) as f64
    }

    /// The first and the last `count` of them, in the order in which they were taken.
    pub(crate) fn ends(&self, count: usize) -> (Series, Series) {
        let count = count.min(self.0.len());
        let last = self.0.len() - count;
        (Series(self.0[..count].to_vec()), Series(self.0[last..].to_vec()))
    }

    pub(crate) fn least(&self, of: impl Fn(&Taken) -> f64) -> f64 {
        self.sorted(of).first().copied().unwrap_or_default()
    }

    fn sorted(&self, of: impl Fn(&Taken) -> f64) -> Vec<f64> {
        let mut values: Vec<f64> = self.0.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_measured() {
        let dir = std::env::temp_dir().join(format!("xtask-measure-{}", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 0.1"]);
        let taken = run(&command, &dir).unwrap();
        assert!(taken.wall >= 0.1 && taken.cpu < taken.wall && taken.memory > 0.1, "{taken:?}");
        let error = run(Command::new("sh").args(["-c", "echo no >&2; exit 3"]), &dir).unwrap_err();
        assert!(format!("{error:#}").contains("no"), "{error:#}");
        std::fs::remove_file(&dir).unwrap();
    }

    #[test]
    fn medians() {
        let mut series = Series::default();
        assert!(series.is_empty());
        for wall in [3.0, 1.0, 2.0] {
            series.push(Taken { wall, ..Taken::default() });
        }
        let wall = |taken: &Taken| taken.wall;
        assert_eq!((series.least(wall), series.median(wall), series.most(wall)), (1.0, 2.0, 3.0));
        series.push(Taken { wall: 4.0, ..Taken::default() });
        assert_eq!(series.median(wall), 2.0);
        assert_eq!((series.quantile(0.99, wall), series.quantile(0.5, wall)), (4.0, 2.0));
        assert_eq!(series.mean(wall), 2.5);
        let (first, last) = series.ends(2);
        assert_eq!((first.most(wall), last.least(wall)), (3.0, 2.0));
    }
}
