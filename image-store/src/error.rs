//! What can go wrong, each as a sentence.

use std::io;
use std::path::PathBuf;

use image_unpack::Digest;

/// A store that cannot be used, or an image that cannot be loaded, found or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call on the store or on an archive failed.
    #[error("cannot {op} {}: {source}", path.display())]
    System {
        /// what was tried
        op: &'static str,
        /// on what
        path: PathBuf,
        /// what the kernel said
        source: io::Error,
    },
    /// The archive is no image, or a damaged or hostile one.
    #[error(transparent)]
    Unpack(#[from] image_unpack::Error),
    /// The root directory has something else in it.
    #[error(
        "{} is no store: it is not empty and has no file {marker}; choose an empty or new directory with --root",
        path.display()
    )]
    NotAStore {
        /// the root directory
        path: PathBuf,
        /// the file that marks a store
        marker: &'static str,
    },
    /// The root directory is another user's.
    #[error(
        "the store {} belongs to user {owner}, and this is user {user}; choose another directory with --root",
        path.display()
    )]
    Owner {
        /// the root directory
        path: PathBuf,
        /// its owner's user id
        owner: u32,
        /// the effective user id of this process
        user: u32,
    },
    /// A file of the store is not what was written.
    #[error(
        "{} is damaged: {problem}; load the image again, or remove it with rmi", path.display()
    )]
    Damaged {
        /// the file
        path: PathBuf,
        /// what is wrong with it
        problem: Problem,
    },
    /// A short link leads to another layer.
    #[error("{} leads to {found}, and should lead to {expected}; remove it", path.display())]
    Link {
        /// the link
        path: PathBuf,
        /// where it leads
        found: String,
        /// where it should lead
        expected: String,
    },
    /// Text that is neither a name nor an id.
    #[error("{reference:?} is no image name: {why}")]
    BadReference {
        /// the text, cut at 256 characters
        reference: String,
        /// the rule that it breaks
        why: &'static str,
    },
    /// No image of this name or id.
    #[error("the store {} has no image {reference}; {}", root.display(), near_hint(near))]
    NotFound {
        /// the name or id that was asked for
        reference: String,
        /// the store
        root: PathBuf,
        /// names that are like it, or else the first that there are
        near: Vec<String>,
    },
    /// Several images' ids start so.
    #[error(
        "{reference} is the start of several images' ids: {}; give more digits",
        candidates.join(", ")
    )]
    Ambiguous {
        /// the start of an id
        reference: String,
        /// the images: id and first name
        candidates: Vec<String>,
    },
    /// The archive does not have the image that was asked for.
    #[error("{archive} has no image {reference}; it has {}", found.join(", "))]
    NotInArchive {
        /// what the user named
        archive: String,
        /// the name or id that was asked for
        reference: String,
        /// the names and ids in the archive
        found: Vec<String>,
    },
    /// A container needs the image.
    #[error(
        "the image {image} is used by a container; remove the container first, or use --force to remove only the image's names"
    )]
    InUse {
        /// name or id
        image: String,
    },
    /// An image with several names is asked to be removed by its id.
    #[error(
        "the image {id} has several names: {}; remove them one by one, or use --force",
        tags.join(", ")
    )]
    SeveralTags {
        /// the image
        id: Digest,
        /// its names
        tags: Vec<String>,
    },
    /// A layer is there, and was unpacked in another way than now asked for.
    #[error(
        "{} was unpacked with {stored}, and {wanted} is asked for; use a store of its own for each, with --root",
        path.display()
    )]
    Form {
        /// the layer
        path: PathBuf,
        /// how it was unpacked
        stored: String,
        /// how it should be
        wanted: String,
    },
    /// An index is asked for where it cannot be mounted.
    #[error(
        "images cannot be kept as an index here: {why}; it needs root and Linux 6.4 or later (before 6.12, and for a store on a tmpfs, with loop devices): leave --layer-form and --in-place out, or use --layer-form dir"
    )]
    NoIndex {
        /// what the kernel said
        why: String,
    },
    /// The kernel cannot be made to verify an image's files.
    #[error(
        "the image {image} is in the store, and cannot be protected by fs-verity: {why}; it needs --layer-form index and an ext4 with the feature (`tune2fs -O verity`), a btrfs or an f2fs: leave --verity out"
    )]
    NoVerity {
        /// the image
        image: Digest,
        /// why not
        why: String,
    },
    /// An image's index cannot be mounted.
    #[error(
        "cannot mount the index of the image {image}: {why}; remove the image with rmi, and load it again with --layer-form dir"
    )]
    Mount {
        /// the image
        image: Digest,
        /// what the kernel said
        why: String,
    },
    /// The archive that an image's layers were left in is not what it was.
    #[error(
        "the archive {} {why}, and the image {image} was loaded --in-place: its layers are in that archive; put the archive back, or load the image again",
        path.display()
    )]
    Archive {
        /// the image
        image: Digest,
        /// the archive
        path: PathBuf,
        /// what became of it
        why: String,
    },
    /// Layers cannot be left in what is no plain tar file.
    #[error("the layers of {archive} cannot be left in place: {why}; leave --in-place out")]
    InPlace {
        /// what the user named
        archive: String,
        /// why not
        why: &'static str,
    },
    /// A tree that is to become an archive cannot be read.
    #[error("cannot {op} {} in the file system that is to be archived: {source}", path.display())]
    Pack {
        /// what was tried
        op: &'static str,
        /// where, below the root of the tree
        path: PathBuf,
        /// what the kernel said
        source: io::Error,
    },
    /// A tar, or an image's layer, has no way to say what the tree has.
    #[error("{} cannot be archived: {why}", path.display())]
    Unrepresentable {
        /// where, below the root of the tree
        path: PathBuf,
        /// the rule that it breaks, and what to do
        why: &'static str,
    },
    /// Who takes the archive takes no more of it.
    #[error("cannot write the archive: {source}")]
    Output {
        /// what the kernel said
        source: io::Error,
    },
    /// Other processes removed layers as fast as this one wrote them.
    #[error(
        "gave up loading {archive}: other processes removed its layers {attempts} times while it was loaded; try again"
    )]
    Raced {
        /// what the user named
        archive: String,
        /// how often it was tried
        attempts: u32,
    },
}

/// What is wrong with a file of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// it is not there
    #[error("it is missing")]
    Missing,
    /// it is no JSON, or lacks a field
    #[error("{0}")]
    Json(serde_json::Error),
    /// the image's configuration does not parse
    #[error("{0}")]
    Config(oci_spec::OciSpecError),
    /// it has another digest than its name says
    #[error("its digest is {0}")]
    Digest(Digest),
    /// it is not the file that the kernel verified: fs-verity measures another digest, or none
    #[error("fs-verity {}", measured(.0.as_ref()))]
    Verity(Option<Digest>),
    /// its bytes were not on the disk when the machine went down
    #[error("it is not what was loaded: the machine went down before all of it was on the disk")]
    Lost,
    /// it is larger than such a file can be
    #[error("it is larger than {0} bytes")]
    Large(u64),
}

/// What was asked for; `None` also where it is damaged.
pub(crate) fn if_whole<T>(found: Result<Option<T>, Error>) -> Result<Option<T>, Error> {
    match found {
        Err(Error::Damaged { .. }) => Ok(None),
        other => other,
    }
}

fn measured(digest: Option<&Digest>) -> String {
    match digest {
        Some(digest) => format!("measures another digest, {digest}"),
        None => "does not protect it any more".to_owned(),
    }
}

fn near_hint(near: &[String]) -> String {
    if near.is_empty() {
        return "it is empty: load an image with `load -i FILE`, or run a tar by its path"
            .to_owned();
    }
    format!("near to it: {}", near.join(", "))
}
