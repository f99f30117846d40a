//! A container's changes, or the archive of a root file system, become an image.

use std::fs::File;
use std::io::Seek;
use std::os::fd::AsFd;
use std::path::PathBuf;

use image_store::{
    Digest, LayerTar, LoadOptions, NewImage, Pack, Platform, Progress, Store, StoredImage,
};
use rustix::fs::Stat;
use serde_json::{Map, Value, json};

use crate::changes::{self, ImageConfig};
use crate::layers::Lowers;
use crate::made::Made;
use crate::pause::Still;
use crate::record::now;
use crate::view::Extent;
use crate::{Container, Engine, Error};

/// What of a container's configuration an image keeps.
const KEPT: [&str; 11] = [
    "User",
    "ExposedPorts",
    "Env",
    "Entrypoint",
    "Cmd",
    "Healthcheck",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
    "StopTimeout",
];

/// What is said of an image that is made.
#[derive(Clone, Debug, Default)]
pub struct CommitRequest {
    /// Its name; none: it has its id only.
    pub name: Option<String>,
    /// Who made it.
    pub author: String,
    /// What it is.
    pub message: String,
    /// Instructions of a Dockerfile, as `CMD ["sh"]`.
    pub changes: Vec<String>,
    /// Whether a container that runs is paused meanwhile, so that its files fit together.
    pub pause: bool,
}

/// Where `import` takes its archive from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportSource {
    /// A tar, plain or compressed.
    Path(PathBuf),
    /// Standard input.
    Stdin,
}

impl Engine {
    /// Makes an image of a container's image and what the container changed, with the container's
    /// configuration. What is mounted in the container is no part of it. The processes of a container that
    /// runs stand still while its files are read, or with `request.pause` false go on.
    ///
    /// # Errors
    /// There is no such container; a change or the name breaks a rule; the container has a file that
    /// no layer can hold.
    pub fn commit(
        &self,
        container: &str,
        request: &CommitRequest,
        progress: &dyn Progress,
    ) -> Result<StoredImage, Error> {
        let (dir, container) = self.find(container)?;
        let base = self.store.find(&container.image)?;
        let raw = self.store.raw_config(&base.id)?;
        let path = || format!("the configuration of {}", base.id);
        let parsed = serde_json::from_slice(&raw);
        let mut image: Map<String, Value> =
            parsed.map_err(|source| Error::Damaged { path: path().into(), source })?;
        let mut config = object(image.remove("config"));
        adopt(&mut config, &container);
        check(request, &mut config)?;
        image.insert("config".to_owned(), Value::Object(config));
        // Docker's own records of how the base was made.
        for key in ["container", "container_config", "docker_version", "id", "parent", "author"] {
            image.remove(key);
        }
        let layer = {
            // One that does not run is neither started nor removed while this lives.
            let _rootfs = self.rootfs(&dir, &container, Extent::Root)?;
            let still = match request.pause {
                true => Still::hold(self, &dir, &container)?,
                false => None,
            };
            let lowers = Lowers::open(&self.store, &self.root, &container)?;
            let made = Made::of(&container, &lowers)
                .map_err(|errno| Error::system("look at the layers of", &container.image, errno))?;
            let layer = self.changed(&dir.open("diff")?, &made)?;
            still.map(Still::end).transpose()?;
            layer
        };
        let words = [&container.path].into_iter().chain(&container.args);
        let command = words.map(String::as_str).collect::<Vec<_>>().join(" ");
        let step = step(request, Some(command), String::new());
        self.create_image(Some(&base), &layer, image, step, request, progress)
    }

    /// What a container's upper directory has, as a layer.
    fn changed(&self, upper: &impl AsFd, made: &Made) -> Result<LayerTar, Error> {
        let skip = |path: &[u8], stat: &Stat| made.file(&[b"/", path].concat(), stat);
        let options = self.load_options();
        let pack = Pack { layer: Some(options.options.form), skip: &skip };
        let mut file = self.store.spool()?;
        pack.write(upper.as_fd(), &file)?;
        file.rewind().map_err(|error| Error::system("rewind", "the container's changes", error))?;
        Ok(self.store.layer_tar(file, "the container's changes", &options.options.limits)?)
    }

    /// Makes an image of one layer: the archive of a root file system.
    ///
    /// # Errors
    /// The archive cannot be read, is malformed or refused; a change or the name breaks a rule.
    pub fn import(
        &self,
        source: &ImportSource,
        request: &CommitRequest,
        platform: Option<&Platform>,
        progress: &dyn Progress,
    ) -> Result<StoredImage, Error> {
        let mut config = ImageConfig::new();
        check(request, &mut config)?;
        let (file, name) = match source {
            ImportSource::Path(path) => {
                let file = File::open(path).map_err(|error| Error::system("open", path, error))?;
                (file, path.display().to_string())
            }
            ImportSource::Stdin => {
                let stdin = std::io::stdin().as_fd().try_clone_to_owned();
                let stdin = stdin.map_err(|error| Error::system("use", "standard input", error))?;
                (File::from(stdin), "standard input".to_owned())
            }
        };
        let layer = self.store.layer_tar(file, &name, &self.load_options().options.limits)?;
        let platform = platform.cloned().unwrap_or_else(Platform::host);
        let mut image = object(Some(json!({
            "architecture": platform.architecture,
            "os": platform.os,
            "config": config,
        })));
        if let Some(variant) = platform.variant {
            image.insert("variant".to_owned(), json!(variant));
        }
        // As Docker: the path is the host's, and none of the image's business.
        let step = step(request, None, "Imported from -".to_owned());
        let image = self.create_image(None, &layer, image, step, request, progress)?;
        self.root.events().image("import", &image, None);
        Ok(image)
    }

    fn create_image(
        &self,
        base: Option<&StoredImage>,
        layer: &LayerTar,
        mut image: Map<String, Value>,
        step: Value,
        request: &CommitRequest,
        progress: &dyn Progress,
    ) -> Result<StoredImage, Error> {
        let mut history = match image.remove("history") {
            Some(Value::Array(steps)) => steps,
            _ => Vec::new(),
        };
        image.insert("created".to_owned(), step["created"].clone());
        if !request.author.is_empty() {
            image.insert("author".to_owned(), json!(request.author));
        }
        history.push(step);
        image.insert("history".to_owned(), Value::Array(history));
        let config = |diff_ids: &[Digest]| {
            let mut image = image.clone();
            let rootfs = json!({ "type": "layers", "diff_ids": diff_ids });
            image.insert("rootfs".to_owned(), rootfs);
            Value::Object(image).to_string().into_bytes()
        };
        let new = NewImage { base, layer, config: &config, name: request.name.as_deref() };
        // What exists nowhere else is on the disk before it has a name.
        let options = LoadOptions { durable: true, ..self.load_options() };
        Ok(self.store.create(&new, &options, progress)?)
    }
}

/// Makes the changes, and checks the name, before anything long begins.
fn check(request: &CommitRequest, config: &mut ImageConfig) -> Result<(), Error> {
    if let Some(name) = &request.name {
        Store::complete_name(name)?;
    }
    changes::apply(config, &request.changes)?;
    // As the image specification has them, what is not set is not there.
    config.retain(|_, value| !value.is_null());
    Ok(())
}

/// The container's configuration over the image's; what no container changes stays.
fn adopt(config: &mut ImageConfig, container: &Container) {
    let mut own = object(serde_json::to_value(&container.config).ok());
    if let Some(Value::Array(env)) = own.get_mut("Env") {
        // A name alone takes a variable away in the container.
        env.retain(|line| line.as_str().is_some_and(|line| line.contains('=')));
    }
    for key in KEPT {
        match own.remove(key) {
            Some(value) if value != json!("") && value != json!({}) => {
                config.insert(key.to_owned(), value);
            }
            Some(_) => drop(config.remove(key)),
            // Not known of the container: the image's stays.
            None => {}
        }
    }
}

fn object(value: Option<Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// The step of the image's history.
fn step(request: &CommitRequest, command: Option<String>, comment: String) -> Value {
    let mut step = Map::new();
    step.insert("created".to_owned(), json!(now()));
    let comment = if request.message.is_empty() { comment } else { request.message.clone() };
    let optional = [
        ("created_by", command),
        ("author", Some(request.author.clone())),
        ("comment", Some(comment)),
    ];
    for (key, value) in optional {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            step.insert(key.to_owned(), json!(value));
        }
    }
    Value::Object(step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn an_image_takes_what_the_container_was_started_with() {
        let mut container = testing::container();
        container.config.env = vec!["A=1".to_owned(), "GONE".to_owned()];
        container.config.user = String::new();
        let mut config = object(Some(json!({
            "Cmd": ["old"], "User": "www", "Healthcheck": {"Test": ["NONE"]}, "OnBuild": ["RUN x"],
        })));
        adopt(&mut config, &container);
        check(&CommitRequest::default(), &mut config).unwrap();
        let config = Value::Object(config);
        assert_eq!(config["Cmd"], json!(["-g", "daemon off;"]));
        assert_eq!(config["Entrypoint"], json!(["nginx"]));
        assert_eq!(config["Env"], json!(["A=1"]));
        assert_eq!(config["Healthcheck"], json!({"Test": ["NONE"]}));
        assert_eq!(config["OnBuild"], json!(["RUN x"]));
        assert_eq!(config["StopSignal"], "SIGQUIT");
        assert_eq!((config.get("User"), config.get("Hostname")), (None, None));
    }
}
