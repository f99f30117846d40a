//! Output to a pipe, which the kernel moves there: whole and in order, whoever reads, stops or comes.

use std::io::Read;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{DEADLINE, Root, arg, busybox, wait_until};

/// More than is on its way in all buffers together: who has read so much sees the way that all
/// further output takes.
const FIRST: usize = 2 << 20;

/// What fills a line of numbers: a long line costs the process no more than a short one, and a byte that is lost is seen.
const FILL: &str = "..............................................................";

/// A command, and the reader of its output.
struct Reader {
    child: Child,
    stdout: ChildStdout,
    bytes: Vec<u8>,
}

impl Reader {
    fn new(mut command: Command) -> Reader {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        Reader { stdout: child.stdout.take().unwrap(), child, bytes: Vec::new() }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Reads until so many more bytes have come; whether they have before the end.
    #[track_caller]
    fn read(&mut self, more: usize) -> bool {
        let (wanted, mut buffer) = (self.bytes.len().saturating_add(more), vec![0; 1 << 16]);
        let limit = Timespec::try_from(DEADLINE).unwrap();
        while self.bytes.len() < wanted {
            let mut fds = [PollFd::new(&self.stdout, PollFlags::IN)];
            assert_ne!(poll(&mut fds, Some(&limit)), Ok(0), "after {} bytes", self.bytes.len());
            let count = self.stdout.read(&mut buffer).unwrap();
            if count == 0 {
                return false;
            }
            self.bytes.extend_from_slice(&buffer[..count]);
        }
        true
    }

    /// Reads the rest: the exit status.
    fn end(&mut self) -> Option<i32> {
        self.read(usize::MAX);
        self.child.wait().unwrap().code()
    }

    /// The numbers that came, one after another up to `last`: the first.
    #[track_caller]
    fn check(&self, last: u32) -> u32 {
        let text = std::str::from_utf8(&self.bytes).unwrap();
        let numbers: Vec<u32> = text.lines().map(|line| number(line, last)).collect();
        let first = *numbers.first().expect("numbers");
        assert!(text.ends_with('\n') && numbers.iter().copied().eq(first..=last), "{first}");
        first
    }
}

/// A shell's command that writes the numbers from 1 to the last, each in a line, some 68 bytes long.
pub(crate) fn count_to(last: u32) -> String {
    format!("seq -s '{FILL}\n' 1 {last}")
}

/// The number of a line of those: all but the last one's are filled.
#[track_caller]
pub(crate) fn number(line: &str, last: u32) -> u32 {
    let number = line.strip_suffix(FILL).unwrap_or(line).parse().unwrap();
    assert_eq!(line.ends_with('.'), number != last, "{line}");
    number
}

fn loaded() -> Root {
    let root = Root::new();
    root.ok(["load", "-q", "-i", arg(&busybox())]);
    root
}

/// What is stopped cannot have a part in it.
#[test]
fn a_pipe_gets_all_while_the_client_is_stopped() {
    let root = loaded();
    root.sleeper("box", &[]);
    let last = 100_000;
    let script = format!("{}; exit 3", count_to(last));
    for verb in [
        &["run", "--rm", "--log-driver", "none", "busybox"][..],
        &["run", "--rm", "busybox"],
        &["exec", "box"],
    ] {
        let words = [verb, &["sh", "-c", &script]].concat();
        let mut reader = Reader::new(root.command(words));
        assert!(reader.read(FIRST));
        reader.signal(Signal::STOP);
        assert!(reader.read(FIRST), "{verb:?}");
        reader.signal(Signal::CONT);
        assert_eq!(reader.end(), Some(3), "{verb:?}");
        assert_eq!(reader.check(last), 1, "{verb:?}");
    }
}

/// By then it is full of output that the first one's reader has not taken.
#[test]
fn another_client_in_the_middle_gets_what_comes_from_then_on() {
    let root = loaded();
    for options in [&["--log-driver", "none"][..], &[]] {
        let last = 220_000;
        let script = count_to(last);
        let run = ["run", "--rm", "--name", "box"];
        let words = [&run[..], options, &["busybox", "sh", "-c", &script]].concat();
        let mut one = Reader::new(root.command(words));
        assert!(one.read(FIRST));
        let mut two = Reader::new(root.command(["attach", "box"]));
        assert!(two.read(1));
        let slow = std::thread::spawn(move || (one.end(), one));
        assert_eq!(two.end(), Some(0));
        let (code, one) = slow.join().unwrap();
        assert_eq!((code, one.check(last)), (Some(0), 1));
        // Where the second began depends on the digits that one message had of the first number.
        let end = two.bytes.iter().position(|&byte| byte == b'\n').unwrap();
        two.bytes.drain(..=end);
        assert!(two.check(last) > 1);
    }
}

/// The container is not its own.
#[test]
fn a_reader_of_attach_that_goes_stops_nothing() {
    let root = loaded();
    let script = "while :; do seq 1 100000; done";
    let run = ["run", "-d", "--name", "box", "--log-driver", "none"];
    root.ok([&run[..], &["busybox", "sh", "-c", script]].concat());
    for _ in 0..2 {
        let mut reader = Reader::new(root.command(["attach", "box"]));
        assert!(reader.read(FIRST));
        reader.signal(Signal::STOP);
        assert!(reader.read(FIRST));
        reader.signal(Signal::CONT);
        let Reader { mut child, stdout, .. } = reader;
        drop(stdout);
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert_eq!(root.inspect("box")["State"]["Status"], "running");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// Its pipe is closed with it, as it would be if it had the only end.
#[test]
fn the_output_ends_with_a_client_that_is_killed() {
    let root = loaded();
    let script = "while :; do seq 1 100000; done";
    let run = ["run", "--name", "box", "--log-driver", "none", "busybox", "sh", "-c", script];
    let mut reader = Reader::new(root.command(run));
    assert!(reader.read(FIRST));
    reader.signal(Signal::KILL);
    assert_eq!(reader.end(), None);
    assert_eq!(root.inspect("box")["State"]["Status"], "running");
    root.ok(["rm", "-f", "box"]);
    wait_until("the tidying", || root.leftovers().is_empty());
}
