//! What a program does before all else, when nothing of it is in memory yet: it goes over to a read-only mount of its own
//! file ([`crate::executable`] says why and how). Later that costs 0.2 ms: code that was mapped is unmapped and mapped again,
//! and each page that the start has written to (the addresses in a position-independent program) is copied.
//!
//! A program has this by its entry point, `runtime_start` in place of the C library's `_start`, which is gone on to; that is
//! a linker's option (`-e runtime_start`). Without it, on another processor, and where a step fails, nothing is done, and
//! [`moved_from`] says so. It is done for who has `run`, `create` or `exec` among its arguments and is not called `docker-init`.
//!
//! Where one of the first three descriptors is closed nothing is done either: what is opened here would be in its place.
//!
//! There is no C library yet, no relocation was applied, and there is no function that a compiler may call for a copy: so that
//! it is in assembly.

use std::path::PathBuf;

/// Where the program was executed from, if it went over to a read-only mount of that file.
pub fn moved_from() -> Option<PathBuf> {
    #[cfg(target_arch = "x86_64")]
    {
        use std::ffi::{CStr, OsStr};
        use std::os::unix::ffi::OsStrExt as _;
        let path = CStr::from_bytes_until_nul(&runtime_entry_path).ok()?;
        (runtime_entry_moved != 0).then(|| OsStr::from_bytes(path.to_bytes()).into())
    }
    #[cfg(not(target_arch = "x86_64"))]
    None
}

// SAFETY: they are defined below, of these sizes and zero at first; the entry alone writes to them, and before all else.
#[cfg(target_arch = "x86_64")]
unsafe extern "C" {
    /// 1 if the program went over.
    safe static runtime_entry_moved: i32;
    /// What it was executed from, with a zero behind.
    safe static runtime_entry_path: [u8; 1024];
}

// Invariants. At the entry, rsp points to argc, and behind it lie argv, the environment and the auxiliary vector, each with a zero at
// its end (System V ABI, AMD64, "Process Initialization"); rdx goes to `_start` as it is. Of the program's memory only code and
// constants are read until the segments are mapped again, with the bytes of the same file at the same addresses, so that
// what is executed here is the same before and after; of the writable ones nothing was written yet, so that
// the file's bytes are what they hold, with zeros behind them to the end of the page, as the kernel makes it.
// A failure before the first mapping, and one of the last two steps, leaves the process as it was for all that
// follows; a segment that cannot be mapped leaves none, and ends it.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    r#"
    .section .rodata.runtime_start,"a",@progbits
.Lruntime_exe:
    .asciz "/proc/self/exe"
.Lruntime_fds:
    .ascii "/proc/self/fd/"
.Lruntime_init:
    .ascii "docker-i"
.Lruntime_none:
    .byte 0
.Lruntime_lost:
    .ascii "the program cannot be mapped from a read-only mount of its file: there is no memory, or a security module refuses it\n"
    .equ .Lruntime_lost_length, . - .Lruntime_lost

    .section .bss.runtime_start,"aw",@nobits
    .balign 4
    .globl runtime_entry_moved
runtime_entry_moved:
    .skip 4
    .globl runtime_entry_path
runtime_entry_path:
    .skip 1024

    .section .text.runtime_start,"ax",@progbits
    .weak _start
    .globl runtime_start
    .type runtime_start,@function
runtime_start:
    mov r15, rsp
    mov r14, rdx
    sub rsp, 512
    // [rsp] struct prctl_mm_map, of 104 bytes; before that is made, what system calls are given
    // [rsp+256] headers, [rsp+264] their number, [rsp+272] last string, [rsp+280] first variable

    // A container's init is in the container, whose filter may know no such calls.
    mov rdi, [r15 + 8]
    test rdi, rdi
    jz 99f
    xor eax, eax
    mov rcx, -1
    repne scasb
    cmp dword ptr [rdi - 4], 0x0074696e // "nit"
    jne 22f
    mov rax, [rip + .Lruntime_init]
    cmp [rdi - 12], rax
    je 99f
22:
    // Is a verb among the arguments? Behind the last string lie more than eight bytes.
    lea r12, [r15 + 8]
2:  add r12, 8
    mov rdi, [r12]
    test rdi, rdi
    jz 99f
    mov eax, [rdi]
    cmp eax, 0x006e7572 // "run"
    je 3f
    cmp eax, 0x63657865 // "exec"
    jne 21f
    cmp byte ptr [rdi + 4], 0
    je 3f
21: cmp eax, 0x61657263 // "crea", "te"
    jne 2b
    cmp word ptr [rdi + 4], 0x6574
    jne 2b
    cmp byte ptr [rdi + 6], 0
    jne 2b

    // The strings and the auxiliary vector.
3:  mov rcx, [r15]
    lea rsi, [r15 + rcx * 8 + 16]
    mov rax, [rsi]
    mov [rsp + 280], rax
    mov rax, [rsi - 16]
31: mov [rsp + 272], rax
    mov rax, [rsi]
    add rsi, 8
    test rax, rax
    jnz 31b
    xor ebx, ebx
    xor ebp, ebp
4:  mov rax, [rsi]
    mov rdx, [rsi + 8]
    add rsi, 16
    cmp rax, 3 // AT_PHDR
    cmove rbx, rdx
    cmp rax, 5 // AT_PHNUM
    cmove rbp, rdx
    cmp rax, 7 // AT_BASE: a dynamic loader has written to the program
    jne 41f
    test rdx, rdx
    jnz 99f
41: test rax, rax
    jnz 4b
    test rbx, rbx
    jz 99f
    mov [rsp + 256], rbx
    mov [rsp + 264], rbp

    // open("/proc/self/exe", O_PATH | O_CLOEXEC)
    lea rdi, [rip + .Lruntime_exe]
    mov esi, 0x280000
    xor edx, edx
    mov eax, 2
    syscall
    test eax, eax
    js 99f
    mov r12d, eax
    // the lowest number that is free
    cmp eax, 3
    jb 98f
    // fstatfs: nothing to do on a mount that is read-only (ST_RDONLY)
    mov edi, r12d
    mov rsi, rsp
    mov eax, 138
    syscall
    test eax, eax
    js 98f
    test byte ptr [rsp + 80], 1
    jnz 98f
    // open_tree(own, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH)
    mov edi, r12d
    lea rsi, [rip + .Lruntime_none]
    mov edx, 0x81001
    mov eax, 428
    syscall
    test eax, eax
    js 98f
    mov r13d, eax
    // mount_setattr(tree, "", AT_EMPTY_PATH, MOUNT_ATTR_RDONLY)
    mov qword ptr [rsp], 1
    mov qword ptr [rsp + 8], 0
    mov qword ptr [rsp + 16], 0
    mov qword ptr [rsp + 24], 0
    mov edi, r13d
    lea rsi, [rip + .Lruntime_none]
    mov edx, 0x1000
    mov r10, rsp
    mov r8d, 32
    mov eax, 442
    syscall
    test eax, eax
    js 97f
    // open("/proc/self/fd/TREE", O_RDONLY | O_CLOEXEC)
    lea rdi, [rsp + 63]
    mov byte ptr [rdi], 0
    mov eax, r13d
    mov ecx, 10
5:  xor edx, edx
    div ecx
    add dl, 48
    dec rdi
    mov [rdi], dl
    test eax, eax
    jnz 5b
    sub rdi, 14
    mov rax, [rip + .Lruntime_fds]
    mov [rdi], rax
    mov rax, [rip + .Lruntime_fds + 6]
    mov [rdi + 6], rax
    mov esi, 0x80000
    xor edx, edx
    mov eax, 2
    syscall
    test eax, eax
    js 97f
    mov ebp, eax

    // Where the program lies: the file's beginning, behind whose header linkers put these headers, less the place that it
    // is linked to.
    mov rbx, [rsp + 256]
    sub rbx, 64
    test ebx, 4095
    jnz 96f
    cmp dword ptr [rbx], 0x464c457f // ELF
    jne 96f
    // pread: a loader that was told to run the program is another file, whose header says so
    mov edi, ebp
    mov rsi, rsp
    mov edx, 64
    xor r10d, r10d
    mov eax, 17
    syscall
    cmp eax, 64
    jne 96f
    mov rdi, rbx
    mov ecx, 8
    repe cmpsq
    jne 96f
    mov rsi, [rsp + 256]
    mov rcx, [rsp + 264]
6:  sub rcx, 1
    js 96f
    cmp dword ptr [rsi], 1 // PT_LOAD
    jne 61f
    cmp qword ptr [rsi + 8], 0
    je 62f
61: add rsi, 56
    jmp 6b
62: sub rbx, [rsi + 16]

    // The segments, as the kernel maps them, and their ends, as it notes them.
    mov qword ptr [rsp], -1
    mov qword ptr [rsp + 8], 0
    mov qword ptr [rsp + 16], 0
    mov qword ptr [rsp + 24], 0
7:  mov rdi, [rsp + 256]
    sub qword ptr [rsp + 264], 1
    js 8f
    add qword ptr [rsp + 256], 56
    cmp dword ptr [rdi], 1 // PT_LOAD
    jne 7b
    mov r9, [rdi + 8]
    mov r8d, [rdi + 4]
    mov rsi, [rdi + 32]
    mov r10, [rdi + 40]
    mov rdi, [rdi + 16]
    add rdi, rbx
    lea rax, [rdi + rsi]
    cmp rdi, [rsp + 16]
    jbe 71f
    mov [rsp + 16], rdi
71: cmp rax, [rsp + 24]
    jbe 72f
    mov [rsp + 24], rax
72: test r8b, 1 // PF_X
    jz 74f
    cmp rdi, [rsp]
    jae 73f
    mov [rsp], rdi
73: cmp rax, [rsp + 8]
    jbe 74f
    mov [rsp + 8], rax
    // What lies behind the bytes of the file to the end of the page is zero, if it may be written to.
74: test rsi, rsi
    jz 7b
    xor ecx, ecx
    test r8b, 2 // PF_W
    jz 75f
    cmp r10, rsi
    jbe 75f
    mov ecx, eax
    neg ecx
    and ecx, 4095
75: mov [rsp + 288], rax
    mov [rsp + 296], rcx
    // PROT_READ is 1 and PROT_EXEC 4, PF_X 1 and PF_R 4
    mov edx, r8d
    and edx, 2
    mov eax, r8d
    and eax, 1
    shl eax, 2
    or edx, eax
    shr r8d, 2
    and r8d, 1
    or edx, r8d
    // whole pages
    mov rax, rdi
    and eax, 4095
    sub rdi, rax
    add rsi, rax
    sub r9, rax
    // MAP_PRIVATE | MAP_FIXED, and what is written to at once: MAP_POPULATE, for a fault of each page would cost more
    mov r10d, 0x12
    test edx, 2
    jz 76f
    mov r10d, 0x8012
76:
    mov r8d, ebp
    mov eax, 9
    syscall
    cmp rax, rdi
    jne 95f
    mov rdi, [rsp + 288]
    mov rcx, [rsp + 296]
    xor eax, eax
    rep stosb
    jmp 7b

    // brk(0): as it was made, since nothing has moved it
8:  xor edi, edi
    mov eax, 12
    syscall
    mov [rsp + 32], rax
    mov [rsp + 40], rax
    mov [rsp + 48], r15
    // the strings: the arguments, and behind them the variables
    mov rdi, [rsp + 272]
    xor eax, eax
    mov rcx, -1
    repne scasb
    mov [rsp + 80], rdi
    mov rdx, [rsp + 280]
    test rdx, rdx
    cmovz rdx, rdi
    mov [rsp + 72], rdx
    mov [rsp + 64], rdx
    mov rax, [r15 + 8]
    mov [rsp + 56], rax
    // no other auxiliary vector, and the file
    mov qword ptr [rsp + 88], 0
    mov dword ptr [rsp + 96], 0
    mov [rsp + 100], ebp

    // readlink, before the link leads elsewhere
    lea rdi, [rip + .Lruntime_exe]
    lea rsi, [rip + runtime_entry_path]
    mov edx, 1024
    mov eax, 89
    syscall
    sub eax, 1
    cmp eax, 1023
    jae 96f
    // prctl(PR_SET_MM, PR_SET_MM_MAP, map, sizeof map, 0)
    mov edi, 35
    mov esi, 14
    mov rdx, rsp
    mov r10d, 104
    xor r8d, r8d
    mov eax, 157
    syscall
    test eax, eax
    jnz 96f
    mov dword ptr [rip + runtime_entry_moved], 1
    jmp 96f

95: mov edi, 2
    lea rsi, [rip + .Lruntime_lost]
    mov edx, offset .Lruntime_lost_length
    mov eax, 1
    syscall
    mov edi, 125
    mov eax, 231
    syscall
    ud2
96: mov edi, ebp
    mov eax, 3
    syscall
    // The last of the mount: who got to it by /proc/PID/exe could change it as long as this is open.
97: mov edi, r13d
    mov eax, 3
    syscall
98: mov edi, r12d
    mov eax, 3
    syscall
99: mov rsp, r15
    mov rdx, r14
    jmp _start
    .size runtime_start, . - runtime_start
    .text
    "#
);
