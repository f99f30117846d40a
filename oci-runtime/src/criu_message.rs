//! The encoding of CRIU's requests and answers, protocol buffers: as much of it as they use, which is numbers and
//! byte strings, each with the number of its field.

/// How a value is written, in the low bits of a field's key.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const BYTES: u64 = 2;
const FIXED_32: u64 = 5;

/// A message that is being written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    pub(crate) fn number(mut self, field: u32, value: u64) -> Self {
        self.varint(u64::from(field) << 3 | VARINT);
        self.varint(value);
        self
    }

    /// A switch; one that is off is left out.
    pub(crate) fn flag(self, field: u32, on: bool) -> Self {
        if on { self.number(field, 1) } else { self }
    }

    pub(crate) fn bytes(mut self, field: u32, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.varint(u64::from(field) << 3 | BYTES);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// What may be missing, and is left out then.
    pub(crate) fn text(self, field: u32, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.bytes(field, value),
            None => self,
        }
    }

    pub(crate) fn message(self, field: u32, value: &Message) -> Self {
        self.bytes(field, &value.0)
    }

    /// With the fields of another one of the same kind.
    pub(crate) fn and(mut self, other: &Message) -> Self {
        self.0.extend_from_slice(&other.0);
        self
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A value of a message that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(crate) fn number(self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(number),
            Self::Bytes(_) => None,
        }
    }

    pub(crate) fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Number(_) => None,
            Self::Bytes(bytes) => Some(bytes),
        }
    }
}

/// The fields of a message, in its order; `None` where it is cut or of another form.
pub(crate) fn fields(mut bytes: &[u8]) -> Option<Vec<(u32, Value<'_>)>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let field = u32::try_from(key >> 3).ok()?;
        let value = match key & 7 {
            VARINT => Value::Number(varint(&mut bytes)?),
            BYTES => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Value::Bytes(take(&mut bytes, length)?)
            }
            FIXED_64 => Value::Bytes(take(&mut bytes, 8)?),
            FIXED_32 => Value::Bytes(take(&mut bytes, 4)?),
            _ => return None,
        };
        all.push((field, value));
    }
    Some(all)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the encoding's own documentation: 150 in field 1, "testing" in field 2.
    #[test]
    fn what_is_written_is_as_documented() {
        assert_eq!(Message::default().number(1, 150).as_bytes(), [0x08, 0x96, 0x01]);
        let text = Message::default().bytes(2, "testing");
        assert_eq!(text.as_bytes(), b"\x12\x07testing");
        let inner = Message::default().number(1, 150);
        assert_eq!(Message::default().message(3, &inner).as_bytes(), [0x1a, 3, 0x08, 0x96, 0x01]);
        let off = Message::default().flag(5, false).text(6, None);
        assert_eq!(
            (off.as_bytes(), Message::default().flag(5, true).as_bytes()),
            (&[][..], &[0x28, 1][..])
        );
    }

    #[test]
    fn what_is_written_is_read_again() {
        let written = Message::default().number(71, u64::MAX).bytes(1, [0xff; 200]).number(2, 0);
        let read = fields(written.as_bytes()).unwrap();
        assert_eq!(
            read,
            [(71, Value::Number(u64::MAX)), (1, Value::Bytes(&[0xff; 200])), (2, Value::Number(0))]
        );
    }

    #[test]
    fn what_is_cut_or_of_another_form_is_no_message() {
        let written = Message::default().bytes(2, "testing").number(1, 1 << 40);
        for cut in 1..written.as_bytes().len() {
            // Between the two fields it is a message.
            assert_eq!(fields(&written.as_bytes()[..cut]).is_some(), cut == 9, "{cut}");
        }
        for bytes in [&[0xff; 11][..], &[0x0b], &[0x0c], &[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f]] {
            assert_eq!(fields(bytes), None, "{bytes:?}");
        }
        // Of fixed sizes, of which none is of use here.
        assert_eq!(fields(&[0x09, 1, 2, 3, 4, 5, 6, 7, 8, 0x15, 1, 2, 3, 4]).unwrap().len(), 2);
    }
}
