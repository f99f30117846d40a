//! Debian packages: what a task needs is installed, what an image needs is downloaded.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::sh;

/// Programs that tasks use, and the Debian package of each that is not named as its program is.
const PROGRAMS: &[(&str, &str)] = &[
    ("apt-get", "apt"),
    ("busybox", "busybox-static"),
    ("c++", "g++"),
    ("containerd-shim-runc-v2", "containerd"),
    ("ctr", "containerd"),
    ("docker", "docker.io"),
    ("dockerd", "docker.io"),
    ("dpkg-deb", "dpkg"),
    ("findmnt", "util-linux"),
    ("getcap", "libcap2-bin"),
    ("getfattr", "attr"),
    ("ip", "iproute2"),
    ("ldd", "libc-bin"),
    ("mke2fs", "e2fsprogs"),
    ("nsenter", "util-linux"),
    ("prlimit", "util-linux"),
    ("ps", "procps"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("setcap", "libcap2-bin"),
    ("setfattr", "attr"),
    ("setpriv", "util-linux"),
    ("systemctl", "systemd"),
    ("umount", "mount"),
    ("unshare", "util-linux"),
    ("xz", "xz-utils"),
];

/// Sees to it that each program is there. On Debian, as root, what is missing is installed, and
/// said; elsewhere the error says what to install.
pub(crate) fn ensure(programs: &[&str]) -> Result<()> {
    let missing: Vec<&str> =
        programs.iter().copied().filter(|program| sh::which(program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: BTreeSet<&str> = missing.iter().map(|program| package_of(program)).collect();
    install(&packages.into_iter().collect::<Vec<_>>())?;
    match programs.iter().find(|program| sh::which(program).is_none()) {
        None => Ok(()),
        Some(program) => {
            bail!(
                "`{program}` is still missing after its package {} was installed",
                package_of(program)
            )
        }
    }
}

fn package_of(program: &str) -> &str {
    PROGRAMS.iter().find(|(name, _)| *name == program).map_or(program, |(_, package)| package)
}

/// Installs Debian packages on this machine, saying so. Needs root and apt.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    if sh::which("apt-get").is_none() {
        bail!(
            "this task needs {names} (names of Debian packages), and this machine has no apt-get: install them by hand"
        );
    }
    if !is_root() {
        bail!("this task needs Debian packages: run `apt-get install {names}` as root");
    }
    println!("installing Debian packages: {names}");
    let mut command = apt_get();
    command.args(["-qq", "--yes", "--no-install-recommends", "install"]).args(packages);
    if sh::output(&mut command).is_err() {
        update()?;
        sh::output(&mut command)?;
    }
    Ok(())
}

/// Renews the lists of packages. Needs root.
pub(crate) fn update() -> Result<()> {
    if !is_root() {
        bail!("apt's lists of packages are missing or old: run `apt-get update` as root");
    }
    println!("apt-get update");
    sh::output(apt_get().args(["-qq", "update"]))?;
    Ok(())
}

/// Whether this process is root, by the owner of its own directory in /proc.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|proc| proc.uid() == 0)
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8");
    command
}

/// Debian's archive as this machine's apt knows it, and a cache of downloaded packages. Sources of
/// other origin than Debian are left out, so that images are the same on every machine.
pub(crate) struct Archive {
    debs: PathBuf,
    sources: PathBuf,
    /// Lists of packages apart from the machine's own, for another release than its.
    lists: Option<PathBuf>,
}

impl Archive {
    /// Opens the archive; packages are kept below `cache`.
    pub(crate) fn open(cache: &Path) -> Result<Archive> {
        let debs = cache.join("debs");
        fs::create_dir_all(debs.join("partial"))
            .with_context(|| format!("cannot create {}", debs.display()))?;
        let mut lines = Self::lines()?;
        if lines.is_empty() {
            update()?;
            lines = Self::lines()?;
        }
        if lines.is_empty() {
            bail!("apt on this machine has no source of origin Debian (see /etc/apt/sources.list)");
        }
        let sources = cache.join("sources.list");
        let text: String = lines.into_iter().map(|line| line + "\n").collect();
        fs::write(&sources, text).with_context(|| format!("cannot write {}", sources.display()))?;
        Ok(Archive { debs, sources, lists: None })
    }

    /// Opens the archive of a release by its code name, newer or older than this machine's: from the same mirror, and
    /// with lists of its own, so that the machine's apt never hears of it.
    pub(crate) fn of_release(release: &str, cache: &Path) -> Result<Archive> {
        let archive = Archive { lists: Some(cache.join("lists")), ..Archive::open(cache)? };
        let text = fs::read_to_string(&archive.sources)?;
        let mirror = mirror(&text)
            .context("apt on this machine has no source of Debian's main component")?;
        let line = format!("deb {mirror} {release} main\n");
        fs::write(&archive.sources, line)
            .with_context(|| format!("cannot write {}", archive.sources.display()))?;
        Ok(archive)
    }

    /// Renews the lists of packages.
    fn update(&self) -> Result<()> {
        let Some(lists) = &self.lists else { return update() };
        fs::create_dir_all(lists.join("partial"))
            .with_context(|| format!("cannot create {}", lists.display()))?;
        println!("apt-get update, into {}", lists.display());
        sh::output(self.apt_get().arg("update"))?;
        Ok(())
    }

    /// One line of sources.list for each index of packages that apt has on disk.
    fn lines() -> Result<BTreeSet<String>> {
        let format = "deb $(REPO_URI) $(CODENAME) $(COMPONENT)";
        let mut ask = apt_get();
        ask.args(["indextargets", "--format", format, "Created-By: Packages", "Origin: Debian"]);
        Ok(sh::text(&mut ask)?.lines().map(str::to_owned).collect())
    }

    fn apt_get(&self) -> Command {
        let mut command = apt_get();
        command.args(["-qq", "--yes", "--no-install-recommends"]);
        for option in [
            format!("Dir::Etc::SourceList={}", self.sources.display()),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            "Dir::Etc::PreferencesParts=/dev/null".to_owned(),
            "Dir::State::Status=/dev/null".to_owned(),
            "Dir::State::Extended_States=/dev/null".to_owned(),
            "Dir::Cache::PkgCache=".to_owned(),
            format!("Dir::Cache::SrcPkgCache={}.bin", self.sources.display()),
            "APT::Sandbox::User=root".to_owned(),
            "Debug::NoLocking=true".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        if let Some(lists) = &self.lists {
            command.arg("-o").arg(format!("Dir::State::Lists={}", lists.display()));
        }
        command
    }

    /// The packages that `names` need, themselves included, on a machine where nothing is
    /// installed: paths of .deb files, in order of name. What is not in the cache is downloaded.
    pub(crate) fn fetch(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        match self.try_fetch(names) {
            Ok(debs) => Ok(debs),
            // Lists that are missing or older than the archive: the packages that they name are gone.
            Err(error) => {
                self.update().context(error)?;
                self.try_fetch(names)
            }
        }
    }

    fn try_fetch(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        // Asked about an empty folder, --print-uris names every package.
        let mut ask = self.apt_get();
        ask.arg("-o").arg(format!("Dir::Cache::Archives={}/partial", self.debs.display()));
        let uris = sh::text(ask.args(["--print-uris", "install"]).args(names))?;
        let wanted = parse_uris(&uris);
        if wanted.is_empty() {
            bail!("apt names no package for {}", names.join(" "));
        }
        let absent = |(name, size): &(String, u64)| {
            fs::metadata(self.debs.join(name)).map(|file| file.len()).ok() != Some(*size)
        };
        if wanted.iter().any(absent) {
            let mut get = self.apt_get();
            get.arg("-o").arg(format!("Dir::Cache::Archives={}", self.debs.display()));
            sh::output(get.args(["--download-only", "install"]).args(names))?;
        }
        if let Some((name, _)) = wanted.iter().find(|deb| absent(deb)) {
            bail!("apt did not download {name} to {}", self.debs.display());
        }
        Ok(wanted.into_iter().map(|(name, _)| self.debs.join(name)).collect())
    }
}

/// The address of the main archive in lines of sources.list, and not of one for updates.
fn mirror(lines: &str) -> Option<&str> {
    lines.lines().find_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
        ["deb", mirror, release, "main"] if !release.contains('-') => Some(mirror),
        _ => None,
    })
}

/// File name and size in bytes of each package in the output of `apt-get --print-uris`, sorted.
fn parse_uris(text: &str) -> Vec<(String, u64)> {
    let mut found: Vec<(String, u64)> = text
        .lines()
        .filter(|line| line.starts_with('\''))
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_read() {
        let text = "note\n'http://h/p/z_1_amd64.deb' z_1_amd64.deb 20 SHA256:0\n'http://h/a%2b.deb' a+_2%3a1_all.deb 7 SHA256:1\n";
        let want = vec![("a+_2%3a1_all.deb".to_owned(), 7), ("z_1_amd64.deb".to_owned(), 20)];
        assert_eq!(parse_uris(text), want);
    }

    #[test]
    fn the_mirror_is_that_of_the_release() {
        let lines = "deb http://u/ bookworm-updates main\ndeb http://c/ bookworm contrib\ndeb http://m/ bookworm main\n";
        assert_eq!(mirror(lines), Some("http://m/"));
        assert_eq!(mirror("deb http://u/ bookworm-security main\n"), None);
    }

    #[test]
    fn programs_have_packages() {
        assert_eq!(package_of("qemu-system-x86_64"), "qemu-system-x86");
        assert_eq!(package_of("strace"), "strace");
        assert_eq!(package_of("getfattr"), "attr");
        assert_eq!(package_of("anything"), "anything");
    }
}
