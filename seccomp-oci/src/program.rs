//! The compiled program, and what it would answer.

use sys::seccomp::{Flags, Instruction};

use crate::assemble::{AND, GOTO, IF_ABOVE, IF_ANY_BIT, IF_EQUAL, IF_NOT_BELOW, LOAD, RETURN};

/// A program that the kernel takes, and the flags of seccomp(2) to load it with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub(crate) instructions: Vec<Instruction>,
    pub(crate) flags: Flags,
}

/// A system call as a filter sees it (struct seccomp_data of linux/seccomp.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The number, with the bit of x32.
    pub number: u32,
    /// [`Arch::audit`](crate::Arch::audit).
    pub arch: u32,
    /// Where it was made.
    pub instruction_pointer: u64,
    /// The arguments; 32-bit ones with zeros above.
    pub args: [u64; 6],
}

impl Call {
    /// The word at `offset` bytes, which a machine of this order of bytes reads.
    fn word(&self, offset: u32, little: bool) -> Option<u32> {
        let half = |value: u64, at: u32| {
            let upper = (at == 4) == little;
            Some(if upper { (value >> 32) as u32 } else { value as u32 })
        };
        match offset {
            0 => Some(self.number),
            4 => Some(self.arch),
            8 | 12 => half(self.instruction_pointer, offset - 8),
            16..=60 if offset.is_multiple_of(4) => {
                half(self.args[(offset as usize - 16) / 8], offset % 8)
            }
            _ => None,
        }
    }
}

impl Program {
    /// The instructions, for [`sys::seccomp::load`].
    #[must_use]
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// The flags to load them with; [`Flags::NEW_LISTENER`] where calls are put to a listener.
    #[must_use]
    pub fn flags(&self) -> Flags {
        self.flags
    }

    /// What a kernel of this order of bytes gets from the program for `call`: a value of
    /// linux/seccomp.h, as `SECCOMP_RET_ERRNO | 1`. `None` where the program is none: it leaves its
    /// bounds or does what the programs made here do not.
    #[must_use]
    pub fn answer(&self, call: &Call, little_endian: bool) -> Option<u32> {
        let mut loaded = 0_u32;
        let mut at = 0_usize;
        loop {
            let Instruction { code, jt, jf, k } = *self.instructions.get(at)?;
            at += 1;
            let mut branch = |holds: bool| at += usize::from(if holds { jt } else { jf });
            match code {
                LOAD => loaded = call.word(k, little_endian)?,
                AND => loaded &= k,
                GOTO => at += k as usize,
                IF_EQUAL => branch(loaded == k),
                IF_ABOVE => branch(loaded > k),
                IF_NOT_BELOW => branch(loaded >= k),
                IF_ANY_BIT => branch(loaded & k != 0),
                RETURN => return Some(k),
                _ => return None,
            }
        }
    }
}
