//! Messages of D-Bus (the D-Bus specification, "Message Protocol"): little-endian, without descriptors.

use zvariant::serialized::{Context, Data};
use zvariant::{Endian, LE, Type, Value, to_bytes};

/// The least that a message has: the header up to the length of its fields.
pub(crate) const FIXED: usize = 16;
/// Most bytes of a message that are taken; the specification's limit is 128 MiB. What systemd answers is short.
const MOST: usize = 4 << 20;

const CALL: u8 = 1;
/// Codes of header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// Where a call goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) destination: &'a str,
    pub(crate) path: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) member: &'a str,
}

/// What came.
#[derive(Debug, Default)]
pub(crate) struct Message {
    /// 2: the answer; 3: an error; 4: a signal.
    pub(crate) kind: u8,
    pub(crate) reply_to: Option<u32>,
    pub(crate) member: String,
    pub(crate) interface: String,
    pub(crate) error: String,
    signature: String,
    little: bool,
    body: Vec<u8>,
}

/// A call, as bytes.
pub(crate) fn call<B: serde::Serialize + Type>(
    serial: u32,
    target: Target<'_>,
    body: &B,
) -> Result<Vec<u8>, zvariant::Error> {
    let signature = B::SIGNATURE.to_string_no_parens();
    let mut fields = vec![
        (PATH, b'o', target.path.as_bytes()),
        (DESTINATION, b's', target.destination.as_bytes()),
        (INTERFACE, b's', target.interface.as_bytes()),
        (MEMBER, b's', target.member.as_bytes()),
    ];
    if signature.is_empty() {
        return Ok(encode(CALL, serial, &fields, &[]));
    }
    fields.push((SIGNATURE, b'g', signature.as_bytes()));
    let body = to_bytes(Context::new_dbus(LE, 0), body)?;
    Ok(encode(CALL, serial, &fields, &body))
}

/// A message, of its header's fields (code, type, value) and its body.
fn encode(kind: u8, serial: u32, fields: &[(u8, u8, &[u8])], body: &[u8]) -> Vec<u8> {
    let mut array = Vec::new();
    for (code, kind, value) in fields {
        // Each is a structure of its code and a variant. (zvariant would put a body's signature in parentheses.)
        array.resize(array.len().next_multiple_of(8), 0);
        array.extend([*code, 1, *kind, 0]);
        match kind {
            b'u' => array.extend(*value),
            b'g' => {
                array.push(u8::try_from(value.len()).unwrap_or(u8::MAX));
                array.extend(*value);
                array.push(0);
            }
            _ => {
                array.extend(length(value.len()));
                array.extend(*value);
                array.push(0);
            }
        }
    }
    let mut message = vec![b'l', kind, 0, 1];
    message.extend(length(body.len()));
    message.extend(serial.to_le_bytes());
    message.extend(length(array.len()));
    message.extend(array);
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend(body);
    message
}

/// No message of this program's comes near the end of a u32: its strings are names, and its lists limits.
fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes()
}

/// How long the message is that begins with these bytes.
pub(crate) fn total(start: &[u8; FIXED]) -> Result<usize, String> {
    let number = |at: usize| {
        let bytes = [start[at], start[at + 1], start[at + 2], start[at + 3]];
        let number =
            if start[0] == b'l' { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) };
        number as usize
    };
    if !matches!(start[0], b'l' | b'B') || start[3] != 1 {
        return Err("it begins as no message does".to_owned());
    }
    let (body, fields) = (number(4), number(12));
    match body.saturating_add(fields) {
        all if all > MOST => Err(format!("it has {all} bytes")),
        _ => Ok((FIXED + fields).next_multiple_of(8) + body),
    }
}

impl Message {
    /// From all of its bytes.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        type Header<'a> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Value<'a>)>);
        let little = bytes.first() == Some(&b'l');
        let context = Context::new_dbus(if little { LE } else { Endian::Big }, 0);
        let data = Data::new(bytes, context);
        let ((_, kind, _, _, length, _, fields), _): (Header<'_>, usize) =
            data.deserialize().map_err(|error| error.to_string())?;
        let body = bytes.len().checked_sub(length as usize).ok_or("its body is longer than it")?;
        let body = bytes[body..].to_vec();
        let mut message = Self { kind, little, body, ..Self::default() };
        for (code, value) in fields {
            match (code, value) {
                (REPLY_SERIAL, Value::U32(serial)) => message.reply_to = Some(serial),
                (MEMBER, Value::Str(name)) => message.member = name.to_string(),
                (INTERFACE, Value::Str(name)) => message.interface = name.to_string(),
                (ERROR_NAME, Value::Str(name)) => message.error = name.to_string(),
                (SIGNATURE, Value::Signature(it)) => message.signature = it.to_string_no_parens(),
                _ => {}
            }
        }
        Ok(message)
    }

    /// Its body, if it has the form that `B` has.
    pub(crate) fn body<B: serde::de::DeserializeOwned + Type>(&self) -> Result<B, String> {
        let expected = B::SIGNATURE.to_string_no_parens();
        if self.signature != expected {
            return Err(format!("it has the form {:?}, not {expected:?}", self.signature));
        }
        let context = Context::new_dbus(if self.little { LE } else { Endian::Big }, 0);
        let data = Data::new(&self.body[..], context);
        data.deserialize().map(|(body, _)| body).map_err(|error| error.to_string())
    }
}

/// What the other side says, for tests.
#[cfg(test)]
pub(crate) mod said {
    use super::*;

    /// An answer: kind 2, or an error, kind 3.
    pub(crate) fn answer<B: serde::Serialize + Type>(kind: u8, to: u32, body: &B) -> Vec<u8> {
        let signature = B::SIGNATURE.to_string_no_parens();
        let to = to.to_le_bytes();
        let fields: [(u8, u8, &[u8]); 3] = [
            (REPLY_SERIAL, b'u', &to),
            (ERROR_NAME, b's', b"org.freedesktop.systemd1.NoSuchUnit"),
            (SIGNATURE, b'g', signature.as_bytes()),
        ];
        encode(kind, 1, &fields, &to_bytes(Context::new_dbus(LE, 0), body).unwrap())
    }

    /// That a job has ended.
    pub(crate) fn removed(job: &str, result: &str) -> Vec<u8> {
        let path = zvariant::ObjectPath::try_from(job).unwrap();
        let body = to_bytes(Context::new_dbus(LE, 0), &(7_u32, path, "unit", result)).unwrap();
        let fields: [(u8, u8, &[u8]); 4] = [
            (PATH, b'o', b"/org/freedesktop/systemd1"),
            (INTERFACE, b's', b"org.freedesktop.systemd1.Manager"),
            (MEMBER, b's', b"JobRemoved"),
            (SIGNATURE, b'g', b"uoss"),
        ];
        encode(4, 1, &fields, &body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target<'_> =
        Target { destination: "org.d", path: "/org/p", interface: "org.i", member: "Do" };

    fn parsed(bytes: &[u8]) -> Message {
        let start: &[u8; FIXED] = bytes[..FIXED].try_into().unwrap();
        assert_eq!(total(start), Ok(bytes.len()));
        Message::parse(bytes).unwrap()
    }

    #[test]
    fn a_call_is_read_as_it_was_written() {
        let properties: Vec<(&str, Value<'_>)> =
            vec![("Delegate", true.into()), ("N", 7_u64.into())];
        let bytes = call(9, TARGET, &("name", "mode", properties)).unwrap();
        let message = parsed(&bytes);
        assert_eq!((message.kind, &*message.member, &*message.interface), (CALL, "Do", "org.i"));
        assert_eq!(message.signature, "ssa(sv)");
        type Body = (String, String, Vec<(String, zvariant::OwnedValue)>);
        let (name, mode, properties) = message.body::<Body>().unwrap();
        assert_eq!((&*name, &*mode, properties.len()), ("name", "mode", 2));
        assert_eq!((&*properties[1].0, &*properties[1].1), ("N", &Value::U64(7)));
        assert!(message.body::<(u32,)>().unwrap_err().contains("\"ssa(sv)\", not \"u\""));
        let empty = parsed(&call(1, TARGET, &()).unwrap());
        assert!(empty.signature.is_empty() && empty.body.is_empty());
    }

    /// The bytes of a call without arguments, by the specification's own rules.
    #[test]
    fn a_call_has_the_specifications_bytes() {
        let target = Target { destination: "d", path: "/", interface: "i", member: "m" };
        let expected = b"l\x01\x00\x01\0\0\0\0\x01\0\0\0\x3a\0\0\0\
            \x01\x01o\0\x01\0\0\0/\0\0\0\0\0\0\0\
            \x06\x01s\0\x01\0\0\0d\0\0\0\0\0\0\0\
            \x02\x01s\0\x01\0\0\0i\0\0\0\0\0\0\0\
            \x03\x01s\0\x01\0\0\0m\0\0\0\0\0\0\0";
        assert_eq!(call(1, target, &()).unwrap(), expected);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let mut start = [0; FIXED];
        start[..4].copy_from_slice(b"l\x02\0\x01");
        assert_eq!(total(&start), Ok(FIXED));
        start[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(total(&start).unwrap_err().contains("bytes"));
        start[3] = 2;
        assert!(total(&start).is_err());
        assert!(total(b"HTTP/1.1 200 OK.").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(0_u8.., 0..200), change in 0_usize..150) {
            let _ = Message::parse(&bytes);
            let mut call = call(1, TARGET, &("a", vec![("b", Value::from(1_u32))])).unwrap();
            let at = change % call.len();
            call[at] ^= 1 << (change % 8);
            if let Ok(message) = Message::parse(&call) {
                let _ = message.body::<(String, Vec<(String, zvariant::OwnedValue)>)>();
            }
        }
    }
}
