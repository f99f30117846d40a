//! `ps`: which containers there are.

use std::path::Path;

use engine::{Container, Engine, HealthStatus, State, Status};
use time::OffsetDateTime;

use crate::cli::PsArgs;
use crate::format::{duration, seconds_since};
use crate::output::{self, printable};
use crate::table::table;

/// How much of a command is shown.
const COMMAND_MAX: usize = 20;

pub(crate) fn ps(root: &Path, args: &PsArgs) -> anyhow::Result<u8> {
    let mut containers = Engine::open(root)?.list()?;
    containers.retain(|(_, state)| args.all || state.status == Status::Running);
    output::print(&list(&containers, args, OffsetDateTime::now_utc()))?;
    Ok(0)
}

fn list(containers: &[(Container, State)], args: &PsArgs, now: OffsetDateTime) -> String {
    let id = |container: &Container| match args.no_trunc {
        true => container.id.clone(),
        false => container.short_id().to_owned(),
    };
    if args.quiet {
        return containers.iter().map(|(container, _)| id(container) + "\n").collect();
    }
    let heading = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
        .map(str::to_owned);
    let row = |(container, state): &(Container, State)| {
        [
            id(container),
            printable(&container.config.image),
            command(container, args.no_trunc),
            ago(&container.created, now),
            status(state, now),
            // Published ports: there are none without a network of the container's own.
            String::new(),
            printable(&container.name),
        ]
    };
    let rows: Vec<_> = [heading].into_iter().chain(containers.iter().map(row)).collect();
    table(&rows)
}

/// `2 hours ago`
fn ago(time: &str, now: OffsetDateTime) -> String {
    seconds_since(time, now).map_or(String::new(), |seconds| format!("{} ago", duration(seconds)))
}

/// `Up 3 minutes`, `Exited (0) 2 hours ago`
fn status(state: &State, now: OffsetDateTime) -> String {
    match state.status {
        Status::Creating | Status::Created => "Created".to_owned(),
        Status::Restarting => {
            format!("Restarting ({}) {}", state.exit_code, ago(&state.finished_at, now))
        }
        Status::Running => {
            let seconds = seconds_since(&state.started_at, now).unwrap_or(0);
            let health = match state.health.as_ref().map(|health| health.status) {
                None => "",
                Some(HealthStatus::Starting) => " (health: starting)",
                Some(HealthStatus::Healthy) => " (healthy)",
                Some(HealthStatus::Unhealthy) => " (unhealthy)",
            };
            format!("Up {}{health}", duration(seconds))
        }
        Status::Exited => {
            format!("Exited ({}) {}", state.exit_code, ago(&state.finished_at, now))
        }
        Status::Removing => "Removal In Progress".to_owned(),
    }
}

/// The program and its arguments in quotes, cut after 20 characters.
fn command(container: &Container, whole: bool) -> String {
    let mut text = container.path.clone();
    for arg in &container.args {
        let quotes = if arg.contains(' ') { "'" } else { "" };
        text = format!("{text} {quotes}{arg}{quotes}");
    }
    if !whole && text.chars().count() > COMMAND_MAX {
        text = text.chars().take(COMMAND_MAX - 1).chain(['…']).collect();
    }
    format!("{text:?}")
}

#[cfg(test)]
mod tests;
