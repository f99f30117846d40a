//! What a registry asks for in WWW-Authenticate (RFC 9110, 11.6.1).

/// A way to log in that a registry offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A token of this server, for this service.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
    /// User and password with each request.
    Basic,
}

/// The offers in one header, the ones that are not known left out.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut rest = header;
    let mut offers: Vec<(String, Vec<(String, String)>)> = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let word = rest.split(|c: char| !is_token(c)).next().unwrap_or_default();
        if word.is_empty() {
            break;
        }
        let after = rest[word.len()..].trim_start_matches([' ', '\t']);
        // `name=value` belongs to the offer before; a word without `=` starts one.
        match (after.strip_prefix('='), offers.last_mut()) {
            (Some(after), Some((_, parameters))) => {
                let Some((value, left)) = value(after.trim_start_matches([' ', '\t'])) else {
                    break;
                };
                parameters.push((word.to_ascii_lowercase(), value));
                rest = left;
            }
            (Some(_), None) => break,
            (None, _) => {
                offers.push((word.to_ascii_lowercase(), Vec::new()));
                rest = after;
            }
        }
    }
    offers.into_iter().filter_map(|(scheme, parameters)| known(&scheme, parameters)).collect()
}

fn known(scheme: &str, parameters: Vec<(String, String)>) -> Option<Challenge> {
    let find = |name| {
        let found = parameters.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    };
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: find("realm")?,
            service: find("service"),
            scope: find("scope"),
        }),
        _ => None,
    }
}

/// A token or a quoted string, and what follows it; none if a quote is not closed.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !is_token(c)).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut out = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, &quoted[at + 1..])),
            '\\' => out.push(chars.next()?.1),
            other => out.push(other),
        }
    }
    None
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer { realm: realm.into(), service: owned(service), scope: owned(scope) }
    }

    #[test]
    fn offers_of_real_registries() {
        assert_eq!(
            parse(
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#
            ),
            [bearer(
                "https://auth.docker.io/token",
                Some("registry.docker.io"),
                Some("repository:a/b:pull,push")
            )]
        );
        assert_eq!(parse(r#"Basic realm="Registry Realm""#), [Challenge::Basic]);
        assert_eq!(
            parse(r#"Negotiate, BASIC realm=x, bearer  Realm = "a\"b" , error="y""#),
            [Challenge::Basic, bearer("a\"b", None, None)]
        );
    }

    #[test]
    fn what_is_broken_offers_nothing() {
        for text in
            ["", ",", "=", "realm=\"x\"", "Bearer", "Bearer realm=", "Bearer realm=\"x", "é"]
        {
            assert_eq!(parse(text), [], "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(text in ".{0,60}") {
            parse(&text);
        }

        #[test]
        fn parameters_are_read_back(realm in "[ -~]{1,20}", service in "[ -~]{1,20}") {
            let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
            let header =
                format!("Bearer realm=\"{}\",service=\"{}\"", quote(&realm), quote(&service));
            prop_assert_eq!(parse(&header), [bearer(&realm, Some(&service), None)]);
        }
    }
}
