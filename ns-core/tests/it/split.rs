//! A second process that goes on.

use ns_core::Error;

/// The harness has threads, so here it must be refused; that it works, `tests/split.rs` shows.
#[test]
fn a_program_with_threads_is_refused() {
    let error = ns_core::split(|| 0).unwrap_err();
    assert!(matches!(error, Error::Threads { threads: 2.. }), "{error}");
}
