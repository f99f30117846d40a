//! `top`: the processes of a container, as the host's ps shows them.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::Command;

use crate::target::Target;
use crate::{Engine, Error};

/// What ps shows if nothing is said: as Docker.
const DEFAULT: &str = "-ef";

/// The processes of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Top {
    /// The heading of each column.
    pub titles: Vec<String>,
    /// A cell for each column.
    pub processes: Vec<Vec<String>>,
}

impl Engine {
    /// The processes of a container that runs, as `ps OPTIONS` of the host shows them; `options` must not
    /// leave the column PID out. Which processes are the container's, their namespaces say.
    ///
    /// # Errors
    /// There is no such container, or it does not run; ps is not there or does not take the options.
    pub fn top(&self, container: &str, options: &[String]) -> Result<Top, Error> {
        let (dir, container) = self.find(container)?;
        let Some(target) = Target::of(&dir.state()?)? else {
            return Err(Error::not_running(&container));
        };
        let pids = pids(&target, container.host_config.pid_mode.is_empty())?;
        let default = [DEFAULT.to_owned()];
        let options = if options.is_empty() { &default } else { options };
        let output = Command::new("ps")
            .args(options)
            .output()
            .map_err(|error| Error::system("run the host's program", "ps", error))?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr);
            return Err(Error::Ps { message: crate::error::shorten(message.trim()) });
        }
        parse(&String::from_utf8_lossy(&output.stdout), &pids)
    }
}

/// The processes in the same PID namespace, if that is `own`, or in the same mount namespace.
fn pids(target: &Target, own: bool) -> Result<HashSet<i32>, Error> {
    let kinds: &[&str] = if own { &["pid", "mnt"] } else { &["mnt"] };
    let namespaces = |process: &str| -> Vec<Option<PathBuf>> {
        let read = |kind: &&str| std::fs::read_link(format!("/proc/{process}/ns/{kind}")).ok();
        kinds.iter().map(read).collect()
    };
    let of_container = namespaces(&target.pid.as_raw_nonzero().to_string());
    let mut pids = HashSet::new();
    let failed = |error| Error::system("list", "/proc", error);
    for entry in std::fs::read_dir("/proc").map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let of_process = namespaces(&pid.to_string());
        // One that has ended meanwhile has none.
        let shares = |(a, b): (&Option<PathBuf>, &Option<PathBuf>)| a.is_some() && a == b;
        if of_container.iter().zip(&of_process).any(shares) {
            pids.insert(pid);
        }
    }
    Ok(pids)
}

/// The lines of ps that are of `pids`; the last column takes what is left of a line.
fn parse(text: &str, pids: &HashSet<i32>) -> Result<Top, Error> {
    let mut lines = text.lines();
    let words = |line: &str| line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let titles = words(lines.next().unwrap_or_default());
    let Some(column) = titles.iter().position(|title| title == "PID") else {
        let message = "its output has no column PID; let the options show it (-o pid,…)".to_owned();
        return Err(Error::Ps { message });
    };
    let mut processes = Vec::new();
    for line in lines {
        let mut cells = words(line);
        let of_container = |cell: &String| cell.parse().is_ok_and(|pid| pids.contains(&pid));
        if !cells.get(column).is_some_and(of_container) {
            continue;
        }
        if cells.len() > titles.len() {
            let last = cells.split_off(titles.len() - 1).join(" ");
            cells.push(last);
        }
        processes.push(cells);
    }
    Ok(Top { titles, processes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lines_of_the_container_are_kept() {
        let text = "UID PID CMD\nroot     1 init now\nroot   27 sleep  1000 x\nme 270 sh\n";
        let top = parse(text, &HashSet::from([27, 270])).unwrap();
        assert_eq!(top.titles, ["UID", "PID", "CMD"]);
        assert_eq!(top.processes, [vec!["root", "27", "sleep 1000 x"], vec!["me", "270", "sh"]]);
        assert!(parse("CMD\nx\n", &HashSet::new()).unwrap_err().to_string().contains("PID"));
        parse("", &HashSet::new()).unwrap_err();
    }
}
