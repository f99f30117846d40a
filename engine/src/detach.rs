//! The keys that part a user from a terminal, and leave its process alone.

use std::str::FromStr;

use crate::Error;

/// `--detach-keys`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

impl Default for DetachKeys {
    /// Docker's: ctrl-p,ctrl-q.
    fn default() -> DetachKeys {
        DetachKeys(vec![0x10, 0x11])
    }
}

impl FromStr for DetachKeys {
    type Err = Error;

    /// Keys with commas between: a character, or `ctrl-` and one of `a` to `z`, `@`, `[`, `\`, `]`, `^`
    /// and `_`, or `DEL`. Nothing: the default.
    fn from_str(text: &str) -> Result<DetachKeys, Error> {
        if text.is_empty() {
            return Ok(DetachKeys::default());
        }
        let wrong = || {
            let why = "write keys with commas between, each a single character or ctrl- and one of \
                       a-z, @, [, \\, ], ^ and _";
            Error::option("--detach-keys", text, why)
        };
        let key = |name: &str| match (name.as_bytes(), name.strip_prefix("ctrl-")) {
            ([key], _) => Some(*key),
            (b"DEL", _) => Some(0x7f),
            (_, Some(name)) => match name.as_bytes() {
                [key @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')] => {
                    Some(key & 0x1f)
                }
                _ => None,
            },
            _ => None,
        };
        let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
        keys.map(DetachKeys).ok_or_else(wrong)
    }
}

/// Looks for the keys in what is typed.
#[derive(Debug)]
pub(crate) struct Matcher {
    keys: Vec<u8>,
    /// How many of them were typed just now, and are held back.
    held: usize,
}

impl Matcher {
    pub(crate) fn new(keys: &DetachKeys) -> Matcher {
        Matcher { keys: keys.0.clone(), held: 0 }
    }

    /// Takes what was typed and gives what of it is for the process; `true` when the keys were typed.
    pub(crate) fn take(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(typed.len() + self.held);
        for &key in typed {
            // What does not go on may be the beginning of another try.
            while self.held > 0 && self.keys[self.held] != key {
                let shorter = (0..self.held)
                    .rev()
                    .find(|&length| self.keys[..self.held].ends_with(&self.keys[..length]))
                    .unwrap_or(0);
                passed.extend_from_slice(&self.keys[..self.held - shorter]);
                self.held = shorter;
            }
            if self.keys.get(self.held) == Some(&key) {
                self.held += 1;
                if self.held == self.keys.len() {
                    self.held = 0;
                    return (passed, true);
                }
            } else {
                passed.push(key);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_docker_writes_them() {
        for (text, keys) in [
            ("", &[0x10, 0x11][..]),
            ("ctrl-p,ctrl-q", &[0x10, 0x11]),
            ("a", b"a"),
            ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", &[0, 27, 28, 29, 30, 31]),
            ("ctrl-a,b,DEL", &[1, b'b', 0x7f]),
        ] {
            assert_eq!(text.parse::<DetachKeys>().unwrap().0, keys, "{text}");
        }
        for text in ["ctrl-", "ctrl-A", "ctrl-1", "ab", "a,", ",", "ctrl-aa", "ä", "shift-a"] {
            let error = text.parse::<DetachKeys>().unwrap_err().to_string();
            assert!(error.contains("--detach-keys") && error.contains(&format!("{text:?}")));
        }
    }

    /// The plain way: all that was typed up to the first time that the keys are in it.
    fn expected(keys: &[u8], typed: &[u8]) -> (Vec<u8>, bool) {
        match typed.windows(keys.len()).position(|window| window == keys) {
            Some(at) => (typed[..at].to_vec(), true),
            None => {
                let held = (0..keys.len()).rev().find(|&n| typed.ends_with(&keys[..n]));
                (typed[..typed.len() - held.unwrap_or(0)].to_vec(), false)
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_but_the_keys_is_held_back(
            keys in proptest::collection::vec(0_u8..3, 1..5),
            typed in proptest::collection::vec(0_u8..3, 0..40),
            piece in 1_usize..5,
        ) {
            let mut matcher = Matcher::new(&DetachKeys(keys.clone()));
            let (mut passed, mut found) = (Vec::new(), false);
            for part in typed.chunks(piece) {
                let (some, end) = matcher.take(part);
                passed.extend(some);
                found = end;
                if end { break }
            }
            proptest::prop_assert_eq!((passed, found), expected(&keys, &typed));
        }
    }
}
