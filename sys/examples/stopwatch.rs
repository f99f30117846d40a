//! Times commands from outside, in turns, by a process that is so small that its own weight is not in the figures:
//! `cargo xtask bench` takes the figures of starts by it. (vfork(2) is what posix_spawn(3) does, wait4(2) tells what
//! was used; nothing else happens between the two looks at the clock.)
//!
//! ```text
//! stopwatch [--rounds N] [--warm-up N] [--jobs N] COMMANDS REPORT
//! ```
//!
//! COMMANDS has a command on each line, its words separated by tabs: what it is for, in which rounds it runs (1: in
//! each, 5: in each fifth), the program's path and its arguments; `{}` in them becomes a number that no other run has.
//!
//! * `time`: is timed, and must succeed;
//! * `reap` (without a program): waits until no process that these commands left behind is there any more.
//!
//! With `--jobs` each command runs N times for each of so many processors, so many at once, and what is told is all of
//! them together. REPORT gets, for each that was timed, the line's number, nanoseconds, microseconds of the processors
//! and KiB of the largest process; or `failed`, the line's number and the exit status, and no more. Their input and
//! output are this program's own. Without arguments it times `true`.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a line is for.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Time,
    Reap,
}

struct Line {
    kind: Kind,
    every: usize,
    words: Vec<String>,
}

/// What one command took.
struct Taken {
    status: i32,
    wall: Duration,
    cpu: Duration,
    kib: i64,
}

struct Options {
    rounds: usize,
    warm_up: usize,
    jobs: Option<usize>,
    files: Vec<PathBuf>,
}

fn main() -> Outcome<()> {
    let options = options()?;
    let text = match options.files.first() {
        Some(path) => fs::read_to_string(path)?,
        None => "time\t1\t/bin/true\n".to_owned(),
    };
    let lines = text.lines().map(Line::parse).collect::<Outcome<Vec<Line>>>()?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    interrupt_by_alarm();
    let report = match options.jobs {
        Some(jobs) => together(&lines, jobs, options.rounds)?,
        None => in_turns(&lines, options.rounds, options.warm_up)?,
    };
    match options.files.get(1) {
        Some(path) => fs::write(path, report)?,
        None => std::io::Write::write_all(&mut std::io::stdout(), report.as_bytes())?,
    }
    Ok(())
}

fn options() -> Outcome<Options> {
    let mut options = Options { rounds: 1, warm_up: 0, jobs: None, files: Vec::new() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || -> Outcome<usize> { Ok(words.next().unwrap_or_default().parse()?) };
        match &word[..] {
            "--rounds" => options.rounds = number()?,
            "--warm-up" => options.warm_up = number()?,
            "--jobs" => options.jobs = Some(number()?),
            _ => options.files.push(word.into()),
        }
    }
    Ok(options)
}

impl Line {
    fn parse(line: &str) -> Outcome<Line> {
        let mut words = line.split('\t').map(str::to_owned);
        let kind = match words.next().as_deref() {
            Some("time") => Kind::Time,
            Some("reap") => Kind::Reap,
            _ => return Err(format!("a line begins with time or reap: {line:?}").into()),
        };
        let every = words.next().unwrap_or_default().parse::<usize>()?.max(1);
        let words: Vec<String> = words.collect();
        match words.is_empty() == (kind == Kind::Reap) {
            true => Ok(Line { kind, every, words }),
            false => Err(format!("not what such a line has: {line:?}").into()),
        }
    }

    fn command(&self, number: u64) -> Command {
        let mut words = self.words.iter().map(|word| word.replace("{}", &number.to_string()));
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        command
    }
}

fn in_turns(lines: &[Line], rounds: usize, warm_up: usize) -> Outcome<String> {
    let mut report = String::new();
    // All runs of a round have its number, so that they can name the same container.
    for round in 0..warm_up + rounds {
        for (number, line) in lines.iter().enumerate() {
            // What is rare is warm after one round.
            let counted = round.saturating_sub(warm_up);
            if counted % line.every != 0 || (round + 1 < warm_up && line.every > 1) {
                continue;
            }
            if line.kind == Kind::Reap {
                reap_all()?;
                continue;
            }
            let taken = time(&mut line.command(round as u64))?;
            if taken.status != 0 {
                return Ok(format!("failed {number} {}\n", taken.status));
            }
            if round >= warm_up {
                writeln!(report, "{}", taken.line(number))?;
            }
        }
    }
    Ok(report)
}

/// One command after the other, each by `jobs` processes at once.
fn together(lines: &[Line], jobs: usize, rounds: usize) -> Outcome<String> {
    let mut report = String::new();
    for (at, line) in lines.iter().enumerate() {
        let (total, mut number, mut ended) = (jobs * rounds, 0, 0);
        let mut sum = Taken { status: 0, wall: Duration::ZERO, cpu: Duration::ZERO, kib: 0 };
        let mut running = Vec::new();
        let start = Instant::now();
        while ended < total {
            while running.len() < jobs && number < total {
                running.push(line.command(number as u64).spawn()?.id());
                number += 1;
            }
            let (pid, taken) = wait(None, start)?;
            // What was orphaned comes here too.
            let Some(place) = running.iter().position(|one| *one == pid) else { continue };
            running.swap_remove(place);
            ended += 1;
            sum = Taken {
                status: sum.status.max(taken.status),
                wall: sum.wall,
                cpu: sum.cpu + taken.cpu,
                kib: sum.kib.max(taken.kib),
            };
        }
        sum.wall = start.elapsed();
        if sum.status != 0 {
            return Ok(format!("failed {at} {}\n", sum.status));
        }
        writeln!(report, "{}", sum.line(at))?;
        reap_ended()?;
    }
    Ok(report)
}

impl Taken {
    fn line(&self, number: usize) -> String {
        format!("{number} {} {} {}", self.wall.as_nanos(), self.cpu.as_micros(), self.kib)
    }
}

fn time(command: &mut Command) -> Outcome<Taken> {
    let start = Instant::now();
    let child = command.spawn().map_err(|error| format!("cannot run {command:?}: {error}"))?;
    let (_, taken) =
        wait(Some(child.id()), start).map_err(|error| format!("{command:?}: {error}"))?;
    reap_ended()?;
    Ok(taken)
}

/// Waits for a child, or for any.
fn wait(pid: Option<u32>, start: Instant) -> Outcome<(u32, Taken)> {
    let wanted = match pid {
        Some(pid) => libc::pid_t::try_from(pid)?,
        None => -1,
    };
    let mut status = 0;
    // SAFETY: all of this plain structure may be zero.
    let mut used: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: alarm has no precondition.
    unsafe { libc::alarm(PATIENCE.as_secs() as libc::c_uint) };
    // SAFETY: both places live over the call, and have the types that wait4 writes.
    let ended = unsafe { libc::wait4(wanted, &raw mut status, 0, &raw mut used) };
    let wall = start.elapsed();
    if ended < 0 {
        let error = std::io::Error::last_os_error();
        if let Some(pid) = Pid::from_raw(wanted) {
            // One that is gone needs no signal.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        return Err(format!("waiting for a command, at most {PATIENCE:?}: {error}").into());
    }
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.unsigned_abs())
            + Duration::from_micros(time.tv_usec.unsigned_abs())
    };
    let status = match libc::WIFEXITED(status) {
        true => libc::WEXITSTATUS(status),
        false => 128 + libc::WTERMSIG(status),
    };
    let cpu = time(used.ru_utime) + time(used.ru_stime);
    Ok((ended.unsigned_abs(), Taken { status, wall, cpu, kib: used.ru_maxrss }))
}

/// Takes the statuses of what was orphaned and has ended by now. Whether anything is left.
fn reap_ended() -> Outcome<bool> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(true),
            Err(rustix::io::Errno::CHILD) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Waits until nothing is left.
fn reap_all() -> Outcome<()> {
    let start = Instant::now();
    while reap_ended()? {
        if start.elapsed() > PATIENCE {
            return Err("the processes that commands left behind do not end".into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

extern "C" fn nothing(_: libc::c_int) {}

/// An alarm makes wait4 return.
fn interrupt_by_alarm() {
    // SAFETY: all of this plain structure may be zero: no flags, which is without SA_RESTART, and an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as *const () as libc::sighandler_t;
    // SAFETY: the handler does nothing, so that it may run at any moment; `action` lives over the call.
    unsafe { libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) };
}
