//! A directory of the host, and a named volume filled from an image, become mounts below a root.
//! Run as root: `cargo run -p bindvol --example bind`.

use std::convert::Infallible;
use std::ffi::CString;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use bindvol::{Bind, Kind, VolumeSpec, Volumes, fill};
use ns_core::{Event, Namespaces, Spawn};
use rustix::fs::{Mode, OFlags};
use sys::mount::{self, Change, Propagation};
use sys::{Failure, Step};

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("bindvol-example-{}", std::process::id()));
    for name in ["mnt", "root/etc/app"] {
        std::fs::create_dir_all(dir.join(name))?;
    }
    let shown = show(&dir);
    std::fs::remove_dir_all(&dir)?;
    shown
}

fn show(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    std::fs::write(dir.join("mnt/nginx_file"), "of the host")?;
    std::fs::write(dir.join("root/etc/app/default.conf"), "of the image")?;
    let root = rustix::fs::open(dir.join("root"), DIRECTORY, Mode::empty())?;

    // The parent: everything that reads a path or may be wrong.
    let texts = [format!("{}:/nginx_volume:ro", dir.join("mnt").display()), "conf:/etc/app".into()];
    let volumes = Volumes::open(&dir.join("volumes"))?;
    let mut binds = Vec::new();
    for text in &texts {
        let spec = VolumeSpec::parse_volume(text)?;
        let bind = match &spec.kind {
            Kind::Bind { source, .. } => {
                Bind::prepare(source, &spec.target, spec.options.recursive, &spec.attributes())?
            }
            Kind::Named { name, subpath, .. } => {
                let volume = volumes.ensure(name)?;
                fill(&volume, root.as_fd(), &spec.target)?;
                let opened = volume.open(subpath.as_deref())?;
                let (path, target) = (&volume.path, &spec.target);
                Bind::of_descriptor(opened.as_fd(), path, target, true, &spec.attributes())?
            }
            kind => return Err(format!("not in this example: {kind:?}").into()),
        };
        binds.push(bind);
    }

    // The child: system calls only. The root's descriptor has to be of its own namespace.
    let root_path = CString::new(dir.join("root").into_os_string().into_encoded_bytes())?;
    let mut child = Spawn::new().namespaces(Namespaces::MOUNT).spawn(
        |gate| -> Result<Infallible, Failure> {
            cut_off_the_host()?;
            let root = rustix::fs::open(&root_path, DIRECTORY, Mode::empty())
                .step("opening the container's root")?;
            apply(&binds, root.as_fd())?;
            gate.wait(1)?;
            Err(Failure::new("the end of the example", rustix::io::Errno::CANCELED))
        },
    )?;
    let mut out = std::io::stdout();
    match child.next()? {
        Event::Phase(..) => {
            let table = std::fs::read_to_string(format!("/proc/{}/mountinfo", child.pid()))?;
            let below = dir.join("root").display().to_string();
            for line in table.lines().filter(|line| line.contains(&below)) {
                writeln!(out, "{line}")?;
            }
        }
        Event::Failed(report) => {
            let bind = &binds[report.index as usize];
            writeln!(out, "{}: {report}", bind.describe())?;
        }
        Event::Executed => writeln!(out, "it ended")?,
    }
    child.kill()?;
    child.wait()?;
    let filled = std::fs::read_to_string(dir.join("volumes/conf/_data/default.conf"))?;
    writeln!(out, "the volume conf has default.conf: {filled}")?;
    Ok(())
}

/// As pivot's `enter` does it: what is mounted from here on is this namespace's own.
fn cut_off_the_host() -> Result<(), Failure> {
    let top = rustix::fs::open(c"/", DIRECTORY, Mode::empty()).step("opening the root")?;
    let propagation = Some(Propagation::Slave);
    let change = Change { propagation, recursive: true, ..Change::default() };
    mount::change(&top, &change).step("cutting the mount namespace off the host's")
}

fn apply(binds: &[Bind], root: BorrowedFd<'_>) -> Result<(), Failure> {
    for (index, bind) in binds.iter().enumerate() {
        bind.apply(root).map_err(|failure| failure.of(0, index as u32))?;
    }
    Ok(())
}
