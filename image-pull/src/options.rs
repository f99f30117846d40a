//! How images are pulled.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use image_store::LoadOptions;

use crate::credentials::Credentials;
use crate::retry::Retries;

/// Is told something that a user should see.
pub type Notify = Arc<dyn Fn(&str) + Send + Sync>;

/// How images are pulled.
#[derive(Clone)]
pub struct PullOptions {
    /// For which platform, and how layers are unpacked.
    pub load: LoadOptions,
    /// Registries that may be spoken to without TLS: `host` or `host:port`. Those on this machine
    /// (`localhost`, 127.0.0.0/8, `[::1]`) always may.
    pub insecure: Vec<String>,
    /// Who asks. Default: whom the files of [`PullOptions::auth_files`] name for the registry.
    pub credentials: Option<Credentials>,
    /// Where `docker login` and `podman login` keep credentials, the first that has some counts.
    pub auth_files: Vec<PathBuf>,
    /// Directories with a directory for each registry, whose `*.crt` files are trusted for it beside
    /// the system's certificates.
    pub certificates: Vec<PathBuf>,
    /// How often something is tried again, and after how long.
    pub retries: Retries,
    /// Is told, in a sentence, why the pull waits. Called from several threads.
    pub notify: Option<Notify>,
}

impl Default for PullOptions {
    fn default() -> PullOptions {
        PullOptions {
            load: LoadOptions::default(),
            insecure: Vec::new(),
            credentials: None,
            auth_files: auth_files(&|name| std::env::var_os(name).map(PathBuf::from)),
            certificates: vec!["/etc/docker/certs.d".into(), "/etc/containers/certs.d".into()],
            retries: Retries::default(),
            notify: None,
        }
    }
}

impl fmt::Debug for PullOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PullOptions")
            .field("load", &self.load)
            .field("insecure", &self.insecure)
            .field("auth_files", &self.auth_files)
            .finish_non_exhaustive()
    }
}

/// Docker's file, then Podman's: of the session, and the one that root's `podman login` writes.
fn auth_files(env: &dyn Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let env = |name| env(name).filter(|value| !value.as_os_str().is_empty());
    let docker = env("DOCKER_CONFIG").or_else(|| Some(env("HOME")?.join(".docker")));
    let mut files: Vec<PathBuf> = env("REGISTRY_AUTH_FILE").into_iter().collect();
    files.extend(docker.map(|dir| dir.join("config.json")));
    files.extend(env("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")));
    if rustix::process::geteuid().is_root() {
        files.push("/run/containers/0/auth.json".into());
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_docker_and_podman() {
        let paths = |set: &[(&str, &str)]| -> Vec<PathBuf> {
            let find = |name: &str| set.iter().find(|(key, _)| *key == name);
            let mut files = auth_files(&|name| find(name).map(|(_, value)| value.into()));
            files.retain(|path| !path.starts_with("/run/containers"));
            files
        };
        assert_eq!(paths(&[("HOME", "/h")]), [PathBuf::from("/h/.docker/config.json")]);
        assert_eq!(
            paths(&[("HOME", "/h"), ("DOCKER_CONFIG", "/d"), ("XDG_RUNTIME_DIR", "/x")]),
            [PathBuf::from("/d/config.json"), "/x/containers/auth.json".into()]
        );
        assert_eq!(
            paths(&[("DOCKER_CONFIG", ""), ("REGISTRY_AUTH_FILE", "/r")]),
            [PathBuf::from("/r")]
        );
    }
}
