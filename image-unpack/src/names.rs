//! Names of images, as archives write them and as Docker shows them.

use crate::reference::Reference;

/// The short form of a name, with its tag: `docker.io/library/nginx` is `nginx:latest`.
/// None if it is no name, or names a digest.
pub(crate) fn normalise(name: &str) -> Option<String> {
    let reference: Reference = name.parse().ok()?;
    reference.tag().is_some().then(|| reference.familiar())
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
