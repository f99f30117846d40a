//! Who tells what.

use std::collections::BTreeMap;
use std::time::Duration;

use image_store::{Digest, StoredImage};
use rustix::process::Signal;

use super::Events;
use crate::dir::{Dir, Root};
use crate::{Container, HealthStatus, MountKind, MountPoint, names};

impl Events {
    /// Something happens to a container.
    pub(crate) fn container(&self, container: &Container, action: &str, more: &[(&str, &str)]) {
        let own = [("image", &*container.config.image), ("name", &*container.name)];
        let own = own.iter().chain(more);
        self.emit("container", action, &container.id, own, &container.config.labels);
    }

    /// A signal is sent to a container's process.
    pub(crate) fn signal(&self, container: &Container, signal: Signal) {
        self.container(container, "kill", &[("signal", &signal.as_raw().to_string())]);
    }

    /// What is known of a container's health has changed.
    pub(crate) fn health(&self, container: &Container, status: HealthStatus) {
        self.container(container, &format!("health_status: {}", status.as_str()), &[]);
    }

    /// A volume is mounted in a container.
    pub(crate) fn mounted(&self, mount: &MountPoint, container: &Container) {
        if let (MountKind::Volume, Some(name)) = (mount.kind, &mount.name) {
            let more = [
                ("container", &*container.id),
                ("destination", &*mount.destination),
                ("driver", mount.driver.as_deref().unwrap_or_default()),
                ("propagation", &*mount.propagation),
                ("read/write", if mount.rw { "true" } else { "false" }),
            ];
            self.emit("volume", "mount", name, &more, &BTreeMap::new());
        }
    }

    /// A volume is not mounted in a container any more.
    pub(crate) fn unmounted(&self, mount: &MountPoint, container: &Container) {
        if let (MountKind::Volume, Some(name)) = (mount.kind, &mount.name) {
            let driver = mount.driver.as_deref().unwrap_or_default();
            let more = [("container", &*container.id), ("driver", driver)];
            self.emit("volume", "unmount", name, &more, &BTreeMap::new());
        }
    }

    /// A volume is made, or goes.
    pub(crate) fn volume(&self, action: &str, name: &str) {
        self.emit("volume", action, name, &[("driver", "local")], &BTreeMap::new());
    }

    /// Something happens to an image, by the name `name` or by its first.
    pub(crate) fn image(&self, action: &str, image: &StoredImage, name: Option<&str>) {
        let id = image.id.to_string();
        let name = name.or(image.tags.first().map(String::as_str)).unwrap_or(&id);
        let config = image.config.config().as_ref();
        let labels = config.and_then(|config| config.labels().as_ref()).into_iter().flatten();
        let labels = labels.map(|(key, value)| (key.clone(), value.clone())).collect();
        self.emit("image", action, &id, &[("name", name)], &labels);
    }

    /// An image loses names, and goes.
    pub(crate) fn removed(&self, id: &Digest, untagged: &[String], is_gone: bool) {
        let id = id.to_string();
        for name in untagged {
            self.emit("image", "untag", &id, &[("name", &**name)], &BTreeMap::new());
        }
        if is_gone {
            self.emit("image", "delete", &id, &[("name", &*id)], &BTreeMap::new());
        }
    }
}

impl Root {
    /// Where it is written down what happens in it.
    pub(crate) fn events(&self) -> Events {
        Events::below(self.path())
    }
}

impl Dir {
    /// Where it is written down what happens in its root.
    pub(crate) fn events(&self) -> Events {
        // ROOT/containers/ID
        Events::below(self.path().ancestors().nth(2).unwrap_or_else(|| self.path()))
    }

    /// The container's program begins to run; its record was read for that just now.
    pub(crate) fn tell_start(&self, container: &Container) {
        let events = self.events();
        for mount in &container.mounts {
            events.mounted(mount, container);
        }
        events.container(container, "start", &[]);
    }

    /// The container's process has ended.
    pub(crate) fn tell_end(&self, container: &Container, exit_code: i32, ran: Duration) {
        let events = self.events();
        let container = &self.as_it_is_now(container);
        let (seconds, code) = (ran.as_secs().to_string(), exit_code.to_string());
        events.container(container, "die", &[("execDuration", &seconds), ("exitCode", &code)]);
        for mount in &container.mounts {
            events.unmounted(mount, container);
        }
    }

    /// With another name and other volumes, perhaps.
    pub(crate) fn as_it_is_now(&self, container: &Container) -> Container {
        self.container().ok().flatten().unwrap_or_else(|| container.clone())
    }
}

/// A program that is run in a container, and told of.
#[derive(Debug)]
pub(crate) struct Exec {
    events: Events,
    container: Box<Container>,
    id: String,
    command: String,
}

impl Exec {
    /// `command` is about to be run.
    pub(crate) fn create(dir: &Dir, container: &Container, command: &[String]) -> Exec {
        // Without random numbers there is nothing that could be run either.
        let id = names::id().unwrap_or_default();
        let container = Box::new(container.clone());
        let exec = Exec { events: dir.events(), container, id, command: command.join(" ") };
        exec.tell("exec_create");
        exec
    }

    /// It runs.
    pub(crate) fn start(&self) {
        self.tell("exec_start");
    }

    /// It has ended.
    pub(crate) fn die(&self, exit_code: i32) {
        let more = [("execID", &*self.id), ("exitCode", &*exit_code.to_string())];
        self.events.container(&self.container, "exec_die", &more);
    }

    fn tell(&self, action: &str) {
        let action = format!("{action}: {}", self.command);
        self.events.container(&self.container, &action, &[("execID", &self.id)]);
    }
}
