//! What the crate promises, proved from outside: by a reader of the format that shares nothing with the writer, by
//! the kernel, and by erofs-utils. Needs root: file systems are mounted.

mod erofs_utils;
mod files;
mod kernel;
mod limits;
mod meaning;
mod mounted;
mod ops;
mod random;
mod reader;
mod rules;
mod stacked;
mod tools;
mod tree;
