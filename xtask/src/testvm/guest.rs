//! The guest's side: this program as the virtual machine's init.
//!
//! The kernel starts it from the initramfs. It loads the modules, makes the ext4 disk the root, mounts what a Linux
//! system has mounted, and runs the tests of the [`Plan`]. Whatever it says goes to the host over a virtio port; errors
//! that come before that port is there go to the console, and the machine stops: then the host shows the console.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::mount::{MountFlags, mount, mount_bind, mount_move};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::system::{RebootCommand, finit_module, reboot, sethostname, uname};

use super::guest_tests;
use super::protocol::{Event, Order, PORT, Plan, Provoke, decode, encode};

const NEW_ROOT: &str = "/new";

/// Boots, runs the plan, and does not come back: the host ends the machine at the verdict.
pub(super) fn run() -> anyhow::Result<()> {
    if rustix::process::getpid().as_raw_pid() != 1 {
        bail!("--guest is for the init of the virtual machine");
    }
    if let Err(error) = boot() {
        eprintln!("test-vm: {error:#}");
    }
    // Whoever waits for more than what was said sees the machine end.
    std::thread::sleep(Duration::from_secs(2));
    reboot(RebootCommand::Restart).context("restarting")
}

/// The port to the host.
pub(super) struct Port {
    file: BufReader<File>,
    nonce: String,
}

impl Port {
    /// Tells the host.
    pub(super) fn send(&mut self, event: &Event) -> anyhow::Result<()> {
        let line = encode(&self.nonce, event)?;
        self.file.get_mut().write_all(line.as_bytes()).context("writing to the host's port")
    }

    /// Asks the host what to do next.
    pub(super) fn order(&mut self) -> anyhow::Result<Order> {
        self.send(&Event::Idle)?;
        let mut line = String::new();
        self.file.read_line(&mut line).context("reading from the host's port")?;
        decode(&self.nonce, line.trim_end()).with_context(|| format!("the host said {line:?}"))
    }
}

fn boot() -> anyhow::Result<()> {
    mount_api_filesystems()?;
    let plan = fs::read("/plan.json").context("reading /plan.json")?;
    let plan: Plan = serde_json::from_slice(&plan).context("reading /plan.json")?;
    for path in &plan.modules {
        load(path)?;
    }
    enter_root(&plan)?;
    mount_the_rest(&plan)?;
    if plan.chown {
        let dirs = ["/bin", "/etc", "/home", "/root", "/usr", "/var"];
        call(Command::new("chown").args(["-R", "0:0"]).args(dirs))?;
    }
    call(Command::new("chown").args(["1000:1000", "/home/user"]))?;
    call(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    sethostname(b"test-vm").context("setting the host name")?;
    for (name, value) in [("kernel/panic_on_oops", "1"), ("kernel/printk", "4 4 1 7")] {
        write(&format!("/proc/sys/{name}"), value)?;
    }
    // As systemd sets them; the kernel's own are 1024 and 4096.
    let files = Rlimit { current: Some(1024), maximum: Some(524_288) };
    setrlimit(Resource::Nofile, files).context("setting the limit of open files")?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: None })
        .context("setting the limit of core files")?;

    let mut port = Port { file: BufReader::new(open_port()?), nonce: plan.nonce.clone() };
    port.send(&Event::Ready { release: uname().release().to_string_lossy().into_owned() })?;
    let done = if plan.shell { shell(&plan) } else { guest_tests::run(&plan, &mut port) };
    match done {
        Ok(done) => port.send(&done),
        Err(error) => port.send(&Event::Fault(format!("{error:#}"))),
    }
}

/// Does what no kernel should do.
pub(super) fn break_down(how: Provoke) -> anyhow::Result<()> {
    match how {
        Provoke::Panic => write("/proc/sysrq-trigger", "c"),
        Provoke::Hang => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        Provoke::Poweroff => reboot(RebootCommand::PowerOff).context("powering off"),
    }
}

fn mount_api_filesystems() -> anyhow::Result<()> {
    let (plain, quiet) =
        (MountFlags::empty(), MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV);
    attach("proc", "/proc", "proc", quiet, "")?;
    attach("sysfs", "/sys", "sysfs", quiet, "")?;
    attach("devtmpfs", "/dev", "devtmpfs", plain, "mode=0755")
}

/// Makes the first disk the root. The initramfs itself cannot be one: pivot_root fails on it with EINVAL, and so would
/// the tests'. Moving the disk's mount over it is what every initramfs does (switch_root(8)).
fn enter_root(plan: &Plan) -> anyhow::Result<()> {
    wait_for(Path::new("/dev/vda"))?;
    attach("/dev/vda", NEW_ROOT, "ext4", MountFlags::empty(), "noinit_itable")?;
    for name in ["/proc", "/sys", "/dev"] {
        mount_move(name, format!("{NEW_ROOT}{name}")).with_context(|| format!("moving {name}"))?;
    }
    // The initramfs is memory: give it back.
    for path in &plan.modules {
        fs::remove_file(path).with_context(|| format!("removing {}", path.display()))?;
    }
    std::env::set_current_dir(NEW_ROOT).context("entering the new root")?;
    mount_move(".", "/").context("moving the root disk to /")?;
    rustix::process::chroot(".").context("changing the root")?;
    std::env::set_current_dir("/").context("entering /")
}

fn mount_the_rest(plan: &Plan) -> anyhow::Result<()> {
    let (plain, nodev) = (MountFlags::empty(), MountFlags::NOSUID | MountFlags::NODEV);
    let quiet = nodev | MountFlags::NOEXEC;
    for (source, target) in [
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        // systemd, which tests start, would make it.
        ("/proc/kcore", "core"),
    ] {
        let link = format!("/dev/{target}");
        symlink(source, &link).with_context(|| format!("linking {link}"))?;
    }
    for (source, target, kind, flags, data) in [
        (
            "devpts",
            "/dev/pts",
            "devpts",
            MountFlags::NOSUID | MountFlags::NOEXEC,
            "gid=5,mode=620,ptmxmode=666",
        ),
        ("tmpfs", "/dev/shm", "tmpfs", nodev, "mode=1777"),
        ("mqueue", "/dev/mqueue", "mqueue", quiet, ""),
        ("tmpfs", "/run", "tmpfs", nodev, "mode=755"),
        ("cgroup2", "/sys/fs/cgroup", "cgroup2", quiet, "nsdelegate"),
        ("securityfs", "/sys/kernel/security", "securityfs", quiet, ""),
        ("bpf", "/sys/fs/bpf", "bpf", quiet, "mode=700"),
    ] {
        if target.starts_with("/dev/") {
            fs::create_dir_all(target).with_context(|| format!("creating {target}"))?;
        }
        attach(source, target, kind, flags, data)?;
    }
    // As on a machine with systemd.
    write("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset +cpu +io +memory +pids")?;
    // And a group that stays: with the first one and after the last one the kernel rewrites its own code (the
    // static key of cpusets, in each allocation of a page), and QEMU, with a thread for each processor, now and
    // then executes what stood there meanwhile: an int3 that nobody expects, and a panic.
    fs::create_dir("/sys/fs/cgroup/system.slice").context("making a cgroup")?;
    rustix::mount::mount_change(
        "/",
        rustix::mount::MountPropagationFlags::SHARED | rustix::mount::MountPropagationFlags::REC,
    )
    .context("making the root shared, as systemd does")?;
    if let Some((first, others)) = plan.images.split_first() {
        wait_for(Path::new("/dev/vdb"))?;
        attach("/dev/vdb", first, "ext4", plain | MountFlags::RDONLY, "")?;
        for other in others {
            mount_bind(first, other)
                .with_context(|| format!("binding the images to {}", other.display()))?;
        }
    }
    Ok(())
}

fn attach(
    source: &str,
    target: impl AsRef<Path>,
    kind: &str,
    flags: MountFlags,
    data: &str,
) -> anyhow::Result<()> {
    let target = target.as_ref();
    let data = std::ffi::CString::new(data)?;
    mount(source, target, kind, flags, data.as_c_str())
        .with_context(|| format!("mounting {kind} from {source} at {}", target.display()))
}

fn load(path: &Path) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    finit_module(&file, c"", 0).with_context(|| format!("loading the module {}", path.display()))
}

/// Waits for what the kernel's drivers make on their own time.
fn wait_for(path: &Path) -> anyhow::Result<()> {
    let begin = Instant::now();
    while !path.exists() {
        if begin.elapsed() > Duration::from_secs(10) {
            bail!("no {} after ten seconds", path.display());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn open_port() -> anyhow::Result<File> {
    let begin = Instant::now();
    loop {
        if let Some(path) = find_port() {
            return File::options()
                .read(true)
                .write(true)
                .open(&path)
                .with_context(|| format!("opening {}", path.display()));
        }
        if begin.elapsed() > Duration::from_secs(10) {
            bail!("no virtio port with the name {PORT} after ten seconds");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn find_port() -> Option<PathBuf> {
    let port =
        fs::read_dir("/sys/class/virtio-ports").ok()?.filter_map(Result::ok).find(|entry| {
            fs::read_to_string(entry.path().join("name")).is_ok_and(|name| name.trim() == PORT)
        })?;
    let path = Path::new("/dev").join(port.file_name());
    path.exists().then_some(path)
}

fn write(path: &str, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("writing {text} to {path}"))
}

/// Runs a program of the root disk.
fn call(command: &mut Command) -> anyhow::Result<()> {
    command.env("PATH", "/usr/sbin:/usr/bin");
    crate::sh::run(command)
}

/// A shell on the console, with job control.
fn shell(plan: &Plan) -> anyhow::Result<Event> {
    let console =
        || File::options().read(true).write(true).open("/dev/ttyS0").context("opening /dev/ttyS0");
    let mut command = Command::new("/usr/bin/setsid");
    command.args(["-c", "/usr/bin/bash", "-l"]).envs(&plan.env).current_dir("/root");
    let status = command
        .stdin(Stdio::from(console()?))
        .stdout(Stdio::from(console()?))
        .stderr(Stdio::from(console()?))
        .status()
        .context("starting the shell")?;
    Ok(Event::Done { tests: 0, shell: Some(status.code().unwrap_or(128)) })
}
