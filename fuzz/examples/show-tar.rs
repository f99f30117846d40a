//! What the reader of tars makes of a layer: its tree, or nothing where it is refused.
//!
//! `cargo run -p fuzz --example show-tar layer.tar`
#![allow(clippy::print_stdout, reason = "a program's output")]

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("name a tar")?;
    let shown = fuzz::tar_reader::shown(&std::fs::read(path)?).ok_or("it is refused")?;
    print!("{shown}");
    Ok(())
}
