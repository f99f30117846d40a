//! The engine: one root directory, its images and containers.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use image_store::{Images, LayerForm, LoadOptions, Platform, Progress, Source, Store, StoredImage};
use serde_json::Value;

use crate::dir::{Dir, Root};
use crate::target::Target;
use crate::{
    Container, Error, ImageArg, ImageLimits, MountView, State, group, inspect, mounts, names,
    pause, reference, tidy,
};

/// Everything below one root directory. Two roots never meet.
#[derive(Debug)]
pub struct Engine {
    pub(crate) root: Root,
    pub(crate) store: Store,
    /// How many there were when it was opened.
    pub(crate) containers: usize,
    durable: bool,
    layers: Layers,
    limits: ImageLimits,
    warn: fn(&str),
}

/// How the layers of images that come into the store are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// As directories, or as tars with an index; see [`LoadOptions::layer_form`].
    pub form: LayerForm,
    /// Left in the archive; see [`LoadOptions::in_place`].
    pub in_place: bool,
    /// Verified by the kernel as they are read; see [`LoadOptions::verity`].
    pub verity: bool,
}

impl Engine {
    /// Opens the root directory `root`, made if it is not there, and tidies up what killed processes
    /// have left in it: of thousands of containers a part of it, and all that [`Engine::list`] sees.
    ///
    /// # Errors
    /// It is another user's or holds something else; a system call fails.
    pub fn open(root: &Path) -> Result<Engine, Error> {
        let store = Store::open(root)?;
        let root = Root::open(store.root())?;
        let containers = tidy::some(&root)?;
        // As with a container: what cannot be taken away keeps nobody from the others.
        let _ = store.unmount_all_unused();
        Ok(Engine {
            root,
            store,
            containers,
            durable: LoadOptions::default().durable,
            layers: Layers::default(),
            limits: ImageLimits::default(),
            warn: |_| {},
        })
    }

    /// Whether images that come into the store are on the disk before they have their names; see
    /// [`LoadOptions::durable`], whose default is the engine's. What exists nowhere else (`commit`, `import`)
    /// always is.
    #[must_use]
    pub fn with_durable(self, durable: bool) -> Engine {
        Engine { durable, ..self }
    }

    /// How the layers of images that come into the store are kept.
    #[must_use]
    pub fn with_layers(self, layers: Layers) -> Engine {
        Engine { layers, ..self }
    }

    /// What an image that comes into the store may cost at most.
    #[must_use]
    pub fn with_image_limits(self, limits: ImageLimits) -> Engine {
        Engine { limits, ..self }
    }

    /// Who is told, in sentences, what was asked for and is left out since this kernel does not have it, as
    /// Docker's daemon warns of it. Without it nobody is.
    #[must_use]
    pub fn with_warn(self, warn: fn(&str)) -> Engine {
        Engine { warn, ..self }
    }

    /// Tells of what is left out.
    pub(crate) fn warn(&self, warnings: &[&str]) {
        warnings.iter().for_each(|warning| (self.warn)(warning));
    }

    /// How images come into the store.
    pub(crate) fn load_options(&self) -> LoadOptions {
        let mut options = LoadOptions {
            durable: self.durable,
            layer_form: self.layers.form,
            in_place: self.layers.in_place,
            verity: self.layers.verity,
            ..LoadOptions::default()
        };
        options.options.limits = self.limits.clone();
        options
    }

    /// Loads the images of an archive, for `platform` or else for this machine.
    ///
    /// # Errors
    /// It is no archive of images, or a damaged one; a name is not in the store.
    pub fn load(
        &self,
        image: &ImageArg,
        platform: Option<&Platform>,
        progress: &dyn Progress,
    ) -> Result<Vec<StoredImage>, Error> {
        let known = self.store.ids()?;
        let images = self.loaded(image, platform, progress)?;
        for image in images.iter().filter(|image| !known.contains(&image.id)) {
            self.root.events().image("load", image, None);
        }
        Ok(images)
    }

    /// The images that are meant, in the store.
    fn loaded(
        &self,
        image: &ImageArg,
        platform: Option<&Platform>,
        progress: &dyn Progress,
    ) -> Result<Vec<StoredImage>, Error> {
        let source = match image {
            ImageArg::Archive(path) => Source::Path(path.clone()),
            ImageArg::Named(name) => match self.store.find(name) {
                Ok(image) => {
                    let found = image.platform();
                    if let Some(wanted) = platform.filter(|wanted| !found.is_for(wanted)) {
                        return Err(Error::OtherPlatform {
                            image: crate::error::shorten(name),
                            found: found.to_string(),
                            wanted: wanted.to_string(),
                        });
                    }
                    return Ok(vec![image]);
                }
                Err(_) if Path::new(name).exists() => Source::Path(name.into()),
                Err(error) => return Err(error.into()),
            },
            ImageArg::Stdin => {
                let stdin = std::io::stdin().as_fd().try_clone_to_owned();
                Source::Stdin(File::from(
                    stdin.map_err(|error| Error::system("use", "standard input", error))?,
                ))
            }
        };
        let mut options = self.load_options();
        if let Some(platform) = platform {
            options.platform = platform.clone();
        }
        Ok(self.store.load(&source, &options, progress)?)
    }

    /// All images, the newest first, and apart from them those that are damaged.
    ///
    /// # Errors
    /// The file of names is damaged; a system call fails.
    pub fn images(&self) -> Result<Images, Error> {
        Ok(self.store.images()?)
    }

    /// The one image that `image` means, and how to call it.
    pub(crate) fn resolve(
        &self,
        image: &ImageArg,
        platform: Option<&Platform>,
        progress: &dyn Progress,
    ) -> Result<(StoredImage, String), Error> {
        let mut images = self.load(image, platform, progress)?;
        let name_of = |image: &StoredImage| {
            image.tags.first().cloned().unwrap_or_else(|| image.id.to_string())
        };
        match (images.pop(), images.is_empty(), image) {
            (Some(found), true, ImageArg::Named(name)) => Ok((found, name.clone())),
            (Some(found), true, _) => {
                let name = name_of(&found);
                Ok((found, name))
            }
            (last, _, _) => {
                let found = images.iter().chain(&last).map(name_of).collect();
                Err(Error::SeveralImages { found })
            }
        }
    }

    /// The container of this name, id, or beginning of an id.
    ///
    /// # Errors
    /// There is no such container, or several.
    pub fn container(&self, container: &str) -> Result<Container, Error> {
        Ok(self.find(container)?.1)
    }

    /// Docker's JSON object of a container.
    ///
    /// # Errors
    /// There is no such container.
    pub fn inspect(&self, container: &str) -> Result<Value, Error> {
        let (dir, container) = self.find(container)?;
        let state = dir.state()?;
        let status = pause::status(state.status, || group::is_frozen(&dir));
        let state = State { status, ..state };
        Ok(inspect::value(&container, &state, dir.path(), self.root.path()))
    }

    /// The mounts of a running container, with where each comes from.
    ///
    /// # Errors
    /// There is no such container, or it does not run ([`Error::NotRunning`]).
    pub fn mounts(&self, container: &str) -> Result<Vec<MountView>, Error> {
        let (dir, container) = self.find(container)?;
        let state = dir.state()?;
        if Target::of(&state)?.is_none() {
            return Err(Error::not_running(&container));
        }
        let inside = mounts::table(&state.pid.to_string())?;
        let host = mounts::table("self")?;
        Ok(mounts::view(&container, &inside, &host, self.root.path(), dir.path()))
    }

    /// The container of this name, id, or beginning of an id.
    pub(crate) fn find(&self, text: &str) -> Result<(Dir, Container), Error> {
        // The quick ways first: with a thousand containers, not all records are read.
        let named = match names::check(text) {
            Ok(()) => self.root.named(text)?,
            Err(_) => None, // what cannot be a name is none
        };
        for id in [named.as_deref(), (text.len() == 64 && !text.contains('/')).then_some(text)]
            .into_iter()
            .flatten()
        {
            if let Some(found) = self.tidied(self.root.dir(id))? {
                return Ok(found);
            }
        }
        if !text.is_empty() {
            let starts = |dir: &Dir| dir.id().starts_with(text);
            let mut found = self.root.dirs()?.into_iter().filter(starts);
            if let (Some(dir), None) = (found.next(), found.next())
                && let Some(found) = self.tidied(dir)?
            {
                return Ok(found);
            }
        }
        let all: Vec<Container> =
            self.list()?.into_iter().map(|(container, _)| container).collect();
        let found = reference::find(&all, text)?;
        Ok((self.root.dir(&found.id), found.clone()))
    }

    /// The container in this directory, if there is one when what the dead have left is tidied up.
    fn tidied(&self, dir: Dir) -> Result<Option<(Dir, Container)>, Error> {
        tidy::tidied(&self.root, &dir)?;
        Ok(dir.container()?.map(|container| (dir, container)))
    }
}
