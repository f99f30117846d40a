use super::*;
use clap::CommandFactory;

fn args(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(Into::into).collect()
}

fn verb_of(line: &str) -> Verb {
    parse(args(line)).unwrap().verb
}

fn status(line: &str) -> u8 {
    parse(args(line)).unwrap_err().status
}

#[test]
fn clap_finds_nothing_wrong() {
    Cli::command().debug_assert();
}

#[test]
fn the_root_may_stand_before_and_behind_the_verb() {
    assert_eq!(parse(args("rb ps")).unwrap().root, PathBuf::from("/var/lib/runtime-bin"));
    for line in ["rb --root /r ps", "rb --root=/r ps", "rb ps --root /r", "rb run --root /r x"] {
        assert_eq!(parse(args(line)).unwrap().root, PathBuf::from("/r"), "{line}");
    }
    // Behind the image it is the command's.
    assert_eq!(parse(args("rb --root /r run x --root /y")).unwrap().root, PathBuf::from("/r"));
}

#[test]
fn small_verbs_are_read() {
    let Verb::Ps(ps) = verb_of("rb ps -aq --no-trunc") else { panic!() };
    assert!(ps.all && ps.quiet && ps.no_trunc);
    let Verb::Stop(stop) = verb_of("rb stop -t 3 a b") else { panic!() };
    assert_eq!((stop.timeout, stop.containers.len()), (Some(3), 2));
    for line in ["rb stop -t -1 a", "rb stop --time=-1 a", "rb stop --timeout -1 a"] {
        let Verb::Stop(stop) = verb_of(line) else { panic!() };
        assert_eq!(stop.timeout, Some(-1), "{line}");
    }
    let Verb::Kill(kill) = verb_of("rb kill a") else { panic!() };
    assert_eq!(kill.signal, "KILL");
    let Verb::Kill(kill) = verb_of("rb kill -s HUP a b") else { panic!() };
    assert_eq!((kill.signal.as_str(), kill.containers.len()), ("HUP", 2));
    let Verb::Rm(rm) = verb_of("rb rm -fv a b c") else { panic!() };
    assert!(rm.force && rm.volumes && rm.containers.len() == 3);
    assert!(matches!(verb_of("rb inspect -f {{.Id}} --type image a b"), Verb::Inspect(_)));
    let Verb::Images(images) = verb_of("rb images -q") else { panic!() };
    assert!(images.quiet && !images.no_trunc);
    let Verb::Load(load) = verb_of("rb load -q -i - --platform linux/amd64") else { panic!() };
    assert_eq!((load.input.clone(), load.quiet), (Some("-".into()), true));
    assert_eq!(load.platform.as_deref(), Some("linux/amd64"));
    let Verb::Mounts(mounts) = verb_of("rb mounts --format json a") else { panic!() };
    assert_eq!((mounts.format, mounts.container.as_str()), (MountsFormat::Json, "a"));
    let Verb::Mounts(mounts) = verb_of("rb mounts a") else { panic!() };
    assert_eq!(mounts.format, MountsFormat::Tree);
    assert!(matches!(verb_of("rb version"), Verb::Version));
}

#[test]
fn options_fail_with_125_and_other_words_with_1() {
    for line in [
        "rb run --nmae x",
        "rb --root /r run -x",
        "rb exec --bogus a b",
        "rb --bogus",
        "rb ps --bogus",
        "rb create --bogus",
        "rb stop -t soon a",
        "rb stop -t -2 a",
        "rb logs --tail",
        "rb run --rm=x a",
        "rb mounts --format xml a",
        "rb container ls -x",
    ] {
        assert_eq!(status(line), 125, "{line}");
    }
    for line in [
        "rb run",
        "rb --root=/r run",
        "rb exec a",
        "rb stop",
        "rb rm",
        "rb kill",
        "rb stp",
        "rb container stp",
        "rb rename a b c",
        "rb --root run ps x",
        "rb --log-level loud ps",
        "rb completions tcsh",
    ] {
        assert_eq!(status(line), 1, "{line}");
    }
}

#[test]
fn what_is_near_is_named() {
    let text = |line| parse(args(line)).unwrap_err().error.render().to_string();
    assert!(text("rb stp").contains("'stop'"), "{}", text("rb stp"));
    assert!(text("rb run --nmae x y").contains("'--name'"), "{}", text("rb run --nmae x y"));
}

#[test]
fn help_and_version_are_no_failures() {
    for (line, kind) in [
        ("rb --help", ErrorKind::DisplayHelp),
        ("rb -h", ErrorKind::DisplayHelp),
        ("rb ps -h", ErrorKind::DisplayHelp),
        ("rb run --help", ErrorKind::DisplayHelp),
        ("rb exec --help", ErrorKind::DisplayHelp),
        ("rb --version", ErrorKind::DisplayVersion),
        ("rb -v", ErrorKind::DisplayVersion),
        ("rb", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
    ] {
        assert_eq!(parse(args(line)).unwrap_err().error.kind(), kind, "{line}");
    }
    // -h is --hostname of run, and nothing of exec.
    assert!(matches!(verb_of("rb run -h web x"), Verb::Run(_)));
    assert_eq!(status("rb exec -h a b"), 125);
}

#[test]
fn help_says_what_docker_says() {
    let error = parse(args("rb run --help")).unwrap_err().error;
    let help = error.render().to_string();
    for text in [
        "Create and run a new container from an image",
        "Usage: runtime-bin run [OPTIONS] IMAGE [COMMAND] [ARG...]",
        "-d, --detach",
        "-v, --volume <list>",
        "-h, --hostname <string>",
        "Allocate a pseudo-TTY",
    ] {
        assert!(help.contains(text), "{text} is not in:\n{help}");
    }
}

#[test]
fn container_has_the_verbs_once_more() {
    assert!(matches!(verb_of("rb container ls -a"), Verb::Ps(args) if args.all));
    assert!(matches!(verb_of("rb container ps"), Verb::Ps(_)));
    assert!(matches!(verb_of("rb container rm x"), Verb::Rm(_)));
    assert!(matches!(verb_of("rb container run x"), Verb::Run(_)));
    assert!(matches!(verb_of("rb container prune -f"), Verb::Container(_)));
    assert_eq!(status("rb container run"), 1);
    assert_eq!(status("rb container rm"), 1);
}
