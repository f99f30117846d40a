//! What must come out of an image's layers, line by line: layers made here, loaded into a store, mounted, and
//! compared with a tree that is written down by hand. docs/conformance.md says which test proves which line.
//!
//! Needs root: it makes devices, owners and mounts.

#[path = "../common/mod.rs"]
mod common;
mod directories;
mod files;
mod forms;
mod headers;
mod indexed;
mod mkfs;
mod random;
#[path = "../../../image-unpack/tests/it/spec.rs"]
mod spec;
#[path = "../../../image-unpack/tests/it/spec_random.rs"]
mod spec_random;
mod stack;
#[allow(dead_code, reason = "image-unpack's own tests use all of it")]
#[path = "../../../image-unpack/tests/it/tar.rs"]
mod tar;
mod tree;
mod whiteouts;
