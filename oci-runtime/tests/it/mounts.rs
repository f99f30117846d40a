//! Mounts, with all that their options say.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use oci_runtime::{Prepared, Stdio};
use serde_json::{Value, json};

use crate::{run, script, spec};

/// The configuration of a script, with more mounts.
fn with(command: &str, mounts: Value) -> Value {
    let mut config = script(command);
    config["mounts"].as_array_mut().unwrap().extend(mounts.as_array().unwrap().clone());
    config
}

/// A directory with a file in it.
fn source() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "content\n").unwrap();
    dir
}

#[test]
fn recursive_attributes_hold_for_all_below() {
    let dir = source();
    let command = "grep ' /tmp/' /proc/self/mounts | cut -d' ' -f2,4";
    // The second is mounted on the first, by the container itself; the host has nothing below.
    let inner = source();
    std::fs::create_dir(dir.path().join("inner")).unwrap();
    let mounts = json!([
        {"destination": "/tmp/a", "type": "tmpfs", "options": ["nosuid"]},
        {"destination": "/tmp/a/in", "type": "tmpfs"},
        {"destination": "/tmp/b", "type": "bind", "source": dir.path(), "options": ["rbind", "ro", "noatime"]},
        {"destination": "/tmp/b/inner", "type": "bind", "source": inner.path(), "options": ["rbind"]},
        {"destination": "/tmp/a", "options": ["remount", "bind", "rro", "rnoexec", "rnodev"]},
    ]);
    let (printed, _) = run(with(command, mounts)).unwrap();
    let options = |target: &str| {
        let line = printed.lines().find(|line| line.starts_with(&format!("{target} ")));
        let line = line.unwrap_or_else(|| panic!("{target}: {printed}"));
        line.rsplit(' ').next().unwrap().split(',').map(str::to_owned).collect::<Vec<_>>()
    };
    let has = |target: &str, words: &[&str]| {
        let options = options(target);
        words.iter().all(|word| options.iter().any(|option| option == word))
    };
    assert!(has("/tmp/a", &["ro", "nosuid", "nodev", "noexec"]), "{printed}");
    assert!(has("/tmp/a/in", &["ro", "nodev", "noexec"]), "{printed}");
    assert!(has("/tmp/b", &["ro", "noatime"]), "{printed}");
    assert!(has("/tmp/b/inner", &["rw"]), "{printed}");
}

#[test]
fn an_existing_mount_is_changed() {
    let mounts = json!([
        {"destination": "/tmp/t", "type": "tmpfs", "options": ["size=4m"]},
        {"destination": "/tmp/t", "type": "tmpfs", "options": ["remount", "size=8m", "noexec"]},
    ]);
    let (printed, _) = run(with("grep ' /tmp/t ' /proc/self/mounts", mounts)).unwrap();
    assert!(printed.contains("size=8192k") && printed.contains("noexec"), "{printed}");
    let nothing = json!([{"destination": "/etc", "options": ["remount", "ro"]}]);
    let error = run(with("true", nothing)).unwrap_err().to_string();
    assert!(error.contains("the remount of /etc (remount,ro)"), "{error}");
}

#[test]
fn a_tmpfs_starts_with_what_it_covers() {
    let dir = source();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o751))
        .unwrap();
    symlink("file", dir.path().join("link")).unwrap();
    std::fs::create_dir(dir.path().join("_fill")).unwrap();
    let mounts = json!([
        {"destination": "/tmp/s", "type": "bind", "source": dir.path(), "options": ["bind"]},
        {"destination": "/tmp/s", "type": "tmpfs", "options": ["tmpcopyup", "ro", "nosuid"]},
        {"destination": "/tmp/new", "type": "tmpfs", "options": ["tmpcopyup"]},
    ]);
    let command = "cat /tmp/s/link; ls -A /tmp/s /tmp/new; stat -c %a /tmp/s; touch /tmp/s/x 2>&1; \
                   grep ' /tmp/s tmpfs' /proc/self/mounts";
    let (printed, _) = run(with(command, mounts)).unwrap();
    let listed = "content\n/tmp/new:\n\n/tmp/s:\n_fill\nfile\nlink\n751\n";
    assert!(printed.starts_with(listed), "{printed}");
    assert!(
        printed.contains("Read-only file system") && printed.contains("ro,nosuid"),
        "{printed}"
    );
    // Of the root, too.
    let own = std::fs::read_dir("/etc").unwrap().count();
    let mounts = json!([{"destination": "/etc", "type": "tmpfs", "options": ["tmpcopyup"]}]);
    let (printed, _) =
        run(with("ls -A /etc | wc -l; touch /etc/canary-x; ls /etc/passwd", mounts)).unwrap();
    assert_eq!(printed, format!("{own}\n/etc/passwd\n"));
    assert!(!Path::new("/etc/canary-x").exists());
}

#[test]
fn a_tmpfs_has_the_mode_of_what_it_covers() {
    let dir = source();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o2750))
        .unwrap();
    let mounts = json!([
        {"destination": "/tmp/s", "type": "bind", "source": dir.path(), "options": ["bind"]},
        {"destination": "/tmp/s", "type": "tmpfs"},
        {"destination": "/tmp/new", "type": "tmpfs"},
        {"destination": "/etc", "type": "tmpfs", "options": ["mode=711"]},
    ]);
    let (printed, _) = run(with("stat -c %a /tmp/s /tmp/new /etc", mounts)).unwrap();
    assert_eq!(printed, "2750\n1777\n711\n");
}

#[test]
fn owners_are_translated() {
    let dir = source();
    let map = json!([{"containerID": 0, "hostID": 5000, "size": 10}]);
    let bind = |options: Value, maps: bool| {
        let mut mount = json!({"destination": "/tmp/m", "type": "bind", "source": dir.path(), "options": options});
        if maps {
            mount["uidMappings"] = map.clone();
            mount["gidMappings"] = map.clone();
        }
        json!([mount])
    };
    for options in [json!(["bind"]), json!(["bind", "idmap"]), json!(["rbind", "ridmap", "ro"])] {
        let (printed, _) = run(with("stat -c %u:%g /tmp/m/file", bind(options, true))).unwrap();
        assert_eq!(printed, "5000:5000\n");
    }
    assert_eq!(std::fs::metadata(dir.path().join("file")).unwrap().uid(), 0);
    // Without maps of the mount's own they are those of the container's user namespace.
    let mut config = with("stat -c %u:%g /tmp/m/file", bind(json!(["bind", "idmap"]), false));
    let container = json!([{"containerID": 0, "hostID": 700_000, "size": 10}]);
    config["linux"]["uidMappings"] = container.clone();
    config["linux"]["gidMappings"] = container;
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    assert_eq!(run(config.clone()).unwrap().0, "0:0\n");
    // Or of an option, as crun has it: the fifth user of a namespace that begins at 700000.
    let maps = json!(["bind", "idmap=uids=@0-4-1;gids=0-700005-1"]);
    config["mounts"][4]["options"] = maps;
    assert_eq!(run(config).unwrap().0, "4:5\n");
    let error = run(with("true", bind(json!(["bind", "idmap=uids=0-1"]), false))).unwrap_err();
    assert!(error.to_string().starts_with("mounts[4].options"), "{error}");
    let error = run(with("true", bind(json!(["bind", "idmap"]), false))).unwrap_err().to_string();
    assert!(error.starts_with("mounts[4].options"), "{error}");
}

#[test]
fn symbolic_links_are_copied_or_covered() {
    let dir = source();
    symlink("file", dir.path().join("link")).unwrap();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    symlink("file", dir.path().join("sub/covered")).unwrap();
    std::fs::write(dir.path().join("sub/file"), "below\n").unwrap();
    let at = |name: &str| dir.path().join(name);
    let mounts = json!([
        {"destination": "/tmp/copy", "type": "bind", "source": at("link"), "options": ["bind", "copy-symlink"]},
        {"destination": "/tmp/sub", "type": "bind", "source": at("sub"), "options": ["bind"]},
        {"destination": "/tmp/sub/covered", "type": "bind", "source": at("file"),
            "options": ["bind", "dest-nofollow"]},
        {"destination": "/tmp/followed", "type": "bind", "source": at("link"), "options": ["bind"]},
    ]);
    let command = "readlink /tmp/copy; cat /tmp/sub/covered /tmp/sub/file /tmp/followed";
    let (printed, _) = run(with(command, mounts)).unwrap();
    assert_eq!(printed, "file\ncontent\nbelow\ncontent\n");
}

#[test]
fn a_relative_destination_is_below_the_root_and_said() {
    let mounts = json!([{"destination": "tmp/rel", "type": "tmpfs"}]);
    let config = with("grep ' /tmp/rel ' /proc/self/mounts", mounts);
    let prepared =
        Prepared::new(Path::new("/"), &spec(config.clone()), Stdio::null().unwrap()).unwrap();
    assert!(
        prepared.warnings()[0].starts_with("mounts[4].destination"),
        "{:?}",
        prepared.warnings()
    );
    assert!(run(config).unwrap().0.contains(" /tmp/rel tmpfs"));
}

#[test]
fn propagation_is_that_of_the_words() {
    let dir = source();
    let command = "cut -d' ' -f5,7- /proc/self/mountinfo | cut -d- -f1 | grep -E '^/( |tmp/)'";
    let mounts = json!([
        {"destination": "/tmp/shared", "type": "tmpfs", "options": ["rshared"]},
        {"destination": "/tmp/un", "type": "bind", "source": dir.path(), "options": ["bind", "unbindable"]},
    ]);
    for (root, word) in [("rprivate", ""), ("shared", "shared:"), ("runbindable", "unbindable")] {
        let mut config = with(command, mounts.clone());
        config["linux"]["rootfsPropagation"] = json!(root);
        let (printed, _) = run(config).unwrap();
        let line = |target: &str| {
            let line = printed.lines().find(|line| line.split(' ').next() == Some(target));
            line.unwrap_or_else(|| panic!("{target}: {printed}")).to_owned()
        };
        assert!(line("/").contains(word), "{root}: {printed}");
        assert!(!word.is_empty() || !line("/").contains("shared"), "{printed}");
        assert!(line("/tmp/shared").contains("shared:"), "{printed}");
        assert!(line("/tmp/un").contains("unbindable"), "{printed}");
    }
}

#[test]
fn words_of_whole_file_systems_do_no_harm_to_binds() {
    let dir = source();
    let bind = |options: Value| json!([{"destination": "/tmp/m", "type": "bind", "source": dir.path(), "options": options}]);
    let words = json!(["bind", "async", "lazytime", "nomand", "iversion", "loud"]);
    assert_eq!(run(with("cat /tmp/m/file", bind(words))).unwrap().0, "content\n");
    let error = run(with("true", bind(json!(["bind", "nosiud"])))).unwrap_err().to_string();
    assert!(error.starts_with("mounts[4].options") && error.contains("\"nosiud\""), "{error}");
    let (config, stdio) =
        (with("true", bind(json!(["bind", "size=1m", "mode=755"]))), Stdio::null().unwrap());
    let prepared = Prepared::new(Path::new("/"), &spec(config), stdio).unwrap();
    let [size, mode] = prepared.warnings() else { panic!("{:?}", prepared.warnings()) };
    assert!(size.starts_with("mounts[4].options: \"size\" is no option"), "{size}");
    assert!(mode.contains("\"mode\" is no option"), "{mode}");
    let mounts =
        json!([{"destination": "/tmp/m", "type": "tmpfs", "options": ["sync", "mode=700"]}]);
    let (printed, _) = run(with("grep ' /tmp/m ' /proc/self/mounts", mounts)).unwrap();
    assert!(printed.contains("sync") && printed.contains("mode=700"), "{printed}");
}

#[test]
fn without_a_cgroup_namespace_only_the_containers_own_cgroups_are_there() {
    let cgroups = json!([
        {"destination": "/sys", "type": "sysfs", "options": ["ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
    ]);
    let command = "readlink /proc/self/ns/cgroup; ls /sys/fs/cgroup | wc -l";
    let mut config = with(command, cgroups);
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "cgroup");
    let (printed, _) = run(config.clone()).unwrap();
    let own = std::fs::read_link("/proc/self/ns/cgroup").unwrap();
    assert!(printed.starts_with(own.to_str().unwrap()), "{printed}");
    namespaces_back(&mut config);
    let (with_own, _) = run(config).unwrap();
    assert_eq!(printed.lines().nth(1), with_own.lines().nth(1), "the same is seen");
}

fn namespaces_back(config: &mut Value) {
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "cgroup"}));
}

/// Nodes and the devpts's directory are made in it first.
#[test]
fn a_read_only_dev_has_all_that_it_should_have() {
    let mut config =
        script("grep '^tmpfs /dev ' /proc/mounts; ls /dev/null /dev/pts/ptmx; touch /dev/x 2>&1");
    config["mounts"][1]["options"].as_array_mut().unwrap().push("ro".into());
    let (printed, _) = run(config).unwrap();
    let mut lines = printed.lines();
    assert!(lines.next().unwrap().starts_with("tmpfs /dev tmpfs ro,"), "{printed}");
    assert_eq!(lines.next(), Some("/dev/null"), "{printed}");
    assert_eq!(lines.next(), Some("/dev/pts/ptmx"), "{printed}");
    assert!(lines.next().unwrap().contains("Read-only file system"), "{printed}");
}
