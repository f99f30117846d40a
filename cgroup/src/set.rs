//! Setting limits: each where its controller is, v1 or v2.

use std::fmt::Display;

use crate::dir::Dir;
use crate::group::Place;
use crate::limits::{HugePages, Limits, Network, Rdma};
use crate::{Error, Group, devices, set_cpu, set_io, set_memory};

impl Group {
    /// Sets the limits that are given, and changes no other: for a new group and for one in use.
    ///
    /// # Errors
    /// A value has no meaning; the group has not the controller; the kernel refuses. The error names the
    /// limit as `memory.limit`. Limits before it are set then.
    pub fn apply(&self, limits: &Limits) -> Result<(), Error> {
        set_memory::apply(self, &limits.memory)?;
        set_cpu::apply(self, &limits.cpu)?;
        self.set_pids(limits.pids)?;
        set_io::apply(self, &limits.block_io)?;
        for (index, pages) in limits.huge_pages.iter().enumerate() {
            self.set_huge_pages(index, pages)?;
        }
        self.set_network(&limits.network)?;
        for rdma in &limits.rdma {
            self.set_rdma(rdma)?;
        }
        if let Some(rules) = &limits.devices {
            devices::apply(self, rules)?;
        }
        limits.unified.iter().try_for_each(|(key, value)| self.set_unified(key, value))
    }

    /// Whether limits of devices are set at once, as v2's are, and may be while processes are in the group. v1's list is
    /// emptied, and filled rule by rule.
    pub fn limits_devices_at_once(&self) -> bool {
        self.legacy("devices").is_none()
    }

    /// As `place`, where a limit of the group is to be lifted only: what has no controller has none.
    pub(crate) fn place_if(
        &self,
        limits: bool,
        field: &str,
        controller: &str,
    ) -> Result<Option<Place<'_>>, Error> {
        if limits { self.place(field, controller).map(Some) } else { self.find(controller) }
    }

    fn set_pids(&self, pids: Option<i64>) -> Result<(), Error> {
        const FIELD: &str = "pids.limit";
        let Some(most) = given(pids) else { return Ok(()) };
        match self.place_if(most > 0, FIELD, "pids")? {
            Some(Place::Legacy(dir) | Place::Unified(dir)) => {
                dir.set(FIELD, "pids.max", or_max(most))
            }
            None => Ok(()),
        }
    }

    fn set_huge_pages(&self, index: usize, pages: &HugePages) -> Result<(), Error> {
        let field = |name: &str| format!("hugepageLimits[{index}].{name}");
        let HugePages { page_size, limit } = pages;
        let number =
            page_size.strip_suffix("B").and_then(|size| size.strip_suffix(['K', 'M', 'G']));
        if !number.is_some_and(|number| number.parse::<u32>().is_ok_and(|number| number > 0)) {
            let reason = format!("{page_size:?} is no size of a huge page; give it as 2MB or 1GB");
            return Err(Error::field(field("pageSize"), reason));
        }
        let field = field("limit");
        let (dir, end) = match self.place(&field, "hugetlb")? {
            Place::Legacy(dir) => (dir, "limit_in_bytes"),
            Place::Unified(dir) => (dir, "max"),
        };
        dir.set(&field, &format!("hugetlb.{page_size}.{end}"), limit)?;
        // Reservations, since Linux 5.7.
        let reserved = format!("hugetlb.{page_size}.rsvd.{end}");
        if dir.has(&reserved) { dir.set(&field, &reserved, limit) } else { Ok(()) }
    }

    fn set_network(&self, network: &Network) -> Result<(), Error> {
        let legacy = |field: &str, controller: &str| {
            self.legacy(controller).ok_or_else(|| Error::NoController {
                field: field.to_owned(),
                controller: controller.to_owned(),
                reason: format!(
                    "v2 has none, and no v1 hierarchy that has it is mounted; mount it, as by `mount -t \
                     cgroup -o {controller} cgroup /sys/fs/cgroup/{controller}`"
                ),
            })
        };
        if let Some(class) = given(network.class_id) {
            const FIELD: &str = "network.classID";
            legacy(FIELD, "net_cls")?.set(FIELD, "net_cls.classid", class)?;
        }
        for (index, (interface, priority)) in network.priorities.iter().enumerate() {
            let field = format!("network.priorities[{index}]");
            let value = format!("{interface} {priority}");
            legacy(&field, "net_prio")?.set(&field, "net_prio.ifpriomap", value)?;
        }
        Ok(())
    }

    fn set_rdma(&self, rdma: &Rdma) -> Result<(), Error> {
        let field = format!("rdma.{}", rdma.device);
        let mut value = rdma.device.clone();
        for (key, number) in [("hca_handle", rdma.handles), ("hca_object", rdma.objects)] {
            if let Some(number) = number {
                value.push_str(&format!(" {key}={number}"));
            }
        }
        let (Place::Legacy(dir) | Place::Unified(dir)) = self.place(&field, "rdma")?;
        dir.set(&field, "rdma.max", value)
    }

    fn set_unified(&self, key: &str, value: &str) -> Result<(), Error> {
        let field = format!("unified[{key:?}]");
        let Some((controller, _)) = key.split_once('.').filter(|_| !key.contains(['/', '\0']))
        else {
            let reason = format!(
                "the specified key has not the form CONTROLLER.VALUE `{key}`, as memory.high has"
            );
            return Err(Error::field(field, reason));
        };
        let Some(dir) = self.unified() else {
            let reason = "invalid configuration: cgroup v2 is not mounted here, and it is for v2 only; leave \
                          it out";
            return Err(Error::field(field, reason));
        };
        if !dir.has(key) && !self.enable_unified(dir, controller)? || !dir.has(key) {
            return Err(Error::NoController {
                field,
                controller: controller.to_owned(),
                reason: format!(
                    "invalid configuration: there is no {}; is the name right, has this kernel the controller, and no v1 \
                     hierarchy?",
                    dir.file(key).display()
                ),
            });
        }
        // The kernel takes a line for each write.
        value.lines().try_for_each(|line| dir.set(&field, key, line))
    }
}

/// What is given and not the 0 that means nothing.
pub(crate) fn given<T: Default + PartialEq>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}

/// A number as v2 has it: `max` for a negative one.
pub(crate) fn or_max(number: i64) -> String {
    if number < 0 { "max".to_owned() } else { number.to_string() }
}

/// A number as v1 has it: -1 for every negative one.
pub(crate) fn or_minus_one(number: i64) -> i64 {
    number.max(-1)
}

/// Whether an error is the kernel's refusal of a value (EINVAL).
pub(crate) fn is_invalid(error: &Error) -> bool {
    error.source_kind() == Some(std::io::ErrorKind::InvalidInput)
}

/// Adds what to do to a refusal of the kernel's.
pub(crate) fn with_hint(error: Error, more: impl Display) -> Error {
    match error {
        Error::Refused { field, value, path, source, .. } => {
            Error::Refused { field, value, path, source, hint: format!("; {more}") }
        }
        other => other,
    }
}

/// Sets two limits of which the kernel refuses one while it does not fit the other's old value.
pub(crate) fn either_order(
    first: impl Fn() -> Result<(), Error>,
    second: impl Fn() -> Result<(), Error>,
) -> Result<(), Error> {
    match first() {
        Err(error) if is_invalid(&error) => {
            second()?;
            first()
        }
        Err(error) => Err(error),
        Ok(()) => second(),
    }
}

/// The text of a file of `dir` that is one number, as an integer that `max` makes -1.
pub(crate) fn signed(dir: &Dir, name: &str) -> Result<i64, Error> {
    Ok(i64::try_from(dir.number(name)?).unwrap_or(-1))
}
