use super::*;
use serde_json::json;

fn id_of(name: &str) -> Result<String, Error> {
    match name {
        "web" => Ok("1234".to_owned()),
        _ => Err(Error::NoSuchContainer { text: name.to_owned(), near: Vec::new() }),
    }
}

fn config(change: impl FnOnce(&mut HostOptions)) -> Result<HostConfig, String> {
    let mut options = HostOptions::default();
    change(&mut options);
    host_config(&options, Network::None, &id_of).map_err(|error| error.to_string())
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[test]
fn they_are_written_down_by_dockers_names() {
    let made = config(|options| {
        options.security =
            strings(&["no-new-privileges", "label:disable", "systempaths=unconfined"]);
        options.ulimits = strings(&["nofile=10:20", "core=-1"]);
        options.devices = strings(&["/dev/null:/dev/x/../y:rwm"]);
        options.hosts = strings(&["a:1.2.3.4", "b=[::1]"]);
        options.sysctls = strings(&["net.core.somaxconn=5"]);
        options.log_options = strings(&["max-size=1m"]);
        options.shm_size = Some("1k".to_owned());
        options.ipc = Some("container:web".to_owned());
        options.pid = Some("host".to_owned());
        options.uts = Some("private".to_owned());
    });
    // A ".." in a target is no device's.
    assert!(made.unwrap_err().contains("\"..\""));
    let made = config(|options| {
        options.security =
            strings(&["no-new-privileges", "label:disable", "systempaths=unconfined"]);
        options.ulimits = strings(&["nofile=10:20", "core=-1"]);
        options.devices = strings(&["/dev/null:/dev//y"]);
        options.hosts = strings(&["a:1.2.3.4", "b=[::1]"]);
        options.sysctls = strings(&["net.core.somaxconn=5"]);
        options.log_options = strings(&["max-size=1m"]);
        options.shm_size = Some("1k".to_owned());
        options.ipc = Some("container:web".to_owned());
        options.pid = Some("host".to_owned());
        options.uts = Some("private".to_owned());
    })
    .unwrap();
    let value = serde_json::to_value(&made).unwrap();
    for (key, expected) in [
        ("SecurityOpt", json!(["no-new-privileges", "label:disable"])),
        (
            "Ulimits",
            json!([{"Name": "nofile", "Soft": 10, "Hard": 20}, {"Name": "core", "Soft": -1, "Hard": -1}]),
        ),
        (
            "Devices",
            json!([{"PathOnHost": "/dev/null", "PathInContainer": "/dev/y", "CgroupPermissions": "rwm"}]),
        ),
        ("ExtraHosts", json!(["a:1.2.3.4", "b:::1"])),
        ("Sysctls", json!({"net.core.somaxconn": "5"})),
        ("LogConfig", json!({"Type": "local", "Config": {"max-size": "1m"}})),
        ("ShmSize", json!(1024)),
        ("IpcMode", json!("container:1234")),
        ("PidMode", json!("host")),
        ("UTSMode", json!("")),
    ] {
        assert_eq!(value[key], expected, "{key}");
    }
    assert!(made.unmasked && no_new_privileges(&made));
    assert_eq!(serde_json::from_value::<HostConfig>(value).unwrap(), made);
}

#[test]
fn the_last_word_on_privileges_holds() {
    let made =
        |words: &[&str]| no_new_privileges(&config(|o| o.security = strings(words)).unwrap());
    assert!(!made(&[]) && made(&["no-new-privileges:true"]) && made(&["no-new-privileges=true"]));
    assert!(!made(&["no-new-privileges", "no-new-privileges:false"]));
    assert!(!made(&["seccomp=unconfined"]));
}

#[test]
fn what_cannot_be_is_said_with_its_option() {
    type Change = fn(&mut HostOptions, Vec<String>);
    let cases: [(&str, Change, &[&str]); 9] = [
        (
            "--security-opt",
            |o, v| o.security = v,
            &[
                "",
                "x",
                "seccomp=/x.json",
                "seccomp",
                "apparmor=docker",
                "label=user:x",
                "no-new-privileges=maybe",
                "systempaths=x",
                "no-new-privilege",
            ],
        ),
        (
            "--ulimit",
            |o, v| o.ulimits = v,
            &[
                "nofile",
                "x=1",
                "nofile=",
                "nofile=a",
                "nofile=2:1",
                "nofile=-1:5",
                "nofile=-2",
                "nofile=1:2:3",
                "as=1",
                "NOFILE=1",
            ],
        ),
        (
            "--device",
            |o, v| o.devices = v,
            &[
                "",
                "dev",
                "/dev/a:b",
                "/dev/a:/dev/b:x",
                "/dev/a:/b:rwm:c",
                "/dev/a:/dev/../b",
                "/dev/a:/b:",
                "/dev/\0",
            ],
        ),
        (
            "--add-host",
            |o, v| o.hosts = v,
            &[
                "",
                "a",
                "a:",
                ":1.2.3.4",
                "a:x",
                "a b:1.2.3.4",
                "a\n:1.2.3.4",
                "a:1.2.3.4\nb",
                "a:host-gateway",
                "#:1.2.3.4",
            ],
        ),
        ("--dns", |o, v| o.dns = v, &["", "x", "1.2.3", "1.2.3.4\n"]),
        ("--dns-search", |o, v| o.dns_search = v, &["", "a b", "a\nb"]),
        (
            "--log-opt",
            |o, v| o.log_options = v,
            &["x", "max-size=0", "max-size=x", "max-file=0", "tag=x"],
        ),
        ("--sysctl", |o, v| o.sysctls = v, &["", "net.core.somaxconn"]),
        ("--dns-option", |o, v| o.dns_options = v, &["a b"]),
    ];
    for (option, change, values) in cases {
        for value in values {
            let error = config(|options| change(options, strings(&[value]))).unwrap_err();
            assert!(error.contains(option), "{value:?}: {error}");
        }
    }
    type One = fn(&mut HostOptions, Option<String>);
    let cases: [(&str, One, &[&str]); 5] = [
        ("--shm-size", |o, v| o.shm_size = v, &["x", "-1"]),
        ("--log-driver", |o, v| o.log_driver = v, &["syslog"]),
        ("--ipc", |o, v| o.ipc = v, &["x", "container:", "Host"]),
        ("--pid", |o, v| o.pid = v, &["shareable", "x"]),
        ("--uts", |o, v| o.uts = v, &["container:web", "x"]),
    ];
    for (option, change, values) in cases {
        for value in values {
            let error = config(|options| change(options, Some((*value).to_owned()))).unwrap_err();
            assert!(error.contains(option), "{value:?}: {error}");
        }
    }
    let error = config(|options| options.pid = Some("container:nosuch".to_owned())).unwrap_err();
    assert!(error.starts_with("No such container: nosuch"), "{error}");
    let host = HostOptions { sysctls: strings(&["net.x=1"]), ..HostOptions::default() };
    let error = host_config(&host, Network::Host, &id_of).unwrap_err().to_string();
    assert!(error.contains("--network host"), "{error}");
    let error = config(|o| (o.sysctls, o.ipc) = (strings(&["kernel.sem=1"]), Some("host".into())));
    assert!(error.unwrap_err().contains("--ipc host"));
}

proptest::proptest! {
    #[test]
    fn never_panics(text in "[-a-z0-9./:=\\[\\]\u{e4} \\x00]{0,24}") {
        let list = vec![text.clone()];
        let one = Some(text);
        for part in 0..12 {
            let _ = config(|o| match part {
                0 => o.security = list.clone(),
                1 => o.ulimits = list.clone(),
                2 => o.devices = list.clone(),
                3 => o.hosts = list.clone(),
                4 => o.dns = list.clone(),
                5 => o.dns_search = list.clone(),
                6 => o.log_options = list.clone(),
                7 => o.sysctls = list.clone(),
                8 => o.shm_size = one.clone(),
                9 => o.ipc = one.clone(),
                10 => o.uts = one.clone(),
                _ => o.pid = one.clone(),
            });
        }
    }
}
