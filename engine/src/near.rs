//! "Did you mean".

/// How far a name may be from another to be meant by it.
const DISTANCE: usize = 2;
/// How many are worth showing.
const SHOWN: usize = 5;

/// Up to five of `names` that are like `text`, the likeliest first.
pub(crate) fn near<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    // Longer text is no mistyped name, and comparing it costs.
    if text.is_empty() || text.len() > 256 {
        return Vec::new();
    }
    let mut found: Vec<(usize, &str)> = names
        .filter_map(|name| {
            let distance = strsim::osa_distance(text, name);
            // One within the other counts from three letters on: shorter ones are in everything.
            let part = |of: &str, part: &str| part.len() > 2 && of.contains(part);
            let within = part(name, text) || part(text, name);
            (distance <= DISTANCE.min(text.len() / 2) || within).then_some((distance, name))
        })
        .collect();
    found.sort_unstable();
    found.into_iter().take(SHOWN).map(|(_, name)| name.to_owned()).collect()
}

/// What a message says of them.
pub(crate) fn near_hint(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; near to it: {}", near.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likely_names_come_first() {
        let names = ["nginx", "my-nginx", "httpd", "nginy", "x"];
        assert_eq!(near("ngnix", names.into_iter()), ["nginx", "nginy"]);
        assert_eq!(near("nginx", names.into_iter()), ["nginx", "nginy", "my-nginx"]);
        assert_eq!(near("zzz", names.into_iter()), [""; 0]);
        assert_eq!(near("y", names.into_iter()), [""; 0]);
    }
}
