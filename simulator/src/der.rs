//! The little DER that AMD's certificates and CRLs need, written only.
//!
//! Every function returns one complete element. Contents are a few kilobytes at most: a length above 65,535 is a bug of
//! ours and panics. Nothing here reads DER; that is `ratls`' work, and sharing no code with it is the point.

use ratls::time::UnixTime;
use time::OffsetDateTime;

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const NULL: u8 = 0x05;
const OID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0C;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// One element: tag, shortest length, contents.
pub(crate) fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = u16::try_from(contents.len()).expect("contents are a few kilobytes");
    let mut element = vec![tag];
    match length.to_be_bytes() {
        [0, short] if short < 0x80 => element.push(short),
        [0, byte] => element.extend([0x81, byte]),
        bytes => {
            element.push(0x82);
            element.extend(bytes);
        }
    }
    element.extend(contents);
    element
}

pub(crate) fn sequence(elements: &[&[u8]]) -> Vec<u8> {
    tlv(SEQUENCE, &elements.concat())
}

/// A set of one element, the only kind that a name needs.
pub(crate) fn set_of_one(element: &[u8]) -> Vec<u8> {
    tlv(SET, element)
}

/// `[number]` EXPLICIT, or the constructed form of an IMPLICIT type.
pub(crate) fn context(number: u8, contents: &[u8]) -> Vec<u8> {
    tlv(0xA0 | number, contents)
}

/// `[number]` IMPLICIT of a primitive type.
pub(crate) fn context_primitive(number: u8, contents: &[u8]) -> Vec<u8> {
    tlv(0x80 | number, contents)
}

/// A non-negative INTEGER: a leading zero where the top bit is set, so 0xD1 becomes `02 02 00 D1`.
pub(crate) fn integer(value: u64) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let first = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len() - 1);
    let mut contents = bytes.get(first..).unwrap_or_default().to_vec();
    if contents.first().is_some_and(|b| *b >= 0x80) {
        contents.insert(0, 0);
    }
    tlv(INTEGER, &contents)
}

/// A non-negative INTEGER of any length, from its big-endian bytes.
pub(crate) fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let first = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len());
    let mut contents = bytes.get(first..).unwrap_or_default().to_vec();
    if contents.first().is_none_or(|b| *b >= 0x80) {
        contents.insert(0, 0);
    }
    tlv(INTEGER, &contents)
}

pub(crate) fn boolean_true() -> Vec<u8> {
    tlv(BOOLEAN, &[0xFF])
}

pub(crate) fn boolean_false() -> Vec<u8> {
    tlv(BOOLEAN, &[0])
}

pub(crate) fn null() -> Vec<u8> {
    tlv(NULL, &[])
}

pub(crate) fn octet_string(bytes: &[u8]) -> Vec<u8> {
    tlv(OCTET_STRING, bytes)
}

/// Whole bytes: no unused bits.
pub(crate) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    tlv(BIT_STRING, &[&[0], bytes].concat())
}

/// The named bits of one byte, most significant first, trailing zero bits dropped as DER wants.
pub(crate) fn named_bits(bits: u8) -> Vec<u8> {
    let unused = u8::try_from(bits.trailing_zeros().min(7)).expect("at most 7");
    tlv(BIT_STRING, &[unused, bits])
}

pub(crate) fn utf8_string(text: &str) -> Vec<u8> {
    tlv(UTF8_STRING, text.as_bytes())
}

pub(crate) fn printable_string(text: &str) -> Vec<u8> {
    tlv(PRINTABLE_STRING, text.as_bytes())
}

pub(crate) fn ia5_string(text: &str) -> Vec<u8> {
    tlv(IA5_STRING, text.as_bytes())
}

/// An OBJECT IDENTIFIER from its arcs; the first is at most 2 and the second below 40.
pub(crate) fn oid(arcs: &[u32]) -> Vec<u8> {
    let [first, second, rest @ ..] = arcs else { panic!("an object identifier has two arcs or more") };
    let mut contents = Vec::new();
    for arc in std::iter::once(first * 40 + second).chain(rest.iter().copied()) {
        base128(arc, &mut contents);
    }
    tlv(OID, &contents)
}

fn base128(value: u32, out: &mut Vec<u8>) {
    for shift in [28, 21, 14, 7] {
        if value >> shift != 0 {
            out.push(0x80 | low_seven(value >> shift));
        }
    }
    out.push(low_seven(value));
}

fn low_seven(value: u32) -> u8 {
    u8::try_from(value & 0x7F).expect("seven bits")
}

/// UTCTime until 2049, GeneralizedTime after (RFC 5280 §4.1.2.5).
///
/// # Panics
/// Outside the years 1950–9999, which no certificate of the simulator needs.
pub(crate) fn time(at: UnixTime) -> Vec<u8> {
    let at = OffsetDateTime::from_unix_timestamp(at.as_secs()).expect("a time of the years 1950–9999");
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let rest = format!("{month:02}{day:02}{:02}{:02}{:02}Z", at.hour(), at.minute(), at.second());
    match year {
        1950..=2049 => tlv(UTC_TIME, format!("{:02}{rest}", year % 100).as_bytes()),
        2050..=9999 => tlv(GENERALIZED_TIME, format!("{year:04}{rest}").as_bytes()),
        _ => panic!("a time of the years 1950–9999, not of {year}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_shortest_and_never_negative() {
        assert_eq!(integer(0), [2, 1, 0]);
        assert_eq!(integer(0x7F), [2, 1, 0x7F]);
        assert_eq!(integer(0xD1), [2, 2, 0, 0xD1]);
        assert_eq!(integer(0x01_0101), [2, 3, 1, 1, 1]);
        assert_eq!(integer(u64::MAX).len(), 2 + 9);
    }

    #[test]
    fn lengths_are_shortest() {
        assert_eq!(tlv(4, &[0; 0x7F])[..2], [4, 0x7F]);
        assert_eq!(tlv(4, &[0; 0x80])[..3], [4, 0x81, 0x80]);
        assert_eq!(tlv(4, &[0; 0x100])[..4], [4, 0x82, 1, 0]);
    }

    #[test]
    fn object_identifiers_are_base_128() {
        assert_eq!(oid(&[1, 3, 6, 1, 4, 1, 3704, 1, 3, 8])[2..], [0x2B, 6, 1, 4, 1, 0x9C, 0x78, 1, 3, 8]);
    }

    #[test]
    fn times_change_their_form_in_2050() {
        let at = |text| UnixTime::parse_rfc3339(text).unwrap();
        assert_eq!(&time(at("2049-12-31T23:59:59Z"))[2..], b"491231235959Z");
        assert_eq!(time(at("2050-01-01T00:00:00Z"))[..], *b"\x18\x0f20500101000000Z");
    }

    #[test]
    fn named_bits_drop_trailing_zeros() {
        assert_eq!(named_bits(0b0000_0100), [3, 2, 2, 4]);
        assert_eq!(named_bits(0b0000_0110), [3, 2, 1, 6]);
    }
}
