//! What a container's supervisor and its clients send each other, in messages that arrive whole: a
//! byte that says which kind it is, and what there is to say.

use rustix::termios::Winsize;

/// Most bytes of input or output in one message.
pub(crate) const PAYLOAD: usize = 64 * 1024;

/// The longest message.
pub(crate) const MESSAGE: usize = PAYLOAD + 1;

/// Kinds of a client's messages.
pub(crate) const INPUT: u8 = 1;
const INPUT_END: u8 = 2;
const JOIN: u8 = 3;
const RESIZE: u8 = 4;
const OUTPUT_END: u8 = 5;
const PIPES: u8 = 6;
const WRITTEN: u8 = 7;
/// Kinds of the supervisor's.
const STDOUT: u8 = 16;
const STDERR: u8 = 17;
/// A [`Report`](crate::report::Report) follows.
pub(crate) const REPORT: u8 = 18;
/// Asks for [`FromClient::Written`].
pub(crate) const IS_WRITTEN: u8 = 19;

/// A stream of output; a terminal has the first one only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlet {
    Stdout,
    Stderr,
}

impl Outlet {
    /// What a message with its bytes begins with.
    pub(crate) fn kind(self) -> u8 {
        match self {
            Outlet::Stdout => STDOUT,
            Outlet::Stderr => STDERR,
        }
    }

    /// The output whose bytes a message of this kind has.
    pub(crate) fn of(kind: u8) -> Option<Outlet> {
        match kind {
            STDOUT => Some(Outlet::Stdout),
            STDERR => Some(Outlet::Stderr),
            _ => None,
        }
    }

    /// As the log calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Outlet::Stdout => "stdout",
            Outlet::Stderr => "stderr",
        }
    }
}

/// What a client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FromClient<'a> {
    /// A client that has connected by name: whether it is going to send input.
    Join { input: bool },
    /// Input for the process.
    Input(&'a [u8]),
    /// There is no more of it.
    InputEnd,
    /// The size of its window.
    Resize { rows: u16, columns: u16 },
    /// Nobody reads this output any more.
    OutputEnd(Outlet),
    /// Which of its outputs are pipes; their descriptors come with it, in this order.
    Pipes { stdout: bool, stderr: bool },
    /// It has written all output that came before it was asked ([`IS_WRITTEN`]).
    Written,
}

impl<'a> FromClient<'a> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            FromClient::Join { input } => vec![JOIN, u8::from(*input)],
            FromClient::Input(bytes) => [&[INPUT], *bytes].concat(),
            FromClient::InputEnd => vec![INPUT_END],
            FromClient::Resize { rows, columns } => {
                let ([r0, r1], [c0, c1]) = (rows.to_le_bytes(), columns.to_le_bytes());
                vec![RESIZE, r0, r1, c0, c1]
            }
            FromClient::OutputEnd(outlet) => vec![OUTPUT_END, outlet.kind()],
            FromClient::Pipes { stdout, stderr } => {
                vec![PIPES, u8::from(*stdout), u8::from(*stderr)]
            }
            FromClient::Written => vec![WRITTEN],
        }
    }

    /// `None`: it is none of these.
    pub(crate) fn decode(message: &'a [u8]) -> Option<FromClient<'a>> {
        match *message {
            [INPUT, ref bytes @ ..] => Some(FromClient::Input(bytes)),
            [INPUT_END] => Some(FromClient::InputEnd),
            [JOIN, input @ (0 | 1)] => Some(FromClient::Join { input: input == 1 }),
            [RESIZE, r0, r1, c0, c1] => Some(FromClient::Resize {
                rows: u16::from_le_bytes([r0, r1]),
                columns: u16::from_le_bytes([c0, c1]),
            }),
            [OUTPUT_END, kind] => Outlet::of(kind).map(FromClient::OutputEnd),
            [PIPES, stdout @ (0 | 1), stderr @ (0 | 1)] => {
                Some(FromClient::Pipes { stdout: stdout == 1, stderr: stderr == 1 })
            }
            [WRITTEN] => Some(FromClient::Written),
            _ => None,
        }
    }
}

impl From<Winsize> for FromClient<'_> {
    fn from(size: Winsize) -> Self {
        FromClient::Resize { rows: size.ws_row, columns: size.ws_col }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            bytes: Vec<u8>, rows: u16, columns: u16, input: bool, which in 0..8
        ) {
            let message = match which {
                0 => FromClient::Input(&bytes),
                1 => FromClient::InputEnd,
                2 => FromClient::Join { input },
                3 => FromClient::Resize { rows, columns },
                4 => FromClient::OutputEnd(Outlet::Stderr),
                5 => FromClient::Pipes { stdout: input, stderr: rows % 2 == 0 },
                6 => FromClient::Written,
                _ => FromClient::OutputEnd(Outlet::Stdout),
            };
            let encoded = message.encode();
            proptest::prop_assert_eq!(FromClient::decode(&encoded), Some(message));
        }

        #[test]
        fn anything_is_a_message_or_none(bytes: Vec<u8>) {
            if let Some(message) = FromClient::decode(&bytes) {
                proptest::prop_assert_eq!(message.encode(), bytes);
            }
        }
    }

    #[test]
    fn outputs_have_kinds_of_their_own() {
        for outlet in [Outlet::Stdout, Outlet::Stderr] {
            assert_eq!(Outlet::of(outlet.kind()), Some(outlet));
            assert_eq!(FromClient::decode(&[outlet.kind(), 0]), None);
        }
        assert_eq!(Outlet::of(REPORT), None);
        assert_eq!(FromClient::decode(&[]), None);
    }
}
