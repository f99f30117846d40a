//! A stream of output as lines.

/// Longest piece of a line in one record, bytes: as Docker's.
const PIECE: usize = 16 * 1024;

/// Cuts a stream into lines, and very long ones into parts; keeps the line that has no end yet.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    line: Vec<u8>,
}

impl Lines {
    /// Gives to `each` what the next bytes complete.
    pub(crate) fn add<E>(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            if self.line.is_empty() && part.len() < PIECE && part.ends_with(b"\n") {
                each(part)?;
                continue;
            }
            self.line.extend_from_slice(part);
            // Of one that is as long as a piece nobody knows yet whether it ends within a character.
            while self.line.len() > PIECE {
                let rest = self.line.split_off(boundary(&self.line));
                each(&self.line)?;
                self.line = rest;
            }
            if self.line.ends_with(b"\n") {
                each(&self.line)?;
                self.line.clear();
            }
        }
        Ok(())
    }

    /// Gives to `each` what has no end of line.
    pub(crate) fn finish<E>(
        &mut self,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.line.is_empty() {
            each(&self.line)?;
            self.line.clear();
        }
        Ok(())
    }
}

/// Where a long line is cut: not within a character.
fn boundary(line: &[u8]) -> usize {
    let start = PIECE.min(line.len());
    let continues = |at: usize| line.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    (start.saturating_sub(3)..=start).rev().find(|&at| !continues(at)).unwrap_or(start)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn cut(parts: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        let mut each = |line: &[u8]| {
            found.push(line.to_owned());
            Ok::<(), Infallible>(())
        };
        for part in parts {
            let Ok(()) = lines.add(part, &mut each);
        }
        let Ok(()) = lines.finish(each);
        found
    }

    #[test]
    fn a_line_ends_where_its_end_comes() {
        let lines: [&[u8]; 4] = [b"one\n", b"two\n", b"\n", b"three"];
        assert_eq!(cut(&[b"one\ntw", b"o\n\nthr", b"ee"]), lines);
        assert!(cut(&[]).is_empty());
    }

    /// Reads whose sizes add up to that of a piece, of characters that they cut.
    #[test]
    fn a_character_that_is_not_whole_yet_is_waited_for() {
        let all = "\u{20ac}".repeat(10_000);
        let parts: Vec<&[u8]> = all.as_bytes().chunks(PIECE / 4).collect();
        let lines = cut(&parts);
        assert!(lines.iter().all(|line| line.len() <= PIECE && std::str::from_utf8(line).is_ok()));
        assert_eq!(lines.concat(), all.into_bytes());
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(64))]

        #[test]
        fn no_character_is_lost_or_cut(text in "(\\PC|\n){0,200}", times in 1_usize..200, cuts in 1_usize..5000) {
            let all = text.repeat(times);
            let parts: Vec<&[u8]> = all.as_bytes().chunks(cuts).collect();
            let lines = cut(&parts);
            proptest::prop_assert!(lines.iter().all(|line| line.len() <= PIECE));
            proptest::prop_assert!(lines.iter().all(|line| std::str::from_utf8(line).is_ok()));
            proptest::prop_assert_eq!(lines.concat(), all.into_bytes());
        }
    }
}
