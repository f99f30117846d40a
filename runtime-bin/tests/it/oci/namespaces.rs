//! Namespaces that somebody else made.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use super::Oci;

/// Namespaces that no process is in: files over which they are mounted, as `ip netns` and CNI keep them.
struct Pinned(Vec<PathBuf>);

impl Pinned {
    fn new(oci: &Oci) -> Self {
        let files = ["net", "ipc", "uts"].map(|kind| oci.dir().join(kind));
        let mut command = Command::new("unshare");
        for (file, option) in files.iter().zip(["--net", "--ipc", "--uts"]) {
            std::fs::write(file, "").unwrap();
            command.arg(format!("{option}={}", file.display()));
        }
        let pinned = Self(files.to_vec());
        assert!(command.args(["hostname", "pinned"]).status().unwrap().success());
        pinned
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        for file in &self.0 {
            let done =
                Command::new("umount").arg(file).status().is_ok_and(|status| status.success());
            assert!(done || std::thread::panicking(), "{} stays mounted", file.display());
        }
    }
}

/// As Podman and CNI have a container's network.
#[test]
fn those_that_are_kept_by_a_mount_are_joined() {
    let script = "hostname; for kind in net ipc uts; do stat -Lc %i /proc/self/ns/$kind; done";
    let command = ["sh", "-c", script];
    let oci = Oci::new(&command);
    let pinned = Pinned::new(&oci);
    let configure = |net: &PathBuf| {
        oci.configure(
            |config| {
                config.as_object_mut().unwrap().remove("hostname");
                config["linux"]["namespaces"] = json!([
                    {"type": "mount"}, {"type": "pid"}, {"type": "network", "path": net},
                    {"type": "ipc", "path": pinned.0[1]}, {"type": "uts", "path": pinned.0[2]},
                ]);
            },
            &command,
        );
    };
    configure(&pinned.0[0]);
    let inode = |file| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(file).unwrap());
    let numbers = pinned.0.iter().map(|file| inode(file).to_string());
    let expected: Vec<_> = ["pinned".to_owned()].into_iter().chain(numbers).collect();
    assert_eq!(oci.ok(&["run", "a"]).lines().collect::<Vec<_>>(), expected);

    configure(&pinned.0[2]);
    let words = "linux.namespaces[2].path of the container's configuration: ";
    let reason = format!("{} is no net namespace but of the kind uts", pinned.0[2].display());
    oci.fails(1, &[words, &reason], &["run", "a"]);
}
