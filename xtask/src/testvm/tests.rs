//! Tests of what can be told without a machine. That a guest's panic, hang and end are failures is shown by
//! `cargo xtask test-vm --provoke panic|hang|poweroff`, which must fail.

use std::collections::BTreeMap;
use std::time::Duration;

use super::features::{Features, Version};
use super::protocol::{Event, Kind, Order, Program, Selection, Status, decode, encode};
use super::queue::{Queue, names};
use super::report::{Case, Outcome, Report, Step, closing, junit, run_again};
use super::{artifacts, cpio, guest_tests, modules, qemu};

const TABLE: &str = "words\n\n| feature | least version | fallback | test |\n|---|---|---|---|\n\
                     | `old` | 5.6 | none | 6.1 |\n| `new` | 6.5 | mount(2) | 6.12 |\n\nwords | and | more | words\n";

fn version(text: &str) -> Version {
    Version::parse(text).expect("a version")
}

fn table() -> Features {
    Features::parse(TABLE).expect("a table")
}

#[test]
fn an_archive_is_as_the_kernel_reads_it() {
    let mut archive = cpio::Archive::default();
    archive.directory("dev");
    archive.device("dev/null", (1, 3));
    archive.file("init", 0o755, b"hello");
    let bytes = archive.finish();
    let entries = read_cpio(&bytes);
    let names: Vec<_> = entries.iter().map(|entry| entry.0.as_str()).collect();
    assert_eq!(names, ["dev", "dev/null", "init", "TRAILER!!!"]);
    assert_eq!(entries[0].1, 0o040_755);
    assert_eq!((entries[1].1, entries[1].2), (0o020_600, (1, 3)));
    assert_eq!((entries[2].1, entries[2].3.as_slice()), (0o100_755, &b"hello"[..]));
}

type Entry = (String, u32, (u32, u32), Vec<u8>);

/// A reader of its own, by the format's description: magic, 13 fields of 8 hexadecimal digits, name and data on
/// borders of 4 bytes.
fn read_cpio(bytes: &[u8]) -> Vec<Entry> {
    let (mut at, mut entries) = (0, Vec::new());
    while at < bytes.len() {
        let head = std::str::from_utf8(&bytes[at..at + 110]).expect("digits");
        assert!(head.starts_with("070701"), "{head}");
        let field =
            |n: usize| u32::from_str_radix(&head[6 + 8 * n..14 + 8 * n], 16).expect("a number");
        let (size, name) = (field(6) as usize, field(11) as usize);
        let data = (at + 110 + name).next_multiple_of(4);
        let text =
            String::from_utf8(bytes[at + 110..at + 110 + name - 1].to_vec()).expect("a name");
        entries.push((text, field(1), (field(9), field(10)), bytes[data..data + size].to_vec()));
        at = (data + size).next_multiple_of(4);
    }
    entries
}

#[test]
fn modinfo_tells_what_a_module_needs() {
    let module = b"\x7fELF..\0license=GPL\0depends=nf-tables,nf_conntrack\0name=nft_ct\0";
    assert_eq!(
        modules::depends(module),
        Some(vec!["nf_tables".to_owned(), "nf_conntrack".to_owned()])
    );
    assert_eq!(modules::depends(b"\0depends=\0name=overlay\0"), Some(Vec::new()));
    assert_eq!(modules::depends(b"no module"), None);
    assert_eq!(modules::depends(b"\0depends=cut"), None);
}

#[test]
fn each_module_comes_after_what_it_needs() {
    let needs = BTreeMap::from([
        ("a", vec!["b", "c"]),
        ("b", vec!["c"]),
        ("c", vec!["built_in"]),
        ("d", vec!["a"]),
    ]);
    let look = |name: &str| match name {
        "built_in" => Ok(None),
        _ => match needs.get(name) {
            Some(list) => Ok(Some(list.iter().map(|name| (*name).to_owned()).collect())),
            None => anyhow::bail!("missing"),
        },
    };
    assert_eq!(modules::order(&["d", "b"], look).expect("all there"), ["c", "b", "a", "d"]);
    let error = modules::order(&["e"], look).expect_err("not there");
    assert!(format!("{error:#}").contains("module e"), "{error:#}");
}

#[test]
fn a_line_of_another_run_is_no_event() {
    let event = Event::Output("line\nline \u{1b}[1m \"".to_owned());
    let line = encode("vm-1", &event).expect("text");
    assert_eq!(line.matches('\n').count(), 1);
    assert_eq!(decode("vm-1", line.trim_end()), Some(event));
    assert_eq!(decode::<Event>("vm-2", line.trim_end()), None);
    assert_eq!(decode::<Event>("vm-1", "vm-1 {\"Done\""), None);
}

fn program(id: &str, kind: Kind, path: &str) -> Program {
    Program { id: id.to_owned(), kind, path: path.into(), dir: "/".into(), env: BTreeMap::new() }
}

#[test]
fn the_selection_is_by_program_and_test() {
    let sys = program("sys::it", Kind::Harness, "/sys");
    let selection = |filters: &[&str], skip: &[&str]| Selection {
        filters: filters.iter().map(|word| (*word).to_owned()).collect(),
        skip: skip.iter().map(|word| (*word).to_owned()).collect(),
    };
    assert!(selection(&[], &[]).wants(&sys, "a::b"));
    assert!(selection(&["no", "it a::"], &[]).wants(&sys, "a::b"));
    assert!(!selection(&["b::"], &[]).wants(&sys, "a::b"));
    assert!(!selection(&["a::"], &["sys::it a"]).wants(&sys, "a::b"));
}

#[test]
fn guests_share_the_tests_and_then_finish() {
    // A program of the standard harness that is at hand: this one.
    let own = std::env::current_exe().expect("a path");
    let own = own.to_str().expect("text");
    let programs = [
        program("plain", Kind::Plain, "/plain"),
        program("xtask", Kind::Harness, own),
        program("left-out::doc", Kind::DocTests, "/doc"),
        program("sys::doc", Kind::DocTests, "/doc"),
    ];
    let filters = vec!["guests_share".to_owned(), "plain".to_owned()];
    let selection = Selection { filters, skip: vec!["left-out".to_owned()] };
    let queue = Queue::list(&programs, &selection, None).expect("tests");
    assert_eq!(queue.len(), 3);
    let run = |program, test: &str| Order::Run { program, test: test.to_owned() };
    assert_eq!(queue.next(), run(0, "main"));
    assert_eq!(queue.next(), run(1, "testvm::tests::guests_share_the_tests_and_then_finish"));
    assert_eq!(queue.next(), run(3, "doc"));
    assert_eq!((queue.next(), queue.next(), queue.len()), (Order::Finish, Order::Finish, 0));
    let missing = [program("gone", Kind::Harness, "/nowhere")];
    let error = Queue::list(&missing, &Selection::default(), None).expect_err("no such program");
    assert!(format!("{error:#}").contains("gone"), "{error:#}");
}

#[test]
fn benchmarks_are_no_tests() {
    assert_eq!(names("a::b: test\nc: benchmark\n\n2 tests, 1 benchmark\n"), ["a::b"]);
}

#[test]
fn the_manifest_says_which_test_has_no_harness() {
    let text = "[package]\nname = \"a\"\n\n[[test]]\nname = \"own\"\nharness = false\n\n[[test]]\nname=\"std\"\n\n\
                [[bench]]\nname = \"fast\"\nharness = false\n";
    assert!(artifacts::harness_is_off(text, "own"));
    assert!(!artifacts::harness_is_off(text, "std"));
    assert!(!artifacts::harness_is_off(text, "fast"));
}

#[test]
fn doc_tests_are_read_from_their_lines() {
    let output = "\nrunning 2 tests\ntest src/lib.rs - f (line 6) ... ok\ntest src/a.rs - g (line 1) ... FAILED\n\
                  test result: FAILED. 1 passed\nsaid ... ok\n";
    let lines = guest_tests::doc_test_lines(output);
    assert_eq!(lines, [("src/lib.rs - f (line 6)", "ok"), ("src/a.rs - g (line 1)", "FAILED")]);
}

#[test]
fn a_probe_starts_at_the_last_16_bytes() {
    let rom = qemu::probe_rom();
    assert_eq!(rom.len(), 64 << 10);
    // mov ecx, imm32 with 100 million.
    assert_eq!(rom[rom.len() - 16..rom.len() - 10], [0x66, 0xb9, 0x00, 0xe1, 0xf5, 0x05]);
    assert_eq!(rom[rom.len() - 2..], [0xeb, 0xfe]);
}

#[test]
fn versions_are_compared_by_number() {
    assert!(version("6.12") > version("6.5"));
    assert!(version("6.1.0-56-cloud-amd64") < version("6.5"));
    assert!(Version::parse("six").is_err());
}

#[test]
fn a_skip_must_be_in_the_table() {
    let skip = |kernel, output| table().skip(version(kernel), output);
    assert_eq!(skip("6.1", "all is well"), None);
    let said = "test x ... SKIPPED: feature new: no lowerdir+\n";
    assert_eq!(skip("6.1", said), Some(Ok("new: no lowerdir+".to_owned())));
    assert!(matches!(skip("6.12", said), Some(Err(why)) if why.contains("has")));
    assert!(matches!(skip("6.1", "SKIPPED: feature old: no"), Some(Err(_))));
    assert!(
        matches!(skip("6.1", "SKIPPED: feature moon: no"), Some(Err(why)) if why.contains("moon"))
    );
}

#[test]
fn the_project_s_table_is_one() {
    let table =
        Features::parse(include_str!("../../../docs/kernel-features.md")).expect("readable");
    let said = "SKIPPED: feature overlay_lowerdir_append: no";
    assert!(matches!(table.skip(version("6.1"), said), Some(Ok(_))));
    assert!(matches!(table.skip(version("6.12"), said), Some(Err(_))));
}

#[test]
fn a_broken_table_is_refused() {
    let three =
        "| feature | least version | fallback | test |\n|---|---|---|---|\n| a | 5.6 | none |\n";
    let word = "| feature | least version | fallback | test |\n|---|---|---|---|\n| a | new | none | 6.1 |\n";
    for text in ["no table", three, word] {
        assert!(Features::parse(text).is_err(), "{text}");
    }
}

fn start(test: &str) -> Event {
    Event::Start { program: "sys".to_owned(), test: test.to_owned() }
}

fn end(status: Status) -> Event {
    Event::End { status, millis: 1500 }
}

#[test]
fn a_run_is_told_by_its_events() {
    let table = table();
    let mut report = Report::new(version("6.1"), &table);
    let ready = Event::Ready { release: "6.1.0".to_owned() };
    assert_eq!(report.event(ready), Step::Ready { release: "6.1.0".to_owned() });
    let mut cases = Vec::new();
    for (test, output, status) in [
        ("good", "", Status::Passed),
        ("bad", "why <&>\u{1b}", Status::Failed("exit status 101".to_owned())),
        ("old", "SKIPPED: feature new: no", Status::Passed),
        ("lame", "SKIPPED: feature old: no", Status::Passed),
    ] {
        assert_eq!(report.event(start(test)), Step::Running);
        assert_eq!(report.event(Event::Output(output.to_owned())), Step::Said(output.to_owned()));
        let Step::Ended(case) = report.event(end(status)) else { panic!("{test} has not ended") };
        cases.push(case);
    }
    assert_eq!(report.event(Event::Done { tests: 4, shell: None }), Step::Done);
    assert_eq!(closing(&cases, 0), "1 passed, 2 failed, 1 skipped");
    assert_eq!(closing(&cases[..2], 3), "1 passed, 1 failed, 3 not run");
    assert_eq!(cases[0].line(), "        PASS [   1.500s] 6.1 sys good");
    let xml = junit(&cases);
    assert!(
        xml.contains("<testsuite name=\"6.1 sys\" tests=\"4\" failures=\"2\" skipped=\"1\">"),
        "{xml}"
    );
    // As from two guests: a suite is whole.
    let mut mixed = cases.clone();
    mixed.insert(1, Case { program: "other".to_owned(), ..cases[0].clone() });
    let mixed = junit(&mixed);
    assert_eq!(mixed.matches("<testsuite ").count(), 2, "{mixed}");
    assert!(mixed.contains("name=\"6.1 sys\" tests=\"4\""), "{mixed}");
    assert!(xml.contains("<system-out>why &lt;&amp;&gt;\u{fffd}</system-out>"), "{xml}");
}

#[test]
fn what_passes_the_second_time_is_flaky() {
    let case = |test: &str, outcome| Case {
        kernel: version("6.1"),
        program: "sys".to_owned(),
        test: test.to_owned(),
        outcome,
        millis: 1500,
        output: "first".to_owned(),
    };
    let failed = || Outcome::Failed("exit status 101".to_owned());
    let mut cases =
        vec![case("good", Outcome::Passed), case("slow", failed()), case("bad", failed())];
    let program = Program {
        id: "sys".to_owned(),
        path: "/sys".into(),
        dir: "/".into(),
        env: BTreeMap::new(),
        kind: Kind::Harness,
    };
    let queue = Queue::of_failed(&[program], &cases);
    let run = |test: &str| Order::Run { program: 0, test: test.to_owned() };
    assert_eq!(
        [queue.next(), queue.next(), queue.next()],
        [run("slow"), run("bad"), Order::Finish]
    );
    run_again(&mut cases, vec![case("slow", Outcome::Passed), case("bad", failed())]);
    assert_eq!(closing(&cases, 0), "1 passed, 1 failed, 1 flaky");
    assert_eq!(cases[1].line(), "       FLAKY [   1.500s] 6.1 sys slow: exit status 101");
    assert!(junit(&cases).contains("<flakyFailure message=\"exit status 101\"><system-out>first<"));
}

#[test]
fn a_count_that_differs_is_no_verdict() {
    let table = table();
    let mut report = Report::new(version("6.1"), &table);
    assert!(
        matches!(report.event(Event::Done { tests: 1, shell: None }), Step::Broken(why) if why.contains("1 tests"))
    );
    assert!(matches!(report.event(end(Status::Passed)), Step::Broken(_)));
    assert!(
        matches!(report.event(Event::Fault("no".to_owned())), Step::Broken(why) if why.contains("gave up"))
    );
}

#[test]
fn the_test_that_ran_at_the_end_is_to_blame() {
    let table = table();
    let mut report = Report::new(version("6.1"), &table);
    assert_eq!(report.event(start("fatal")), Step::Running);
    assert_eq!(
        report.event(Event::Output("last words".to_owned())),
        Step::Said("last words".to_owned())
    );
    assert!(matches!(report.event(Event::Done { tests: 0, shell: None }), Step::Broken(_)));
    let case = report.broken("hangs", Duration::from_secs(2));
    let want = Outcome::Failed("hangs".to_owned());
    assert_eq!(
        (case.test.as_str(), case.outcome, case.output.as_str()),
        ("fatal", want, "last words")
    );
    // Told what to run, and heard of no more.
    let mut report = Report::new(version("6.1"), &table);
    assert_eq!(report.event(Event::Idle), Step::Idle);
    report.ordered("sys", "lost");
    assert_eq!(report.broken("off", Duration::ZERO).test, "lost");
    let mut report = Report::new(version("6.1"), &table);
    report.ordered("sys", "done");
    assert_eq!(report.event(Event::Idle), Step::Idle);
    assert_eq!(report.broken("off", Duration::ZERO).test, "the machine");
    let machine: Case = Report::new(version("6.1"), &table).broken("off", Duration::ZERO);
    assert_eq!(machine.program, "test-vm");
}
