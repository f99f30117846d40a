//! Limits that go together with others that a group has already.

use crate::group::Place;
use crate::limits::Limits;
use crate::set::{given, signed};
use crate::{Error, Group};

impl Group {
    /// Adds to `limits` what the group has of limits that are one with those that are given: the quota and its
    /// period, and memory beside memory with swap. For who hands limits on to somebody who takes the pair only.
    ///
    /// # Errors
    /// The group cannot be read.
    pub fn complete(&self, limits: &mut Limits) -> Result<(), Error> {
        let cpu = &mut limits.cpu;
        let (quota, period) = (given(cpu.quota), given(cpu.period));
        if quota.is_some() != period.is_some() {
            let (quota_now, period_now) = match self.find("cpu")? {
                Some(Place::Unified(dir)) => {
                    let text = dir.read("cpu.max")?;
                    let mut words = text.split_ascii_whitespace();
                    // The word `max` is no number.
                    let quota = words.next().map(|quota| quota.parse().unwrap_or(-1));
                    (quota, words.next().and_then(|period| period.parse().ok()))
                }
                Some(Place::Legacy(dir)) => {
                    let quota = signed(dir, "cpu.cfs_quota_us").ok();
                    (quota.or(Some(-1)), Some(dir.number("cpu.cfs_period_us")?))
                }
                None => (None, None),
            };
            cpu.quota = quota.or(quota_now);
            cpu.period = period.or(period_now);
        }
        let memory = &mut limits.memory;
        if given(memory.swap).is_some()
            && given(memory.limit).is_none()
            && let Some(Place::Unified(dir)) = self.find("memory")?
        {
            memory.limit = Some(signed(dir, "memory.max")?);
        }
        Ok(())
    }
}
