//! A shell command whose root is a tmpfs with what Docker gives every container, and the host's
//! `/usr` bound in by descriptor. As root: `cargo run -p pivot --example enter`

use std::error::Error;
use std::io::Write;
use std::os::fd::AsFd;

use ns_core::{Event, Namespaces, Spawn};
use pivot::{Cgroups, Devices, Filesystem, Masks, Nodes, RootPropagation, standard};
use rustix::fs::{Mode, OFlags};
use sys::exec::Program;
use sys::fscontext::FsContext;
use sys::{Step, below, mount};

fn main() -> Result<(), Box<dyn Error>> {
    // The parent prepares: a root, the host's /usr, and everything that needs memory or input.
    let failed = |failure: sys::Failure| sys::Report::from(failure).to_string();
    let tree = FsContext::open(c"tmpfs").map_err(failed)?;
    let tree = tree.mount(rustix::mount::MountAttrFlags::empty()).map_err(failed)?;
    for (name, to) in [("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        rustix::fs::symlinkat(to, &tree, name)?;
    }
    let usr = rustix::fs::open(c"/usr", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let usr = mount::clone_tree(&usr, c"", true)?;
    let mounts: Vec<Filesystem> =
        standard::MOUNTS.iter().map(|mount| mount.prepare()).collect::<Result<_, _>>()?;
    let cgroups = Cgroups::prepare(standard::CGROUP.target, standard::CGROUP.options)?;
    let devices = Devices::prepare(&standard::devices(), Nodes::Make)?;
    let masks = Masks::prepare(&standard::masked_paths(), &standard::READ_ONLY)?;
    let program = Program::new(
        vec![c"/bin/sh".into()],
        vec![c"sh".into(), c"-c".into(), c"cat /proc/self/mounts; ls -l / /dev".into()],
        vec![c"PATH=/usr/bin".into()],
    );
    let kinds = Namespaces::all() - Namespaces::USER;
    // The child applies: system calls only.
    let mut child = Spawn::new().namespaces(kinds).spawn(|_gate| {
        let root = pivot::enter(tree.as_fd(), RootPropagation::Private)?;
        let root = root.as_fd();
        mounts.iter().try_for_each(|mount| mount.apply(root))?;
        cgroups.apply(root)?;
        let target = below::make(root, c"/usr", below::Kind::Directory, Mode::from_raw_mode(0o755))
            .step("making /usr")?;
        mount::attach(&usr, target).step("attaching the host's /usr")?;
        devices.apply(root)?;
        pivot::pivot(root, RootPropagation::Private)?;
        masks.apply(root)?;
        Err(program.exec())
    })?;
    if let Event::Failed(report) = child.next()? {
        return Err(report.to_string().into());
    }
    writeln!(std::io::stdout(), "the program ended with {}", child.wait()?)?;
    Ok(())
}
