//! Signals by number: rustix has the named ones only.

use rustix::process::Signal;

/// The first real-time signal that programs may use; 32 and 33 are the C library's own.
pub const REALTIME_MIN: i32 = 34;
/// The last real-time signal.
pub const REALTIME_MAX: i32 = 64;

/// The signal of this number: a named one, or a real-time one from [`REALTIME_MIN`] to
/// [`REALTIME_MAX`] (signal(7)). `None` for what is none, and for 32 and 33.
///
/// A real-time signal is meant for another process: the C library of this one may have a use for it.
pub fn from_number(number: i32) -> Option<Signal> {
    if (REALTIME_MIN..=REALTIME_MAX).contains(&number) {
        // SAFETY: the number is one of a real-time signal, so valid and not zero. Who sends, takes or blocks
        // one that this program's C library keeps for itself would disturb that one: glibc keeps 32 and 33,
        // and musl 34 as well, which by this function's documentation is not sent to this process.
        return Some(unsafe { Signal::from_raw_unchecked(number) });
    }
    Signal::from_named_raw(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_signals_or_not() {
        assert_eq!(from_number(9), Some(Signal::KILL));
        assert_eq!(from_number(31), Some(Signal::SYS));
        for number in 34..=64 {
            assert_eq!(from_number(number).map(Signal::as_raw), Some(number));
        }
        for number in [i32::MIN, -1, 0, 32, 33, 65, i32::MAX] {
            assert_eq!(from_number(number), None, "{number}");
        }
    }
}
