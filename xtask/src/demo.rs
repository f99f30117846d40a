//! `cargo xtask demo`: the release binary at work on a real nginx image with a volume, step by step
//! as a person would do it. Each step is checked, so that what is shown also holds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::images::{self, Format};
use crate::{apt, sh};

/// How a container asks itself for a page, with nothing but bash.
const GET: &str =
    r#"exec 3<>/dev/tcp/127.0.0.1/80 && printf "GET / HTTP/1.0\r\n\r\n" >&3 && cat <&3"#;

/// How long nginx may take until it answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// The command line of `cargo xtask demo`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Show this program and build nothing
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Runs `cargo xtask demo`.
pub(crate) fn run(args: Args) -> Result<()> {
    ensure!(apt::is_root(), "the demo mounts file systems: run it as root");
    apt::ensure(&["mount"])?;
    let target = sh::target()?;
    let program = match args.binary {
        Some(program) => std::path::absolute(program)?,
        None => sh::release(&target, &["--package", "runtime-bin"])?.join("runtime-bin"),
    };
    let pictures = target.join("images");
    images::make(&pictures, &["nginx"], &[Format::DockerOci], false)?;
    let image = pictures.join("nginx.docker-oci.tar");

    let folder = std::env::temp_dir().join(format!("runtime-demo-{}", std::process::id()));
    fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let demo = Demo { program, folder };
    let shown = demo.walk(&image);
    let cleaned = demo.clean_up();
    shown.and(cleaned)?;
    println!("\nEvery step holds, and nothing is left.");
    Ok(())
}

struct Demo {
    program: PathBuf,
    folder: PathBuf,
}

impl Demo {
    fn walk(&self, image: &Path) -> Result<()> {
        let store = self.folder.join("store");
        let volume = self.folder.join("nginx_volume");
        println!("\nruntime-bin: {} --root {}", self.program.display(), store.display());

        say("A directory of the host, with a file in it");
        host("mkdir", &["-p", text(&volume)?])?;
        host("touch", &[text(&volume.join("nginx_file"))?])?;

        say("A container of a real image, out of a tar, with that directory as its volume");
        let bind = format!("{}:/nginx_volume", volume.display());
        let started = Instant::now();
        let id =
            self.runtime(&["run", "-d", "--rm", "--name", "nginx", "-v", &bind, text(image)?])?;
        println!("({} ms, with the image's layers verified)", started.elapsed().as_millis());
        let id = id.trim();
        let hexadecimal = id.len() >= 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        ensure!(hexadecimal, "run -d did not print a container's id, but {id:?}");
        self.runtime(&["ps"])?;

        say("The mounts, as the container sees them: its root first, the volume among them");
        let inside = self.runtime(&["exec", "nginx", "mount"])?;
        let root = inside.lines().next().unwrap_or_default();
        let options = root.strip_prefix("overlay on / type overlay ");
        let options = options.with_context(|| format!("the container's root is: {root}"))?;
        for option in ["(rw,", "lowerdir", "/diff", "/work"] {
            ensure!(options.contains(option), "the overlay's options lack {option}: {options}");
        }
        let bound = |line: &str| line.contains(" on /nginx_volume type ");
        ensure!(inside.lines().any(bound), "the container's mounts lack /nginx_volume");

        say("The volume: what is written on one side is there on the other");
        let listed = self.runtime(&["exec", "nginx", "ls", "/nginx_volume"])?;
        ensure!(listed.trim() == "nginx_file", "the volume in the container holds {listed:?}");
        let write = "echo 'from the container' >/nginx_volume/inside";
        self.runtime(&["exec", "nginx", "sh", "-c", write])?;
        let read = host("cat", &[text(&volume.join("inside"))?])?;
        ensure!(read == "from the container\n", "the host reads {read:?} in the volume");
        let write = format!("echo 'from the host' >{}", volume.join("outside").display());
        host("sh", &["-c", &write])?;
        let read = self.runtime(&["exec", "nginx", "cat", "/nginx_volume/outside"])?;
        ensure!(read == "from the host\n", "the container reads {read:?} in the volume");

        say("The container's root, on the host: the same mount, readable and writable");
        let merged = self.merged()?;
        println!("MergedDir: {}", merged.display());
        let name = text(&merged)?;
        let outside = host("sh", &["-c", &format!("mount | grep ' on {name} '")])?;
        let want = format!("overlay on {name} type overlay {options}\n");
        ensure!(
            outside == want,
            "the host shows another mount than the container:\n{want}{outside}"
        );
        let write = format!("echo 'from the host' >{name}/srv/outside");
        host("sh", &["-c", &write])?;
        let read = self.runtime(&["exec", "nginx", "cat", "/srv/outside"])?;
        ensure!(read == "from the host\n", "the container reads {read:?} in its root");
        self.runtime(&["exec", "nginx", "sh", "-c", "echo 'from the container' >/srv/inside"])?;
        let read = host("cat", &[&format!("{name}/srv/inside")])?;
        ensure!(read == "from the container\n", "the host reads {read:?} in the root");

        say("A page, served by nginx inside");
        let page = self.page()?;
        ensure!(page.contains("<h1>It is nginx.</h1>"), "nginx served: {page}");

        say("Where everything comes from");
        let picture = self.runtime(&["mounts", "nginx"])?;
        ensure!(picture.contains("/nginx_volume"), "the picture of mounts lacks the volume");

        say("The end: by the image's own stop signal; the volume's content stays");
        let started = Instant::now();
        self.runtime(&["stop", "nginx"])?;
        println!("({} ms)", started.elapsed().as_millis());
        let left = self.runtime(&["ps", "-a", "-q"])?;
        ensure!(left.trim().is_empty(), "after --rm there still is {left:?}");
        let kept = host("ls", &[text(&volume)?])?;
        ensure!(kept == "inside\nnginx_file\noutside\n", "the volume now holds {kept:?}");
        self.nothing_left(id, &merged)
    }

    /// Runs the program with the demo's own root, shown as a person would type it.
    fn runtime(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.folder.join("store")).args(words);
        let mut shown = Command::new("runtime-bin");
        show(&sh::line(shown.args(words)), &mut command)
    }

    /// The directory at which the container's root can be seen from the host.
    fn merged(&self) -> Result<PathBuf> {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.folder.join("store")).args(["inspect", "nginx"]);
        println!("$ runtime-bin inspect nginx | jq -r '.[0].GraphDriver.Data.MergedDir'");
        let json: Value = serde_json::from_slice(&sh::output(&mut command)?)
            .context("inspect did not print JSON")?;
        let merged = json[0]["GraphDriver"]["Data"]["MergedDir"].as_str();
        Ok(merged.context("inspect's JSON has no [0].GraphDriver.Data.MergedDir")?.into())
    }

    /// The page that nginx serves, as soon as it listens.
    fn page(&self) -> Result<String> {
        let words = ["exec", "nginx", "bash", "-c", GET];
        let started = Instant::now();
        loop {
            let mut quiet = Command::new(&self.program);
            quiet.arg("--root").arg(self.folder.join("store")).args(words);
            match sh::output(&mut quiet) {
                Ok(_) => return self.runtime(&words),
                Err(error) if started.elapsed() > PATIENCE => {
                    return Err(error.context("nginx does not answer"));
                }
                Err(_) => sleep(Duration::from_millis(50)),
            }
        }
    }

    /// No mount, process, cgroup or directory of the container is there any more.
    fn nothing_left(&self, id: &str, merged: &Path) -> Result<()> {
        let mounts = mounts_below(&self.folder)?;
        ensure!(mounts.is_empty(), "mounts are left: {mounts:?}");
        ensure!(!merged.exists(), "{} is left", merged.display());
        let store = self.folder.join("store");
        for process in fs::read_dir("/proc")?.flatten() {
            // A process that ends meanwhile has nothing to show.
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let own = process.file_name() == *std::process::id().to_string();
            ensure!(
                own || !line.contains(text(&store)?),
                "the process {} is left: {line}",
                process.file_name().display()
            );
        }
        let groups = Path::new("/sys/fs/cgroup");
        if groups.is_dir() {
            let name = format!("*{id}*");
            let mut find = Command::new("find");
            let left = sh::text(find.arg(groups).args(["-type", "d", "-name", &name]));
            // `find` fails when a group of somebody else goes while it looks.
            let left = left.unwrap_or_default();
            ensure!(left.is_empty(), "cgroups are left:\n{left}");
        }
        Ok(())
    }

    /// Removes what the demo made; after a failure, what is still running and mounted too.
    fn clean_up(&self) -> Result<()> {
        let mut remove = Command::new(&self.program);
        remove.arg("--root").arg(self.folder.join("store")).args(["rm", "-f", "nginx"]);
        let mounts = mounts_below(&self.folder)?;
        if !mounts.is_empty() {
            println!("\ncleaning up after a failure");
            if let Err(error) = sh::output(&mut remove) {
                println!("{error:#}");
            }
            for mount in mounts_below(&self.folder)?.iter().rev() {
                sh::output(Command::new("umount").arg(mount))?;
            }
        }
        fs::remove_dir_all(&self.folder)
            .with_context(|| format!("cannot remove {}", self.folder.display()))
    }
}

/// Says what comes next.
fn say(what: &str) {
    println!("\n# {what}");
}

/// Runs a command of the host.
fn host(program: &str, words: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(words);
    show(&sh::line(&command), &mut command)
}

/// Shows a command and what it prints.
fn show(line: &str, command: &mut Command) -> Result<String> {
    println!("$ {line}");
    let printed = sh::text(command)?;
    print!("{printed}");
    if !printed.is_empty() && !printed.ends_with('\n') {
        println!();
    }
    Ok(printed)
}

fn text(path: &Path) -> Result<&str> {
    match path.to_str() {
        Some(text) => Ok(text),
        None => bail!("{} is not UTF-8", path.display()),
    }
}

/// Targets of this namespace's mounts at or below a directory, in the order of mounting.
fn mounts_below(folder: &Path) -> Result<Vec<String>> {
    let table = fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    Ok(targets(&table, folder))
}

fn targets(table: &str, folder: &Path) -> Vec<String> {
    let target = |line: &str| line.split(' ').nth(1).map(str::to_owned);
    table.lines().filter_map(target).filter(|path| Path::new(path).starts_with(folder)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_a_directory_are_found() {
        let table = "proc /proc proc rw 0 0\noverlay /d/m overlay rw 0 0\nx /d/m/v ext4 rw 0 0\n\
            y /dd ext4 rw 0 0\n";
        assert_eq!(targets(table, Path::new("/d")), ["/d/m", "/d/m/v"]);
    }
}
