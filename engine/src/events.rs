//! What happens to containers, images and volumes, in Docker's words.
//!
//! Without a daemon, whoever does something writes it down: a line of JSON at the end of the file `events`
//! below the root, by one write of less than a page. Writers do not wait for each other. The shared lock
//! that each has meanwhile only says that the file is still the newest: who gives a full file another
//! name has it alone for that moment, so that nothing is written to a file after its name has changed.
//!
//! An event that cannot be written is lost, and neither fails nor holds up what it tells of.

mod tell;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, inotify};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::rotated::{Reader, rotated};
use crate::{Engine, Error, target};
pub(crate) use tell::Exec;

/// Bytes after which a new file is begun.
const FULL: u64 = 4 << 20;
/// How many full files are kept.
const KEPT: u32 = 2;
/// Longest line, with its end.
const LINE: usize = 4095;
/// Longest action, and longest value of an attribute, as JSON has them.
const ACTION: usize = 1024;
const VALUE: usize = 256;
/// What of a line is always there: names, times, an id.
const FRAME: usize = 320;
/// How often it is tried to get hold of the newest file, a millisecond apart.
const ATTEMPTS: u32 = 20;
/// How often it is looked for new events where the kernel does not tell of them.
const LOOK: Duration = Duration::from_millis(50);

/// Something that has happened, as Docker's API has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// `container`, `image` or `volume`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// `start`, `die` …
    #[serde(rename = "Action")]
    pub action: String,
    /// What it has happened to.
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// Always `local`.
    pub scope: String,
    /// When, in seconds since 1970.
    pub time: i64,
    /// When, in nanoseconds since 1970.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// What an event has happened to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// A container's or an image's id, a volume's name.
    #[serde(rename = "ID")]
    pub id: String,
    /// What else is known of it.
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}

/// Which events are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventsRequest {
    /// From this time on (nanoseconds since 1970); without, from now on.
    pub since: Option<i64>,
    /// Until this time; without, for ever.
    pub until: Option<i64>,
}

impl Engine {
    /// Gives what has happened and what happens to `show`, until that returns `false` or the time is
    /// over.
    ///
    /// # Errors
    /// A file of the events cannot be read.
    pub fn events(
        &self,
        request: EventsRequest,
        mut show: impl FnMut(Event) -> bool,
    ) -> Result<(), Error> {
        let since = request.since.unwrap_or_else(nanoseconds);
        let path = self.root.events().path;
        // Before the first look, so that nothing comes in between.
        let wake = Wake::new(self.root.path());
        let mut reader = None;
        loop {
            // Asked before the file is read to its end: what is written until then is read.
            let left = request.until.map(|until| until.saturating_sub(nanoseconds()));
            if reader.is_none() {
                reader = Reader::open(path.clone())?;
            }
            while let Some(event) = reader.as_mut().map(next).transpose()?.flatten() {
                let wanted = event.time_nano >= since
                    && request.until.is_none_or(|until| event.time_nano < until);
                if wanted && !show(event) {
                    return Ok(());
                }
            }
            match left.map(u64::try_from) {
                Some(Err(_) | Ok(0)) => return Ok(()),
                Some(Ok(left)) => wake.wait(Duration::from_nanos(left)),
                None => wake.wait(Duration::from_secs(3600)),
            }
        }
    }
}

/// The next event. A line that is none was cut off by a disk that was full.
fn next(reader: &mut Reader) -> Result<Option<Event>, Error> {
    loop {
        match reader.next() {
            Err(Error::Damaged { .. }) => {}
            found => return found,
        }
    }
}

fn nanoseconds() -> i64 {
    i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos()).unwrap_or(i64::MAX)
}

/// Tells of changes in a directory (inotify(7)), where there are not too many who are told.
struct Wake(Option<OwnedFd>);

impl Wake {
    fn new(dir: &Path) -> Wake {
        use inotify::{CreateFlags, WatchFlags};
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        Wake(fd.filter(|fd| {
            let changes = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
            inotify::add_watch(fd, dir, changes).is_ok()
        }))
    }

    /// Waits for a change, at most so long.
    fn wait(&self, limit: Duration) {
        let Some(fd) = &self.0 else {
            std::thread::sleep(limit.min(LOOK));
            return;
        };
        if target::ended(fd.as_fd(), limit).is_err() {
            std::thread::sleep(limit.min(LOOK));
        }
        let mut buffer = [0; 4096];
        while rustix::io::read(fd, &mut buffer).is_ok_and(|count| count > 0) {}
    }
}

/// Where the events of a root are written down.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    path: PathBuf,
}

impl Events {
    /// Those of the root directory `root`.
    pub(crate) fn below(root: &Path) -> Events {
        Events { path: root.join("events") }
    }

    /// Writes an event down. What fails then is nobody's fault who could do anything about it.
    fn emit<'a>(
        &self,
        kind: &str,
        action: &str,
        id: &str,
        own: impl IntoIterator<Item = &'a (&'a str, &'a str)>,
        labels: &BTreeMap<String, String>,
    ) {
        let event = event(kind, action, id, own, labels);
        if let Ok(mut line) = serde_json::to_vec(&event) {
            line.push(b'\n');
            let _ = self.write(&line, FULL);
        }
    }

    /// Appends a line to the newest file, and lets that be the last one in it if it is full.
    fn write(&self, line: &[u8], full: u64) -> std::io::Result<()> {
        let mut file = self.open()?;
        for _ in 0..ATTEMPTS {
            // Where this fails somebody gives the file another name just now.
            let held = rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_ok();
            if held && self.is_newest(&file)? {
                break;
            }
            if !held {
                std::thread::sleep(Duration::from_millis(1));
            }
            file = self.open()?;
        }
        let count = file.write(line)?;
        if count < line.len() {
            // A full disk: whoever comes next begins a line of its own if there is room for its begin.
            let _ = file.write(b"\n");
        }
        if file.metadata()?.len() >= full
            && rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
            && self.is_newest(&file)?
        {
            for number in (1..KEPT).rev() {
                let _ =
                    std::fs::rename(rotated(&self.path, number), rotated(&self.path, number + 1));
            }
            std::fs::rename(&self.path, rotated(&self.path, 1))?;
        }
        Ok(())
    }

    fn open(&self) -> std::io::Result<File> {
        // NONBLOCK: nobody waits for whatever else may be there.
        let flags = OFlags::WRONLY
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::CLOEXEC;
        Ok(rustix::fs::open(&self.path, flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    /// Whether the file has the name still. Asked with its lock held, the answer stays true.
    fn is_newest(&self, file: &File) -> std::io::Result<bool> {
        let own = file.metadata()?;
        match std::fs::metadata(&self.path) {
            Ok(named) => Ok((named.dev(), named.ino()) == (own.dev(), own.ino())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// An event of now. What does not fit into a line is left out: the end of long texts, and labels.
fn event<'a>(
    kind: &str,
    action: &str,
    id: &str,
    own: impl IntoIterator<Item = &'a (&'a str, &'a str)>,
    labels: &BTreeMap<String, String>,
) -> Event {
    let mut attributes = BTreeMap::new();
    let (action, used) = cut(action, ACTION);
    let mut room = LINE - FRAME - used;
    let mut add = |key: &str, value: &str| {
        let (key, value) = (cut(key, VALUE), cut(value, VALUE));
        // Quotation marks, a colon and a comma.
        let size = key.1 + value.1 + 6;
        if size <= room && !attributes.contains_key(&key.0) {
            room -= size;
            attributes.insert(key.0, value.0);
        }
    };
    for (key, value) in own {
        add(key, value);
    }
    for (key, value) in labels {
        add(key, value);
    }
    let (id, _) = cut(id, VALUE);
    let time_nano = nanoseconds();
    Event {
        kind: kind.to_owned(),
        action,
        actor: Actor { id, attributes },
        scope: "local".to_owned(),
        time: time_nano / 1_000_000_000,
        time_nano,
    }
}

/// As much of a text as takes so many bytes in JSON, and how many.
fn cut(text: &str, room: usize) -> (String, usize) {
    let mut used = 0;
    let fitting = text.chars().take_while(|&c| {
        used += match c {
            '"' | '\\' => 2,
            '\0'..='\u{1f}' => 6,
            c => c.len_utf8(),
        };
        used <= room
    });
    let fitting: String = fitting.collect();
    (fitting, used.min(room))
}

#[cfg(test)]
mod tests;
