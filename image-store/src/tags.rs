//! Names of images in the store, and how an image is found.

use std::collections::BTreeMap;

use image_unpack::Digest;

use crate::error::if_whole;
use crate::record::StoredImage;
use crate::reference::{candidates, complete, digest_candidates, has_digest, near, shorten};
use crate::store::{Store, TAGS_LOCK};
use crate::{Error, crash};

pub(crate) const TAGS: &str = "tags.json";
/// Only the holder of the tags' lock writes it; one that a dead process left is written over.
const NEW_TAGS: &str = "tags.json.new";

/// Fewest digits of an id that stand for it.
pub(crate) const PREFIX_MIN: usize = 2;

/// `name:tag` to image, and `name@digest` where it came from a registry.
pub(crate) type Tags = BTreeMap<String, Digest>;

/// What a reference means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// this name, with a tag or a digest, of this image
    Tag(String, Digest),
    /// this image, by its id or its manifest's digest
    Id(Digest),
}

impl Meaning {
    pub(crate) fn id(&self) -> Digest {
        match self {
            Meaning::Tag(_, id) | Meaning::Id(id) => *id,
        }
    }
}

impl Store {
    /// Finds an image by what a user types. In this order: `sha256:` and 64 digits or the digits
    /// alone (its id), `name@sha256:…` (what a registry had under it, its manifest's digest or its id), `name` or `name:tag` (with
    /// `docker.io/library/` or `localhost/` left out or not), the first two or more digits of its id.
    ///
    /// # Errors
    /// None or several such images ([`Error::NotFound`] with names that are like it,
    /// [`Error::Ambiguous`]), text that cannot be a name ([`Error::BadReference`]), a damaged store, an
    /// image of which a power cut took something.
    pub fn find(&self, reference: &str) -> Result<StoredImage, Error> {
        let tags = self.tags()?;
        let id = self.resolve(reference, &tags)?.id();
        let gone = || self.not_found(reference, &tags);
        let record = self.image_record(&id)?.ok_or_else(gone)?;
        self.look_at(&record)?;
        self.image_of(&id, record, &tags)?.ok_or_else(gone)
    }

    /// Gives the image `reference` one more name; an image that had the name before loses it.
    /// Returns the name in full, with its tag.
    ///
    /// # Errors
    /// As [`Store::find`]; a name that breaks Docker's rules ([`Error::BadReference`]).
    pub fn tag(&self, reference: &str, name: &str) -> Result<String, Error> {
        let name = complete(name)?;
        let _hold = self.hold()?;
        let id = self.find(reference)?.id;
        self.change_tags(|tags| {
            tags.insert(name.clone(), id);
            Ok(())
        })?;
        Ok(name)
    }

    /// Takes a name from its image, which stays, and returns the image's id.
    ///
    /// # Errors
    /// No image has the name ([`Error::NotFound`]), or it is no name ([`Error::BadReference`]).
    pub fn untag(&self, name: &str) -> Result<Digest, Error> {
        let names = candidates(name)?;
        self.change_tags(|tags| {
            let found = names.iter().find_map(|name| tags.remove(name));
            found.ok_or_else(|| self.not_found(name, tags))
        })
    }

    /// All tags; a moment's picture, or a lasting one for the holder of the tags' lock.
    pub(crate) fn tags(&self) -> Result<Tags, Error> {
        Ok(self.dirs().root.json(TAGS)?.unwrap_or_default())
    }

    /// Changes the tags under their lock; on an error of `change` they stay as they were.
    pub(crate) fn change_tags<T>(
        &self,
        change: impl FnOnce(&mut Tags) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let _lock = self.exclusive(TAGS_LOCK)?;
        let before = self.tags()?;
        let mut tags = before.clone();
        let result = change(&mut tags)?;
        if tags != before {
            let root = &self.dirs().root;
            let file = root.write_json(NEW_TAGS, &tags)?;
            // Renamed before its bytes are on the disk, a power cut could leave an empty file.
            file.sync_all().map_err(|source| Error::System {
                op: "sync",
                path: root.path().join(NEW_TAGS),
                source,
            })?;
            crash::point();
            root.replace(NEW_TAGS, root, TAGS)?;
            root.sync()?;
            crash::point();
        }
        Ok(result)
    }

    /// What a reference means; for an id not necessarily an image that is there.
    pub(crate) fn resolve(&self, reference: &str, tags: &Tags) -> Result<Meaning, Error> {
        if let Some((name, digest)) = reference.split_once('@') {
            let digest: Digest = digest.parse().map_err(|_| Error::BadReference {
                reference: shorten(reference),
                why: "after an '@' stands \"sha256:\" and 64 lower-case hexadecimal digits",
            })?;
            let names = digest_candidates(name, &digest);
            if let Some((name, id)) = names.iter().find_map(|name| tags.get_key_value(name)) {
                return Ok(Meaning::Tag(name.clone(), *id));
            }
            return self.by_digest(&digest)?.ok_or_else(|| self.not_found(reference, tags));
        }
        let digits = reference.strip_prefix("sha256:").unwrap_or(reference);
        if let Ok(id) = Digest::from_hex(digits) {
            return Ok(Meaning::Id(id));
        }
        let names = candidates(reference);
        if let Ok(names) = &names {
            let tagged = names.iter().find_map(|name| tags.get_key_value(name));
            if let Some((name, id)) = tagged {
                return Ok(Meaning::Tag(name.clone(), *id));
            }
        }
        let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if (PREFIX_MIN..64).contains(&digits.len()) && digits.bytes().all(hex) {
            let mut ids = self.ids()?;
            ids.retain(|id| id.hex().starts_with(digits));
            match ids[..] {
                [] => {}
                [id] => return Ok(Meaning::Id(id)),
                _ => return Err(ambiguous(reference, &ids, tags)),
            }
        }
        names?;
        Err(self.not_found(reference, tags))
    }

    fn by_digest(&self, digest: &Digest) -> Result<Option<Meaning>, Error> {
        for id in self.ids()? {
            let record = if_whole(self.image_record(&id))?;
            if id == *digest || record.is_some_and(|record| record.manifest == Some(*digest)) {
                return Ok(Some(Meaning::Id(id)));
            }
        }
        Ok(None)
    }

    pub(crate) fn not_found(&self, reference: &str, tags: &Tags) -> Error {
        let tagged = tags.keys().filter(|name| !has_digest(name));
        let mut near = near(reference, tagged.map(String::as_str));
        if near.is_empty() {
            // Images without names; that they cannot be listed is not what the user asked about.
            let ids = self.ids().unwrap_or_default();
            near = ids.iter().take(5).map(|id| id.hex()[..12].to_owned()).collect();
        }
        Error::NotFound { reference: shorten(reference), root: self.root().to_owned(), near }
    }
}

fn ambiguous(reference: &str, ids: &[Digest], tags: &Tags) -> Error {
    let describe = |id: &Digest| {
        let tag = tags.iter().find(|(_, of)| *of == id).map_or("<none>", |(tag, _)| tag);
        format!("{} ({tag})", &id.hex()[..12.max(reference.len() + 1).min(64)])
    };
    let candidates = ids.iter().take(10).map(describe).collect();
    Error::Ambiguous { reference: reference.to_owned(), candidates }
}
