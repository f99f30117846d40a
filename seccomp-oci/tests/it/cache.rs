//! Programs kept in a directory, and what is not believed.

use std::fs::{self, File, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use seccomp_oci::{Action, Arch, Compiled, Filter, Kept, Rule, compile, compile_cached};
use serde_json::value::RawValue;

fn filter(name: &str) -> Filter {
    let syscalls = vec![Rule::new([name, "no_such_call"], Action::Errno)];
    Filter { syscalls, ..Filter::new(Action::Allow) }
}

fn cached(dir: &Path, filter: &Filter) -> Compiled {
    let opened = File::open(dir).unwrap();
    let (compiled, trouble) = compile_cached(filter, Arch::X86_64, opened.as_fd()).unwrap();
    assert!(trouble.is_none(), "{trouble:?}");
    assert_eq!(compiled, compile(filter, Arch::X86_64).unwrap());
    compiled
}

fn only_file(dir: &Path) -> PathBuf {
    let files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.into_iter().next().unwrap()
}

/// A file that is taken as it is keeps its inode; one that is made anew has another.
fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

#[test]
fn a_program_is_made_once_and_read_then() {
    let dir = tempfile::tempdir().unwrap();
    let first = cached(dir.path(), &filter("read"));
    let file = only_file(dir.path());
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
    let before = inode(&file);
    assert_eq!(cached(dir.path(), &filter("read")), first);
    assert_eq!(inode(&only_file(dir.path())), before);
    assert_eq!(first.unknown, ["no_such_call"], "which the file has too");
    // Where the listener is does not matter to the program.
    let listener = Filter { listener_path: Some("/x".to_owned()), ..filter("read") };
    cached(dir.path(), &listener);
    assert_eq!(inode(&only_file(dir.path())), before);
    cached(dir.path(), &filter("write"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

/// As somebody wrote it: what is said in another way is made again, and found by its own text.
#[test]
fn a_program_is_found_by_the_text_of_its_filter() {
    let dir = tempfile::tempdir().unwrap();
    let opened = File::open(dir.path()).unwrap();
    let texts = [r#"{"defaultAction":"SCMP_ACT_LOG"}"#, r#"{"defaultAction": "SCMP_ACT_LOG"}"#];
    for text in texts {
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        let kept = || Kept::of(&raw, Arch::X86_64, opened.as_fd()).unwrap();
        assert_eq!(kept().find(), None, "{text}");
        let compiled = compile(&serde_json::from_str(text).unwrap(), Arch::X86_64).unwrap();
        kept().keep(&compiled).unwrap();
        assert_eq!(kept().find(), Some(compiled), "{text}");
        assert_eq!(Kept::of(&raw, Arch::Aarch64, opened.as_fd()).unwrap().find(), None);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), texts.len());
}

#[test]
fn a_file_that_was_changed_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    cached(dir.path(), &filter("read"));
    let file = only_file(dir.path());
    let whole = fs::read(&file).unwrap();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(&file, &changed).unwrap();
        cached(dir.path(), &filter("read"));
        assert_eq!(fs::read(only_file(dir.path())).unwrap(), whole, "with byte {at} changed");
    }
    for length in [0, 1, 40, 80, whole.len() - 1] {
        fs::write(&file, &whole[..length]).unwrap();
        cached(dir.path(), &filter("read"));
        assert_eq!(fs::read(only_file(dir.path())).unwrap(), whole, "cut to {length}");
    }
    fs::write(&file, [&whole[..], b"x"].concat()).unwrap();
    cached(dir.path(), &filter("read"));
    assert_eq!(fs::read(only_file(dir.path())).unwrap(), whole);
}

#[test]
fn the_program_of_another_filter_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    cached(dir.path(), &filter("read"));
    let file = only_file(dir.path());
    // Of another length, and of the same.
    for name in ["write", "sync"] {
        let other = tempfile::tempdir().unwrap();
        cached(other.path(), &filter(name));
        fs::copy(only_file(other.path()), &file).unwrap();
        cached(dir.path(), &filter("read"));
    }
}

#[test]
fn files_that_others_could_have_written_are_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    cached(dir.path(), &filter("read"));
    let file = only_file(dir.path());
    let spoil: [(&str, &dyn Fn()); 4] = [
        ("another's", &|| chown(&file, Some(12345), None).unwrap()),
        ("for all to write", &|| {
            fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        }),
        ("a link", &|| {
            let target = dir.path().join("../seccomp-oci-test-target");
            fs::rename(&file, &target).unwrap();
            symlink(&target, &file).unwrap();
        }),
        ("a FIFO", &|| {
            fs::remove_file(&file).unwrap();
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            rustix::fs::mkfifoat(rustix::fs::CWD, &file, mode).unwrap();
        }),
    ];
    for (what, spoil) in spoil {
        spoil();
        let before = inode(&file);
        cached(dir.path(), &filter("read"));
        assert_ne!(inode(&only_file(dir.path())), before, "{what}");
        assert!(fs::symlink_metadata(&file).unwrap().is_file(), "{what}");
    }
    fs::remove_file(dir.path().join("../seccomp-oci-test-target")).unwrap();
}

#[test]
fn a_directory_that_cannot_be_written_costs_the_cache_alone() {
    let file = File::open("/proc/self").unwrap();
    let (compiled, trouble) = compile_cached(&filter("read"), Arch::X86_64, file.as_fd()).unwrap();
    assert_eq!(compiled, compile(&filter("read"), Arch::X86_64).unwrap());
    assert!(trouble.is_some());
}

#[test]
fn a_cache_does_not_grow_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    for errno in 1..=300 {
        let syscalls = vec![Rule { errno_ret: Some(errno), ..Rule::new(["read"], Action::Errno) }];
        cached(dir.path(), &Filter { syscalls, ..Filter::new(Action::Allow) });
    }
    fs::write(dir.path().join("somebody-elses"), "").unwrap();
    assert!(fs::read_dir(dir.path()).unwrap().count() <= 257);
    assert!(dir.path().join("somebody-elses").exists());
}

#[test]
fn many_at_once_make_one_file() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| cached(dir.path(), &filter("read")));
        }
    });
    only_file(dir.path());
}
