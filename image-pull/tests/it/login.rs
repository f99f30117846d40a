//! Logins: tokens, passwords, and those that are refused.

use std::sync::Arc;

use image_pull::Credentials;

use crate::content::{Content, Puller, layer};
use crate::server::{Reply, Request, Server};

fn content() -> Content {
    Content::image(&[layer("file", 300 << 10)])
}

/// A registry that gives nothing without the newest token, of which there is a new one after `uses` requests.
fn with_tokens(uses: usize, password: Option<&'static str>) -> Server {
    let count = Arc::new(std::sync::Mutex::new((0, 0)));
    Server::start(content(), move |request| {
        let mut count = count.lock().unwrap();
        if request.path.starts_with("/token") {
            if password.is_some_and(|given| request.authorization.as_deref() != Some(given)) {
                return Some(Reply::error(401, "UNAUTHORIZED", "incorrect username or password"));
            }
            *count = (count.0 + 1, 0);
            let field = if count.0 % 2 == 0 { "access_token" } else { "token" };
            let body = serde_json::json!({ field: format!("t{}", count.0), "expires_in": 60 });
            return Some(Reply::new(200, body.to_string().as_bytes()));
        }
        if request.path == "/v2/" {
            return None;
        }
        count.1 += 1;
        let good = request.authorization == Some(format!("Bearer t{}", count.0));
        (!good || count.1 > uses).then(|| denied(request))
    })
}

fn denied(request: &Request) -> Reply {
    // The server is its own token server, at the address that it was asked at.
    let host = request.host.clone();
    Reply::error(401, "UNAUTHORIZED", "authentication required").header(
        "WWW-Authenticate",
        &format!(
            "Bearer realm=\"http://{host}/token\",service=\"the service\",scope=\"repository:team/a:pull\""
        ),
    )
}

#[test]
fn a_token_is_fetched_without_a_password_and_again_when_it_ends() {
    let server = with_tokens(2, None);
    let puller = Puller::new();
    puller.pull(&server.name("team/a:1")).unwrap();
    let asked = server.seen("/token");
    assert!(asked.len() >= 2, "{asked:?}");
    let query = "/token?service=the%20service&scope=repository%3Ateam%2Fa%3Apull";
    assert!(asked.iter().all(|r| r.path == query && r.authorization.is_none()), "{asked:?}");
}

#[test]
fn a_password_from_a_file_gets_a_token() {
    let server = with_tokens(100, Some("Basic dTpw")); // u:p
    let puller = Puller::new();
    let error = puller.refuse(&server.name("team/a:1"));
    assert!(error.contains("incorrect username or password"), "{error}");
    assert!(error.contains("docker login") && error.contains("team/a"), "{error}");

    let file = |auth: &str| {
        let config = serde_json::json!({"auths": {&server.host: {"auth": auth}}});
        std::fs::write(&puller.options.auth_files[0], config.to_string()).unwrap();
    };
    file("dTpx"); // u:q
    let error = puller.refuse(&server.name("team/a:1"));
    assert!(error.contains("auth.json") && error.contains("log in anew"), "{error}");
    file("dTpw");
    puller.pull(&server.name("team/a:1")).unwrap();
}

#[test]
fn an_identity_token_is_exchanged() {
    let server = Server::start(content(), |request| {
        if request.path.starts_with("/token") {
            return Some(Reply::new(200, br#"{"access_token":"t"}"#));
        }
        let good = request.authorization.as_deref() == Some("Bearer t") || request.path == "/v2/";
        (!good).then(|| denied(request))
    });
    let mut puller = Puller::new();
    puller.options.credentials = Some(Credentials::IdentityToken("id&1".into()));
    puller.pull(&server.name("team/a:1")).unwrap();
    let asked = server.seen("/token");
    assert_eq!((asked.len(), &asked[0].method[..]), (1, "POST"));
    for part in ["grant_type=refresh_token", "refresh_token=id%261", "service=the"] {
        assert!(asked[0].body.contains(part), "{}", asked[0].body);
    }
}

#[test]
fn user_and_password_go_with_each_request() {
    let server = Server::start(content(), |request| {
        let good = request.authorization.as_deref() == Some("Basic dTpw") || request.path == "/v2/";
        let reply = Reply::error(401, "UNAUTHORIZED", "authentication required");
        (!good).then(|| reply.header("WWW-Authenticate", "Basic realm=\"r\""))
    });
    let mut puller = Puller::new();
    let error = puller.refuse(&server.name("a:1"));
    assert!(error.contains("authentication required") && error.contains("podman login"), "{error}");
    assert_eq!(server.seen("/manifests/").len(), 1);
    let login = |password: &str| {
        Some(Credentials::Password { user: "u".into(), password: password.into() })
    };
    puller.options.credentials = login("wrong");
    puller.refuse(&server.name("a:1"));
    assert_eq!(
        server.seen("/manifests/").len(),
        3,
        "a password that was refused is not sent again"
    );
    puller.options.credentials = login("p");
    puller.pull(&server.name("a:1")).unwrap();
}

#[test]
fn who_may_not_and_who_offers_nothing() {
    let server = Server::start(content(), |request| {
        let reply = Reply::error(403, "DENIED", "requested access to the resource is denied");
        request.path.contains("/manifests/").then_some(reply)
    });
    let error = Puller::new().refuse(&server.name("team/a:1"));
    assert!(error.contains("requested access to the resource is denied"), "{error}");
    assert!(error.contains("misspelt") && error.contains("private"), "{error}");
    for offer in ["Negotiate", "Bearer realm=\"file:///etc/passwd\"", "Bearer"] {
        let server = Server::start(content(), move |request| {
            let reply = Reply::new(401, b"").header("WWW-Authenticate", offer);
            request.path.contains("/manifests/").then_some(reply)
        });
        let error = Puller::new().refuse(&server.name("a:1"));
        assert!(error.contains("401") || error.contains("no address"), "{offer}: {error}");
    }
}

#[test]
fn a_login_does_not_follow_a_redirect_to_another_server() {
    let elsewhere = Server::start(content(), |_| None);
    let target = elsewhere.host.clone();
    let server = Server::start(content(), move |request| {
        if request.path == "/v2/" {
            return None;
        }
        if request.authorization.is_none() {
            let reply = Reply::new(401, b"");
            return Some(reply.header("WWW-Authenticate", "Basic realm=\"r\""));
        }
        request.path.contains("/blobs/").then(|| {
            let to = format!("http://{target}{}", request.path);
            Reply::new(307, b"").header("Location", &to)
        })
    });
    let mut puller = Puller::new();
    puller.options.credentials =
        Some(Credentials::Password { user: "u".into(), password: "p".into() });
    puller.pull(&server.name("a:1")).unwrap();
    let seen = elsewhere.seen("/blobs/");
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|request| request.authorization.is_none()), "{seen:?}");
}

/// A server that the registry leads to can ask for a login as well as any: it is not the one that a password is for.
#[test]
fn who_is_redirected_to_is_given_no_login() {
    for offer in ["Bearer realm=\"http://HOST/token\",service=\"s\"", "Basic realm=\"r\""] {
        let elsewhere = Server::start(content(), move |request| {
            if request.path.starts_with("/token") {
                return Some(Reply::new(200, br#"{"token":"t"}"#));
            }
            let offer = offer.replace("HOST", &request.host);
            Some(Reply::new(401, b"").header("WWW-Authenticate", &offer))
        });
        let target = elsewhere.host.clone();
        let server = Server::start(content(), move |request| {
            request.path.contains("/blobs/").then(|| {
                let to = format!("http://{target}{}", request.path);
                Reply::new(307, b"").header("Location", &to)
            })
        });
        for credentials in [
            Credentials::Password { user: "u".into(), password: "p".into() },
            Credentials::IdentityToken("secret".into()),
        ] {
            let mut puller = Puller::new();
            puller.options.credentials = Some(credentials);
            let error = puller.refuse(&server.name("a:1"));
            assert!(error.contains("401"), "{error}");
        }
        assert!(!elsewhere.seen("/blobs/").is_empty());
        assert_eq!(elsewhere.seen("/token").len(), 0, "{offer}");
        let bare = |request: &Request| request.authorization.is_none();
        assert!(elsewhere.seen("").iter().all(bare), "{offer}");
        assert!(server.seen("").iter().all(bare), "{offer}");
    }
}
