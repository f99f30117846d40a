//! Logging in: with a token that another server gives, or with user and password.

use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use image_store::Reference;
use serde::Deserialize;

use crate::challenge::Challenge;
use crate::credentials::{self, Credentials, Found};
use crate::error::Error;
use crate::http::{Http, wait_of, words};
use crate::options::PullOptions;

/// What tokens are asked for as.
const CLIENT: &str = "image-pull";
/// Longest answer of a token server, bytes.
const ANSWER: u64 = 1 << 20;

/// The login to one repository.
pub(crate) struct Auth {
    registry: String,
    repository: String,
    familiar: String,
    /// The registry itself is spoken to without TLS.
    plain: bool,
    given: Option<Credentials>,
    files: Vec<PathBuf>,
    /// Looked for once the registry asks.
    found: OnceLock<Option<Found>>,
    /// The header that the registry took last.
    header: Mutex<Option<String>>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Auth {
    pub(crate) fn new(reference: &Reference, plain: bool, options: &PullOptions) -> Auth {
        Auth {
            registry: reference.registry().to_owned(),
            repository: reference.repository().to_owned(),
            familiar: reference.familiar_name(),
            plain,
            given: options.credentials.clone(),
            files: options.auth_files.clone(),
            found: OnceLock::new(),
            header: Mutex::new(None),
        }
    }

    /// The header to send.
    pub(crate) fn current(&self) -> Option<String> {
        self.header.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers what the registry asks for; false where there is nothing to answer with. `refused` is
    /// the header that was not taken: a thread that comes later finds what another has got.
    pub(crate) fn answer(
        &self,
        http: &Http,
        offers: &[Challenge],
        refused: Option<&str>,
    ) -> Result<bool, Error> {
        let mut header = self.header.lock().unwrap_or_else(PoisonError::into_inner);
        if header.as_deref() != refused {
            return Ok(true);
        }
        let credentials = self.credentials()?.map(|found| &found.credentials);
        for offer in offers {
            let answer = match (offer, credentials) {
                (Challenge::Bearer { realm, service, scope }, _) => {
                    let token = self.token(http, realm, service.as_deref(), scope.as_deref())?;
                    format!("Bearer {token}")
                }
                (Challenge::Basic, _) => match credentials.and_then(Credentials::basic) {
                    Some(basic) => basic,
                    None => continue,
                },
            };
            let is_new = refused != Some(&answer);
            *header = Some(answer);
            return Ok(is_new);
        }
        Ok(false)
    }

    /// What a user can do who is refused.
    pub(crate) fn hint(&self) -> String {
        match self.found.get().and_then(Option::as_ref) {
            Some(found) => format!(
                "log in anew, since what {} has does not open it",
                found.from.as_deref().unwrap_or("the caller")
            ),
            None => format!("log in with `docker login {0}` or `podman login {0}`", self.registry),
        }
    }

    fn credentials(&self) -> Result<Option<&Found>, Error> {
        if let Some(found) = self.found.get() {
            return Ok(found.as_ref());
        }
        let found = match &self.given {
            Some(given) => Some(Found { credentials: given.clone(), from: None }),
            None => credentials::find(&self.files, &self.registry, &self.repository)?,
        };
        Ok(self.found.get_or_init(|| found).as_ref())
    }

    /// A token for reading the repository.
    fn token(
        &self,
        http: &Http,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
    ) -> Result<String, Error> {
        let own = format!("repository:{}:pull", self.repository);
        let scope = scope.unwrap_or(&own);
        let secret = self.credentials()?.map(|found| &found.credentials);
        let is_tls = realm.starts_with("https://");
        if !is_tls && !realm.starts_with("http://") {
            let why = format!("it sends to {realm:?} for a token, which is no address");
            return Err(Error::Protocol { server: self.registry.clone(), why });
        }
        if !is_tls && !self.plain && secret.is_some() {
            let why = format!("it wants the password sent to {realm} without TLS");
            return Err(Error::Protocol { server: self.registry.clone(), why });
        }
        let server = format!("{}'s token server {realm}", self.registry);
        let service = service.map(|service| ("service", service));
        let response = match secret {
            Some(Credentials::IdentityToken(token)) => {
                let form = [
                    ("grant_type", "refresh_token"),
                    ("refresh_token", token),
                    ("client_id", CLIENT),
                    ("scope", scope),
                ];
                http.send(&server, &|agent| {
                    agent.post(realm).send_form(form.into_iter().chain(service))
                })
            }
            _ => {
                let login = secret.and_then(Credentials::basic);
                let query = service.into_iter().chain([("scope", scope)]);
                let answer = http.get(&server, &with_query(realm, query), &[], login.as_deref());
                answer.map(|answer| answer.response)
            }
        }?;
        let (status, wait) = (response.status(), wait_of(&response));
        if !status.is_success() {
            let answer = words(response);
            return Err(match status.as_u16() {
                400 | 401 | 403 => Error::Denied {
                    registry: self.registry.clone(),
                    repository: self.familiar.clone(),
                    answer,
                    hint: self.hint(),
                },
                429 => Error::TooMany { server, answer, wait },
                _ => Error::Answer { server, url: realm.to_owned(), answer },
            });
        }
        let body = response.into_body().into_with_config().limit(ANSWER).read_to_vec();
        let token: Token = body
            .map_err(|error| error.to_string())
            .and_then(|body| serde_json::from_slice(&body).map_err(|error| error.to_string()))
            .map_err(|why| Error::Protocol { server: server.clone(), why })?;
        let token = token.token.filter(|token| !token.is_empty()).or(token.access_token);
        token.ok_or_else(|| Error::Protocol { server, why: "its answer has no token".to_owned() })
    }
}

/// A URL with more in its query.
fn with_query<'a>(url: &str, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = url.to_owned();
    for (name, value) in pairs {
        out.push(if out.contains('?') { '&' } else { '?' });
        out += &format!("{name}=");
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    out.push(char::from(byte));
                }
                _ => out += &format!("%{byte:02X}"),
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded() {
        let pairs = [("service", "a b&c"), ("scope", "repository:x/y:pull")];
        let query = "service=a%20b%26c&scope=repository%3Ax%2Fy%3Apull";
        assert_eq!(with_query("http://h/t", pairs.into_iter()), format!("http://h/t?{query}"));
        assert_eq!(with_query("http://h/t?z", pairs.into_iter()), format!("http://h/t?z&{query}"));
    }
}
