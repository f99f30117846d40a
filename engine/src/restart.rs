//! Whether and when a container whose process has ended is started again.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::shorten;

/// `--restart`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Docker", try_from = "Docker")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// After an exit status other than 0, at most so often (0: without a limit).
    OnFailure(u32),
    /// Always, until it is stopped.
    Always,
    /// As `Always`: without a daemon, nothing starts containers when the machine does.
    UnlessStopped,
}

/// Docker's `.HostConfig.RestartPolicy`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Docker {
    name: String,
    maximum_retry_count: u32,
}

impl From<RestartPolicy> for Docker {
    fn from(policy: RestartPolicy) -> Docker {
        let (name, maximum_retry_count) = match policy {
            RestartPolicy::No => ("no", 0),
            RestartPolicy::OnFailure(count) => ("on-failure", count),
            RestartPolicy::Always => ("always", 0),
            RestartPolicy::UnlessStopped => ("unless-stopped", 0),
        };
        Docker { name: name.to_owned(), maximum_retry_count }
    }
}

impl TryFrom<Docker> for RestartPolicy {
    type Error = Error;

    fn try_from(docker: Docker) -> Result<RestartPolicy, Error> {
        match docker.name.parse()? {
            RestartPolicy::OnFailure(_) => Ok(RestartPolicy::OnFailure(docker.maximum_retry_count)),
            policy => Ok(policy),
        }
    }
}

impl FromStr for RestartPolicy {
    type Err = Error;

    /// `no`, `on-failure[:N]`, `always` or `unless-stopped`.
    fn from_str(text: &str) -> Result<RestartPolicy, Error> {
        let wrong = || Error::Invalid {
            what: "restart policy",
            value: shorten(text),
            why: "use no, on-failure, on-failure:N, always or unless-stopped",
        };
        match text.split_once(':') {
            None => match text {
                "" | "no" => Ok(RestartPolicy::No),
                "on-failure" => Ok(RestartPolicy::OnFailure(0)),
                "always" => Ok(RestartPolicy::Always),
                "unless-stopped" => Ok(RestartPolicy::UnlessStopped),
                _ => Err(wrong()),
            },
            Some(("on-failure", count)) => {
                Ok(RestartPolicy::OnFailure(count.parse().map_err(|_| wrong())?))
            }
            Some(_) => Err(wrong()),
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestartPolicy::OnFailure(count @ 1..) => write!(f, "on-failure:{count}"),
            policy => f.write_str(&Docker::from(*policy).name),
        }
    }
}

impl RestartPolicy {
    /// Whether a container that ended with `exit_code`, after `count` restarts so far, is started
    /// again. That it was stopped on purpose is for the caller to know.
    pub(crate) fn again(self, exit_code: i32, count: u32) -> bool {
        match self {
            RestartPolicy::No => false,
            RestartPolicy::OnFailure(most) => exit_code != 0 && (most == 0 || count < most),
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        }
    }
}

/// How long is waited before the next start, as Docker waits: 100 ms, doubled each time up to a
/// minute, and from the beginning again after a container has run for 10 s.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LAST: Duration = Duration::from_secs(60);
    const STEADY: Duration = Duration::from_secs(10);

    pub(crate) fn new() -> Backoff {
        Backoff(Backoff::FIRST)
    }

    /// The pause after a container that ran so long.
    pub(crate) fn next(&mut self, ran: Duration) -> Duration {
        if ran >= Backoff::STEADY {
            self.0 = Backoff::FIRST;
        }
        let pause = self.0;
        self.0 = (pause * 2).min(Backoff::LAST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_written_as_docker_writes_them() {
        for text in ["no", "on-failure", "on-failure:3", "always", "unless-stopped"] {
            let policy: RestartPolicy = text.parse().unwrap();
            assert_eq!(policy.to_string(), text);
            let json = serde_json::to_value(policy).unwrap();
            assert_eq!(serde_json::from_value::<RestartPolicy>(json).unwrap(), policy);
        }
        for text in ["x", "always:3", "on-failure:", "on-failure:-1", "on-failure:x"] {
            let error = text.parse::<RestartPolicy>().unwrap_err().to_string();
            assert!(
                error.contains(&format!("{text:?}")) && error.contains("on-failure:N"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_policy_decides_by_status_and_count() {
        assert!(!RestartPolicy::No.again(1, 0));
        assert!(RestartPolicy::Always.again(0, 1000));
        assert!(!RestartPolicy::OnFailure(0).again(0, 0));
        assert!(RestartPolicy::OnFailure(0).again(1, 1000));
        assert!(RestartPolicy::OnFailure(2).again(1, 1));
        assert!(!RestartPolicy::OnFailure(2).again(1, 2));
    }

    #[test]
    fn pauses_grow_and_begin_again() {
        let mut backoff = Backoff::new();
        let mut pauses = (0..12).map(|_| backoff.next(Duration::ZERO).as_millis());
        assert_eq!(pauses.by_ref().take(4).collect::<Vec<_>>(), [100, 200, 400, 800]);
        assert_eq!(pauses.last(), Some(60_000));
        assert_eq!(backoff.next(Duration::from_secs(11)), Backoff::FIRST);
    }
}
