//! `cargo xtask images`: real container images from Debian's packages, in every format that users
//! have on disk. With the same package versions the output is the same to the byte.

mod busybox;
mod debian;
mod formats;
mod image;
mod odd;
mod tarball;
mod tree;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use self::debian::Debian;
pub(crate) use self::formats::Format;
use self::image::{Image, Layer};
use self::tarball::sha256;
use crate::{apt, sh};

/// Names, and what each image is. "layers-N" stands for every N from 5 to 400.
const IMAGES: &[(&str, &str)] = &[
    ("busybox", "one 2 MB layer, ~300 hard links to one static binary"),
    (
        "nginx",
        "Debian base and nginx; a whiteout, an opaque directory, hard links, setuid files, file \
         capabilities, long paths, a 16 MiB file of zeros. NGINX_PORT (80) is its port",
    ),
    ("httpd", "Debian base and apache2; volumes with content. HTTPD_PORT (80) is its port"),
    ("netshoot", "Debian base and curl, tcpdump, iproute2, iptables, dig, strace, socat"),
    (
        "layers-N",
        "busybox and N-1 small layers (N from 5 to 400) that add, change, delete and replace \
         files; some are identical, some are empty. Its user is named and not root",
    ),
    ("odd", "busybox and layers in many dialects of tar"),
    ("odd-sparse", "busybox and an old GNU sparse file (type \"S\")"),
    ("odd-twice", "busybox and a layer with two entries of one name"),
    (
        "big",
        "1.5 GB in ten layers: compilers, Go, Ruby, node, scipy, headers; needs 5 GB of memory",
    ),
];

/// What is made when no name is given: what the workspace's tests need.
const DEFAULT: &[&str] = &[
    "busybox",
    "nginx",
    "httpd",
    "netshoot",
    "layers-5",
    "layers-127",
    "layers-400",
    "odd",
    "odd-sparse",
    "odd-twice",
];

/// The sources of this task: with other sources, images are made anew.
const SOURCES: &[&[u8]] = &[
    include_bytes!("mod.rs"),
    include_bytes!("busybox.rs"),
    include_bytes!("debian.rs"),
    include_bytes!("formats.rs"),
    include_bytes!("image.rs"),
    include_bytes!("odd.rs"),
    include_bytes!("tarball.rs"),
    include_bytes!("tree.rs"),
    include_bytes!("files/10-show-env.sh"),
    include_bytes!("files/20-port.sh"),
    include_bytes!("files/docker-entrypoint.sh"),
    include_bytes!("files/httpd-foreground"),
    include_bytes!("files/httpd.conf"),
    include_bytes!("files/layers-check"),
    include_bytes!("files/nginx.conf"),
    include_bytes!("files/odd-check"),
];

/// The command line of `cargo xtask images`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Images to make; what the tests need if none is named
    names: Vec<String>,
    /// Where OUT/IMAGE.FORMAT.tar and the record OUT/IMAGE.json go [default: images in cargo's
    /// target directory]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Formats to write; all if none is given
    #[arg(long, value_enum, value_delimiter = ',')]
    format: Vec<Format>,
    /// Say what images there are
    #[arg(long)]
    list: bool,
    /// Make them again, of the packages that the archive has now
    #[arg(long)]
    force: bool,
}

/// What was made, beside the files.
#[derive(Serialize, Deserialize, Default)]
struct Record {
    /// Digest of this task's sources.
    sources: String,
    tag: String,
    config: String,
    layers: Vec<String>,
    packages: Vec<String>,
    /// By format.
    files: BTreeMap<String, Written>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    size: u64,
    sha256: String,
}

/// Runs `cargo xtask images`.
pub(crate) fn run(args: Args) -> Result<()> {
    if args.list {
        for (name, what) in IMAGES {
            println!("{name:12}{what}");
        }
        println!("\nWithout names: {}", DEFAULT.join(", "));
        return Ok(());
    }
    let names: Vec<&str> = match &args.names[..] {
        [] => DEFAULT.to_vec(),
        names => names.iter().map(String::as_str).collect(),
    };
    let formats = if args.format.is_empty() {
        [Format::EVERY, &[Format::OciMulti]].concat()
    } else {
        args.format
    };
    let out = match args.out {
        Some(out) => std::path::absolute(&out)?,
        None => sh::target()?.join("images"),
    };
    make(&out, &names, &formats, args.force)
}

/// Sees to it that images are below `out` in these formats. What is there and of the same sources
/// is left alone.
pub(crate) fn make(out: &Path, names: &[&str], formats: &[Format], force: bool) -> Result<()> {
    for name in names {
        if !known(name) {
            bail!("there is no image {name:?}: `cargo xtask images --list` says which there are");
        }
    }
    let cache = out.join(".cache");
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    // One at a time: a second run waits, and then finds its images made.
    let lock = File::create(cache.join("lock"))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
        .with_context(|| format!("cannot lock {}/lock", cache.display()))?;
    let work = cache.join("work");
    let kitchen = Kitchen { debian: Debian::new(&cache), work: &work, busybox: OnceLock::new() };
    for name in names {
        kitchen.serve(out, name, formats, force)?;
    }
    remove(&work)
}

fn known(name: &str) -> bool {
    match name.strip_prefix("layers-") {
        Some(count) => count_of(count).is_some(),
        None => IMAGES.iter().any(|(image, _)| *image == name),
    }
}

fn count_of(text: &str) -> Option<usize> {
    let count = text.parse().ok().filter(|count: &usize| (5..=400).contains(count))?;
    (count.to_string() == text).then_some(count)
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Where images are made.
struct Kitchen<'a> {
    debian: Debian<'a>,
    work: &'a Path,
    busybox: OnceLock<Arc<Layer>>,
}

impl Kitchen<'_> {
    fn serve(&self, out: &Path, name: &str, formats: &[Format], force: bool) -> Result<()> {
        let started = Instant::now();
        let record_path = out.join(format!("{name}.json"));
        let sources = sha256(&SOURCES.concat());
        let mut record: Record = fs::read(&record_path)
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok())
            .filter(|record: &Record| record.sources == sources && !force)
            .unwrap_or_default();
        let path = |format: Format| out.join(format!("{name}.{}.tar", format.name()));
        let missing: Vec<Format> = formats
            .iter()
            .copied()
            .filter(|format| *format != Format::OciMulti || name == "busybox")
            .filter(|format| {
                let written = record.files.get(format.name()).map(|file| file.size);
                written.is_none()
                    || fs::metadata(path(*format)).map(|file| file.len()).ok() != written
            })
            .collect();
        if missing.is_empty() {
            println!("{name}: as it was");
            return Ok(());
        }
        apt::ensure(&["apt-get", "dpkg-deb", "tar"])?;
        remove(self.work)?;
        fs::create_dir_all(self.work)?;
        let image = self.make(name).with_context(|| format!("cannot make the image {name}"))?;
        let config = format!("sha256:{}", image.config.digest);
        if record.config != config {
            record.files.clear(); // of other packages: files of another format are no longer it
        }
        for format in missing {
            let file = path(format);
            let new = file.with_extension("new");
            self.write(&image, format, &new)
                .and_then(|written| {
                    fs::rename(&new, &file)?;
                    record.files.insert(format.name().to_owned(), written);
                    Ok(())
                })
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        let diff_ids = image.layers.iter().map(|layer| format!("sha256:{}", layer.diff_id()));
        let record = Record {
            sources,
            tag: image.tag(),
            config,
            layers: diff_ids.collect(),
            packages: image.packages,
            ..record
        };
        fs::write(&record_path, serde_json::to_vec_pretty(&record)?)
            .with_context(|| format!("cannot write {}", record_path.display()))?;
        let bytes: u64 = record.files.values().map(|file| file.size).sum();
        println!(
            "{name}: {} layers, {} files of {} MB, made in {:.1} s",
            record.layers.len(),
            record.files.len(),
            bytes / 1_000_000,
            started.elapsed().as_secs_f64()
        );
        Ok(())
    }

    fn write(&self, image: &Image, format: Format, path: &Path) -> Result<Written> {
        let other = match format {
            Format::OciMulti => Some(busybox::for_arm64()?),
            _ => None,
        };
        let (size, sha256) = formats::write(image, format, other.as_ref(), path)?;
        Ok(Written { size, sha256 })
    }

    fn make(&self, name: &str) -> Result<Image> {
        match name {
            "nginx" => self.debian.nginx(),
            "httpd" => self.debian.httpd(),
            "netshoot" => self.debian.netshoot(),
            "big" => self.debian.big(),
            "busybox" => Ok(busybox::busybox(self.busybox()?)),
            "odd" => odd::odd(self.busybox()?, self.work),
            "odd-sparse" => odd::odd_sparse(self.busybox()?, self.work),
            "odd-twice" => odd::odd_twice(self.busybox()?),
            _ => match name.strip_prefix("layers-").and_then(count_of) {
                Some(count) => busybox::layers(self.busybox()?, count),
                None => bail!("there is no image {name:?}"),
            },
        }
    }

    fn busybox(&self) -> Result<Arc<Layer>> {
        if let Some(layer) = self.busybox.get() {
            return Ok(layer.clone());
        }
        let layer = busybox::layer(&self.debian, self.work)?;
        Ok(self.busybox.get_or_init(|| layer).clone())
    }
}
