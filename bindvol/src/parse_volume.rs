//! `-v SRC:DST[:OPTIONS]`, `-v NAME:DST[:OPTIONS]`, `-v DST`.

use crate::syntax::Problem;
use crate::volumes::is_volume_name;
use crate::words::{Once, Words, source_path, spec_target};
use crate::{Kind, VolumeSpec};

const KNOWN: &str = "ro, rw, [r]private, [r]shared, [r]slave, [no]suid, [no]dev, [no]exec, bind, \
                     rbind, nocopy, z, Z";

pub(crate) fn parse(text: &str) -> Result<VolumeSpec, Problem> {
    if text.contains('\0') {
        return Err(Problem::Nul);
    }
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => (None, target, ""),
        [_, "ro" | "rw"] => {
            return Err(Problem::Missing {
                what: "source",
                hint: "a volume without a name takes no options here; give it a name, or use --mount",
            });
        }
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, options),
        _ => return Err(Problem::Parts { parts: parts.len() }),
    };
    let target = spec_target(target)?;
    let mut words = Words::default();
    let (mut nocopy, mut recursive) = (Once::default(), Once::default());
    for option in options.split(',').filter(|option| !option.is_empty()) {
        if words.add(option)? {
            continue;
        }
        match option {
            "bind" => recursive.say(false, option)?,
            "rbind" => recursive.say(true, option)?,
            "nocopy" => nocopy.say(true, option)?,
            "z" | "Z" | "cached" | "delegated" | "consistent" => {}
            _ => return Err(unknown(option)),
        }
    }
    let kind = match source {
        None => Kind::Anonymous { nocopy: false },
        Some("") => {
            return Err(Problem::Missing {
                what: "source",
                hint: "give a path of the host or a volume's name before the colon",
            });
        }
        Some(source) if source.contains('/') || source.starts_with('.') => {
            if let Some((_, option)) = nocopy.get() {
                return Err(not_for(option, "a volume", "a bind mount"));
            }
            Kind::Bind { source: source_path(source)?, create_source: false }
        }
        Some(name) if is_volume_name(name) => {
            if let Some((_, option)) = recursive.get() {
                return Err(not_for(option, "a bind mount", "a volume"));
            }
            if let Some((_, option)) = words.propagation.get() {
                return Err(not_for(option, "a bind mount", "a volume"));
            }
            Kind::Named { name: name.to_owned(), nocopy: nocopy.get().is_some(), subpath: None }
        }
        Some(name) => return Err(Problem::Name { name: name.to_owned() }),
    };
    let mut options = words.options(false);
    options.recursive = recursive.into_value().unwrap_or(true);
    Ok(VolumeSpec { kind, target, options })
}

pub(crate) fn not_for(option: &str, owner: &'static str, kind: &'static str) -> Problem {
    Problem::NotFor { option: option.to_owned(), owner, kind }
}

fn unknown(option: &str) -> Problem {
    let reason = match option {
        "U" => "the owner of what the host has is not changed; chown it, or use an id-mapped mount",
        "O" => "changes to a bind mount go to the host; use ro, or copy what shall be changed",
        "unbindable" | "runbindable" => "it is for the root file system only; use rprivate",
        _ => return Problem::Unknown { option: option.to_owned(), known: KNOWN },
    };
    Problem::Unsupported { option: option.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use std::path::PathBuf;
    use sys::mount::Propagation;

    fn spec(text: &str) -> VolumeSpec {
        VolumeSpec::parse_volume(text).unwrap()
    }

    fn error(text: &str) -> String {
        let error = VolumeSpec::parse_volume(text).unwrap_err().to_string();
        assert!(error.starts_with(&format!("-v {text:?}: ")), "{error}");
        error
    }

    fn bind(source: &str) -> Kind {
        Kind::Bind { source: PathBuf::from(source), create_source: false }
    }

    #[test]
    fn the_three_forms() {
        let options = Options::default();
        let plain = spec("/mnt/nginx_volume:/nginx_volume");
        let target = "/nginx_volume".to_owned();
        assert_eq!(plain, VolumeSpec { kind: bind("/mnt/nginx_volume"), target, options });
        assert_eq!(plain.words(), ["rbind", "rprivate"]);
        let named = Kind::Named { name: "data.1_x-y".to_owned(), nocopy: false, subpath: None };
        assert_eq!(spec("data.1_x-y:/d/").kind, named);
        assert_eq!(spec("data.1_x-y:/d/").target, "/d");
        assert_eq!(spec("/var/lib/x").kind, Kind::Anonymous { nocopy: false });
        let here = std::env::current_dir().unwrap();
        assert_eq!(spec("./x:/y").kind, bind(here.join("x").to_str().unwrap()));
        assert_eq!(spec("x/y:/y").kind, bind(here.join("x/y").to_str().unwrap()));
        assert_eq!(spec("/:/host").kind, bind("/"));
    }

    #[test]
    fn options_become_words() {
        let all = spec("/a:/b:ro,rslave,nosuid,nodev,noexec,z,cached");
        assert_eq!(all.words(), ["rbind", "rslave", "rro", "nosuid", "nodev", "noexec"]);
        assert_eq!(all.options.propagation, Some((Propagation::Slave, true)));
        assert_eq!(spec("/a:/b:bind,ro,private").words(), ["bind", "private", "ro"]);
        assert_eq!(spec("/a:/b:rw,suid,dev,exec,Z,").words(), ["rbind", "rprivate"]);
        assert_eq!(spec("/a:/b:ro,ro").words(), ["rbind", "rprivate", "rro"]);
        let named = spec("v:/b:nocopy,ro");
        let kind = Kind::Named { name: "v".to_owned(), nocopy: true, subpath: None };
        assert_eq!((named.kind.clone(), named.options.read_only), (kind, true));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(error("").contains("target is missing"));
        assert!(error("/a:").contains("target is missing"));
        assert!(error(":/a").contains("source is missing"));
        assert!(error("/a:/b:ro:z").contains("4 parts"));
        assert!(error("/data:ro").contains("--mount"));
        assert!(error("/a:/").contains("container's root"));
        assert!(error("/a:b").contains("\"b\" is not absolute"));
        assert!(error("name").contains("not absolute"));
        assert!(error("/a/../b:/c").contains("\"..\""));
        assert!(error("/a\0:/c").contains("NUL"));
        assert!(error("no name:/c").contains("\"no name\" is no name for a volume"));
        assert!(error("-x:/c").contains("./"));
        assert!(error("/a:/b:nonsense").contains("\"nonsense\" is not known; known are ro"));
        assert!(error("/a:/b:ro,rw").contains("\"rw\" contradicts \"ro\""));
        assert!(error("/a:/b:shared,rprivate").contains("contradicts \"shared\""));
        assert!(error("/a:/b:exec,noexec").contains("contradicts"));
        assert!(error("/a:/b:bind,rbind").contains("contradicts"));
        assert!(error("/a:/b:U").contains("\"U\" is not supported"));
        assert!(error("/a:/b:O").contains("\"O\" is not supported"));
        assert!(error("/a:/b:runbindable").contains("root file system"));
        assert!(error("/a:/b:nocopy").contains("belongs to a volume"));
        assert!(error("v:/b:rshared").contains("\"rshared\" belongs to a bind mount"));
        assert!(error("v:/b:rbind").contains("belongs to a bind mount"));
        // CVE-2024-9407: what rides along in a word is not a word.
        assert!(error("/a:/b:rprivate=src").contains("not known"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_value_or_an_error(text in "([a-z./:,\\x00]|\\PC){0,24}") {
            match VolumeSpec::parse_volume(&text) {
                Ok(spec) => {
                    proptest::prop_assert!(spec.target.starts_with('/') && spec.target.len() > 1);
                    if let Kind::Bind { source, .. } = &spec.kind {
                        proptest::prop_assert!(source.is_absolute());
                        proptest::prop_assert!(!source.iter().any(|name| name == ".."));
                    }
                }
                Err(error) => proptest::prop_assert!(!error.to_string().is_empty()),
            }
        }

        #[test]
        fn the_order_of_options_does_not_matter(mut options in proptest::sample::subsequence(
            vec!["ro", "rslave", "nosuid", "nodev", "noexec", "bind", "z"], 0..7)) {
            let forward = spec(&format!("/a:/b:{}", options.join(",")));
            options.reverse();
            proptest::prop_assert_eq!(forward, spec(&format!("/a:/b:{}", options.join(","))));
        }
    }
}
