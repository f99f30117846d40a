//! Signals as users write them.

use rustix::process::Signal;

use crate::error::shorten;
use crate::{Container, Error};

/// The signal that a user means; see [`oci_runtime::signal`].
///
/// # Errors
/// [`Error::Signal`]: there is no such signal.
pub(crate) fn parse(text: &str) -> Result<Signal, Error> {
    oci_runtime::signal(text).ok_or_else(|| Error::Signal(shorten(text)))
}

/// The signal that ends a container: its own, or TERM.
///
/// # Errors
/// As [`parse`].
pub(crate) fn stop(container: &Container) -> Result<Signal, Error> {
    parse(container.config.stop_signal.as_deref().unwrap_or("TERM"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_signal_is_said() {
        assert_eq!(parse("sigterm").unwrap(), Signal::TERM);
        let error = parse("NONE").unwrap_err().to_string();
        assert!(error.starts_with("invalid signal"), "{error}");
    }
}
