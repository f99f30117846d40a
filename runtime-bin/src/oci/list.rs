//! `state` and `list`.

use oci_runtime::{Error, Home, Recorded, State};

use crate::cli::{Format, ListArgs};
use crate::{Context, files};

/// Prints a container's state.
pub(crate) fn state(home: &Home, id: &str) -> anyhow::Result<u8> {
    files::print_json(&Recorded::open(home, id)?.state()?)?;
    Ok(0)
}

/// Prints all containers; of one that cannot be read it warns (as runc).
pub(crate) fn list(context: &Context, args: &ListArgs) -> anyhow::Result<u8> {
    let home = &context.home;
    let mut states = Vec::new();
    for id in home.ids()? {
        match Recorded::open(home, &id).and_then(|container| container.state()) {
            Ok(state) => states.push(state),
            // It went meanwhile.
            Err(Error::NoSuchContainer { .. }) => {}
            Err(error) => context.log.warnings(&[format!("load container {id}: {error}")]),
        }
    }
    match args.format {
        _ if args.quiet => {
            let ids = states.iter().map(|state| format!("{}\n", state.id));
            files::print(&ids.collect::<String>())?;
        }
        Format::Json => files::print(&format!("{}\n", serde_json::to_string(&states)?))?,
        Format::Table => files::print(&table(&states))?,
    }
    Ok(0)
}

/// Columns as wide as their longest cell and three more, twelve at least: as runc's.
fn table(states: &[State]) -> String {
    let titles = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows = states.iter().map(|state| {
        [
            state.id.clone(),
            state.pid.to_string(),
            state.status.to_string(),
            state.bundle.display().to_string(),
            state.created.clone(),
            state.owner.clone(),
        ]
    });
    let rows: Vec<_> = [titles].into_iter().chain(rows).collect();
    let width = |column: usize| {
        let longest = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        (longest + 3).max(12)
    };
    let widths: Vec<_> = (0..5).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(&format!("{cell:width$}"));
        }
        text.push_str(&row[5]);
        text.push('\n');
    }
    text
}
