use super::*;
use engine::{Config, HostConfig};
use time::macros::datetime;

const NOW: OffsetDateTime = datetime!(2026-01-31 12:00:00 UTC);

fn container(name: &str, words: &[&str]) -> Container {
    let mut words = words.iter().map(|word| (*word).to_owned());
    Container {
        id: "0123456789abcdef".repeat(4),
        name: name.to_owned(),
        created: "2026-01-31T10:00:00.5Z".to_owned(),
        image: format!("sha256:{}", "0".repeat(64)),
        platform: "linux".to_owned(),
        config: Config { image: "nginx:1.27".to_owned(), ..Config::default() },
        host_config: HostConfig::default(),
        path: words.next().unwrap_or_default(),
        args: words.collect(),
        mounts: vec![],
        lowers: vec![],
    }
}

fn state(status: Status) -> State {
    State {
        status,
        started_at: "2026-01-31T11:57:00Z".to_owned(),
        finished_at: "2026-01-31T11:58:00Z".to_owned(),
        ..State::default()
    }
}

fn list(containers: &[(Container, State)], format: Option<&str>, whole: bool) -> String {
    let rows: Vec<Row> = containers
        .iter()
        .map(|(container, state)| row(container, state, Some((5, 1_000_005)), whole, NOW))
        .collect();
    LISTING.text(format, &rows).unwrap()
}

#[test]
fn containers_are_listed_as_docker_lists_them() {
    let containers = [
        (container("web", &["nginx", "-g", "daemon off;"]), state(Status::Running)),
        (container("old", &["sh"]), State { exit_code: 137, ..state(Status::Exited) }),
    ];
    assert_eq!(
        list(&containers, None, false),
        "CONTAINER ID   IMAGE        COMMAND                  CREATED       STATUS                       PORTS     NAMES\n\
         0123456789ab   nginx:1.27   \"nginx -g 'daemon of…\"   2 hours ago   Up 3 minutes                           web\n\
         0123456789ab   nginx:1.27   \"sh\"                     2 hours ago   Exited (137) 2 minutes ago             old\n"
    );
    let id = "0123456789abcdef".repeat(4);
    assert_eq!(list(&containers, Some("{{.ID}}"), false), "0123456789ab\n0123456789ab\n");
    assert_eq!(list(&containers, Some("{{.ID}}"), true), format!("{id}\n{id}\n"));
    let whole = list(&containers, None, true);
    assert!(whole.contains(&id) && whole.contains("\"nginx -g 'daemon off;'\""), "{whole}");
}

#[test]
fn each_field_can_be_named() {
    let mut web = container("web", &["nginx"]);
    web.config.labels = [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())].into();
    web.host_config.network_mode = "none".to_owned();
    let shown = |format: &str| list(&[(web.clone(), state(Status::Running))], Some(format), false);
    assert_eq!(
        shown(
            "{{.Names}}|{{.State}}|{{.CreatedAt}}|{{.Size}}|{{.Labels}}|{{.Label \"b\"}}|{{.Networks}}"
        ),
        "web|running|2026-01-31 10:00:00 +0000 UTC|5B (virtual 1MB)|a=1,b=2|2|none\n"
    );
    let all: Vec<_> =
        LISTING.headings.iter().map(|(field, _)| format!("{{{{.{field}}}}}")).collect();
    shown(&all.join(" "));
    let json: serde_json::Value = serde_json::from_str(&shown("json")).unwrap();
    assert_eq!(json["Names"], "web");
    assert_eq!(json.as_object().unwrap().len(), LISTING.headings.len());
}

#[test]
fn a_status_is_said_in_dockers_words() {
    for (state, text) in [
        (state(Status::Creating), "Created"),
        (state(Status::Running), "Up 3 minutes"),
        (state(Status::Exited), "Exited (0) 2 minutes ago"),
        (state(Status::Removing), "Removal In Progress"),
        (State { status: Status::Running, ..State::default() }, "Up Less than a second"),
    ] {
        assert_eq!(status(&state, NOW), text);
    }
    for (known, text) in [
        (HealthStatus::Starting, "Up 3 minutes (health: starting)"),
        (HealthStatus::Healthy, "Up 3 minutes (healthy)"),
        (HealthStatus::Unhealthy, "Up 3 minutes (unhealthy)"),
    ] {
        let health = Some(engine::Health { status: known, ..engine::Health::default() });
        assert_eq!(status(&State { health, ..state(Status::Running) }, NOW), text);
    }
}

#[test]
fn nothing_of_a_container_moves_the_cursor() {
    let mut hostile = container("x", &["\u{1b}[2J", "\n"]);
    hostile.config.image = "\u{1b}]0;title\u{7}".to_owned();
    let text = list(&[(hostile, state(Status::Running))], None, true);
    assert_eq!(text.matches('\n').count(), 2, "{text:?}");
    assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text:?}");
}
