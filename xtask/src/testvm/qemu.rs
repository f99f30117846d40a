//! QEMU: how to call it, whether its KVM can be trusted, and how long to wait for it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::protocol::PORT;
use crate::sh;

pub(super) const QEMU: &str = "qemu-system-x86_64";
/// How the machine behaves that does nothing but what it is told, in all its forms here.
const BARE: [&str; 5] = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"];
/// The translator's processor. One with fast string instructions would make the kernel clear and copy each page by
/// `rep stosb` and `rep movsb`, and the translator does those byte by byte: a tenth more time for all. With SMAP each copy
/// from or to a process leaves the translated code twice: another tenth.
const TCG_CPU: &str = "max,-erms,-fsrm,-smap";
/// What the kernel is told where the translator runs it. Code is kept translated by its address: with a program at another
/// place at each start, all of it would be translated at each start, which is more than half of the time of tests that
/// start programs. The others take away what defends against flaws of processors that the translator has not, and the
/// clearing of memory that is cleared once more.
const TCG_KERNEL: &str = "norandmaps mitigations=off init_on_alloc=0";
/// How long the probe may take, QEMU's own start (0.1 s) included.
const PROBE_LIMIT: Duration = Duration::from_secs(1);

/// How the guest's instructions are executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accel {
    /// By the processor.
    Kvm,
    /// By QEMU's translator.
    Tcg,
}

impl std::fmt::Display for Accel {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Accel::Kvm => "kvm",
            Accel::Tcg => "tcg",
        })
    }
}

/// What `--accel` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Choice {
    /// KVM if a probe shows that a guest really runs, else TCG.
    Auto,
    /// KVM, or an error if the probe fails.
    Kvm,
    /// TCG.
    Tcg,
}

/// QEMU, which ends with the thread that started it, also where that one is killed: no machine is left running.
fn qemu() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", QEMU]).args(BARE);
    command
}

/// Decides, by the probe if need be.
pub(super) fn choose(choice: Choice, work: &Path) -> anyhow::Result<Accel> {
    if choice == Choice::Tcg || (choice == Choice::Auto && !Path::new("/dev/kvm").exists()) {
        return Ok(Accel::Tcg);
    }
    match (probe_kvm(work)?, choice) {
        (Ok(()), _) => Ok(Accel::Kvm),
        (Err(why), Choice::Kvm) => bail!("KVM cannot be used: {why}; try --accel tcg"),
        (Err(why), _) => {
            println!("KVM is not used: {why}");
            Ok(Accel::Tcg)
        }
    }
}

/// Runs a guest of 200 million instructions under KVM. A processor needs 0.1 s for them; the software KVMs that some
/// machines have, which let every simpler test pass, need minutes.
fn probe_kvm(work: &Path) -> anyhow::Result<Result<(), String>> {
    let (rom, log) = (work.join("probe.rom"), work.join("probe.log"));
    fs::write(&rom, probe_rom()).with_context(|| format!("writing {}", rom.display()))?;
    let mut command = qemu();
    command.args(["-machine", "pc", "-accel", "kvm", "-cpu", "host", "-m", "16"]);
    command.arg("-bios").arg(&rom).args([
        "-chardev",
        "stdio,id=out,signal=off",
        "-device",
        "isa-debugcon,iobase=0xe9,chardev=out",
    ]);
    let log_file = fs::File::create(&log).with_context(|| format!("creating {}", log.display()))?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log_file);
    let mut machine = Machine::start(&mut command)?;
    let mut output = machine.0.stdout.take().context("QEMU has no output")?;
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let mut byte = [0];
        // The receiver may have given up.
        let _ = send.send(output.read_exact(&mut byte).is_ok() && byte[0] == b'K');
    });
    Ok(match receive.recv_timeout(PROBE_LIMIT) {
        Ok(true) => Ok(()),
        Err(RecvTimeoutError::Timeout) => Err(format!(
            "a guest of 200 million instructions is not done after {} s",
            PROBE_LIMIT.as_secs()
        )),
        _ => {
            let said = fs::read_to_string(&log).unwrap_or_default();
            Err(format!(
                "QEMU ended without running a guest: {}",
                said.lines().next().unwrap_or_default()
            ))
        }
    })
}

/// A firmware for the probe: the processor starts at the last 16 bytes of it, in real mode.
pub(super) fn probe_rom() -> Vec<u8> {
    const SIZE: usize = 64 << 10;
    const CODE: [u8; 14] = [
        0x66, 0xb9, 0x00, 0xe1, 0xf5, 0x05, //     mov ecx, 100000000
        0x66, 0x49, //                        1:   dec ecx
        0x75, 0xfc, //                             jnz 1b
        0xb0, b'K', //                             mov al, 'K'
        0xe6, 0xe9, //                             out 0xe9, al
    ];
    const HALT: [u8; 2] = [0xeb, 0xfe]; //    2:   jmp 2b
    let mut rom = vec![0; SIZE - 16];
    rom.extend_from_slice(&CODE);
    rom.extend_from_slice(&HALT);
    rom
}

/// The machine for the tests.
#[derive(Debug)]
pub(super) struct Setup<'a> {
    pub(super) accel: Accel,
    pub(super) kernel: &'a Path,
    pub(super) initramfs: &'a Path,
    /// The root, read and written.
    pub(super) root: &'a Path,
    /// Where the machine keeps what it writes to the root, in a file without a name, for a root that several machines
    /// have. `None`: the root itself is written to.
    pub(super) own_writes: Option<&'a Path>,
    /// How many processors it has.
    pub(super) processors: usize,
    /// Read only.
    pub(super) images: Option<&'a Path>,
    pub(super) console: &'a Path,
    /// With `--shell`, the console is the terminal, and the events go to this file.
    pub(super) events: Option<&'a Path>,
}

impl Setup<'_> {
    /// QEMU's command line.
    pub(super) fn command(&self) -> Command {
        let mut command = qemu();
        command.args(["-machine", "pc", "-smp", &self.processors.to_string(), "-m", "2G"]);
        match self.accel {
            Accel::Kvm => command.args(["-accel", "kvm", "-cpu", "host"]),
            Accel::Tcg => command.args(["-accel", "tcg,thread=multi", "-cpu", TCG_CPU]),
        };
        command.arg("-kernel").arg(self.kernel).arg("-initrd").arg(self.initramfs);
        // In the form of an overlay that QEMU makes, and removes as soon as it is open (`snapshot`).
        let mut root = "cache=unsafe,discard=unmap".to_owned();
        if let Some(dir) = self.own_writes {
            command.env("TMPDIR", dir);
            root += ",snapshot=on";
        }
        let comma = |path: &Path| path.display().to_string().replace(',', ",,");
        // The disk dies with the machine, so nothing is gained by flushing it.
        let mut disk = |id: &str, path: &Path, options: &str| {
            command.args([
                "-drive",
                &format!("id={id},if=none,format=raw,{options},file={}", comma(path)),
            ]);
            command.args(["-device", &format!("virtio-blk-pci,drive={id}")]);
        };
        disk("root", self.root, &root);
        if let Some(images) = self.images {
            disk("images", images, "readonly=on");
        }
        let (console, result) = match self.events {
            None => (
                format!("file,id=console,path={}", comma(self.console)),
                "stdio,id=result,signal=off".to_owned(),
            ),
            Some(events) => (
                "stdio,id=console,signal=off".to_owned(),
                format!("file,id=result,path={}", comma(events)),
            ),
        };
        command.args([
            "-chardev",
            &console,
            "-serial",
            "chardev:console",
            "-device",
            "virtio-serial-pci",
        ]);
        command.args([
            "-chardev",
            &result,
            "-device",
            &format!("virtserialport,chardev=result,name={PORT}"),
        ]);
        let more = match self.accel {
            Accel::Kvm => "",
            Accel::Tcg => TCG_KERNEL,
        };
        // What follows the two dashes becomes init's arguments.
        command.arg("-append").arg(format!(
            "console=ttyS0 quiet panic=-1 oops=panic no_timer_check {more} rdinit=/init -- test-vm --guest"
        ));
        command
    }
}

/// A QEMU that ends when this value does.
pub(super) struct Machine(Child);

impl Machine {
    fn start(command: &mut Command) -> anyhow::Result<Machine> {
        let child = command.spawn().with_context(|| format!("starting {}", sh::line(command)))?;
        Ok(Machine(child))
    }

    /// Starts the machine on this terminal and waits for its end.
    pub(super) fn interactive(command: &mut Command) -> anyhow::Result<()> {
        let status = Machine::start(command)?.0.wait().context("waiting for QEMU")?;
        if !status.success() {
            bail!("{} failed: {status}", sh::line(command));
        }
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The lines that a running guest writes to its port, and reads from it.
pub(super) struct Lines {
    // Its standard input stays open with it: at the end of that, QEMU would close the port.
    machine: Machine,
    receiver: Receiver<String>,
    started: Instant,
}

/// What comes next from the guest.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A line.
    Line(String),
    /// Nothing, in all the time that was given.
    Silence,
    /// Nothing more: QEMU has ended.
    End,
}

impl Lines {
    /// Starts the machine.
    pub(super) fn start(command: &mut Command, errors: &Path) -> anyhow::Result<Lines> {
        let log =
            fs::File::create(errors).with_context(|| format!("creating {}", errors.display()))?;
        let mut machine =
            Machine::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log))?;
        let output = machine.0.stdout.take().context("QEMU has no output")?;
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n') {
                let Ok(line) = line else { return };
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        Ok(Lines { machine, receiver, started: Instant::now() })
    }

    /// Waits for the next line, but not beyond the limit.
    pub(super) fn next(&self, limit: Duration) -> Next {
        match self.receiver.recv_timeout(limit) {
            Ok(line) => Next::Line(line),
            Err(RecvTimeoutError::Timeout) => Next::Silence,
            Err(RecvTimeoutError::Disconnected) => Next::End,
        }
    }

    /// Gives the guest a line, with its end.
    pub(super) fn tell(&mut self, line: &str) {
        if let Some(input) = &mut self.machine.0.stdin {
            // A machine that has gone meanwhile does not take it, and `next` tells of its end.
            let _ = input.write_all(line.as_bytes());
        }
    }

    /// The time since the start.
    pub(super) fn age(&self) -> Duration {
        self.started.elapsed()
    }
}

/// What a machine left on its console, and what QEMU itself said.
#[derive(Debug)]
pub(super) struct LastWords(String);

impl LastWords {
    /// Reads both logs.
    pub(super) fn read(console: &Path, errors: &Path) -> LastWords {
        let read =
            |path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).replace('\r', "");
        let said = read(errors);
        LastWords(
            read(console) + &said.lines().map(|line| format!("QEMU: {line}\n")).collect::<String>(),
        )
    }

    /// The kernel's line about its panic.
    pub(super) fn panic(&self) -> Option<&str> {
        self.0.lines().find_map(|line| Some(&line[line.find("Kernel panic")?..]))
    }
}

impl std::fmt::Display for LastWords {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const LINES: usize = 50;
        let lines: Vec<_> = self.0.lines().collect();
        out.write_str(&lines[lines.len().saturating_sub(LINES)..].join("\n"))
    }
}
