//! A program that says when it is ready (sd_notify(3)): its word goes on to whom the runtime's own caller has named in
//! `NOTIFY_SOCKET`.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

use oci_spec::runtime as oci;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Pid;

use crate::{Config, Error, Making, Recorded, Status};

/// What names the socket, outside and inside.
const VARIABLE: &str = "NOTIFY_SOCKET=";
/// The directory of the socket, in the container's, and the socket in there.
pub(crate) const NOTIFY: &str = "notify";
/// What a program says, in a line.
const READY: &[u8] = b"READY=1";
/// As long as systemd itself takes messages.
const LONGEST: usize = 4096;
/// More than wait in a socket (net.unix.max_dgram_qlen: 10, and 512 by systemd): a program that never stops talking keeps
/// nobody here.
const MESSAGES: usize = 1024;

/// A socket at which a container's program says that it is ready.
#[derive(Debug)]
pub struct Notify {
    socket: UnixDatagram,
    told: SocketAddr,
}

impl Notify {
    fn listen(dir: BorrowedFd<'_>, shown: &Path, told: &OsStr) -> Result<Option<Self>, Error> {
        // By the descriptor, for a socket's path is short.
        let dir = PathBuf::from(format!("/proc/self/fd/{}/{NOTIFY}", dir.as_raw_fd()));
        let shown = shown.join(NOTIFY);
        if !dir.exists() {
            return Ok(None);
        }
        let path = dir.join(NOTIFY);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("removing an older socket in", &shown)(error));
            }
            _ => {}
        }
        let socket = UnixDatagram::bind(&path).map_err(Error::io("making a socket in", &shown))?;
        // A user of the container's is nobody of the host's.
        let all = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(&path, all).map_err(Error::io("setting the rights in", &shown))?;
        socket.set_nonblocking(true).map_err(Error::io("setting the socket in", &shown))?;
        let told = match told.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(told),
        };
        let told =
            told.map_err(Error::io("taking as an address what NOTIFY_SOCKET says for", shown))?;
        Ok(Some(Self { socket, told }))
    }

    /// Passes on that the program is ready, if it has said so by now.
    pub fn pass(&self) -> bool {
        let mut message = [0; LONGEST];
        for _ in 0..MESSAGES {
            let Ok(count) = self.socket.recv(&mut message) else { break };
            if message[..count].split(|byte| *byte == b'\n').any(|line| line == READY) {
                self.tell(READY);
                return true;
            }
        }
        false
    }

    /// Waits until the program, of the process `pidfd`, has said that it is ready, and passes that on; `false` where it
    /// ended before. Who is told looks after `main` from then on.
    ///
    /// # Errors
    /// The process cannot be waited for.
    pub fn wait(&self, pidfd: BorrowedFd<'_>, main: Option<Pid>) -> Result<bool, Error> {
        loop {
            let mut fds = [
                PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(pidfd, PollFlags::IN),
            ];
            rustix::io::retry_on_intr(|| poll(&mut fds, None))
                .map_err(|errno| Error::io("waiting in", "the foreground")(errno.into()))?;
            let ended = !fds[1].revents().is_empty();
            if self.pass() {
                if let Some(main) = main {
                    self.tell(format!("MAINPID={}", main.as_raw_nonzero()).as_bytes());
                }
                return Ok(true);
            }
            if ended {
                return Ok(false);
            }
        }
    }

    fn tell(&self, message: &[u8]) {
        // Whoever wanted to know may be gone; the program goes on (sd_notify(3), "Return Value").
        let _ = self.socket.send_to_addr(message, &self.told);
    }
}

impl AsFd for Notify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Making {
    /// Lets the program say that it is ready to the socket `told` of the host, or an abstract one (`@…`): shows it a
    /// directory with a socket of its own, and the environment its path. Nothing is done where the configuration names a
    /// socket itself, or has no program or no mount namespace.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn offer_notify(&self, told: &OsStr, config: &mut Config) -> Result<(), Error> {
        let namespaces =
            config.spec().linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
        let mounts = namespaces
            .into_iter()
            .flatten()
            .any(|namespace| namespace.typ() == oci::LinuxNamespaceType::Mount);
        let Some(env) = config.process_mut().map(oci::Process::env_mut) else {
            return Ok(());
        };
        let env = env.get_or_insert_default();
        if !mounts || env.iter().any(|variable| variable.starts_with(VARIABLE)) {
            return Ok(());
        }
        let dir = self.path().join(NOTIFY);
        let dir = std::path::absolute(&dir).map_err(Error::io("finding the path of", &dir))?;
        let failed = || Error::io("making the directory", &dir);
        std::fs::DirBuilder::new().mode(0o755).create(&dir).map_err(failed())?;
        // Whatever the caller's umask is.
        let all = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&dir, all).map_err(failed())?;
        // Inside it has the same name (as crun); one without a path has runc's.
        let inside = Path::new(told).is_absolute().then(|| told.to_str()).flatten();
        let inside = inside.unwrap_or("/run/notify");
        env.push(format!("{VARIABLE}{inside}/{NOTIFY}"));
        let mut mount = oci::Mount::default();
        mount.set_destination(inside.into()).set_source(Some(dir));
        let options = ["bind", "ro", "nosuid", "nodev", "noexec"].map(str::to_owned);
        mount.set_options(Some(options.into()));
        config.mounts_mut().push(mount);
        Ok(())
    }

    /// The socket of [`Making::offer_notify`], of which the socket `told` is told; none where nothing was offered.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn notify(&self, told: &OsStr) -> Result<Option<Notify>, Error> {
        Notify::listen(self.dir(), self.path(), told)
    }
}

impl Recorded {
    /// The same of a created container, whose program is to be started.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn notify(&self, told: &OsStr) -> Result<Option<Notify>, Error> {
        match self.status()? {
            Status::Created => Notify::listen(self.place.dir(), self.place.path(), told),
            _ => Ok(None),
        }
    }
}
