//! When something is tried again: after a cut, and when the registry asks for patience.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// How often something is tried again, and after how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// How often, without success in between. Default: 5.
    pub count: u32,
    /// The wait before the first time; each further one is twice as long. Default: 1 s.
    pub first: Duration,
    /// The longest wait, also where a registry asks for a longer one: then the pull fails. Default: 2 min.
    pub longest: Duration,
}

impl Default for Retries {
    fn default() -> Retries {
        Retries { count: 5, first: Duration::from_secs(1), longest: Duration::from_secs(120) }
    }
}

impl Retries {
    /// The wait before the retry number `number`, from 0; none if that is one too many, or if the
    /// registry asks for a longer wait than is borne.
    pub(crate) fn wait(&self, number: u32, asked: Option<Duration>) -> Option<Duration> {
        let own = self.first.saturating_mul(2_u32.saturating_pow(number)).min(self.longest);
        let wait = asked.map_or(own, |asked| asked.max(own));
        (number < self.count && wait <= self.longest).then_some(wait)
    }
}

/// The wait that a Retry-After header asks for: seconds, or a date.
pub(crate) fn retry_after(value: &str, now: OffsetDateTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = OffsetDateTime::parse(value, &Rfc2822).ok()?;
    Some(Duration::try_from(date - now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_end() {
        let retries =
            Retries { count: 4, first: Duration::from_secs(1), longest: Duration::from_secs(6) };
        let wait = |number, asked: Option<u64>| {
            retries.wait(number, asked.map(Duration::from_secs)).map(|wait| wait.as_secs())
        };
        assert_eq!(
            (0..6).map(|n| wait(n, None)).collect::<Vec<_>>(),
            [Some(1), Some(2), Some(4), Some(6), None, None]
        );
        assert_eq!(wait(0, Some(5)), Some(5));
        assert_eq!(wait(2, Some(0)), Some(4), "a registry that says 0 is not pestered");
        assert_eq!(wait(0, Some(7)), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = OffsetDateTime::from_unix_timestamp(1_445_412_470).unwrap();
        let read = |text| retry_after(text, now).map(|wait| wait.as_secs());
        assert_eq!(read(" 120"), Some(120));
        assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(10));
        assert_eq!(read("Wed, 21 Oct 2015 07:00:00 GMT"), Some(0));
        assert_eq!(read("soon"), None);
        assert_eq!(read("-1"), None);
    }
}
