//! Looking through a whole store: what is there, whether it fits together, and what is left over.
//!
//! What can be verified is what a digest or a name says: an image's configuration (its digest is the image's id),
//! which layers it needs (their chain ids follow from the configuration), each layer's record (diff_id and parent
//! make its chain id) and how many files of how many bytes it has, links, names, and what is remembered of archives. A
//! layer's files were verified as the bytes of a tar, which the store does not keep; so their content is compared where writing the tar anew gives the same
//! bytes ([`CheckOptions::content`]), and nowhere else. Of an image with an index the tars are there, and can be compared.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use image_unpack::{Digest, Hasher, WhiteoutForm, chain_id};
use oci_spec::image::ImageConfiguration;

use crate::dir::Dir;
use crate::link;
use crate::record::{CONFIG, IMAGE, ImageRecord, LAYER, LayerRecord};
use crate::save::Hashed;
use crate::source::Known;
use crate::store::Store;
use crate::tags::{TAGS, Tags};
use crate::trust::tally;
use crate::{Error, Pack};

mod indexed;

/// How a store is looked through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckOptions {
    /// Also read all files of all layers. Default: no.
    pub content: bool,
}

/// What [`Store::check`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// Images that there are.
    pub images: usize,
    /// Layers that there are.
    pub layers: usize,
    /// Names of images.
    pub names: usize,
    /// Layers whose files were read and are, byte for byte, what their diff_id says. Only with
    /// [`CheckOptions::content`]; of the others nothing can be said, but that they can be read.
    pub verified: usize,
    /// What is wrong, in the order in which it was found.
    pub findings: Vec<Finding>,
}

/// Something that should not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub grade: Grade,
    /// Where.
    pub path: PathBuf,
    /// What is wrong, and what to do about it: the rest of a sentence that begins with the path.
    pub what: String,
    /// What [`Store::repair`] does about it.
    pub remedy: Remedy,
}

/// What a damage is the end of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// Of nothing: it is left over, or it takes a look by somebody.
    #[default]
    None,
    /// Of this image.
    Image(Digest),
    /// Of the layer with this chain id, and of each image that has it as a directory.
    Layer(Digest),
    /// Of the layer with this diff_id, and of each image that has it as a tar.
    Blob(Digest),
    /// Of this name.
    Name(String),
    /// Of all names: nobody knows them.
    Names,
    /// Of nothing: the short link of the layer with this chain id is made anew.
    LayerLink(Digest),
    /// Of nothing: the short link to this image's mount is made anew.
    MountLink(Digest),
}

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    /// Something that is needed is missing, or not what it was.
    Damage,
    /// It takes room, or is passed over, and does no harm.
    Leftover,
}

impl Checked {
    /// Whether something that is needed is missing, or not what it was.
    pub fn is_damaged(&self) -> bool {
        self.findings.iter().any(|finding| finding.grade == Grade::Damage)
    }

    /// Adds a finding.
    pub fn add(&mut self, grade: Grade, path: PathBuf, what: impl Into<String>) {
        self.findings.push(Finding { grade, path, what: what.into(), remedy: Remedy::None });
    }
}

/// What to do with an image that is damaged.
pub(crate) const AGAIN: &str = "remove the image with rmi, and load it again";

impl Store {
    /// Looks through the store. Nothing is removed from it meanwhile, and nothing is changed; others may load.
    ///
    /// # Errors
    /// A system call fails. What is damaged is no error but a [`Finding`].
    pub fn check(&self, options: &CheckOptions) -> Result<Checked, Error> {
        let _hold = self.hold()?;
        self.look_through(options)
    }

    /// [`Store::check`], for who has the store locked.
    pub(crate) fn look_through(&self, options: &CheckOptions) -> Result<Checked, Error> {
        let mut look = Look {
            store: self,
            options,
            found: Checked::default(),
            used: HashSet::new(),
            blobs: BTreeSet::new(),
            used_blobs: BTreeSet::new(),
        };
        // Before the images: a layer that is there by now, and that no image has by then, nobody needs.
        let layers = look.layers()?;
        look.blobs()?;
        let images = self.ids()?;
        look.found.images = images.len();
        for id in &images {
            if let Err(error) = look.image(id) {
                let path = self.dirs().images.path().join(id.hex());
                look.damage(Remedy::None, path, format!("cannot be looked at: {error}"));
            }
        }
        look.names(&images)?;
        look.leftovers(&layers)?;
        Ok(look.found)
    }
}

struct Look<'a> {
    store: &'a Store,
    options: &'a CheckOptions,
    found: Checked,
    /// Chain ids of the layers that images need as directories.
    used: HashSet<Digest>,
    /// Blobs that there are, and that images need.
    blobs: BTreeSet<Digest>,
    used_blobs: BTreeSet<Digest>,
}

impl Look<'_> {
    fn damage(&mut self, remedy: Remedy, path: PathBuf, what: impl Into<String>) {
        self.found.findings.push(Finding { grade: Grade::Damage, path, what: what.into(), remedy });
    }

    fn leftover(&mut self, path: PathBuf, what: impl Into<String>) {
        self.found.add(Grade::Leftover, path, what);
    }

    /// A file's value; `None` where it is missing or damaged, which is then found.
    fn sound<T>(
        &mut self,
        dir: &Dir,
        name: &str,
        remedy: Remedy,
        read: Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        let path = dir.path().join(name);
        match read {
            Ok(Some(value)) => return Ok(Some(value)),
            Ok(None) => self.damage(remedy, path, format!("is missing; {AGAIN}")),
            Err(Error::Damaged { problem, .. }) => {
                self.damage(remedy, path, format!("is damaged: {problem}; {AGAIN}"));
            }
            Err(error) => return Err(error),
        }
        Ok(None)
    }

    /// All layers, each by itself.
    fn layers(&mut self) -> Result<BTreeMap<Digest, LayerRecord>, Error> {
        let all = &self.store.dirs().layers;
        let mut layers = BTreeMap::new();
        for name in all.names()? {
            let Ok(id) = Digest::from_hex(&name) else {
                self.leftover(all.path().join(&name), "is no layer; nobody uses it");
                continue;
            };
            self.found.layers += 1;
            match self.layer(&name, &id) {
                Ok(record) => layers.extend(record.map(|record| (id, record))),
                Err(error) => {
                    let what = format!("cannot be looked at: {error}");
                    self.damage(Remedy::None, all.path().join(&name), what);
                }
            }
        }
        let mut forms: Vec<&str> = layers.values().map(|record| &record.form[..]).collect();
        forms.sort_unstable();
        forms.dedup();
        if let [first, .., other] = forms[..] {
            let what = format!("has layers of two forms: {first}; {other}. {AGAIN}");
            self.damage(Remedy::None, all.path().to_owned(), what);
        }
        Ok(layers)
    }

    fn layer(&mut self, name: &str, id: &Digest) -> Result<Option<LayerRecord>, Error> {
        let Some(dir) = self.store.dirs().layers.dir(name)? else { return Ok(None) };
        let record = dir.json::<LayerRecord>(LAYER);
        let broken = || Remedy::Layer(*id);
        let record = self.sound(&dir, LAYER, broken(), record)?;
        self.link(&dir, id)?;
        let Some(record) = record else { return Ok(None) };
        let made = chain_id(record.parent.as_ref(), &record.diff_id);
        if made != *id {
            let what = format!("is another layer's, {made}; {AGAIN}");
            self.damage(broken(), dir.path().join(LAYER), what);
        }
        if let (Some(content), Some(diff)) = (record.content, dir.dir("diff")?)
            && tally(&diff)? != content
        {
            self.damage(
                broken(),
                diff.path().to_owned(),
                format!("has not the files that were unpacked; {AGAIN}"),
            );
        }
        if self.options.content {
            self.content(&dir, id, &record)?;
        }
        Ok(Some(record))
    }

    /// That a layer's short link leads to its files.
    fn link(&mut self, dir: &Dir, id: &Digest) -> Result<(), Error> {
        if dir.dir("diff")?.is_none() {
            let what = format!("is missing; {AGAIN}");
            self.damage(Remedy::Layer(*id), dir.path().join("diff"), what);
        }
        let links = &self.store.dirs().links;
        let name = link::name(id);
        match link::target(links, &name)? {
            Some(found) if found == link::to(id) => {}
            Some(found) => {
                let to = link::to(id);
                let what = format!("leads to {found} and not to {to}; remove it");
                self.damage(Remedy::LayerLink(*id), links.path().join(name), what);
            }
            None => {
                let what = format!("is missing; {AGAIN}");
                self.damage(Remedy::LayerLink(*id), links.path().join(name), what);
            }
        }
        Ok(())
    }

    /// Reads a layer's files, as they would be saved.
    fn content(&mut self, dir: &Dir, id: &Digest, record: &LayerRecord) -> Result<(), Error> {
        let Some(diff) = dir.dir("diff")? else { return Ok(()) };
        let Some(form) = whiteouts(&record.form) else {
            let what = format!("has an unknown form; {AGAIN}");
            self.damage(Remedy::Layer(*id), dir.path().join(LAYER), what);
            return Ok(());
        };
        let mut hashed = Hashed { out: io::sink(), hasher: Hasher::new() };
        match (Pack { layer: Some(form), ..Pack::default() }).write(diff.as_fd(), &mut hashed) {
            Ok(_) => {
                self.found.verified += usize::from(hashed.hasher.finish() == record.diff_id);
            }
            Err(error) => {
                // Maybe only now: nothing is removed for it.
                let what = format!("cannot be read: {error}");
                self.damage(Remedy::None, diff.path().to_owned(), what);
            }
        }
        Ok(())
    }

    fn image(&mut self, id: &Digest) -> Result<(), Error> {
        let Some(dir) = self.store.dirs().images.dir(&id.hex())? else { return Ok(()) };
        let record = dir.json::<ImageRecord>(IMAGE);
        let broken = || Remedy::Image(*id);
        let record = self.sound(&dir, IMAGE, broken(), record)?;
        // By itself: what the configuration says is not needed for it.
        let index = record.as_ref().and_then(|record| Some((record, record.index.as_ref()?)));
        if let Some((record, index)) = index {
            self.indexed(&dir, record, index)?;
        }
        let raw = dir.read(CONFIG);
        let Some(raw) = self.sound(&dir, CONFIG, broken(), raw)? else { return Ok(()) };
        let path = dir.path().join(CONFIG);
        let found = Digest::of(&raw);
        if found != *id {
            self.damage(broken(), path, format!("is damaged: its digest is {found}; {AGAIN}"));
            return Ok(());
        }
        let config = match ImageConfiguration::from_reader(raw.as_slice()) {
            Ok(config) => config,
            Err(error) => {
                self.damage(broken(), path, format!("is no configuration: {error}; {AGAIN}"));
                return Ok(());
            }
        };
        let mut needed = Vec::new();
        for diff_id in config.rootfs().diff_ids() {
            let Ok(diff_id) = diff_id.parse() else {
                self.damage(
                    broken(),
                    path,
                    format!("names a layer {diff_id}, which is no digest; {AGAIN}"),
                );
                return Ok(());
            };
            needed.push(chain_id(needed.last(), &diff_id));
        }
        if index.is_none() {
            self.used.extend(&needed);
        }
        if let Some(record) = &record {
            let recorded: Vec<Digest> = record.layers.iter().map(|layer| layer.chain_id).collect();
            if record.id != *id || recorded != needed {
                let what = format!("is of other layers than the configuration; {AGAIN}");
                self.damage(broken(), dir.path().join(IMAGE), what);
            }
        }
        if index.is_some() {
            return Ok(());
        }
        let layers = &self.store.dirs().layers;
        for (at, layer) in needed.iter().enumerate() {
            // As it is now: another process may have loaded it meanwhile.
            if !layers.has(&layer.hex())? {
                let (number, count) = (at + 1, needed.len());
                let path = layers.path().join(layer.hex());
                let what = format!("is missing, layer {number} of {count} of {id}; {AGAIN}");
                self.damage(broken(), path, what);
            }
        }
        Ok(())
    }

    fn names(&mut self, images: &[Digest]) -> Result<(), Error> {
        let root = &self.store.dirs().root;
        let tags: Tags = match root.json(TAGS) {
            Ok(tags) => tags.unwrap_or_default(),
            Err(Error::Damaged { path, problem }) => {
                let what = format!("is damaged: {problem}; remove it, and give the images names");
                self.damage(Remedy::Names, path, what);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.found.names = tags.len();
        for (name, id) in &tags {
            if !images.contains(id) && !self.store.dirs().images.has(&id.hex())? {
                let what = format!("gives the name {name} to {id}, which is not there; use rmi");
                self.damage(Remedy::Name(name.clone()), root.path().join(TAGS), what);
            }
        }
        Ok(())
    }

    fn leftovers(&mut self, layers: &BTreeMap<Digest, LayerRecord>) -> Result<(), Error> {
        self.unused_blobs()?;
        let dirs = self.store.dirs();
        // Opening the store has removed what the dead have left: what is there now is somebody's work.
        if dirs.staging.names()?.is_empty() {
            for id in
                layers.keys().filter(|id| !self.used.contains(id)).copied().collect::<Vec<_>>()
            {
                let what = "is of no image; the next image that is removed takes it along";
                self.leftover(dirs.layers.path().join(id.hex()), what);
            }
        }
        for name in dirs.links.names()? {
            if !dirs.links.has(&name)? {
                let what = "leads nowhere; the next image that is removed takes it along";
                self.leftover(dirs.links.path().join(name), what);
            }
        }
        for key in dirs.sources.names()? {
            let known = Known::read(&dirs.sources, &key)?;
            let images = known.iter().flat_map(|known| &known.images);
            let mut is_there = known.is_some();
            for image in images {
                is_there &= dirs.images.has(&image.id.hex())?;
            }
            if !is_there {
                let what = "remembers an archive whose images are gone; it is passed over";
                self.leftover(dirs.sources.path().join(key), what);
            }
        }
        for name in dirs.images.names()? {
            if Digest::from_hex(&name).is_err() {
                self.leftover(dirs.images.path().join(name), "is no image; nobody uses it");
            }
        }
        Ok(())
    }
}

/// How whiteouts are written in a layer of this form, as [`crate::work::form`] calls it.
fn whiteouts(form: &str) -> Option<WhiteoutForm> {
    let all = [
        WhiteoutForm::Device,
        WhiteoutForm::Xattr { user: false },
        WhiteoutForm::Xattr { user: true },
    ];
    all.into_iter().find(|known| form.starts_with(&format!("whiteouts {known:?},")))
}
