//! The few DER forms that are read by hand: an element, a small integer, an RSA key.
//!
//! Where a byte is signed or compared, it is cut out here and not taken from a parser that may be lenient: lengths are definite
//! and minimal, tags have one byte.

use formats::bytes::{ReadError, Reader};

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const UTF8_STRING: u8 = 0x0C;
pub(super) const IA5_STRING: u8 = 0x16;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// The bytes are not the DER that was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(super) enum DerError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("tag {seen:#04x}, wanted {wanted:#04x}")]
    Tag { seen: u8, wanted: u8 },
    #[error("a length is not in its shortest form, or above 65,535")]
    Length,
    #[error("an integer is not from 0 to 255 in its shortest form")]
    SmallInteger,
    #[error("an integer is negative, above 64 bits, or not in its shortest form")]
    Integer,
    #[error("a boolean is neither 00 nor FF")]
    Boolean,
}

/// One element: its contents, and all of it as received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub(super) contents: &'a [u8],
    pub(super) raw: &'a [u8],
}

/// Takes the next element, which must have this tag.
pub(super) fn element<'a>(reader: &mut Reader<'a>, wanted: u8) -> Result<Element<'a>, DerError> {
    let mut ahead = reader.clone();
    let seen = ahead.u8()?;
    if seen != wanted {
        return Err(DerError::Tag { seen, wanted });
    }
    let len = match ahead.u8()? {
        short @ 0..=0x7F => usize::from(short),
        0x81 => Some(usize::from(ahead.u8()?)).filter(|n| *n >= 0x80).ok_or(DerError::Length)?,
        0x82 => Some(usize::from(ahead.u16_be()?)).filter(|n| *n >= 0x100).ok_or(DerError::Length)?,
        _ => return Err(DerError::Length),
    };
    let header = ahead.offset() - reader.offset();
    let mut contents = Reader::new(reader.take(header + len)?);
    let raw = contents.clone().remaining();
    contents.take(header)?;
    Ok(Element { contents: contents.remaining(), raw })
}

/// The contents of an element that is all there is.
pub(super) fn only(bytes: &[u8], tag: u8) -> Result<&[u8], DerError> {
    let mut reader = Reader::new(bytes);
    let found = element(&mut reader, tag)?;
    reader.finish()?;
    Ok(found.contents)
}

/// An INTEGER from 0 to 255. From 128 on it has two content bytes, because it is signed.
pub(super) fn small_integer(bytes: &[u8]) -> Result<u8, DerError> {
    match *only(bytes, INTEGER)? {
        [value @ 0..=0x7F] => Ok(value),
        [0, value @ 0x80..=0xFF] => Ok(value),
        _ => Err(DerError::SmallInteger),
    }
}

/// An INTEGER that is not negative, in at most eight bytes without its sign. Twice the usual range of a signed reader: with the
/// highest bit set it has nine content bytes.
pub(super) fn u64_integer(bytes: &[u8]) -> Result<u64, DerError> {
    let contents = only(bytes, INTEGER)?;
    let shortest = match *contents {
        [] => false,
        [first] => first < 0x80,
        [0, second, ..] => second >= 0x80,
        [first, ..] => first < 0x80,
    };
    let digits = unsigned(contents);
    if !shortest || digits.len() > 8 {
        return Err(DerError::Integer);
    }
    Ok(digits.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
}

/// A BOOLEAN in DER: all ones is true.
pub(super) fn boolean(bytes: &[u8]) -> Result<bool, DerError> {
    match *only(bytes, BOOLEAN)? {
        [0x00] => Ok(false),
        [0xFF] => Ok(true),
        _ => Err(DerError::Boolean),
    }
}

/// Whether an element follows, and its tag.
pub(super) fn next_tag(reader: &Reader<'_>) -> Option<u8> {
    reader.clone().u8().ok()
}

/// Takes the next element, whatever its tag.
pub(super) fn any<'a>(reader: &mut Reader<'a>) -> Result<Element<'a>, DerError> {
    let tag = reader.clone().u8()?;
    element(reader, tag)
}

/// An element with this tag.
pub(super) fn encoded(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match contents.len().to_be_bytes() {
        [0, 0, 0, 0, 0, 0, 0, short @ 0..=0x7F] => out.push(short),
        [0, 0, 0, 0, 0, 0, 0, low] => out.extend([0x81, low]),
        [.., high, low] => out.extend([0x82, high, low]),
    }
    out.extend(contents);
    out
}

/// An INTEGER of these big-endian digits.
pub(super) fn unsigned_integer(digits: &[u8]) -> Vec<u8> {
    let digits = unsigned(digits);
    let sign: &[u8] = if digits.first().is_none_or(|first| *first >= 0x80) { &[0] } else { &[] };
    encoded(INTEGER, &[sign, digits].concat())
}

/// The bytes of a non-negative integer without leading zeros.
pub(super) fn unsigned(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    &bytes[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_integers_are_read_in_their_shortest_form_only() {
        assert_eq!(small_integer(&[2, 1, 0]), Ok(0));
        assert_eq!(small_integer(&[2, 1, 0x7F]), Ok(127));
        assert_eq!(small_integer(&[2, 2, 0, 0xD1]), Ok(209));
        for bad in [&[2, 1, 0xD1][..], &[2, 2, 0, 0x7F], &[2, 2, 1, 0], &[2, 0], &[2, 3, 0, 0, 0xD1]] {
            assert_eq!(small_integer(bad), Err(DerError::SmallInteger), "{bad:x?}");
        }
        assert_eq!(small_integer(&[4, 1, 0]), Err(DerError::Tag { seen: 4, wanted: 2 }));
        assert!(matches!(small_integer(&[2, 1, 0, 0]), Err(DerError::Read(ReadError::Trailing { .. }))));
    }

    #[test]
    fn lengths_are_definite_and_minimal() {
        for bad in [&[4, 0x80, 0, 0][..], &[4, 0x81, 1, 0], &[4, 0x82, 0, 0x80], &[4, 0x83, 1, 0, 0], &[4, 0xFF]] {
            assert_eq!(only(bad, OCTET_STRING), Err(DerError::Length), "{bad:x?}");
        }
        let mut long = vec![4, 0x82, 1, 0];
        long.extend([7; 256]);
        assert_eq!(only(&long, OCTET_STRING), Ok(&[7; 256][..]));
        assert!(matches!(only(&long[..200], OCTET_STRING), Err(DerError::Read(ReadError::Short { .. }))));
    }

    #[test]
    fn integers_have_up_to_nine_bytes_because_they_are_signed() {
        assert_eq!(u64_integer(&[2, 1, 0]), Ok(0));
        assert_eq!(u64_integer(&[2, 2, 0x01, 0x00]), Ok(256));
        assert_eq!(u64_integer(&[2, 9, 0, 255, 255, 255, 255, 255, 255, 255, 255]), Ok(u64::MAX));
        for bad in [&[2, 1, 0x80][..], &[2, 2, 0, 0x7F], &[2, 0], &[2, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0], &[2, 2, 0, 0]] {
            assert_eq!(u64_integer(bad), Err(DerError::Integer), "{bad:x?}");
        }
    }

    #[test]
    fn what_is_encoded_reads_back() {
        for len in [0, 1, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF] {
            let contents = vec![7; len];
            assert_eq!(only(&encoded(OCTET_STRING, &contents), OCTET_STRING), Ok(&contents[..]));
        }
        for number in [0, 1, 0x7F, 0x80, 0xFFFF, u64::MAX] {
            assert_eq!(u64_integer(&unsigned_integer(&number.to_be_bytes())), Ok(number));
        }
        assert_eq!(boolean(&[1, 1, 0xFF]), Ok(true));
        assert_eq!(boolean(&[1, 1, 1]), Err(DerError::Boolean));
    }
}
