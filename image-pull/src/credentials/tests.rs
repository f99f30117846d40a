use std::os::unix::fs::PermissionsExt;

use super::*;

fn find_in(text: &str, registry: &str, repository: &str) -> Result<Option<Credentials>, Error> {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("config.json");
    std::fs::write(&path, text).unwrap();
    let missing = temp.path().join("none.json");
    let found = find(&[missing, path], registry, repository)?;
    Ok(found.map(|found| found.credentials))
}

fn password(user: &str, password: &str) -> Option<Credentials> {
    Some(Credentials::Password { user: user.into(), password: password.into() })
}

#[test]
fn dockers_keys_and_podmans() {
    // u:p, v:q, w:r:s
    let text = r#"{"auths": {
        "https://index.docker.io/v1/": {"auth": "dTpw"},
        "registry.example:5000": {"auth": "djpx"},
        "https://old.example/v2/": {"auth": "dTpw"},
        "team.example/a/b": {"auth": "dzpyOnM"},
        "team.example": {"username": "x", "password": "y"},
        "token.example": {"auth": "dTpw", "identitytoken": "t"},
        "empty.example": {}
    }}"#;
    let find = |registry, repository| find_in(text, registry, repository).unwrap();
    assert_eq!(find("docker.io", "library/nginx"), password("u", "p"));
    assert_eq!(find("registry.example:5000", "a"), password("v", "q"));
    assert_eq!(find("registry.example", "a"), None, "another port is another registry");
    assert_eq!(find("old.example", "a"), password("u", "p"));
    assert_eq!(find("team.example", "a/b"), password("w", "r:s"));
    assert_eq!(find("team.example", "a/b/c"), password("w", "r:s"));
    assert_eq!(find("team.example", "a/bc"), password("x", "y"));
    assert_eq!(find("token.example", "a"), Some(Credentials::IdentityToken("t".into())));
    assert_eq!(find("empty.example", "a"), None);
}

#[test]
fn a_broken_file_is_named() {
    for (text, why) in [
        ("{", "EOF"),
        (r#"{"auths": {"r": {"auth": "%"}}}"#, "base64"),
        (r#"{"auths": {"r": {"auth": "dQ=="}}}"#, "user:password"),
    ] {
        let error = find_in(text, "r", "a").unwrap_err().to_string();
        assert!(error.contains("config.json") && error.contains(why), "{error}");
    }
}

#[test]
fn a_helper_is_run_for_its_registry_or_for_all() {
    let temp = tempfile::tempdir().unwrap();
    let helper = |name: &str, script: &str| {
        let path = temp.path().join(format!("docker-credential-{name}"));
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    helper(
        "one",
        r#"[ "$1" = get ] && read -r server; echo "{\"ServerURL\":\"$server\",\"Username\":\"u\",\"Secret\":\"$server\"}""#,
    );
    helper("none", "echo credentials not found in native keychain; exit 1");
    helper("broken", "echo oh no >&2; exit 3");
    let output = |config: &str, registry: &str| {
        let path = temp.path().join("config.json");
        std::fs::write(&path, config).unwrap();
        let file: AuthFile = serde_json::from_str(config).unwrap();
        file.find_with(&|name| Command::new(temp.path().join(name)), &path, registry, "a")
            .map(|found| found.map(|found| found.credentials))
    };
    let both = r#"{"credHelpers": {"r.example": "one"}, "credsStore": "none"}"#;
    assert_eq!(output(both, "r.example").unwrap(), password("u", "r.example"));
    assert_eq!(output(both, "other.example").unwrap(), None);
    let store = r#"{"credsStore": "one"}"#;
    assert_eq!(output(store, "docker.io").unwrap(), password("u", DOCKER));
    for (name, why) in [("broken", "oh no"), ("missing", "No such file"), ("../x", "no name")] {
        let error = output(&format!(r#"{{"credsStore": "{name}"}}"#), "r.example").unwrap_err();
        let error = error.to_string();
        assert!(error.contains(&format!("docker-credential-{name}")), "{error}");
        assert!(error.contains(why) && error.contains("r.example"), "{error}");
    }
}

#[test]
fn a_secret_is_not_shown() {
    let shown =
        format!("{:?} {:?}", password("u", "hidden"), Credentials::IdentityToken("hidden".into()));
    assert!(!shown.contains("hidden"), "{shown}");
}
