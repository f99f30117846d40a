//! One test program of a host's run, in surroundings whose rest is its own: what it leaves there fails it.
//!
//! A host has others' processes, mounts and files, which come and go as they like. So nothing is compared with what was
//! there before; what counts is what can be nobody else's:
//!
//! * processes: this one adopts all that the program's lose (PR_SET_CHILD_SUBREAPER), daemons and supervisors included,
//!   and with them go the namespaces that they hold;
//! * files, mounts and loop devices: the program has a directory for temporary files (TMPDIR) of its own.
//!
//! Cgroups, network devices and what else has one name for the whole machine cannot be told from those of a test that
//! somebody else runs: the guest looks at them (`testvm::traces`), where nobody else is.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid};

use crate::testvm::traces;

/// How long what ends by itself may take for it.
const GRACE: Duration = Duration::from_secs(30);

/// Run a test program, and fail if it leaves anything
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Runs it; its own status, or a failure if that was good and something is left.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    rustix::process::set_child_subreaper(Some(getpid()))
        .context("becoming the parent of what loses its own")?;
    let place = Place::new()?;
    let (program, arguments) = args.command.split_first().context("no program")?;
    let mut command = Command::new(program);
    let child = command.args(arguments).env("TMPDIR", &place.0).spawn();
    let child = child.with_context(|| format!("cannot run {}", program.display()))?;
    let status = wait_for(Pid::from_child(&child))?;
    let begin = Instant::now();
    let mut left = place.left()?;
    while !left.is_empty() && begin.elapsed() < GRACE {
        std::thread::sleep(Duration::from_millis(20));
        left = place.left()?;
    }
    for what in &left {
        eprintln!("left by {}: {what}", program.display());
    }
    end_children();
    place.remove()?;
    Ok(match status.exit_status() {
        Some(0) if left.is_empty() => ExitCode::SUCCESS,
        Some(0) | None => ExitCode::FAILURE,
        Some(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
    })
}

/// Waits for the program's end, and meanwhile for all others that have ended.
fn wait_for(program: Pid) -> Result<WaitStatus> {
    loop {
        let waited = rustix::io::retry_on_intr(|| rustix::process::wait(WaitOptions::empty()));
        match waited.context("waiting for the test program")? {
            Some((pid, status)) if pid == program => return Ok(status),
            _ => {}
        }
    }
}

/// The directory for the program's temporary files. Its path is short: those of sockets are limited.
struct Place(PathBuf);

impl Place {
    fn new() -> Result<Place> {
        let path = std::env::temp_dir().join(format!("t{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        // As /tmp is: who looks for what others may do must not be stopped here.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o1777))
            .with_context(|| format!("opening {} to all", path.display()))?;
        Ok(Place(path))
    }

    /// What there is now, for people.
    fn left(&self) -> Result<Vec<String>> {
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
        self.named()
    }

    fn named(&self) -> Result<Vec<String>> {
        let processes =
            own_children().into_iter().map(|(pid, name)| format!("process {pid} ({name})"));
        let mounts = self.mounts()?.into_iter().map(|place| format!("mount {place}"));
        let loops = traces::loops().into_iter().filter_map(|device| {
            let file = fs::read_to_string(Path::new(&device).join("loop/backing_file")).ok()?;
            self.has(file.trim()).then(|| format!("loop device {device} of {}", file.trim()))
        });
        let mut left: Vec<String> = processes.chain(mounts).chain(loops).collect();
        let entries = fs::read_dir(&self.0).context("looking for files")?;
        for entry in entries {
            left.push(format!("file {}", entry.context("looking for files")?.path().display()));
        }
        Ok(left)
    }

    fn has(&self, path: &str) -> bool {
        Path::new(path).starts_with(&self.0)
    }

    /// Places of mounts in it, the lowest first.
    fn mounts(&self) -> Result<Vec<String>> {
        let table = fs::read_to_string("/proc/self/mountinfo").context("reading mounts")?;
        let places = table.lines().filter_map(traces::mount_point).map(|(place, _)| place);
        Ok(places.filter(|place| self.has(place)).collect())
    }

    /// Removes what is left.
    fn remove(&self) -> Result<()> {
        for place in self.mounts()?.iter().rev() {
            let _ = rustix::mount::unmount(place, UnmountFlags::DETACH);
        }
        for device in traces::loops() {
            let file = fs::read_to_string(Path::new(&device).join("loop/backing_file"));
            if file.is_ok_and(|file| self.has(file.trim())) {
                let node =
                    Path::new("/dev").join(Path::new(&device).file_name().unwrap_or_default());
                let _ = Command::new("losetup").arg("-d").arg(node).status();
            }
        }
        fs::remove_dir_all(&self.0).with_context(|| format!("removing {}", self.0.display()))
    }
}

/// Ends all children; those of which one was the parent come here in their turn.
fn end_children() {
    let begin = Instant::now();
    while begin.elapsed() < GRACE {
        let children = own_children();
        if children.is_empty() {
            break;
        }
        for pid in children.iter().filter_map(|(pid, _)| Pid::from_raw(*pid)) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// This process's children, but for those that have ended.
fn own_children() -> BTreeSet<(i32, String)> {
    let own = Pid::as_raw(Some(getpid()));
    let children = traces::all_processes().into_iter().filter(|process| process.parent == own);
    children.map(|process| (process.pid, process.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// But for processes: here those of other tests are children too.
    #[test]
    fn what_is_left_is_named_and_removed() {
        let place = Place::new().unwrap();
        let own = |text: &String| text.contains(&place.0.display().to_string());
        let left = || -> Vec<String> { place.named().unwrap().into_iter().filter(own).collect() };
        assert_eq!(left(), [""; 0]);
        let at = |name: &str| place.0.join(name).display().to_string();
        fs::write(at("f"), [0; 4096]).unwrap();
        // Which a small machine, as the guest is, does not have.
        let has_loops = crate::sh::which("losetup").is_some();
        if has_loops {
            let made = Command::new("losetup").args(["-f", &at("f")]).status().unwrap();
            assert!(made.success(), "this needs root and loop devices");
        }
        fs::create_dir(at("m")).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "none", &at("m")]).status();
        assert!(mounted.unwrap().success(), "this needs root");
        let mut seen = left();
        seen.sort_unstable();
        let mount = seen.pop();
        assert_eq!(mount, Some(format!("mount {}", at("m"))));
        assert_eq!(seen[..2], [format!("file {}", at("f")), format!("file {}", at("m"))]);
        assert_eq!(seen.len(), 2 + usize::from(has_loops), "{seen:?}");
        assert!(seen[2..].iter().all(|text| text.starts_with("loop device /sys/block/loop")));
        place.remove().unwrap();
        assert!(!place.0.exists() && place.mounts().unwrap().is_empty());
        assert!(!traces::loops().iter().any(|device| {
            let file = fs::read_to_string(Path::new(device).join("loop/backing_file"));
            file.is_ok_and(|file| place.has(file.trim()))
        }));
    }

    #[test]
    fn a_child_is_known() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        // Until its exec it has this program's name.
        assert!(own_children().iter().any(|(found, _)| *found == pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!own_children().iter().any(|(found, _)| *found == pid));
    }
}
