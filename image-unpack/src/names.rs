//! Names of images, as archives write them and as Docker shows them.

/// The short form of a name, with its tag: `docker.io/library/nginx` is `nginx:latest`.
/// None if it is no name (distribution's grammar), or names a digest and no tag.
pub(crate) fn normalise(name: &str) -> Option<String> {
    let name = ["docker.io/", "index.docker.io/"]
        .iter()
        .find_map(|host| name.strip_prefix(host))
        .map_or(name, |rest| {
            // Docker's own images have one component there.
            rest.strip_prefix("library/").unwrap_or(rest)
        });
    if name.len() > 383 || name.contains('@') {
        return None;
    }
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let (path, tag) = match name[last..].find(':') {
        Some(colon) => (&name[..last + colon], &name[last + colon + 1..]),
        None => (name, "latest"),
    };
    let mut parts = path.split('/').peekable();
    let first = parts.peek().copied().unwrap_or_default();
    if last > 0 && is_host(first) {
        parts.next();
    }
    (parts.all(is_component) && is_tag(tag)).then(|| format!("{path}:{tag}"))
}

/// A registry: it has a dot or a port, or is localhost.
fn is_host(part: &str) -> bool {
    let (host, port) = part.split_once(':').map_or((part, None), |(host, port)| (host, Some(port)));
    let edge = |c: char| c.is_ascii_alphanumeric();
    let named = host.starts_with(edge)
        && host.ends_with(edge)
        && host.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-');
    let port_fits =
        port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    named && port_fits && (port.is_some() || host.contains('.') || host == "localhost")
}

/// Lower-case letters and digits, with `.`, `_`, `__` or dashes between them.
fn is_component(part: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let fine =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    edge(part.chars().next())
        && edge(part.chars().last())
        && part.chars().all(fine)
        && !part.contains("..")
}

fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= 128
        && tag.starts_with(word)
        && tag.chars().all(|c| word(c) || matches!(c, '.' | '-'))
}

#[cfg(test)]
mod tests {
    use super::normalise;

    #[test]
    fn names() {
        for (from, to) in [
            ("nginx", "nginx:latest"),
            ("docker.io/library/nginx:1.27", "nginx:1.27"),
            ("index.docker.io/library/nginx", "nginx:latest"),
            ("docker.io/grafana/grafana", "grafana/grafana:latest"),
            ("localhost/a/b:c", "localhost/a/b:c"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
            ("registry.example:443/a_b/c--d:V1.0", "registry.example:443/a_b/c--d:V1.0"),
        ] {
            assert_eq!(normalise(from).as_deref(), Some(to));
        }
        for bad in [
            "",
            ":",
            "a:",
            ":b",
            "A",
            "a//b",
            "/a",
            "a/",
            "../a",
            "a:b:c",
            "a b",
            "a@sha256:00",
            "a:-b",
            "a..b",
            "Host/a",
            "a\n",
        ] {
            assert_eq!(normalise(bad), None, "{bad:?}");
        }
    }
}
