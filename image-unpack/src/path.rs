//! Names in a layer: cleaned, and what they say of lower layers.

use crate::Error;
use crate::error::{Refusal, show};
use crate::limits::{Limit, Limits};

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// an entry of the layer; empty is the root
    Plain(Vec<u8>),
    /// this path of lower layers is gone
    Whiteout(Vec<u8>),
    /// all that lower layers have in this directory is gone
    Opaque(Vec<u8>),
    /// bookkeeping of AUFS (`.wh..wh.plnk` and the like): nothing to do
    Aufs,
}

/// The parent of a path and its last component; the root has none.
pub(crate) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => Some((&path[..slash], &path[slash + 1..])),
        None if path.is_empty() => None,
        None => Some((b"", path)),
    }
}

/// The directories above a path, from the root down.
pub(crate) fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let inner =
        path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at]);
    std::iter::once(&path[..0]).chain(inner).take(if path.is_empty() { 0 } else { usize::MAX })
}

/// `NAME` below the directory `parent`.
pub(crate) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

/// The components of a name, without empty ones and `.`; `/` in front does not matter.
fn clean(raw: &[u8], dot_dot: Refusal) -> Result<Vec<&[u8]>, Refusal> {
    let mut parts = Vec::new();
    for part in raw.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(dot_dot),
            _ if part.len() > 255 => return Err(Refusal::Component),
            _ => parts.push(part),
        }
    }
    Ok(parts)
}

fn checked<'a>(
    raw: &'a [u8],
    limits: &Limits,
    layer: &str,
    dot_dot: Refusal,
) -> Result<Vec<&'a [u8]>, Error> {
    let refuse = |why| Error::Refused { layer: layer.to_owned(), entry: show(raw), why };
    limits.check_at(Limit::Path, raw.len() as u64, layer, raw)?;
    let parts = clean(raw, dot_dot).map_err(refuse)?;
    limits.check_at(Limit::Depth, parts.len() as u64, layer, raw)?;
    Ok(parts)
}

/// What an entry's name stands for.
pub(crate) fn name(raw: &[u8], limits: &Limits, layer: &str) -> Result<Name, Error> {
    let refuse = |why| Error::Refused { layer: layer.to_owned(), entry: show(raw), why };
    let parts = checked(raw, limits, layer, Refusal::DotDot)?;
    let Some((last, parents)) = parts.split_last() else { return Ok(Name::Plain(Vec::new())) };
    let is_aufs = |part: &&[u8]| part.starts_with(b".wh..wh.");
    if parents.iter().any(is_aufs) {
        return Ok(Name::Aufs);
    }
    if parents.iter().any(|part| part.starts_with(b".wh.")) {
        return Err(refuse(Refusal::BelowWhiteout));
    }
    match last.strip_prefix(b".wh.") {
        None => Ok(Name::Plain(parts.join(&b'/'))),
        Some(b".wh..opq") => Ok(Name::Opaque(parents.join(&b'/'))),
        Some(_) if is_aufs(last) => Ok(Name::Aufs),
        Some(b"") => Err(refuse(Refusal::BareWhiteout)),
        Some(b"." | b"..") => Err(refuse(Refusal::DotWhiteout)),
        Some(gone) => Ok(Name::Whiteout(join(&parents.join(&b'/'), gone))),
    }
}

/// An entry's name, cleaned, where none has a meaning of its own; empty is the root.
pub(crate) fn plain(raw: &[u8], limits: &Limits, what: &str) -> Result<Vec<u8>, Error> {
    Ok(checked(raw, limits, what, Refusal::DotDot)?.join(&b'/'))
}

/// The cleaned target of a hard link, which like a name counts from the layer's root.
pub(crate) fn link_target(
    raw: &[u8],
    entry: &[u8],
    limits: &Limits,
    layer: &str,
) -> Result<Vec<u8>, Error> {
    let refuse = |why| Error::Refused { layer: layer.to_owned(), entry: show(entry), why };
    if raw.is_empty() {
        return Err(refuse(Refusal::EmptyLink));
    }
    let parts = checked(raw, limits, layer, Refusal::LinkDotDot).map_err(|e| match e {
        Error::Refused { why, .. } => refuse(why),
        other => other,
    })?;
    if parts.is_empty() {
        return Err(refuse(Refusal::LinkToDirectory));
    }
    Ok(parts.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(raw: &str) -> Result<Name, Error> {
        name(raw.as_bytes(), &Limits::default(), "test")
    }

    fn why(raw: &str) -> Refusal {
        match read(raw) {
            Err(Error::Refused { why, .. }) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names() {
        for same in ["a/b", "./a/b", "/a/b", "a//b/", "././a/./b/."] {
            assert_eq!(read(same).unwrap(), Name::Plain(b"a/b".to_vec()));
        }
        assert_eq!(read("./").unwrap(), Name::Plain(vec![]));
        assert_eq!(read("a/.wh.b").unwrap(), Name::Whiteout(b"a/b".to_vec()));
        assert_eq!(read(".wh.b").unwrap(), Name::Whiteout(b"b".to_vec()));
        assert_eq!(read("a/.wh..wh..opq").unwrap(), Name::Opaque(b"a".to_vec()));
        assert_eq!(read("./.wh..wh..opq").unwrap(), Name::Opaque(vec![]));
        for aufs in [".wh..wh..plnk", ".wh..wh.plnk/7.4", ".wh..wh.aufs", "a/.wh..wh.orph/"] {
            assert_eq!(read(aufs).unwrap(), Name::Aufs);
        }
        for bad in ["../a", "a/../b", "..", "/.."] {
            assert_eq!(why(bad), Refusal::DotDot);
        }
        assert_eq!(why("a/.wh."), Refusal::BareWhiteout);
        assert_eq!(why("a/.wh..."), Refusal::DotWhiteout);
        assert_eq!(why("a/.wh.."), Refusal::DotWhiteout);
        assert_eq!(why("a/.wh.b/c"), Refusal::BelowWhiteout);
        assert_eq!(why(&"x".repeat(256)), Refusal::Component);
    }

    #[test]
    fn limits() {
        assert!(matches!(read(&"a/".repeat(2048)), Err(Error::Limit { .. })));
        assert!(matches!(read(&"a/".repeat(1025)), Err(Error::Limit { .. })));
        assert!(read(&"a/".repeat(1024)).is_ok());
        // PATH_MAX, without its NUL.
        let longest = format!("{}{}", format!("{}/", "x".repeat(255)).repeat(15), "y".repeat(255));
        assert_eq!((longest.len(), read(&longest).is_ok()), (4095, true));
        assert!(matches!(read(&format!("{longest}/")), Err(Error::Limit { .. })));
    }

    #[test]
    fn parents() {
        assert_eq!(split(b"a/b/c"), Some((&b"a/b"[..], &b"c"[..])));
        assert_eq!((split(b"a"), split(b"")), (Some((&b""[..], &b"a"[..])), None));
        assert_eq!(ancestors(b"a/b/c").collect::<Vec<_>>(), [&b""[..], b"a", b"a/b"]);
        assert_eq!(ancestors(b"").count(), 0);
    }
}
