use std::fs;

use rustix::io::Errno;

use super::*;
use crate::output::READ;
use crate::rotated::Reader;

fn at(dir: &Path) -> PathBuf {
    dir.join("log")
}

/// What the log at `path` has of standard output, and how many pieces it is.
fn text(path: &Path) -> (Vec<u8>, usize) {
    let (mut reader, mut bytes) = (Reader::open(path.to_owned()).unwrap().unwrap(), Vec::new());
    let mut count = 0;
    while let Some(piece) = reader.piece().unwrap() {
        assert_eq!(piece.outlet, Outlet::Stdout);
        bytes.extend_from_slice(piece.bytes);
        count += 1;
    }
    (bytes, count)
}

fn json(parts: &[&[u8]]) -> Vec<json::Record> {
    let dir = tempfile::tempdir().unwrap();
    let path = at(dir.path());
    let mut log = Log::open(&path, Form::Json, Limits::default()).unwrap();
    let mut stream = Stream::new(Outlet::Stderr);
    for part in parts {
        log.add(&mut stream, part).unwrap();
    }
    log.finish(&mut stream).unwrap();
    log.flush().unwrap();
    let text = fs::read_to_string(&path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn json_file_has_a_record_for_each_line() {
    let records = json(&[b"one\ntw", b"o\n\nthr", b"ee"]);
    let texts: Vec<_> = records.iter().map(|record| &*record.log).collect();
    assert_eq!(texts, ["one\n", "two\n", "\n", "three"]);
    assert!(records.iter().all(|record| record.stream == "stderr" && record.time.ends_with('Z')));
    assert!(json(&[]).is_empty());
}

#[test]
fn local_has_a_piece_for_each_read_and_the_end_of_a_line_that_has_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = at(dir.path());
    let mut log = Log::open(&path, Form::Local, Limits::default()).unwrap();
    let (mut out, mut err) = (Stream::new(Outlet::Stdout), Stream::new(Outlet::Stderr));
    log.add(&mut out, b"one\ntw").unwrap();
    log.add(&mut err, b"\xff\n").unwrap();
    log.finish(&mut out).unwrap();
    log.finish(&mut err).unwrap();
    assert!(log.holds() && fs::metadata(&path).unwrap().len() == 0);
    log.flush().unwrap();
    assert!(!log.holds());
    let mut reader = Reader::open(path).unwrap().unwrap();
    let mut found = Vec::new();
    while let Some(piece) = reader.piece().unwrap() {
        assert!(nanoseconds() - piece.time < 60_000_000_000);
        found.push((piece.outlet, piece.bytes.to_owned()));
    }
    let expected: [(Outlet, &[u8]); 3] =
        [(Outlet::Stdout, b"one\ntw"), (Outlet::Stderr, b"\xff\n"), (Outlet::Stdout, b"")];
    assert_eq!(found, expected.map(|(outlet, bytes)| (outlet, bytes.to_owned())));
}

#[test]
fn a_full_file_makes_place_for_a_new_one() {
    for (form, size) in [(Form::Json, 200), (Form::Local, 80)] {
        let dir = tempfile::tempdir().unwrap();
        let path = at(dir.path());
        let mut log = Log::open(&path, form, Limits { size: Some(size), files: 3 }).unwrap();
        let mut stream = Stream::new(Outlet::Stdout);
        for number in 0..20 {
            log.add(&mut stream, format!("line {number}\n").as_bytes()).unwrap();
        }
        log.flush().unwrap();
        assert!(!rotated(&path, 3).exists());
        for number in 0..3 {
            let file = if number == 0 { path.clone() } else { rotated(&path, number) };
            assert!((1..=size).contains(&fs::metadata(file).unwrap().len()));
        }
        let mut reader = Reader::open(path).unwrap().unwrap();
        let mut lines = Vec::new();
        match form {
            Form::Json => {
                while let Some(record) = reader.next::<json::Record>().unwrap() {
                    lines.push(record.log);
                }
            }
            Form::Local => {
                while let Some(piece) = reader.piece().unwrap() {
                    lines.push(String::from_utf8(piece.bytes.to_owned()).unwrap());
                }
            }
        }
        let last: Vec<String> =
            (20 - lines.len()..20).map(|number| format!("line {number}\n")).collect();
        assert!(lines == last && lines.len() >= 6, "{lines:?}");
    }
}

/// Lines are kept together where they have room in a file; what has none is there all the same.
#[test]
fn a_piece_that_is_larger_than_a_file_is_cut_at_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = at(dir.path());
    let limits = Limits { size: Some(100), files: 50 };
    let mut log = Log::open(&path, Form::Local, limits).unwrap();
    let mut stream = Stream::new(Outlet::Stdout);
    let lines: String = (0..60).map(|number| format!("line {number}\n")).collect();
    log.add(&mut stream, lines.as_bytes()).unwrap();
    let long = [b'x'; 300];
    log.add(&mut stream, &long).unwrap();
    log.flush().unwrap();
    let (bytes, pieces) = text(&path);
    assert!(bytes == [lines.as_bytes(), &long].concat());
    assert!(pieces > 5);
    assert_eq!(fs::metadata(&path).unwrap().len(), 300 + pieces::OVERHEAD as u64);
    assert!(fs::read(rotated(&path, 1)).unwrap().contains(&b'\n'));
}

/// Its writer was killed at any byte of the last piece: that one is lost, and what comes then is read.
#[test]
fn half_a_piece_at_the_end_is_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = at(dir.path());
    let mut stream = Stream::new(Outlet::Stdout);
    let mut log = Log::open(&path, Form::Local, Limits::default()).unwrap();
    log.add(&mut stream, b"first\n").unwrap();
    log.add(&mut stream, &[0; 40]).unwrap();
    drop(log);
    let all = fs::read(&path).unwrap();
    let first = pieces::OVERHEAD + 6;
    for size in 0..=all.len() {
        fs::write(&path, &all[..size]).unwrap();
        // Before anybody mends it, only what is whole is read.
        let whole = usize::from(size >= first) + usize::from(size == all.len());
        assert_eq!(text(&path).1, whole, "{size}");
        let mut log = Log::open(&path, Form::Local, Limits::default()).unwrap();
        log.add(&mut stream, b"next\n").unwrap();
        log.flush().unwrap();
        let (bytes, count) = text(&path);
        assert!(bytes.ends_with(b"next\n") && count == whole + 1, "{size}: {bytes:?}");
    }
}

/// Likewise of the json-file form.
#[test]
fn half_a_record_at_the_end_is_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = at(dir.path());
    let mut stream = Stream::new(Outlet::Stdout);
    let mut log = Log::open(&path, Form::Json, Limits::default()).unwrap();
    log.add(&mut stream, b"first\n").unwrap();
    log.flush().unwrap();
    let first = fs::read(&path).unwrap().len();
    log.add(&mut stream, b"second\n").unwrap();
    drop(log);
    let all = fs::read(&path).unwrap();
    for size in 0..=all.len() {
        fs::write(&path, &all[..size]).unwrap();
        let mut log = Log::open(&path, Form::Json, Limits::default()).unwrap();
        log.add(&mut stream, b"next\n").unwrap();
        log.flush().unwrap();
        let mut reader = Reader::open(path.clone()).unwrap().unwrap();
        let mut lines = Vec::new();
        while let Some(record) = reader.next::<json::Record>().unwrap() {
            lines.push(record.log);
        }
        let whole = usize::from(size >= first) + usize::from(size == all.len());
        assert!(lines.len() == whole + 1 && lines[whole] == "next\n", "{size}: {lines:?}");
    }
}

/// The kernel has no room or no descriptor for a new file, and has one later.
#[test]
fn a_log_goes_on_when_a_new_file_could_not_be_made_for_a_while() {
    for files in [1, 3] {
        let dir = tempfile::tempdir().unwrap();
        let path = at(dir.path());
        let limits = Limits { size: Some(80), files };
        let mut log = Log::open(&path, Form::Local, limits).unwrap();
        let mut stream = Stream::new(Outlet::Stdout);
        let (mut log, refused) = std::thread::spawn(move || {
            // A filter is the thread's own, and goes with it.
            let program = sys::seccomp::answer(&[libc::SYS_openat], Errno::NOSPC);
            sys::seccomp::install(&program).unwrap();
            let mut stream = Stream::new(Outlet::Stdout);
            let refused = (0..9).filter(|_| log.add(&mut stream, b"lost or not\n").is_err());
            let refused = refused.count();
            log.flush().unwrap();
            (log, refused)
        })
        .join()
        .unwrap();
        assert!((1..9).contains(&refused), "{refused}");
        assert!(text(&path).0.starts_with(b"lost or not\n"), "what there was is there still");
        for number in 0..9 {
            log.add(&mut stream, format!("line {number}\n").as_bytes()).unwrap();
        }
        log.flush().unwrap();
        assert!(text(&path).0.ends_with(b"line 8\n"));
    }
}

/// Each new file costs as much as there are, not as many as there may be.
#[test]
fn any_number_of_files_may_be_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = at(dir.path());
    let limits = Limits { size: Some(80), files: u32::MAX };
    let mut log = Log::open(&path, Form::Local, limits).unwrap();
    let mut stream = Stream::new(Outlet::Stdout);
    let lines: Vec<String> = (0..40).map(|number| format!("line {number}\n")).collect();
    for line in &lines {
        log.add(&mut stream, line.as_bytes()).unwrap();
    }
    log.flush().unwrap();
    assert!(text(&path).0 == lines.concat().as_bytes() && rotated(&path, 9).exists());
}

#[test]
fn what_is_no_log_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = at(dir.path());
    fs::write(&path, [7; 100]).unwrap();
    let error = Reader::open(path.clone()).unwrap().unwrap().piece().unwrap_err().to_string();
    assert!(error.contains("damaged") && error.contains(path.to_str().unwrap()), "{error}");
}

proptest::proptest! {
    #[test]
    fn a_local_log_has_the_very_bytes(
        parts in proptest::collection::vec(proptest::collection::vec(0_u8..20, 1..80), 0..20),
        size in 30_u64..400,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = at(dir.path());
        let limits = Limits { size: Some(size), files: 10_000 };
        let mut log = Log::open(&path, Form::Local, limits).unwrap();
        let mut stream = Stream::new(Outlet::Stdout);
        for part in &parts {
            log.add(&mut stream, part).unwrap();
        }
        drop(log);
        proptest::prop_assert!(text(&path).0 == parts.concat());
    }
}

/// A piece larger than a block, after some that end anywhere, by either way.
#[test]
fn the_file_grows_by_whole_blocks_until_the_rest_is_flushed() {
    const BLOCK: u64 = 128 << 10;
    let dir = tempfile::tempdir().unwrap();
    let path = at(dir.path());
    let mut log = Log::open(&path, Form::Local, Limits::default()).unwrap();
    let mut stream = Stream::new(Outlet::Stdout);
    let mut expected = Vec::new();
    for (number, count) in [1, 70_000, 200_000, READ, 3, 131_055, 131_055, 100].iter().enumerate() {
        let bytes: Vec<u8> =
            (0..*count).map(|at| u8::try_from(at % 240 + number).unwrap()).collect();
        match number % 2 {
            0 => log.add(&mut stream, &bytes).unwrap(),
            _ => {
                log.space(bytes.len()).unwrap()[..bytes.len()].copy_from_slice(&bytes);
                log.took(&mut stream, bytes.len()).unwrap();
            }
        }
        expected.extend_from_slice(&bytes);
        let size = fs::metadata(&path).unwrap().len();
        let all = (expected.len() + (number + 1) * pieces::OVERHEAD) as u64;
        assert_eq!(size, all / BLOCK * BLOCK, "{number}");
        assert!(expected.starts_with(&text(&path).0));
    }
    log.flush().unwrap();
    assert!(text(&path) == (expected, 8));
}

/// The end of a piece whose first blocks are in the file already finds no room.
#[test]
fn a_full_disk_leaves_whole_pieces_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = at(dir.path());
    let mut stream = Stream::new(Outlet::Stdout);
    let mut log = Log::open(&path, Form::Local, Limits::default()).unwrap();
    log.add(&mut stream, b"first\n").unwrap();
    log.add(&mut stream, &[b'x'; 200_000]).unwrap();
    let mut log = std::thread::spawn(move || {
        let program = sys::seccomp::answer(&[libc::SYS_write], Errno::NOSPC);
        sys::seccomp::install(&program).unwrap();
        assert_eq!(log.flush().unwrap_err().raw_os_error(), Some(libc::ENOSPC));
        assert!(!log.holds() && log.flush().is_ok());
        log
    })
    .join()
    .unwrap();
    assert_eq!(text(&path), (b"first\n".to_vec(), 1));
    log.add(&mut stream, b"last\n").unwrap();
    drop(log);
    assert_eq!(text(&path), (b"first\nlast\n".to_vec(), 2));
}

/// What is to be kept in small files, or as lines, is not taken unseen.
#[test]
fn only_what_has_room_is_read_to_the_log_itself() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { size: Some(1000), files: 2 };
    let mut log = Log::open(&at(dir.path()), Form::Local, limits).unwrap();
    assert!(log.space(1000 - pieces::OVERHEAD).is_some());
    assert!(log.space(1001 - pieces::OVERHEAD).is_none());
    assert!(Log::open(&dir.path().join("json"), Form::Json, limits).unwrap().space(1).is_none());
}
