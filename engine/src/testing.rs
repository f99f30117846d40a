//! A container for the tests.

use crate::{Config, Container, HostConfig, Lower};
use image_store::Digest;

/// nginx, as `run -d --name nginx` makes it, with two layers and no volumes.
pub(crate) fn container() -> Container {
    let digest = |text: &str| Digest::of(text.as_bytes());
    let lower = |name: &str, link: &str| Lower {
        link: format!("l/{link}"),
        chain_id: digest(name),
        diff_id: digest(&format!("diff {name}")),
        mounted: false,
    };
    Container {
        id: "0123456789abcdef".repeat(4),
        name: "nginx".to_owned(),
        created: "2026-01-31T12:00:00.123456789Z".to_owned(),
        image: digest("image").to_string(),
        platform: "linux".to_owned(),
        config: Config {
            hostname: "0123456789ab".to_owned(),
            env: vec!["PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
            cmd: Some(vec!["-g".to_owned(), "daemon off;".to_owned()]),
            entrypoint: Some(vec!["nginx".to_owned()]),
            image: "nginx:latest".to_owned(),
            stop_signal: Some("SIGQUIT".to_owned()),
            ..Config::default()
        },
        host_config: HostConfig { network_mode: "none".to_owned(), ..HostConfig::default() },
        path: "nginx".to_owned(),
        args: vec!["-g".to_owned(), "daemon off;".to_owned()],
        mounts: Vec::new(),
        lowers: vec![
            lower("top", "AAAAAAAAAAAAAAAAAAAAAAAAAA"),
            lower("base", "BBBBBBBBBBBBBBBBBBBBBBBBBB"),
        ],
    }
}
