//! An error with its causes, in one text.

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// The texts of an error and of its causes, from the first on, with colons between them. A cause that the text
/// before it has already is left out.
pub(crate) fn joined(causes: impl Iterator<Item = String>) -> String {
    let text = causes.fold(String::new(), |text, cause| match text.is_empty() {
        true => cause,
        false if text.contains(&cause) => text,
        false => format!("{text}: {cause}"),
    });
    with_advice(text, getrlimit(Resource::Nofile).current)
}

/// Says what to do where there were too few descriptors, whatever they were for. `limit` is how many there may be.
fn with_advice(text: String, limit: Option<u64>) -> String {
    match limit {
        Some(limit) if text.contains(&std::io::Error::from(Errno::MFILE).to_string()) => format!(
            "{text}; at most {limit} descriptors may be open here: raise that limit (ulimit -n)"
        ),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_twice() {
        let causes = ["opening x: no such file", "no such file", "why"].map(str::to_owned);
        assert_eq!(joined(causes.into_iter()), "opening x: no such file: why");
    }

    #[test]
    fn who_has_too_few_descriptors_hears_of_the_limit() {
        let of = |errno: Errno| format!("opening x: {}", std::io::Error::from(errno));
        let said = with_advice(of(Errno::MFILE), Some(20));
        assert!(said.ends_with(
            "(os error 24); at most 20 descriptors may be open here: raise that limit (ulimit -n)"
        ));
        for (errno, limit) in
            [(Errno::MFILE, None), (Errno::NFILE, Some(20)), (Errno::BADF, Some(20))]
        {
            assert_eq!(with_advice(of(errno), limit), of(errno));
        }
    }
}
