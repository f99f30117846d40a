//! Short links: `l/<26 characters>` leads to a layer's directory, or to the mount of an image's index.
//!
//! The option string of an overlay mount is one page, and a layer's path has over 80 characters; by
//! its link and relative to the store it has 28. The name is the first 130 bits of the chain id, or the image's, in
//! base32, so it needs no bookkeeping: made again after a crash it is the same.

use image_unpack::Digest;
use rustix::io::Errno;

use crate::Error;
use crate::dir::Dir;

/// The 26 upper-case base32 characters (RFC 4648) of a chain id or an image's id.
pub(crate) fn name(chain_id: &Digest) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let bytes = chain_id.as_bytes();
    let digit = |bit: usize| {
        let pair = u16::from_be_bytes([bytes[bit / 8], bytes[bit / 8 + 1]]);
        char::from(ALPHABET[usize::from(pair >> (11 - bit % 8) & 31)])
    };
    (0..26).map(|index| digit(index * 5)).collect()
}

/// The path of a link, relative to the store's root.
pub(crate) fn path(chain_id: &Digest) -> String {
    format!("l/{}", name(chain_id))
}

/// Where the link to a layer leads.
pub(crate) fn to(chain_id: &Digest) -> String {
    format!("../layers/{}/diff", chain_id.hex())
}

/// Where the link `name` leads now; `None` where there is none.
pub(crate) fn target(links: &Dir, name: &str) -> Result<Option<String>, Error> {
    match rustix::fs::readlinkat(links, name, Vec::new()) {
        Ok(found) => Ok(Some(found.to_string_lossy().into_owned())),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(links.failed("read the link", name, errno)),
    }
}

/// Where the link to an image's mount leads.
pub(crate) fn to_mount(image: &Digest) -> String {
    format!("../mounts/{}", image.hex())
}

/// Makes the link to a layer, or checks the one that is there.
pub(crate) fn make(links: &Dir, chain_id: &Digest) -> Result<(), Error> {
    make_to(links, &name(chain_id), to(chain_id))
}

/// Makes the link to an image's mount, or checks the one that is there.
pub(crate) fn make_to_mount(links: &Dir, image: &Digest) -> Result<(), Error> {
    make_to(links, &name(image), to_mount(image))
}

fn make_to(links: &Dir, name: &str, target: String) -> Result<(), Error> {
    match rustix::fs::symlinkat(&target, links, name) {
        Ok(()) => return Ok(()),
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(links.failed("make the link", name, errno)),
    }
    match self::target(links, name)? {
        Some(found) if found == target => Ok(()),
        None => Err(links.failed("read the link", name, Errno::NOENT)),
        Some(found) => Err(Error::Link { path: links.path().join(name), found, expected: target }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_base32_of_the_first_bits() {
        // `printf %s e3b0c442… | xxd -r -p | base32 | cut -c-26`
        assert_eq!(name(&Digest::of(b"")), "4OYMIQUY7QOBJGX36TEJS35ZEQ");
    }

    #[test]
    fn a_link_is_made_once_and_never_moved() {
        let temp = tempfile::tempdir().unwrap();
        let links = Dir::open(temp.path()).unwrap();
        let chain = Digest::of(b"layer");
        make(&links, &chain).unwrap();
        make(&links, &chain).unwrap();
        let path = temp.path().join(name(&chain));
        let target = std::fs::read_link(&path).unwrap();
        assert_eq!(target.to_str().unwrap(), format!("../layers/{}/diff", chain.hex()));
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc", &path).unwrap();
        let error = make(&links, &chain).unwrap_err().to_string();
        assert!(error.contains("leads to /etc"), "{error}");
    }
}
