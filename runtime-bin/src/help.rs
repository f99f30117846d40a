//! An example for each verb, shown at the end of its help and of its manual page.

use clap::Command;

/// The verb, by its words, and what a person would type.
const EXAMPLES: &[(&str, &str)] = &[
    ("attach", "runtime-bin attach --detach-keys ctrl-x web"),
    ("check", "runtime-bin check --content"),
    ("commit", "runtime-bin commit -m \"with my page\" -c 'CMD [\"nginx\"]' web web:mine"),
    ("completions", "runtime-bin completions bash > /etc/bash_completion.d/runtime-bin"),
    ("container", "runtime-bin container ls -a"),
    ("container prune", "runtime-bin container prune -f"),
    ("cp", "runtime-bin cp web:/etc/nginx/nginx.conf .\n  tar -c site | runtime-bin cp - web:/srv"),
    ("create", "runtime-bin create --name web -v /srv/pages:/usr/share/nginx/html:ro nginx.tar"),
    ("diff", "runtime-bin diff web"),
    ("events", "runtime-bin events --since 10m"),
    ("exec", "runtime-bin exec -it web bash"),
    ("export", "runtime-bin export -o web.tar web"),
    ("history", "runtime-bin history --no-trunc nginx"),
    ("image", "runtime-bin image ls"),
    ("image prune", "runtime-bin image prune -a -f"),
    ("images", "runtime-bin images --filter reference='nginx*'"),
    ("import", "runtime-bin import -c 'CMD [\"/bin/sh\"]' rootfs.tar mine:1"),
    ("info", "runtime-bin info"),
    ("inspect", "runtime-bin inspect web"),
    ("kill", "runtime-bin kill -s HUP web"),
    ("load", "runtime-bin load -i nginx.tar"),
    ("logs", "runtime-bin logs -f --tail 100 web"),
    ("mount", "runtime-bin mount web -v /mnt/data:/data:ro"),
    ("mounts", "runtime-bin mounts web"),
    ("pause", "runtime-bin pause web"),
    ("port", "runtime-bin port web"),
    ("ps", "runtime-bin ps -a --no-trunc"),
    ("pull", "runtime-bin pull nginx:1.27"),
    ("rename", "runtime-bin rename web old-web"),
    ("restart", "runtime-bin restart -t 3 web"),
    ("rm", "runtime-bin rm -f web"),
    ("rmi", "runtime-bin rmi nginx:1.27"),
    ("run", "runtime-bin run -d --rm --name web -v /srv/pages:/usr/share/nginx/html:ro nginx.tar"),
    ("save", "runtime-bin save -o nginx.tar nginx"),
    ("start", "runtime-bin start web"),
    ("stats", "runtime-bin stats web"),
    ("stop", "runtime-bin stop -t 3 web"),
    ("system", "runtime-bin system df"),
    ("system df", "runtime-bin system df -v"),
    ("system info", "runtime-bin system info"),
    ("system prune", "runtime-bin system prune -f"),
    ("tag", "runtime-bin tag nginx:1.27 nginx:mine"),
    ("top", "runtime-bin top web -o pid,user,args"),
    ("umount", "runtime-bin umount web /data"),
    ("unpause", "runtime-bin unpause web"),
    ("update", "runtime-bin update --memory 512m --memory-swap 1g web"),
    ("version", "runtime-bin version"),
    ("volume", "runtime-bin volume ls"),
    ("volume create", "runtime-bin volume create data"),
    ("volume inspect", "runtime-bin volume inspect data"),
    ("volume ls", "runtime-bin volume ls -q"),
    ("volume prune", "runtime-bin volume prune -f"),
    ("volume rm", "runtime-bin volume rm data"),
    ("wait", "runtime-bin wait web"),
];

/// The command line with an example below the help of each verb. What stands below `container` or
/// `image` and is a verb by itself too has that verb's example.
pub(crate) fn with_examples(mut command: Command) -> Command {
    // Verbs below verbs are there from then on only (crate::lazy).
    command.set_bin_name("runtime-bin");
    command.build();
    add(command, "")
}

fn add(command: Command, above: &str) -> Command {
    let names: Vec<String> =
        command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(&name, |verb| {
            let path = format!("{above}{name}");
            let verb = add(verb, &format!("{path} "));
            match example(&path, &name) {
                Some(text) => verb.after_help(format!("Example:\n  {text}")),
                None => verb,
            }
        })
    })
}

fn example(path: &str, name: &str) -> Option<String> {
    let of = |key: &str| EXAMPLES.iter().find(|(verb, _)| *verb == key).map(|(_, text)| *text);
    if let Some(text) = of(path) {
        return Some(text.to_owned());
    }
    let same = match path.split_once(' ')? {
        ("container", "ls") => "ps",
        ("image", "ls") => "images",
        ("image", "rm") => "rmi",
        _ => name,
    };
    let text = of(same)?;
    let (program, line) = (format!("runtime-bin {same}"), format!("runtime-bin {path}"));
    Some(text.replace(&program, &line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn without(command: &Command, above: &str, found: &mut Vec<String>) {
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let path = format!("{above}{}", verb.get_name());
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            if !help.contains(&format!("runtime-bin {path}")) {
                found.push(path.clone());
            }
            without(verb, &format!("{path} "), found);
        }
    }

    #[test]
    fn every_verb_has_an_example() {
        let command = with_examples(crate::cli::Cli::command());
        command.clone().debug_assert();
        let mut found = Vec::new();
        without(&command, "", &mut found);
        assert_eq!(found, [""; 0], "add an example to the table above");
        assert!(EXAMPLES.is_sorted_by_key(|(verb, _)| *verb));
    }
}
