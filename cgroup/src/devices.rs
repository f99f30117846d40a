//! Which devices a group's processes may use: v1's list of exceptions, v2's program.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use crate::dir::Dir;
use crate::limits::{Access, DeviceKind, DeviceRule};
use crate::{Error, Group};

const FIELD: &str = "devices";

pub(crate) fn apply(group: &Group, rules: &[DeviceRule]) -> Result<(), Error> {
    if let Some(dir) = group.legacy("devices") {
        return legacy(dir, rules);
    }
    let Some(dir) = group.unified() else {
        return Err(Error::NoController {
            field: FIELD.to_owned(),
            controller: FIELD.to_owned(),
            reason: "neither v1's devices hierarchy nor v2 is mounted; mount one".to_owned(),
        });
    };
    let restrict = || sys::bpf::restrict_devices(dir.open()?.as_fd(), rules);
    restrict().map_err(|errno| {
        Error::io("attaching the program that limits devices to the cgroup", dir.path())(
            errno.into(),
        )
    })
}

/// Devices of one pattern; no number is every number.
type Pattern = (DeviceKind, Option<u32>, Option<u32>);

/// What v1 keeps: allow or deny everything, and exceptions from it (cgroup-v1/devices.rst).
#[derive(Debug, PartialEq)]
struct List {
    allow: bool,
    exceptions: BTreeMap<Pattern, Access>,
}

impl List {
    /// Everything, or nothing.
    fn all(allow: bool) -> List {
        List { allow, exceptions: BTreeMap::new() }
    }

    /// What comes of rules of which the last one decides. The index of one that takes a part out of an
    /// exception, which v1 cannot keep.
    fn of(rules: &[DeviceRule]) -> Result<List, usize> {
        let mut list = List::all(false);
        for (index, rule) in rules.iter().enumerate() {
            if rule.kind == DeviceKind::All {
                if rule.access.is_all() {
                    list = List::all(rule.allow);
                    continue;
                }
                list.add(rule.allow, (DeviceKind::Block, None, None), rule.access, index)?;
                list.add(rule.allow, (DeviceKind::Char, None, None), rule.access, index)?;
            } else {
                list.add(rule.allow, (rule.kind, rule.major, rule.minor), rule.access, index)?;
            }
        }
        Ok(list)
    }

    fn add(&mut self, allow: bool, to: Pattern, access: Access, index: usize) -> Result<(), usize> {
        if allow != self.allow {
            *self.exceptions.entry(to).or_insert(Access::empty()) |= access;
            return Ok(());
        }
        for (pattern, excepted) in &mut self.exceptions {
            if covers(to, *pattern) {
                *excepted -= access;
            } else if overlaps(to, *pattern) && excepted.intersects(access) {
                return Err(index);
            }
        }
        self.exceptions.retain(|_, access| !access.is_empty());
        Ok(())
    }

    /// Reads devices.list. A list that allows everything does not tell its exceptions.
    fn parse(text: &str) -> Option<List> {
        let mut list = List::all(false);
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
            let kind = match kind {
                "a" => return Some(List::all(true)),
                "b" => DeviceKind::Block,
                "c" => DeviceKind::Char,
                _ => return None,
            };
            let (major, minor) = numbers.split_once(':')?;
            let number = |word: &str| match word {
                "*" => Some(None),
                word => word.parse().ok().map(Some),
            };
            let mut of = Access::empty();
            for letter in access.chars() {
                of |= LETTERS.iter().find(|(known, _)| *known == letter)?.1;
            }
            *list.exceptions.entry((kind, number(major)?, number(minor)?)).or_insert(of) |= of;
        }
        Some(list)
    }
}

const LETTERS: [(char, Access); 3] =
    [('r', Access::READ), ('w', Access::WRITE), ('m', Access::MKNOD)];

fn covers(wide: Pattern, narrow: Pattern) -> bool {
    let number = |wide: Option<u32>, narrow: Option<u32>| wide.is_none() || wide == narrow;
    wide.0 == narrow.0 && number(wide.1, narrow.1) && number(wide.2, narrow.2)
}

fn overlaps(a: Pattern, b: Pattern) -> bool {
    let number = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
    a.0 == b.0 && number(a.1, b.1) && number(a.2, b.2)
}

/// `c 1:* rwm`, as v1 reads it.
fn line((kind, major, minor): Pattern, access: Access) -> String {
    let kind = match kind {
        DeviceKind::All => 'a',
        DeviceKind::Block => 'b',
        DeviceKind::Char => 'c',
    };
    let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
    let letters = LETTERS.iter().filter(|(_, bit)| access.contains(*bit)).map(|(letter, _)| letter);
    format!("{kind} {}:{} {}", number(major), number(minor), letters.collect::<String>())
}

/// Writes what differs from what is there, so that a group in use never loses what it keeps.
fn legacy(dir: &Dir, rules: &[DeviceRule]) -> Result<(), Error> {
    let wanted = List::of(rules).map_err(|index| {
        let reason = "it takes a part out of what a rule before it says, which cgroup v1 cannot keep; name \
                      the devices one by one";
        Error::field(format!("{FIELD}[{index}]"), reason)
    })?;
    let text = dir.read("devices.list")?;
    let mut now = List::parse(&text).ok_or_else(|| Error::Content {
        path: dir.file("devices.list"),
        text,
        expected: "a list of devices (cgroup-v1/devices.rst)",
    })?;
    let [allow, deny] = ["devices.allow", "devices.deny"];
    if wanted.allow || now.allow {
        dir.set(FIELD, if wanted.allow { allow } else { deny }, "a")?;
        now = List::all(wanted.allow);
    }
    let (add, take) = if wanted.allow { (deny, allow) } else { (allow, deny) };
    let missing = |from: &List, pattern: &Pattern, access: Access| {
        access - from.exceptions.get(pattern).copied().unwrap_or(Access::empty())
    };
    for (source, other, file) in [(&wanted, &now, add), (&now, &wanted, take)] {
        let lines = source.exceptions.iter().filter_map(|(pattern, access)| {
            let access = missing(other, pattern, *access);
            (!access.is_empty()).then(|| line(*pattern, access))
        });
        dir.set_each(FIELD, file, lines)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(allow: bool, major: Option<u32>, minor: Option<u32>, access: Access) -> DeviceRule {
        DeviceRule { allow, kind: DeviceKind::Char, major, minor, access }
    }

    fn lines(list: &List) -> Vec<String> {
        list.exceptions.iter().map(|(pattern, access)| line(*pattern, *access)).collect()
    }

    #[test]
    fn rules_become_exceptions() {
        let all = Access::all();
        let rules = [
            DeviceRule::all(false, all),
            DeviceRule::all(true, Access::MKNOD),
            rule(true, Some(1), Some(3), all),
            rule(true, Some(5), None, Access::READ),
            rule(true, Some(5), None, Access::WRITE),
            rule(false, Some(1), None, Access::WRITE),
        ];
        let list = List::of(&rules).unwrap();
        assert!(!list.allow);
        assert_eq!(lines(&list), ["b *:* m", "c *:* m", "c 1:3 rm", "c 5:* rw"]);
        let denied = [DeviceRule::all(true, all), rule(false, Some(1), Some(3), Access::WRITE)];
        let list = List::of(&denied).unwrap();
        assert_eq!((list.allow, lines(&list)), (true, vec!["c 1:3 w".to_owned()]));
    }

    #[test]
    fn a_hole_in_an_exception_is_refused() {
        let hole = [
            rule(true, Some(1), None, Access::all()),
            rule(false, Some(1), Some(3), Access::WRITE),
        ];
        assert_eq!(List::of(&hole), Err(1));
        let other =
            [rule(true, Some(1), None, Access::READ), rule(false, Some(1), Some(3), Access::WRITE)];
        assert!(List::of(&other).is_ok());
    }

    #[test]
    fn the_kernels_list_is_read() {
        let list = List::parse("c 1:3 rwm\nb *:* m\nc 5:* r\n").unwrap();
        assert_eq!(lines(&list), ["b *:* m", "c 1:3 rwm", "c 5:* r"]);
        assert_eq!(List::parse("a *:* rwm\n"), Some(List::all(true)));
        for wrong in ["c 1:3", "c 1 rwm", "x 1:3 rwm", "c 1:3 q", "c x:3 r"] {
            assert_eq!(List::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "([abcx] ([0-9*]{1,4}:?){0,2} [rwmx]{0,4}\n?){0,3}") {
            let _ = List::parse(&text);
        }

        /// What the list says of one access to one device is what the last rule for it says.
        #[test]
        fn the_last_rule_decides(
            rules in prop::collection::vec(
                (any::<bool>(), prop::option::of(0_u32..2), prop::option::of(0_u32..2), 1_u8..8),
                0..6,
            ),
        ) {
            let rules: Vec<DeviceRule> = rules
                .into_iter()
                .map(|(allow, major, minor, bits)| {
                    rule(allow, major, minor, Access::from_bits_truncate(bits))
                })
                .collect();
            let Ok(list) = List::of(&rules) else { return Ok(()) };
            for (major, minor, access) in (0..2).flat_map(|major| {
                (0..2).flat_map(move |minor| Access::all().iter().map(move |one| (major, minor, one)))
            }) {
                let device = (DeviceKind::Char, Some(major), Some(minor));
                let matches = |rule: &&DeviceRule| {
                    covers((rule.kind, rule.major, rule.minor), device) && rule.access.contains(access)
                };
                let expected = rules.iter().rev().find(matches).is_some_and(|rule| rule.allow);
                let excepted = list
                    .exceptions
                    .iter()
                    .any(|(pattern, of)| covers(*pattern, device) && of.contains(access));
                prop_assert_eq!(list.allow != excepted, expected);
            }
        }
    }
}
