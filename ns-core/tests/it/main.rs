//! Children in namespaces of their own, seen from their parent. Needs root.

mod ahead;
mod guard;
mod join;
mod spawn;
mod split;

use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use sys::Failure;

/// Children of all tests are held to do without it.
#[global_allocator]
static HEAP: guard::Heap = guard::Heap;

/// One test at a time: a child that another test starts meanwhile has copies of this test's
/// descriptors, and keeps open what is to be closed.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A step that ends a test's child.
fn done() -> Result<Infallible, Failure> {
    Err(Failure::new("the end of the test", Errno::CANCELED))
}

/// The name of a namespace, `pid:[4026531836]`.
fn namespace(pid: i32, kind: &str) -> String {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string()
}
