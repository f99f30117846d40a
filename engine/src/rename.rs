//! `rename`: another name for a container.

use sys::erase::Removed;

use crate::{Engine, Error, Status, names};

impl Engine {
    /// Gives a container another name, whether it runs or not.
    ///
    /// # Errors
    /// There is no such container; it is just being made or removed ([`Error::Busy`]); the name is none
    /// ([`Error::Name`]), is its own already, or is taken ([`Error::NameInUse`]).
    pub fn rename(&self, container: &str, name: &str) -> Result<(), Error> {
        let (dir, found) = self.find(container)?;
        let name = name.strip_prefix('/').unwrap_or(name);
        names::check(name)?;
        // Whoever else writes to the record of a container that is made has this lock; its maker has not.
        let _held = dir.lock_volumes()?;
        let gone = || Error::NoSuchContainer { text: found.name.clone(), near: Vec::new() };
        let mut container = dir.container()?.ok_or_else(gone)?;
        if matches!(dir.state()?.status, Status::Creating | Status::Removing) {
            return Err(Error::Busy { name: container.name, id: container.id });
        }
        if container.name == name {
            let why = "the container has this name already; give it another one";
            return Err(Error::invalid("new name", name, why));
        }
        if let Some(owner) = self.root.take_name(name, &container.id)? {
            return Err(Error::NameInUse { name: name.to_owned(), owner });
        }
        // Killed in between, it has two names, and loses both when it is removed.
        let old = std::mem::replace(&mut container.name, name.to_owned());
        dir.write_container(&container)?;
        self.root.drop_name(&old, &container.id, &mut Removed::default())?;
        let old = format!("/{old}");
        self.root.events().container(&container, "rename", &[("oldName", &old)]);
        Ok(())
    }
}
