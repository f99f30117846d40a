//! What a specification may ask for, and what is done here: the rest is an error, never ignored.

use oci_spec::runtime as oci;

use crate::Error;

fn unless_empty<T>(field: &str, value: &Option<Vec<T>>) -> Result<(), Error> {
    match value {
        Some(list) if !list.is_empty() => Err(Error::Unsupported { field: field.to_owned() }),
        _ => Ok(()),
    }
}

fn unless_given<T>(field: &str, value: &Option<T>) -> Result<(), Error> {
    match value {
        Some(_) => Err(Error::Unsupported { field: field.to_owned() }),
        None => Ok(()),
    }
}

/// Refuses what is asked for and not done.
pub(crate) fn check(spec: &oci::Spec) -> Result<(), Error> {
    unless_given("hooks", spec.hooks())?;
    unless_given("vm", spec.vm())?;
    unless_given("windows", spec.windows())?;
    unless_given("solaris", spec.solaris())?;
    if let Some(process) = spec.process() {
        self::process(process)?;
    }
    let Some(linux) = spec.linux() else { return Ok(()) };
    unless_empty("linux.uidMappings", linux.uid_mappings())?;
    unless_empty("linux.gidMappings", linux.gid_mappings())?;
    unless_given("linux.timeOffsets", linux.time_offsets())?;
    unless_given("linux.seccomp", linux.seccomp())?;
    unless_given("linux.intelRdt", linux.intel_rdt())?;
    unless_given("linux.personality", linux.personality())?;
    unless_given("linux.mountLabel", linux.mount_label())?;
    Ok(())
}

/// The same for a process, of a container or of an exec.
pub(crate) fn process(process: &oci::Process) -> Result<(), Error> {
    unless_given("process.ioPriority", process.io_priority())?;
    unless_given("process.scheduler", process.scheduler())?;
    unless_given("process.execCPUAffinity", process.exec_cpu_affinity())?;
    unless_given("process.commandLine", process.command_line())?;
    for (field, label) in [
        ("process.apparmorProfile", process.apparmor_profile()),
        ("process.selinuxLabel", process.selinux_label()),
    ] {
        unless_given(field, &label.as_ref().filter(|label| !label.is_empty()))?;
    }
    Ok(())
}
