//! Architectures: their names, their marks in `seccomp_data`, and their tables of system calls.

mod arm;
mod x32;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub(crate) use x32::BIT as X32_BIT;

/// Changes with the tables of numbers, so that programs of other tables are not taken from a cache.
pub(crate) const TABLES: &str = "syscalls 0.8.1";

macro_rules! architectures {
    ($($variant:ident $name:literal $go:literal $audit:expr;)*) => {
        /// An architecture, by libseccomp's names, which are the specification's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum Arch {
            $(#[doc = $name] #[serde(rename = $name)] $variant,)*
        }

        impl Arch {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in filters: `SCMP_ARCH_X86_64`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The name in `includes` and `excludes` of Docker's profiles: `amd64`.
            #[must_use]
            pub fn short_name(self) -> &'static str {
                match self { $(Self::$variant => $go,)* }
            }

            /// Its number in `seccomp_data.arch` (linux/audit.h); `None` for those that only
            /// machines have on which this program does not run.
            #[must_use]
            pub fn audit(self) -> Option<u32> {
                match self { $(Self::$variant => $audit,)* }
            }
        }
    };
}

const WIDE: u32 = 0x8000_0000;
const LITTLE: u32 = 0x4000_0000;
/// The n32 form of mips64 (__AUDIT_ARCH_CONVENTION_MIPS64_N32).
const N32: u32 = 0x2000_0000;

architectures! {
    X86 "SCMP_ARCH_X86" "x86" Some(3 | LITTLE);
    X86_64 "SCMP_ARCH_X86_64" "amd64" Some(62 | WIDE | LITTLE);
    X32 "SCMP_ARCH_X32" "x32" Some(62 | WIDE | LITTLE);
    Arm "SCMP_ARCH_ARM" "arm" Some(40 | LITTLE);
    Aarch64 "SCMP_ARCH_AARCH64" "arm64" Some(183 | WIDE | LITTLE);
    Mips "SCMP_ARCH_MIPS" "mips" Some(8);
    Mips64 "SCMP_ARCH_MIPS64" "mips64" Some(8 | WIDE);
    Mips64N32 "SCMP_ARCH_MIPS64N32" "mips64n32" Some(8 | WIDE | N32);
    Mipsel "SCMP_ARCH_MIPSEL" "mipsel" Some(8 | LITTLE);
    Mipsel64 "SCMP_ARCH_MIPSEL64" "mipsel64" Some(8 | WIDE | LITTLE);
    Mipsel64N32 "SCMP_ARCH_MIPSEL64N32" "mipsel64n32" Some(8 | WIDE | LITTLE | N32);
    Ppc "SCMP_ARCH_PPC" "ppc" Some(20);
    Ppc64 "SCMP_ARCH_PPC64" "ppc64" Some(21 | WIDE);
    Ppc64le "SCMP_ARCH_PPC64LE" "ppc64le" Some(21 | WIDE | LITTLE);
    S390 "SCMP_ARCH_S390" "s390" Some(22);
    S390x "SCMP_ARCH_S390X" "s390x" Some(22 | WIDE);
    Riscv64 "SCMP_ARCH_RISCV64" "riscv64" Some(243 | WIDE | LITTLE);
    Loongarch64 "SCMP_ARCH_LOONGARCH64" "loong64" Some(258 | WIDE | LITTLE);
    Parisc "SCMP_ARCH_PARISC" "parisc" None;
    Parisc64 "SCMP_ARCH_PARISC64" "parisc64" None;
    M68k "SCMP_ARCH_M68K" "m68k" None;
    Sh "SCMP_ARCH_SH" "sh" None;
    Sheb "SCMP_ARCH_SHEB" "sheb" None;
}

/// The number of a call in one of the tables of the crate syscalls.
fn in_table<T: FromStr>(name: &str, id: fn(&T) -> i32) -> Option<u32> {
    let call = name.parse::<T>().ok()?;
    u32::try_from(id(&call)).ok()
}

impl Arch {
    /// That of this program; `None` where it is built for one that has no name here.
    #[must_use]
    pub fn native() -> Option<Self> {
        let little = cfg!(target_endian = "little");
        Some(match std::env::consts::ARCH {
            "x86_64" if cfg!(target_pointer_width = "32") => Self::X32,
            "x86_64" => Self::X86_64,
            "x86" => Self::X86,
            "aarch64" => Self::Aarch64,
            "arm" => Self::Arm,
            "riscv64" => Self::Riscv64,
            "loongarch64" => Self::Loongarch64,
            "s390x" => Self::S390x,
            "powerpc" => Self::Ppc,
            "powerpc64" if little => Self::Ppc64le,
            "powerpc64" => Self::Ppc64,
            "mips" if little => Self::Mipsel,
            "mips" => Self::Mips,
            "mips64" if little => Self::Mipsel64,
            "mips64" => Self::Mips64,
            _ => return None,
        })
    }

    /// The number of the system call of this name, or `None` where the architecture has no such one.
    #[must_use]
    pub fn number(self, name: &str) -> Option<u32> {
        use syscalls as table;
        match self {
            Self::X86 => in_table(name, table::x86::Sysno::id),
            Self::X86_64 => in_table(name, table::x86_64::Sysno::id),
            Self::X32 => x32::number(name, in_table(name, table::x86_64::Sysno::id)),
            Self::Arm => arm::private(name).or_else(|| in_table(name, table::arm::Sysno::id)),
            Self::Aarch64 => in_table(name, table::aarch64::Sysno::id),
            Self::Mips | Self::Mipsel => in_table(name, table::mips::Sysno::id),
            Self::Mips64 | Self::Mipsel64 => in_table(name, table::mips64::Sysno::id),
            Self::Ppc => in_table(name, table::powerpc::Sysno::id),
            Self::Ppc64 | Self::Ppc64le => in_table(name, table::powerpc64::Sysno::id),
            Self::S390x => in_table(name, table::s390x::Sysno::id),
            Self::Riscv64 => in_table(name, table::riscv64::Sysno::id),
            Self::Loongarch64 => in_table(name, table::loongarch64::Sysno::id),
            Self::Mips64N32
            | Self::Mipsel64N32
            | Self::S390
            | Self::Parisc
            | Self::Parisc64
            | Self::M68k
            | Self::Sh
            | Self::Sheb => None,
        }
    }

    /// Whether some architecture has a call of this name: one of whom filters are right to speak that are made for many.
    #[must_use]
    pub fn any_knows(name: &str) -> bool {
        Self::ALL.iter().any(|arch| arch.number(name).is_some())
    }

    /// Whether its calls have names here. Calls of one that has none are answered as those of an
    /// architecture that the filter does not name.
    #[must_use]
    pub fn has_table(self) -> bool {
        self.number("getpid").is_some()
    }

    /// The architectures whose programs a kernel of this one runs: calls of others never come.
    #[must_use]
    pub fn runs(self) -> &'static [Self] {
        match self {
            Self::X86_64 | Self::X32 => &[Self::X86_64, Self::X86, Self::X32],
            Self::X86 => &[Self::X86],
            Self::Aarch64 => &[Self::Aarch64, Self::Arm],
            Self::Arm => &[Self::Arm],
            Self::Mips64 | Self::Mips64N32 => &[Self::Mips64, Self::Mips, Self::Mips64N32],
            Self::Mips => &[Self::Mips],
            Self::Mipsel64 | Self::Mipsel64N32 => {
                &[Self::Mipsel64, Self::Mipsel, Self::Mipsel64N32]
            }
            Self::Mipsel => &[Self::Mipsel],
            Self::Ppc64 => &[Self::Ppc64, Self::Ppc],
            Self::Ppc64le => &[Self::Ppc64le],
            Self::Ppc => &[Self::Ppc],
            Self::S390x => &[Self::S390x, Self::S390],
            Self::S390 => &[Self::S390],
            Self::Riscv64 => &[Self::Riscv64],
            Self::Loongarch64 => &[Self::Loongarch64],
            Self::Parisc | Self::Parisc64 | Self::M68k | Self::Sh | Self::Sheb => &[],
        }
    }

    /// Whether the kernel sees 64 bits of an argument. x32 has 32-bit pointers and 64-bit registers.
    pub(crate) fn is_wide(self) -> bool {
        self == Self::X32 || self.audit().is_some_and(|audit| audit & WIDE != 0 && audit & N32 == 0)
    }

    pub(crate) fn is_little(self) -> bool {
        self.audit().is_some_and(|audit| audit & LITTLE != 0)
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Every name of the tables that can be walked.
#[cfg(test)]
pub(crate) fn names_of_all() -> std::collections::BTreeSet<&'static str> {
    use syscalls as table;
    let mut names: std::collections::BTreeSet<&'static str> = x32::OWN.iter().copied().collect();
    macro_rules! walk {
        ($($table:ident)*) => {
            $(names.extend(table::$table::Sysno::iter().map(|call| call.name()));)*
        };
    }
    walk!(x86 x86_64 arm aarch64 mips mips64 powerpc powerpc64 s390x riscv64 loongarch64);
    names
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn numbers_are_those_of_the_kernel() {
        // arch/x86/entry/syscalls, include/uapi/asm-generic/unistd.h, and each port's own table.
        for (arch, name, number) in [
            (Arch::X86_64, "read", 0),
            (Arch::X86_64, "execveat", 322),
            (Arch::X86, "socketcall", 102),
            (Arch::X86, "clock_gettime64", 403),
            (Arch::X32, "read", 0x4000_0000),
            (Arch::X32, "execve", 0x4000_0208),
            (Arch::X32, "execveat", 0x4000_0221),
            (Arch::X32, "statx", 0x4000_014c),
            (Arch::Arm, "set_tls", 0x000f_0005),
            (Arch::Arm, "fstatat64", 327),
            (Arch::Aarch64, "execve", 221),
            (Arch::Mipsel, "read", 4003),
            (Arch::Mips64, "read", 5000),
            (Arch::Ppc64le, "swapcontext", 249),
            (Arch::S390x, "s390_runtime_instr", 342),
            (Arch::Riscv64, "riscv_flush_icache", 259),
            (Arch::Loongarch64, "read", 63),
        ] {
            assert_eq!(arch.number(name), Some(number), "{name} of {arch}");
        }
        assert_eq!(Arch::X86_64.number("socketcall"), None);
        assert_eq!(Arch::X32.number("uselib"), None, "a call of the 64-bit form alone");
        assert_eq!(Arch::X86_64.number("no_such_call"), None);
        assert!(!Arch::S390.has_table());
    }

    #[test]
    fn a_change_of_the_tables_changes_their_version() {
        // Miri has no hour for all names.
        let (names, expected) = match cfg!(miri) {
            true => (["clone3", "execve"].into(), "27453335d2438180"),
            false => (crate::arch::names_of_all(), "ee16d71563164c64"),
        };
        let mut hash = Sha256::new();
        for arch in Arch::ALL.iter().filter(|arch| arch.has_table()) {
            for name in &names {
                if let Some(number) = arch.number(name) {
                    hash.update(format!("{arch} {name} {number}\n"));
                }
            }
        }
        let digest: String =
            hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            (TABLES, &digest[..]),
            ("syscalls 0.8.1", expected),
            "the tables of the crate syscalls changed: change TABLES, and the numbers here",
        );
    }

    #[test]
    fn audit_numbers_are_those_of_the_kernel() {
        assert_eq!(Arch::X86_64.audit(), Some(0xc000_003e));
        assert_eq!(Arch::X86.audit(), Some(0x4000_0003));
        assert_eq!(Arch::Aarch64.audit(), Some(0xc000_00b7));
        assert_eq!(Arch::S390x.audit(), Some(0x8000_0016));
        assert!(Arch::X32.is_wide() && !Arch::X86.is_wide() && !Arch::Mips64N32.is_wide());
    }
}
