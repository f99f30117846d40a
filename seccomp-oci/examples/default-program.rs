//! Docker's default profile for a container with its default capabilities, as the program that seccomp(2) takes:
//! `default-program > FILE`, an array of `struct sock_filter`.

use std::error::Error;
use std::io::Write;

use seccomp_oci::{Arch, Situation, Version};

const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

fn main() -> Result<(), Box<dyn Error>> {
    let machine = Arch::native().ok_or("this machine has no name in filters")?;
    let capabilities = CAPABILITIES.map(str::to_owned);
    let kernel = Version { major: 6, minor: 1 };
    let situation = Situation { capabilities: &capabilities, machine, kernel };
    let compiled = seccomp_oci::compile(&seccomp_oci::default_profile(&situation), machine)?;
    let mut bytes = Vec::new();
    for one in compiled.program.instructions() {
        bytes.extend(one.code.to_ne_bytes());
        bytes.extend([one.jt, one.jf]);
        bytes.extend(one.k.to_ne_bytes());
    }
    Ok(std::io::stdout().write_all(&bytes)?)
}
