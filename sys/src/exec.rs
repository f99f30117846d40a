//! execve(2) of a program whose strings were prepared before the clone.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;

use crate::failure::Failure;
use crate::process::last_errno;

/// A null-terminated array of C strings, as execve(2) takes it.
#[derive(Debug)]
struct Strings {
    // The pointers point into the heap blocks of `owned`, which do not move with the struct.
    pointers: Vec<*const libc::c_char>,
    owned: Vec<CString>,
}

impl Strings {
    fn new(owned: Vec<CString>) -> Self {
        let mut pointers: Vec<_> = owned.iter().map(|string| string.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Self { pointers, owned }
    }
}

/// What to execute: the paths to try in turn, the arguments and the environment.
#[derive(Debug)]
pub struct Program {
    candidates: Vec<CString>,
    argv: Strings,
    envp: Strings,
}

// SAFETY: the pointers are to immutable memory that the struct owns.
unsafe impl Send for Program {}
// SAFETY: as above; nothing is written through a shared reference.
unsafe impl Sync for Program {}

impl Clone for Program {
    fn clone(&self) -> Self {
        let strings = |strings: &Strings| Strings::new(strings.owned.clone());
        let (argv, envp) = (strings(&self.argv), strings(&self.envp));
        Self { candidates: self.candidates.clone(), argv, envp }
    }
}

impl Program {
    /// Prepares `argv` and `env` (each `NAME=value`); `candidates` are tried in turn as
    /// execvpe(3) does with PATH. Allocates.
    pub fn new(candidates: Vec<CString>, argv: Vec<CString>, env: Vec<CString>) -> Self {
        Self { candidates, argv: Strings::new(argv), envp: Strings::new(env) }
    }

    /// The paths that [`Program::exec`] tries.
    pub fn candidates(&self) -> &[CString] {
        &self.candidates
    }

    /// Becomes the program, or says why not: `index` of the failure is the candidate that was
    /// there but could not be executed; ENOENT with the index of the last one when none was there.
    ///
    /// Does not allocate.
    pub fn exec(&self) -> Failure {
        let mut failure = Failure::new("executing the command", Errno::NOENT);
        for (index, path) in self.candidates.iter().enumerate() {
            let errno = self.exec_one(path);
            match errno {
                // As execvp: not there, or below something that is no directory; the next may be.
                Errno::NOENT | Errno::NOTDIR if failure.errno == Errno::NOENT => {
                    failure.index = index as u32;
                }
                Errno::NOENT | Errno::NOTDIR => {}
                Errno::ACCESS => {
                    failure.errno = errno;
                    failure.index = index as u32;
                }
                _ => {
                    failure.errno = errno;
                    failure.index = index as u32;
                    return failure;
                }
            }
        }
        failure
    }

    fn exec_one(&self, path: &CStr) -> Errno {
        // SAFETY: both arrays are null-terminated and, as the strings that they point to, owned by
        // `self`, which lives over the call.
        unsafe {
            libc::execve(path.as_ptr(), self.argv.pointers.as_ptr(), self.envp.pointers.as_ptr())
        };
        last_errno()
    }
}

/// Becomes the program that `program` is open on (execveat(2) with AT_EMPTY_PATH, Linux 3.19), or says why
/// not. Allocates.
pub fn execute_descriptor(program: impl AsFd, argv: Vec<CString>, env: Vec<CString>) -> Errno {
    let (argv, envp) = (Strings::new(argv), Strings::new(env));
    // SAFETY: the path is a static C string, both arrays are null-terminated and, as the strings that
    // they point to, live over the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_fd().as_raw_fd(),
            c"".as_ptr(),
            argv.pointers.as_ptr(),
            envp.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    last_errno()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(candidates: &[&CStr]) -> Program {
        Program::new(
            candidates.iter().map(|c| (*c).to_owned()).collect(),
            vec![c"x".into()],
            vec![],
        )
    }

    #[test]
    fn nothing_there_is_enoent() {
        let failure = program(&[c"/nonexistent/a", c"/dev/null/b"]).exec();
        assert_eq!(failure.errno, Errno::NOENT);
    }

    #[test]
    fn what_is_there_but_not_executable_is_remembered() {
        let failure = program(&[c"/nonexistent", c"/etc/passwd", c"/nonexistent"]).exec();
        assert_eq!((failure.errno, failure.index), (Errno::ACCESS, 1));
    }
}
