//! `ps`: the processes of a container.

use std::process::Command;

use anyhow::{Context as _, bail};
use oci_runtime::{Home, Recorded};

use crate::cli::{Format, PsArgs};
use crate::files;

/// Prints their numbers, or what the host's ps says of them.
pub(crate) fn ps(home: &Home, args: &PsArgs) -> anyhow::Result<u8> {
    let [id, options @ ..] = &args.words[..] else { bail!("no container is given") };
    let processes = Recorded::open(home, id)?.processes()?;
    let pids: Vec<i32> = processes.iter().map(|pid| pid.as_raw_nonzero().get()).collect();
    if args.format == Format::Json {
        files::print(&format!("{}\n", serde_json::to_string(&pids)?))?;
        return Ok(0);
    }
    let mut ps = Command::new("ps");
    match options {
        [] => ps.arg("-ef"),
        options => ps.args(options),
    };
    let output = ps.output().context("running the host's program ps")?;
    if !output.status.success() {
        bail!("ps: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    files::print(&lines(&String::from_utf8_lossy(&output.stdout), &pids)?)?;
    Ok(0)
}

/// The title of what ps prints, and the lines of `pids`.
fn lines(text: &str, pids: &[i32]) -> anyhow::Result<String> {
    let mut lines = text.lines();
    let title = lines.next().unwrap_or_default();
    let Some(column) = title.split_ascii_whitespace().position(|word| word == "PID") else {
        bail!("the output of ps has no column PID: let its options show it (-o pid,…)");
    };
    let wanted = |line: &&str| {
        let cell = line.split_ascii_whitespace().nth(column);
        cell.and_then(|cell| cell.parse().ok()).is_some_and(|pid| pids.contains(&pid))
    };
    Ok([title].into_iter().chain(lines.filter(wanted)).map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lines_of_the_container_are_kept() {
        let text = "UID PID CMD\nroot 1 init\nroot 27 sleep 1\nroot 270 sh\n";
        assert_eq!(lines(text, &[27]).unwrap(), "UID PID CMD\nroot 27 sleep 1\n");
        assert!(lines("UID CMD\n", &[1]).unwrap_err().to_string().contains("PID"));
    }
}
