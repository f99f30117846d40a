//! What can go wrong, each as a sentence.

mod make;

use std::io;
use std::path::PathBuf;

use crate::near::near_hint;
pub(crate) use make::shorten;

/// A request that cannot be met.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("cannot {op} {}: {source}", path.display())]
    System {
        /// what was tried
        op: &'static str,
        /// on what
        path: PathBuf,
        /// what the kernel said
        source: io::Error,
    },
    /// The image cannot be loaded or found.
    #[error(transparent)]
    Store(#[from] image_store::Error),
    /// The image cannot be pulled.
    #[error(transparent)]
    Pull(#[from] image_pull::Error),
    /// The image is for another platform than was asked for.
    #[error(
        "the image {image} is for {found}, and {wanted} is asked for; pull the one for {wanted}, or leave --platform out"
    )]
    OtherPlatform {
        /// what the user named
        image: String,
        /// the image's platform
        found: String,
        /// the one that was asked for
        wanted: String,
    },
    /// A volume cannot be made, filled or mounted.
    #[error(transparent)]
    Volume(#[from] bindvol::Error),
    /// The overlay of the image's layers cannot be mounted.
    #[error(transparent)]
    Overlay(#[from] overlay::Error),
    /// A container's cgroup.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// What cannot be done with a container that is paused.
    #[error("container {name} ({id}) is paused: {why}; unpause it before")]
    Paused {
        /// its name
        name: String,
        /// its id
        id: String,
        /// what cannot be done
        why: &'static str,
    },
    /// A container that must be paused is not.
    #[error("container {name} ({id}) is not paused")]
    NotPaused {
        /// its name
        name: String,
        /// its id
        id: String,
    },
    /// The container, or a program in it, cannot be made or started.
    #[error(transparent)]
    Runtime(#[from] oci_runtime::Error),
    /// The supervising process cannot be split off.
    #[error("cannot make the container's supervising process: {0}")]
    Split(#[from] ns_core::Error),
    /// The container could not be started.
    #[error("{message}")]
    Start {
        /// why
        message: String,
        /// the exit status for it
        code: u8,
    },
    /// The supervising process is gone without a word.
    #[error(
        "the supervising process of the container {container} was killed; the next command tidies \
         up what it has left"
    )]
    Supervisor {
        /// the container's id
        container: String,
    },
    /// A record is not what was written.
    #[error("{} is damaged: {source}; remove the container's directory", path.display())]
    Damaged {
        /// the file
        path: PathBuf,
        /// what is wrong with it
        source: serde_json::Error,
    },
    /// A container's name that another one has.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You \
         have to remove (or rename) that container to be able to reuse that name."
    )]
    NameInUse {
        /// the name
        name: String,
        /// the id of the container that has it
        owner: String,
    },
    /// The archive has several images.
    #[error(
        "the archive has {}, and one is needed: load it with `load -i`, then run one by its name",
        several(found)
    )]
    SeveralImages {
        /// their names or ids
        found: Vec<String>,
    },
    /// A container that must run does not.
    #[error("container {name} ({id}) is not running")]
    NotRunning {
        /// its name
        name: String,
        /// its id
        id: String,
    },
    /// A container whose process has ended has no input and output.
    #[error("cannot attach to a stopped container, start it first")]
    AttachStopped,
    /// One whose next process is still to come.
    #[error("cannot attach to a restarting container, wait until it is running")]
    AttachRestarting,
    /// The process that watched over one of `exec` is gone without a word.
    #[error(
        "the process that watched over a command in the container {container} was killed; the command \
         may still run"
    )]
    Holder {
        /// the container's id
        container: String,
    },
    /// A container that goes at its end cannot be started again.
    #[error(
        "Conflicting options: a container with --rm is removed when it ends, and cannot be started \
         again; leave --rm out"
    )]
    RestartAndRemove,
    /// A container whose output nobody keeps.
    #[error(
        "the container {name} has no log: it was made with --log-driver none, which keeps no output; make \
         it without that to read what it prints"
    )]
    LogDriver {
        /// its name
        name: String,
    },
    /// A container that must not run does.
    #[error(
        "cannot remove container {name} ({id}): it is running; stop it before, or use -f to kill it"
    )]
    Running {
        /// its name
        name: String,
        /// its id
        id: String,
    },
    /// The kernel does not end a process.
    #[error(
        "the process {pid} was sent SIGKILL and has not ended within 10 s: the kernel waits for \
         something in its name (a disk, a network file system); try again later"
    )]
    Unkillable {
        /// its number on the host
        pid: i32,
    },
    /// The OCI configuration cannot be put together.
    #[error("cannot make the container's OCI configuration: {0}")]
    Spec(#[from] oci_spec::OciSpecError),
    /// A network that is not there.
    #[error(
        "there is no network {name:?}: use --network none (the default) or --network host; \
             bridges and networks with names are not there yet"
    )]
    Network {
        /// as typed, cut
        name: String,
    },
    /// A name that a container cannot have.
    #[error("invalid container name {name:?}: {why}; a name is [a-zA-Z0-9][a-zA-Z0-9_.-]+")]
    Name {
        /// as typed, cut
        name: String,
        /// the rule that it breaks
        why: &'static str,
    },
    /// A value of an option, or of the image's configuration, that breaks a rule.
    #[error("invalid {what} {value:?}: {why}")]
    Invalid {
        /// what it is: `hostname`, `working directory` …
        what: &'static str,
        /// as typed, cut
        value: String,
        /// the rule that it breaks, and what to do
        why: &'static str,
    },
    /// A value of an option that cannot be understood.
    #[error("invalid {option} {value:?}: {why}")]
    Option {
        /// the option
        option: &'static str,
        /// as typed, cut
        value: String,
        /// what is wrong, and what to write
        why: &'static str,
    },
    /// A seccomp profile that no filter can be made of.
    #[error("cannot use the seccomp profile {file:?} of --security-opt: {why}")]
    SeccompProfile {
        /// its file, cut, or the name of the container that has it
        file: String,
        /// what is wrong, and where in it
        why: String,
    },
    /// An option asks for something that is to come.
    #[error("{option} {value:?} needs {what}, and that is not there yet: leave it out")]
    NotYet {
        /// the option
        option: &'static str,
        /// as typed, cut
        value: String,
        /// what is missing
        what: &'static str,
    },
    /// A mode of a namespace that there is not.
    #[error(
        "invalid {option} {text:?}: there are {}{}", known.join(", "),
        if *others { " and container:NAME" } else { "" }
    )]
    Mode {
        /// the option
        option: &'static str,
        /// as typed, cut
        text: String,
        /// the words that there are
        known: Vec<String>,
        /// whether another container's can be joined
        others: bool,
    },
    /// A container whose IPC namespace is its own alone.
    #[error(
        "cannot join the IPC namespace of container {name}: it is not shareable; start that with \
         --ipc shareable"
    )]
    NotShareable {
        /// its name
        name: String,
    },
    /// Neither the request nor the image says what to run.
    #[error(
        "no command specified: the image {image} has neither CMD nor ENTRYPOINT, or --entrypoint \
         took their place; write a command behind the image"
    )]
    NoCommand {
        /// the image as the user named it
        image: String,
    },
    /// A capability that Linux does not have.
    #[error(
        "invalid {option} {name:?}: it is none of Linux's capabilities{}; see capabilities(7), or \
         use ALL",
        near_hint(near)
    )]
    Capability {
        /// `--cap-add` or `--cap-drop`
        option: &'static str,
        /// as typed, cut
        name: String,
        /// capabilities whose names are like it
        near: Vec<String>,
    },
    /// A signal that Linux does not have.
    #[error("invalid signal {0:?}: write a name such as TERM, SIGTERM or RTMIN+3, or 1 to 64")]
    Signal(String),
    /// Two volumes for one target.
    #[error("Duplicate mount point: {target}: each target takes one -v, --mount or --tmpfs")]
    DuplicateMount {
        /// the target in the container
        target: String,
    },
    /// A user that the image does not have.
    #[error(
        "unable to find user {name}: no matching entries in passwd file{}; give a numeric id, or a \
         user that the image's /etc/passwd has{}", missing(*no_file), listed(known)
    )]
    UnknownUser {
        /// as typed, cut
        name: String,
        /// whether the image has no /etc/passwd at all
        no_file: bool,
        /// some that it has
        known: Vec<String>,
    },
    /// A group that the image does not have.
    #[error(
        "unable to find group {name}: no matching entries in group file{}; give a numeric id, or a \
         group that the image's /etc/group has{}", missing(*no_file), listed(known)
    )]
    UnknownGroup {
        /// as typed, cut
        name: String,
        /// whether the image has no /etc/group at all
        no_file: bool,
        /// some that it has
        known: Vec<String>,
    },
    /// A file of the image that cannot be what it should be.
    #[error("cannot use {file} of the image: {problem}")]
    ImageFile {
        /// its path in the image
        file: &'static str,
        /// what is wrong with it
        problem: String,
    },
    /// An image's health check that is none.
    #[error(
        "the image's health check cannot be understood: {problem}; give another with --health-cmd, or \
         leave it out with --no-healthcheck"
    )]
    ImageHealthcheck {
        /// what is wrong with it
        problem: String,
    },
    /// The program that is bound into the container needs what the container does not have.
    #[error(
        "--init needs this program to be a static one, and {} is linked dynamically (it has an \
         interpreter, PT_INTERP): use the release binary, or leave --init out", path.display()
    )]
    InitNotStatic {
        /// the program
        path: PathBuf,
    },
    /// An image that a container is of.
    #[error(
        "conflict: unable to remove image {image} - {} is using it; remove the container first (use \
         -f to take away the image's names only)",
        container.as_ref().map_or("a container".to_owned(), |name| format!("container {name}"))
    )]
    ImageInUse {
        /// as typed, cut
        image: String,
        /// the container's name
        container: Option<String>,
    },
    /// A change to an image's configuration that cannot be made.
    #[error("invalid change {change:?}: {why}")]
    Change {
        /// as typed, cut
        change: String,
        /// what is wrong with it
        why: String,
    },
    /// No container of this name or id.
    #[error("No such container: {text}{}", near_hint(near))]
    NoSuchContainer {
        /// as typed, cut
        text: String,
        /// names that are like it
        near: Vec<String>,
    },
    /// A volume is to be added where something is mounted.
    #[error(
        "cannot mount on {target} of container {name}: something is mounted there already; take it \
         away first (umount {name} {target}), or choose another target"
    )]
    TargetTaken {
        /// the target in the container
        target: String,
        /// the container's name
        name: String,
    },
    /// What is to be taken away is none of the container's volumes.
    #[error(
        "cannot unmount {target} of container {name}: it is none of the container's volumes{}",
        listed(known)
    )]
    NotAVolume {
        /// the target in the container
        target: String,
        /// the container's name
        name: String,
        /// where the volumes are
        known: Vec<String>,
    },
    /// A volume that processes of the container use.
    #[error(
        "cannot unmount {target} of container {name}: it is in use by {}; end that first, or use \
         --lazy, which leaves it to those who use it and to nobody else",
        users.join(", ")
    )]
    VolumeInUse {
        /// the target in the container
        target: String,
        /// the container's name
        name: String,
        /// the processes: `sh (pid 4711)`
        users: Vec<String>,
    },
    /// Somebody else has the container, and does not let go.
    #[error(
        "container {name} ({id}) is being started, stopped or copied by another command; try again \
         when that has ended"
    )]
    Busy {
        /// its name
        name: String,
        /// its id
        id: String,
    },
    /// What is to be copied cannot be, or not to there.
    #[error("cannot copy {}: {why}", shorten(path))]
    Copy {
        /// which path
        path: String,
        /// the rule that it breaks, or what the kernel said, and what to do
        why: String,
    },
    /// No volume of this name.
    #[error("get {name}: no such volume{}", near_hint(near))]
    NoSuchVolume {
        /// as typed, cut
        name: String,
        /// names that are like it
        near: Vec<String>,
    },
    /// A volume that a container has.
    #[error(
        "remove {name}: volume is in use - [{}]; remove the containers first",
        users.join(", ")
    )]
    VolumeOfContainers {
        /// its name
        name: String,
        /// the ids of the containers
        users: Vec<String>,
    },
    /// The host's ps does not do what it should.
    #[error("cannot list the container's processes with ps: {message}")]
    Ps {
        /// what it says, or what is wrong with its output
        message: String,
    },
    /// Several containers' ids start so.
    #[error(
        "{text} is the start of several containers' ids: {}; give more digits or the name",
        candidates.join(", ")
    )]
    AmbiguousContainer {
        /// as typed, cut
        text: String,
        /// id and name of each
        candidates: Vec<String>,
    },
}

fn several(found: &[String]) -> String {
    if found.is_empty() {
        return "no image for this platform".to_owned();
    }
    format!("several images ({})", found.join(", "))
}

fn missing(no_file: bool) -> &'static str {
    if no_file { " (there is no such file)" } else { "" }
}

fn listed(known: &[String]) -> String {
    if known.is_empty() { String::new() } else { format!(": {}", known.join(", ")) }
}
