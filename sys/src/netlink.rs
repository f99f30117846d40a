//! Network devices and their addresses, by rtnetlink(7).

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

/// Bytes of the longest answer: the kernel fills no more than 32 KiB of a dump at once
/// (netlink_dump in net/netlink/af_netlink.c).
const ANSWER: usize = 32 << 10;
/// A message's header (struct nlmsghdr), and an address's (struct ifaddrmsg).
const HEADER: usize = 16;
const ADDRESS: usize = 8;

/// A device, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number in its namespace.
    pub index: i32,
    /// Whether it is up.
    pub up: bool,
}

/// The socket by which the network namespace of the process that makes it is spoken to, whoever has it later
/// (netlink(7)). Does not allocate.
pub fn socket() -> Result<OwnedFd, Errno> {
    // No protocol is the first one, NETLINK_ROUTE.
    socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
}

/// An address of a device that stays until it is taken away, and is not of this link alone: with what else
/// belongs to it (its peer, its broadcast address).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    family: u8,
    prefix: u8,
    /// Attributes as the kernel wrote them.
    parts: Vec<(u16, Vec<u8>)>,
}

/// The devices of one network namespace.
#[derive(Debug)]
pub struct Devices {
    socket: OwnedFd,
    sequence: u32,
}

impl Devices {
    /// Those of the namespace that `socket` ([`socket()`]) was made in.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, sequence: 0 }
    }

    /// The device `name`; ENODEV where there is none.
    pub fn find(&mut self, name: &str) -> Result<Device, Errno> {
        let mut request = Request::new(libc::RTM_GETLINK, 0);
        request.device(0, 0).attribute(libc::IFLA_IFNAME, &terminated(name));
        let mut found = None;
        self.ask(request, &mut |kind, body| {
            // Its kind, its number, its flags.
            if kind == libc::RTM_NEWLINK
                && let [_, _, _, _, i0, i1, i2, i3, f0, f1, f2, f3, ..] = *body
            {
                let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
                let up = flags & libc::IFF_UP as u32 != 0;
                found = Some(Device { index: i32::from_ne_bytes([i0, i1, i2, i3]), up });
            }
        })?;
        found.ok_or(Errno::NODEV)
    }

    /// The addresses of the device `index` that a move takes from it.
    pub fn addresses(&mut self, index: i32) -> Result<Vec<Address>, Errno> {
        let mut request = Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP);
        request.bytes.extend([0; ADDRESS]);
        let mut found = Vec::new();
        self.ask(request, &mut |kind, body| {
            if kind == libc::RTM_NEWADDR {
                found.extend(lasting(body, index));
            }
        })?;
        Ok(found)
    }

    /// Moves the device `index` to the network namespace `to`, where it is called `name`. It is down there,
    /// and has no addresses. EEXIST where that has one of the name: it may be there then, under its old name.
    pub fn send(&mut self, index: i32, to: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
        let mut request = Request::new(libc::RTM_SETLINK, 0);
        request
            .device(index, 0)
            .attribute(libc::IFLA_NET_NS_FD, &to.as_raw_fd().to_ne_bytes())
            .attribute(libc::IFLA_IFNAME, &terminated(name));
        self.ask(request, &mut |_, _| {})
    }

    /// Gives the device `index` an address.
    pub fn add(&mut self, index: i32, address: &Address) -> Result<(), Errno> {
        let mut request = Request::new(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL);
        let flags = libc::IFA_F_PERMANENT as u8;
        request.bytes.extend([address.family, address.prefix, flags, libc::RT_SCOPE_UNIVERSE]);
        request.bytes.extend(index.to_ne_bytes());
        for (kind, value) in &address.parts {
            request.attribute(*kind, value);
        }
        self.ask(request, &mut |_, _| {})
    }

    /// Sets the device `index` up.
    pub fn set_up(&mut self, index: i32) -> Result<(), Errno> {
        let mut request = Request::new(libc::RTM_NEWLINK, 0);
        request.device(index, libc::IFF_UP as u32);
        self.ask(request, &mut |_, _| {})
    }

    /// Sends a request, and gives each message of the answer (its kind, and what is behind its header) to
    /// `each`, up to the end.
    fn ask(&mut self, mut request: Request, each: &mut dyn FnMut(u16, &[u8])) -> Result<(), Errno> {
        self.sequence += 1;
        let bytes = request.finish(self.sequence);
        rustix::io::retry_on_intr(|| send(&self.socket, bytes, SendFlags::empty()))?;
        let mut answer = vec![0; ANSWER];
        loop {
            let receive = || recv(&self.socket, &mut answer[..], RecvFlags::TRUNC);
            let (_, count) = rustix::io::retry_on_intr(receive)?;
            let mut rest = answer.get(..count).ok_or(Errno::MSGSIZE)?;
            while let Some((kind, sequence, body, behind)) = message(rest) {
                rest = behind;
                match i32::from(kind) {
                    // What was asked before, and given up.
                    _ if sequence != self.sequence => {}
                    libc::NLMSG_ERROR => {
                        let number = body.get(..4).and_then(|bytes| bytes.try_into().ok());
                        return match number.map(i32::from_ne_bytes) {
                            Some(0) => Ok(()),
                            Some(number) => Err(Errno::from_raw_os_error(-number)),
                            None => Err(Errno::BADMSG),
                        };
                    }
                    libc::NLMSG_DONE => return Ok(()),
                    _ => each(kind, body),
                }
            }
        }
    }
}

/// A message that is being written.
struct Request {
    bytes: Vec<u8>,
}

impl Request {
    fn new(kind: u16, flags: i32) -> Self {
        // With NLM_F_ACK every request but a dump ends with an error message, whose number may be 0.
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16;
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        Self { bytes }
    }

    /// What a message about a device has behind its header: `flags` to set.
    fn device(&mut self, index: i32, flags: u32) -> &mut Self {
        self.bytes.extend([0; 4]);
        self.bytes.extend(index.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        // Which flags are changed.
        self.bytes.extend(flags.to_ne_bytes());
        self
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = (4 + value.len()) as u16;
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    fn finish(&mut self, sequence: u32) -> &[u8] {
        let length = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        &self.bytes
    }
}

/// The first message: its kind, its number, what is behind its header; and what is behind it.
fn message(bytes: &[u8]) -> Option<(u16, u32, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let sequence = u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?);
    let behind = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, sequence, bytes.get(HEADER..length)?, behind))
}

/// The attributes that `bytes` is made of.
fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut all = Vec::new();
    while let [l0, l1, k0, k1, ..] = *bytes {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let Some(value) = bytes.get(4..length) else { break };
        all.push((u16::from_ne_bytes([k0, k1]), value));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

/// The address that a message of a dump tells of, if it is one of the device `index` and lasting.
fn lasting(body: &[u8], index: i32) -> Option<Address> {
    let (header, rest) = body.split_at_checked(ADDRESS)?;
    let of = i32::from_ne_bytes(header[4..8].try_into().ok()?);
    let all = attributes(rest);
    // All of the flags: the header has room for eight.
    let flags = all.iter().find(|(kind, _)| *kind == libc::IFA_FLAGS);
    let flags = flags.and_then(|(_, value)| Some(u32::from_ne_bytes((*value).try_into().ok()?)));
    let flags = flags.unwrap_or(u32::from(header[2]));
    if of != index || header[3] != libc::RT_SCOPE_UNIVERSE || flags & libc::IFA_F_PERMANENT == 0 {
        return None;
    }
    let kept = [libc::IFA_ADDRESS, libc::IFA_LOCAL, libc::IFA_BROADCAST];
    let parts = all.into_iter().filter(|(kind, _)| kept.contains(kind));
    let parts = parts.map(|(kind, value)| (kind, value.to_vec())).collect();
    Some(Address { family: header[0], prefix: header[1], parts })
}

fn terminated(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_is_found_and_no_other() {
        let mut devices = Devices::new(socket().unwrap());
        let Device { index, .. } = devices.find("lo").unwrap();
        assert!(index > 0);
        assert_eq!(devices.find("no-such-device"), Err(Errno::NODEV));
        // Its own are of the host alone: none lasts elsewhere.
        assert_eq!(devices.addresses(index).unwrap(), []);
        assert_eq!(devices.addresses(i32::MAX).unwrap(), []);
    }

    #[test]
    fn a_cut_message_is_none() {
        let mut request = Request::new(libc::RTM_GETLINK, 0);
        request.device(7, 0).attribute(libc::IFLA_IFNAME, b"lo\0");
        let bytes = request.finish(3).to_vec();
        let (kind, sequence, body, behind) = message(&bytes).unwrap();
        assert_eq!((kind, sequence, behind.len()), (libc::RTM_GETLINK, 3, 0));
        // Behind a struct ifinfomsg.
        assert_eq!(attributes(&body[16..]), [(libc::IFLA_IFNAME, &b"lo\0"[..])]);
        for end in 0..bytes.len() - 1 {
            assert!(message(&bytes[..end]).is_none(), "{end}");
        }
        assert!(attributes(&[3, 0, 1, 0]).is_empty() && attributes(&[9, 0, 1, 0, 5]).is_empty());
    }
}
