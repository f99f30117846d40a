//! Extended attributes, each kept once, and sets of them, each kept once.

use std::collections::HashMap;

use crate::error::{Problem, show};
use crate::format::NAME_MAX;

/// Namespaces and their numbers: EROFS_XATTR_INDEX_USER and so on. The names of ACLs are whole.
const SPACES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// The number of `trusted.`.
pub(crate) const TRUSTED: u8 = 4;
/// What overlayfs's own attributes begin with, after `trusted.`.
const OVERLAY: &[u8] = b"overlay.";
/// Overlayfs's mark on a directory that hides what is below it, after `trusted.`.
pub(crate) const OPAQUE: (&[u8], &[u8]) = (b"overlay.opaque", b"y");
/// Most bytes of a file's attributes: 16 bits count units of four, and the mark of an opaque directory may follow.
const TOGETHER_MAX: usize = 261_120;

/// An attribute as EROFS keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Xattr {
    pub(crate) space: u8,
    /// Without the namespace.
    pub(crate) name: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

impl Xattr {
    /// Its name where overlayfs must not take it for one of its own: it strips one `overlay.`.
    pub(crate) fn escaped(&self) -> Option<Vec<u8>> {
        let own = self.space == TRUSTED && self.name.starts_with(OVERLAY);
        own.then(|| [OVERLAY, &self.name].concat())
    }
}

/// The number of a set in a table. 0 is the empty one.
pub(crate) type Set = u32;

/// All attributes of a tree.
#[derive(Debug, Clone)]
pub(crate) struct Xattrs {
    all: Vec<Xattr>,
    numbers: HashMap<Xattr, u32>,
    sets: Vec<Vec<u32>>,
    set_numbers: HashMap<Vec<u32>, Set>,
    bytes: usize,
}

impl Xattrs {
    pub(crate) fn new() -> Xattrs {
        Xattrs {
            all: Vec::new(),
            numbers: HashMap::new(),
            sets: vec![Vec::new()],
            set_numbers: HashMap::from([(Vec::new(), 0)]),
            bytes: 0,
        }
    }

    /// Bytes kept.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The attributes of a set, by their numbers.
    pub(crate) fn set(&self, set: Set) -> &[u32] {
        &self.sets[set as usize]
    }

    pub(crate) fn get(&self, number: u32) -> &Xattr {
        &self.all[number as usize]
    }

    /// The set of these names and values.
    pub(crate) fn intern(&mut self, given: &[(Vec<u8>, Vec<u8>)]) -> Result<Set, Problem> {
        if given.is_empty() {
            return Ok(0);
        }
        let mut read = given.iter().map(|(name, value)| parse(name, value));
        let mut xattrs = read.by_ref().collect::<Result<Vec<_>, _>>()?;
        xattrs.sort_unstable();
        if let Some(twice) = xattrs
            .windows(2)
            .find(|pair| (pair[0].space, &pair[0].name) == (pair[1].space, &pair[1].name))
        {
            return Err(Problem::XattrTwice(shown(&twice[0])));
        }
        let size = |xattr: &Xattr| 4 + OVERLAY.len() + xattr.name.len() + xattr.value.len() + 3;
        let together = xattrs.iter().map(size).sum();
        if together > TOGETHER_MAX {
            return Err(Problem::Xattrs(together));
        }
        Ok(self.put(xattrs))
    }

    /// The set of another table here.
    pub(crate) fn import(&mut self, other: &Xattrs, set: Set) -> Set {
        if set == 0 {
            return 0;
        }
        self.put(other.set(set).iter().map(|number| other.get(*number).clone()).collect())
    }

    fn put(&mut self, xattrs: Vec<Xattr>) -> Set {
        let numbers: Vec<u32> = xattrs.into_iter().map(|xattr| self.number(xattr)).collect();
        if let Some(set) = self.set_numbers.get(&numbers) {
            return *set;
        }
        let set = self.sets.len() as Set;
        self.bytes += 8 * numbers.len();
        self.sets.push(numbers.clone());
        self.set_numbers.insert(numbers, set);
        set
    }

    fn number(&mut self, xattr: Xattr) -> u32 {
        if let Some(number) = self.numbers.get(&xattr) {
            return *number;
        }
        let number = self.all.len() as u32;
        self.bytes += 2 * (xattr.name.len() + xattr.value.len());
        self.all.push(xattr.clone());
        self.numbers.insert(xattr, number);
        number
    }
}

fn parse(name: &[u8], value: &[u8]) -> Result<Xattr, Problem> {
    let unknown = || Problem::XattrName(show(name));
    let (space, rest) = SPACES
        .iter()
        .find_map(|(prefix, space)| Some((*space, name.strip_prefix(*prefix)?)))
        .ok_or_else(unknown)?;
    let is_acl = matches!(space, 2 | 3);
    let escape = if space == TRUSTED && rest.starts_with(OVERLAY) { OVERLAY.len() } else { 0 };
    if rest.is_empty() != is_acl || rest.len() + escape > NAME_MAX || rest.contains(&0) {
        return Err(unknown());
    }
    if u16::try_from(value.len()).is_err() {
        return Err(Problem::XattrValue(show(name)));
    }
    Ok(Xattr { space, name: rest.to_vec(), value: value.to_vec() })
}

fn shown(xattr: &Xattr) -> String {
    let prefix =
        SPACES.iter().find(|(_, space)| *space == xattr.space).map_or(&b""[..], |row| row.0);
    show(&[prefix, &xattr.name].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &[u8]) -> (Vec<u8>, Vec<u8>) {
        (name.as_bytes().to_vec(), value.to_vec())
    }

    #[test]
    fn sets_are_kept_once_in_any_order() {
        let mut table = Xattrs::new();
        let (a, b) = (pair("user.a", b"1"), pair("security.capability", b"x"));
        let set = table.intern(&[a.clone(), b.clone()]).unwrap();
        assert_eq!(table.intern(&[b, a.clone()]), Ok(set));
        assert_ne!(table.intern(&[a]), Ok(set));
        assert_eq!(table.intern(&[]), Ok(0));
        assert_eq!(table.all.len(), 2);
    }

    #[test]
    fn what_erofs_cannot_hold_is_refused() {
        let mut table = Xattrs::new();
        let mut why = |given: &[_]| table.intern(given).expect_err("refused");
        for name in ["", "user.", "user", "system.nfs4_acl", "system.posix_acl_accessx", "btrfs.a"]
        {
            assert_eq!(why(&[pair(name, b"")]), Problem::XattrName(show(name.as_bytes())));
        }
        let long = format!("user.{}", "x".repeat(256));
        assert!(matches!(why(&[pair(&long, b"")]), Problem::XattrName(_)));
        let long = format!("trusted.overlay.{}", "x".repeat(240));
        assert!(matches!(why(&[pair(&long, b"")]), Problem::XattrName(_)));
        assert!(matches!(why(&[pair("user.a", &[0; 65536])]), Problem::XattrValue(_)));
        let twice = [pair("user.a", b"1"), pair("user.a", b"2")];
        assert_eq!(why(&twice), Problem::XattrTwice("user.a".to_owned()));
        let many: Vec<_> = (0..5).map(|n| pair(&format!("user.{n}"), &[0; 60_000])).collect();
        assert!(matches!(why(&many), Problem::Xattrs(300_000..)));
    }
}
