//! Requests over HTTP, with patience: what is transient is tried again.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use ureq::http::{Response, StatusCode};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Proxy};

use crate::error::Error;
use crate::options::{Notify, PullOptions};
use crate::retry::{Retries, retry_after};

/// A server that has not answered for so long will not.
const SILENCE: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(30);
/// Of an error's body as much is read.
const ERROR_BODY: u64 = 64 << 10;
const REDIRECTS: usize = 10;
/// How often a wait looks whether it is still wanted.
const NAP: Duration = Duration::from_millis(50);

/// What requests are sent with.
pub(crate) struct Http {
    pub(crate) agent: Agent,
    retries: Retries,
    notify: Option<Notify>,
    /// Once something has answered, a refused connection is a cut one.
    answered: AtomicBool,
    cancelled: AtomicBool,
    /// Why there are no certificates of authorities, if there are none.
    no_roots: Option<String>,
}

/// What came of a request that was followed to its end.
pub(crate) struct Answer {
    pub(crate) response: Response<Body>,
    /// Where it is from, without its query, which may be what lets one in there.
    pub(crate) from: String,
    /// Whether the server is the one that was asked: what another one wants is not for a registry's login.
    pub(crate) is_own: bool,
}

impl Http {
    /// `direct`: the server is on this machine, where no proxy leads.
    pub(crate) fn new(registry: &str, direct: bool, options: &PullOptions) -> Http {
        let (roots, no_roots) = roots(registry, &options.certificates);
        let tls = TlsConfig::builder()
            .root_certs(roots)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // Followed here, since a login must not go to another port either.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("image-pull/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .tls_config(tls);
        if direct {
            config = config.proxy(None);
        } else {
            config = config.proxy(Proxy::try_from_env());
        }
        Http {
            agent: config.build().into(),
            retries: options.retries,
            notify: options.notify.clone(),
            answered: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
            no_roots,
        }
    }

    /// Asks for a URL with these headers, and follows where it leads. The authorization goes to the same
    /// scheme, host and port only.
    pub(crate) fn get(
        &self,
        server: &str,
        url: &str,
        headers: &[(&str, &str)],
        authorization: Option<&str>,
    ) -> Result<Answer, Error> {
        let origin = origin(url).to_owned();
        let mut url = url.to_owned();
        for _ in 0..REDIRECTS {
            let is_own = self::origin(&url) == origin;
            let authorization = authorization.filter(|_| is_own);
            let response = self.send(server, &|agent| {
                let headers = headers.iter().copied();
                let all = headers.chain(authorization.map(|value| ("authorization", value)));
                all.fold(agent.get(&url), |request, (name, value)| request.header(name, value))
                    .call()
            })?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                let from = url.split(['?', '#']).next().unwrap_or_default().to_owned();
                return Ok(Answer { response, from, is_own });
            }
            let location = response.headers().get("location").and_then(|to| to.to_str().ok());
            let why = || format!("it redirects {url} to {:?}", location.unwrap_or("nowhere"));
            url = location
                .and_then(|to| resolve(&url, to))
                .ok_or_else(|| Error::Protocol { server: server.to_owned(), why: why() })?;
        }
        let why = format!("it redirects more than {REDIRECTS} times, the last time to {url}");
        Err(Error::Protocol { server: server.to_owned(), why })
    }

    /// Sends a request again and again until the answer is neither a cut connection, nor 429, nor a
    /// server's passing trouble. The last answer comes back, whatever its status is.
    pub(crate) fn send(
        &self,
        server: &str,
        request: &dyn Fn(&Agent) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, Error> {
        let mut number = 0;
        loop {
            self.check()?;
            let (why, asked, outcome) = match request(&self.agent) {
                Ok(response) => {
                    self.answered.store(true, Ordering::Relaxed);
                    let status = response.status();
                    if !is_passing(status) {
                        return Ok(response);
                    }
                    (format!("answers {status}"), wait_of(&response), Ok(response))
                }
                Err(error) => {
                    let (passing, why) = self.explain(server, error);
                    let failed = Error::Unreachable { server: server.to_owned(), why: why.clone() };
                    if !passing {
                        return Err(failed);
                    }
                    (why, None, Err(failed))
                }
            };
            let Some(wait) = self.retries.wait(number, asked) else { return outcome };
            self.pause(server, &why, wait)?;
            number += 1;
        }
    }

    /// Waits before a retry, saying so; [`Error::Cancelled`] once nobody wants it any more.
    pub(crate) fn pause(&self, server: &str, why: &str, wait: Duration) -> Result<(), Error> {
        if let Some(notify) = &self.notify {
            notify(&format!("{server}: {why}; trying again in {} s", wait.as_secs_f32().ceil()));
        }
        let end = Instant::now() + wait;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) {
            self.check()?;
            std::thread::sleep(left.min(NAP));
        }
        self.check()
    }

    pub(crate) fn retries(&self) -> Retries {
        self.retries
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.cancelled.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }

    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether it may pass, and a sentence about it with what to do.
    fn explain(&self, server: &str, error: ureq::Error) -> (bool, String) {
        let tls = |error: &rustls::Error| self.explain_tls(server, error);
        match &error {
            ureq::Error::Rustls(error) => (false, tls(error)),
            ureq::Error::Io(error) => {
                let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
                match (inner, error.kind()) {
                    (Some(inner), _) => (false, tls(inner)),
                    (None, io::ErrorKind::ConnectionRefused) => (
                        self.answered.load(Ordering::Relaxed),
                        format!(
                            "{error}; nothing listens there: is the registry up, and its port right?"
                        ),
                    ),
                    // What the resolver says has no errno, and no kind that could be named.
                    (None, _) if error.to_string().starts_with("failed to lookup address") => {
                        (false, format!("{error}; is the name right, and does DNS work?"))
                    }
                    (None, _) => (true, error.to_string()),
                }
            }
            ureq::Error::Timeout(_) => (true, "it does not answer in time".to_owned()),
            ureq::Error::HostNotFound => (
                false,
                "there is no machine of this name; is the name right, and does DNS work?"
                    .to_owned(),
            ),
            _ => (false, error.to_string()),
        }
    }

    fn explain_tls(&self, server: &str, error: &rustls::Error) -> String {
        match (error, &self.no_roots) {
            (rustls::Error::InvalidCertificate(_), Some(why)) => {
                Error::NoRoots { server: server.to_owned(), why: why.clone() }.to_string()
            }
            (rustls::Error::InvalidCertificate(_), None) => format!(
                "{error}; if the registry's certificate is your own, put its authority's certificate in /etc/docker/certs.d/{server}/ca.crt"
            ),
            (rustls::Error::InvalidMessage(_), _) => format!(
                "{error}; it seems to speak no TLS: if that is meant so, name it with --insecure-registry"
            ),
            _ => format!("TLS: {error}"),
        }
    }
}

/// Scheme, host and port of a URL.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    url[host..].find(['/', '?', '#']).map_or(url, |end| &url[..host + end])
}

/// Where a redirect leads; from TLS never to where there is none.
fn resolve(from: &str, to: &str) -> Option<String> {
    let url = match to.strip_prefix("//") {
        Some(rest) => format!("{}//{rest}", from.split("//").next()?),
        None if to.starts_with('/') => format!("{}{to}", origin(from)),
        None => to.to_owned(),
    };
    let fits =
        url.starts_with("https://") || url.starts_with("http://") && from.starts_with("http://");
    fits.then_some(url)
}

/// Whether an answer may be another one soon.
fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// How long an answer asks to wait.
pub(crate) fn wait_of(response: &Response<Body>) -> Option<Duration> {
    let value = response.headers().get("retry-after")?.to_str().ok()?;
    retry_after(value, OffsetDateTime::now_utc())
}

/// What an answer says in words: the errors of the distribution specification, or its status.
pub(crate) fn words(response: Response<Body>) -> String {
    let status = response.status();
    let mut body = Vec::new();
    // An error's text that is cut off is better than none.
    let _ = response.into_body().into_reader().take(ERROR_BODY).read_to_end(&mut body);
    errors(&body).unwrap_or_else(|| status.to_string())
}

/// `code: message` of each error in a body.
fn errors(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let errors: Errors = serde_json::from_slice(body).ok()?;
    let one = |error: &One| {
        let code = error.code.to_lowercase().replace('_', " ");
        match (&code[..], &error.message[..]) {
            (code, "") => code.to_owned(),
            ("", message) => message.to_owned(),
            (code, message) if code == message.to_lowercase() => message.to_owned(),
            (code, message) => format!("{code}: {message}"),
        }
    };
    let text = errors.errors.iter().take(4).map(one).collect::<Vec<_>>().join(", ");
    // It goes to a terminal.
    let clean: String = text.chars().filter(|c| !c.is_control()).take(400).collect();
    Some(clean).filter(|text| !text.is_empty())
}

/// The system's certificates and those for this registry; in words, why there are none.
fn roots(registry: &str, dirs: &[std::path::PathBuf]) -> (RootCerts, Option<String>) {
    let system = rustls_native_certs::load_native_certs();
    let system_certs = system.certs.iter().map(|cert| Certificate::from_der(cert).to_owned());
    let mut all: Vec<Certificate<'static>> = system_certs.collect();
    for dir in dirs {
        all.extend(certificates(&dir.join(registry)));
    }
    let why = all.is_empty().then(|| match system.errors.first() {
        Some(error) => error.to_string(),
        None => "none of the usual places has any".to_owned(),
    });
    (RootCerts::Specific(Arc::new(all)), why)
}

/// Those in the `*.crt` files of a directory. One that cannot be read is not trusted, and the
/// handshake tells.
fn certificates(dir: &Path) -> Vec<Certificate<'static>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|ext| ext == "crt")
            && let Ok(pem) = std::fs::read(&path)
        {
            all.extend(parse_pem(&pem).filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            }));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved() {
        let to = |from, to| resolve(from, to);
        assert_eq!(to("http://h:1/v2/a?b", "/c?d").unwrap(), "http://h:1/c?d");
        assert_eq!(to("https://h/v2/a", "//i/c").unwrap(), "https://i/c");
        assert_eq!(to("http://h/v2/a", "https://i/c").unwrap(), "https://i/c");
        for (from, bad) in [
            ("https://h/a", "http://h/a"),
            ("http://h/a", "file:///a"),
            ("http://h/a", "b"),
            ("http://h/a", ""),
        ] {
            assert_eq!(to(from, bad), None, "{bad}");
        }
        assert_eq!(origin("https://h:5000/v2"), "https://h:5000");
        assert_eq!(origin("https://h?x"), "https://h");
        assert_eq!(origin("https://h"), "https://h");
    }

    #[test]
    fn errors_are_put_in_words() {
        let one = |body: &str| errors(body.as_bytes());
        assert_eq!(
            one(r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#)
                .unwrap(),
            "manifest unknown"
        );
        assert_eq!(
            one(
                r#"{"errors":[{"code":"DENIED","message":"not yours","detail":[1]},{"code":"X"}]}"#
            )
            .unwrap(),
            "denied: not yours, x"
        );
        assert_eq!(one("{\"errors\":[{\"message\":\"a\\u001b[2J\"}]}").unwrap(), "a[2J");
        for none in ["", "<html>", r#"{"errors":[]}"#, r#"{"errors":[{}]}"#] {
            assert_eq!(one(none), None, "{none}");
        }
    }
}
