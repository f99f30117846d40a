//! `delete`.

use anyhow::Context as _;
use oci_runtime::{Error, Recorded};
use regex_lite::Regex;

use crate::cli::DeleteArgs;
use crate::{Context, sentence};

/// Removes a container, or as crun all whose ids an expression is found in. Of those that cannot be removed each is told
/// of, and the others are removed.
pub(crate) fn delete(context: &Context, args: &DeleteArgs) -> anyhow::Result<u8> {
    if !args.regex {
        return one(context, &args.id, args.force).map(|()| 0);
    }
    let expression = Regex::new(&args.id)
        .with_context(|| format!("--regex {:?} is no regular expression", args.id))?;
    let mut status = 0;
    for id in context.home.ids()?.iter().filter(|id| expression.is_match(id)) {
        match one(context, id, args.force) {
            Ok(()) => {}
            // It went meanwhile.
            Err(error) if matches!(error.downcast_ref(), Some(Error::NoSuchContainer { .. })) => {}
            Err(error) => {
                context.log.error(&format!("{id}: {}", sentence(&error)));
                status = 1;
            }
        }
    }
    Ok(status)
}

fn one(context: &Context, id: &str, force: bool) -> anyhow::Result<()> {
    context.log.warnings(&Recorded::delete(&context.home, id, force)?);
    context.log.debug(&format!("deleted container {id}"));
    Ok(())
}
