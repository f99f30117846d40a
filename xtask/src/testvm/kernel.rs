//! Debian's cloud kernels, fetched as packages and unpacked without installing them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::features::Version;
use crate::{apt, sh};

/// The kernels of the matrix: the version, and the meta packages that may stand for it, by release of Debian.
const KERNELS: [(&str, &[&str]); 2] = [
    ("6.1", &["linux-image-cloud-amd64", "linux-image-6.1-cloud-amd64"]),
    ("6.12", &["linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64"]),
];

/// One kernel, unpacked.
#[derive(Debug)]
pub(super) struct Kernel {
    /// The version of the matrix.
    pub(super) version: Version,
    /// The package's version.
    pub(super) package: String,
    /// The bootable image.
    pub(super) image: PathBuf,
    /// `lib/modules/RELEASE`.
    pub(super) modules: PathBuf,
}

/// The versions that `--kernel` names: one, or all of the matrix.
pub(super) fn matrix(choice: &str) -> anyhow::Result<Vec<&'static str>> {
    let all: Vec<_> = KERNELS.iter().map(|(version, _)| *version).collect();
    if choice == "all" {
        return Ok(all);
    }
    match all.iter().find(|version| **version == choice) {
        Some(version) => Ok(vec![version]),
        None => {
            bail!("there is no kernel {choice} to test with: use one of {}, or all", all.join(", "))
        }
    }
}

/// What apt knows of a package that can be downloaded.
struct Package {
    name: String,
    version: String,
    sha256: String,
}

/// Fetches the kernel of this version, unless `cache` holds the one that apt names.
pub(super) fn fetch(version: &str, cache: &Path) -> anyhow::Result<Kernel> {
    let package = match find(version) {
        Ok(package) => package,
        Err(error) => match apt::update().and_then(|()| find(version)) {
            Ok(package) => package,
            Err(again) => return cached(version, cache).ok_or(again).context(error),
        },
    };
    let dir = cache.join(format!("{version}_{}_{}", package.version, &package.sha256[..16]));
    if !dir.exists() {
        download(&package, cache, &dir)?;
    }
    open(version, &dir)
}

/// The newest unpacked kernel of this version, for a machine that is off the network.
fn cached(version: &str, cache: &Path) -> Option<Kernel> {
    let prefix = format!("{version}_");
    let mut found: Vec<_> = fs::read_dir(cache)
        .ok()?
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    found.sort();
    open(version, &found.pop()?.1).ok()
}

/// The package that one of the meta packages for this version depends on.
fn find(version: &str) -> anyhow::Result<Package> {
    apt::ensure(&["apt-get", "dpkg-deb", "xz"])?;
    let metas =
        KERNELS.iter().find(|(name, _)| *name == version).map_or(&[][..], |(_, metas)| metas);
    for meta in metas {
        // A meta package that this release of Debian does not have prints nothing, or an error.
        let text = sh::text(Command::new("apt-cache").args(["depends", meta])).unwrap_or_default();
        let name = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| name.starts_with(&format!("linux-image-{version}.")));
        if let Some(name) = name {
            return uri(name);
        }
    }
    bail!(
        "apt knows none of {} with a kernel {version}: the kernels come from Debian 12's packages (bookworm and \
         bookworm-security), so add that source and run `apt-get update`",
        metas.join(", ")
    )
}

fn uri(name: &str) -> anyhow::Result<Package> {
    let text = sh::text(Command::new("apt-get").args(["--print-uris", "download", name]))?;
    parse_uri(name, &text).with_context(|| {
        format!("`apt-get --print-uris download {name}` printed {text:?}, no SHA-256")
    })
}

/// Reads `'URI' NAME_VERSION_ARCH.deb SIZE SHA256:HEX`.
fn parse_uri(name: &str, text: &str) -> Option<Package> {
    let mut words = text.lines().find(|line| line.starts_with('\''))?.split_whitespace().skip(1);
    let version = words.next()?.split('_').nth(1)?.replace("%3a", ":");
    let sha256 = words.nth(1)?.strip_prefix("SHA256:")?;
    (sha256.len() == 64).then(|| Package {
        name: name.to_owned(),
        version,
        sha256: sha256.to_owned(),
    })
}

fn download(package: &Package, cache: &Path, dir: &Path) -> anyhow::Result<()> {
    println!("fetching {} {}", package.name, package.version);
    let work = cache.join(format!("partial-{}", std::process::id()));
    let tree = work.join("tree");
    fs::create_dir_all(&tree).with_context(|| format!("creating {}", tree.display()))?;
    // As root, apt would download as the user _apt, who cannot write here, and warn. It checks the digest.
    let pin = format!("{}={}", package.name, package.version);
    let option = ["-qq", "-o", "APT::Sandbox::User=root"];
    sh::output(Command::new("apt-get").args(option).args(["download", &pin]).current_dir(&work))?;
    let deb = fs::read_dir(&work)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|end| end == "deb"))
        .with_context(|| {
            format!("`apt-get download {pin}` left no package in {}", work.display())
        })?;
    let digest = sh::text(Command::new("sha256sum").arg(&deb))?;
    if !digest.starts_with(&package.sha256) {
        bail!("{} has the digest {digest}, and apt's list says {}", deb.display(), package.sha256);
    }
    sh::output(Command::new("dpkg-deb").arg("-x").args([&deb, &tree]))?;
    fs::rename(&tree, dir)
        .with_context(|| format!("moving {} to {}", tree.display(), dir.display()))?;
    fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))
}

/// Finds the image and the modules in an unpacked package.
fn open(version: &str, dir: &Path) -> anyhow::Result<Kernel> {
    let image = child(&dir.join("boot"), "vmlinuz-")?;
    // Packages of a release with a merged /usr have them there.
    let lib = [dir.join("lib/modules"), dir.join("usr/lib/modules")]
        .into_iter()
        .find(|path| path.is_dir());
    let modules =
        child(&lib.with_context(|| format!("{} holds no modules", dir.display()))?, version)?;
    let package = dir.file_name().unwrap_or_default().to_string_lossy();
    let package = package.split('_').nth(1).unwrap_or_default().to_owned();
    Ok(Kernel { version: Version::parse(version)?, package, image, modules })
}

fn child(dir: &Path, prefix: &str) -> anyhow::Result<PathBuf> {
    fs::read_dir(dir)
        .with_context(|| format!("reading {}", dir.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
        })
        .with_context(|| {
            format!("{} holds no {prefix}…; remove it, it is fetched again", dir.display())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_read() {
        let digest = "0".repeat(64);
        let text = format!(
            "'http://host/l_6.12.1%2bdeb12-1%7e_amd64.deb' l_6.12.1+deb12-1~_amd64.deb 1504 SHA256:{digest}\n"
        );
        let package = parse_uri("l", &text).expect("a whole line");
        assert_eq!((package.version.as_str(), package.sha256), ("6.12.1+deb12-1~", digest));
        assert!(parse_uri("l", "'http://host/l.deb' l_1_amd64.deb 1504 MD5Sum:00").is_none());
    }

    #[test]
    fn the_matrix_is_named() {
        assert_eq!(matrix("all").expect("all"), ["6.1", "6.12"]);
        assert_eq!(matrix("6.12").expect("one"), ["6.12"]);
        let error = matrix("5.4").expect_err("not in the matrix").to_string();
        assert!(error.contains("6.1, 6.12"), "{error}");
    }
}
