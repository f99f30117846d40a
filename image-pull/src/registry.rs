//! A repository in its registry: where it is, and requests with whatever login it asks for.

use std::fmt;
use std::net::IpAddr;

use image_store::Reference;
use ureq::Body;
use ureq::http::{Response, StatusCode};

use crate::auth::Auth;
use crate::challenge;
use crate::error::Error;
use crate::http::{Answer, Http, wait_of, words};
use crate::options::PullOptions;

/// Where the registry of the name `docker.io` is.
const DOCKER: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// A repository in its registry.
pub(crate) struct Registry {
    pub(crate) reference: Reference,
    pub(crate) http: Http,
    /// `https://registry.example:5000/v2/library/nginx`
    base: String,
    auth: Auth,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Registry {
    /// Finds out how the registry is spoken to. One that needs no TLS is asked first whether it has it.
    pub(crate) fn connect(reference: &Reference, options: &PullOptions) -> Registry {
        let name = reference.registry();
        let host = if name == DOCKER.0 { DOCKER.1 } else { name };
        let http = Http::new(name, is_loopback(host), options);
        let scheme = match is_insecure(host, &options.insecure) {
            true if !wants_tls(&http, host) => "http",
            _ => "https",
        };
        let base = format!("{scheme}://{host}/v2/{}", reference.repository());
        let auth = Auth::new(reference, scheme == "http", options);
        Registry { reference: reference.clone(), http, base, auth }
    }

    /// The registry's name, for messages.
    pub(crate) fn name(&self) -> &str {
        self.reference.registry()
    }

    /// Asks for something below the repository, from byte `from` on; logs in as it is asked to. The
    /// answer is a good one.
    pub(crate) fn get(&self, path: &str, accept: &str, from: u64) -> Result<Response<Body>, Error> {
        let url = format!("{}/{path}", self.base);
        let mut refused = 0;
        loop {
            let authorization = self.auth.current();
            let range = format!("bytes={from}-");
            let headers = [("accept", accept), ("range", range.as_str())];
            let headers = if from > 0 { &headers[..] } else { &headers[..1] };
            let answer = self.http.get(self.name(), &url, headers, authorization.as_deref())?;
            let status = answer.response.status();
            // A token may end in the middle: one that was good is replaced once.
            if status == StatusCode::UNAUTHORIZED && answer.is_own && refused < 2 {
                refused += 1;
                let headers = answer.response.headers().get_all("www-authenticate").iter();
                let offers: Vec<_> =
                    headers.filter_map(|h| h.to_str().ok()).flat_map(challenge::parse).collect();
                if self.auth.answer(&self.http, &offers, authorization.as_deref())? {
                    continue;
                }
            }
            if status.is_success() {
                return Ok(answer.response);
            }
            return Err(self.refusal(path, answer));
        }
    }

    /// What an answer other than success means.
    fn refusal(&self, path: &str, answer: Answer) -> Error {
        let registry = self.name().to_owned();
        let Answer { response, from: url, is_own } = answer;
        let (status, wait) = (response.status().as_u16(), wait_of(&response));
        let answer = words(response);
        match status {
            401 | 403 if !is_own => {
                let server = format!("the server that {registry} leads to");
                Error::Answer { server, url, answer }
            }
            401 | 403 => Error::Denied {
                registry,
                repository: self.reference.familiar_name(),
                answer,
                hint: self.auth.hint(),
            },
            404 => {
                let name = self.reference.familiar();
                let blob = path.strip_prefix("blobs/");
                let what = blob.map_or(name.clone(), |blob| format!("blob {blob} of {name}"));
                Error::NotFound { registry, what, answer }
            }
            429 => Error::TooMany { server: registry, answer, wait },
            _ => Error::Answer { server: registry, url, answer },
        }
    }
}

/// Whether a registry that may do without TLS has it all the same: Go's and nginx's servers say so, and
/// others answer in it. One that does not answer is asked again with what is wanted of it.
fn wants_tls(http: &Http, host: &str) -> bool {
    match http.agent.get(format!("http://{host}/v2/")).call() {
        Ok(response) if response.status() == StatusCode::BAD_REQUEST => {
            let body = response.into_body().into_with_config().limit(4096).read_to_string();
            body.is_ok_and(|text| text.contains("HTTPS"))
        }
        Err(ureq::Error::Protocol(_)) => true,
        _ => false,
    }
}

fn is_insecure(host: &str, named: &[String]) -> bool {
    is_loopback(host) || named.iter().any(|name| name == host || name == without_port(host))
}

fn is_loopback(host: &str) -> bool {
    let name = without_port(host);
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_do_without_tls() {
        let named = ["registry.example".to_owned(), "10.0.0.1:5000".to_owned()];
        for host in [
            "localhost",
            "localhost:5000",
            "127.0.0.1",
            "127.3.2.1:80",
            "[::1]",
            "[::1]:5000",
            "registry.example",
            "registry.example:81",
            "10.0.0.1:5000",
        ] {
            assert!(is_insecure(host, &named), "{host}");
        }
        for host in [
            "registry-1.docker.io",
            "10.0.0.1",
            "10.0.0.1:5001",
            "localhost.example",
            "127.0.0.1.example:5000",
            "[2001:db8::1]:5000",
            "x.registry.example",
        ] {
            assert!(!is_insecure(host, &named), "{host}");
        }
    }
}
