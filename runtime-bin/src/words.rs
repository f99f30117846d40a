//! Command lines that are written again and again, read at once.
//!
//! To describe options to clap takes a quarter of a millisecond and more, of the few that a start takes. So the usual
//! options of the verbs that start something are read by tables, into the same values. What is not of these few forms, or
//! wrong in any way, is left to clap, which has the words for it: nothing is refused here, and nothing means something
//! else than there.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::ValueEnum;

/// An option: its name, the letter that it may have, and what it takes.
pub(crate) type Known = (&'static str, Option<char>, Takes);

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing.
    Nothing,
    /// A value, once.
    Value,
    /// A value, each time that it is given.
    Values,
}

/// What was read, and the words that were not.
pub(crate) struct Given {
    words: std::vec::IntoIter<String>,
    options: Vec<(&'static str, String)>,
    pub(crate) plain: Vec<String>,
}

impl Given {
    /// Nothing is read yet of `words`, those after the program's name. `None`: some word is no text.
    pub(crate) fn of(words: impl IntoIterator<Item = OsString>) -> Option<Given> {
        let words: Option<Vec<String>> =
            words.into_iter().map(|word| word.into_string().ok()).collect();
        Some(Given { words: words?.into_iter(), options: Vec::new(), plain: Vec::new() })
    }

    /// Reads on, until `most` words are none of the options `known`. `None`: some word is left to clap.
    pub(crate) fn read(&mut self, known: &[&[Known]], most: usize) -> Option<()> {
        let find = |is: &dyn Fn(&Known) -> bool| {
            known.iter().copied().flatten().copied().find(|known| is(known))
        };
        while self.plain.len() < most {
            let Some(word) = self.words.next() else { break };
            let Some(option) = word.strip_prefix('-') else {
                self.plain.push(word);
                continue;
            };
            if let Some(long) = option.strip_prefix('-') {
                let (name, inline) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (long, None),
                };
                self.take(find(&|known| known.0 == name)?, inline)?;
                continue;
            }
            // Letters of options without a value may stand together.
            let alone = option.chars().count() == 1;
            if option.is_empty() {
                return None;
            }
            for letter in option.chars() {
                let known = find(&|known| known.1 == Some(letter))?;
                if !alone && known.2 != Takes::Nothing {
                    return None;
                }
                self.take(known, None)?;
            }
        }
        Some(())
    }

    fn take(&mut self, (name, _, takes): Known, inline: Option<String>) -> Option<()> {
        let value = match (takes, inline) {
            (Takes::Nothing, None) => String::new(),
            (Takes::Nothing, Some(_)) => return None,
            (_, Some(value)) => value,
            (_, None) => self.words.next().filter(|value| !value.starts_with('-'))?,
        };
        let twice = takes != Takes::Values && self.flag(name);
        if twice || takes != Takes::Nothing && value.is_empty() {
            return None;
        }
        self.options.push((name, value));
        Some(())
    }

    /// Reads the options `known` up to the first word that is none, and returns that with all that stands behind it.
    pub(crate) fn rest(&mut self, known: &[&[Known]]) -> Option<Vec<String>> {
        self.read(known, 1)?;
        let mut words = vec![self.plain.pop()?];
        words.extend(self.words.by_ref());
        Some(words)
    }

    /// Whether the option was given.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.options.iter().any(|(option, _)| *option == name)
    }

    pub(crate) fn value(&self, name: &str) -> Option<String> {
        self.options.iter().find(|(option, _)| *option == name).map(|(_, value)| value.clone())
    }

    /// All that were given, in their order.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        let of_name = self.options.iter().filter(|(option, _)| *option == name);
        of_name.map(|(_, value)| value.clone()).collect()
    }

    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.value(name).map(PathBuf::from)
    }

    /// `otherwise` if it is not given; `None` if it is none of the words.
    pub(crate) fn one_of<T: ValueEnum>(&self, name: &str, otherwise: T) -> Option<T> {
        match self.value(name) {
            Some(text) => T::from_str(&text, false).ok(),
            None => Some(otherwise),
        }
    }
}
