//! Docker's verbs that are planned and not there: who types one is told what it waits for.

use clap::error::{ContextKind, ContextValue};

const VERBS: [(&str, &str); 5] = [
    ("build", "a builder; build elsewhere, `docker save`, and run that here"),
    ("login", "a keeper of passwords; what `docker login` and `podman login` have written is used"),
    ("logout", "a keeper of passwords; use `docker logout` or `podman logout`"),
    ("network", "networks of containers; there are --network none and host"),
    ("push", "the other half of `pull`; use `save` and `skopeo copy`"),
];

/// What to say of a command line that fails for such a verb.
pub(crate) fn of(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidSubcommand) else {
        return None;
    };
    let (verb, needs) = VERBS.iter().find(|(verb, _)| verb == typed)?;
    Some(format!("{verb} is not there yet: it needs {needs}"))
}
