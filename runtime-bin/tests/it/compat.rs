//! docs/compat.md against the program: what is ticked is there, what is not is refused.

use std::path::Path;

use crate::harness::Root;

/// The rows of the table below a heading, cell by cell, without backquotes.
fn table(heading: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compat.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).expect(heading);
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = |row: &str| {
        let cells = row.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    };
    rows.map(cells).collect()
}

/// Whether a row is ticked.
fn ticked(status: &str) -> bool {
    match status {
        "✓" => true,
        "later" | "no" => false,
        other => panic!("{other:?} is neither ✓ nor later nor no"),
    }
}

#[test]
fn each_command_is_there_as_the_table_says() {
    let root = Root::new();
    let rows = table("Commands");
    assert!(rows.len() > 90, "the table is not whole: {} rows", rows.len());
    for row in rows {
        let [command, status, ..] = &row[..] else { panic!("{row:?}") };
        let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let out = root.call(&words);
        // What is a verb by itself too shows that verb's usage.
        let verb = words[words.len() - 2];
        let is_usage =
            |line: &str| line.contains("runtime-bin") && line.split(' ').any(|word| word == verb);
        let is_there = out.code == 0 && out.stdout.lines().any(is_usage);
        assert_eq!(
            is_there,
            ticked(status),
            "{command} is {status:?} in docs/compat.md: {}",
            out.stderr
        );
        if status == "later" {
            assert!(out.stderr.contains(&format!("{verb} is not there yet")), "{}", out.stderr);
        }
    }
    assert!(!root.store().exists(), "help makes a store");
}

/// With an image that there is not, so that no container is started: who complains of the image has
/// read the option.
#[test]
fn each_option_of_run_is_there_as_the_table_says() {
    let root = Root::new();
    let rows = table("Options of `run`");
    assert!(rows.len() > 100, "the table is not whole: {} rows", rows.len());
    let file = root.dir().join("id");
    for row in rows {
        let [option, status, example, ..] = &row[..] else { panic!("{row:?}") };
        if example == "--volumes-from NAME[:ro]" {
            // Whose container is asked for before the image.
            let out = root.call(["run", "--volumes-from", "nosuch", "no/such/image"]);
            assert!(ticked(status) && out.stderr.contains("No such container"), "{out:?}");
            continue;
        }
        let example = example.replace("FILE", file.to_str().unwrap());
        // What stands in quotes is one word.
        let quoted = example.split('\'').enumerate();
        let words = quoted.flat_map(|(number, part)| match number % 2 {
            0 => part.split(' ').filter(|word| !word.is_empty()).collect(),
            _ => vec![part],
        });
        let words = ["run"].into_iter().chain(words).chain(["no/such/image"]);
        let out = root.call(words);
        let is_there = match &option[..] {
            "--help" => out.code == 0 && out.stdout.contains("--volume"),
            _ => out.code == 125 && out.stderr.contains("has no image no/such/image"),
        };
        assert_eq!(is_there, ticked(status), "{option} is {status:?} in docs/compat.md: {out:?}");
        assert!(!file.exists(), "{option} leaves a file");
    }
    root.assert_nothing_left();
}

/// No option is there that the table does not know, but for those that it names below.
#[test]
fn each_option_of_run_is_in_the_table() {
    let root = Root::new();
    let known = table("Options of `run`");
    let beyond = [
        "--durable",
        "--layer-form",
        "--in-place",
        "--image-limit",
        "--verity",
        "--pidfile",
        "--root",
        "--log-level",
        "--log-format",
    ];
    let help = root.ok(["run", "--help"]);
    for line in help.lines().map(str::trim_start).filter(|line| line.starts_with('-')) {
        let names = line
            .split([' ', ',', '<', '=', '['])
            .take_while(|word| word.is_empty() || word.starts_with('-'));
        let names: Vec<&str> = names.filter(|word| !word.is_empty()).collect();
        let in_table = known.iter().any(|row| {
            names.iter().any(|name| row[0] == *name || row[3].contains(&format!("{name}`")))
        });
        let beyond = names.iter().any(|name| beyond.contains(name));
        assert!(in_table || beyond, "docs/compat.md has no row for {names:?}");
    }
}
