//! A linker script of the sections that are needed: first by the names that this build has for them, then by what other
//! builds have in common with it.

use std::collections::HashSet;

use super::map::Section;

/// The program's section for what is needed.
pub(crate) const COMMON: &str = ".text.common";

/// How the C library names a function's variants, of which another processor takes another.
const PROCESSORS: [&str; 6] = ["avx", "erms", "evex", "fma", "sse", "ssse"];

/// What the linker finds a section by.
#[derive(Debug, PartialEq)]
pub(crate) struct Patterns {
    /// In a build by the same compiler from the same lock file.
    pub(crate) exact: String,
    /// In others.
    loose: Option<String>,
}

impl Patterns {
    /// None where the section cannot be told from others.
    pub(crate) fn of(section: &Section) -> Option<Self> {
        let name = &section.name[..];
        match name {
            // One function in two pieces, the begin and the end, which have to stay together.
            ".init" | ".fini" => {
                return Some(Self { exact: format!("KEEP(*(SORT_NONE({name})))"), loose: None });
            }
            // The ways to what is chosen by the processor: the linker's own.
            ".iplt" => return Some(Self { exact: "*(.iplt)".to_owned(), loose: None }),
            _ => {}
        }
        if let Some(function) = name.strip_prefix(".text.").filter(|_| is_compiled(&section.file)) {
            let function = without_hashes(function.strip_prefix("unlikely.").unwrap_or(function));
            // What LLVM holds for seldom is apart by its name.
            let loose = format!("*(.text.{function} .text.unlikely.{function})");
            return Some(Self { exact: format!("*({name})"), loose: Some(loose) });
        }
        if !name.starts_with(".text") {
            return None;
        }
        let file = section.file.rsplit('/').next().unwrap_or_default();
        let Some((archive, member)) = file.strip_suffix(')').and_then(|file| file.split_once('('))
        else {
            // What begins and ends each program, of which there are some for each kind of program.
            let start =
                ["crt1", "crtbegin", "crtend"].into_iter().find(|start| file.contains(start))?;
            return Some(Self { exact: format!("*{start}*.o({name})"), loose: None });
        };
        let archive = archive.strip_suffix(".a")?;
        // libm's has its version in its name.
        let archive =
            archive.split_once('-').map_or(archive.to_owned(), |(name, _)| format!("{name}-*"));
        let exact = format!("*{archive}.a:{member}({name})");
        let all = match member.split_once('-') {
            Some((name, variant)) if PROCESSORS.iter().any(|one| variant.starts_with(one)) => {
                format!("{name}-*.o")
            }
            _ => member.to_owned(),
        };
        Some(Self { exact, loose: Some(format!("*{archive}.a:{all}(.text .text.*)")) })
    }
}

/// Whether each function of the file has a section of its own: what rustc compiles, and what crates have compiled.
fn is_compiled(file: &str) -> bool {
    file.ends_with(".rcgu.o") || file.contains(".rlib(")
}

/// The script for a program whose needed sections these are, in the order in which it needs them.
pub(crate) fn script(program: &str, needed: &[Patterns]) -> String {
    let mut seen = HashSet::new();
    let mut lines = |patterns: &mut dyn Iterator<Item = &str>| -> String {
        patterns
            .filter(|&line| seen.insert(line.to_owned()))
            .map(|line| format!("    {line}\n"))
            .collect()
    };
    let exact = lines(&mut needed.iter().map(|patterns| &patterns.exact[..]));
    let loose = lines(&mut needed.iter().filter_map(|patterns| patterns.loose.as_deref()));
    format!(
        "/* By `cargo xtask layout`: what {program}'s common commands need, as they come to it. */\nSECTIONS {{\n  \
         {COMMON} : {{\n{exact}    /* What these are in other builds. */\n{loose}  }}\n}}\nINSERT BEFORE .text;\n"
    )
}

/// A mangled name with `*` for what differs from build to build: of the older mangling the hash of 16 digits at its end, of
/// the newer one each crate's (`Cs…_`), and what LTO adds.
fn without_hashes(name: &str) -> String {
    let name = name.split_once(".llvm.").map_or(name, |(name, _)| name);
    if let Some(start) = name.strip_suffix('E').and_then(|name| name.len().checked_sub(19))
        && name.starts_with("_ZN")
        && name[start..].starts_with("17h")
    {
        return format!("{}17h*", &name[..start]);
    }
    let mut parts = name.split("Cs");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(part.len());
        match part[digits..].starts_with('_') && digits > 0 {
            true => text.push_str(&format!("Cs*{}", &part[digits..])),
            false => text.push_str(&format!("Cs{part}")),
        }
    }
    if text.starts_with("_R") { text + "*" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(file: &str, name: &str) -> Section {
        let (file, name, out) = (file.to_owned(), name.to_owned(), ".text".to_owned());
        Section { start: 0, end: 1, file, name, out }
    }

    fn patterns(file: &str, name: &str) -> (String, String) {
        let patterns = Patterns::of(&section(file, name)).expect("it can be placed");
        (patterns.exact, patterns.loose.unwrap_or_default())
    }

    #[test]
    fn what_differs_from_build_to_build_is_left_out() {
        let old = "_ZN3sys7process5ended17h0123456789abcdefE";
        assert_eq!(without_hashes(old), "_ZN3sys7process5ended17h*");
        assert_eq!(without_hashes(&format!("{old}.llvm.12345")), "_ZN3sys7process5ended17h*");
        let new = "_RNvNtCs6d7GoaNTBIz_3sys7process5ended";
        assert_eq!(without_hashes(new), "_RNvNtCs*_3sys7process5ended*");
        let part = "_RNvNtCs6d7GoaNTBIz_3sys4Csum";
        assert_eq!(without_hashes(part), "_RNvNtCs*_3sys4Csum*");
    }

    #[test]
    fn a_function_is_found_by_its_name() {
        let name = "_ZN1a1b17h0123456789abcdefE";
        let loose = "*(.text._ZN1a1b17h* .text.unlikely._ZN1a1b17h*)";
        for name in [format!(".text.{name}"), format!(".text.unlikely.{name}.llvm.1")] {
            let expected = (format!("*({name})"), loose.to_owned());
            assert_eq!(patterns("/target/a.b-cgu.0.rcgu.o.rcgu.o", &name), expected);
        }
        let c = patterns("/target/libzstd_sys-01.rlib(02-huf.o)", ".text.HUF_x");
        assert_eq!(c, ("*(.text.HUF_x)".into(), "*(.text.HUF_x .text.unlikely.HUF_x)".into()));
    }

    #[test]
    fn what_has_no_names_is_found_by_its_file() {
        let of_libc = |member: &str, name| patterns(&format!("/lib/libc.a({member})"), name);
        let expected = ("*libc.a:malloc.o(.text)", "*libc.a:malloc.o(.text .text.*)");
        assert_eq!(of_libc("malloc.o", ".text"), (expected.0.into(), expected.1.into()));
        let expected = ("*libc.a:strlen-evex.o(.text.evex)", "*libc.a:strlen-*.o(.text .text.*)");
        assert_eq!(of_libc("strlen-evex.o", ".text.evex"), (expected.0.into(), expected.1.into()));
        let expected = ("*libc.a:dl-load.o(.text)", "*libc.a:dl-load.o(.text .text.*)");
        assert_eq!(of_libc("dl-load.o", ".text"), (expected.0.into(), expected.1.into()));
        let expected = ("*libm-*.a:e_log2.o(.text)", "*libm-*.a:e_log2.o(.text .text.*)");
        let of_libm = patterns("/lib/libm-2.36.a(e_log2.o)", ".text");
        assert_eq!(of_libm, (expected.0.into(), expected.1.into()));
        let start = |file| patterns(file, ".text").0;
        assert_eq!(start("/lib/../rcrt1.o"), "*crt1*.o(.text)");
        assert_eq!(start("/lib/gcc/crtbeginS.o"), "*crtbegin*.o(.text)");
        assert_eq!(patterns("/lib/crti.o", ".init").0, "KEEP(*(SORT_NONE(.init)))");
        assert_eq!(patterns("<internal>", ".iplt").0, "*(.iplt)");
    }

    #[test]
    fn what_cannot_be_told_apart_has_no_pattern() {
        let none = [
            ("<internal>", ".text"),
            ("/target/a.rcgu.o", ".text"),
            ("/target/libring-01.rlib(02-aes.o)", ".text"),
            ("/lib/libc.a(free.o)", "__libc_freeres_fn"),
        ];
        for (file, name) in none {
            assert_eq!(Patterns::of(&section(file, name)), None, "{file} {name}");
        }
    }

    #[test]
    fn a_script_has_each_pattern_once_and_the_exact_ones_first() {
        let function = |hash: &str| section("a.rcgu.o", &format!(".text._ZN1a17h{hash}E"));
        let sections = [
            function("000000000000000b"),
            section("crti.o", ".init"),
            function("000000000000000a"),
            section("crtn.o", ".init"),
        ];
        let patterns: Vec<_> = sections.iter().filter_map(Patterns::of).collect();
        let script = script("x", &patterns);
        let lines: Vec<&str> = script.lines().map(str::trim).collect();
        let expected = [
            "SECTIONS {",
            ".text.common : {",
            "*(.text._ZN1a17h000000000000000bE)",
            "KEEP(*(SORT_NONE(.init)))",
            "*(.text._ZN1a17h000000000000000aE)",
            "/* What these are in other builds. */",
            "*(.text._ZN1a17h* .text.unlikely._ZN1a17h*)",
            "}",
            "}",
            "INSERT BEFORE .text;",
        ];
        assert_eq!(lines[1..], expected);
    }
}
