//! A configuration whose filter stays the text that it was: who finds that text's program kept (`@seccomp` of
//! [`Home`]) needs nothing else of it, and it is most of a usual configuration.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use oci_spec::runtime as oci;
use seccomp_oci::Compiled;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::hooks::Hooks;
use crate::{Ahead, Error, Home, bundle};

/// In the place of a filter that is not read: whoever took it for the filter would start nothing.
const NOTHING: &[u8] = br#"{"defaultAction":"SCMP_ACT_KILL_PROCESS"}"#;

/// A bundle's configuration, as a program reads it that keeps the compiled filters of its containers.
#[derive(Clone, Debug)]
pub struct Config {
    spec: oci::Spec,
    filter: Option<Text>,
}

/// `linux.seccomp`, as it was written.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) json: Box<RawValue>,
    /// What it was compiled to before. The types have [`NOTHING`] in its place then.
    pub(crate) program: Option<Compiled>,
}

impl Config {
    /// Reads a `config.json`, and says, in sentences, what of it is left out, as
    /// [`load_with_warnings`](crate::load_with_warnings) does. A filter whose program `home` keeps is not looked into: of
    /// a wrong one none is kept.
    ///
    /// # Errors
    /// As [`load`](crate::load).
    pub fn load(file: &Path, home: &Home) -> Result<(Self, Vec<String>), Error> {
        let bytes = bundle::bytes(file)?;
        Self::read(file, &bytes, filter_in(&bytes), home)
    }

    /// As [`Config::load`], and begins what of its namespaces is made ahead ([`Ahead::of`]) as soon as these are found:
    /// the rest is read meanwhile.
    ///
    /// # Errors
    /// As there.
    pub fn load_and_begin(file: &Path, home: &Home) -> Result<(Self, Vec<String>, Ahead), Error> {
        let bytes = bundle::bytes(file)?;
        let Parts { filter, namespaces } = parts(&bytes).unwrap_or_default();
        let namespaces = namespaces.and_then(|json| serde_json::from_str(json.get()).ok());
        let ahead = namespaces.map_or_else(Ahead::default, |all: Vec<_>| Ahead::of(&all));
        let (config, warnings) = Self::read(file, &bytes, filter, home)?;
        Ok((config, warnings, ahead))
    }

    fn read(
        file: &Path,
        bytes: &[u8],
        text: Option<&RawValue>,
        home: &Home,
    ) -> Result<(Self, Vec<String>), Error> {
        if let Some(json) = text
            && let Some(program) = home.program(json)
            && let Some(spec) = without(bytes, json)
        {
            let filter = Some(Text { json: json.to_owned(), program: Some(program) });
            return Ok((Self { spec, filter }, Vec::new()));
        }
        let (spec, warnings) = bundle::parse(file, bytes)?;
        let filter = text.map(|json| Text { json: json.to_owned(), program: None });
        Ok((Self { spec, filter }, warnings))
    }

    /// Its types. A filter whose program was found is not among them: in its place is one that kills.
    pub fn spec(&self) -> &oci::Spec {
        &self.spec
    }

    /// Its process, to be changed.
    pub fn process_mut(&mut self) -> Option<&mut oci::Process> {
        self.spec.process_mut().as_mut()
    }

    pub(crate) fn mounts_mut(&mut self) -> &mut Vec<oci::Mount> {
        self.spec.mounts_mut().get_or_insert_default()
    }

    /// What its filter was compiled to before, where that was found.
    pub(crate) fn program(&self) -> Option<&Compiled> {
        self.filter.as_ref()?.program.as_ref()
    }

    /// Whether it has a filter, and that is still to be compiled.
    pub(crate) fn wants_program(&self) -> bool {
        let linux = self.spec.linux().as_ref();
        self.program().is_none() && linux.is_some_and(|linux| linux.seccomp().is_some())
    }

    /// The filter's text.
    pub(crate) fn text(&self) -> Option<&Text> {
        self.filter.as_ref()
    }

    /// As it is put on record: with the filter's text, by which `exec` finds the program again.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let json = serde_json::to_vec(&self.spec)?;
        let Some(filter) = &self.filter else { return Ok(json) };
        // Found as in the bundle's: no string of the configuration can be taken for the place.
        let place = filter_in(&json)
            .ok_or_else(|| serde_json::Error::custom("the filter has no place in it"))?;
        Ok(with(&json, place, filter.json.get().as_bytes()))
    }
}

impl From<oci::Spec> for Config {
    fn from(spec: oci::Spec) -> Self {
        Self { spec, filter: None }
    }
}

/// The types of a `config.json` for who puts nothing but hooks under its filter: without that where there are no such hooks.
pub(crate) fn load_for_hooks(file: &Path) -> Result<oci::Spec, Error> {
    let bytes = bundle::bytes(file)?;
    match filter_in(&bytes).and_then(|json| without(&bytes, json)) {
        Some(spec) => Ok(spec),
        None => bundle::parse(file, &bytes).map(|(spec, _)| spec),
    }
}

/// The types of a document with [`NOTHING`] in the place of the filter, which is a part of it. `None`: it needs a closer look,
/// or has hooks that are put under the filter, which they are given by the types.
fn without(document: &[u8], filter: &RawValue) -> Option<oci::Spec> {
    let spec = serde_json::from_slice(&with(document, filter, NOTHING)).ok()?;
    (!Hooks::has_start_container(&spec)).then_some(spec)
}

/// A document with something else in the place of a part of it.
fn with(document: &[u8], part: &RawValue, other: &[u8]) -> Vec<u8> {
    let part = part.get();
    let start = part.as_ptr().addr() - document.as_ptr().addr();
    let (before, rest) = document.split_at(start);
    [before, other, &rest[part.len()..]].concat()
}

/// The filter of a document, where it is a value at all.
fn filter_in(document: &[u8]) -> Option<&RawValue> {
    parts(document)?.filter
}

/// What of a document is looked at before its types are read, as it is written.
#[derive(Default)]
struct Parts<'a> {
    /// `linux.seccomp`
    filter: Option<&'a RawValue>,
    /// `linux.namespaces`
    namespaces: Option<&'a RawValue>,
}

/// `None` where the document is none that the types are read of: who reads them says what is wrong.
fn parts(document: &[u8]) -> Option<Parts<'_>> {
    let mut json = serde_json::Deserializer::from_slice(document);
    let found = Object::Document.deserialize(&mut json).ok()?;
    json.end().ok()?;
    Some(found)
}

/// Finds the parts of an object. A name that is there twice is an error: who reads the types knows which holds.
enum Object {
    Document,
    Linux,
}

impl<'de> DeserializeSeed<'de> for Object {
    type Value = Parts<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        // Types are read of arrays as well, which is not meant here.
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object {
    type Value = Parts<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut linux = None;
        let (mut filter, mut namespaces) = (None, None);
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            let twice = match (&self, &*key) {
                (Self::Document, "linux") => {
                    linux.replace(map.next_value_seed(Self::Linux)?).is_some()
                }
                (Self::Linux, "seccomp") => filter.replace(map.next_value()?).is_some(),
                (Self::Linux, "namespaces") => namespaces.replace(map.next_value()?).is_some(),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    false
                }
            };
            if twice {
                return Err(A::Error::custom("it is there twice"));
            }
        }
        let own = Parts { filter: filter.flatten(), namespaces: namespaces.flatten() };
        Ok(linux.unwrap_or(own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::LinuxSeccompAction as Action;
    use seccomp_oci::{Arch, Kept};
    use std::os::fd::AsFd;

    const LOGS: &str = r#"{ "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_LOG"}],
        "defaultAction": "SCMP_ACT_ALLOW" , "unknown": ["]}\""]}"#;

    struct Place {
        dir: tempfile::TempDir,
        home: Home,
    }

    impl Place {
        fn new(document: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let home = Home::new(dir.path());
            let place = Self { dir, home };
            place.write(document);
            place
        }

        fn write(&self, document: &str) {
            std::fs::write(self.dir.path().join("config.json"), document).unwrap();
        }

        fn load(&self) -> Result<Config, String> {
            let loaded = Config::load(&self.dir.path().join("config.json"), &self.home);
            loaded.map(|(config, _)| config).map_err(|error| error.to_string())
        }

        fn types(&self) -> Result<oci::Spec, String> {
            crate::load(self.dir.path()).map_err(|error| error.to_string())
        }

        /// Keeps the program of a filter.
        fn keep(&self, filter: &str) {
            std::fs::create_dir(self.dir.path().join("@seccomp")).unwrap();
            let dir = std::fs::File::open(self.dir.path().join("@seccomp")).unwrap();
            let text: &RawValue = serde_json::from_str(filter).unwrap();
            let filter = serde_json::from_str(filter).unwrap();
            let machine = Arch::native().unwrap();
            let kept = Kept::of(&text, machine, dir.as_fd()).unwrap();
            kept.keep(&seccomp_oci::compile(&filter, machine).unwrap()).unwrap();
        }
    }

    fn default_action(spec: &oci::Spec) -> Option<Action> {
        Some(spec.linux().as_ref()?.seccomp().as_ref()?.default_action())
    }

    fn is_found(config: &Config) -> bool {
        config.filter.as_ref().is_some_and(|filter| filter.program.is_some())
    }

    /// Documents with this filter, and with strings that look like others.
    fn documents() -> [String; 5] {
        let lie = r#""linux":{"seccomp":{"defaultAction":"SCMP_ACT_LOG"}}"#;
        let string = serde_json::to_string(lie).unwrap();
        [
            format!(r#"{{"linux": {{"seccomp": {LOGS}}}}}"#),
            format!(
                r#"{{"annotations": {{{string}: {string}, "linux": "seccomp"}}, "linux":
                {{"sysctl": {{"seccomp": {string}}}, "seccomp": {LOGS}, "maskedPaths": [{string}]}},
                "hostname": {string}, "unknown": {{{lie}}}}}"#
            ),
            // Names may be written so, too.
            format!(r#"{{"l\u0069nux": {{"\u0073eccomp" : {LOGS} }}}}"#),
            format!(
                r#" {{"hooks": {{"prestart": [{{"path": "/x"}}]}}, "linux": {{"seccomp":{LOGS}}}}} "#
            ),
            format!(r#"{{"unknown": [{{{lie}}}, {{{lie}}}], "linux": {{"seccomp":{LOGS}}}}}"#),
        ]
    }

    #[test]
    fn a_filter_is_the_same_on_record_and_read_from_there_whether_its_program_is_kept_or_not() {
        for document in documents() {
            let place = Place::new(&document);
            let types = place.types().unwrap();
            assert_eq!(default_action(&types), Some(Action::ScmpActAllow), "{document}");
            let new = place.load().unwrap();
            assert!(!is_found(&new) && new.wants_program(), "{document}");
            assert_eq!(new.spec(), &types, "{document}");
            place.keep(LOGS);
            let known = place.load().unwrap();
            assert!(is_found(&known) && !known.wants_program(), "{document}");
            assert_eq!(default_action(known.spec()), Some(Action::ScmpActKillProcess));
            for config in [new, known] {
                let record = String::from_utf8(config.to_json().unwrap()).unwrap();
                assert!(record.contains(LOGS), "{record}");
                place.write(&record);
                assert_eq!(place.types().unwrap(), types, "{record}");
                assert!(is_found(&place.load().unwrap()), "{record}");
            }
        }
    }

    #[test]
    fn another_filter_is_read() {
        let place = Place::new(&documents()[0].replace("ACT_LOG", "ACT_BUG"));
        place.keep(LOGS);
        let error = place.load().unwrap_err();
        assert!(error.contains("config.json: linux.seccomp.syscalls[0].action: "), "{error}");
        place.write(&documents()[0].replace("ACT_LOG", "ACT_KILL"));
        assert!(!is_found(&place.load().unwrap()));
    }

    #[test]
    fn what_is_wrong_beside_a_filter_is_said_as_by_types() {
        for wrong in [
            format!(r#"{{"linux": {{"seccomp": {LOGS}}}, "process": 3}}"#),
            format!(r#"{{"linux": {{"seccomp": {LOGS}, "namespaces": [{{"type": "x"}}]}}}}"#),
            format!(r#"{{"linux": {{"seccomp": {LOGS}, "seccomp": {LOGS}}}}}"#),
            format!(r#"{{"linux": {{"seccomp": {LOGS}, "seccomp": null}}}}"#),
            format!(r#"{{"linux": {{"seccomp": {LOGS}}}, "linux": {{}}}}"#),
            format!(r#"{{"linux": {{"seccomp": {LOGS}}}}}}}"#),
            format!(r#"{{"linux": {{"seccomp": {LOGS}"#),
            format!(r#"[{{"seccomp": {LOGS}}}]"#),
        ] {
            let place = Place::new(&wrong);
            place.keep(LOGS);
            // What is there twice is taken once, the last time.
            let read = place.load().map(|config| config.spec().clone());
            assert_eq!(read, place.types(), "{wrong}");
        }
    }

    /// What types make of a list, by the order of the fields, is none of the filter's.
    #[test]
    fn a_list_has_no_filter_to_find() {
        for document in [
            format!(r#"{{"linux": [{LOGS}]}}"#),
            format!(r#"[{{"seccomp": {LOGS}}}]"#),
            r#"{"linux": {"seccomp": null}}"#.to_owned(),
            r#"{"linux": null}"#.to_owned(),
            format!(r#"{{"seccomp": {LOGS}}}"#),
        ] {
            assert!(filter_in(document.as_bytes()).is_none(), "{document}");
        }
    }

    #[test]
    fn hooks_under_the_filter_have_it_as_types() {
        let document = format!(
            r#"{{"hooks": {{"startContainer": [{{"path": "/x"}}]}}, "linux": {{"seccomp": {LOGS}}}}}"#
        );
        let place = Place::new(&document);
        place.keep(LOGS);
        let config = place.load().unwrap();
        assert!(!is_found(&config));
        assert_eq!(*config.spec(), place.types().unwrap());
        let file = place.dir.path().join("config.json");
        assert_eq!(load_for_hooks(&file).unwrap(), place.types().unwrap());
        // Without such hooks nobody looks at it.
        place.write(&document.replace("startContainer", "poststart"));
        assert!(is_found(&place.load().unwrap()));
        let without = Some(Action::ScmpActKillProcess);
        assert_eq!(default_action(&load_for_hooks(&file).unwrap()), without);
    }

    #[test]
    fn what_a_configuration_has_left_out_is_told_with_a_kept_program_too() {
        let document = format!(
            r#"{{"process": {{"cwd": "/", "capabilities": {{"bounding": ["CAP_NEW"]}}}},
            "linux": {{"seccomp": {LOGS}}}}}"#
        );
        let place = Place::new(&document);
        place.keep(LOGS);
        let file = place.dir.path().join("config.json");
        let (config, warnings) = Config::load(&file, &place.home).unwrap();
        assert!(warnings.len() == 1 && warnings[0].contains("CAP_NEW"), "{warnings:?}");
        assert_eq!(config.spec(), &crate::load(place.dir.path()).unwrap());
    }
}
