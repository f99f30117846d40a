//! What of a container's configuration a further program in it is given.
//!
//! It is a tenth of a usual configuration, so that it is kept in a file of its own: `exec` of [`Home`]. That file has
//! [`MAGIC`], how long the parts are, these as JSON, and the filter's program, if there is one. Where the file is missing
//! or is another version's, the configuration is read, which says the same.

use std::borrow::Cow;
use std::path::Path;

use oci_spec::runtime as oci;
use seccomp_oci::{Compiled, Program};
use serde::{Deserialize, Serialize};

use crate::{Config, Error, Home};

/// Changes with the form of the file.
const MAGIC: &[u8; 16] = b"runtime exec v1\n";

/// What of a container's configuration a further program in it is given ([`Recorded::config_for_exec`]).
///
/// [`Recorded::config_for_exec`]: crate::Recorded::config_for_exec
#[derive(Clone, Debug)]
pub struct ExecConfig {
    parts: Parts<'static>,
    pub(crate) filter: Filter,
}

/// `linux.seccomp`.
#[derive(Clone, Debug)]
pub(crate) enum Filter {
    None,
    Compiled(Program),
    /// It is to be compiled, of this.
    Of(Box<Config>),
}

/// Each must be there, if only to say that there is none: a part that another version knows of is in the configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Parts<'a> {
    #[serde(deserialize_with = "Option::deserialize")]
    process: Option<Cow<'a, oci::Process>>,
    #[serde(deserialize_with = "Option::deserialize")]
    personality: Option<Cow<'a, oci::LinuxPersonality>>,
    #[serde(deserialize_with = "Option::deserialize")]
    memory_policy: Option<Cow<'a, oci::LinuxMemoryPolicy>>,
    /// Whether there is a filter: what was cut off is no filter that is not there.
    filtered: bool,
}

impl ExecConfig {
    /// The container's own process: what a further one is like where nothing else is said.
    pub fn take_process(&mut self) -> Option<oci::Process> {
        self.parts.process.take().map(Cow::into_owned)
    }

    /// `linux.personality`
    pub fn personality(&self) -> Option<&oci::LinuxPersonality> {
        self.parts.personality.as_deref()
    }

    /// `linux.memoryPolicy`
    pub fn memory_policy(&self) -> Option<&oci::LinuxMemoryPolicy> {
        self.parts.memory_policy.as_deref()
    }

    /// Reads the whole configuration.
    #[inline(never)] // for which a caller that does not need it has no room on the stack
    pub(crate) fn load(file: &Path, home: &Home) -> Result<Self, Error> {
        let (config, _) = Config::load(file, home)?;
        let Parts { process, personality, memory_policy, filtered } = Parts::of(config.spec());
        let parts = Parts {
            process: process.map(|one| Cow::Owned(one.into_owned())),
            personality: personality.map(|one| Cow::Owned(one.into_owned())),
            memory_policy: memory_policy.map(|one| Cow::Owned(one.into_owned())),
            filtered,
        };
        let filter = match config.program() {
            Some(compiled) => Filter::Compiled(compiled.program.clone()),
            None if config.wants_program() => Filter::Of(config.into()),
            None => Filter::None,
        };
        Ok(Self { parts, filter })
    }

    /// The content of the file; `None` where a filter is still to be compiled.
    pub(crate) fn encode(config: &Config) -> Option<Vec<u8>> {
        let program = match config.program() {
            // Who is told of names that are none was told when the container was created.
            Some(Compiled { program, .. }) => Compiled {
                program: program.clone(),
                unknown: Vec::new(),
                without_table: Vec::new(),
            }
            .to_bytes()?,
            None if config.wants_program() => return None,
            None => Vec::new(),
        };
        let parts = serde_json::to_vec(&Parts::of(config.spec())).ok()?;
        let length = u32::try_from(parts.len()).ok()?.to_le_bytes();
        Some([&MAGIC[..], &length, &parts, &program].concat())
    }

    /// `None` for all that is not what [`ExecConfig::encode`] makes.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.strip_prefix(MAGIC)?.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (parts, program) = rest.split_at_checked(length)?;
        let parts: Parts<'static> = serde_json::from_slice(parts).ok()?;
        let filter = match (parts.filtered, program) {
            (false, []) => Filter::None,
            (false, _) => return None,
            (true, program) => Filter::Compiled(Compiled::from_bytes(program)?.program),
        };
        Some(Self { parts, filter })
    }
}

impl<'a> Parts<'a> {
    fn of(spec: &'a oci::Spec) -> Self {
        let linux = spec.linux().as_ref();
        Self {
            filtered: linux.is_some_and(|linux| linux.seccomp().is_some()),
            process: spec.process().as_ref().map(Cow::Borrowed),
            personality: linux.and_then(|linux| linux.personality().as_ref()).map(Cow::Borrowed),
            memory_policy: linux
                .and_then(|linux| linux.memory_policy().as_ref())
                .map(Cow::Borrowed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"process": {"cwd": "/x", "args": ["a"], "user": {"uid": 7, "gid": 8},
        "capabilities": {"bounding": ["CAP_CHOWN"]}}, "linux": {"personality": {"domain": "LINUX32"},
        "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0"}, "seccomp": null}}"#;

    fn config(text: &str) -> Config {
        serde_json::from_str::<oci::Spec>(text).unwrap().into()
    }

    #[test]
    fn the_file_says_what_the_configuration_says() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        for text in [CONFIG, r#"{"linux": {}}"#, "{}"] {
            std::fs::write(&file, text).unwrap();
            let mut whole = ExecConfig::load(&file, &Home::new(dir.path())).unwrap();
            let bytes = ExecConfig::encode(&config(text)).unwrap();
            let mut short = ExecConfig::decode(&bytes).unwrap();
            for one in [&whole, &short] {
                assert!(matches!(one.filter, Filter::None), "{text}");
                assert_eq!(one.personality().is_some(), text == CONFIG);
            }
            assert_eq!(short.personality(), whole.personality());
            assert_eq!(short.memory_policy(), whole.memory_policy());
            let spec = config(text);
            let process = spec.spec().process();
            assert_eq!(&short.take_process(), process);
            assert_eq!(&whole.take_process(), process);
        }
    }

    #[test]
    fn nothing_is_kept_of_a_filter_that_is_to_be_compiled() {
        let text = CONFIG.replace("null", r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#);
        assert!(ExecConfig::encode(&config(&text)).is_none());
        // Nor is a filter left out whose program was cut off.
        let mut bytes = ExecConfig::encode(&config(CONFIG)).unwrap();
        let at = bytes.windows(5).position(|window| window == b"false").unwrap();
        bytes[at..at + 5].copy_from_slice(b"true ");
        assert!(ExecConfig::decode(&bytes).is_none());
    }

    #[test]
    fn each_part_is_there_and_no_other() {
        let encoded = |parts: &serde_json::Value| {
            let parts = serde_json::to_vec(parts).unwrap();
            let length = u32::try_from(parts.len()).unwrap().to_le_bytes();
            [&MAGIC[..], &length, &parts].concat()
        };
        let whole = serde_json::to_value(Parts::of(config("{}").spec())).unwrap();
        assert!(ExecConfig::decode(&encoded(&whole)).is_some());
        for name in whole.as_object().unwrap().keys() {
            let mut less = whole.clone();
            less.as_object_mut().unwrap().remove(name);
            assert!(ExecConfig::decode(&encoded(&less)).is_none(), "{name}");
        }
        let mut more = whole;
        more["other"] = serde_json::Value::Null;
        assert!(ExecConfig::decode(&encoded(&more)).is_none());
    }

    #[test]
    fn what_is_not_whole_is_not_taken() {
        let whole = ExecConfig::encode(&config(CONFIG)).unwrap();
        for length in 0..whole.len() {
            assert!(ExecConfig::decode(&whole[..length]).is_none(), "{length}");
        }
        // What would be a program is none.
        assert!(ExecConfig::decode(&[&whole[..], b"x"].concat()).is_none());
        let older = [b"runtime exec v0\n", &whole[MAGIC.len()..]].concat();
        assert!(ExecConfig::decode(&older).is_none());
    }
}
