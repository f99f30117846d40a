//! Groups that go with their test, and processes in them.

use std::io::Write;
use std::ops::Deref;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use cgroup::{Group, Hierarchies, Location};
use rustix::process::Pid;

/// A group that is removed with all that is in it, also where the test fails.
pub(crate) struct TestGroup {
    pub(crate) group: Group,
    pub(crate) location: Location,
}

impl TestGroup {
    pub(crate) fn new(test: &str) -> TestGroup {
        TestGroup::of(&Hierarchies::find().unwrap(), test)
    }

    pub(crate) fn of(hierarchies: &Hierarchies, test: &str) -> TestGroup {
        TestGroup::at(hierarchies, &format!("/cgroup-test-{test}-{}", std::process::id()))
    }

    pub(crate) fn at(hierarchies: &Hierarchies, path: &str) -> TestGroup {
        let location = hierarchies.locate(path).unwrap();
        let group = hierarchies.create(&location).unwrap();
        TestGroup { group, location }
    }

    /// A file of the group: of v1's `controller` where that is mounted, else of v2.
    pub(crate) fn file(&self, controller: &str, v1: &str, v2: &str) -> PathBuf {
        let paths = self.group.paths();
        let of = |found: &dyn Fn(&str) -> bool| {
            paths.iter().find(|(controllers, _)| found(controllers)).map(|(_, path)| path.clone())
        };
        match of(&|all| all.split(',').any(|name| name == controller)) {
            Some(dir) => dir.join(v1),
            None => of(&str::is_empty).unwrap().join(v2),
        }
    }

    pub(crate) fn read(&self, controller: &str, v1: &str, v2: &str) -> String {
        let path = self.file(controller, v1, v2);
        let text = std::fs::read_to_string(&path);
        text.unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
    }

    /// Whether a controller is v1's here.
    pub(crate) fn is_legacy(&self, controller: &str) -> bool {
        self.file(controller, "1", "2").ends_with("1")
    }

    /// Starts a shell's script in the group; it says nothing.
    pub(crate) fn start(&self, script: &str) -> Child {
        self.start_to(script, Stdio::null(), Stdio::null())
    }

    fn start_to(&self, script: &str, stdout: Stdio, stderr: Stdio) -> Child {
        let mut child = Command::new("sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap();
        self.group.add(Pid::from_child(&child)).unwrap();
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        child
    }

    /// Runs a shell's script in the group to its end; whether it succeeded, and what it said. (Into a file:
    /// what it leaves in the background has a pipe still.)
    pub(crate) fn run(&self, script: &str) -> (bool, String) {
        let said = tempfile::NamedTempFile::new().unwrap();
        let both = [said.reopen().unwrap(), said.reopen().unwrap()];
        let [stdout, stderr] = both.map(Stdio::from);
        let status = self.start_to(script, stdout, stderr).wait().unwrap();
        (status.success(), std::fs::read_to_string(said.path()).unwrap())
    }

    pub(crate) fn succeeds(&self, script: &str) -> bool {
        self.run(script).0
    }
}

impl Deref for TestGroup {
    type Target = Group;

    fn deref(&self) -> &Group {
        &self.group
    }
}

impl Drop for TestGroup {
    fn drop(&mut self) {
        let done = self.group.destroy();
        if !std::thread::panicking() {
            done.unwrap();
            assert!(self.group.paths().iter().all(|(_, path)| !path.exists()));
        }
    }
}

pub(crate) fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// Waits until something is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
