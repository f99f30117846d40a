//! Credentials where `docker login` and `podman login` keep them.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use crate::error::Error;

/// Docker's key for its own registry, of the time of its first protocol.
const DOCKER: &str = "https://index.docker.io/v1/";
/// Padding is written by Docker, and left out by some who edit the file.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Who asks for an image.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user with a password or an access token.
    Password {
        /// the name
        user: String,
        /// the password
        password: String,
    },
    /// A token that the registry's token server has given for a login.
    IdentityToken(String),
}

impl Credentials {
    /// The header of user and password.
    pub(crate) fn basic(&self) -> Option<String> {
        match self {
            Credentials::Password { user, password } => {
                Some(format!("Basic {}", BASE64.encode(format!("{user}:{password}"))))
            }
            Credentials::IdentityToken(_) => None,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A secret must not get into a log.
        match self {
            Credentials::Password { user, .. } => {
                f.debug_struct("Password").field("user", user).finish_non_exhaustive()
            }
            Credentials::IdentityToken(_) => f.write_str("IdentityToken(…)"),
        }
    }
}

/// Credentials, and the file or helper that has them.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) credentials: Credentials,
    pub(crate) from: Option<String>,
}

/// `config.json`, `auth.json`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AuthFile {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

/// What a helper writes.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Secret {
    username: String,
    secret: String,
}

/// The first credentials for a repository. In each file the entry counts that names most of it
/// (`registry/team/app` before `registry/team` before `registry`), then its helper.
pub(crate) fn find(
    files: &[PathBuf],
    registry: &str,
    repository: &str,
) -> Result<Option<Found>, Error> {
    for path in files {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                continue;
            }
            Err(source) => return Err(Error::AuthFile { path: path.clone(), source }),
        };
        let file: AuthFile = serde_json::from_slice(&bytes)
            .map_err(|error| Error::AuthFile { path: path.clone(), source: error.into() })?;
        if let Some(found) =
            file.find_with(&|name| Command::new(name), path, registry, repository)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

impl AuthFile {
    /// `program` is the command of a helper, by its name.
    fn find_with(
        &self,
        program: &dyn Fn(&str) -> Command,
        path: &Path,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Found>, Error> {
        let bad = |why: &str| Error::AuthFile {
            path: path.to_owned(),
            source: io::Error::new(io::ErrorKind::InvalidData, format!("{registry}: {why}")),
        };
        if let Some((_, name)) = self.cred_helpers.iter().find(|(key, _)| is_for(key, registry)) {
            return run(program, name, path, registry);
        }
        for wanted in prefixes(registry, repository) {
            let entry = self.auths.iter().find(|(key, _)| is_for(key, &wanted));
            if let Some(credentials) =
                entry.map(|(_, e)| e.credentials()).transpose().map_err(bad)?.flatten()
            {
                let from = Some(path.display().to_string());
                return Ok(Some(Found { credentials, from }));
            }
        }
        if self.creds_store.is_empty() {
            Ok(None)
        } else {
            run(program, &self.creds_store, path, registry)
        }
    }
}

impl Entry {
    fn credentials(&self) -> Result<Option<Credentials>, &'static str> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credentials::IdentityToken(self.identitytoken.clone())));
        }
        let (user, password) = if self.auth.is_empty() {
            (self.username.clone(), self.password.clone())
        } else {
            let bytes = BASE64.decode(&self.auth).map_err(|_| "its \"auth\" is no base64")?;
            let text = String::from_utf8(bytes).map_err(|_| "its \"auth\" is no UTF-8")?;
            let (user, password) =
                text.split_once(':').ok_or("its \"auth\" is not user:password")?;
            // Docker of old has written a NUL after it.
            (user.to_owned(), password.trim_end_matches('\0').to_owned())
        };
        Ok((!user.is_empty()).then_some(Credentials::Password { user, password }))
    }
}

/// `registry/a/b`, `registry/a`, `registry`.
fn prefixes(registry: &str, repository: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut text = format!("{registry}/{repository}");
    while let Some((rest, _)) = text.rsplit_once('/') {
        all.push(text.clone());
        text = rest.to_owned();
    }
    all.push(text);
    all
}

/// Whether a key of a file means this registry, or a part of it.
fn is_for(key: &str, wanted: &str) -> bool {
    let bare = ["https://", "http://"].iter().find_map(|scheme| key.strip_prefix(scheme));
    let host = |text: &str| text.split('/').next().unwrap_or_default().to_owned();
    match bare {
        // A URL: its path is that of the protocol.
        Some(rest) => canonical(&host(rest)) == wanted,
        None => canonical(key.trim_end_matches('/')) == wanted,
    }
}

fn canonical(name: &str) -> String {
    match name {
        "index.docker.io" | "registry-1.docker.io" | "index.docker.io/v1" => "docker.io".to_owned(),
        other => other.to_owned(),
    }
}

/// Asks a credential helper; none where it has nothing for the registry.
fn run(
    command: &dyn Fn(&str) -> Command,
    name: &str,
    path: &Path,
    registry: &str,
) -> Result<Option<Found>, Error> {
    let program = format!("docker-credential-{name}");
    let failed = |why: String| Error::Helper {
        program: program.clone(),
        path: path.to_owned(),
        registry: registry.to_owned(),
        why,
    };
    if name.contains('/') {
        return Err(failed("it is no name of a program".to_owned()));
    }
    let server = if registry == "docker.io" { DOCKER } else { registry };
    let mut command = command(&program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    if let Some(mut input) = child.stdin.take() {
        // A helper that does not read has ended, and its status tells why.
        let _ = input.write_all(server.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        if said.contains("credentials not found") {
            return Ok(None);
        }
        let said = format!("{} {}", said.trim(), String::from_utf8_lossy(&output.stderr).trim());
        return Err(failed(format!("{}: {}", output.status, said.trim())));
    }
    let secret: Secret =
        serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))?;
    let credentials = match &secret.username[..] {
        "<token>" => Credentials::IdentityToken(secret.secret),
        "" => return Ok(None),
        _ => Credentials::Password { user: secret.username, password: secret.secret },
    };
    Ok(Some(Found { credentials, from: Some(program) }))
}

#[cfg(test)]
mod tests;
