//! What a specification may ask for, and what is done here: the rest is an error, never ignored.

use oci_spec::runtime as oci;

use crate::Error;

fn unless_given<T>(field: &str, value: &Option<T>) -> Result<(), Error> {
    match value {
        Some(_) => Err(Error::Unsupported { field: field.to_owned() }),
        None => Ok(()),
    }
}

/// Refuses what is asked for and not done.
pub(crate) fn check(spec: &oci::Spec) -> Result<(), Error> {
    let Some(linux) = spec.linux() else { return Ok(()) };
    unless_given("linux.intelRdt", linux.intel_rdt())?;
    Ok(())
}
