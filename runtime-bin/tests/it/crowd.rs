//! A crowd in one place: 64 processes at once that run, load, remove and collect in one store, some of them killed on the
//! way; and 64 containers at once below one `--root` of `runtime-oci`. A fixed number of commands; with RACE_SECONDS
//! (`cargo xtask test-host --nightly`) for as long.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use rustix::fs::{FlockOperation, flock};

use crate::attack::{forms, race_time};
use crate::fault::{self, Fault};
use crate::harness::{BIN, Out, Root, Started, arg, wait_until};
use crate::host;
use crate::image::{Archive, Layer, busybox_program};
use crate::oci::{self, Oci};

/// Commands that run at the same time.
const CROWD: usize = 64;
/// How many each of them is followed by, without RACE_SECONDS.
const ROUNDS: usize = 2;

/// What a command may say when others were faster. All else is a failure.
const DOCUMENTED: &[(&str, &[&str])] = &[
    // Somebody has removed it, or makes a container of it.
    ("rmi", &["has no image", "is using it; remove the container first"]),
    // `container prune` and `system prune` were faster.
    ("start", &["No such container"]),
    ("rm", &["No such container"]),
    // By a name that `rmi` has just taken away.
    ("run-by-name", &["has no image"]),
];

/// Three images with one layer in common, as archives.
fn archives(dir: &Path) -> Vec<PathBuf> {
    let base = Layer::new()
        .file("bin/busybox", 0o755, busybox_program())
        .hard_link("bin/true", "bin/busybox")
        .symlink("bin/sleep", "busybox")
        .finish();
    let names = ["localhost/one:1", "localhost/two:1", "localhost/three:1"];
    let image = |name: &'static str| {
        let mut archive = Archive::busybox([Layer::new().file("of", 0o644, name)]);
        archive.layers[0].clone_from(&base);
        archive.name = name;
        archive.write(dir, &format!("{}.tar", &name[10..name.len() - 2]))
    };
    names.into_iter().map(image).collect()
}

/// Who does what: the same in each run of the test.
struct Dice(u64);

impl Dice {
    fn next(&mut self, sides: usize) -> usize {
        // Knuth's MMIX generator.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

struct Crowd {
    root: Root,
    archives: Vec<PathBuf>,
    forms: Vec<&'static str>,
    wrong: Mutex<Vec<String>>,
    kills: Mutex<usize>,
}

impl Crowd {
    /// What number `own` does next, and as what it is documented.
    fn act(&self, own: usize, dice: &mut Dice) {
        let at = dice.next(3);
        let archive = arg(&self.archives[at]);
        let name = ["one:1", "two:1", "three:1"][at];
        let form = self.forms[dice.next(self.forms.len())];
        let box_name = format!("box-{own}");
        match dice.next(10) {
            0 | 1 => self.call("load", &["load", "-q", form, "-i", archive]),
            2 => self.call("run", &["run", "--rm", form, archive, "true"]),
            3 => self.call("run-by-name", &["run", "--rm", "--pull", "never", name, "true"]),
            4 => self.call("rmi", &["rmi", name]),
            5 => self.call("prune", &["image", "prune", "-a", "-f"]),
            6 => self.call("prune", &["system", "prune", "-f"]),
            7 => {
                self.call("create", &["create", "--name", &box_name, form, archive, "true"]);
                self.call("start", &["start", &box_name]);
                self.call("rm", &["rm", "-f", &box_name]);
            }
            8 => {
                for args in [&["check", "-q"][..], &["ps", "-a"], &["images", "-a"]] {
                    self.call("look", args);
                }
            }
            // Its command is killed on its way, whatever it does there.
            _ => {
                let args = match dice.next(3) {
                    0 => vec!["load", "-q", form, "-i", archive],
                    1 => vec!["run", "--rm", form, archive, "true"],
                    _ => vec!["rmi", name],
                };
                let point = Some(1 + dice.next(120));
                let (started, points) =
                    fault::start(self.root.command(&args), Path::new(BIN), Fault::Kill, point);
                let out = started.wait();
                self.expect(!out.stderr.contains("panicked"), &args, &out);
                *self.kills.lock().unwrap() += usize::from(points.hit().is_some());
            }
        }
    }

    fn call(&self, verb: &str, args: &[&str]) {
        let out = self.root.call(args);
        let documented = DOCUMENTED.iter().find(|(of, _)| *of == verb);
        let is_documented =
            documented.is_some_and(|(_, words)| words.iter().any(|word| out.stderr.contains(word)));
        self.expect(out.code == 0 || is_documented, args, &out);
    }

    fn expect(&self, good: bool, args: &[&str], out: &Out) {
        if !good {
            self.wrong.lock().unwrap().push(format!("{args:?}: {out:?}"));
        }
    }
}

/// Runs `act` in 64 threads, with dice of their own, for as long as is asked for; how many times in all.
fn crowd(act: impl Fn(usize, &mut Dice) + Sync) -> usize {
    let end = std::env::var_os("RACE_SECONDS").map(|_| Instant::now() + race_time());
    std::thread::scope(|scope| {
        let one = |own: usize| {
            let act = &act;
            scope.spawn(move || {
                let mut dice = Dice(own as u64);
                let mut rounds = 0;
                while rounds < ROUNDS || end.is_some_and(|end| Instant::now() < end) {
                    act(own, &mut dice);
                    rounds += 1;
                }
                rounds
            })
        };
        let all: Vec<_> = (0..CROWD).map(one).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

#[test]
#[expect(clippy::print_stdout, reason = "a test's words to its runner")]
fn in_one_store() {
    let root = Root::new();
    let archives = archives(root.dir());
    let forms = forms();
    let (wrong, kills) = (Mutex::default(), Mutex::new(0));
    let all = Crowd { root, archives, forms, wrong, kills };
    let count = crowd(|own, dice| all.act(own, dice));
    let Crowd { root, archives, wrong, kills, .. } = all;
    println!("{count} acts, {} of them killed", kills.into_inner().unwrap());
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {count}: {wrong:#?}", wrong.len());
    // The next commands find it whole, and nobody's lock held.
    root.ok(["ps", "-a"]);
    for id in root.ok(["ps", "-a", "-q"]).lines() {
        root.ok(["rm", "-f", "-v", id]);
    }
    root.assert_nothing_left();
    for name in ["image-store.lock", "tags.lock"] {
        let lock = File::open(root.store().join(name)).unwrap();
        flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    }
    let checked = root.call(["check", "--content", "-q"]);
    assert_eq!((checked.code, &*checked.stdout), (0, ""));
    for archive in &archives {
        root.ok(["run", "--rm", arg(archive), "true"]);
    }
    root.ok(["image", "prune", "-a", "-f"]);
    for name in ["images", "layers", "blobs", "mounts", "l", "staging", "containers", "names"] {
        let entries = std::fs::read_dir(root.store().join(name)).into_iter().flatten().flatten();
        let left: Vec<_> = entries.map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// A bundle with a cgroup of its own, and the root of all.
fn bundle(oci: &Oci, own: usize) -> PathBuf {
    let dir = oci.dir().join(format!("bundle-{own}"));
    std::fs::create_dir(&dir).unwrap();
    let text = std::fs::read_to_string(oci.bundle().join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["root"]["path"] = arg(&oci.bundle().join("rootfs")).into();
    config["linux"]["cgroupsPath"] = format!("{}-{own}", oci.group()).into();
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    dir
}

/// A call whose output a container's process may have too; its exit status and what it said.
fn call(oci: &Oci, said: &Path, args: &[&str]) -> Out {
    let output = File::create(said).unwrap();
    let mut command = Command::new(oci::BIN);
    command.arg("--root").arg(oci.home()).args(args).stdin(Stdio::null());
    command.stdout(output.try_clone().unwrap()).stderr(output);
    let code = command.status().unwrap().code().unwrap_or(-1);
    Out { code, stdout: String::new(), stderr: std::fs::read_to_string(said).unwrap() }
}

#[test]
#[expect(clippy::print_stdout, reason = "a test's words to its runner")]
fn below_one_root_of_runtime_oci() {
    let oci = Oci::new(&["sleep", "1000"]);
    let bundles: Vec<PathBuf> = (0..CROWD).map(|own| bundle(&oci, own)).collect();
    let count = crowd(|own, dice| {
        let (id, said) = (format!("c{own}"), oci.dir().join(format!("said-{own}")));
        let ok = |args: &[&str]| {
            let out = call(&oci, &said, args);
            assert_eq!(out.code, 0, "{args:?}: {out:?}");
        };
        ok(&["create", "--bundle", arg(&bundles[own]), &id]);
        match dice.next(4) {
            0 => ok(&["delete", "--force", &id]),
            1 => {
                ok(&["list", "-q"]);
                ok(&["delete", &id]);
            }
            _ => {
                ok(&["start", &id]);
                ok(&["exec", &id, "true"]);
                ok(&["kill", &id, "KILL"]);
                wait_until("the end", || {
                    ok(&["state", &id]);
                    std::fs::read_to_string(&said).unwrap().contains("\"stopped\"")
                });
                ok(&["delete", &id]);
            }
        }
    });
    println!("{count} containers of runtime-oci");
    assert_eq!(oci.ok(&["list", "-q"]), "");
    assert_eq!(oci.names(), [""; 0]);
    assert!(oci.groups().is_empty(), "{:?}", oci.groups());
    assert_eq!(host::mounts_below(oci.dir()), []);
}

/// Of all that want one id, one has it.
#[test]
fn one_id_of_runtime_oci_is_one_containers() {
    let oci = Oci::new(&["sleep", "1000"]);
    let bundles: Vec<PathBuf> = (0..CROWD).map(|own| bundle(&oci, own)).collect();
    let made: Vec<Out> = std::thread::scope(|scope| {
        let one = |own: usize| {
            let (oci, bundles) = (&oci, &bundles);
            let said = oci.dir().join(format!("said-{own}"));
            scope.spawn(move || {
                call(oci, &said, &["create", "--bundle", arg(&bundles[own]), "same"])
            })
        };
        let all: Vec<_> = (0..CROWD).map(one).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(made.iter().filter(|out| out.code == 0).count(), 1, "{made:?}");
    let others = made.iter().filter(|out| out.code != 0);
    for out in others {
        assert!(out.stderr.contains("container with given ID already exists"), "{out:?}");
    }
    assert_eq!(oci.status("same"), "created");
    oci.ok(&["delete", "--force", "same"]);
    assert!(oci.groups().is_empty(), "{:?}", oci.groups());
}

/// The same for the name of a container of `runtime-bin`.
#[test]
fn one_name_is_one_containers() {
    let root = Root::new();
    let archive = archives(root.dir()).remove(0);
    root.ok(["load", "-q", "-i", arg(&archive)]);
    let create = ["create", "--name", "box", "one:1", "true"];
    let all: Vec<Started> = (0..CROWD).map(|_| root.start(create)).collect();
    let made: Vec<Out> = all.into_iter().map(Started::wait).collect();
    assert_eq!(made.iter().filter(|out| out.code == 0).count(), 1, "{made:?}");
    let others = made.iter().filter(|out| out.code != 0);
    for out in others {
        assert!(out.stderr.contains("is already in use by container"), "{out:?}");
    }
    assert_eq!(root.ok(["ps", "-a", "-q"]).lines().count(), 1);
    root.ok(["rm", "box"]);
    root.assert_nothing_left();
}
