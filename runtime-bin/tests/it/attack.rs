//! What the tests of attacks have in common: a canary of the host's, images in each form, races with an end.
//! docs/threat-model.md says which test is for which attack.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{RenameFlags, renameat_with};

use crate::harness::{Root, arg};
use crate::host;
use crate::indexed::{self, INDEX};

/// The word that only the canary has.
pub(crate) const SECRET: &str = "the-canary-sings";

/// A directory of the host's that nothing may read, write or mount on.
pub(crate) struct Canary {
    path: PathBuf,
    before: Vec<String>,
}

impl Canary {
    /// Makes it in `dir`: a file `alive`, a directory `nest` with a file in it.
    pub(crate) fn new(dir: &Path) -> Canary {
        let path = dir.join("canary");
        fs::create_dir_all(path.join("nest")).unwrap();
        fs::write(path.join("alive"), SECRET).unwrap();
        fs::write(path.join("nest/egg"), SECRET).unwrap();
        for (name, mode) in [("alive", 0o640), ("nest/egg", 0o604), ("nest", 0o750), ("", 0o711)] {
            fs::set_permissions(path.join(name), Permissions::from_mode(mode)).unwrap();
        }
        let before = described(&path);
        Canary { path, before }
    }

    /// As an argument, or the target of a link.
    pub(crate) fn path(&self) -> &str {
        arg(&self.path)
    }

    /// The target of a link that goes up before it goes there.
    pub(crate) fn up(&self) -> String {
        format!("{}{}", "../".repeat(20), &self.path()[1..])
    }

    #[track_caller]
    pub(crate) fn assert_untouched(&self) {
        assert_eq!(described(&self.path), self.before, "the host's files were changed");
        assert_eq!(host::mounts_below(&self.path), [], "something is mounted on the host's files");
    }
}

/// Each file below `dir`: name, type and mode, owner, links, device, content, time of the last change.
fn described(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut names = vec![PathBuf::new()];
    while let Some(name) = names.pop() {
        let path = dir.join(&name);
        let meta = fs::symlink_metadata(&path).unwrap();
        let content =
            if meta.is_file() { fs::read_to_string(&path).unwrap() } else { String::new() };
        found.push(format!(
            "{} {:o} {}:{} {} {} {content:?} {}.{}",
            name.display(),
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.nlink(),
            meta.rdev(),
            meta.ctime(),
            meta.ctime_nsec()
        ));
        if meta.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            names.extend(entries.map(|entry| name.join(entry.unwrap().file_name())));
        }
    }
    found.sort();
    found
}

/// The forms in which an image's layers can be kept here, as options of `load` and `run`.
pub(crate) fn forms() -> Vec<&'static str> {
    let mut forms = vec!["--layer-form=dir"];
    forms.extend(indexed::is_possible().then_some(INDEX));
    forms
}

/// How long a race is run: a few seconds, or RACE_SECONDS (`cargo xtask test-host --nightly`).
pub(crate) fn race_time() -> Duration {
    let seconds = std::env::var("RACE_SECONDS");
    let seconds = seconds.map(|text| text.parse().expect("RACE_SECONDS is a number of seconds"));
    Duration::from_secs(seconds.unwrap_or(3))
}

/// Tries until the time is over, `least` times in any case, and says how often that was.
#[expect(clippy::print_stdout, reason = "a test's words to its runner")]
pub(crate) fn race(what: &str, least: u32, mut attempt: impl FnMut()) -> u32 {
    let end = Instant::now() + race_time();
    let mut tries = 0;
    while tries < least || Instant::now() < end {
        attempt();
        tries += 1;
    }
    println!("{what}: {tries} tries");
    tries
}

/// A thread that exchanges two names of a directory as fast as it can.
pub(crate) struct Swapper {
    stop: Arc<AtomicBool>,
    swaps: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Swapper {
    /// Begins. `one` and `other` may be missing for a while: others make and remove them too.
    pub(crate) fn start(dir: &Path, one: &'static str, other: &'static str) -> Swapper {
        let dir = File::open(dir).unwrap();
        let (stop, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ending, counting) = (Arc::clone(&stop), Arc::clone(&swaps));
        let thread = std::thread::spawn(move || {
            while !ending.load(Ordering::Relaxed) {
                if renameat_with(&dir, one, &dir, other, RenameFlags::EXCHANGE).is_ok() {
                    counting.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Swapper { stop, swaps, thread: Some(thread) }
    }

    /// Ends it; how often names were exchanged.
    pub(crate) fn end(mut self) -> u64 {
        self.join();
        self.swaps.load(Ordering::Relaxed)
    }

    fn join(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.join();
    }
}

/// What is said of the opening of files: to open a device can already do something.
pub(crate) struct Openings(rustix::fd::OwnedFd);

impl Openings {
    pub(crate) fn of(path: &Path) -> Openings {
        use rustix::fs::inotify;
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let queue = inotify::init(flags).unwrap();
        inotify::add_watch(&queue, path, inotify::WatchFlags::OPEN).unwrap();
        Openings(queue)
    }

    /// Whether it was opened since the last question.
    pub(crate) fn any(&self) -> bool {
        let mut buffer = [0_u8; 4096];
        let mut seen = false;
        while rustix::io::read(&self.0, &mut buffer).is_ok_and(|count| count > 0) {
            seen = true;
        }
        seen
    }
}

/// `load` in this form, which must succeed; the image's name is the archive's own.
#[track_caller]
pub(crate) fn load(root: &Root, form: &str, archive: &Path) {
    root.ok(["load", "-q", form, "-i", arg(archive)]);
}
