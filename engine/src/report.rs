//! What a container's supervisor tells the process that started it.

use std::os::fd::{BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::Error;

/// Longest report, bytes; a message is cut to fit.
const MAX: usize = 32 * 1024;

/// A report, in this order: `Started` or `Failed`; after `Started`, `Exited` or `Failed`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Report {
    /// The program runs. With it come the process's descriptor and its terminal's master.
    Started,
    /// There is no container.
    Failed {
        /// Why, as a sentence.
        message: String,
        /// The exit status for it.
        code: u8,
    },
    /// The process has ended, and all is tidied up.
    Exited {
        /// Its status.
        code: i32,
    },
}

/// What came with a report.
pub(crate) type Descriptors = [Option<OwnedFd>; sys::message::DESCRIPTORS];

impl Report {
    pub(crate) fn failed(error: &Error) -> Report {
        let message = error.to_string().chars().take(MAX / 8).collect();
        Report::Failed { message, code: error.exit_code() }
    }

    /// Sends it. That nobody is there any more to receive it is no error.
    pub(crate) fn send(
        &self,
        channel: BorrowedFd<'_>,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Error> {
        let failed = |error: std::io::Error| Error::system("report to", "the starter", error);
        let bytes = serde_json::to_vec(self).map_err(|error| failed(error.into()))?;
        match sys::message::send(channel, &bytes, descriptors) {
            Ok(()) | Err(rustix::io::Errno::PIPE) => Ok(()),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// Receives one; `None` when the supervisor is gone.
    pub(crate) fn receive(channel: BorrowedFd<'_>) -> Result<Option<(Report, Descriptors)>, Error> {
        let failed = |error: std::io::Error| Error::system("hear from", "the supervisor", error);
        let mut bytes = vec![0; MAX];
        let (count, descriptors) =
            sys::message::receive(channel, &mut bytes).map_err(|errno| failed(errno.into()))?;
        if count == 0 {
            return Ok(None);
        }
        let report =
            serde_json::from_slice(&bytes[..count]).map_err(|error| failed(error.into()))?;
        Ok(Some((report, descriptors)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn reports_arrive_however_long_their_words_are() {
        let (a, b) = sys::message::pair().unwrap();
        let long = Error::Start { message: "\"ä\u{1}".repeat(MAX), code: 126 };
        Report::failed(&long).send(a.as_fd(), &[]).unwrap();
        let (report, _) = Report::receive(b.as_fd()).unwrap().unwrap();
        assert!(matches!(report, Report::Failed { code: 126, .. }));
        drop(a);
        assert!(Report::receive(b.as_fd()).unwrap().is_none());
        Report::Exited { code: 1 }.send(b.as_fd(), &[]).unwrap();
    }
}
