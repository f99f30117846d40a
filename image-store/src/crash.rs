//! Points where a test kills the process, to prove that each of them is a fine place to die.

/// Between two steps that another process can see.
#[cfg(not(test))]
#[inline]
pub(crate) fn point() {}

/// Kills the process with SIGKILL the N-th time that it comes here, N being [`KILL_AT`] in the environment.
#[cfg(test)]
pub(crate) fn point() {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    if let Some(at) = std::env::var(KILL_AT).ok().and_then(|text| text.parse::<u64>().ok())
        && COUNT.fetch_add(1, Ordering::SeqCst) + 1 == at
    {
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// The variable that says at which point to die.
#[cfg(test)]
pub(crate) const KILL_AT: &str = "IMAGE_STORE_TEST_KILL_AT";

#[cfg(test)]
mod tests;
