//! The one reader of tars: for the outer archive and for layers.
//!
//! Strict where readers disagree, since what one reader shows and another hides is how entries are smuggled:
//! the PAX size wins, for the next real entry only; an extended header stands once and before an entry.

use crate::Error;
use crate::entry::{Entry, Kind, Meta};
use crate::error::TarProblem;
use crate::header::{BLOCK, Fields, more_pieces};
use crate::limits::{Limit, Limits};
use crate::pax::Pax;
use crate::source::Input;
use crate::sparse::{MapReader, PaxForm, check_map, pax_form};

/// Entries, one after the other.
pub(crate) struct TarStream<'a, I> {
    input: I,
    limits: &'a Limits,
    what: &'a str,
    /// Bytes that are consumed.
    at: u64,
    header_at: u64,
    /// Bytes of the current entry's data, and of the padding after it, still to come.
    remaining: u64,
    padding: u64,
    global: Pax,
    entries: u64,
    end: End,
}

/// How a tar ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Not yet.
    NotYet,
    /// With the block of zeros that marks the end.
    Marked,
    /// With the last byte, between two entries: maybe cut off.
    Unmarked,
}

/// Extended headers that wait for their entry.
#[derive(Default)]
struct Extended {
    pax: Option<Pax>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<'a, I: Input> TarStream<'a, I> {
    pub(crate) fn new(input: I, limits: &'a Limits, what: &'a str) -> TarStream<'a, I> {
        let global = Pax::default();
        TarStream {
            input,
            limits,
            what,
            at: 0,
            header_at: 0,
            remaining: 0,
            padding: 0,
            global,
            entries: 0,
            end: End::NotYet,
        }
    }

    pub(crate) fn end(&self) -> End {
        self.end
    }

    pub(crate) fn into_input(self) -> I {
        self.input
    }

    fn broken(&self, problem: TarProblem) -> Error {
        Error::Tar { what: self.what.to_owned(), offset: self.header_at, problem }
    }

    /// The next entry, None at the end. What was left of the data before is passed over.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Error> {
        let mut extended = Extended::default();
        loop {
            self.pass(self.remaining + self.padding)?;
            (self.remaining, self.padding) = (0, 0);
            if self.end != End::NotYet {
                return Ok(None);
            }
            self.header_at = self.at;
            let waits =
                extended.pax.is_some() || extended.name.is_some() || extended.link.is_some();
            let Some(block) = self.block()? else {
                self.end = End::Unmarked;
                return if waits { Err(self.broken(TarProblem::Dangling)) } else { Ok(None) };
            };
            if block.iter().all(|byte| *byte == 0) {
                self.end = End::Marked;
                if waits {
                    return Err(self.broken(TarProblem::Dangling));
                }
                self.drain()?;
                return Ok(None);
            }
            self.entries += 1;
            self.limits.check(Limit::Entries, self.entries, self.what)?;
            let fields = Fields::new(&block).map_err(|problem| match self.header_at {
                0 => self.broken(TarProblem::NotATar),
                _ => self.broken(problem),
            })?;
            fields.check_magic().map_err(|problem| self.broken(problem))?;
            match fields.kind() {
                b'x' | b'X' => {
                    let bytes = self.extended_header(&fields)?;
                    let mut pax = self.global.clone();
                    pax.read(&bytes).map_err(|problem| self.broken(problem))?;
                    self.once(&mut extended.pax, pax)?;
                }
                b'g' => {
                    let bytes = self.extended_header(&fields)?;
                    let mut global = std::mem::take(&mut self.global);
                    global
                        .read(&bytes)
                        .and_then(|()| global.check_global())
                        .map_err(|problem| self.broken(problem))?;
                    self.global = global;
                }
                b'L' => {
                    let name = self.long_name(&fields, "GNU long name")?;
                    self.once(&mut extended.name, name)?;
                }
                b'K' => {
                    let link = self.long_name(&fields, "GNU long link")?;
                    self.once(&mut extended.link, link)?;
                }
                _ => return self.entry(&fields, extended).map(Some),
            }
        }
    }

    /// The next bytes of the entry's data; none once all are consumed.
    pub(crate) fn data(&mut self) -> Result<&[u8], Error> {
        let TarStream { input, what, header_at, remaining, .. } = self;
        if *remaining == 0 {
            return Ok(&[]);
        }
        let bytes = input.fill()?;
        if bytes.is_empty() {
            return Err(Error::Tar {
                what: (*what).to_owned(),
                offset: *header_at,
                problem: TarProblem::Truncated,
            });
        }
        let count = usize::try_from(*remaining).unwrap_or(usize::MAX).min(bytes.len());
        Ok(&bytes[..count])
    }

    /// `count` bytes of what `data` gave are done with.
    pub(crate) fn consume(&mut self, count: usize) {
        self.input.consume(count);
        self.at += count as u64;
        self.remaining -= (count as u64).min(self.remaining);
    }

    fn pass(&mut self, count: u64) -> Result<(), Error> {
        if !self.input.skip(count)? {
            return Err(self.broken(TarProblem::Truncated));
        }
        self.at += count;
        Ok(())
    }

    /// One block; None if the stream ends before it.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let bytes = self.input.fill()?;
            if bytes.is_empty() {
                if filled == 0 {
                    return Ok(None);
                }
                let problem = if self.at < BLOCK as u64 {
                    TarProblem::NotATar
                } else {
                    TarProblem::Truncated
                };
                return Err(self.broken(problem));
            }
            let count = bytes.len().min(BLOCK - filled);
            block[filled..filled + count].copy_from_slice(&bytes[..count]);
            self.input.consume(count);
            self.at += count as u64;
            filled += count;
        }
        Ok(Some(block))
    }

    /// After the end mark only zeros may follow.
    fn drain(&mut self) -> Result<(), Error> {
        loop {
            let bytes = self.input.fill()?;
            if bytes.iter().any(|byte| *byte != 0) {
                return Err(Error::TrailingGarbage { what: self.what.to_owned(), format: "tar" });
            }
            let count = bytes.len();
            if count == 0 {
                return Ok(());
            }
            self.input.consume(count);
            self.at += count as u64;
        }
    }

    fn once<T>(&self, place: &mut Option<T>, value: T) -> Result<(), Error> {
        match place.replace(value) {
            None => Ok(()),
            Some(_) => Err(self.broken(TarProblem::Twice)),
        }
    }

    fn start_data(&mut self, size: u64) {
        self.remaining = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    /// The data of an extended header, whose size is its own: a PAX size before it is not for it.
    fn extended_header(&mut self, fields: &Fields<'_>) -> Result<Vec<u8>, Error> {
        let size = fields.size().map_err(|problem| self.broken(problem))?;
        self.limits.check_at(Limit::Header, size, self.what, &fields.name())?;
        self.start_data(size);
        let mut out = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        loop {
            let bytes = self.data()?;
            let count = bytes.len();
            if count == 0 {
                return Ok(out);
            }
            out.extend_from_slice(bytes);
            self.consume(count);
        }
    }

    fn long_name(&mut self, fields: &Fields<'_>, field: &'static str) -> Result<Vec<u8>, Error> {
        let mut name = self.extended_header(fields)?;
        while name.last() == Some(&0) {
            name.pop();
        }
        if name.contains(&0) {
            return Err(self.broken(TarProblem::Nul(field)));
        }
        Ok(name)
    }

    fn entry(&mut self, fields: &Fields<'_>, extended: Extended) -> Result<Entry, Error> {
        let Extended { pax, name: gnu_name, link: gnu_link } = extended;
        let Pax { path, link, size, uid, gid, mtime, xattrs, sparse } =
            pax.unwrap_or_else(|| self.global.clone());
        let sparse_name = sparse.name.clone();
        let form = pax_form(sparse);
        let parse = || -> Result<Entry, TarProblem> {
            let name = one_name(sparse_name.or(path), gnu_name)?.unwrap_or_else(|| fields.name());
            if name.is_empty() {
                return Err(TarProblem::NoName);
            }
            Ok(Entry {
                kind: kind(fields, &name)?,
                name,
                link: one_name(link, gnu_link)?.unwrap_or_else(|| fields.link()),
                meta: Meta {
                    mode: fields.mode()?,
                    uid: id(uid.map_or_else(|| fields.uid(), Ok)?, "uid")?,
                    gid: id(gid.map_or_else(|| fields.gid(), Ok)?, "gid")?,
                    mtime: match mtime {
                        Some(time) => time,
                        None => crate::entry::Time { seconds: fields.mtime()?, nanos: 0 },
                    },
                    xattrs,
                },
                size: size.map_or_else(|| fields.size(), Ok)?,
                sparse: None,
                data_at: 0,
            })
        };
        let mut entry = parse().map_err(|problem| self.broken(problem))?;
        match entry.kind {
            Kind::File => {}
            // Some writers give a hard link the size of its target; no reader takes data for it.
            Kind::HardLink => entry.size = 0,
            _ if entry.size != 0 => return Err(self.broken(TarProblem::DataOfNothing)),
            _ => {}
        }
        let stored = entry.size;
        self.limits.check_at(Limit::Bytes, stored, self.what, &entry.name)?;
        self.start_data(stored);
        let old = fields.kind() == b'S';
        let map = match form.map_err(|problem| self.broken(problem))? {
            PaxForm::None if old => Some(self.old_map(fields, &mut entry.size)?),
            PaxForm::None => None,
            _ if old || entry.kind != Kind::File => return Err(self.broken(TarProblem::Sparse)),
            PaxForm::Records(map, size) => {
                entry.size = size;
                Some(map)
            }
            PaxForm::InData(size) => {
                entry.size = size;
                Some(self.map_in_data()?)
            }
        };
        if let Some(map) = &map {
            check_map(map, self.remaining, entry.size).map_err(|problem| self.broken(problem))?;
            self.limits.check_at(Limit::Bytes, entry.size, self.what, &entry.name)?;
        }
        entry.sparse = map;
        entry.data_at = self.at;
        Ok(entry)
    }

    /// GNU's old format: four pieces in the header, more in blocks after it.
    fn old_map(&mut self, fields: &Fields<'_>, size: &mut u64) -> Result<Vec<(u64, u64)>, Error> {
        let (mut map, real, mut more) = fields.sparse().map_err(|problem| self.broken(problem))?;
        while more {
            let block = self.block()?.ok_or_else(|| self.broken(TarProblem::Truncated))?;
            let (pieces, again) = more_pieces(&block).map_err(|problem| self.broken(problem))?;
            map.extend(pieces);
            self.limits.check(Limit::Header, map.len() as u64 * 24, self.what)?;
            more = again;
        }
        *size = real;
        Ok(map)
    }

    /// Format 1.0: the map fills whole blocks at the start of the data.
    fn map_in_data(&mut self) -> Result<Vec<(u64, u64)>, Error> {
        let mut map = MapReader::default();
        let mut used = 0;
        loop {
            if self.remaining < BLOCK as u64 {
                return Err(self.broken(TarProblem::Sparse));
            }
            used += BLOCK as u64;
            self.limits.check(Limit::Header, used, self.what)?;
            let block = self.block()?.ok_or_else(|| self.broken(TarProblem::Truncated))?;
            self.remaining -= BLOCK as u64;
            if map.feed(&block).map_err(|problem| self.broken(problem))? {
                return Ok(map.finish());
            }
        }
    }
}

/// The long name of an entry; two that differ are an error, since readers do not agree which one counts.
fn one_name(pax: Option<Vec<u8>>, gnu: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, TarProblem> {
    match (pax, gnu) {
        (Some(pax), Some(gnu)) if pax != gnu => Err(TarProblem::TwoNames),
        (pax, gnu) => Ok(pax.or(gnu)),
    }
}

fn id(value: u64, field: &'static str) -> Result<u32, TarProblem> {
    // The last value is "no change" for chown(2), and no id.
    u32::try_from(value).ok().filter(|id| *id != u32::MAX).ok_or(TarProblem::Range(field))
}

fn kind(fields: &Fields<'_>, name: &[u8]) -> Result<Kind, TarProblem> {
    let device = || {
        let (major, minor) = fields.device()?;
        let part = |value, field| u32::try_from(value).map_err(|_| TarProblem::Range(field));
        Ok((part(major, "device major")?, part(minor, "device minor")?))
    };
    Ok(match fields.kind() {
        // As GNU tar and libarchive: so directories were written before POSIX. Data of such a one, which others
        // make a file of, is refused as that of any directory.
        0 | b'0' | b'7' if name.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => device().map(|(major, minor)| Kind::Character(major, minor))?,
        b'4' => device().map(|(major, minor)| Kind::Block(major, minor))?,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => return Err(TarProblem::Type(char::from(other))),
    })
}
