//! Docker's options about the health check of a container.

use clap::Args;
use engine::{Healthcheck, parse_duration};

/// `--health-…`
#[derive(Debug, Default, Args)]
pub(crate) struct HealthArgs {
    /// Command to run to check health
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    health_cmd: Option<String>,
    /// Time between running the check (ms|s|m|h) (default 30s)
    #[arg(long, value_name = "duration", value_parser = duration, allow_hyphen_values = true)]
    health_interval: Option<i64>,
    /// Consecutive failures needed to report unhealthy (default 3)
    #[arg(long, value_name = "int", value_parser = clap::value_parser!(i64).range(0..), allow_hyphen_values = true)]
    health_retries: Option<i64>,
    /// Time between running the check during the start period (ms|s|m|h) (default 5s)
    #[arg(long, value_name = "duration", value_parser = duration, allow_hyphen_values = true)]
    health_start_interval: Option<i64>,
    /// Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration", value_parser = duration, allow_hyphen_values = true)]
    health_start_period: Option<i64>,
    /// Maximum time to allow one check to run (ms|s|m|h) (default 30s)
    #[arg(long, value_name = "duration", value_parser = duration, allow_hyphen_values = true)]
    health_timeout: Option<i64>,
    /// Disable any container-specified HEALTHCHECK
    #[arg(long)]
    no_healthcheck: bool,
}

/// `1m30s`, in nanoseconds.
fn duration(text: &str) -> Result<i64, &'static str> {
    match parse_duration(text) {
        Some(duration @ 0..) => Ok(duration),
        Some(_) => Err("it cannot be negative"),
        None => Err("write a duration such as 1m30s, 5s or 500ms"),
    }
}

impl HealthArgs {
    /// What the user says of the health check; `None`: nothing.
    ///
    /// # Errors
    /// There is to be none, and yet something is said of it.
    pub(crate) fn check(self) -> anyhow::Result<Option<Healthcheck>> {
        let test = self.health_cmd.filter(|script| !script.is_empty());
        let check = Healthcheck {
            test: test.map(|script| vec!["CMD-SHELL".to_owned(), script]).unwrap_or_default(),
            interval: self.health_interval.unwrap_or_default(),
            timeout: self.health_timeout.unwrap_or_default(),
            start_period: self.health_start_period.unwrap_or_default(),
            start_interval: self.health_start_interval.unwrap_or_default(),
            retries: self.health_retries.unwrap_or_default(),
        };
        let is_said = check != Healthcheck::default();
        match self.no_healthcheck {
            true if is_said => anyhow::bail!(
                "--no-healthcheck conflicts with --health-* options: leave it out to have a health check, \
                 or leave them out to have none"
            ),
            true => Ok(Some(Healthcheck::none())),
            false => Ok(is_said.then_some(check)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_becomes_a_check() {
        assert_eq!(HealthArgs::default().check().unwrap(), None);
        let args = HealthArgs {
            health_cmd: Some("test -f /ok".to_owned()),
            health_interval: Some(duration("1m30s").unwrap()),
            ..HealthArgs::default()
        };
        let check = args.check().unwrap().unwrap();
        assert_eq!(check.test, ["CMD-SHELL", "test -f /ok"]);
        assert_eq!((check.interval, check.timeout), (90_000_000_000, 0));
        let none = || HealthArgs { no_healthcheck: true, ..HealthArgs::default() };
        assert_eq!(none().check().unwrap(), Some(Healthcheck::none()));
        let both = HealthArgs { health_timeout: Some(1), ..none() };
        assert!(both.check().unwrap_err().to_string().contains("conflicts"));
    }

    #[test]
    fn durations_have_units_and_no_sign() {
        assert_eq!(duration("0"), Ok(0));
        assert!(duration("-1s").unwrap_err().contains("negative"));
        assert!(duration("5").unwrap_err().contains("1m30s"));
    }
}
