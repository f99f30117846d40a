//! libFuzzer on [`fuzz::registry_answers`]; built without it, a replay of the files that are named.
#![forbid(unsafe_code)]
#![cfg_attr(fuzzing, no_main)]

fuzz::program!(fuzz::registry_answers::run);
