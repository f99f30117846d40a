//! `--volumes-from`: the volumes of other containers.

use bindvol::{Kind, Options, VolumeSpec};

use crate::{Container, Engine, Error, MountKind, MountPoint, RunRequest};

impl Engine {
    /// The request with the names of other containers looked up: `container:NAME` of namespaces has ids, and
    /// what `--volumes-from` names is among the volumes.
    ///
    /// # Errors
    /// There is no such container; a word behind a name is neither `ro` nor `rw`.
    pub(crate) fn with_others(&self, request: &RunRequest) -> Result<RunRequest, Error> {
        let mut request = request.clone();
        for text in &request.host.volumes_from {
            let (name, mode) = match text.split_once(':') {
                Some((name, mode)) => (name, Some(mode)),
                None => (&text[..], None),
            };
            let read_only = match mode {
                None | Some("rw" | "z" | "Z") => false,
                Some("ro") => true,
                Some(_) => {
                    return Err(Error::option(
                        "--volumes-from",
                        text,
                        "write NAME, NAME:ro or NAME:rw",
                    ));
                }
            };
            let other = self.container(name)?;
            for spec in specs(&other, read_only) {
                // The first container that has one holds.
                if !request.inherited.iter().any(|inherited| inherited.target == spec.target) {
                    request.inherited.push(spec);
                }
            }
        }
        Ok(request)
    }
}

/// What of a container's mounts another can have too: a tmpfs is its own.
fn specs(container: &Container, read_only: bool) -> Vec<VolumeSpec> {
    container.mounts.iter().filter_map(|mount| spec(mount, read_only)).collect()
}

fn spec(mount: &MountPoint, read_only: bool) -> Option<VolumeSpec> {
    let kind = match (mount.kind, &mount.name) {
        (MountKind::Bind, _) => {
            Kind::Bind { source: mount.source.clone().into(), create_source: false }
        }
        (MountKind::Volume, Some(name)) => {
            // Behind `…/NAME/_data/`.
            let marker = format!("/{name}/_data/");
            let subpath = mount.source.split_once(&marker).map(|(_, below)| below.to_owned());
            Kind::Named { name: name.clone(), nocopy: true, subpath }
        }
        _ => return None,
    };
    // The words behind a target are those of the options.
    let words = if mount.mode.is_empty() { String::new() } else { format!(":{}", mount.mode) };
    let source = if mount.kind == MountKind::Bind { "/x" } else { "x" };
    let read = VolumeSpec::parse_volume(&format!("{source}:/x{words}"));
    let mut options = read.map_or_else(|_| Options::default(), |spec| spec.options);
    options.read_only = read_only || !mount.rw;
    Some(VolumeSpec { kind, target: mount.destination.clone(), options })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn volumes_and_binds_are_handed_on_with_their_options() {
        let mut container = testing::container();
        let mount =
            |kind, name: Option<&str>, source: &str, destination: &str, mode: &str| MountPoint {
                kind,
                name: name.map(str::to_owned),
                source: source.to_owned(),
                destination: destination.to_owned(),
                driver: None,
                mode: mode.to_owned(),
                rw: !mode.contains("ro"),
                propagation: String::new(),
                options: Vec::new(),
                anonymous: name == Some("made-up"),
            };
        container.mounts = vec![
            mount(MountKind::Bind, None, "/a:b", "/one", "ro,rslave"),
            mount(MountKind::Volume, Some("data"), "/s/volumes/data/_data/sub/x", "/two", "nosuid"),
            mount(MountKind::Volume, Some("made-up"), "/s/volumes/made-up/_data", "/three", ""),
            mount(MountKind::Tmpfs, None, "", "/four", ""),
        ];
        let found = specs(&container, false);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].kind, Kind::Bind { source: "/a:b".into(), create_source: false });
        assert_eq!(found[0].words(), ["rbind", "rslave", "rro"]);
        let named = |name: &str, subpath: Option<&str>| Kind::Named {
            name: name.to_owned(),
            nocopy: true,
            subpath: subpath.map(str::to_owned),
        };
        assert_eq!(found[1].kind, named("data", Some("sub/x")));
        assert!(found[1].options.nosuid && !found[1].options.read_only);
        // It stays the other container's: this one does not take it along when it goes.
        assert_eq!(found[2].kind, named("made-up", None));
        assert!(specs(&container, true).iter().all(|spec| spec.options.read_only));
    }
}
