//! temp
use sys::{Failure, Report};
pub(crate) struct Child(ns_core::Kid);
impl Child {
    pub(crate) fn spawn(f: impl FnOnce() -> Failure) -> Self {
        // NEWNS PID IPC NET CGROUP
        Self(ns_core::spawn(0x20000 | 0x20000000 | 0x08000000 | 0x40000000 | 0x02000000, f))
    }
    pub(crate) fn pid(&self) -> i32 {
        self.0.pid
    }
    pub(crate) fn report(mut self) -> Report {
        self.0.report().unwrap()
    }
}
impl Drop for Child {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(self.0.pid).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    }
}
