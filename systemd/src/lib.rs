//! A transient unit of systemd for one container's cgroup, made, changed and stopped over D-Bus.
//!
//! **Promise.** [`Unit::parse`] reads what engines write into `linux.cgroupsPath` for runtimes that let systemd
//! make the cgroups, `slice:prefix:name`. [`Manager::start`] returns when systemd has made the unit, with the
//! process that it begins with in its cgroup; after [`Manager::stop`] systemd knows nothing of it any more. What
//! systemd refuses is a sentence with systemd's own words. The crate does not touch the files of cgroups: what
//! systemd has no property for is written there by the crate cgroup.
//!
//! **The bus.** One connection, which blocks, and no thread: whoever makes a container must have one thread when
//! it forks. Messages are a header and a body; bodies and what comes in are zvariant's. Libraries that have the
//! connection too bring an asynchronous executor (zbus) or are without upkeep (rustbus).
//!
//! | module | what |
//! |---|---|
//! | [`Unit`] | name and slice, and where its cgroup lies |
//! | [`Manager`] | the calls |
//! | [`properties`] | limits as systemd's properties |
//! | [`annotation`] | `org.systemd.property.NAME`, in GVariant's text |
//!
//! ```no_run
//! use systemd::{Manager, Unit};
//!
//! let unit = Unit::parse("machine.slice:example:one", "one", false)?;
//! let mut systemd = Manager::connect(false)?;
//! systemd.start(&unit, Some(rustix::process::getpid()), &[])?;
//! // The cgroup lies at `unit.path()` now, and this process is in it.
//! systemd.stop(unit.name())?;
//! # Ok::<(), systemd::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod annotation;
mod bus;
mod devices;
mod error;
mod manager;
mod message;
pub mod properties;
mod text;
mod unit;

pub use error::Error;
pub use manager::Manager;
pub use unit::Unit;

/// A unit's property, as `systemctl show` names it, and its value (org.freedesktop.systemd1(5)).
pub type Property = (String, zvariant::Value<'static>);
