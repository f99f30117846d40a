//! The words of a Dockerfile's instruction: quotes, backslashes, variables.

use std::iter::Peekable;
use std::str::Chars;

/// `A=b` lines that variables are looked up in.
#[derive(Clone, Copy)]
pub(super) struct Variables<'a>(pub(super) &'a [String]);

impl Variables<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter().filter_map(|line| line.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// The text's words, without their quotes, and with values in place of variables.
pub(super) fn split(text: &str, variables: Variables<'_>) -> Result<Vec<String>, String> {
    let mut reader = Reader { rest: text.chars().peekable(), variables };
    let mut words = Vec::new();
    loop {
        while reader.rest.next_if(|c| c.is_whitespace()).is_some() {}
        if reader.rest.peek().is_none() {
            return Ok(words);
        }
        words.push(reader.read(|c| c.is_whitespace())?);
    }
}

/// The text as one word.
pub(super) fn word(text: &str, variables: Variables<'_>) -> Result<String, String> {
    Reader { rest: text.chars().peekable(), variables }.read(|_| false)
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    variables: Variables<'a>,
}

impl Reader<'_> {
    /// Reads up to the first `end` outside of quotes, which stays.
    fn read(&mut self, end: impl Fn(char) -> bool) -> Result<String, String> {
        let mut word = String::new();
        while let Some(c) = self.rest.next_if(|c| !end(*c)) {
            match c {
                '\\' => word.extend(self.rest.next()),
                '\'' => loop {
                    match self.rest.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err("a single quote is not closed".to_owned()),
                    }
                },
                '"' => self.double_quoted(&mut word)?,
                '$' => self.variable(&mut word)?,
                c => word.push(c),
            }
        }
        Ok(word)
    }

    fn double_quoted(&mut self, word: &mut String) -> Result<(), String> {
        loop {
            match self.rest.next() {
                Some('"') => return Ok(()),
                Some('\\') => match self.rest.next() {
                    Some(c @ ('"' | '$' | '\\')) => word.push(c),
                    Some(c) => word.extend(['\\', c]),
                    None => word.push('\\'),
                },
                Some('$') => self.variable(word)?,
                Some(c) => word.push(c),
                None => return Err("a double quote is not closed".to_owned()),
            }
        }
    }

    /// What stands behind a `$`: `NAME`, `{NAME}`, `{NAME:-word}`, `{NAME:+word}`, and these without
    /// the colon, for which an empty value counts as one.
    fn variable(&mut self, word: &mut String) -> Result<(), String> {
        if self.rest.next_if_eq(&'{').is_none() {
            match self.name() {
                name if name.is_empty() => word.push('$'),
                name => word.push_str(self.variables.get(&name).unwrap_or_default()),
            }
            return Ok(());
        }
        let name = self.name();
        let bad = || "write ${NAME}, ${NAME:-word} or ${NAME:+word}".to_owned();
        if name.is_empty() {
            return Err(bad());
        }
        let colon = self.rest.next_if_eq(&':').is_some();
        let operator = self.rest.next().ok_or_else(bad)?;
        let value = self.variables.get(&name).filter(|value| !(colon && value.is_empty()));
        let value = value.map(str::to_owned);
        if operator == '}' && !colon {
            word.extend(value);
            return Ok(());
        }
        if !matches!(operator, '-' | '+') {
            return Err(bad());
        }
        let other = self.read(|c| c == '}')?;
        self.rest.next_if_eq(&'}').ok_or_else(bad)?;
        match (operator, value) {
            ('-', Some(value)) => word.push_str(&value),
            ('-', None) | ('+', Some(_)) => word.push_str(&other),
            _ => {}
        }
        Ok(())
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
            if name.is_empty() && c.is_ascii_digit() {
                return c.to_string();
            }
            name.push(c);
        }
        name
    }
}

/// A duration as Go writes it, in nanoseconds; none is negative.
pub(super) fn duration(text: &str) -> Option<u64> {
    crate::parse_duration(text).and_then(|nanoseconds| u64::try_from(nanoseconds).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_dockerfile_does() {
        let env = ["A=1".to_owned(), "E=".to_owned(), "PATH=/bin".to_owned()];
        let read = |text| split(text, Variables(&env));
        for (text, words) in [
            ("a  b\tc", vec!["a", "b", "c"]),
            ("\"a b\"c 'd $A'", vec!["a bc", "d $A"]),
            ("$PATH:/x \\$A $ $1a", vec!["/bin:/x", "$A", "$", "a"]),
            ("${A}b ${N:-x y} ${E:-e} ${E-e}", vec!["1b", "x y", "e", ""]),
            ("${A:+yes} ${N:+no} ${E+set}", vec!["yes", "", "set"]),
            ("\"\\\"\\n\\$\" ${N:-${A}}", vec!["\"\\n$", "1"]),
            ("größe=\\ x", vec!["größe= x"]),
        ] {
            assert_eq!(read(text).unwrap(), words, "{text}");
        }
        for bad in ["\"a", "'a", "${", "${}", "${A", "${A:}", "${A:-x", "${A?x}"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("1m30s"), Some(90_000_000_000));
        assert_eq!(duration("1.5ms"), Some(1_500_000));
        for bad in ["", "1", "s", "-1s", "1x", "1e9h", "99999999999h"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }
}
