use crate::cli::{Verb, parse};
use engine::{ImageArg, Network, RunRequest, VolumeSpec};

fn try_request(words: &[&str]) -> anyhow::Result<RunRequest> {
    let args = ["runtime-bin", "run"].iter().chain(words).map(Into::into).collect();
    match parse(args).unwrap().verb {
        Verb::Run(args) => Ok(args.into_inner().request()?.0),
        _ => unreachable!(),
    }
}

fn request(words: &[&str]) -> RunRequest {
    try_request(words).unwrap()
}

/// Whether a command line is refused, and with which words.
fn refusal(words: &[&str]) -> String {
    let args = ["runtime-bin", "run"].iter().chain(words).map(Into::into).collect();
    format!("{:?}", parse(args).unwrap_err())
}

#[test]
fn nothing_said_is_nothing_asked() {
    let request = request(&["nginx"]);
    let expected =
        RunRequest { image: ImageArg::Named("nginx".to_owned()), ..RunRequest::default() };
    assert_eq!(format!("{request:?}"), format!("{expected:?}"));
}

#[test]
fn every_option_is_read() {
    let long = [
        "--detach",
        "--rm",
        "--name",
        "web",
        "--interactive",
        "--tty",
        "--env",
        "A=b",
        "--env=C",
        "--workdir",
        "/srv",
        "--user",
        "1:2",
        "--entrypoint",
        "/init",
        "--hostname",
        "h",
        "--read-only",
        "--network",
        "host",
        "--cap-add",
        "NET_ADMIN",
        "--cap-add=SYS_TIME",
        "--cap-drop",
        "ALL",
        "--init",
        "--platform",
        "linux/arm64/v8",
        "--label",
        "a=b",
        "--label",
        "c",
        "--stop-signal",
        "QUIT",
        "--log-driver",
        "json-file",
        "--log-opt=max-size=1m",
        "--log-opt",
        "max-file=3",
        "/x.tar",
        "cmd",
        "arg",
    ];
    let short = [
        "-d",
        "--rm",
        "--name=web",
        "-i",
        "-t",
        "-e",
        "A=b",
        "-eC",
        "-w",
        "/srv",
        "-u=1:2",
        "--entrypoint=/init",
        "-h",
        "h",
        "--read-only",
        "--net",
        "host",
        "--cap-add",
        "NET_ADMIN",
        "--cap-add",
        "SYS_TIME",
        "--cap-drop=ALL",
        "--init",
        "--platform=linux/arm64/v8",
        "-l",
        "a=b",
        "-lc",
        "--stop-signal",
        "QUIT",
        "--log-driver",
        "json-file",
        "--log-opt=max-size=1m",
        "--log-opt",
        "max-file=3",
        "/x.tar",
        "cmd",
        "arg",
    ];
    let text = |value: &str| Some(value.to_owned());
    let expected = RunRequest {
        image: ImageArg::Archive("/x.tar".into()),
        command: vec!["cmd".to_owned(), "arg".to_owned()],
        name: text("web"),
        detach: true,
        remove: true,
        interactive: true,
        tty: true,
        env: vec!["A=b".to_owned(), "C".to_owned()],
        workdir: text("/srv"),
        user: text("1:2"),
        entrypoint: text("/init"),
        hostname: text("h"),
        read_only: true,
        network: Network::Host,
        cap_add: vec!["NET_ADMIN".to_owned(), "SYS_TIME".to_owned()],
        cap_drop: vec!["ALL".to_owned()],
        init: true,
        volumes: vec![],
        platform: Some("linux/arm64/v8".parse().unwrap()),
        labels: vec!["a=b".to_owned(), "c".to_owned()],
        stop_signal: text("QUIT"),
        host: engine::HostOptions {
            log_driver: text("json-file"),
            log_options: vec!["max-size=1m".to_owned(), "max-file=3".to_owned()],
            ..engine::HostOptions::default()
        },
        ..RunRequest::default()
    };
    assert_eq!(format!("{:?}", request(&long)), format!("{expected:?}"));
    assert_eq!(format!("{:?}", request(&short)), format!("{expected:?}"));
}

#[test]
fn options_end_at_the_image() {
    for words in [
        &["nginx", "sh", "-c", "--rm", "--", "-it", "--help"][..],
        &["--", "nginx", "sh", "-c", "--rm", "--", "-it", "--help"],
    ] {
        let request = request(words);
        assert_eq!(request.command, ["sh", "-c", "--rm", "--", "-it", "--help"]);
        assert!(!request.remove && !request.interactive && !request.tty);
    }
    // The first word of the command may look like an option too.
    assert_eq!(request(&["nginx", "-v"]).command, ["-v"]);
    assert_eq!(request(&["nginx", "--name", "x"]).name, None);
}

#[test]
fn short_options_may_be_joined() {
    let both = request(&["-it", "nginx"]);
    assert!(both.interactive && both.tty && !both.detach);
    let all = request(&["-dit", "nginx"]);
    assert!(all.interactive && all.tty && all.detach);
    let value = request(&["-itw/srv", "nginx"]);
    assert_eq!(value.workdir.as_deref(), Some("/srv"));
}

#[test]
fn the_last_one_of_single_values_counts() {
    let request = request(&["-i", "-i", "--name", "a", "--name", "b", "--rm", "--rm", "nginx"]);
    assert_eq!(request.name.as_deref(), Some("b"));
    assert!(request.interactive && request.remove);
}

#[test]
fn volumes_keep_their_order() {
    let request = request(&[
        "--tmpfs",
        "/a",
        "-v",
        "/host:/a/b",
        "--mount",
        "type=tmpfs,target=/a/b/c",
        "--volume=/d",
        "--tmpfs=/e",
        "nginx",
    ]);
    let expected = [
        VolumeSpec::parse_tmpfs("/a").unwrap(),
        VolumeSpec::parse_volume("/host:/a/b").unwrap(),
        VolumeSpec::parse_mount("type=tmpfs,target=/a/b/c").unwrap(),
        VolumeSpec::parse_volume("/d").unwrap(),
        VolumeSpec::parse_tmpfs("/e").unwrap(),
    ];
    assert_eq!(request.volumes, expected);
}

#[test]
fn empty_values_are_none_but_for_the_entry_point() {
    let request = request(&[
        "--name",
        "",
        "-w",
        "",
        "-u",
        "",
        "-h",
        "",
        "--network=",
        "--platform=",
        "--stop-signal=",
        "--entrypoint",
        "",
        "nginx",
    ]);
    assert_eq!(request.name, None);
    assert_eq!(request.workdir, None);
    assert_eq!(request.user, None);
    assert_eq!(request.hostname, None);
    assert_eq!(request.stop_signal, None);
    assert_eq!(request.platform, None);
    assert_eq!(request.network, Network::None);
    assert_eq!(request.entrypoint.as_deref(), Some(""));
}

#[test]
fn a_value_may_begin_with_a_hyphen() {
    let request = request(&["-u", "-1", "-e", "-x=1", "--entrypoint", "-e", "nginx"]);
    assert_eq!(request.user.as_deref(), Some("-1"));
    assert_eq!(request.env, ["-x=1"]);
    assert_eq!(request.entrypoint.as_deref(), Some("-e"));
}

#[test]
fn what_cannot_be_understood_is_named() {
    for (words, wanted) in [
        (&["-v", "/a:/b:/c:/d", "x"][..], "-v \"/a:/b:/c:/d\""),
        (&["--mount", "type=nfs,target=/a", "x"], "nfs"),
        (&["--tmpfs", "a", "x"], "--tmpfs \"a\""),
        (&["--network", "bridge", "x"], "\"bridge\""),
        (&["--platform", "arm64", "x"], "\"arm64\" is not a platform"),
    ] {
        let error = try_request(words).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    assert!(refusal(&[]).contains("IMAGE"));
    assert!(refusal(&["-d"]).contains("IMAGE"));
    assert!(refusal(&["--nmae", "a", "x"]).contains("--name"));
    assert!(refusal(&["-x", "x"]).contains("-x"));
    assert!(refusal(&["--name"]).contains("--name"));
    assert!(refusal(&["--rm=yes", "x"]).contains("--rm"));
}

#[test]
fn the_exit_status_is_a_byte() {
    assert_eq!(super::exit_status(0), 0);
    assert_eq!(super::exit_status(137), 137);
    assert_eq!(super::exit_status(256 + 3), 3);
}
