//! The container that all are to make: what Docker gives one by default, as an OCI configuration. The engine writes it
//! for a container of its own; the bundles are made of that, and what the floor has to do is seen there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::images::{self, Format};
use crate::sh;

/// The image whose root all containers of the benchmark have; its program `true` does nothing.
pub(crate) const IMAGE: &str = "busybox";

/// What all containers but those that stay run.
pub(crate) const PROGRAM: &str = "/bin/true";

/// Bundles, and what is in them.
pub(crate) struct Bundles {
    /// The engine's store, with [`IMAGE`].
    pub(crate) store: PathBuf,
    pub(crate) rootfs: PathBuf,
    /// Namespaces and mounts alone.
    pub(crate) plain: PathBuf,
    /// With masks, capabilities and filter; the program ends at once.
    pub(crate) run: Pair,
    /// The same with a program that stays.
    pub(crate) stay: Pair,
    /// The floor's options for the groups that the engine's container had, and for what it saw of them. `{}` is the
    /// run's number.
    pub(crate) groups: Vec<String>,
    pub(crate) group_mounts: Vec<String>,
    /// The floor's options for masked and read-only paths.
    pub(crate) masks: Vec<String>,
    /// The engine's program.
    program: PathBuf,
}

/// A bundle with a cgroup and its namespace, and the same without, for those who make none on this machine.
pub(crate) struct Pair {
    pub(crate) full: String,
    pub(crate) no_cgroup: String,
}

impl Bundles {
    /// Makes all of it below `dir`, by the engine `program` and from [`IMAGE`]'s archive.
    pub(crate) fn new(program: &Path, archive: &Path, dir: &Path) -> Result<Bundles> {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let (store, rootfs) = (dir.join("store"), dir.join("rootfs"));
        let engine = || {
            let mut command = Command::new(program);
            command.arg("--root").arg(&store);
            command
        };
        sh::output(engine().args(["load", "-q", "-i"]).arg(archive))?;
        let id = sh::text(engine().args(["run", "-d", IMAGE, "sleep", "3600"]))?;
        let id = id.trim();
        let text = fs::read(store.join("containers").join(id).join("config.json"))?;
        let config: Value = serde_json::from_slice(&text)?;
        let pid = sh::text(engine().args(["inspect", "--format", "{{.State.Pid}}", id]))?;
        let own = PathBuf::from("/proc").join(pid.trim());
        let of_floor = |name: &str| format!("{}-{{}}", name.replace(id, "floor"));
        let mut groups = groups(&fs::read_to_string(own.join("cgroup"))?, of_floor)?;
        // A group of v2 alone gets a program for devices, whatever the configuration says.
        let has = |option: &str| groups.iter().any(|one| one == option);
        if has("--cgroup2") && !has("--cgroup1") {
            groups.push("--devices".to_owned());
        }
        let group_mounts = group_mounts(&fs::read_to_string(own.join("mounts"))?);
        export(engine().args(["export", id]), &rootfs)?;
        sh::output(engine().args(["rm", "-f", id]))?;
        let mut masks = Vec::new();
        for (option, field) in [("--mask", "maskedPaths"), ("--read-only", "readonlyPaths")] {
            for path in config["linux"][field].as_array().into_iter().flatten() {
                let path = path.as_str().unwrap_or_default();
                masks.extend([option.to_owned(), path.to_owned()]);
            }
        }
        let write = |name: &str, change: &dyn Fn(&mut Value)| -> Result<PathBuf> {
            let mut config = config.clone();
            config["root"] = json!({"path": rootfs, "readonly": false});
            config["hostname"] = json!("bench");
            config["process"]["args"] = json!([PROGRAM]);
            let mounts = config["mounts"].as_array_mut().context("it has no mounts")?;
            // The engine's own files.
            mounts.retain(|mount| mount["type"] != "bind");
            // What remains of it by default is a program for devices, which not every runtime may load everywhere.
            config["linux"].as_object_mut().and_then(|linux| linux.remove("resources"));
            change(&mut config);
            let bundle = dir.join(name);
            fs::create_dir(&bundle)?;
            fs::write(bundle.join("config.json"), serde_json::to_vec_pretty(&config)?)?;
            Ok(bundle)
        };
        let stay = |config: &mut Value| {
            config["process"]["args"] = json!(["/bin/sleep", "3600"]);
        };
        let pair = |name: &str, change: &dyn Fn(&mut Value)| -> Result<Pair> {
            let without = |config: &mut Value| {
                without_cgroup(config);
                change(config);
            };
            let full = text_of(&write(name, change)?);
            Ok(Pair { full, no_cgroup: text_of(&write(&format!("{name}-no-cgroup"), &without)?) })
        };
        Ok(Bundles {
            plain: write("plain", &|config| {
                without_cgroup(config);
                for field in ["seccomp", "maskedPaths", "readonlyPaths"] {
                    config["linux"].as_object_mut().and_then(|linux| linux.remove(field));
                }
                // Nothing is taken from the process either.
                config["process"].as_object_mut().and_then(|own| own.remove("capabilities"));
            })?,
            run: pair("run", &|_| ())?,
            stay: pair("stay", &stay)?,
            store,
            rootfs,
            groups,
            group_mounts,
            masks,
            program: program.to_owned(),
        })
    }

    /// A verb of the engine's, on the store.
    pub(crate) fn engine(&self, words: &[&str]) -> Vec<String> {
        let start = [text_of(&self.program), "--root".to_owned(), text_of(&self.store)];
        start.into_iter().chain(words.iter().map(|&word| word.to_owned())).collect()
    }
}

/// [`IMAGE`] as an archive, made in cargo's `target` directory where it is not there yet.
pub(crate) fn archive(target: &Path) -> Result<PathBuf> {
    let pictures = target.join("images");
    images::make(&pictures, &[IMAGE], &[Format::DockerLegacy], false)?;
    Ok(pictures.join(format!("{IMAGE}.{}.tar", Format::DockerLegacy.name())))
}

/// A path of the benchmark's own, which is UTF-8.
pub(crate) fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn without_cgroup(config: &mut Value) {
    if let Some(namespaces) = config["linux"]["namespaces"].as_array_mut() {
        namespaces.retain(|namespace| namespace["type"] != "cgroup");
    }
    if let Some(mounts) = config["mounts"].as_array_mut() {
        mounts.retain(|mount| mount["type"] != "cgroup");
    }
}

fn export(command: &mut Command, into: &Path) -> Result<()> {
    fs::create_dir(into)?;
    let mut export = command.stdout(Stdio::piped()).spawn().context("cannot run the export")?;
    let tar = export.stdout.take().context("the export has no output")?;
    let done = Command::new("tar").arg("-x").arg("-C").arg(into).stdin(tar).status()?;
    if !export.wait()?.success() || !done.success() {
        bail!("`{}` into {} failed", sh::line(command), into.display());
    }
    Ok(())
}

/// The floor's options for the groups of a container's process, whose `/proc/PID/cgroup` this is, or for others beside
/// them: as `name` names them.
pub(crate) fn groups(own: &str, name: impl Fn(&str) -> String) -> Result<Vec<String>> {
    let table = fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    let caller =
        fs::read_to_string("/proc/self/cgroup").context("cannot read /proc/self/cgroup")?;
    let all: Vec<&str> = caller.lines().collect();
    let mut options = Vec::new();
    for line in own.lines() {
        let mut words = line.splitn(3, ':').skip(1);
        let (controllers, path) = (words.next().unwrap_or_default(), words.next().unwrap_or("/"));
        // In the others it is where all are.
        let Some((parent, own)) = path.rsplit_once('/').filter(|_| !all.contains(&line)) else {
            continue;
        };
        let mount = mount_of(&table, controllers)
            .with_context(|| format!("the cgroup {path} of {controllers:?} is mounted nowhere"))?;
        let option = match controllers {
            "" => "--cgroup2",
            all if all.split(',').any(|one| one == "cpuset") => "--cpuset",
            _ => "--cgroup1",
        };
        options.extend([option.to_owned(), format!("{mount}{parent}/{}", name(own))]);
    }
    Ok(options)
}

/// Where the hierarchy of these controllers is mounted; of none: cgroup v2.
fn mount_of<'table>(table: &'table str, controllers: &str) -> Option<&'table str> {
    table.lines().find_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let &[_, target, kind, options, ..] = &words[..] else { return None };
        let has = |one: &str| options.split(',').any(|option| option == one);
        let found = match controllers {
            "" => kind == "cgroup2",
            all => kind == "cgroup" && all.split(',').all(has),
        };
        found.then_some(target)
    })
}

/// The floor's options for the mounts of cgroups that a container has.
fn group_mounts(table: &str) -> Vec<String> {
    const GENERAL: [&str; 7] = ["ro", "rw", "nosuid", "nodev", "noexec", "relatime", "nsdelegate"];
    let mut all = Vec::new();
    for line in table.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let &[_, target, kind, options, ..] = &words[..] else { continue };
        if target.starts_with("/sys/fs/cgroup") && ["tmpfs", "cgroup", "cgroup2"].contains(&kind) {
            let own: Vec<&str> = options.split(',').filter(|one| !GENERAL.contains(one)).collect();
            all.extend(["--mount", kind, target, &own.join(",")].map(str::to_owned));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup_mounts_are_found() {
        let table = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /c/cpu cgroup rw,cpu,cpuacct 0 0\n\
                     cgroup2 /c/unified cgroup2 rw,nsdelegate 0 0\n";
        assert_eq!(mount_of(table, ""), Some("/c/unified"));
        assert_eq!(mount_of(table, "cpu,cpuacct"), Some("/c/cpu"));
        assert_eq!(mount_of(table, "pids"), None);
        let mounts = "t /sys/fs/cgroup tmpfs ro,nosuid,mode=755 0 0\n\
                      c /sys/fs/cgroup/pids cgroup ro,nosuid,pids 0 0\nm /dev/shm tmpfs rw 0 0\n";
        let want = "--mount tmpfs /sys/fs/cgroup mode=755 --mount cgroup /sys/fs/cgroup/pids pids";
        assert_eq!(group_mounts(mounts).join(" "), want);
    }

    #[test]
    fn a_container_without_groups_leaves_the_floor_without() {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        assert!(groups(&own, str::to_owned).unwrap().is_empty());
    }

    #[test]
    fn without_cgroup_nothing_of_it_is_left() {
        let mut config = json!({
            "mounts": [{"type": "cgroup"}, {"type": "proc"}],
            "linux": {"namespaces": [{"type": "cgroup"}, {"type": "pid"}]},
        });
        without_cgroup(&mut config);
        let want = json!({
            "mounts": [{"type": "proc"}], "linux": {"namespaces": [{"type": "pid"}]},
        });
        assert_eq!(config, want);
    }
}
