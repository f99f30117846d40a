//! `update`: limits of a container that runs.

use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, bail};
use oci_runtime::spec::LinuxResources;
use oci_runtime::{Home, Recorded};
use serde_json::{Value, json};

use crate::cli::UpdateArgs;

/// Sets the limits that are given.
pub(crate) fn update(home: &Home, args: &UpdateArgs) -> anyhow::Result<u8> {
    let (resources, from) = match &args.resources {
        Some(file) => (read(file)?, file.display().to_string()),
        None => (given(args), "the limits".to_owned()),
    };
    let mut resources: LinuxResources =
        serde_json::from_value(resources).with_context(|| format!("reading {from}"))?;
    // As runc: engines give the whole of linux.resources again, whose rules lack what every container may
    // use besides (config-linux.md, "Default Devices").
    resources.set_devices(None);
    Recorded::update(home, &args.id, &oci_runtime::limits(&resources)?)?;
    Ok(0)
}

fn read(file: &Path) -> anyhow::Result<Value> {
    let mut text = Vec::new();
    let read = match file.to_str() {
        Some("-") => std::io::stdin().read_to_end(&mut text),
        _ => std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut text)),
    };
    read.with_context(|| format!("reading {}", file.display()))?;
    let value: Value =
        serde_json::from_slice(&text).with_context(|| format!("reading {}", file.display()))?;
    match value.is_object() {
        true => Ok(value),
        false => bail!("{}: it is no object of limits", file.display()),
    }
}

/// The options, as the configuration has them.
fn given(args: &UpdateArgs) -> Value {
    let with = |pairs: &[(&str, Option<Value>)]| -> Option<Value> {
        let given =
            pairs.iter().filter_map(|(name, value)| Some(((*name).to_owned(), value.clone()?)));
        let given: serde_json::Map<_, _> = given.collect();
        (!given.is_empty()).then(|| given.into())
    };
    let number = |number: Option<i64>| number.map(Value::from);
    let text = |text: &Option<String>| text.clone().map(Value::from);
    let memory = with(&[
        ("limit", number(args.memory)),
        ("reservation", number(args.memory_reservation)),
        ("swap", number(args.memory_swap)),
    ]);
    let cpu = with(&[
        ("shares", args.cpu_share.map(Value::from)),
        ("quota", number(args.cpu_quota)),
        ("burst", args.cpu_burst.map(Value::from)),
        ("period", args.cpu_period.map(Value::from)),
        ("realtimeRuntime", number(args.cpu_rt_runtime)),
        ("realtimePeriod", args.cpu_rt_period.map(Value::from)),
        ("cpus", text(&args.cpuset_cpus)),
        ("mems", text(&args.cpuset_mems)),
        ("idle", number(args.cpu_idle)),
    ]);
    let all = with(&[
        ("memory", memory),
        ("cpu", cpu),
        ("blockIO", with(&[("weight", args.blkio_weight.map(Value::from))])),
        ("pids", with(&[("limit", number(args.pids_limit))])),
    ]);
    all.unwrap_or_else(|| json!({}))
}
