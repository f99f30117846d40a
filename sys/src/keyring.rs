//! Session keyrings (session-keyring(7)).

use rustix::io::Errno;

use crate::process::last_errno;

/// Gives the calling process a new, empty session keyring, in place of the one that it shares with
/// whoever started it (keyctl(2), KEYCTL_JOIN_SESSION_KEYRING). A kernel without keyrings has nothing
/// to share: ENOSYS is no error.
pub fn new_session() -> Result<(), Errno> {
    // SAFETY: the operation takes a name, and a null pointer asks for a keyring without one.
    let result = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    };
    match result {
        -1 => match last_errno() {
            Errno::NOSYS => Ok(()),
            errno => Err(errno),
        },
        _ => Ok(()),
    }
}
