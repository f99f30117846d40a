//! The programs' entry, and their order: lets the linker put the functions of the common commands side by side (docs/performance.md, "Where functions lie").

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=layout");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    // Before the C library, the program goes over to a read-only mount of its file (`sys::entry`).
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        println!("cargo::rustc-link-arg-bins=-Wl,-e,runtime_start");
    }
    // Other profiles are for tests, and have other functions.
    if !is("CARGO_CFG_TARGET_OS", "linux") || !is("PROFILE", "release") {
        return;
    }
    let dir = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    for program in ["runtime-bin", "runtime-oci"] {
        // Compilers give -T to the linker themselves; -Wl would cut a path at its commas.
        println!("cargo::rustc-link-arg-bin={program}=-T{dir}/layout/{program}.ld");
    }
}
