use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::*;
use crate::testing;

fn actions(path: &Path) -> Vec<String> {
    let mut reader = Reader::open(path.to_owned()).unwrap().unwrap();
    let mut actions = Vec::new();
    while let Some(event) = next(&mut reader).unwrap() {
        actions.push(event.action);
    }
    actions
}

fn line(action: &str) -> Vec<u8> {
    let event = event("container", action, "0", &[], &BTreeMap::new());
    let mut line = serde_json::to_vec(&event).unwrap();
    line.push(b'\n');
    line
}

#[test]
fn events_are_written_as_docker_writes_them() {
    let dir = tempfile::tempdir().unwrap();
    let events = Events::below(dir.path());
    let mut container = testing::container();
    container.config.labels.insert("a.b".to_owned(), "c".to_owned());
    // A label does not take the place of what is known.
    container.config.labels.insert("name".to_owned(), "other".to_owned());
    events.container(&container, "die", &[("exitCode", "137")]);
    let text = std::fs::read_to_string(dir.path().join("events")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["Type"], &json["Action"]), (&"container".into(), &"die".into()));
    let expected = serde_json::json!({"ID": container.id, "Attributes": {
        "a.b": "c", "exitCode": "137", "image": "nginx:latest", "name": "nginx",
    }});
    assert_eq!(json["Actor"], expected);
    assert_eq!(json["scope"], "local");
    let (time, nano) = (json["time"].as_i64().unwrap(), json["timeNano"].as_i64().unwrap());
    assert_eq!(time, nano / 1_000_000_000);
    assert!((nanoseconds() - nano).abs() < 60_000_000_000);
}

#[test]
fn a_line_fits_whatever_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let events = Events::below(dir.path());
    let mut container = testing::container();
    for number in 0..1000 {
        let label = (format!("{number}\u{1}\"{}", "ä".repeat(number)), "\n".repeat(number));
        container.config.labels.extend([label]);
    }
    let long = format!("exec_create: {}", "\u{7}\\".repeat(5000));
    container.name = "n".repeat(5000);
    container.config.image = "\u{1b}".repeat(5000);
    events.container(&container, &long, &[("execID", "\"".repeat(5000).as_str())]);
    let text = std::fs::read_to_string(dir.path().join("events")).unwrap();
    assert!(text.len() <= LINE && text.len() > 2000, "{}", text.len());
    let event: Event = serde_json::from_str(&text).unwrap();
    assert!(event.action.starts_with("exec_create: \u{7}\\"));
    for key in ["name", "image", "execID"] {
        assert!(event.actor.attributes.contains_key(key), "{key}");
    }
    assert!(event.actor.attributes.len() > 5);
}

#[test]
fn a_file_that_is_full_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let events = Events::below(dir.path());
    let full = 3 * u64::try_from(line("0000").len()).unwrap();
    for number in 0..20 {
        events.write(&line(&format!("{number:04}")), full).unwrap();
    }
    let mut names: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["events", "events.1", "events.2"]);
    let expected: Vec<_> = (12..20).map(|number| format!("{number:04}")).collect();
    assert_eq!(actions(&events.path), expected);
}

/// More than one at a time, and one who reads meanwhile: each line is there, whole and once.
#[test]
fn writers_do_not_disturb_each_other_and_a_reader_misses_nothing() {
    const EACH: usize = 300;
    let dir = tempfile::tempdir().unwrap();
    let events = Events::below(dir.path());
    let full = 40 * u64::try_from(line("0-0000").len()).unwrap();
    events.write(&line("begin"), full).unwrap();
    let mut reader = Reader::open(events.path.clone()).unwrap().unwrap();
    let mut seen: Vec<String> = Vec::new();
    // Who is more than the files behind that are kept has lost something: so writers wait for a reader that gets no
    // processor.
    let (written, read) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (events, written, read) = (&events, &written, &read);
            scope.spawn(move || {
                for number in 0..EACH {
                    while written.load(Relaxed) > read.load(Relaxed) + 40 {
                        std::thread::sleep(Duration::from_micros(300));
                    }
                    written.fetch_add(1, Relaxed);
                    events.write(&line(&format!("{writer}-{number:04}")), full).unwrap();
                    std::thread::sleep(Duration::from_micros(300));
                }
            });
        }
        let start = std::time::Instant::now();
        while seen.len() < 4 * EACH + 1 && start.elapsed() < Duration::from_secs(60) {
            while let Some(event) = next(&mut reader).unwrap() {
                seen.push(event.action);
                read.fetch_add(1, Relaxed);
            }
        }
        read.fetch_add(4 * EACH, Relaxed);
    });
    assert_eq!(seen.len(), 4 * EACH + 1);
    for writer in 0..4 {
        let own = seen.iter().filter(|action| action.starts_with(&format!("{writer}-")));
        assert!(own.is_sorted_by(|a, b| a < b), "{seen:?}");
    }
}

#[test]
fn what_is_no_line_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let events = Events::below(dir.path());
    events.write(&line("a"), FULL).unwrap();
    let mut file = events.open().unwrap();
    file.write_all(b"{\"Type\":\"contai\n\n\xff\n").unwrap();
    events.write(&line("b"), FULL).unwrap();
    assert_eq!(actions(&events.path), ["a", "b"]);
}

#[test]
fn where_nothing_can_be_written_nothing_happens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    let events = Events::below(dir.path());
    std::fs::create_dir(&path).unwrap();
    events.volume("create", "v");
    std::fs::remove_dir(&path).unwrap();
    // A FIFO without a reader.
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        Mode::RUSR | Mode::WUSR,
        0,
    )
    .unwrap();
    events.volume("create", "v");
    Events::below(Path::new("/no/such/root")).volume("create", "v");
}

#[test]
fn who_waits_is_woken() {
    let dir = tempfile::tempdir().unwrap();
    let wake = Wake::new(dir.path());
    let start = std::time::Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            Events::below(dir.path()).volume("create", "v");
        });
        wake.wait(Duration::from_secs(30));
    });
    assert!(start.elapsed() < Duration::from_secs(20));
    let start = std::time::Instant::now();
    Wake(None).wait(Duration::from_millis(1));
    assert!(start.elapsed() < Duration::from_secs(20));
}
