//! The filter as the OCI runtime specification has it (config-linux.md, "Seccomp").

use serde::{Deserialize, Deserializer, Serialize};

use crate::{Arch, Error};

/// Arguments of a system call that a filter can look at (struct seccomp_data of linux/seccomp.h).
const ARGUMENTS: u32 = 6;
/// The kernel's largest errno (MAX_ERRNO of linux/err.h); it makes a larger one this one.
const MAX_ERRNO: u32 = 4095;
const EPERM: u32 = 1;

/// A filter: what is decided about each system call. Reads and writes the specification's JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Filter {
    /// What is done about calls that no rule is about.
    pub default_action: Action,
    /// The errno (or the tracer's value) of the default action; EPERM where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// The architectures whose calls are looked at; that of the machine always is. Calls of another
    /// one end the thread.
    #[serde(default, deserialize_with = "or_default")]
    pub architectures: Vec<Arch>,
    /// Flags of seccomp(2). `None` is `[SpecAllow]`, as in runc; an empty list is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<Flag>>,
    /// The socket to whose listener the descriptor of [`Action::Notify`] goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_path: Option<String>,
    /// What is sent with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_metadata: Option<String>,
    /// The rules. Which one holds where several fit: see the crate's documentation.
    #[serde(default, deserialize_with = "or_default")]
    pub syscalls: Vec<Rule>,
}

/// One rule, about some calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// The names of the calls. Those that no architecture of the filter knows are skipped.
    pub names: Vec<String>,
    /// What is done about them.
    pub action: Action,
    /// The errno, or the value for the tracer; EPERM where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// All must hold; where two are about one argument, one of all is enough (as in runc).
    #[serde(default, deserialize_with = "or_default")]
    pub args: Vec<Condition>,
}

/// A comparison of an argument, which is unsigned: of 64 bits, or of 32 on a 32-bit architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub index: u32,
    /// What it is compared with; for [`Op::MaskedEqual`] the mask.
    pub value: u64,
    /// What the masked argument is compared with, after it was masked too.
    #[serde(default)]
    pub value_two: u64,
    /// How.
    pub op: Op,
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Op {
    /// It is not `value`.
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    /// It is below `value`.
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    /// It is not above `value`.
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    /// It is `value`.
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    /// It is not below `value`.
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    /// It is above `value`.
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    /// Its bits below the mask `value` are those of `value_two`.
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

/// What is done about a call (seccomp(2), "Return values").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Ends the thread: libseccomp's older name of [`Action::KillThread`].
    #[serde(rename = "SCMP_ACT_KILL")]
    Kill,
    /// Ends the process by SIGSYS (Linux 4.14).
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    /// Ends the thread by SIGSYS.
    #[serde(rename = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    /// Sends SIGSYS, which the process can handle.
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    /// Fails with an errno. With 0 the call does nothing and is told to have succeeded.
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    /// Asks the tracer, whom it tells a value; without one it fails with ENOSYS.
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    /// Lets it be.
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    /// Lets it be, and logs it (Linux 4.14).
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    /// Asks who holds the listener's descriptor (Linux 5.0).
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
}

/// A flag of seccomp(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Flag {
    /// All threads: a process that is about to execute a program has one, so nothing is done.
    #[serde(rename = "SECCOMP_FILTER_FLAG_TSYNC")]
    Tsync,
    /// Logs every action but [`Action::Allow`] (Linux 4.14).
    #[serde(rename = "SECCOMP_FILTER_FLAG_LOG")]
    Log,
    /// Leaves the mitigation of speculative store bypass off (Linux 4.17).
    #[serde(rename = "SECCOMP_FILTER_FLAG_SPEC_ALLOW")]
    SpecAllow,
    /// Who waits for an answer of the listener is woken by fatal signals only (Linux 5.19). Without
    /// a listener it means nothing.
    #[serde(rename = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")]
    WaitKillableRecv,
}

/// `null`, which Go writes for an empty list, and a missing field are alike.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl Action {
    /// Whether an errno or a value goes with it.
    pub(crate) fn has_value(self) -> bool {
        matches!(self, Self::Errno | Self::Trace)
    }

    /// The value that the program returns (linux/seccomp.h).
    pub(crate) fn answer(self, value: Option<u32>) -> u32 {
        let value = value.unwrap_or(EPERM) & 0xffff;
        match self {
            Self::KillProcess => 0x8000_0000,
            Self::Kill | Self::KillThread => 0,
            Self::Trap => 0x0003_0000,
            Self::Errno => 0x0005_0000 | value,
            Self::Notify => 0x7fc0_0000,
            Self::Trace => 0x7ff0_0000 | value,
            Self::Log => 0x7ffc_0000,
            Self::Allow => 0x7fff_0000,
        }
    }

    fn check(self, field: &str, value: Option<u32>) -> Result<(), Error> {
        let Some(value) = value else { return Ok(()) };
        let most = match self {
            Self::Errno => MAX_ERRNO,
            Self::Trace => 0xffff,
            _ => {
                let reason = "the action has none; leave it out, or use SCMP_ACT_ERRNO";
                return Err(Error::field(field, reason));
            }
        };
        if value > most {
            return Err(Error::field(
                field,
                format!("{value} is more than {most}, the largest one"),
            ));
        }
        Ok(())
    }
}

impl Filter {
    /// A filter without rules.
    #[must_use]
    pub fn new(default_action: Action) -> Self {
        Self {
            default_action,
            default_errno_ret: None,
            architectures: Vec::new(),
            flags: None,
            listener_path: None,
            listener_metadata: None,
            syscalls: Vec::new(),
        }
    }

    /// What the types do not say: `compile` asks for it first.
    ///
    /// # Errors
    /// A field has a value without a meaning; the error names it.
    pub fn check(&self) -> Result<(), Error> {
        self.default_action.check("defaultErrnoRet", self.default_errno_ret)?;
        for (number, rule) in self.syscalls.iter().enumerate() {
            rule.check(&format!("syscalls[{number}]"))?;
        }
        let has_listener = self.listener_path.as_deref().is_some_and(|path| !path.is_empty());
        if self.notifies() && !has_listener {
            return Err(Error::field(
                "listenerPath",
                "it is missing; SCMP_ACT_NOTIFY needs the socket of who is to be asked",
            ));
        }
        let metadata = self.listener_metadata.as_deref().is_some_and(|text| !text.is_empty());
        if metadata && !has_listener {
            return Err(Error::field("listenerMetadata", "there is no listenerPath to send it to"));
        }
        Ok(())
    }

    /// Whether some call is put to a listener.
    #[must_use]
    pub fn notifies(&self) -> bool {
        self.default_action == Action::Notify
            || self.syscalls.iter().any(|rule| rule.action == Action::Notify)
    }

    pub(crate) fn default_answer(&self) -> u32 {
        self.default_action.answer(self.default_errno_ret)
    }
}

impl Rule {
    /// A rule about calls whatever their arguments are.
    pub fn new<S: Into<String>>(names: impl IntoIterator<Item = S>, action: Action) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        Self { names, action, errno_ret: None, args: Vec::new() }
    }

    pub(crate) fn check(&self, field: &str) -> Result<(), Error> {
        if self.names.is_empty() {
            return Err(Error::field(format!("{field}.names"), "it is empty; name a system call"));
        }
        if let Some(at) = self.names.iter().position(String::is_empty) {
            return Err(Error::field(format!("{field}.names[{at}]"), "it is an empty string"));
        }
        self.action.check(&format!("{field}.errnoRet"), self.errno_ret)?;
        for (number, condition) in self.args.iter().enumerate() {
            if condition.index >= ARGUMENTS {
                let reason = format!("{}: system calls have arguments 0 to 5", condition.index);
                return Err(Error::field(format!("{field}.args[{number}].index"), reason));
            }
        }
        Ok(())
    }

    /// The conditions as alternatives of which each holds where all in it do. No alternative: always.
    pub(crate) fn alternatives(&self) -> Vec<Vec<Condition>> {
        let twice = |(at, one): (usize, &Condition)| {
            self.args[..at].iter().any(|other| other.index == one.index)
        };
        if self.args.iter().enumerate().any(twice) {
            self.args.iter().map(|condition| vec![*condition]).collect()
        } else if self.args.is_empty() {
            Vec::new()
        } else {
            vec![self.args.clone()]
        }
    }

    pub(crate) fn answer(&self) -> u32 {
        self.action.answer(self.errno_ret)
    }
}
