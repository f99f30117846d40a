//! The program itself, where containers cannot write to it.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{Mode, OFlags, StatVfsMountFlags};
use rustix::mount::MountAttrFlags;
use sys::mount::{self, Change};

use crate::Error;

/// The variable that holds the program's path while it runs from the mount that has none.
const PATH: &str = "RUNTIME_EXECUTABLE";
/// The program's path, where the process went over to that mount without being executed again.
static MOVED_FROM: OnceLock<PathBuf> = OnceLock::new();
/// Where the kernel says what the process was executed from.
const SELF: &str = "/proc/self/exe";

/// Lets the calling program run from a read-only mount of its own file: by changing the file that it is
/// executed from (at its entry, [`sys::entry`], or now, [`sys::executable::run_from`]), or, where that cannot be (a program
/// with threads), by executing it again with the same arguments.
///
/// A process on its way into a container, and a container whose command is `/proc/self/exe` or a
/// script `#!/proc/self/exe`, has the host's program as its `/proc/PID/exe`, which root in the container
/// can open and, as soon as nobody runs it, overwrite (CVE-2019-5736). Opened through a read-only mount
/// it cannot be written to, whatever runs; the mount is attached nowhere, so that nobody can make it
/// writable or attach it: the kernel refuses that as soon as the descriptor that it was made by is closed (which takes 20 µs), and
/// so it is before anything runs in a container. To be called before anything else by programs that start containers, or run programs in
/// them.
///
/// open_tree(2) is Linux 5.2, mount_setattr(2) 5.12.
///
/// # Errors
/// `/proc` is not there, or the mount cannot be cloned (CAP_SYS_ADMIN is missing).
pub fn shield() -> Result<(), Error> {
    let io = |op| move |errno: rustix::io::Errno| Error::io(op, SELF)(errno.into());
    if MOVED_FROM.get().is_some() {
        return Ok(());
    }
    if let Some(path) = sys::entry::moved_from() {
        MOVED_FROM.get_or_init(|| path);
        return Ok(());
    }
    let (own, shielded) = look()?;
    if shielded {
        return name();
    }
    let path = std::env::current_exe().map_err(Error::io("finding the path of", SELF))?;
    let tree = mount::clone_tree(&own, c"", false).map_err(io("cloning the mount of"))?;
    let read_only = Change { set: Some(MountAttrFlags::MOUNT_ATTR_RDONLY), ..Change::default() };
    mount::change(&tree, &read_only).map_err(io("making a read-only mount of"))?;
    let through = sys::process::proc_path(&tree);
    let file = rustix::fs::open(through, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(io("opening a read-only mount of"))?;
    // Why it cannot be is of no interest: the other way does as well.
    if sys::executable::run_from(file.as_fd()).is_ok() && look()?.1 {
        MOVED_FROM.get_or_init(|| path);
        return Ok(());
    }
    Err(execute(&tree, path))
}

/// What the process is executed from, and whether that is on a read-only mount.
fn look() -> Result<(OwnedFd, bool), Error> {
    let io = |op| move |errno: rustix::io::Errno| Error::io(op, SELF)(errno.into());
    let own = rustix::fs::open(SELF, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(io("opening"))?;
    let flags = rustix::fs::fstatvfs(&own).map_err(io("looking at the mount of"))?.f_flag;
    Ok((own, flags.contains(StatVfsMountFlags::RDONLY)))
}

/// The path of the running program, on the host.
///
/// # Errors
/// The file was replaced or removed since it was executed.
pub fn own_path() -> Result<PathBuf, Error> {
    let moved = MOVED_FROM.get().cloned().or_else(sys::entry::moved_from);
    match moved.or_else(|| std::env::var_os(PATH).map(PathBuf::from)) {
        Some(path) => Ok(path),
        None => std::fs::read_link(SELF).map_err(Error::io("finding the path of", SELF)),
    }
}

/// Gives the process the program's name, as `ps` shows it: the kernel took the descriptor's.
fn name() -> Result<(), Error> {
    let path = std::env::var_os(PATH).map(PathBuf::from);
    let Some(name) = path.as_deref().and_then(Path::file_name) else { return Ok(()) };
    let name = CString::new(name.as_bytes()).unwrap_or_default();
    rustix::thread::set_name(&name)
        .map_err(|errno| Error::io("setting the process's name to that of", SELF)(errno.into()))
}

fn execute(program: &OwnedFd, path: PathBuf) -> Error {
    let c_string = |text: OsString| CString::new(text.into_vec()).ok();
    let args = std::env::args_os().filter_map(c_string).collect();
    let variable = |(mut name, value): (OsString, OsString)| {
        name.push("=");
        name.push(value);
        c_string(name)
    };
    let others = std::env::vars_os().filter(|(name, _)| name.as_bytes() != PATH.as_bytes());
    let own = (PATH.into(), path.into_os_string());
    let env = others.chain([own]).filter_map(variable).collect();
    let errno = sys::exec::execute_descriptor(program, args, env);
    Error::io("executing a read-only mount of", Path::new(SELF))(errno.into())
}
