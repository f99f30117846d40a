//! Calls of 32-bit ARM that are outside its table (arch/arm/include/uapi/asm/unistd.h).

const BASE: u32 = 0x000f_0000;

pub(super) fn private(name: &str) -> Option<u32> {
    let number = match name {
        "breakpoint" => 1,
        "cacheflush" => 2,
        "usr26" => 3,
        "usr32" => 4,
        "set_tls" => 5,
        "get_tls" => 6,
        _ => return None,
    };
    Some(BASE + number)
}
