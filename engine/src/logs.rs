//! `logs`: what a container with a log has printed.

use std::collections::VecDeque;
use std::time::Duration;

use crate::dir::{Attempt, Dir};
use crate::log::Form;
use crate::log::json::Record;
use crate::log::lines::Lines;
use crate::record::{LogConfig, time_text};
use crate::rotated::Reader;
use crate::wire::Outlet;
use crate::{Engine, Error};

/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogsRequest {
    /// Go on until the container ends.
    pub follow: bool,
    /// Only so many lines from the end.
    pub tail: Option<usize>,
    /// Only what was printed at this time or after it (RFC 3339 in UTC).
    pub since: Option<String>,
    /// Only what was printed before this time (RFC 3339 in UTC).
    pub until: Option<String>,
}

/// A piece of output: a line, or a part of a very long one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLine<'a> {
    /// The bytes, with their end of line.
    pub log: &'a [u8],
    /// `stdout` or `stderr`.
    pub stream: &'a str,
    /// When it was taken, RFC 3339 in UTC.
    pub time: &'a str,
}

impl Engine {
    /// Gives the lines of a container's log, the oldest first, to `show`, until that returns `false`; `None` when
    /// there is nothing more by now.
    ///
    /// # Errors
    /// There is no such container; it has no log ([`Error::LogDriver`]); a file of it cannot be read,
    /// or is damaged.
    pub fn logs(
        &self,
        container: &str,
        request: &LogsRequest,
        mut show: impl FnMut(Option<LogLine<'_>>) -> bool,
    ) -> Result<(), Error> {
        let (dir, container) = self.find(container)?;
        let Some(form) = LogConfig::form(container.host_config.log_config.as_ref()) else {
            return Err(Error::LogDriver { name: container.name });
        };
        // It has one from its first start on.
        let Some(source) = Source::open(&dir, form)? else { return Ok(()) };
        let mut show =
            |line: Option<LogLine<'_>>| match line.is_none_or(|line| request.wants(&line)) {
                true if !show(line) => Err(End::Enough),
                _ => Ok(()),
            };
        match read(source, &dir, request, &mut show) {
            Err(End::Failed(error)) => Err(error),
            Ok(()) | Err(End::Enough) => Ok(()),
        }
    }
}

impl LogsRequest {
    fn wants(&self, line: &LogLine<'_>) -> bool {
        self.since.as_ref().is_none_or(|since| line.time >= since.as_str())
            && self.until.as_ref().is_none_or(|until| line.time < until.as_str())
    }
}

/// Why nothing more is read.
enum End {
    /// Nobody wants more.
    Enough,
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> End {
        End::Failed(error)
    }
}

fn read(
    mut source: Source,
    dir: &Dir,
    request: &LogsRequest,
    show: &mut dyn FnMut(Option<LogLine<'_>>) -> Result<(), End>,
) -> Result<(), End> {
    let mut tail = request.tail.map(Tail::new);
    loop {
        // Asked before the log is read to its end: what is written until then is read.
        let ended = !request.follow || at_rest(dir)?;
        let mut each = |line: LogLine<'_>| match &mut tail {
            Some(tail) => {
                if request.wants(&line) {
                    tail.add(line);
                }
                Ok(())
            }
            None => show(Some(line)),
        };
        source.read(&mut each)?;
        if ended {
            source.rest(&mut each)?;
        }
        if let Some(tail) = tail.take() {
            tail.lines.iter().try_for_each(|line| show(Some(line.line())))?;
        }
        show(None)?;
        let past = |until: &String| *until <= crate::record::now();
        if ended || request.until.as_ref().is_some_and(past) {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
}

/// Whether nobody writes the container's log any more.
fn at_rest(dir: &Dir) -> Result<bool, Error> {
    Ok(!matches!(dir.try_lock()?, Attempt::Held))
}

/// The last lines of a log.
struct Tail {
    most: usize,
    lines: VecDeque<OwnLine>,
}

struct OwnLine {
    log: Vec<u8>,
    stream: String,
    time: String,
}

impl Tail {
    fn new(most: usize) -> Tail {
        Tail { most, lines: VecDeque::new() }
    }

    fn add(&mut self, line: LogLine<'_>) {
        if self.lines.len() == self.most && self.lines.pop_front().is_none() {
            return;
        }
        let LogLine { log, stream, time } = line;
        self.lines.push_back(OwnLine {
            log: log.to_owned(),
            stream: stream.to_owned(),
            time: time.to_owned(),
        });
    }
}

impl OwnLine {
    fn line(&self) -> LogLine<'_> {
        LogLine { log: &self.log, stream: &self.stream, time: &self.time }
    }
}

/// Who gets lines.
type Each<'a> = &'a mut dyn FnMut(LogLine<'_>) -> Result<(), End>;

/// A log of either form, as lines.
enum Source {
    Json(Reader),
    Local { pieces: Reader, stdout: Open, stderr: Open },
}

/// A line that has no end yet, and the time of its last bytes.
#[derive(Default)]
struct Open {
    lines: Lines,
    time: String,
}

impl Source {
    /// `None`: there is no file.
    fn open(dir: &Dir, form: Form) -> Result<Option<Source>, Error> {
        let reader = Reader::open(dir.log(form))?;
        Ok(reader.map(|reader| match form {
            Form::Json => Source::Json(reader),
            Form::Local => {
                Source::Local { pieces: reader, stdout: Open::default(), stderr: Open::default() }
            }
        }))
    }

    /// Gives the lines that there are by now.
    fn read(&mut self, each: Each<'_>) -> Result<(), End> {
        match self {
            Source::Json(reader) => {
                while let Some(Record { log, stream, time }) = reader.next()? {
                    each(LogLine { log: log.as_bytes(), stream: &stream, time: &time })?;
                }
            }
            Source::Local { pieces, stdout, stderr } => {
                while let Some(piece) = pieces.piece()? {
                    let open = match piece.outlet {
                        Outlet::Stdout => &mut *stdout,
                        Outlet::Stderr => &mut *stderr,
                    };
                    if piece.bytes.is_empty() {
                        open.end(piece.outlet, each)?;
                        continue;
                    }
                    let since = time::Duration::nanoseconds(piece.time.cast_signed());
                    open.time = time_text(time::OffsetDateTime::UNIX_EPOCH + since);
                    let (stream, time) = (piece.outlet.name(), &*open.time);
                    open.lines.add(piece.bytes, |log| each(LogLine { log, stream, time }))?;
                }
            }
        }
        Ok(())
    }

    /// Gives the lines that have no end: nobody goes on with them, or nobody waits for that.
    fn rest(&mut self, each: Each<'_>) -> Result<(), End> {
        match self {
            Source::Json(_) => Ok(()),
            Source::Local { stdout, stderr, .. } => {
                stdout.end(Outlet::Stdout, each)?;
                stderr.end(Outlet::Stderr, each)
            }
        }
    }
}

impl Open {
    fn end(&mut self, outlet: Outlet, each: Each<'_>) -> Result<(), End> {
        let (stream, time) = (outlet.name(), &*self.time);
        self.lines.finish(|log| each(LogLine { log, stream, time }))
    }
}
