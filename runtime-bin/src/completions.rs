//! `completions` and the manual pages: what a shell and a reader want to know of the command line, from
//! the one description of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Command, CommandFactory, ValueEnum};
use engine::Engine;

use crate::cli::Cli;
use crate::shells::KnownShell;
use crate::{help, output};

const NAME: &str = "runtime-bin";

/// `completions`
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell that the script is for
    #[arg(value_name = "SHELL")]
    shell: KnownShell,
}

/// `__complete`, which the scripts call.
#[derive(Debug, Args)]
pub(crate) struct CompleteArgs {
    kind: Names,
}

/// `__man`, which `cargo xtask man` calls.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The directory for the pages, which is there
    dir: PathBuf,
}

/// What names are completed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Names {
    Containers,
    Images,
}

impl Names {
    fn word(self) -> &'static str {
        match self {
            Names::Containers => "containers",
            Names::Images => "images",
        }
    }
}

/// Prints a shell's script.
pub(crate) fn completions(args: &CompletionsArgs) -> anyhow::Result<u8> {
    output::print(&script(args.shell)?)?;
    Ok(0)
}

/// Prints the names of containers or images, a line each.
pub(crate) fn complete(root: &Path, args: &CompleteArgs) -> anyhow::Result<u8> {
    let engine = Engine::open(root)?;
    let names: Vec<String> = match args.kind {
        Names::Containers => engine.list()?.into_iter().map(|(one, _)| one.name).collect(),
        Names::Images => engine.images()?.whole.into_iter().flat_map(|image| image.tags).collect(),
    };
    let lines = names.iter().map(|name| format!("{}\n", output::printable(name)));
    output::print(&lines.collect::<String>())?;
    Ok(0)
}

/// Writes a manual page for each verb.
pub(crate) fn man(args: &ManArgs) -> anyhow::Result<u8> {
    clap_mangen::generate_to(described(), &args.dir)
        .with_context(|| format!("cannot write the manual pages to {}", args.dir.display()))?;
    Ok(0)
}

fn described() -> Command {
    help::with_examples(Cli::command())
}

/// The script, with what completes names.
fn script(shell: KnownShell) -> anyhow::Result<String> {
    let script = shell.script(Cli::command(), NAME)?;
    let wanted = wanted(&described());
    Ok(match shell {
        KnownShell::Bash => bash(&script, &wanted),
        KnownShell::Zsh => zsh(&script),
        KnownShell::Fish => fish(&script, &wanted),
    })
}

/// Which verbs take names of what, by the words that their help has for their operands; verbs below
/// others as `container stop`.
fn wanted(command: &Command) -> BTreeMap<String, Names> {
    let mut wanted = BTreeMap::new();
    let mut left: Vec<(String, &Command)> =
        command.get_subcommands().map(|verb| (verb.get_name().to_owned(), verb)).collect();
    while let Some((path, verb)) = left.pop() {
        let operands = verb.get_positionals();
        let words = operands.flat_map(|operand| operand.get_value_names().unwrap_or_default());
        let names = words.filter_map(|word| match word.as_str() {
            // What `cp` takes may be a container's.
            "CONTAINER" | "NAME|ID" | "SRC_PATH" => Some(Names::Containers),
            word if word.starts_with("IMAGE") || word.starts_with("SOURCE_IMAGE") => {
                Some(Names::Images)
            }
            _ => None,
        });
        if let Some(names) = names.min() {
            for name in [verb.get_name()].into_iter().chain(verb.get_all_aliases()) {
                let above = path.rsplit_once(' ').map_or(String::new(), |(a, _)| format!("{a} "));
                wanted.insert(format!("{above}{name}"), names);
            }
        }
        left.extend(verb.get_subcommands().map(|sub| (format!("{path} {}", sub.get_name()), sub)));
    }
    wanted
}

fn verbs(wanted: &BTreeMap<String, Names>, names: Names) -> impl Iterator<Item = &str> {
    wanted.iter().filter(move |(_, other)| **other == names).map(|(verb, _)| verb.as_str())
}

/// The generated function completes words of the command line; the one around it names.
fn bash(script: &str, wanted: &BTreeMap<String, Names>) -> String {
    let case = |names| {
        let patterns: Vec<_> = verbs(wanted, names).map(|verb| format!("'{verb}'")).collect();
        patterns.join("|")
    };
    let (containers, images) = (case(Names::Containers), case(Names::Images));
    // The first line names the generated function, the last ones say that it completes.
    let generated = script.split('(').next().unwrap_or_default();
    let start = script.rfind("\nif [[ \"${BASH_VERSINFO").unwrap_or(script.len());
    format!(
        r#"{}
_runtime_bin_with_names() {{
    local word verb="" names="" root=() skip=""
    local cur="${{COMP_WORDS[COMP_CWORD]}}"
    {generated} "$@"
    # What stands in <> is a description, no word to type.
    local kept=()
    for word in "${{COMPREPLY[@]}}"; do
        [[ $word == [\<\[]* ]] || kept+=("$word")
    done
    COMPREPLY=("${{kept[@]}}")
    [[ $cur == -* ]] && return 0
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        if [[ -n $skip ]]; then
            [[ $skip == --root ]] && root=(--root "$word")
            skip=""
            continue
        fi
        case "$word" in
            --root|--log-level|--log-format) [[ -z $verb ]] && skip="$word" ;;
            --root=*) root=("$word") ;;
            -*) ;;
            *)
                case "$verb" in
                    "") verb="$word" ;;
                    container|image|volume|system) verb="$verb $word" ;;
                esac
                ;;
        esac
    done
    case "$verb" in
        {containers}) names="$(runtime-bin "${{root[@]}}" __complete containers 2>/dev/null)" ;;
        {images}) names="$(runtime-bin "${{root[@]}}" __complete images 2>/dev/null)" ;;
        *) return 0 ;;
    esac
    mapfile -t -O "${{#COMPREPLY[@]}}" COMPREPLY < <(compgen -W "$names" -- "$cur")
    # A colon ends a word for readline: only what follows it may be given.
    if [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then
        local before="${{cur%"${{cur##*:}}"}}" at
        for at in "${{!COMPREPLY[@]}}"; do
            COMPREPLY[at]="${{COMPREPLY[at]#"$before"}}"
        done
    fi
}}
complete -F _runtime_bin_with_names -o bashdefault -o default runtime-bin
"#,
        &script[..start]
    )
}

/// In zsh's own words each operand has its completer behind the last colon.
fn zsh(script: &str) -> String {
    let mut text = String::new();
    for line in script.lines() {
        let names = match line {
            _ if !line.contains(":_default'") && !line.contains(":_files'") => None,
            _ if ["':container", "'*::container"].iter().any(|id| line.starts_with(id)) => {
                Some(Names::Containers)
            }
            _ if ["':image", "'*::image"].iter().any(|id| line.starts_with(id)) => {
                Some(Names::Images)
            }
            _ => None,
        };
        match names {
            Some(names) => {
                let own = format!(":_runtime_bin_{}'", names.word());
                text.push_str(&line.replace(":_default'", &own).replace(":_files'", &own));
            }
            None => text.push_str(line),
        }
        text.push('\n');
    }
    let function = |names: Names| {
        // Files too, where an image may be one.
        let files = if names == Names::Images { "\n    _files" } else { "" };
        format!(
            "_runtime_bin_{word}() {{\n    local -a names=(${{(f)\"$(runtime-bin __complete {word} \
             2>/dev/null)\"}})\n    compadd -a names{files}\n}}\n",
            word = names.word()
        )
    };
    // Behind the first line, which says what the file is for.
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let functions = function(Names::Containers) + &function(Names::Images);
    format!("{first}\n{functions}{rest}")
}

/// Below these a word that is a verb by itself too means something else.
const GROUPS: &str = "container image system volume";

fn fish(script: &str, wanted: &BTreeMap<String, Names>) -> String {
    let mut text = script.to_owned();
    for (verb, names) in wanted {
        let seen = |word: &str| format!("__fish_seen_subcommand_from {word}");
        let when = match verb.split_once(' ') {
            Some((group, verb)) => format!("{}; and {}", seen(group), seen(verb)),
            None => format!("{}; and not {}", seen(verb), seen(GROUPS)),
        };
        // Files too, where an image may be one.
        let files = if *names == Names::Images { "" } else { " -f" };
        let names = format!("(runtime-bin __complete {} 2>/dev/null)", names.word());
        text.push_str(&format!("complete -c runtime-bin -n \"{when}\"{files} -a \"{names}\"\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_want_what_their_help_says() {
        let wanted = wanted(&described());
        for (verb, names) in [
            ("stop", Names::Containers),
            ("exec", Names::Containers),
            ("cp", Names::Containers),
            ("umount", Names::Containers),
            ("run", Names::Images),
        ] {
            assert_eq!(wanted.get(verb), Some(&names), "{verb}");
        }
        assert!(!wanted.contains_key("ps") && !wanted.contains_key("load"));
    }

    #[test]
    fn each_script_asks_for_names() {
        for shell in [KnownShell::Bash, KnownShell::Zsh, KnownShell::Fish] {
            let script = script(shell).unwrap();
            for part in ["__complete containers", "__complete images", "umount"] {
                assert!(script.contains(part), "{shell:?}: {part}");
            }
        }
        assert!(script(KnownShell::Zsh).unwrap().starts_with("#compdef runtime-bin"));
    }

    #[test]
    fn every_verb_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        man(&ManArgs { dir: dir.path().to_owned() }).unwrap();
        for page in ["runtime-bin.1", "runtime-bin-run.1", "runtime-bin-cp.1"] {
            let text = std::fs::read_to_string(dir.path().join(page)).unwrap();
            assert!(page == "runtime-bin.1" || text.contains("Example"), "{page}");
        }
        assert!(!dir.path().join("runtime-bin-__man.1").exists());
    }
}
