//! Names and ids of containers.

use crate::Error;
use crate::error::shorten;

/// Longest name: it is a file's in `names/`.
const NAME_MAX: usize = 255;

const ADJECTIVES: [&str; 48] = [
    "agile", "amber", "brave", "bright", "brisk", "calm", "clever", "cosmic", "crisp", "curious",
    "daring", "deft", "eager", "elegant", "fearless", "frosty", "gentle", "glad", "golden",
    "happy", "hardy", "honest", "jolly", "keen", "kind", "lively", "loyal", "lucid", "mellow",
    "merry", "modest", "neat", "noble", "patient", "placid", "quick", "quiet", "rapid", "serene",
    "sharp", "silent", "sleek", "steady", "sunny", "swift", "tidy", "vivid", "witty",
];

/// Of people in mathematics, the sciences and computing.
const SURNAMES: [&str; 64] = [
    "abel",
    "archimedes",
    "babbage",
    "banach",
    "bardeen",
    "bell",
    "bohr",
    "boole",
    "born",
    "cantor",
    "cerf",
    "church",
    "curie",
    "darwin",
    "dijkstra",
    "dirac",
    "einstein",
    "engelbart",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "franklin",
    "galileo",
    "galois",
    "gauss",
    "germain",
    "goedel",
    "hamilton",
    "hamming",
    "herschel",
    "hilbert",
    "hopper",
    "hypatia",
    "jacobi",
    "joliot",
    "kepler",
    "kowalevski",
    "lamarr",
    "leibniz",
    "liskov",
    "lovelace",
    "maxwell",
    "mcclintock",
    "meitner",
    "mirzakhani",
    "neumann",
    "newton",
    "noether",
    "pascal",
    "perlman",
    "planck",
    "ramanujan",
    "riemann",
    "ritchie",
    "shannon",
    "sinclair",
    "tarski",
    "tesla",
    "torvalds",
    "turing",
    "wiles",
    "yalow",
];

/// A new id: 64 hexadecimal digits, random (getrandom(2)).
///
/// # Errors
/// The kernel has no random numbers.
pub(crate) fn id() -> Result<String, Error> {
    let mut bytes = [0; 32];
    fill(&mut bytes)?;
    Ok(hex(&bytes))
}

/// A made-up name, `adjective_surname`; from the third attempt on with a number, since those without
/// may all be in use.
///
/// # Errors
/// The kernel has no random numbers.
pub(crate) fn random(attempt: u32) -> Result<String, Error> {
    let mut bytes = [0; 4];
    fill(&mut bytes)?;
    // The lists are short, so that some come up a little more often than others does not matter.
    let adjective = ADJECTIVES[usize::from(bytes[0]) % ADJECTIVES.len()];
    let surname = SURNAMES[usize::from(bytes[1]) % SURNAMES.len()];
    Ok(match attempt {
        0 | 1 => format!("{adjective}_{surname}"),
        _ => format!("{adjective}_{surname}{}", u16::from_le_bytes([bytes[2], bytes[3]])),
    })
}

/// Checks a name that a user chose. As it may be a file's name, it is never `.`, `..` or a path.
///
/// # Errors
/// [`Error::Name`]: which rule it breaks.
pub(crate) fn check(name: &str) -> Result<(), Error> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let why = if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        "it has to start with a letter or digit"
    } else if name.len() < 2 {
        "it needs two characters or more"
    } else if name.len() > NAME_MAX {
        "it is longer than 255 characters"
    } else if !name.bytes().all(fine) {
        "it has other characters than letters, digits, '_', '.' and '-'"
    } else {
        return Ok(());
    };
    Err(Error::Name { name: shorten(name), why })
}

fn fill(bytes: &mut [u8]) -> Result<(), Error> {
    let failed = |errno| Error::system("get random numbers from", "getrandom(2)", errno);
    let mut filled = 0;
    while filled < bytes.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled +=
            rustix::io::retry_on_intr(|| rustix::rand::getrandom(&mut bytes[filled..], flags))
                .map_err(failed)?;
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits =
        |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from(DIGITS[usize::from(digit)]));
    bytes.iter().flat_map(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_64_digits_and_new() {
        let (a, b) = (id().unwrap(), id().unwrap());
        assert!(
            a.len() == 64 && a.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
        );
        assert_ne!(a, b);
        assert_eq!(hex(&[0, 0x5a, 0xff]), "005aff");
    }

    #[test]
    fn a_random_name_is_a_valid_one() {
        for attempt in 0..100 {
            let name = random(attempt).unwrap();
            check(&name).unwrap();
            assert_eq!(name.split('_').count(), 2, "{name}");
        }
        for list in [&ADJECTIVES[..], &SURNAMES[..]] {
            assert!(list.is_sorted(), "sorted, so that nothing is in it twice");
            assert!(list.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase())));
        }
    }

    #[test]
    fn names_are_checked() {
        for good in ["nginx", "a1", "0x", "A.b-c_d", &"x".repeat(255)] {
            check(good).unwrap();
        }
        for bad in [
            "",
            "a",
            ".",
            "..",
            "-x",
            "_x",
            ".x",
            "a/b",
            "a b",
            "a\n",
            "é1",
            "aé",
            "a\0",
            &"x".repeat(256),
        ] {
            let error = check(bad).unwrap_err().to_string();
            assert!(error.starts_with("invalid container name"), "{bad:?}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_checked_name_is_one_component_of_a_path(name in "[-a-z./_ ]{0,12}") {
            if check(&name).is_ok() {
                let path = std::path::Path::new(&name);
                proptest::prop_assert_eq!(path.components().count(), 1);
                proptest::prop_assert_eq!(path.file_name(), Some(name.as_ref()));
            }
        }
    }
}
