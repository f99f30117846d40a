//! Which of a kernel's modules to load, and in which order.
//!
//! Debian's kernel packages come without modules.dep (depmod makes it at installation), so the order comes from the
//! `depends=` entry that each module carries in its `.modinfo` section.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::sh;

/// What the guest needs; the last ones are how CRIU asks for sockets and connections. Those that a kernel has built in are
/// left out; one that is neither built in nor there is an error.
pub(super) const WANTED: [&str; 30] = [
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "ext4",
    "overlay",
    "erofs",
    "squashfs",
    "loop",
    "fuse",
    "tun",
    "veth",
    "bridge",
    "dummy",
    "nf_tables",
    "nft_compat",
    "nft_chain_nat",
    "nft_masq",
    "nft_ct",
    "nft_reject_inet",
    "xt_MASQUERADE",
    "xt_conntrack",
    "xt_addrtype",
    "vxlan",
    "unix_diag",
    "tcp_diag",
    "udp_diag",
    "raw_diag",
    "netlink_diag",
    "af_packet_diag",
    "nf_conntrack_netlink",
];

/// The modules of one kernel, unpacked from its package.
#[derive(Debug)]
pub(super) struct Modules {
    built_in: BTreeSet<String>,
    files: BTreeMap<String, PathBuf>,
}

impl Modules {
    /// Looks at `lib/modules/RELEASE`.
    pub(super) fn open(dir: &Path) -> anyhow::Result<Modules> {
        let list = dir.join("modules.builtin");
        let text = std::fs::read_to_string(&list)
            .with_context(|| format!("reading {}", list.display()))?;
        let mut files = BTreeMap::new();
        collect(&dir.join("kernel"), &mut files)?;
        Ok(Modules { built_in: text.lines().map(|line| name_of(Path::new(line))).collect(), files })
    }

    /// The wanted modules and what they depend on: names and contents, each after what it needs.
    pub(super) fn load(&self, wanted: &[&str]) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        let mut contents = BTreeMap::new();
        let order = order(wanted, |name| {
            if self.built_in.contains(name) {
                return Ok(None);
            }
            let Some(path) = self.files.get(name) else {
                bail!(
                    "the kernel's package has no module {name}, and does not list it as built in"
                );
            };
            let bytes = read(path)?;
            let needs = depends(&bytes)
                .with_context(|| format!("{} has no depends= in its .modinfo", path.display()))?;
            contents.insert(name.to_owned(), bytes);
            Ok(Some(needs))
        })?;
        Ok(order
            .into_iter()
            .filter_map(|name| contents.remove(&name).map(|bytes| (name, bytes)))
            .collect())
    }
}

/// Sorts `wanted` and their dependencies so that each comes after what it needs. `needs` says what a module
/// depends on, or `None` if it is built in.
pub(super) fn order(
    wanted: &[&str],
    mut needs: impl FnMut(&str) -> anyhow::Result<Option<Vec<String>>>,
) -> anyhow::Result<Vec<String>> {
    fn visit(
        name: &str,
        needs: &mut dyn FnMut(&str) -> anyhow::Result<Option<Vec<String>>>,
        seen: &mut BTreeSet<String>,
        out: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        if !seen.insert(name.to_owned()) {
            return Ok(());
        }
        if let Some(list) = needs(name).with_context(|| format!("looking for the module {name}"))? {
            for need in list {
                visit(&need, needs, seen, out)?;
            }
            out.push(name.to_owned());
        }
        Ok(())
    }
    let (mut seen, mut out) = (BTreeSet::new(), Vec::new());
    for name in wanted {
        visit(name, &mut needs, &mut seen, &mut out)?;
    }
    Ok(out)
}

/// What a module says that it depends on; `None` if it says nothing about it, so is no kernel module.
///
/// `.modinfo` is a run of NUL-terminated `key=value` strings; it is found by its key and not through the ELF headers.
pub(super) fn depends(module: &[u8]) -> Option<Vec<String>> {
    const KEY: &[u8] = b"\0depends=";
    let start = module.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let value = &module[start..];
    let value = &value[..value.iter().position(|&byte| byte == 0)?];
    let value = std::str::from_utf8(value).ok()?;
    Some(value.split(',').filter(|name| !name.is_empty()).map(normal).collect())
}

/// The name of the module in a file: no directory, no `.ko…`, `_` for `-`.
fn name_of(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    normal(file.split(".ko").next().unwrap_or_default())
}

fn normal(name: &str) -> String {
    name.replace('-', "_")
}

fn collect(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(dir)
        .with_context(|| format!("reading the directory {}", dir.display()))?
    {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.to_string_lossy().contains(".ko") {
            files.insert(name_of(&path), path);
        }
    }
    Ok(())
}

/// A module's bytes, decompressed.
fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path.extension().is_some_and(|end| end == "xz") {
        return sh::output(std::process::Command::new("xz").arg("-dc").arg(path));
    }
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}
