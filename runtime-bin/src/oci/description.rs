//! What a shell and a reader want to know of the command line, from the one description of it.

use anyhow::Context as _;
use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::files;
use crate::shells::KnownShell;

const NAME: &str = "runtime-oci";

/// Prints the script by which a shell completes words.
pub(crate) fn completions(args: &CompletionsArgs) -> anyhow::Result<u8> {
    files::print(&script(args.shell)?)?;
    Ok(0)
}

fn script(shell: KnownShell) -> anyhow::Result<String> {
    let script = shell.script(Cli::command(), NAME)?;
    // At the ends of lines it is the command that is completed.
    Ok(match shell {
        KnownShell::Bash => script.replace(" runtime_oci\n", " runtime-oci\n"),
        KnownShell::Zsh | KnownShell::Fish => script,
    })
}

/// Writes a manual page for each verb.
pub(crate) fn man(args: &ManArgs) -> anyhow::Result<u8> {
    clap_mangen::generate_to(Cli::command(), &args.dir)
        .with_context(|| format!("writing the manual pages to {}", args.dir.display()))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_script_knows_the_verbs() {
        for shell in [KnownShell::Bash, KnownShell::Zsh, KnownShell::Fish] {
            let script = script(shell).unwrap();
            for word in ["runtime-oci", "pause", "preserve-fds"] {
                assert!(script.contains(word), "{shell:?}: {word}");
            }
        }
        let bash = script(KnownShell::Bash).unwrap();
        assert!(
            bash.trim_end().lines().any(|line| line.ends_with("default runtime-oci")),
            "{bash}"
        );
    }

    #[test]
    fn every_verb_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        man(&ManArgs { dir: dir.path().to_owned() }).unwrap();
        for page in ["runtime-oci.1", "runtime-oci-create.1", "runtime-oci-exec.1"] {
            let text = std::fs::read_to_string(dir.path().join(page)).unwrap();
            assert!(text.contains("runtime\\-oci"), "{page}: {text}");
        }
        assert!(!dir.path().join("runtime-oci-__man.1").exists());
    }
}
