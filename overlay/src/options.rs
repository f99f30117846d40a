//! The option string, and how overlayfs wants paths escaped in it.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::{Error, Overlay};

/// Bytes of options that mount(2) takes, with the NUL at their end.
pub(crate) const PAGE: usize = 4096;
/// Bytes of one value that fsconfig(2) takes, without its NUL.
pub(crate) const VALUE: usize = 255;

/// What is set beside the paths; see the crate's documentation.
pub(crate) const FIXED: [(&CStr, &CStr); 2] = [(c"metacopy", c"off"), (c"index", c"off")];
/// Not with `userxattr`, which implies the stricter `nofollow` and refuses to be told otherwise.
pub(crate) const REDIRECT: (&CStr, &CStr) = (c"redirect_dir", c"off");

/// `path` with a backslash before each of `special` and before backslashes.
pub(crate) fn escape(path: &Path, special: &[u8], out: &mut Vec<u8>) {
    for &byte in path.as_os_str().as_bytes() {
        if byte == b'\\' || special.contains(&byte) {
            out.push(b'\\');
        }
        out.push(byte);
    }
}

impl Overlay {
    /// The options that name the layers, each path given to `name` first.
    pub(crate) fn shown(&self, name: impl Fn(&Path) -> std::path::PathBuf) -> Vec<u8> {
        let mut out = b"lowerdir=".to_vec();
        for (index, lower) in self.lowers.iter().enumerate() {
            if index > 0 {
                out.push(b':');
            }
            escape(&name(lower), b":,", &mut out);
        }
        for (option, path) in [(",upperdir=", &self.upper), (",workdir=", &self.work)] {
            if let Some(path) = path {
                out.extend_from_slice(option.as_bytes());
                escape(&name(path), b",", &mut out);
            }
        }
        out
    }

    /// The whole option string of mount(2).
    pub(crate) fn string(
        &self,
        name: impl Fn(&Path) -> std::path::PathBuf,
    ) -> Result<CString, Error> {
        let mut out = self.shown(name);
        for (key, value) in self.fixed() {
            out.push(b',');
            out.extend_from_slice(key.to_bytes());
            out.push(b'=');
            out.extend_from_slice(value.to_bytes());
        }
        for flag in self.flags() {
            out.push(b',');
            out.extend_from_slice(flag.to_bytes());
        }
        CString::new(out).map_err(|_| self.nul())
    }

    pub(crate) fn fixed(&self) -> impl Iterator<Item = (&'static CStr, &'static CStr)> {
        FIXED.into_iter().chain((!self.userxattr).then_some(REDIRECT))
    }

    pub(crate) fn flags(&self) -> impl Iterator<Item = &'static CStr> {
        let volatile = self.volatile.then_some(c"volatile");
        let userxattr = self.userxattr.then_some(c"userxattr");
        volatile.into_iter().chain(userxattr)
    }

    fn nul(&self) -> Error {
        let has_nul = |path: &Path| path.as_os_str().as_bytes().contains(&0);
        match self.paths().find(|(_, path)| has_nul(path)) {
            Some((option, path)) => Error::Nul { option, path: path.to_owned() },
            // Only a path can bring a NUL: the other words are constants.
            None => Error::NoLower,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_bytes_are_escaped() {
        let overlay = Overlay::new().lower("/a:b,c\\d").lower("/e").upper("/u:v,w").work("/w");
        assert_eq!(overlay.options(), "lowerdir=/a\\:b\\,c\\\\d:/e,upperdir=/u:v\\,w,workdir=/w");
    }

    #[test]
    fn a_repeated_layer_counts_once() {
        assert_eq!(Overlay::new().lowers(["/a", "/b", "/a"]).options(), "lowerdir=/a:/b");
    }

    #[test]
    fn userxattr_does_not_come_with_redirect_dir() {
        let string = |overlay: Overlay| overlay.string(Path::to_owned).unwrap();
        let plain = string(Overlay::new().lower("/a").volatile(true));
        assert_eq!(plain, *c"lowerdir=/a,metacopy=off,index=off,redirect_dir=off,volatile");
        let user = string(Overlay::new().lower("/a").userxattr(true));
        assert_eq!(user, *c"lowerdir=/a,metacopy=off,index=off,userxattr");
    }

    #[test]
    fn a_nul_is_an_error_that_names_the_path() {
        let overlay = Overlay::new().lower("/a").upper("/u\0v").work("/w");
        let error = overlay.string(Path::to_owned).unwrap_err();
        assert_eq!(error, Error::Nul { option: "upperdir", path: "/u\0v".into() });
    }

    proptest::proptest! {
        /// What the kernel does with the string (ovl_next_opt, ovl_split_lowerdirs, ovl_unescape)
        /// gives the paths back.
        #[test]
        fn escaping_is_undone_by_the_kernels_rules(names in proptest::collection::vec("[a:,\\\\b]{1,8}", 1..5)) {
            let overlay = Overlay::new().lowers(&names);
            let options = overlay.options();
            let mut layers = vec![String::new()];
            let mut chars = options.strip_prefix("lowerdir=").unwrap().chars();
            while let Some(char) = chars.next() {
                match char {
                    '\\' => layers.last_mut().unwrap().extend(chars.next()),
                    ':' => layers.push(String::new()),
                    ',' => panic!("an unescaped comma in {options:?}"),
                    _ => layers.last_mut().unwrap().push(char),
                }
            }
            let given: Vec<_> = overlay.lowers.iter().map(|path| path.to_str().unwrap()).collect();
            proptest::prop_assert_eq!(layers, given);
        }
    }
}
