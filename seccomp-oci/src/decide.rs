//! From rules by name to decisions by number: for each architecture, ranges of numbers with what is
//! done about them.

use std::collections::{BTreeMap, BTreeSet};

use crate::arch::{Arch, X32_BIT};
use crate::{Action, Condition, Error, Filter, Op, multiplex};

/// "Ends the thread", which libseccomp answers for calls of an architecture that is not named.
pub(crate) const BAD_ARCH: u32 = 0;
const ENOSYS: u32 = 38;
/// The number of a call that a tracer has cancelled.
const CANCELLED: u32 = u32::MAX;

/// What is done about a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Leaf {
    /// Always this answer.
    Answer(u32),
    /// [`Decisions::chains`] of this index.
    Chain(usize),
}

/// A comparison of one argument, as the architecture sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Test {
    pub(crate) index: u32,
    pub(crate) op: Op,
    pub(crate) value: u64,
    pub(crate) value_two: u64,
    /// 64 bits, or the lower 32 alone.
    pub(crate) wide: bool,
}

/// Rules with conditions, of which the first that holds answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) rules: Vec<(Vec<Test>, u32)>,
    pub(crate) otherwise: u32,
}

/// All numbers of one value of `seccomp_data.arch`.
#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) audit: u32,
    /// The first number of each range, and what is done from there on. The first one is 0.
    pub(crate) ranges: Vec<(u32, Leaf)>,
}

#[derive(Debug)]
pub(crate) struct Decisions {
    /// The machine's own first.
    pub(crate) spaces: Vec<Space>,
    pub(crate) chains: Vec<Chain>,
    /// Names that no architecture of the filter knows.
    pub(crate) unknown: Vec<String>,
    /// Architectures of the filter that the machine runs and that have no table.
    pub(crate) without_table: Vec<Arch>,
}

/// What the rules say about one number.
#[derive(Default)]
struct Entry {
    always: Option<u32>,
    rules: Vec<(Vec<Test>, u32)>,
}

/// The numbers of one architecture.
struct Numbers {
    arch: Arch,
    entries: BTreeMap<u32, Entry>,
    /// The largest number that the filter names.
    largest: Option<u32>,
}

/// One name of one rule, and the rule's conditions.
struct Named<'f> {
    name: &'f str,
    answer: u32,
    alternatives: Vec<Vec<Condition>>,
    /// It says what the default says, and is skipped, as in runc: its name counts all the same.
    redundant: bool,
}

pub(crate) fn decide(filter: &Filter, machine: Arch) -> Result<Decisions, Error> {
    if !machine.has_table() {
        return Err(Error::Machine { machine: machine.name().to_owned() });
    }
    let (arches, without_table) = architectures(filter, machine);
    let named = named(filter);
    let mut unknown: BTreeSet<&str> = named.iter().map(|named| named.name).collect();
    let tables: Vec<Numbers> =
        arches.iter().map(|arch| Numbers::of(*arch, &named, &mut unknown)).collect();
    let of = |wanted| tables.iter().find(|numbers| numbers.arch == wanted);
    let mut filling = Filling {
        ranges: Vec::new(),
        chains: Vec::new(),
        default: filter.default_answer(),
        // Who lets be what it does not know lets be what is newer, too (as runc).
        stub: !matches!(filter.default_action, Action::Allow | Action::Log | Action::Trace),
    };
    let mut spaces = Vec::new();
    for numbers in &tables {
        let Some(audit) = numbers.arch.audit() else { continue };
        match numbers.arch {
            // Two architectures with one mark, told apart by a bit of the number.
            Arch::X32 if of(Arch::X86_64).is_some() => continue,
            Arch::X86_64 | Arch::X32 => {
                match of(Arch::X86_64) {
                    Some(numbers) => filling.fill(numbers, 0, X32_BIT - 1),
                    None => filling.push(0, Leaf::Answer(BAD_ARCH)),
                }
                match of(Arch::X32) {
                    Some(numbers) => filling.fill(numbers, X32_BIT, u32::MAX),
                    None => {
                        filling.push(X32_BIT, Leaf::Answer(BAD_ARCH));
                        filling.push(CANCELLED, Leaf::Answer(filling.beyond(numbers)));
                    }
                }
            }
            _ => filling.fill(numbers, 0, u32::MAX),
        }
        spaces.push(Space { audit, ranges: std::mem::take(&mut filling.ranges) });
    }
    Ok(Decisions {
        spaces,
        chains: filling.chains,
        unknown: unknown.into_iter().map(str::to_owned).collect(),
        without_table,
    })
}

/// Those of the filter that have a table and whose calls can come, the machine's own first; and
/// those without a table.
fn architectures(filter: &Filter, machine: Arch) -> (Vec<Arch>, Vec<Arch>) {
    let mut arches = vec![machine];
    let mut without_table = Vec::new();
    for arch in filter.architectures.iter().filter(|arch| machine.runs().contains(arch)) {
        let list = if arch.has_table() { &mut arches } else { &mut without_table };
        if !list.contains(arch) {
            list.push(*arch);
        }
    }
    (arches, without_table)
}

fn named(filter: &Filter) -> Vec<Named<'_>> {
    let default = filter.default_answer();
    let of_rule = |rule| {
        let rule: &crate::Rule = rule;
        let (answer, alternatives) = (rule.answer(), rule.alternatives());
        rule.names.iter().map(move |name| Named {
            name,
            answer,
            alternatives: alternatives.clone(),
            redundant: answer == default,
        })
    };
    filter.syscalls.iter().flat_map(of_rule).collect()
}

impl Numbers {
    /// What `named` says about the calls of `arch`, and takes out of `unknown` what it knows.
    fn of(arch: Arch, named: &[Named<'_>], unknown: &mut BTreeSet<&str>) -> Self {
        let mut numbers = Self { arch, entries: BTreeMap::new(), largest: None };
        for named in named {
            if let Some(number) = arch.number(named.name) {
                unknown.remove(named.name);
                numbers.add(number, named, &named.alternatives);
            }
            let through = multiplex::through(named.name);
            if let Some((call, condition)) = through
                && let Some(number) = arch.number(call)
            {
                unknown.remove(named.name);
                // The arguments are behind a pointer there, where a filter cannot see them.
                if named.alternatives.is_empty() {
                    numbers.add(number, named, &[vec![condition]]);
                }
            }
        }
        numbers
    }

    fn add(&mut self, number: u32, named: &Named<'_>, alternatives: &[Vec<Condition>]) {
        self.largest = self.largest.max(Some(number));
        if named.redundant {
            return;
        }
        let wide = self.arch.is_wide();
        let entry = self.entries.entry(number).or_default();
        if alternatives.is_empty() {
            entry.always.get_or_insert(named.answer);
        }
        for all in alternatives {
            if let Some(tests) = tests(all, wide) {
                entry.rules.push((tests, named.answer));
            }
        }
    }
}

/// The decisions in the making.
struct Filling {
    ranges: Vec<(u32, Leaf)>,
    chains: Vec<Chain>,
    default: u32,
    /// Whether calls that are newer than the filter get ENOSYS.
    stub: bool,
}

impl Filling {
    /// Ranges for the numbers `first..=last`.
    fn fill(&mut self, numbers: &Numbers, first: u32, last: u32) {
        let default = Leaf::Answer(self.default);
        self.push(first, default);
        if self.stub && numbers.arch == Arch::S390x {
            // The number that stands there for all that do not fit into an instruction, where the
            // kernel does not know them.
            self.push(0, Leaf::Answer(Action::Errno.answer(Some(ENOSYS))));
            self.push(1, default);
        }
        for (number, entry) in &numbers.entries {
            let leaf = self.leaf(entry);
            self.push(*number, leaf);
            if *number < last {
                self.push(number + 1, default);
            }
        }
        if let Some(largest) = numbers.largest.filter(|largest| *largest < last) {
            self.push(largest + 1, Leaf::Answer(self.beyond(numbers)));
        }
    }

    /// What is done about numbers above the largest that the filter names.
    fn beyond(&self, numbers: &Numbers) -> u32 {
        match numbers.largest {
            Some(_) if self.stub => Action::Errno.answer(Some(ENOSYS)),
            _ => self.default,
        }
    }

    /// From `first` on, which is not below what was pushed before.
    fn push(&mut self, first: u32, leaf: Leaf) {
        if self.ranges.last().is_some_and(|(start, _)| *start == first) {
            self.ranges.pop();
        }
        if self.ranges.last().is_none_or(|(_, last)| *last != leaf) {
            self.ranges.push((first, leaf));
        }
    }

    fn leaf(&mut self, entry: &Entry) -> Leaf {
        if let Some(answer) = entry.always {
            return Leaf::Answer(answer);
        }
        let mut chain = Chain { rules: Vec::new(), otherwise: self.default };
        for (tests, answer) in &entry.rules {
            if tests.is_empty() {
                chain.otherwise = *answer;
                break;
            }
            chain.rules.push((tests.clone(), *answer));
        }
        while chain.rules.last().is_some_and(|(_, answer)| *answer == chain.otherwise) {
            chain.rules.pop();
        }
        if chain.rules.is_empty() {
            return Leaf::Answer(chain.otherwise);
        }
        let known = self.chains.iter().position(|other| *other == chain);
        Leaf::Chain(known.unwrap_or_else(|| {
            self.chains.push(chain);
            self.chains.len() - 1
        }))
    }
}

/// The comparisons that are left of `all` when those that always hold are taken out. `None` where one
/// never holds.
fn tests(all: &[Condition], wide: bool) -> Option<Vec<Test>> {
    let mut tests = Vec::new();
    for condition in all {
        match constant(condition, wide) {
            Some(true) => {}
            Some(false) => return None,
            None => tests.push(test(condition, wide)),
        }
    }
    Some(tests)
}

/// What a value means where arguments have 32 bits: a negative number of 64 bits is one of 32.
fn meant(value: u64, wide: bool) -> u64 {
    let negative = value >> 32 == u64::from(u32::MAX);
    if !wide && negative { value & u64::from(u32::MAX) } else { value }
}

fn constant(condition: &Condition, wide: bool) -> Option<bool> {
    let most = if wide { u64::MAX } else { u64::from(u32::MAX) };
    let value = meant(condition.value, wide);
    match condition.op {
        Op::NotEqual if value > most => Some(true),
        Op::Equal if value > most => Some(false),
        Op::Less if value > most => Some(true),
        Op::Less if value == 0 => Some(false),
        Op::LessOrEqual if value >= most => Some(true),
        Op::GreaterOrEqual if value > most => Some(false),
        Op::GreaterOrEqual if value == 0 => Some(true),
        Op::Greater if value >= most => Some(false),
        Op::MaskedEqual if condition.value & most == 0 => {
            Some(meant(condition.value_two, wide) & condition.value == 0)
        }
        Op::MaskedEqual if meant(condition.value_two, wide) & condition.value > most => Some(false),
        _ => None,
    }
}

fn test(condition: &Condition, wide: bool) -> Test {
    let most = if wide { u64::MAX } else { u64::from(u32::MAX) };
    let value_two = match condition.op {
        Op::MaskedEqual => meant(condition.value_two, wide) & condition.value,
        _ => 0,
    };
    let value = meant(condition.value, wide) & most;
    Test { index: condition.index, op: condition.op, value, value_two, wide }
}
