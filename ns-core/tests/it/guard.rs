//! The heap of a test program, which a child between clone and exec may not touch: the program that clones may have
//! other threads, and one of them may hold the allocator's lock at that moment.
//!
//! For each crate whose children are started here: `#[global_allocator] static HEAP: Heap = Heap;`. All children of all
//! its tests are held to it then, those that fail included.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::process::{Pid, getpid};

/// The process that may use the heap: the first that does. 0 before.
static OWNER: AtomicI32 = AtomicI32::new(0);

/// The heap of the process that was started, and of no copy of it.
pub(crate) struct Heap;

impl Heap {
    /// Ends a process that is another one. Memory is left as it is: who comes back here is the owner.
    fn check() {
        let own = Pid::as_raw(Some(getpid()));
        let owner = OWNER.load(Ordering::Relaxed);
        if owner == own
            || OWNER.compare_exchange(0, own, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            return;
        }
        let words = b"a child used the heap before its exec\n";
        // The abort tells it too.
        let _ = rustix::io::write(rustix::stdio::stderr(), words);
        std::process::abort();
    }
}

// SAFETY: each call is System's own, with what the caller gave.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::check();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Self::check();
        // SAFETY: as above; what is given back came from System.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::check();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::check();
        // SAFETY: as above; what is made larger came from System.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
