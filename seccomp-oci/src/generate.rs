//! From decisions to a program: a search by halves over the ranges of numbers, and comparisons of
//! arguments below it.

use sys::seccomp::Instruction;

use crate::Op;
use crate::arch::Arch;
use crate::assemble::{AND, Assembler, IF_ABOVE, IF_ANY_BIT, IF_EQUAL, IF_NOT_BELOW, LOAD, Label};
use crate::decide::{BAD_ARCH, Chain, Decisions, Leaf, Test};

/// Where the words of struct seccomp_data are (linux/seccomp.h).
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Most single numbers that are compared one after another before the search goes by halves: a number
/// among others costs one instruction by itself, two as a range.
const ISLANDS: usize = 3;

/// The program for `decisions`, of a machine of `machine`'s order of bytes.
pub(crate) fn generate(decisions: &Decisions, machine: Arch) -> Vec<Instruction> {
    let mut generator = Generator {
        assembler: Assembler::default(),
        little: machine.is_little(),
        chains: &decisions.chains,
        done: vec![None; decisions.chains.len()],
    };
    let mut next = generator.assembler.answer(BAD_ARCH);
    for space in decisions.spaces.iter().rev() {
        let search = generator.search(&space.ranges);
        let search = generator.assembler.step(LOAD, NUMBER, search);
        next = generator.assembler.branch(IF_EQUAL, space.audit, search, next);
    }
    let entry = generator.assembler.step(LOAD, ARCH, next);
    generator.assembler.finish(entry)
}

struct Generator<'d> {
    assembler: Assembler,
    little: bool,
    chains: &'d [Chain],
    /// Where the chains are that were written already.
    done: Vec<Option<Label>>,
}

impl Generator<'_> {
    /// Finds the range of the number that was loaded.
    fn search(&mut self, ranges: &[(u32, Leaf)]) -> Label {
        if let [(_, leaf)] = ranges {
            return self.leaf(*leaf);
        }
        if let Some(label) = self.islands(ranges) {
            return label;
        }
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let border = high[0].0;
        let high = self.search(high);
        let low = self.search(low);
        self.assembler.branch(IF_NOT_BELOW, border, high, low)
    }

    /// A few single numbers in one range. The numbers below the first range and above the last do not
    /// come here, so that these two count as wide.
    fn islands(&mut self, ranges: &[(u32, Leaf)]) -> Option<Label> {
        let single = |at: usize| at + 1 < ranges.len() && ranges[at + 1].0 - ranges[at].0 == 1;
        let background = (0..ranges.len()).find(|at| !single(*at)).map(|at| ranges[at].1)?;
        let islands: Vec<usize> =
            (0..ranges.len()).filter(|at| ranges[*at].1 != background).collect();
        if islands.len() > ISLANDS || !islands.iter().all(|at| single(*at)) {
            return None;
        }
        let mut next = self.leaf(background);
        for at in islands.into_iter().rev() {
            let (number, leaf) = ranges[at];
            let island = self.leaf(leaf);
            next = self.assembler.branch(IF_EQUAL, number, island, next);
        }
        Some(next)
    }

    fn leaf(&mut self, leaf: Leaf) -> Label {
        match leaf {
            Leaf::Answer(answer) => self.assembler.answer(answer),
            Leaf::Chain(index) => match self.done[index] {
                Some(label) => label,
                None => {
                    let label = self.chain(&self.chains[index]);
                    self.done[index] = Some(label);
                    label
                }
            },
        }
    }

    fn chain(&mut self, chain: &Chain) -> Label {
        let mut next = self.assembler.answer(chain.otherwise);
        let mut rules = &chain.rules[..];
        while let Some(((tests, answer), before)) = rules.split_last() {
            let alike = run_of_values(rules);
            if alike > 1 {
                let (before, run) = rules.split_at(rules.len() - alike);
                next = self.one_of(run, *answer, next);
                rules = before;
                continue;
            }
            let mut yes = self.assembler.answer(*answer);
            for test in tests.iter().rev() {
                yes = self.test(test, yes, next);
            }
            next = yes;
            rules = before;
        }
        next
    }

    /// Several values of one argument with one answer: it is loaded once.
    fn one_of(&mut self, run: &[(Vec<Test>, u32)], answer: u32, no: Label) -> Label {
        let yes = self.assembler.answer(answer);
        let mut next = no;
        for (tests, _) in run.iter().rev() {
            next = self.assembler.branch(IF_EQUAL, low(tests[0].value), yes, next);
        }
        let first = run[0].0[0];
        let next = self.assembler.step(LOAD, self.word(first.index, false), next);
        if !first.wide {
            return next;
        }
        let next = self.assembler.branch(IF_EQUAL, high(first.value), next, no);
        self.assembler.step(LOAD, self.word(first.index, true), next)
    }

    /// The place of half an argument.
    fn word(&self, index: u32, upper: bool) -> u32 {
        ARGUMENTS + index * 8 + if upper == self.little { 4 } else { 0 }
    }

    fn test(&mut self, test: &Test, yes: Label, no: Label) -> Label {
        match test.op {
            Op::Equal => self.equal(test, yes, no),
            Op::NotEqual => self.equal(test, no, yes),
            Op::MaskedEqual => self.masked(test, yes, no),
            Op::Greater => self.above(test, IF_ABOVE, yes, no),
            Op::GreaterOrEqual => self.above(test, IF_NOT_BELOW, yes, no),
            Op::LessOrEqual => self.above(test, IF_ABOVE, no, yes),
            Op::Less => self.above(test, IF_NOT_BELOW, no, yes),
        }
    }

    fn equal(&mut self, test: &Test, yes: Label, no: Label) -> Label {
        let next = self.assembler.branch(IF_EQUAL, low(test.value), yes, no);
        let next = self.assembler.step(LOAD, self.word(test.index, false), next);
        if !test.wide {
            return next;
        }
        let next = self.assembler.branch(IF_EQUAL, high(test.value), next, no);
        self.assembler.step(LOAD, self.word(test.index, true), next)
    }

    /// By the upper halves, and by the lower ones (with `lower`) where these are equal.
    fn above(&mut self, test: &Test, lower: u16, yes: Label, no: Label) -> Label {
        let next = self.assembler.branch(lower, low(test.value), yes, no);
        let next = self.assembler.step(LOAD, self.word(test.index, false), next);
        if !test.wide {
            return next;
        }
        let upper = high(test.value);
        // Nothing is below 0.
        let next = match upper {
            0 => next,
            _ => self.assembler.branch(IF_EQUAL, upper, next, no),
        };
        let next = self.assembler.branch(IF_ABOVE, upper, yes, next);
        self.assembler.step(LOAD, self.word(test.index, true), next)
    }

    fn masked(&mut self, test: &Test, yes: Label, no: Label) -> Label {
        let lower = (low(test.value), low(test.value_two));
        let next = self.masked_word(self.word(test.index, false), lower, yes, no);
        let upper = (high(test.value), high(test.value_two));
        self.masked_word(self.word(test.index, true), upper, next, no)
    }

    fn masked_word(
        &mut self,
        word: u32,
        (mask, value): (u32, u32),
        yes: Label,
        no: Label,
    ) -> Label {
        let next = match (mask, value) {
            (0, _) => return yes,
            (u32::MAX, value) => self.assembler.branch(IF_EQUAL, value, yes, no),
            (mask, 0) => self.assembler.branch(IF_ANY_BIT, mask, no, yes),
            (mask, value) => {
                let next = self.assembler.branch(IF_EQUAL, value, yes, no);
                self.assembler.step(AND, mask, next)
            }
        };
        self.assembler.step(LOAD, word, next)
    }
}

/// How many of the last rules compare one argument with one value each, with equal upper halves, and
/// have one answer.
fn run_of_values(rules: &[(Vec<Test>, u32)]) -> usize {
    let single = |(tests, answer): &(Vec<Test>, u32)| match &tests[..] {
        [test] if test.op == Op::Equal => Some((test.index, high(test.value), *answer)),
        _ => None,
    };
    let Some(last) = rules.last().and_then(single) else { return 0 };
    rules.iter().rev().take_while(|rule| single(rule) == Some(last)).count()
}

fn low(value: u64) -> u32 {
    value as u32
}

fn high(value: u64) -> u32 {
    (value >> 32) as u32
}
