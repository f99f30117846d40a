//! `rename`: another name for a container.

use crate::{Engine, Error, names};

impl Engine {
    /// Gives a container another name, whatever state it is in.
    ///
    /// # Errors
    /// There is no such container; the name is none ([`Error::Name`]), is its own already, or is taken
    /// ([`Error::NameInUse`]).
    pub fn rename(&self, container: &str, name: &str) -> Result<(), Error> {
        let (dir, container) = self.find(container)?;
        let name = name.strip_prefix('/').unwrap_or(name);
        names::check(name)?;
        if container.name == name {
            let why = "the container has this name already; give it another one";
            return Err(Error::invalid("new name", name, why));
        }
        if let Some(owner) = self.root.take_name(name, &container.id)? {
            return Err(Error::NameInUse { name: name.to_owned(), owner });
        }
        // Killed in between, it has two names, and loses both when it is removed.
        let mut container = container;
        let old = std::mem::replace(&mut container.name, name.to_owned());
        dir.write_container(&container)?;
        self.root.drop_name(&old, &container.id)
    }
}
