//! The linker's own map: which section of which file lies at an address of the program.

use anyhow::{Result, ensure};

/// The columns of a map of LLD's. Those of other linkers have others.
const COLUMNS: [&str; 7] = ["VMA", "LMA", "Size", "Align", "Out", "In", "Symbol"];

/// What the linker took whole from a file.
#[derive(Debug, PartialEq)]
pub(crate) struct Section {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// An object, an archive's member as `ARCHIVE(MEMBER)`, or `<internal>`.
    pub(crate) file: String,
    pub(crate) name: String,
    /// The program's section that it is in.
    pub(crate) out: String,
}

/// A program's sections, in the order of their addresses.
pub(crate) struct Map {
    pub(crate) sections: Vec<Section>,
}

impl Map {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        let columns: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
        ensure!(
            columns == COLUMNS,
            "it is not a map as LLD writes it, which rustc links with here"
        );
        let (mut sections, mut out) = (Vec::new(), String::new());
        for (start, size, rest) in lines.filter_map(fields) {
            let name = rest.trim_start();
            match rest.len() - name.len() {
                0 => name.clone_into(&mut out),
                8 if size > 0 => {
                    // FILE:(NAME); what a script assigns has no file.
                    let of_file = name.strip_suffix(')').and_then(|name| name.rsplit_once(":("));
                    sections.extend(of_file.map(|(file, name)| Section {
                        start,
                        end: start + size,
                        file: file.to_owned(),
                        name: name.to_owned(),
                        out: out.clone(),
                    }));
                }
                // A symbol.
                _ => {}
            }
        }
        sections.sort_by_key(|section| section.start);
        ensure!(!sections.is_empty(), "it names no section");
        Ok(Self { sections })
    }

    /// The section at an address, by its index.
    pub(crate) fn at(&self, address: u64) -> Option<usize> {
        let after = self.sections.partition_point(|section| section.start <= address);
        after.checked_sub(1).filter(|&at| address < self.sections[at].end)
    }
}

/// Start, size, and what comes after the alignment and a space: its depth tells what it is.
fn fields(line: &str) -> Option<(u64, u64, &str)> {
    let mut rest = line;
    let mut field = || {
        rest = rest.trim_start();
        let (field, after) = rest.split_once(' ')?;
        rest = after;
        Some(field)
    };
    let [start, _, size, _] = [field()?, field()?, field()?, field()?];
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some((number(start)?, number(size)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
             VMA              LMA     Size Align Out     In      Symbol
            4d40             4d40      104    16 .text.common
            4d40             4d40       22    16         /lib dir/rcrt1.o:(.text)
            4d40             4d40       22     1                 _start
            4d70             4d70       d4    16         main.rcgu.o:(.text._ZN1a1b17h0123456789abcdefE)
            4d70             4d70       d4     1                 _ZN1a1b17h0123456789abcdefE
            4e44             4e44        0     1                 . = ALIGN ( 4 )
            4e50             4e50       20    16 .text
            4e50             4e50       20    16         /lib/libc.a(close.o):(.text)
            4e50             4e50        0     4         /lib/libc.a(empty.o):(.text)
";

    #[test]
    fn an_address_has_its_section() {
        let map = Map::parse(TEXT).expect("a map");
        let of = |address| {
            map.at(address).map(|at| {
                let section = &map.sections[at];
                (&section.file[..], &section.name[..], &section.out[..])
            })
        };
        assert_eq!(of(0x4d3f), None);
        assert_eq!(of(0x4d40), Some(("/lib dir/rcrt1.o", ".text", ".text.common")));
        assert_eq!(of(0x4d61), Some(("/lib dir/rcrt1.o", ".text", ".text.common")));
        assert_eq!(of(0x4d62), None, "between two");
        let function = ".text._ZN1a1b17h0123456789abcdefE";
        assert_eq!(of(0x4e43), Some(("main.rcgu.o", function, ".text.common")));
        assert_eq!(of(0x4e50), Some(("/lib/libc.a(close.o)", ".text", ".text")));
        assert_eq!(map.sections.len(), 3);
    }

    #[test]
    fn another_linkers_map_is_refused() {
        for text in ["", "Archive member included to satisfy reference by file (symbol)\n"] {
            let error = Map::parse(text).err().expect("refused");
            assert!(error.to_string().contains("LLD"), "{error}");
        }
        let columns = TEXT.lines().next().expect("a line");
        assert!(Map::parse(columns).is_err(), "no section");
    }
}
