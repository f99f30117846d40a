//! What helps at a shell: completions, manual pages, messages for programs, suggestions.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{BIN, Root, Started, arg, busybox};

#[test]
fn a_mistyped_word_has_suggestions() {
    let root = Root::new();
    root.fails(1, &["'mounts'"], ["muonts", "x"]);
    root.fails(1, &["'--all'"], ["ps", "--al"]);
    root.fails(125, &["--detach"], ["run", "--detatch", "x"]);
    root.fails(1, &["required"], ["cp", "x"]);
    let image = busybox();
    root.ok(["run", "--name", "web-server", arg(&image), "true"]);
    root.fails(1, &["web-server"], ["inspect", "web-sever"]);
}

#[test]
fn errors_for_programs_are_json_lines() {
    let root = Root::new();
    for args in [
        &["--log-format", "json", "rm", "nobody"][..],
        &["rm", "--log-format=json", "nobody", "no-one"],
        &["--log-format", "json", "run", "--no-such-option", "x"],
        &["--log-format", "json", "no-such-verb"],
        &["--log-format", "json", "run", "/no/such.tar"],
    ] {
        let out = root.call(args);
        assert!(out.code == 1 || out.code == 125, "{args:?}: {out:?}");
        assert!(!out.stderr.is_empty(), "{args:?}");
        for line in out.stderr.lines() {
            let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            assert_eq!(value["level"], "error", "{line}");
            assert!(!value["msg"].as_str().unwrap().is_empty(), "{line}");
            assert!(value["time"].as_str().unwrap().ends_with('Z'), "{line}");
        }
    }
    for level in ["debug", "info", "warn", "error", "fatal"] {
        root.ok(["--log-level", level, "ps"]);
    }
    root.ok(["--quiet", "ps"]);
    root.fails(1, &["loud", "possible values"], ["--log-level", "loud", "ps"]);
}

#[test]
fn colours_only_where_they_are_wanted() {
    let root = Root::new();
    let help = |name: &str, value: &str| {
        let mut command = root.command(["run", "--help"]);
        command.env(name, value);
        Started::new(command, None).wait().stdout
    };
    for text in [help("NO_COLOR", "1"), help("TERM", "xterm")] {
        assert!(!text.contains('\u{1b}'), "no terminal, no colours");
        assert!(text.contains("Example:\n  runtime-bin run "), "{text}");
    }
}

/// The script in a real bash: words of the command line, and names from the store.
#[test]
fn bash_completes_names() {
    let root = Root::new();
    let image = busybox();
    root.ok(["run", "--name", "first-box", arg(&image), "true"]);
    root.ok(["run", "--name", "second-box", arg(&image), "true"]);
    root.ok(["load", "-q", "-i", arg(&image)]);
    let bin = root.host_dir("bin");
    std::os::unix::fs::symlink(BIN, bin.join("runtime-bin")).unwrap();
    let script = root.dir().join("completion.bash");
    fs::write(&script, root.ok(["completions", "bash"])).unwrap();
    let complete = |words: &[&str]| {
        let line = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        let ask = format!(
            "source {}; COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _runtime_bin_with_names runtime-bin \"${{COMP_WORDS[COMP_CWORD]}}\" \
             \"${{COMP_WORDS[COMP_CWORD-1]}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            arg(&script)
        );
        let path = format!("{}:{}", arg(&bin), std::env::var("PATH").unwrap_or_default());
        let out = Command::new("bash")
            .args(["--norc", "-c", &ask])
            .env("PATH", path)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(out.stderr.is_empty(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8(out.stdout).unwrap();
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let store = root.store();
    let with_root =
        |rest: &[&str]| complete(&[&["runtime-bin", "--root", arg(&store)], rest].concat());
    assert!(complete(&["runtime-bin", "um"]).contains(&"umount".to_owned()));
    assert!(complete(&["runtime-bin", "run", "--deta"]).contains(&"--detach".to_owned()));
    for verb in ["exec", "rm", "inspect", "cp", "umount", "diff"] {
        let names = with_root(&[verb, "f"]);
        assert!(names.contains(&"first-box".to_owned()), "{verb}: {names:?}");
        assert!(!names.iter().any(|name| name.contains("second")), "{verb}: {names:?}");
    }
    let names = with_root(&["rm", ""]);
    assert!(names.contains(&"first-box".to_owned()) && names.contains(&"second-box".to_owned()));
    assert!(!names.iter().any(|name| name.starts_with(['<', '['])), "{names:?}");
    let names = with_root(&["run", "localhost/bus"]);
    assert!(names.iter().any(|name| name == "localhost/busybox:latest"), "{names:?}");
    let names = with_root(&["container", "stop", "sec"]);
    assert_eq!(names, ["second-box"]);
    // The other shells' scripts are made of the same words.
    for shell in ["zsh", "fish"] {
        let text = root.ok(["completions", shell]);
        assert!(text.contains("__complete containers"), "{shell}");
    }
    root.fails(1, &["tcsh", "possible values"], ["completions", "tcsh"]);
}

#[test]
fn manual_pages_are_written() {
    let root = Root::new();
    let dir = root.host_dir("man");
    root.ok(["__man", arg(&dir)]);
    let page = fs::read_to_string(dir.join("runtime-bin-mount.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("Example"), "{page}");
    root.fails(1, &["no/such"], ["__man", "no/such"]);
    let help = root.ok(["--help"]);
    assert!(!help.contains("__man") && !help.contains("__complete"), "{help}");
}
