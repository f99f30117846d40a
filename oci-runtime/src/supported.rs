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

/// An annotation of crun's, which Podman sets for `--group-add keep-groups`: the process has the
/// supplementary groups of its creator.
pub(crate) fn keeps_groups(spec: &oci::Spec) -> bool {
    let annotations = spec.annotations().as_ref();
    let value = annotations.and_then(|all| all.get("run.oci.keep_original_groups"));
    value.is_some_and(|value| value == "1" || value == "true")
}

/// The same name may be given in two fields; two names may not.
pub(crate) fn one_domain_name(spec: &oci::Spec, linux: &oci::Linux) -> Result<(), Error> {
    const KEYS: [&str; 2] = ["kernel.domainname", "kernel/domainname"];
    let Some(name) = spec.domainname().as_deref().filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    let sysctl = linux.sysctl().as_ref();
    match KEYS.iter().find_map(|key| sysctl.and_then(|all| all.get(*key))) {
        Some(other) if other != name => {
            let reason =
                format!("it is {other:?}, and the field domainname {name:?}; leave one out");
            Err(Error::field("linux.sysctl[\"kernel.domainname\"]", reason))
        }
        _ => Ok(()),
    }
}
