//! An error with its causes, in one text.

/// The texts of an error and of its causes, from the first on, with colons between them. A cause that the text
/// before it has already is left out.
pub(crate) fn joined(causes: impl Iterator<Item = String>) -> String {
    causes.fold(String::new(), |text, cause| match text.is_empty() {
        true => cause,
        false if text.contains(&cause) => text,
        false => format!("{text}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_twice() {
        let causes = ["opening x: no such file", "no such file", "why"].map(str::to_owned);
        assert_eq!(joined(causes.into_iter()), "opening x: no such file: why");
    }
}
