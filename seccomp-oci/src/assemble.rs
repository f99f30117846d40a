//! Classic BPF from its end to its beginning: what is jumped to is there before the jump is, so that
//! every distance is known when it is written.

use std::collections::HashMap;

use sys::seccomp::Instruction;

/// linux/bpf_common.h.
pub(crate) const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
pub(crate) const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
pub(crate) const GOTO: u16 = 0x05; // BPF_JMP | BPF_JA
pub(crate) const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
pub(crate) const IF_ABOVE: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
pub(crate) const IF_NOT_BELOW: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
pub(crate) const IF_ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
pub(crate) const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// How far a conditional jump is made to go. It can 255; a further jump may come in between.
const REACH: usize = 250;

/// A place in the program, counted from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Label(usize);

/// The end of a program, to which what comes before is added.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    /// The last instruction first.
    reversed: Vec<Instruction>,
    /// The nearest place that returns a value.
    returns: HashMap<u32, Label>,
    /// The nearest place that jumps to another.
    stones: HashMap<Label, Label>,
}

impl Assembler {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(Instruction { code, jt, jf, k });
        Label(self.reversed.len() - 1)
    }

    fn is_near(&self, label: Label) -> bool {
        self.reversed.len() - label.0 <= REACH
    }

    /// A place that returns `answer`.
    pub(crate) fn answer(&mut self, answer: u32) -> Label {
        if let Some(label) = self.returns.get(&answer).filter(|label| self.is_near(**label)) {
            return *label;
        }
        let label = self.push(RETURN, 0, 0, answer);
        self.returns.insert(answer, label);
        label
    }

    /// A place from which `label` is reached, near enough for a conditional jump.
    fn near(&mut self, label: Label) -> Label {
        if self.is_near(label) {
            return label;
        }
        let there = self.reversed[label.0];
        if there.code == RETURN {
            return self.answer(there.k);
        }
        if let Some(stone) = self.stones.get(&label).filter(|stone| self.is_near(**stone)) {
            return *stone;
        }
        let stone = self.goto(label);
        self.stones.insert(label, stone);
        stone
    }

    fn goto(&mut self, label: Label) -> Label {
        let distance = self.reversed.len() - label.0 - 1;
        // A program that is too long is refused before it is of any use.
        self.push(GOTO, 0, 0, u32::try_from(distance).unwrap_or(u32::MAX))
    }

    /// An instruction after which `next` is executed.
    pub(crate) fn step(&mut self, code: u16, k: u32, next: Label) -> Label {
        if next.0 + 1 != self.reversed.len() {
            self.goto(next);
        }
        self.push(code, 0, 0, k)
    }

    /// A comparison of what was loaded with `k`.
    pub(crate) fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        let (yes, no) = (self.near(yes), self.near(no));
        let distance = |label: Label| (self.reversed.len() - label.0 - 1) as u8;
        let (jt, jf) = (distance(yes), distance(no));
        self.push(code, jt, jf, k)
    }

    /// The whole, which begins with `entry`.
    pub(crate) fn finish(mut self, entry: Label) -> Vec<Instruction> {
        if entry.0 + 1 != self.reversed.len() {
            self.goto(entry);
        }
        self.reversed.reverse();
        self.reversed
    }
}
