//! Who a process runs as: `name|uid[:group|gid]` and the image's own `/etc/passwd` and `/etc/group`.

use std::ffi::CStr;
use std::io::Read;
use std::os::fd::BorrowedFd;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::Error;
use crate::error::shorten;
use crate::near::near;

/// Largest `/etc/passwd` or `/etc/group`, bytes: an image may come with an endless one.
const FILE_MAX: u64 = 4 << 20;
const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// A user, as a process needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub uid: u32,
    /// The id of its group.
    pub gid: u32,
    /// All its groups' ids, the own first: who is not in its own group could be kept out by it, and
    /// let in without (CVE-2022-36109).
    pub groups: Vec<u32>,
    /// Its home directory; `/` where none is known.
    pub home: String,
    /// Its name, if it has one.
    pub name: Option<String>,
}

/// Finds `text` (`name|uid[:group|gid]`, empty for root) below an image's root, by Docker's rules: a
/// number needs no entry; without a group it is the entry's, and the user is in all groups that list
/// it; with one it is in that group only.
///
/// The files are opened below `root`, must be regular ones and not large (CVE-2024-9676). An id that
/// is no u32, or the one that means "no change" to the kernel, is an error (CVE-2024-40635).
///
/// # Errors
/// [`Error::Invalid`] for the text, [`Error::UnknownUser`], [`Error::UnknownGroup`],
/// [`Error::ImageFile`] for what the image has in place of the files.
pub fn resolve(root: BorrowedFd<'_>, text: &str) -> Result<User, Error> {
    let (user, group) = parse(text)?;
    let passwd = read(root, c"/etc/passwd", PASSWD)?;
    let entry = find_user(passwd.as_deref(), &user)?;
    let (uid, gid) = match (&entry, &user) {
        (Some(entry), _) => (entry.uid()?, entry.gid(group.is_none())?),
        (None, Who::Id(uid)) => (*uid, 0),
        (None, Who::Name(name)) => {
            let known = names(passwd.as_deref(), name);
            return Err(Error::UnknownUser {
                name: shorten(name),
                no_file: passwd.is_none(),
                known,
            });
        }
    };
    let name = entry.as_ref().map(|entry| entry.name.clone());
    let mut found = User { uid, gid, groups: vec![gid], home: "/".to_owned(), name };
    if let Some(entry) = entry.filter(|entry| !entry.home.is_empty()) {
        found.home = entry.home;
    }
    if let Some(Who::Id(gid)) = group {
        (found.gid, found.groups) = (gid, vec![gid]);
    } else if group.is_some() || found.name.is_some() {
        let file = read(root, c"/etc/group", GROUP)?;
        match group {
            Some(Who::Name(name)) => {
                let gid = find_group(file.as_deref(), &name)?;
                (found.gid, found.groups) = (gid, vec![gid]);
            }
            _ => found.join_groups(file.as_deref().unwrap_or_default()),
        }
    }
    Ok(found)
}

/// The id of a group by its name or number, of the image's files below `root`.
///
/// # Errors
/// As [`resolve`].
pub(crate) fn group(root: BorrowedFd<'_>, text: &str) -> Result<u32, Error> {
    match who(text).map_err(|why| Error::invalid("group", text, why))? {
        Who::Id(gid) => Ok(gid),
        Who::Name(name) => find_group(read(root, c"/etc/group", GROUP)?.as_deref(), &name),
    }
}

/// A user or group as it is named.
#[derive(Debug, PartialEq)]
enum Who {
    Id(u32),
    Name(String),
}

fn parse(text: &str) -> Result<(Who, Option<Who>), Error> {
    let bad = |why| Error::invalid("user", text, why);
    if text.is_empty() {
        return Ok((Who::Id(0), None));
    }
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    if user.is_empty() {
        return Err(bad("there is no user before the colon; write 0 for root"));
    }
    if group == Some("") {
        return Err(bad(
            "there is no group behind the colon; leave the colon out, or name a group",
        ));
    }
    if group.is_some_and(|group| group.contains(':')) {
        return Err(bad("it has more than one colon; write user:group"));
    }
    let who = |text: &str| who(text).map_err(bad);
    Ok((who(user)?, group.map(who).transpose()?))
}

fn who(text: &str) -> Result<Who, &'static str> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if text.strip_prefix('-').is_some_and(digits) {
        return Err("an id is 0 to 4294967294, and this is less");
    }
    if !digits(text) {
        return Ok(Who::Name(text.to_owned()));
    }
    id(text).map(Who::Id).ok_or("an id is 0 to 4294967294, and this is more")
}

/// An id; (uid_t)-1 is none: setuid(2) and chown(2) take it for "leave it as it is".
fn id(digits: &str) -> Option<u32> {
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None; // a sign, which `parse` would take
    }
    digits.parse().ok().filter(|&id| id != u32::MAX)
}

/// A line of passwd(5). The ids are still text: one that is none must not become root's.
struct Entry {
    name: String,
    uid: String,
    gid: String,
    home: String,
}

impl Entry {
    fn parse(line: &str) -> Entry {
        let mut fields = line.split(':');
        let mut next = || fields.next().unwrap_or_default().to_owned();
        let (name, _password, uid, gid) = (next(), next(), next(), next());
        let (_comment, home) = (next(), next());
        Entry { name, uid, gid, home }
    }

    fn uid(&self) -> Result<u32, Error> {
        id(&self.uid).ok_or_else(|| self.bad("user", &self.uid))
    }

    /// The entry's group, if it is needed.
    fn gid(&self, needed: bool) -> Result<u32, Error> {
        if !needed {
            return Ok(0);
        }
        id(&self.gid).ok_or_else(|| self.bad("group", &self.gid))
    }

    fn bad(&self, what: &str, text: &str) -> Error {
        let (name, text) = (shorten(&self.name), shorten(text));
        let problem = format!("the {what} id {text:?} of {name} is no number from 0 to 4294967294");
        Error::ImageFile { file: PASSWD, problem }
    }
}

/// A number is an id only, as in Docker, also where somebody has it for a name.
fn find_user(passwd: Option<&str>, user: &Who) -> Result<Option<Entry>, Error> {
    Ok(lines(passwd).map(Entry::parse).find(|entry| match user {
        Who::Id(uid) => id(&entry.uid) == Some(*uid),
        Who::Name(name) => entry.name == *name,
    }))
}

/// The id of a group by its name (group(5)).
fn find_group(file: Option<&str>, name: &str) -> Result<u32, Error> {
    let Some(line) = lines(file).find(|line| first(line) == name) else {
        let known = names(file, name);
        return Err(Error::UnknownGroup { name: shorten(name), no_file: file.is_none(), known });
    };
    let text = line.split(':').nth(2).unwrap_or_default();
    id(text).ok_or_else(|| {
        let (name, text) = (shorten(name), shorten(text));
        let problem =
            format!("the id {text:?} of the group {name} is no number from 0 to 4294967294");
        Error::ImageFile { file: GROUP, problem }
    })
}

impl User {
    /// Adds the groups that list the user; a line without a proper id is none.
    fn join_groups(&mut self, file: &str) {
        for line in lines(Some(file)) {
            let mut fields = line.split(':').skip(2);
            let (gid, members) = (fields.next().and_then(id), fields.next().unwrap_or_default());
            let member = members.split(',').any(|member| Some(member) == self.name.as_deref());
            if let Some(gid) = gid.filter(|gid| member && !self.groups.contains(gid)) {
                self.groups.push(gid);
            }
        }
    }
}

fn lines(file: Option<&str>) -> impl Iterator<Item = &str> {
    let lines = file.unwrap_or_default().lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn first(line: &str) -> &str {
    line.split(':').next().unwrap_or_default()
}

/// Names to show where one was not found: those that are like it, or else the first.
fn names(file: Option<&str>, wanted: &str) -> Vec<String> {
    let found = near(wanted, lines(file).map(first));
    if found.is_empty() { lines(file).map(first).take(5).map(shorten).collect() } else { found }
}

/// A file of the image; `None` where there is none.
fn read(root: BorrowedFd<'_>, path: &CStr, file: &'static str) -> Result<Option<String>, Error> {
    let problem = |problem: String| Error::ImageFile { file, problem };
    let failed = |errno: Errno| problem(std::io::Error::from(errno).to_string());
    let handle = match sys::below::open(root, path, OFlags::PATH) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        result => result.map_err(failed)?,
    };
    let Some(opened) = sys::below::open_regular(&handle).map_err(failed)? else {
        let what =
            "it is not a regular file, and only that is read (not a device, pipe or directory)";
        return Err(problem(what.to_owned()));
    };
    let stat = rustix::fs::fstat(&opened).map_err(failed)?;
    let too_large = || problem(format!("it is larger than {FILE_MAX} bytes"));
    if u64::try_from(stat.st_size).is_ok_and(|size| size > FILE_MAX) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    let mut limited = std::fs::File::from(opened).take(FILE_MAX + 1);
    limited.read_to_end(&mut bytes).map_err(|error| problem(error.to_string()))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(too_large());
    }
    // Names are compared as text; a comment in another encoding must not be in the way.
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests;
