//! regex-lite under the name of regex, by the same authors and with the same interface.
//!
//! oci-spec looks at one field by a regular expression, `process.execCPUAffinity`, and asks the crate regex for it with all that
//! it can. Its tables of Unicode are more than half of what a program has to relocate each time that it is started (7,463 of
//! 12,550 addresses in 27 pages of `runtime-oci`), and it takes half a minute to compile.

#![forbid(unsafe_code)]

pub use regex_lite::*;
