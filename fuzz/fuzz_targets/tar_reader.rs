//! libFuzzer on [`fuzz::tar_reader`]; built without it, a replay of the files that are named.
#![forbid(unsafe_code)]
#![cfg_attr(fuzzing, no_main)]

fuzz::program!(fuzz::tar_reader::run);
