//! Names of images, as Docker writes them.

use image_unpack::Digest;

use crate::Error;

/// Longest name, bytes, as in Docker's reference grammar.
const NAME_MAX: usize = 255;
/// Longest tag, bytes.
const TAG_MAX: usize = 128;

/// Checks `name[:tag]` and adds `:latest` where there is no tag.
pub(crate) fn complete(reference: &str) -> Result<String, Error> {
    let bad = |why| Error::BadReference { reference: shorten(reference), why };
    let (name, tag) = split(reference);
    if name.is_empty() {
        return Err(bad("the name is empty"));
    }
    if name.len() > NAME_MAX {
        return Err(bad("the name is longer than 255 characters"));
    }
    for (index, part) in name.split('/').enumerate() {
        // Only the registry in front has a port.
        let part = match part.split_once(':') {
            Some((host, port)) if index == 0 && name.contains('/') => {
                if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(bad("the registry's port is no number"));
                }
                host
            }
            _ => part,
        };
        let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if !part.bytes().all(fine) {
            return Err(bad("a name has letters, digits, '.', '_', '-' and '/' only"));
        }
        if !part.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(bad("each part of a name starts with a letter or digit"));
        }
    }
    let Some(tag) = tag else { return Ok(format!("{name}:latest")) };
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if tag.is_empty() || tag.len() > TAG_MAX {
        return Err(bad("a tag has 1 to 128 characters"));
    }
    if !tag.bytes().all(fine) || tag.starts_with(['.', '-']) {
        return Err(bad(
            "a tag has letters, digits, '.', '_' and '-', and starts with neither '.' nor '-'",
        ));
    }
    Ok(reference.to_owned())
}

/// The name, and the tag if there is one, of `name[:tag]`: a colon after the last slash starts it.
pub fn split(reference: &str) -> (&str, Option<&str>) {
    let base = reference.rfind('/').map_or(0, |slash| slash + 1);
    match reference[base..].find(':') {
        Some(colon) => (&reference[..base + colon], Some(&reference[base + colon + 1..])),
        None => (reference, None),
    }
}

/// Whether a name of the store's is one with a digest, and not one with a tag.
pub(crate) fn has_digest(name: &str) -> bool {
    name.contains('@')
}

/// The names under which a store may have what the user means by `reference`, best first.
///
/// Docker's own registry may be left out and may be written; `localhost/`, which Podman puts before
/// what it builds, may be left out.
pub(crate) fn candidates(reference: &str) -> Result<Vec<String>, Error> {
    let full = complete(reference)?;
    let bare = ["docker.io/library/", "index.docker.io/library/", "docker.io/", "index.docker.io/"]
        .iter()
        .find_map(|prefix| full.strip_prefix(prefix))
        .unwrap_or(&full)
        .to_owned();
    let mut all = vec![full.clone(), bare.clone()];
    all.extend([format!("docker.io/library/{bare}"), format!("docker.io/{bare}")]);
    if bare == full {
        all.push(format!("localhost/{bare}"));
    }
    Ok(all)
}

/// The names with this digest under which a store may have what the user means by `name`, with a tag or without.
pub(crate) fn digest_candidates(name: &str, digest: &Digest) -> Vec<String> {
    let names = candidates(split(name).0).unwrap_or_default();
    names.iter().map(|name| format!("{}@{digest}", split(name).0)).collect()
}

/// Up to five of `names` that are like `reference`, or else the first five.
pub(crate) fn near<'a>(
    reference: &str,
    names: impl Iterator<Item = &'a str> + Clone,
) -> Vec<String> {
    let wanted = last(reference);
    let like = |name: &&str| {
        let name = last(name);
        // One within the other counts from three characters on: shorter ones are in everything.
        let within = |a: &str, b: &str| b.len() > 2 && a.contains(b);
        within(name, wanted) || within(wanted, name) || distance(name, wanted) <= 2
    };
    let found: Vec<String> = names.clone().filter(like).take(5).map(str::to_owned).collect();
    if found.is_empty() { names.take(5).map(str::to_owned).collect() } else { found }
}

/// The last part of a name, without its tag, cut to what is worth comparing.
fn last(reference: &str) -> &str {
    let name = split(reference).0;
    let name = name.rsplit('/').next().unwrap_or(name);
    name.char_indices().nth(64).map_or(name, |(end, _)| &name[..end])
}

/// How many letters must be put in, taken out or changed (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Text from outside, cut for a message.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().take(256).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_and_checked() {
        for (given, expected) in [
            ("nginx", "nginx:latest"),
            ("nginx:1.27", "nginx:1.27"),
            ("a/b/c", "a/b/c:latest"),
            ("registry:5000/x", "registry:5000/x:latest"),
            ("registry:5000/x:y", "registry:5000/x:y"),
        ] {
            assert_eq!(complete(given).unwrap(), expected);
        }
        let long = format!("x:{}", "y".repeat(129));
        for bad in [
            "", ":", "x:", ":x", "/", "a//b", "a/", "../x", "x:-y", "x y", "x\n", "a:b/c", "é",
            "x:y:z", &long,
        ] {
            assert!(complete(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_registry_may_be_left_out() {
        assert!(candidates("x").unwrap().contains(&"localhost/x:latest".to_owned()));
        assert!(candidates("x").unwrap().contains(&"docker.io/library/x:latest".to_owned()));
        assert!(candidates("docker.io/library/x").unwrap().contains(&"x:latest".to_owned()));
        assert!(!candidates("localhost/x").unwrap().contains(&"x:latest".to_owned()));
        assert!(!candidates("docker.io/x").unwrap().contains(&"localhost/x:latest".to_owned()));
    }

    #[test]
    fn near_names_are_found() {
        let names = ["nginx:latest", "localhost/httpd:2", "busybox:latest"];
        assert_eq!(near("ngnix", names.into_iter()), ["nginx:latest"]);
        assert_eq!(near("http", names.into_iter()), ["localhost/httpd:2"]);
        assert_eq!(near("zzzzzzzz", names.into_iter()).len(), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
