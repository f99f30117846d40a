//! What a user asks for, with the syntax of the command line taken off.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use bindvol::VolumeSpec;
use image_store::Platform;

use crate::{Error, Healthcheck, HostOptions, RestartPolicy};

/// Endings of archives' names. A name with one of them is a path even where it could be an image's.
const ARCHIVE_ENDINGS: [&str; 8] =
    [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.xz", ".tar.bz2", ".tar.zstd"];

/// Where the image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageArg {
    /// A tar file or an OCI layout directory.
    Archive(PathBuf),
    /// An archive on standard input.
    Stdin,
    /// The name or id of an image in the store. One that the store does not know, and that is a path
    /// in the working directory, is taken as that.
    Named(String),
}

impl Default for ImageArg {
    fn default() -> Self {
        ImageArg::Named(String::new())
    }
}

impl ImageArg {
    /// What IMAGE on the command line means; `exists` says whether there is such a path.
    ///
    /// `-` is standard input. `/x`, `./x`, `../x` and names that end like an archive's are paths, as
    /// are paths that exist and cannot be an image's name. All else is a name.
    pub fn parse(text: &str, exists: impl Fn(&Path) -> bool) -> ImageArg {
        if text == "-" {
            return ImageArg::Stdin;
        }
        let path = ["/", "./", "../"].iter().any(|start| text.starts_with(start))
            || matches!(text, "." | "..")
            || ARCHIVE_ENDINGS.iter().any(|end| text.ends_with(end) && text.len() > end.len());
        if path || (!could_be_reference(text) && exists(Path::new(text))) {
            return ImageArg::Archive(text.into());
        }
        ImageArg::Named(text.to_owned())
    }
}

/// Whether the store could have an image of this name or id; the store itself has the whole grammar.
fn could_be_reference(text: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b".-_/:@".contains(&b);
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(fine)
        && !text.ends_with(['/', ':'])
        && !text.contains("//")
}

/// The network that a container sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// A network namespace of its own with nothing but the loopback device.
    #[default]
    None,
    /// The host's.
    Host,
}

impl Network {
    /// Docker's word for it, `.HostConfig.NetworkMode`.
    pub fn as_str(self) -> &'static str {
        match self {
            Network::None => "none",
            Network::Host => "host",
        }
    }
}

impl FromStr for Network {
    type Err = Error;

    /// `none` or `host`; anything else is an [`Error::Network`].
    fn from_str(text: &str) -> Result<Network, Error> {
        match text {
            "none" => Ok(Network::None),
            "host" => Ok(Network::Host),
            _ => Err(Error::Network { name: crate::error::shorten(text) }),
        }
    }
}

/// `run`: an image, and what differs from what it says of itself.
#[derive(Clone, Debug, Default)]
pub struct RunRequest {
    /// The image.
    pub image: ImageArg,
    /// COMMAND and its arguments; empty: the image's.
    pub command: Vec<String>,
    /// `--name`; without, one is made up.
    pub name: Option<String>,
    /// `-d`: return as soon as the process runs.
    pub detach: bool,
    /// `--rm`: remove the container when its process has ended.
    pub remove: bool,
    /// `-i`: the process has the caller's standard input.
    pub interactive: bool,
    /// `-t`: the process has a terminal.
    pub tty: bool,
    /// `-e`, as typed: `A=b`, or `A` to take the caller's value.
    pub env: Vec<String>,
    /// `-w`
    pub workdir: Option<String>,
    /// `-u`: `name|uid[:group|gid]`
    pub user: Option<String>,
    /// `--entrypoint`; an empty one clears the image's.
    pub entrypoint: Option<String>,
    /// `--hostname`
    pub hostname: Option<String>,
    /// `--read-only`: the root file system cannot be changed.
    pub read_only: bool,
    /// `--network`
    pub network: Network,
    /// `--cap-add`, as typed.
    pub cap_add: Vec<String>,
    /// `--cap-drop`, as typed.
    pub cap_drop: Vec<String>,
    /// `--init`: a small init is process 1 and reaps.
    pub init: bool,
    /// `-v`, `--mount` and `--tmpfs`, in the order as typed.
    pub volumes: Vec<VolumeSpec>,
    /// `--platform`; without, this machine's.
    pub platform: Option<Platform>,
    /// `-l`, as typed: `key=value` or `key`.
    pub labels: Vec<String>,
    /// `--stop-signal`
    pub stop_signal: Option<String>,
    /// `--restart`
    pub restart: RestartPolicy,
    /// `--health-…`; without, the image's.
    pub health: Option<Healthcheck>,
    /// `--stop-timeout`, seconds; -1 is no limit.
    pub stop_timeout: Option<i64>,
    /// `--domainname`
    pub domainname: Option<String>,
    /// What concerns the host.
    pub host: HostOptions,
    /// Volumes where the others have none; those of `host.volumes_from` are added to them.
    pub inherited: Vec<VolumeSpec>,
}

/// `exec`: a further process in a container that runs.
#[derive(Clone, Debug, Default)]
pub struct ExecRequest {
    /// COMMAND and its arguments.
    pub command: Vec<String>,
    /// `-i`
    pub interactive: bool,
    /// `-t`
    pub tty: bool,
    /// `-d`
    pub detach: bool,
    /// `-e`, as typed; see [`RunRequest::env`].
    pub env: Vec<String>,
    /// `-w`; without, the container's.
    pub workdir: Option<String>,
    /// `-u`; without, the container's.
    pub user: Option<String>,
    /// `--privileged`: with all capabilities.
    pub privileged: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_argument_is_a_path_or_a_name() {
        let archive = |text: &str| ImageArg::Archive(text.into());
        let named = |text: &str| ImageArg::Named(text.to_owned());
        let there = |path: &Path| matches!(path.to_str(), Some("nginx" | "a b" | "my+image"));
        for (text, expected) in [
            ("-", ImageArg::Stdin),
            ("/x", archive("/x")),
            ("./nginx", archive("./nginx")),
            ("../x", archive("../x")),
            (".", archive(".")),
            ("nginx.tar", archive("nginx.tar")),
            ("nginx.oci.tar.zst", archive("nginx.oci.tar.zst")),
            ("x.tgz", archive("x.tgz")),
            ("a b", archive("a b")),
            ("my+image", archive("my+image")),
            ("no+image", named("no+image")),
            // It exists, and is a name too: the engine asks the store first.
            ("nginx", named("nginx")),
            ("nginx:1.27", named("nginx:1.27")),
            ("host:5000/x/y:z", named("host:5000/x/y:z")),
            (".tar", named(".tar")),
            ("", named("")),
        ] {
            assert_eq!(ImageArg::parse(text, there), expected, "{text}");
        }
    }

    #[test]
    fn networks_are_named_as_docker_names_them() {
        assert_eq!("none".parse::<Network>().unwrap(), Network::None);
        assert_eq!("host".parse::<Network>().unwrap(), Network::Host);
        let error = "bridge".parse::<Network>().unwrap_err().to_string();
        assert!(error.contains("bridge") && error.contains("none") && error.contains("host"));
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics_and_keeps_the_text(text in ".{0,40}", exists: bool) {
            match ImageArg::parse(&text, |_| exists) {
                ImageArg::Archive(path) => proptest::prop_assert_eq!(path.to_str(), Some(&text[..])),
                ImageArg::Named(name) => proptest::prop_assert_eq!(name, text),
                ImageArg::Stdin => proptest::prop_assert_eq!(text, "-"),
            }
        }
    }
}
