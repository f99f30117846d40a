//! Without a fuzzer: the corpora, inputs that are made of them, and second opinions on them. As root.

mod corpora;
#[path = "../../../erofs-index/tests/it/erofs_utils.rs"]
mod erofs_utils;
#[path = "../../../erofs-index/tests/it/files.rs"]
mod files;
#[path = "../../../erofs-index/tests/it/kernel.rs"]
#[allow(dead_code, reason = "erofs-index's own tests use all of it")]
mod kernel;
mod opinions;
#[path = "../../../erofs-index/tests/it/reader.rs"]
mod reader;
#[path = "../../../erofs-index/tests/it/tree.rs"]
#[allow(dead_code, reason = "erofs-index's own tests use all of it")]
mod tree;
