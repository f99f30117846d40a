use std::fs;
use std::path::Path;

use super::text::{check, code_of};
use super::*;

fn member(name: &str, uses: &[&str]) -> Member {
    let uses = uses.iter().map(|used| used.to_string()).collect();
    Member { name: name.to_owned(), folder: name.into(), uses, ..Member::default() }
}

fn sentences(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(Finding::to_string).collect()
}

#[test]
fn an_edge_outside_the_table_is_found() {
    let mut members = vec![member("sys", &["rustix"]), member("overlay", &["sys", "bindvol"])];
    assert!(edges(&members).is_empty(), "bindvol is no member here");
    members.push(member("bindvol", &["sys"]));
    assert_eq!(
        sentences(&edges(&members)),
        ["overlay/Cargo.toml:1: overlay must not depend on bindvol"]
    );
}

#[test]
fn a_crate_without_a_row_is_found() {
    let found = sentences(&edges(&[member("newcomer", &[])]));
    assert_eq!(
        found,
        ["newcomer/Cargo.toml:1: the table of dependencies has no row for the crate newcomer"]
    );
}

#[test]
fn a_crate_of_others_in_the_wrong_place_is_found() {
    assert!(edges(&[member("sys", &["libc"])]).is_empty());
    let found = sentences(&edges(&[member("overlay", &["libc", "anyhow"])]));
    assert_eq!(found.len(), 2);
    assert!(found[0].contains("overlay must not depend on libc (sys, ns-core may)"), "{found:?}");
}

#[test]
fn two_examples_of_one_name_are_found() {
    let mut members = vec![member("sys", &[]), member("overlay", &[])];
    members[0].examples = vec!["a".into(), "b".into()];
    members[1].examples = vec!["c".into()];
    assert!(example_names(&members).is_empty());
    members[1].examples.push("b".into());
    let found = sentences(&example_names(&members));
    assert_eq!(found, ["overlay/examples:1: sys has an example named b too"]);
}

#[test]
fn the_table_has_no_circle() {
    // Every row names only rows above it.
    for (at, (name, allowed)) in EDGES.iter().enumerate() {
        for used in *allowed {
            let above = EDGES[..at].iter().any(|(row, _)| row == used);
            assert!(above, "{name} -> {used}");
        }
    }
}

#[test]
fn what_is_left_over_is_found() {
    let source = [
        concat!("// TO", "DO: later"),
        concat!("let _ = \"to", "do!()\"; // a string"),
        concat!("to", "do!();"),
        concat!("#[ig", "nore]"),
        "let autodo = XXXL; // no mark",
        "",
    ];
    let found = check(Path::new("a.rs"), &source.join("\n"), false);
    assert_eq!(
        found.iter().map(|finding| finding.line).collect::<Vec<_>>(),
        [1, 3, 4],
        "{found:?}"
    );
    let found = check(Path::new("a.md"), concat!("\nFIX", "ME\n"), false);
    assert_eq!(found[0].line, 2);
}

#[test]
fn unsafe_code_is_found_and_talk_of_it_is_not() {
    let source = "#![forbid(unsafe_code)]\n// unsafe\n/* unsafe /* */ unsafe */\n\
        let a = \"unsafe\\\" unsafe\";\nlet b = r#\"unsafe \" unsafe\"#;\nlet c = ('\"', '\\'', 'x');\n\
        fn f<'a>(x: &'a str) { unsafe { g(x) } }\n";
    let found = check(Path::new("a.rs"), source, false);
    assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [7], "{found:?}");
    assert!(check(Path::new("a.rs"), source, true).is_empty());
    assert_eq!(code_of("a/* \n */b\"\n\"c").lines().count(), 3);
}

#[test]
fn a_long_file_is_found() {
    assert!(check(Path::new("a.rs"), &"x\n".repeat(FILE_LINES), false).is_empty());
    let found = check(Path::new("a.rs"), &"x\n".repeat(FILE_LINES + 1), false);
    assert_eq!(sentences(&found), ["a.rs:501: 501 lines, where 500 are the limit"]);
    assert!(check(Path::new("a.md"), &"x\n".repeat(FILE_LINES + 1), false).is_empty());
}

/// A folder below the temporary directory that is gone at the end of a test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let folder = format!("xtask-tidy-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        fs::create_dir_all(folder.join("overlay/src")).unwrap();
        Scratch(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is for the one who cleans the temporary directory.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn what_a_crate_lacks_is_found() {
    let scratch = Scratch::new("crate");
    let root = &scratch.0;
    fs::write(root.join("overlay/Cargo.toml"), "[package]\n").unwrap();
    fs::write(root.join("overlay/src/lib.rs"), "// #![forbid(unsafe_code)]\n").unwrap();
    let roots = vec![PathBuf::from("overlay/src/lib.rs")];
    let poor = Member { library: true, roots, ..member("overlay", &[]) };
    let found = sentences(&files_of(&poor, root).unwrap());
    assert_eq!(
        found,
        [
            "overlay/README.md:1: overlay has no README",
            "overlay/examples:1: the library overlay has no example below examples/",
            "overlay/Cargo.toml:1: overlay does not take the workspace's lints",
            "overlay/src/lib.rs:1: overlay does not say #![forbid(unsafe_code)]",
        ]
    );
    fs::write(root.join("overlay/README.md"), "# overlay\n").unwrap();
    fs::write(root.join("overlay/Cargo.toml"), "[lints]\nworkspace = true\n").unwrap();
    fs::write(root.join("overlay/src/lib.rs"), "#![forbid(unsafe_code)]\n").unwrap();
    assert!(files_of(&Member { examples: vec!["x".into()], ..poor }, root).unwrap().is_empty());
}

#[test]
fn documents_are_looked_for_and_measured() {
    let scratch = Scratch::new("documents");
    let root = &scratch.0;
    assert_eq!(documents(root).unwrap().len(), 6);
    for name in ["CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT", "README.md", "SECURITY.md"] {
        fs::write(root.join(name), "x\n").unwrap();
    }
    fs::write(root.join("ARCHITECTURE.md"), "x\n".repeat(201)).unwrap();
    let found = sentences(&documents(root).unwrap());
    assert_eq!(found, ["ARCHITECTURE.md:201: 201 lines, where 200 are the limit"]);
}

#[test]
fn files_are_listed_without_what_is_built() {
    let scratch = Scratch::new("list");
    let root = &scratch.0;
    for folder in ["target", ".git", ".ci"] {
        fs::create_dir_all(root.join(folder)).unwrap();
        fs::write(root.join(folder).join("file"), "").unwrap();
    }
    fs::write(root.join("overlay/src/lib.rs"), "").unwrap();
    let mut files = Vec::new();
    list(root, Path::new(""), &mut files).unwrap();
    assert_eq!(files, [Path::new(".ci/file"), Path::new("overlay/src/lib.rs")]);
}
