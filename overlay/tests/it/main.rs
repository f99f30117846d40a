//! What the crate promises, proved through its public interface. Needs root: overlays are mounted.

mod errors;
mod place;
mod shown;
mod whiteouts;
