//! Frames: `u8 type ‖ u24 length ‖ body`, big-endian, inside TLS.
//!
//! Types 0x80 and up may be ignored by who does not know them; an unknown type below is an error. The limit of a type is
//! checked on the header, before any byte of the body is kept.

use super::limits;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameType {
    Attest = 0x01,
    Challenge = 0x02,
    Want = 0x03,
    Part = 0x04,
    Open = 0x05,
    Accept = 0x06,
    Close = 0x07,
    Data = 0x08,
    Fin = 0x09,
    Notice = 0x0A,
    Cred = 0x0B,
    CredResponse = 0x0C,
    Refuse = 0x0D,
}

impl FrameType {
    pub const ALL: [FrameType; 13] = [
        FrameType::Attest,
        FrameType::Challenge,
        FrameType::Want,
        FrameType::Part,
        FrameType::Open,
        FrameType::Accept,
        FrameType::Close,
        FrameType::Data,
        FrameType::Fin,
        FrameType::Notice,
        FrameType::Cred,
        FrameType::CredResponse,
        FrameType::Refuse,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|t| *t as u8 == byte)
    }

    /// Largest body in bytes.
    pub const fn max_body(self) -> usize {
        match self {
            FrameType::Attest => limits::MAX_ATTEST,
            FrameType::Data => limits::MAX_DATA,
            FrameType::Part => limits::PART_HEADER + limits::MAX_PART_BYTES,
            FrameType::Challenge => 16 * limits::MAX_CHALLENGE_IDS + 128,
            FrameType::Want => 34 * limits::MAX_WANT + 8,
            FrameType::Open => 1_024,
            FrameType::Accept | FrameType::Close | FrameType::Refuse => 512,
            FrameType::Cred | FrameType::CredResponse => 2_048,
            FrameType::Notice => 64,
            FrameType::Fin => 0,
        }
    }
}

/// What a header announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    Frame {
        kind: FrameType,
        length: usize,
    },
    /// A type of 0x80 and up that this version does not know: skip its body.
    Ignorable {
        length: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    #[error("frame type 0x{0:02x} is unknown and may not be ignored")]
    UnknownType(u8),
    #[error("a {kind:?} frame of {length} bytes; at most {limit} are allowed")]
    TooLong { kind: FrameType, length: usize, limit: usize },
    #[error("an ignorable frame of {length} bytes; at most {limit} are allowed")]
    IgnorableTooLong { length: usize, limit: usize },
    #[error("a FIN frame carries nothing, DATA and PART carry something")]
    Empty,
}

impl Header {
    pub fn parse(bytes: [u8; limits::FRAME_HEADER]) -> Result<Self, FrameError> {
        let [kind, a, b, c] = bytes;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        match FrameType::from_byte(kind) {
            Some(kind) if length > kind.max_body() => Err(FrameError::TooLong { kind, length, limit: kind.max_body() }),
            Some(FrameType::Data) if length == 0 => Err(FrameError::Empty),
            Some(kind) => Ok(Header::Frame { kind, length }),
            None if kind < 0x80 => Err(FrameError::UnknownType(kind)),
            None if length > limits::MAX_IGNORED => {
                Err(FrameError::IgnorableTooLong { length, limit: limits::MAX_IGNORED })
            }
            None => Ok(Header::Ignorable { length }),
        }
    }

    /// The header of a frame with `length` bytes of body.
    ///
    /// # Panics
    /// If the body is larger than its type allows: callers build bodies within the limits.
    pub fn encode(kind: FrameType, length: usize) -> [u8; limits::FRAME_HEADER] {
        assert!(length <= kind.max_body(), "a {kind:?} body of {length} bytes was built");
        let [_, a, b, c] = u32::try_from(length).expect("bodies are far below 16 MiB").to_be_bytes();
        [kind as u8, a, b, c]
    }
}

/// A whole frame in one buffer.
pub fn encode(kind: FrameType, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(limits::FRAME_HEADER + body.len());
    frame.extend(Header::encode(kind, body.len()));
    frame.extend(body);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proto_d1_lengths_of_zero_max_and_above_are_told_apart() {
        for kind in FrameType::ALL {
            let max = kind.max_body();
            assert_eq!(Header::parse(Header::encode(kind, max)), Ok(Header::Frame { kind, length: max }));
            let over = u32::try_from(max + 1).unwrap().to_be_bytes();
            let refused = Err(FrameError::TooLong { kind, length: max + 1, limit: max });
            assert_eq!(Header::parse([kind as u8, over[1], over[2], over[3]]), refused);
            let refused = Err(FrameError::TooLong { kind, length: (1 << 24) - 1, limit: max });
            assert_eq!(Header::parse([kind as u8, 255, 255, 255]), refused);
        }
        assert_eq!(Header::parse([0x08, 0, 0, 0]), Err(FrameError::Empty));
        assert_eq!(Header::parse([0x09, 0, 0, 0]), Ok(Header::Frame { kind: FrameType::Fin, length: 0 }));
    }

    #[test]
    fn proto_n8_unknown_type_below_0x80_is_refused_and_n10_above_is_ignorable() {
        assert_eq!(Header::parse([0x00, 0, 0, 0]), Err(FrameError::UnknownType(0)));
        assert_eq!(Header::parse([0x7F, 0, 0, 1]), Err(FrameError::UnknownType(0x7F)));
        assert_eq!(Header::parse([0x80, 0, 0, 1]), Ok(Header::Ignorable { length: 1 }));
        assert!(matches!(Header::parse([0xFF, 255, 255, 255]), Err(FrameError::IgnorableTooLong { .. })));
    }
}
