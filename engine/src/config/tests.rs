use super::*;
use crate::Network;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// An image's configuration with this `config`.
fn image(config: serde_json::Value) -> ImageConfiguration {
    serde_json::from_value(serde_json::json!({
        "os": "linux", "architecture": "amd64", "config": config,
        "rootfs": {"type": "layers", "diff_ids": []},
    }))
    .unwrap()
}

fn nginx() -> ImageConfiguration {
    image(serde_json::json!({
        "Env": ["PATH=/usr/sbin:/bin", "NGINX_VERSION=1.27"],
        "Entrypoint": ["/entry.sh"],
        "Cmd": ["nginx", "-g", "daemon off;"],
        "User": "www",
        "WorkingDir": "/srv/./x/../y/",
        "Volumes": {"/var/cache": {}},
        "Labels": {"a": "image", "b": "image"},
        "ExposedPorts": {"80/tcp": {}},
        "StopSignal": "SIGQUIT",
    }))
}

fn made(request: &RunRequest, config: &ImageConfiguration) -> Result<Container, Error> {
    let image = Image { id: Digest::of(b"x"), name: "nginx:1", config, lowers: Vec::new() };
    let id_of = |name: &str| Ok(name.to_owned());
    merge(ID, "web", request, image, &id_of, |name| (name == "HERE").then(|| "value".into()))
}

fn of(request: &RunRequest) -> Container {
    made(request, &nginx()).unwrap()
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn argv(container: &Container) -> Vec<&str> {
    [&container.path].into_iter().chain(&container.args).map(String::as_str).collect()
}

#[test]
fn the_image_says_what_the_request_does_not() {
    let container = of(&RunRequest::default());
    assert_eq!(argv(&container), ["/entry.sh", "nginx", "-g", "daemon off;"]);
    assert_eq!((&container.name[..], &container.platform[..]), ("web", "linux"));
    assert_eq!(container.image, Digest::of(b"x").to_string());
    let config = &container.config;
    assert_eq!(config.env, ["PATH=/usr/sbin:/bin", "NGINX_VERSION=1.27"]);
    assert_eq!((&config.user[..], &config.working_dir[..]), ("www", "/srv/y"));
    assert_eq!((&config.image[..], &config.hostname[..]), ("nginx:1", "0123456789ab"));
    assert_eq!(config.stop_signal.as_deref(), Some("SIGQUIT"));
    let json = serde_json::to_value(config).unwrap();
    assert_eq!(json["ExposedPorts"], serde_json::json!({"80/tcp": {}}));
    assert_eq!(json["Volumes"], serde_json::json!({"/var/cache": {}}));
    assert_eq!(json["Labels"], serde_json::json!({"a": "image", "b": "image"}));
    assert_eq!((config.attach_stdout, config.attach_stdin, config.tty), (true, false, false));
    assert_eq!(container.host_config.network_mode, "none");
}

#[test]
fn the_request_wins() {
    let container = of(&RunRequest {
        command: strings(&["echo", "hi"]),
        env: strings(&["NGINX_VERSION=2", "HERE", "GONE"]),
        user: Some("0".into()),
        workdir: Some("/tmp//".into()),
        hostname: Some("web.example".into()),
        labels: strings(&["b=x=y", "c"]),
        stop_signal: Some("9".into()),
        cap_add: strings(&["net_admin"]),
        cap_drop: strings(&["all"]),
        detach: true,
        interactive: true,
        tty: true,
        remove: true,
        read_only: true,
        init: true,
        ..RunRequest::default()
    });
    assert_eq!(argv(&container), ["/entry.sh", "echo", "hi"]);
    let config = &container.config;
    assert_eq!(config.env, ["NGINX_VERSION=2", "HERE=value", "GONE", "PATH=/usr/sbin:/bin"]);
    assert_eq!((&config.user[..], &config.working_dir[..]), ("0", "/tmp"));
    assert_eq!(config.hostname, "web.example");
    assert_eq!(config.labels["b"], "x=y");
    assert_eq!((&config.labels["a"][..], &config.labels["c"][..]), ("image", ""));
    assert_eq!(config.stop_signal.as_deref(), Some("9"));
    assert!(config.tty && config.open_stdin && !config.attach_stdin && !config.attach_stdout);
    let host = &container.host_config;
    assert_eq!(host.cap_add.as_deref(), Some(&strings(&["CAP_NET_ADMIN"])[..]));
    assert_eq!(host.cap_drop.as_deref(), Some(&strings(&["ALL"])[..]));
    assert!(host.auto_remove && host.readonly_rootfs && host.init);
}

#[test]
fn an_entry_point_of_the_request_takes_the_images_command_away() {
    let with = |entrypoint: &str, command: &[&str]| RunRequest {
        entrypoint: Some(entrypoint.into()),
        command: strings(command),
        ..RunRequest::default()
    };
    assert_eq!(argv(&of(&with("sh", &[]))), ["sh"]);
    assert_eq!(argv(&of(&with("sh", &["-c", "x"]))), ["sh", "-c", "x"]);
    let cleared = of(&with("", &["ls"]));
    assert_eq!((argv(&cleared), &cleared.config.entrypoint), (vec!["ls"], &None));
    let error = made(&with("", &[]), &nginx()).unwrap_err();
    assert!(error.to_string().starts_with("no command specified"), "{error}");
    assert_eq!(error.exit_code(), 125);
}

#[test]
fn an_image_without_anything_runs_what_is_asked_for() {
    let run = |config: serde_json::Value, command: &[&str]| {
        made(&RunRequest { command: strings(command), ..RunRequest::default() }, &image(config))
    };
    let none = || serde_json::Value::Null;
    assert_eq!(argv(&run(none(), &["ls"]).unwrap()), ["ls"]);
    for config in [
        none(),
        serde_json::json!({"Cmd": []}),
        serde_json::json!({"Cmd": [""]}),
        serde_json::json!({"Entrypoint": [""]}),
    ] {
        assert!(matches!(run(config, &[]), Err(Error::NoCommand { .. })));
    }
    let container = run(serde_json::json!({"Entrypoint": [""], "Cmd": ["a"]}), &[]).unwrap();
    assert_eq!(argv(&container), ["a"]);
    assert_eq!(container.config.stop_signal, None);
}

#[test]
fn what_breaks_a_rule_is_named() {
    let request = RunRequest::default;
    for (request, words) in [
        (RunRequest { workdir: Some("tmp".into()), ..request() }, &["working dir", "absolute"][..]),
        (RunRequest { workdir: Some("/\0".into()), ..request() }, &["NUL"]),
        (RunRequest { command: strings(&["a", "\0"]), ..request() }, &["command", "NUL"]),
        (RunRequest { env: strings(&["=x"]), ..request() }, &["environment", "no name"]),
        (RunRequest { labels: strings(&["=x"]), ..request() }, &["label", "no name"]),
        (RunRequest { stop_signal: Some("NO".into()), ..request() }, &["signal", "NO"]),
        (RunRequest { cap_add: strings(&["NO_CAP"]), ..request() }, &["--cap-add", "NO_CAP"]),
        (RunRequest { hostname: Some("a\nb".into()), ..request() }, &["hostname", "letters"]),
        (RunRequest { hostname: Some("a b".into()), ..request() }, &["hostname", "letters"]),
        (RunRequest { hostname: Some("-a".into()), ..request() }, &["hostname", "starts"]),
        (RunRequest { hostname: Some("a".repeat(65)), ..request() }, &["hostname", "64"]),
    ] {
        let error = made(&request, &nginx()).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{error}");
        }
    }
    for config in [
        serde_json::json!({"Cmd": ["a"], "StopSignal": "NOPE"}),
        serde_json::json!({"Cmd": ["a\0"]}),
        serde_json::json!({"Cmd": ["a"], "Env": ["A=\0"]}),
        serde_json::json!({"Cmd": ["a"], "WorkingDir": "relative"}),
    ] {
        made(&request(), &image(config.clone())).expect_err(&config.to_string());
    }
}

#[test]
fn with_the_hosts_network_the_hosts_name() {
    let host = RunRequest { network: Network::Host, ..RunRequest::default() };
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(of(&host).config.hostname, name.trim());
    let named = RunRequest { hostname: Some("h".into()), ..host };
    assert_eq!(of(&named).config.hostname, "h");
}

#[test]
fn volumes_are_written_as_docker_writes_them() {
    let volumes = vec![
        VolumeSpec::parse_volume("/srv:/data:ro,nosuid").unwrap(),
        VolumeSpec::parse_volume("cache:/cache").unwrap(),
        VolumeSpec::parse_volume("/anonymous").unwrap(),
        VolumeSpec::parse_volume("/x:/y:rslave").unwrap(),
        VolumeSpec::parse_tmpfs("/tmp:size=1m").unwrap(),
    ];
    let container = of(&RunRequest { volumes, ..RunRequest::default() });
    let binds = container.host_config.binds.unwrap();
    assert_eq!(binds, ["/srv:/data:ro,nosuid", "cache:/cache", "/x:/y:rslave"]);
    let volumes = container.config.volumes.unwrap();
    assert_eq!(volumes.into_keys().collect::<Vec<_>>(), ["/anonymous", "/var/cache"]);
    let tmpfs = container.host_config.tmpfs.unwrap();
    assert_eq!(tmpfs["/tmp"], "nosuid,nodev,noexec,size=1m");
}

#[test]
fn paths_are_cleaned() {
    for (path, expected) in
        [("/", "/"), ("//a/./b//c/", "/a/b/c"), ("/a/../../b", "/b"), ("/..", "/")]
    {
        assert_eq!(clean(path), expected, "{path}");
    }
}
