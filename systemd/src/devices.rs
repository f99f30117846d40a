//! Rules for devices as systemd's `DevicePolicy` and `DeviceAllow` (systemd.resource-control(5)).

use cgroup::limits::{Access, DeviceKind, DeviceRule};

use crate::Property;

/// What is allowed of some devices of one kind.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    kind: DeviceKind,
    major: Option<u32>,
    minor: Option<u32>,
    access: Access,
}

impl Entry {
    /// Whether `rule` is for every device that this is for.
    fn is_within(&self, rule: &DeviceRule) -> bool {
        let covers = |rule: Option<u32>, own| rule.is_none() || rule == own;
        self.kind == rule.kind && covers(rule.major, self.major) && covers(rule.minor, self.minor)
    }

    /// Whether there is a device that both are for.
    fn meets(&self, rule: &DeviceRule) -> bool {
        let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.kind == rule.kind && meet(rule.major, self.major) && meet(rule.minor, self.minor)
    }

    /// As systemd names these devices; none where it has no name for them.
    fn name(&self) -> Option<String> {
        let kind = if self.kind == DeviceKind::Block { "block" } else { "char" };
        match (self.major, self.minor) {
            (None, None) => Some(format!("{kind}-*")),
            (Some(major), None) => Some(format!("{kind}-{major}")),
            (Some(major), Some(minor)) => Some(format!("/dev/{kind}/{major}:{minor}")),
            (None, Some(_)) => None,
        }
    }
}

/// The rules as properties. systemd can only allow; what it cannot say is denied: so, when it writes its list anew
/// (`systemctl daemon-reload`), no device becomes open that the rules close.
pub(crate) fn properties(rules: &[DeviceRule]) -> [Property; 3] {
    let none = Vec::<(String, String)>::new();
    let (policy, list) = match allowed(rules) {
        None => ("auto", Vec::new()),
        Some(entries) => ("strict", entries),
    };
    let letters = |access: Access| {
        let letters = [(Access::READ, 'r'), (Access::WRITE, 'w'), (Access::MKNOD, 'm')];
        letters.iter().filter(|(one, _)| access.contains(*one)).map(|(_, letter)| *letter).collect()
    };
    let list = list.into_iter().filter(|entry| !entry.access.is_empty());
    let list: Vec<(String, String)> =
        list.filter_map(|entry| Some((entry.name()?, letters(entry.access)))).collect();
    [
        // An empty list takes away what a unit of this name has; the next one is added.
        ("DeviceAllow".to_owned(), none.into()),
        ("DevicePolicy".to_owned(), policy.into()),
        ("DeviceAllow".to_owned(), list.into()),
    ]
}

/// What is allowed in the end; none for everything.
fn allowed(rules: &[DeviceRule]) -> Option<Vec<Entry>> {
    let kinds = [DeviceKind::Char, DeviceKind::Block];
    let every = |access| kinds.map(|kind| Entry { kind, major: None, minor: None, access });
    let mut all = false;
    let mut entries: Vec<Entry> = Vec::new();
    for rule in rules {
        let whole = rule.kind == DeviceKind::All;
        match (rule.allow, whole) {
            (true, true) if rule.access == Access::all() => all = true,
            (true, _) if all => {}
            (true, true) => entries.extend(every(rule.access)),
            (true, false) => {
                let DeviceRule { kind, major, minor, access, .. } = *rule;
                entries.push(Entry { kind, major, minor, access });
            }
            // All but some is what systemd cannot say; but for the rest of an access it can.
            (false, true) => {
                if std::mem::take(&mut all) {
                    entries = every(Access::all()).to_vec();
                }
                entries.iter_mut().for_each(|entry| entry.access -= rule.access);
            }
            (false, false) => {
                if std::mem::take(&mut all) {
                    entries.clear();
                }
                for entry in &mut entries {
                    if entry.is_within(rule) || entry.meets(rule) {
                        entry.access -= rule.access;
                    }
                }
            }
        }
    }
    (!all).then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rules: &[DeviceRule]) -> (String, Vec<(String, String)>) {
        let [(_, clear), (_, policy), (name, list)] = properties(rules);
        assert_eq!(
            (clear.value_signature().to_string(), &*name),
            ("a(ss)".to_owned(), "DeviceAllow")
        );
        (policy.try_into().unwrap(), list.try_into().unwrap())
    }

    fn rule(
        allow: bool,
        kind: DeviceKind,
        numbers: [Option<u32>; 2],
        access: Access,
    ) -> DeviceRule {
        DeviceRule { allow, kind, major: numbers[0], minor: numbers[1], access }
    }

    #[test]
    fn rules_are_lists() {
        let owned = |list: &[(&str, &str)]| -> Vec<(String, String)> {
            list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
        };
        let everything = DeviceRule::all(true, Access::all());
        let nothing = DeviceRule::all(false, Access::all());
        let mknod = DeviceRule::all(true, Access::MKNOD);
        let (null, pts) = (DeviceRule::char(1, Some(3)), DeviceRule::char(136, None));
        let disk = rule(true, DeviceKind::Block, [Some(8), Some(0)], Access::READ);
        assert_eq!(of(&[everything]), ("auto".to_owned(), vec![]));
        assert_eq!(of(&[nothing, everything]).0, "auto");
        let list = [
            ("char-*", "m"),
            ("block-*", "m"),
            ("/dev/char/1:3", "rwm"),
            ("char-136", "rwm"),
            ("/dev/block/8:0", "r"),
        ];
        assert_eq!(
            of(&[everything, nothing, mknod, null, pts, disk]),
            ("strict".to_owned(), owned(&list))
        );
        assert_eq!(of(&[]), ("strict".to_owned(), vec![]));
    }

    #[test]
    fn what_systemd_cannot_say_is_denied() {
        let everything = DeviceRule::all(true, Access::all());
        let no_disk = rule(false, DeviceKind::Block, [Some(8), None], Access::all());
        assert_eq!(of(&[everything, no_disk]), ("strict".to_owned(), vec![]));
        let all_disks = rule(true, DeviceKind::Block, [None, None], Access::all());
        let null = DeviceRule::char(1, Some(3));
        let left = vec![("/dev/char/1:3".to_owned(), "rwm".to_owned())];
        assert_eq!(of(&[all_disks, null, no_disk]), ("strict".to_owned(), left));
        let minor = rule(true, DeviceKind::Char, [None, Some(3)], Access::all());
        assert_eq!(of(&[minor]), ("strict".to_owned(), vec![]));
    }
}
