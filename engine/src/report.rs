//! What a container's supervisor tells its clients, of which the process that started it is the first.

use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};
use sys::message::Descriptors;

use crate::{Error, wire};

/// Longest report, bytes; a message is cut to fit.
const MAX: usize = 32 * 1024;

/// A report, in this order: `Started` or `Failed`; after `Started`, `Exited` or `Failed`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Report {
    /// The program runs. For the starter, the process's descriptor comes with it.
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

impl Report {
    pub(crate) fn failed(error: &Error) -> Report {
        let message = error.to_string().chars().take(MAX / 8).collect();
        Report::Failed { message, code: error.exit_code() }
    }

    /// As a message.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![wire::REPORT];
        serde_json::to_writer(&mut bytes, self)
            .map_err(|error| Error::system("report to", "the starter", error))?;
        Ok(bytes)
    }

    /// Reads a message; `None` when it is none of these.
    pub(crate) fn decode(message: &[u8]) -> Option<Report> {
        match message {
            [wire::REPORT, json @ ..] => serde_json::from_slice(json).ok(),
            _ => None,
        }
    }

    /// Sends it. That nobody is there any more to receive it is no error.
    pub(crate) fn send(
        &self,
        channel: BorrowedFd<'_>,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Error> {
        match sys::message::send(channel, &self.encode()?, descriptors) {
            Ok(()) | Err(rustix::io::Errno::PIPE) => Ok(()),
            Err(errno) => Err(Error::system("report to", "the starter", errno)),
        }
    }

    /// Receives one, before any output comes; `None` when the supervisor is gone.
    pub(crate) fn receive(channel: BorrowedFd<'_>) -> Result<Option<(Report, Descriptors)>, Error> {
        let failed = |error: std::io::Error| Error::system("hear from", "the supervisor", error);
        let mut bytes = vec![0; MAX];
        let (count, descriptors) =
            sys::message::receive(channel, &mut bytes).map_err(|errno| failed(errno.into()))?;
        if count == 0 {
            return Ok(None);
        }
        match Report::decode(&bytes[..count]) {
            Some(report) => Ok(Some((report, descriptors))),
            None => Err(failed(std::io::ErrorKind::InvalidData.into())),
        }
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
