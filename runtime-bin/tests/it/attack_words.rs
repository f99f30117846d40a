//! Words of an image or a container that would move the cursor, change a terminal's settings or forge a line.

use serde_json::json;

use crate::attack::forms;
use crate::harness::{Root, arg, wait_until};
use crate::image::{Archive, Layer};
use crate::oci::Oci;
use crate::pty::Terminal;

const ESCAPE: &str = "\u{1b}[2J\u{1b}]0;forged\u{7}\rforged";

/// No list, message or template shows them as they are, but for the output of the container itself.
#[test]
fn words_that_move_the_cursor() {
    for form in forms() {
        let root = Root::new();
        let layer =
            Layer::new().directory(&format!("dir{ESCAPE}")).file("bin/true\u{1b}", 0o644, "");
        let archive = Archive::busybox([layer])
            .with("Labels", json!({"label": ESCAPE, ESCAPE: "value"}))
            .with("Env", json!(["PATH=/bin", format!("A={ESCAPE}")]))
            .with("Cmd", json!(["sh", "-c", "mkdir -p /new; touch /new/$0; sleep 1000", ESCAPE]))
            .with("Volumes", json!({format!("/dir{ESCAPE}"): {}}))
            .with("Healthcheck", json!({"Test": ["CMD", "sh", "-c", "printf '\\033[2J'", ESCAPE], "Interval": 1_000_000_000}));
        let image = archive.write(root.dir(), "x.tar");
        root.ok(["run", "-d", "--name", "box", form, arg(&image)]);
        let name = "localhost/test:latest";
        let labels = "{{.Labels}} {{.Command}} {{.Mounts}}";
        let whole = "{{.Config.Labels}} {{.Config.Env}} {{.Config.Cmd}} {{.Args}} {{.Mounts}}";
        for args in [
            &["ps"][..],
            &["ps", "-a", "--no-trunc"],
            &["ps", "--format", labels],
            &["ps", "--format", "json"],
            &["inspect", "box"],
            &["inspect", "--type", "image", name],
            &["images"],
            &["images", "--format", "json"],
            &["history", "--no-trunc", name],
            &["history", "--format", "{{.CreatedBy}}", name],
            &["diff", "box"],
            &["mounts", "box"],
            &["top", "box"],
            &["volume", "ls"],
            &["system", "df", "-v"],
            &["events", "--since", "1h", "--until", "0s"],
            &["exec", "-u", ESCAPE, "box", "true"],
            &["exec", "-w", ESCAPE, "box", "true"],
            &["exec", "box", ESCAPE],
            &["exec", "box", "true\u{1b}"],
            &["cp", "box:/none\u{1b}[2J", "/nowhere"],
            &["run", "--rm", "--entrypoint", ESCAPE, name],
            &["run", "--rm", "-w", "/bin/true\u{1b}", name],
            &["run", "--rm", ESCAPE],
            &["rm", ESCAPE],
        ] {
            let out = root.call(args);
            for text in [&out.stdout, &out.stderr] {
                let moves = text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t'));
                assert!(!moves, "{form}: {args:?} shows {text:?}");
            }
        }
        // A program gets the very words; on a terminal they are shown.
        for args in [
            &["inspect", "--format", whole, "box"][..],
            &["inspect", "--type", "image", "--format", "{{.Config.Labels}}", name],
        ] {
            assert!(root.ok(args).contains(ESCAPE), "{form}: {args:?}");
            let mut user = Terminal::start(&root.command(args), 24, 80);
            assert_eq!(user.wait(), Some(0));
            wait_until("the words are shown", || user.text().contains("forged"));
            let text = user.text();
            let moves = text.chars().any(|c| c.is_control() && !matches!(c, '\r' | '\n'));
            assert!(!moves && !text.contains("\rforged"), "{form}: {args:?} shows {text:?}");
        }
        root.ok(["rm", "-f", "-v", "box"]);
    }
}

#[test]
fn words_that_move_the_cursor_or_forge_a_line_of_runtime_oci() {
    let oci = Oci::new(&[ESCAPE]);
    let line = "x\ntime=\"now\" level=info msg=forged";
    for word in [ESCAPE, line] {
        for part in ["command", "cwd", "mount", "env", "sysctl", "hostname", "annotation"] {
            oci.configure(
                |config| match part {
                    "cwd" => config["process"]["cwd"] = format!("/proc/{word}").into(),
                    "mount" => config["mounts"][3]["source"] = word.into(),
                    "env" => config["process"]["env"] = json!([word]),
                    "sysctl" => config["linux"]["sysctl"] = json!({word: word}),
                    "hostname" => config["hostname"] = word.repeat(4).into(),
                    "annotation" => config["annotations"][word] = word.into(),
                    _ => {}
                },
                &[if part == "command" { word } else { "true" }],
            );
            for options in [&[][..], &["--log-format", "json"]] {
                let out = oci.call(&[options, &["run", "a"]].concat());
                let moves = out.stderr.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t'));
                assert!(!moves, "{part}: {out:?}");
                assert!(
                    !out.stderr.lines().any(|line| line.starts_with("time=\"now\"")),
                    "{part}: {out:?}"
                );
            }
        }
    }
    assert!(oci.names().is_empty());
}
