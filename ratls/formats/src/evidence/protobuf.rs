//! Protocol Buffers, as far as a message of known fields needs it: fields one after the other, each bounded by the input.
//!
//! Unknown fields pass, as the format wants it; what a message means by a field that stands twice is its reader's question.
//! Groups, which the format gave up long ago, are refused. Source: protobuf.dev, "Encoding".

use crate::bytes::{ReadError, Reader};

/// Fields of one message. Firmware endorsements have about 25.
const MAX_FIELDS: usize = 1024;

/// The bytes are not such a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtobufError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("a number at byte {offset} has more than 64 bits")]
    Varint { offset: usize },
    #[error("field {field} has wire type {seen}, which is not in use")]
    WireType { field: u64, seen: u64 },
    #[error("field number {seen} does not exist")]
    FieldNumber { seen: u64 },
    #[error("more than {MAX_FIELDS} fields")]
    TooMany,
}

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// 32 or 64 bits in a fixed form; no field that is read here has one.
    Fixed,
}

/// Fields with their numbers.
pub(super) fn fields(message: &[u8]) -> Result<Vec<(u64, Value<'_>)>, ProtobufError> {
    let mut reader = Reader::new(message);
    let mut found = Vec::new();
    while reader.left() > 0 {
        if found.len() == MAX_FIELDS {
            return Err(ProtobufError::TooMany);
        }
        let key = varint(&mut reader)?;
        let (field, wire_type) = (key >> 3, key & 7);
        // 29 bits, and 0 is none.
        if field == 0 || field >= 1 << 29 {
            return Err(ProtobufError::FieldNumber { seen: field });
        }
        let value = match wire_type {
            0 => Value::Number(varint(&mut reader)?),
            1 => reader.take(8).map(|_| Value::Fixed)?,
            2 => {
                let len = varint(&mut reader)?;
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                Value::Bytes(reader.take(len)?)
            }
            5 => reader.take(4).map(|_| Value::Fixed)?,
            seen => return Err(ProtobufError::WireType { field, seen }),
        };
        found.push((field, value));
    }
    Ok(found)
}

fn varint(reader: &mut Reader<'_>) -> Result<u64, ProtobufError> {
    let offset = reader.offset();
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = reader.u8()?;
        let bits = u64::from(byte & 0x7F);
        // The tenth byte has room for one bit.
        if shift == 63 && bits > 1 {
            return Err(ProtobufError::Varint { offset });
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(ProtobufError::Varint { offset })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_bytes_and_passes_over_fixed_ones() {
        let message = [0x08, 0x96, 0x01, 0x12, 2, b'h', b'i', 0x1D, 1, 2, 3, 4, 0x21, 1, 2, 3, 4, 5, 6, 7, 8];
        let wanted = vec![(1, Value::Number(150)), (2, Value::Bytes(b"hi")), (3, Value::Fixed), (4, Value::Fixed)];
        assert_eq!(fields(&message), Ok(wanted));
        for len in [1, 2, 4, 6, 8, 11, 15] {
            assert!(matches!(fields(&message[..len]), Err(ProtobufError::Read(_))), "{len}");
        }
    }

    #[test]
    fn numbers_have_at_most_64_bits() {
        let number = |bytes: &[u8]| {
            let message = [&[0x08][..], bytes].concat();
            fields(&message).map(|found| found.iter().filter(|(n, v)| *v == Value::Number(u64::MAX) && *n == 1).count())
        };
        let mut most = [0xFF; 10];
        most[9] = 1;
        assert_eq!(number(&most), Ok(1));
        most[9] = 2;
        assert_eq!(number(&most), Err(ProtobufError::Varint { offset: 1 }));
        most[9] = 0x81;
        assert_eq!(number(&most), Err(ProtobufError::Varint { offset: 1 }));
    }

    #[test]
    fn groups_field_zero_and_floods_are_refused() {
        assert_eq!(fields(&[0x0B]), Err(ProtobufError::WireType { field: 1, seen: 3 }));
        assert_eq!(fields(&[0x00, 0]), Err(ProtobufError::FieldNumber { seen: 0 }));
        assert_eq!(fields(&[0x08, 0].repeat(1025)), Err(ProtobufError::TooMany));
        assert!(matches!(fields(&[0x12, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]), Err(ProtobufError::Read(_))));
    }
}
