//! The file that the calling process is executed from, through another mount of it.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use crate::process::{last_errno, stat_from};

/// Parts of the program in memory: a loaded segment is one or, with a part that is read-only after
/// relocation, two; a linker makes four segments or five.
const MOST: usize = 16;

/// Lets the calling process run from `file`, another open of the file that it was executed from, so that
/// `/proc/PID/exe` leads through that one's mount: what an exec of the same file through that mount does,
/// without a new start (which costs 0.7 ms; the C library alone asks the processor 40 questions, each a
/// trap in a virtual machine).
///
/// Code and constants are mapped anew from `file`, the same pages of the page cache; data becomes memory
/// without a file; then PR_SET_MM_MAP (prctl(2), Linux 3.18) changes the link, which the kernel permits as
/// soon as nothing of the former mount is mapped (`replace_mm_exe_file` in kernel/fork.c). Needs
/// CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE (Linux 5.9).
///
/// # Errors
/// Then all is as before, or the mappings alone are new, which changes nothing:
/// [`io::ErrorKind::Unsupported`] where the process has threads, `file` is another file, or what was executed
/// is not this program but the loader that was told to run it; what the kernel says (EINVAL: built without
/// CONFIG_CHECKPOINT_RESTORE; EBUSY: the program is mapped elsewhere, too).
pub fn run_from(file: BorrowedFd<'_>) -> io::Result<()> {
    let same = rustix::fs::fstat(file)?;
    let own = rustix::fs::stat(c"/proc/self/exe")?;
    let stat = crate::whole::read_path("/proc/self/stat")?;
    let fields = Fields::parse(&stat).ok_or(io::ErrorKind::Unsupported)?;
    if (same.st_dev, same.st_ino) != (own.st_dev, own.st_ino) || fields.threads != 1 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let mut parts = Parts::default();
    // SAFETY: `add` has the signature that dl_iterate_phdr(3) calls, and gets the value that it expects,
    // which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(add), (&raw mut parts).cast()) };
    if parts.failed || !parts.contain(fields.code[0]) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    for part in &parts.all[..parts.count] {
        part.replace(file)?;
    }
    fields.set(file)
}

/// A range of whole pages of the program.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    start: usize,
    length: usize,
    protection: c_int,
    /// Where it is in the file; `None` for what the process has written to.
    offset: Option<usize>,
}

#[derive(Debug, Default)]
struct Parts {
    all: [Part; MOST],
    count: usize,
    failed: bool,
}

impl Parts {
    /// The segments of an object that lies at `base`.
    fn of(base: usize, headers: &[libc::Elf64_Phdr], page: usize) -> Parts {
        let (down, up) = (|at: usize| at & !(page - 1), |at: usize| (at + page - 1) & !(page - 1));
        let at = |header: &libc::Elf64_Phdr| base + header.p_vaddr as usize;
        let relro = headers.iter().find(|header| header.p_type == libc::PT_GNU_RELRO);
        let relro = relro.map_or(0..0, |header| {
            // As the C library protects it: whole pages only.
            down(at(header))..down(at(header) + header.p_memsz as usize)
        });
        let mut parts = Parts::default();
        for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD) {
            let first = at(header);
            let (start, end) = (down(first), up(first + header.p_filesz as usize));
            let protection = [
                (libc::PF_R, libc::PROT_READ),
                (libc::PF_W, libc::PROT_WRITE),
                (libc::PF_X, libc::PROT_EXEC),
            ];
            let protection = protection
                .iter()
                .filter(|(flag, _)| header.p_flags & flag != 0)
                .fold(0, |all, (_, protection)| all | protection);
            if header.p_flags & libc::PF_W == 0 {
                let offset = Some(down(header.p_offset as usize));
                parts.push(Part { start, length: end - start, protection, offset });
                continue;
            }
            // No linker puts it elsewhere than at a segment's beginning.
            parts.failed |= start < relro.start && relro.start < end;
            let middle = match relro.contains(&start) {
                true => relro.end.min(end),
                false => start,
            };
            let read = libc::PROT_READ;
            parts.push(Part { start, length: middle - start, protection: read, offset: None });
            parts.push(Part { start: middle, length: end - middle, protection, offset: None });
        }
        parts
    }

    /// Whether the address is in one of them.
    fn contain(&self, address: u64) -> bool {
        let range = |part: &Part| part.start as u64..(part.start + part.length) as u64;
        self.all[..self.count].iter().any(|part| range(part).contains(&address))
    }

    fn push(&mut self, part: Part) {
        // A range that begins before the last one's end shares a page with it.
        let end = self.all[..self.count].last().map_or(0, |last| last.start + last.length);
        if part.length == 0 {
            return;
        }
        match self.all.get_mut(self.count) {
            Some(free) if part.start >= end => {
                *free = part;
                self.count += 1;
            }
            _ => self.failed = true,
        }
    }
}

/// Takes down the segments of the first object, which is the program (dl_iterate_phdr(3)): `data` is a
/// [`Parts`].
///
/// # Safety
/// It is called by dl_iterate_phdr(3), with a pointer to a [`Parts`] that nobody else uses meanwhile.
unsafe extern "C" fn add(info: *mut libc::dl_phdr_info, _size: usize, data: *mut c_void) -> c_int {
    // SAFETY: by this function's contract.
    let parts = unsafe { &mut *data.cast::<Parts>() };
    // SAFETY: the C library's own description of a loaded object, valid during the call.
    let info = unsafe { &*info };
    if info.dlpi_phdr.is_null() {
        return 1;
    }
    // SAFETY: as above; there are that many headers, in memory of the object that is only read.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    // SAFETY: sysconf(3) has no memory to do with.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    *parts = Parts::of(info.dlpi_addr as usize, headers, page);
    1
}

impl Part {
    /// Replaces the range by one with the same content that is not of the former mount.
    fn replace(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        let private = libc::MAP_PRIVATE;
        if let Some(offset) = self.offset {
            let flags = private | libc::MAP_FIXED;
            let (start, fd) = (self.start as *mut c_void, file.as_raw_fd());
            // SAFETY: the range is of this program's code or constants, unchanged since the kernel mapped
            // it, and gets the same bytes of the same file at once: whoever reads or executes it sees no
            // difference. (`run_from` compared `file` with what was executed, and that with this program.)
            // A kernel that takes the range away, and has no memory for the new one, ends the process
            // here: nothing goes on with other bytes.
            let mapped = unsafe {
                libc::mmap(start, self.length, self.protection, flags, fd, offset as libc::off_t)
            };
            return if mapped == start { Ok(()) } else { Err(last_errno().into()) };
        }
        let (both, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            private | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
        );
        // SAFETY: a new range, where the kernel likes.
        let copy = unsafe { libc::mmap(ptr::null_mut(), self.length, both, flags, -1, 0) };
        if copy == libc::MAP_FAILED {
            return Err(last_errno().into());
        }
        let start = self.start as *mut c_void;
        // From here to mremap nothing writes to the program's data: the process has one thread (`run_from`), no
        // signal handler of this program's returns, and what is called writes none.
        // SAFETY: both ranges are `length` bytes, mapped, readable here and writable there, and apart.
        unsafe { ptr::copy_nonoverlapping(start.cast::<u8>(), copy.cast::<u8>(), self.length) };
        // SAFETY: of the new range, which is nobody else's yet.
        if unsafe { libc::mprotect(copy, self.length, self.protection) } != 0 {
            return Err(last_errno().into());
        }
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: the range that is replaced has the same content, so that no reference into it sees a
        // difference, and whoever writes to it later may.
        let moved = unsafe { libc::mremap(copy, self.length, self.length, flags, start) };
        if moved == start { Ok(()) } else { Err(last_errno().into()) }
    }
}

/// What `/proc/PID/stat` has (proc_pid_stat(5)) and PR_SET_MM_MAP wants.
#[derive(Debug, PartialEq, Eq)]
struct Fields {
    threads: u64,
    code: [u64; 2],
    stack: u64,
    data: [u64; 2],
    brk: u64,
    args: [u64; 2],
    env: [u64; 2],
}

/// `struct prctl_mm_map` of linux/prctl.h.
#[repr(C)]
struct Map {
    code: [u64; 2],
    data: [u64; 2],
    brk: [u64; 2],
    stack: u64,
    args: [u64; 2],
    env: [u64; 2],
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

impl Fields {
    fn parse(stat: &[u8]) -> Option<Self> {
        let mut fields = stat_from(20, stat)?;
        let mut skip = |count: usize| fields.nth(count)?.parse::<u64>().ok();
        Some(Self {
            threads: skip(0)?,
            code: [skip(26 - 21)?, skip(0)?],
            stack: skip(0)?,
            data: [skip(45 - 29)?, skip(0)?],
            brk: skip(0)?,
            args: [skip(0)?, skip(0)?],
            env: [skip(0)?, skip(0)?],
        })
    }

    fn set(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        const NONE: libc::c_ulong = 0; // a variadic function reads as many bytes
        // SAFETY: an address that is none asks for the present end alone (brk(2), "C library/kernel
        // differences").
        let brk = unsafe { libc::syscall(libc::SYS_brk, NONE) } as u64;
        let map = Map {
            code: self.code,
            data: self.data,
            brk: [self.brk, brk],
            stack: self.stack,
            args: self.args,
            env: self.env,
            auxv: 0,
            auxv_size: 0,
            exe_fd: file.as_raw_fd() as u32,
        };
        // SAFETY: the kernel reads the structure, of the size that it is told; all that it sets is what
        // is set, but the link to the file.
        let result = unsafe {
            let map_option = libc::PR_SET_MM_MAP as libc::c_ulong;
            libc::prctl(libc::PR_SET_MM, map_option, &raw const map, size_of::<Map>(), NONE)
        };
        if result == 0 { Ok(()) } else { Err(last_errno().into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 0x1000;

    fn header(p_type: u32, p_flags: u32, at: u64, p_filesz: u64) -> libc::Elf64_Phdr {
        libc::Elf64_Phdr {
            p_type,
            p_flags,
            p_offset: at,
            p_vaddr: at,
            p_paddr: at,
            p_filesz,
            p_memsz: p_filesz,
            p_align: PAGE as u64,
        }
    }

    #[test]
    fn segments_become_parts_of_whole_pages() {
        let (r, w, x) = (libc::PF_R, libc::PF_W, libc::PF_X);
        let headers = [
            header(libc::PT_LOAD, r, 0, 0x1800),
            header(libc::PT_LOAD, r | x, 0x2800, 0x100),
            header(libc::PT_LOAD, r | w, 0x3e00, 0x3000),
            header(libc::PT_GNU_RELRO, r, 0x3e00, 0x1200),
        ];
        let parts = Parts::of(0x40_0000, &headers, PAGE);
        let (read, write, execute) = (libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC);
        let found: Vec<_> = parts.all[..parts.count]
            .iter()
            .map(|part| (part.start - 0x40_0000, part.length, part.protection, part.offset))
            .collect();
        let expected = [
            (0, 0x2000, read, Some(0)),
            (0x2000, 0x1000, read | execute, Some(0x2000)),
            (0x3000, 0x2000, read, None),
            (0x5000, 0x2000, read | write, None),
        ];
        assert!(!parts.failed);
        assert_eq!(found, expected);
        // Where the kernel says that the code is which it executed.
        assert!(parts.contain(0x40_2800));
        for elsewhere in [0, 0x3f_ffff, 0x40_7000, 0x7f00_0000_1000] {
            assert!(!parts.contain(elsewhere), "{elsewhere:x}");
        }
    }

    #[test]
    fn a_program_of_another_make_is_left_alone() {
        let (r, w) = (libc::PF_R, libc::PF_W);
        // What becomes read-only begins in the middle of what is written to.
        let load = header(libc::PT_LOAD, r | w, 0x3000, 0x3000);
        assert!(Parts::of(0, &[load, header(libc::PT_GNU_RELRO, r, 0x4000, 0x1000)], PAGE).failed);
        // Two segments share a page.
        assert!(Parts::of(0, &[load, header(libc::PT_LOAD, r, 0x5800, 0x100)], PAGE).failed);
        let page = |number| header(libc::PT_LOAD, r, number * 0x1000, 0x10);
        let many: Vec<_> = (0..=MOST as u64).map(page).collect();
        assert!(Parts::of(0, &many, PAGE).failed);
        assert!(!Parts::of(0, &many[1..], PAGE).failed);
    }

    #[test]
    fn fields_of_proc_stat() {
        let rest: Vec<String> = (4..=52).map(|field| field.to_string()).collect();
        let text = format!("7 (a) b) c) R {}\n", rest.join(" "));
        let fields = Fields::parse(text.as_bytes()).unwrap();
        let expected = Fields {
            threads: 20,
            code: [26, 27],
            stack: 28,
            data: [45, 46],
            brk: 47,
            args: [48, 49],
            env: [50, 51],
        };
        assert_eq!(fields, expected);
        for wrong in ["", "7 (a) R 4 5", "7 (a R"] {
            assert_eq!(Fields::parse(wrong.as_bytes()), None);
        }
    }
}
