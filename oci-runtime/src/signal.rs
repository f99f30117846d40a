//! Signals as users write them.

use rustix::process::Signal;
use sys::signal::{REALTIME_MAX, REALTIME_MIN, from_number};

/// The names of signal(7) that are in Docker's table, without `SIG`.
const NAMES: [(&str, Signal); 35] = [
    ("ABRT", Signal::ABORT),
    ("ALRM", Signal::ALARM),
    ("BUS", Signal::BUS),
    ("CHLD", Signal::CHILD),
    ("CLD", Signal::CHILD),
    ("CONT", Signal::CONT),
    ("FPE", Signal::FPE),
    ("HUP", Signal::HUP),
    ("ILL", Signal::ILL),
    ("INT", Signal::INT),
    ("IO", Signal::IO),
    ("IOT", Signal::ABORT),
    ("KILL", Signal::KILL),
    ("PIPE", Signal::PIPE),
    ("POLL", Signal::IO),
    ("PROF", Signal::PROF),
    ("PWR", Signal::POWER),
    ("QUIT", Signal::QUIT),
    ("SEGV", Signal::SEGV),
    ("STKFLT", Signal::STKFLT),
    ("STOP", Signal::STOP),
    ("SYS", Signal::SYS),
    ("TERM", Signal::TERM),
    ("TRAP", Signal::TRAP),
    ("TSTP", Signal::TSTP),
    ("TTIN", Signal::TTIN),
    ("TTOU", Signal::TTOU),
    ("UNUSED", Signal::SYS),
    ("URG", Signal::URG),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
    ("VTALRM", Signal::VTALARM),
    ("WINCH", Signal::WINCH),
    ("XCPU", Signal::XCPU),
    ("XFSZ", Signal::XFSZ),
];

/// The signal that a user means: a number, or a name with or without `SIG`, in any case, and
/// `RTMIN`, `RTMIN+n`, `RTMAX-n`, `RTMAX` for the real-time ones. `None` where there is no such signal.
pub fn signal(text: &str) -> Option<Signal> {
    match text.parse::<i32>() {
        Ok(number) => from_number(number),
        Err(_) => named(&text.to_ascii_uppercase()),
    }
}

fn named(text: &str) -> Option<Signal> {
    let name = text.strip_prefix("SIG").unwrap_or(text);
    if let Some((_, signal)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Some(*signal);
    }
    let offset = |rest: &str, sign: char| match rest {
        "" => Some(0),
        _ => rest.strip_prefix(sign)?.parse::<u8>().ok().map(i32::from),
    };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => REALTIME_MIN + offset(rest, '+')?,
        (_, Some(rest)) => REALTIME_MAX - offset(rest, '-')?,
        _ => return None,
    };
    (REALTIME_MIN..=REALTIME_MAX).contains(&number).then(|| from_number(number))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_understood() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("Hup", 1),
            ("QUIT", 3),
            ("WINCH", 28),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMIN+30", 64),
            ("RTMAX-1", 63),
            ("rtmax", 64),
            ("64", 64),
        ] {
            assert_eq!(signal(text).unwrap().as_raw(), number, "{text}");
        }
    }

    #[test]
    fn what_is_no_signal_is_said() {
        for text in [
            "",
            "0",
            "-9",
            "65",
            "32",
            "33",
            "99999999999",
            "SIG",
            "SIGSIGKILL",
            "NONE",
            "RTMIN+31",
            "RTMIN-1",
            "RTMAX+1",
            "RTMIN+",
            "RTMIN+-1",
            "RTMAX-31",
            "RTMIN+300",
            "KILL ",
            "\0",
        ] {
            assert_eq!(signal(text), None, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in ".{0,20}") {
            let _ = signal(&text);
        }

        #[test]
        fn each_number_that_is_one_is_kept(number in 1..=64_i32) {
            if let Some(signal) = signal(&number.to_string()) {
                proptest::prop_assert_eq!(signal.as_raw(), number);
            } else {
                proptest::prop_assert!(number == 32 || number == 33);
            }
        }
    }
}
