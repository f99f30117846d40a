//! Calls that some architectures have as one number for many: socketcall(2) and ipc(2). Who names
//! `connect` in a filter means the one that goes through socketcall too.

use crate::{Condition, Op};

/// In the order of their numbers, from 1 on (include/uapi/linux/net.h).
const SOCKET: &[&str] = &[
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// include/uapi/linux/ipc.h.
const IPC: &[(&str, u64)] = &[
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// The call through which `name` can be reached as well, and the condition on its arguments.
pub(crate) fn through(name: &str) -> Option<(&'static str, Condition)> {
    if let Some(at) = SOCKET.iter().position(|own| *own == name) {
        let equal = Condition { index: 0, value: at as u64 + 1, value_two: 0, op: Op::Equal };
        return Some(("socketcall", equal));
    }
    let (_, number) = IPC.iter().find(|(own, _)| *own == name)?;
    // The upper half is a version, with which a comparison of the whole could be got round.
    let masked = Condition { index: 0, value: 0xffff, value_two: *number, op: Op::MaskedEqual };
    Some(("ipc", masked))
}
