//! Races: a container changes what it shares with one that is being started, or with the runtime, as fast as it can.
//! For a few seconds each, or RACE_SECONDS.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, mknodat};
use serde_json::json;

use crate::attack::{Canary, SECRET, Swapper, forms, race};
use crate::attack_self::careless;
use crate::harness::{Out, Root, Started, arg, busybox, copy_program, wait_until};
use crate::init::is_dynamic;
use crate::oci::{Oci, WAITS};

/// Both outcomes of a race were met: what was swapped was found in either state.
#[derive(Debug, Default)]
struct Outcomes {
    done: u32,
    refused: u32,
}

impl Outcomes {
    #[track_caller]
    fn count(&mut self, out: &Out) {
        assert!(!out.stderr.contains("panicked"), "{out:?}");
        assert!(!out.stdout.contains(SECRET) && !out.stderr.contains(SECRET), "{out:?}");
        match out.code {
            0 => self.done += 1,
            _ => self.refused += 1,
        }
    }
}

#[track_caller]
fn assert_raced(swapper: Swapper) {
    let swaps = swapper.end();
    assert!(swaps > 1000, "{swaps} swaps: there was no race");
}

/// 2021-30465, 2024-45310, crun 2019-18837: the target of a mount, in a volume that another container has too.
#[test]
fn a_target_in_a_shared_volume() {
    for form in forms() {
        let root = Root::new();
        let canary = Canary::new(root.dir());
        root.sleeper("box", &["-v", "shared:/v"]);
        root.ok(["load", "-q", form, "-i", arg(&busybox())]);
        let shared = root.store().join("volumes/shared/_data");
        fs::create_dir_all(shared.join("dir/nest")).unwrap();
        symlink(canary.path(), shared.join("link")).unwrap();
        let source = root.host_dir("source");
        fs::write(source.join("file"), "of the source").unwrap();
        let (directory, file) = (arg(&source).to_owned(), format!("{}/file", arg(&source)));
        let swapper = Swapper::start(&shared, "dir", "link");
        let mut outcomes = Outcomes::default();
        let binds = ["/v/dir", "/v/dir/nest", "/v/dir/made/new"]
            .map(|target| format!("{directory}:{target}"));
        let binds = binds
            .iter()
            .cloned()
            .chain([format!("{file}:/v/dir/alive"), format!("{file}:/v/dir/made/file")]);
        let binds: Vec<String> = binds.collect();
        let mut at = 0;
        race(&format!("a target in a shared volume, {form}"), 20, || {
            let bind = &binds[at % binds.len()];
            at += 1;
            let tmpfs = "type=tmpfs,dst=/v/dir/tmp";
            let args = [
                "run",
                "--rm",
                "-v",
                "shared:/v",
                "-v",
                bind,
                "--mount",
                tmpfs,
                "localhost/busybox",
                "true",
            ];
            outcomes.count(&root.call(args));
            canary.assert_untouched();
            // Into a container that runs.
            let target = bind.rsplit_once(':').unwrap().1;
            outcomes.count(&root.call(["mount", "-v", bind, "box"]));
            canary.assert_untouched();
            root.call(["umount", "box", target]);
            canary.assert_untouched();
        });
        assert_raced(swapper);
        assert!(outcomes.done > 0, "{outcomes:?}");
        root.ok(["rm", "-f", "box"]);
        root.ok(["volume", "rm", "shared"]);
    }
}

/// The same of two bundles that have one root: with each directory that the runtime itself mounts on or makes files in.
#[test]
fn directories_of_a_shared_root() {
    let oci = Oci::new(&["true"]);
    let canary = Canary::new(oci.dir());
    let rootfs = oci.bundle().join("rootfs");
    let parameter = ["cat", "/proc/sys/net/ipv4/ip_default_ttl"];
    // The directory, whether the runtime finds a file system mounted on /dev.
    for (name, own_dev) in [("proc", true), ("dev", false), ("tmp", true), ("data", true)] {
        let link: &'static str = "link";
        fs::create_dir_all(rootfs.join(name)).unwrap();
        symlink(canary.path(), rootfs.join(link)).unwrap();
        let source = oci.dir().join("source");
        fs::create_dir_all(&source).unwrap();
        oci.configure(
            |config| {
                let mounts = config["mounts"].as_array_mut().unwrap();
                if !own_dev {
                    mounts.remove(1);
                }
                mounts.push(json!({"destination": "/data/made/here", "type": "bind", "source": arg(&source), "options": ["rbind"]}));
                config["linux"]["sysctl"] = json!({"net.ipv4.ip_default_ttl": "77"});
                config["linux"]["maskedPaths"] = json!(["/proc/kcore", "/proc/keys", "/tmp/x"]);
                config["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
            },
            &parameter,
        );
        let swapper = Swapper::start(&rootfs, name, link);
        let mut outcomes = Outcomes::default();
        race(&format!("/{name} of a shared root"), 30, || {
            let out = oci.call(&["run", "a"]);
            outcomes.count(&out);
            assert!(out.code != 0 || out.stdout == "77\n", "{out:?}");
            assert!(oci.names().is_empty());
            canary.assert_untouched();
        });
        assert_raced(swapper);
        assert!(outcomes.done > 0, "{name}: {outcomes:?}");
        if rootfs.join(name).is_symlink() {
            fs::remove_file(rootfs.join(name)).unwrap();
            fs::rename(rootfs.join(link), rootfs.join(name)).unwrap();
        } else {
            fs::remove_file(rootfs.join(link)).unwrap();
        }
    }
}

/// 2025-31133: the null device of a /dev that others have too, while it is bound on masked files.
#[test]
fn the_null_device_of_a_shared_dev() {
    let oci = Oci::new(&["true"]);
    let canary = Canary::new(oci.dir());
    let dev = oci.dir().join("dev");
    fs::create_dir(&dev).unwrap();
    let place = fs::File::open(&dev).unwrap();
    let null = rustix::fs::makedev(1, 3);
    mknodat(&place, "null", FileType::CharacterDevice, Mode::from_raw_mode(0o666), null).unwrap();
    symlink(format!("{}/alive", canary.path()), dev.join("link")).unwrap();
    fs::write(oci.bundle().join("rootfs/secret"), "hidden").unwrap();
    let script = ["sh", "-c", "stat -c %t:%T /secret; cat /secret"];
    oci.configure(
        |config| {
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts[1] = json!({"destination": "/dev", "type": "bind", "source": arg(&dev), "options": ["rbind"]});
            mounts.remove(2);
            config["linux"]["maskedPaths"] = json!(["/secret", "/proc/kcore"]);
        },
        &script,
    );
    let swapper = Swapper::start(&dev, "null", "link");
    let mut outcomes = Outcomes::default();
    race("the null device of a shared /dev", 30, || {
        let out = oci.call(&["run", "a"]);
        outcomes.count(&out);
        assert!(out.code != 0 || out.stdout == "1:3\n", "{out:?}");
        canary.assert_untouched();
    });
    assert_raced(swapper);
    assert!(outcomes.done > 0 && outcomes.refused > 0, "{outcomes:?}");
}

/// 2024-21626, raced: the working directory becomes a link to a descriptor of whoever starts the process.
#[test]
fn a_working_directory_that_becomes_a_descriptor() {
    let root = Root::new();
    let canary = Canary::new(root.dir());
    root.sleeper("box", &[]);
    root.ok(["exec", "box", "sh", "-c", "mkdir -p /w/dir; ln -s /proc/self/fd/7 /w/link"]);
    let swapper = Swapper::start(&place(&root, "w"), "dir", "link");
    let script = format!("cat ../../../../../../..{0}/alive .{0}/alive; pwd -P", canary.path());
    let mut outcomes = Outcomes::default();
    race("a working directory that becomes a descriptor", 30, || {
        let exec = root.command(["exec", "-w", "/w/dir", "box", "sh", "-c", &script]);
        let out = Started::new(careless(&exec), None).wait();
        outcomes.count(&out);
        assert!(["", "/w/dir\n", "/w/link\n"].contains(&&*out.stdout), "{out:?}");
    });
    assert_raced(swapper);
    canary.assert_untouched();
}

/// A directory of the container that runs, as the host reaches it.
fn place(root: &Root, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root/{name}", root.pid("box")))
}

/// A part of a volume, which a container that has all of it changes.
#[test]
fn a_part_of_a_shared_volume() {
    let root = Root::new();
    let canary = Canary::new(root.dir());
    root.sleeper("box", &["-v", "shared:/v"]);
    let shared = root.store().join("volumes/shared/_data");
    fs::create_dir_all(shared.join("dir/nest")).unwrap();
    symlink(Path::new(canary.path()).parent().unwrap(), shared.join("link")).unwrap();
    fs::create_dir(shared.join("dir/canary")).unwrap();
    fs::write(shared.join("dir/canary/alive"), "mine").unwrap();
    let swapper = Swapper::start(&shared, "dir", "link");
    let mut outcomes = Outcomes::default();
    race("a part of a shared volume", 30, || {
        let mount = "type=volume,src=shared,dst=/x,volume-subpath=dir/canary";
        outcomes.count(&root.call([
            "run",
            "--rm",
            "--mount",
            mount,
            "localhost/busybox",
            "cat",
            "/x/alive",
        ]));
        canary.assert_untouched();
    });
    assert_raced(swapper);
    assert!(outcomes.done > 0 && outcomes.refused > 0, "{outcomes:?}");
}

/// The file of users becomes an endless one, a pipe, a link to the host's: `exec` ends, one way or the other.
#[test]
fn a_file_of_users_that_becomes_another() {
    for other in ["ln -s /dev/zero", "mkfifo", "ln -s /proc/1/fd/0"] {
        let root = Root::new();
        root.sleeper("box", &[]);
        root.ok(["exec", "box", "sh", "-c", &format!("cd /etc && {other} other")]);
        let swapper = Swapper::start(&place(&root, "etc"), "passwd", "other");
        let mut outcomes = Outcomes::default();
        race(&format!("a file of users and {other}"), 20, || {
            outcomes.count(&root.call(["exec", "-u", "www-data", "box", "true"]));
        });
        assert_raced(swapper);
        assert!(outcomes.done > 0 && outcomes.refused > 0, "{other}: {outcomes:?}");
    }
}

/// The variable that makes this test a container's program: the host's file that it looks for.
const WANTED: &str = "ATTACK_WANTED";
/// What an intruder says of a process that was still the runtime's when all of it had been tried.
const MET: &str = "met ";

/// As a program in a container: reads whatever it can of processes that come and go, until it is killed. As a test it
/// has nothing to do.
#[test]
#[expect(clippy::print_stdout, reason = "what is found is told to the test")]
fn as_an_intruder() {
    let Ok(wanted) = std::env::var(WANTED) else { return };
    let own = std::process::id().to_string();
    loop {
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let name = process.file_name().into_string().unwrap_or_default();
            if name == own
                || name == "self"
                || name == "thread-self"
                || !name.starts_with(|c: char| c.is_ascii_digit())
            {
                continue;
            }
            let program = || fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            let before = program();
            let mut ways = vec![process.path().join("root"), process.path().join("cwd")];
            let files = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
            ways.extend(files.map(|file| file.path()));
            for way in ways {
                for up in ["", "..", "../..", "../../..", "../../../..", "../../../../../.."] {
                    if let Ok(text) =
                        fs::read_to_string(way.join(up).join(wanted.trim_start_matches('/')))
                    {
                        println!("{} {text}", way.display());
                    }
                }
            }
            if before.starts_with("runtime-") && program() == before {
                println!("{MET}{name} {before}");
            }
        }
    }
}

/// The same as a script, for a container that cannot have this program, or of another kind.
fn script() -> String {
    format!(
        "while :; do for p in /proc/[0-9]*; do [ $p = /proc/$$ ] || {{ c=; read c < $p/comm; \
         (cd $p/cwd && cat .$H ../..$H; for f in $p/root $p/fd/*; do cat $f$H $f/../../../..$H; done); \
         d=; read d < $p/comm; case $c in runtime-*) [ $c = $d ] && echo {MET}$p $c;; esac; }} 2>/dev/null; \
         done; done"
    )
}

/// That intruders have met processes of the runtime, and read nothing of the host by them.
#[expect(clippy::print_stdout, reason = "a test's words to its runner")]
fn assert_met_in_vain(said: &str) {
    assert!(!said.contains(SECRET), "{said}");
    let met = said.lines().filter(|line| line.starts_with(MET)).count();
    println!("{met} times a process of the runtime's was met on its way in");
    assert!(met > 0, "nobody was met: there was no race");
}

/// 2016-9962: a process on its way into a container is seen there before it is one of the container's. It has no
/// directory of the host's open that those who see it can reach.
#[test]
fn a_process_on_its_way_into_a_container() {
    let root = Root::new();
    let canary = Canary::new(root.dir());
    let wanted = format!("{}/alive", canary.path());
    let exe = std::env::current_exe().unwrap();
    let volume = format!("{}:/intruder:ro", arg(&exe));
    let (variable, short) = (format!("{WANTED}={wanted}"), format!("H={wanted}"));
    let image = busybox();
    let intruder = ["/intruder", "--exact", "attack_races::as_an_intruder", "--nocapture"];
    let script = script();
    let shell = ["sh", "-c", &script];
    let program = if is_dynamic() { &shell[..] } else { &intruder };
    let options =
        ["run", "-d", "--name", "box", "-v", &volume, "-e", &variable, "-e", &short, arg(&image)];
    root.ok([&options, program].concat());
    // One that looks in from beside, too: it has the first one's processes.
    let options =
        ["run", "-d", "--name", "guest", "--pid", "container:box", "-e", &short, arg(&image)];
    root.ok([&options[..], &shell].concat());
    race("processes on their way in", 30, || {
        root.ok(["exec", "box", "true"]);
        root.ok(["exec", "-w", "/tmp", "box", "true"]);
        root.ok(["run", "--rm", "--pid", "container:box", arg(&image), "true"]);
    });
    let said = ["box", "guest"].map(|name| {
        let said = root.call(["logs", name]).stdout;
        root.ok(["rm", "-f", name]);
        said
    });
    assert_met_in_vain(&said.concat());
    canary.assert_untouched();
    root.assert_nothing_left();
}

#[test]
fn a_process_on_its_way_into_a_container_of_runtime_oci() {
    let oci = Oci::new(&WAITS);
    let canary = Canary::new(oci.dir());
    let wanted = format!("{}/alive", canary.path());
    copy_program(&std::env::current_exe().unwrap(), &oci.bundle().join("rootfs/intruder"));
    let intruder = ["/intruder", "--exact", "attack_races::as_an_intruder", "--nocapture"];
    let script = script();
    let shell = ["sh", "-c", &script];
    oci.configure(
        |config| {
            config["process"]["env"] =
                json!([format!("{WANTED}={wanted}"), format!("H={wanted}"), "PATH=/bin"]);
        },
        if is_dynamic() { &shell[..] } else { &intruder },
    );
    let output = oci.create(&["a"]);
    oci.ok(&["start", "a"]);
    race("runtime-oci exec beside an intruder", 30, || {
        oci.ok(&["exec", "a", "true"]);
    });
    assert_met_in_vain(&fs::read_to_string(&output).unwrap());
    wait_until("it runs still", || oci.status("a") == "running");
    oci.ok(&["delete", "--force", "a"]);
}
