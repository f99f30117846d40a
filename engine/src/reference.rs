//! Which container a user means.

use crate::error::shorten;
use crate::near::near;
use crate::{Container, Error};

/// The container with this id, or else this name (a slash before it counts for nothing, since
/// `inspect` prints one), or else the only one whose id starts so.
///
/// # Errors
/// [`Error::NoSuchContainer`], with names that are like it; [`Error::AmbiguousContainer`].
pub(crate) fn find<'a>(containers: &'a [Container], text: &str) -> Result<&'a Container, Error> {
    let name = text.strip_prefix('/').unwrap_or(text);
    let exact = |matches: &dyn Fn(&Container) -> bool| containers.iter().find(|c| matches(c));
    if let Some(found) = exact(&|c| c.id == text).or_else(|| exact(&|c| c.name == name)) {
        return Ok(found);
    }
    let starts = |c: &&Container| !text.is_empty() && c.id.starts_with(text);
    let mut found = containers.iter().filter(starts);
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(Error::NoSuchContainer {
            text: shorten(text),
            near: near(name, containers.iter().map(|c| &c.name[..])),
        }),
        (Some(_), Some(_)) => Err(Error::AmbiguousContainer {
            text: shorten(text),
            candidates: containers
                .iter()
                .filter(starts)
                .take(5)
                .map(|c| format!("{} ({})", c.short_id(), c.name))
                .collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn containers() -> Vec<Container> {
        // The last one's name is the start of the others' ids.
        [("ab10", "nginx"), ("ab20", "httpd"), ("cd30", "ab")]
            .map(|(start, name)| {
                let mut container = testing::container();
                container.id = format!("{start}{}", "0".repeat(60));
                container.name = name.to_owned();
                container
            })
            .into()
    }

    #[test]
    fn by_id_name_or_the_start_of_an_id() {
        let all = containers();
        let find = |text: &str| find(&all, text).map(|c| &c.name[..]);
        assert_eq!(find("nginx").unwrap(), "nginx");
        assert_eq!(find("/nginx").unwrap(), "nginx");
        assert_eq!(find(&all[1].id).unwrap(), "httpd");
        assert_eq!(find("ab1").unwrap(), "nginx");
        assert_eq!(find("c").unwrap(), "ab");
        assert_eq!(find("ab").unwrap(), "ab", "a name comes before the start of an id");
    }

    #[test]
    fn what_is_not_there_or_not_clear_is_said() {
        let all = containers();
        let find = |text: &str| find(&all, text).unwrap_err().to_string();
        assert_eq!(find("ngnix"), "No such container: ngnix; near to it: nginx");
        assert_eq!(find("zzz"), "No such container: zzz");
        for text in ["", "/", "ngin", "ab1x", "AB1", "../x", &"0".repeat(65)] {
            assert!(find(text).starts_with("No such container: "), "{text}");
        }
        let error = find("a");
        assert!(error.contains("nginx") && error.contains("httpd"), "{error}");
    }
}
