//! A compiled filter as bytes, to be kept.

use std::hash::{DefaultHasher, Hasher as _};

use serde::{Deserialize, Serialize};
use sys::seccomp::{Flags, Instruction};

use crate::{Arch, Compiled, MAX_INSTRUCTIONS, Program};

/// What goes with a program, as JSON at its end.
#[derive(Serialize, Deserialize)]
struct Names {
    unknown: Vec<String>,
    without_table: Vec<Arch>,
}

/// Of the standard library's choice: with another one nothing that is kept is found, and all is made anew.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

impl Compiled {
    /// To be kept where only the caller can write, for [`Compiled::from_bytes`]: a hash of all that follows, the flags,
    /// how many instructions, these, and the names. Numbers are little-endian. `None`: it has more than a number can say.
    #[must_use]
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let names =
            Names { unknown: self.unknown.clone(), without_table: self.without_table.clone() };
        let instructions = &self.program.instructions;
        let mut body = self.program.flags.bits().to_le_bytes().to_vec();
        body.extend(u32::try_from(instructions.len()).ok()?.to_le_bytes());
        for Instruction { code, jt, jf, k } in instructions {
            body.extend(code.to_le_bytes());
            body.extend([*jt, *jf]);
            body.extend(k.to_le_bytes());
        }
        serde_json::to_writer(&mut body, &names).ok()?;
        Some([&hash(&body).to_le_bytes()[..], &body].concat())
    }

    /// `None` for all that is not what [`Compiled::to_bytes`] makes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (sum, body) = bytes.split_first_chunk()?;
        if u64::from_le_bytes(*sum) != hash(body) {
            return None;
        }
        let (flags, rest) = body.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
        if !(1..=MAX_INSTRUCTIONS).contains(&count) {
            return None;
        }
        let (instructions, names) = rest.split_at_checked(count * 8)?;
        let (instructions, []) = instructions.as_chunks::<8>() else { return None };
        let one = |&[c0, c1, jt, jf, k @ ..]: &[u8; 8]| Instruction {
            code: u16::from_le_bytes([c0, c1]),
            jt,
            jf,
            k: u32::from_le_bytes(k),
        };
        let Names { unknown, without_table } = serde_json::from_slice(names).ok()?;
        let program = Program {
            instructions: instructions.iter().map(one).collect(),
            flags: Flags::from_bits(u64::from_le_bytes(*flags))?,
        };
        Some(Self { program, unknown, without_table })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_the_program_or_nothing() {
        let filter = r#"{"defaultAction": "SCMP_ACT_ERRNO", "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "syscalls": [{"names": ["read", "none"], "action": "SCMP_ACT_ALLOW"}]}"#;
        let filter = serde_json::from_str(filter).unwrap();
        let compiled = crate::compile(&filter, Arch::X86_64).unwrap();
        assert_eq!(compiled.unknown, ["none"]);
        let bytes = compiled.to_bytes().unwrap();
        assert_eq!(Compiled::from_bytes(&bytes), Some(compiled));
        for at in 0..bytes.len() {
            assert_eq!(Compiled::from_bytes(&bytes[..at]), None, "{at}");
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_eq!(Compiled::from_bytes(&other), None, "{at}");
        }
    }
}
