//! The time.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Now, as RFC 3339 in UTC.
pub(crate) fn now() -> String {
    // Only a year beyond 9999 cannot be written so.
    OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default()
}
