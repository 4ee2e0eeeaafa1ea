//! Deterministic CBOR (RFC 8949 §4.2.1), the small part that `evident/1` uses, both ways.
//!
//! Accepted: unsigned integers, byte strings, text strings, arrays, maps with ascending unsigned keys (or ascending text
//! keys, for the CMW), booleans; definite lengths, shortest forms. Everything else is an error: negative numbers, floats,
//! tags, null, indefinite lengths, duplicates, longer forms than needed. Depth and items are bounded before anything is
//! allocated. Written here because strictness is the point: what was signed has exactly one spelling.

use crate::bytes::{ReadError, Reader};

/// Deepest nesting of arrays and maps.
pub const MAX_DEPTH: u8 = 4;
/// Most data items in one message.
pub const MAX_ITEMS: u16 = 256;

const UINT: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const SIMPLE: u8 = 7;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CborError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("byte {offset}: wanted {wanted}, seen major type {seen}")]
    Kind { offset: usize, wanted: &'static str, seen: u8 },
    #[error("byte {offset}: not the shortest form")]
    NotShortest { offset: usize },
    #[error("byte {offset}: indefinite length or reserved form")]
    Form { offset: usize },
    #[error("byte {offset}: map keys are not in ascending order, or one stands twice")]
    KeyOrder { offset: usize },
    #[error("byte {offset}: text is not UTF-8")]
    Utf8 { offset: usize },
    #[error("nested deeper than {MAX_DEPTH}")]
    Depth,
    #[error("more than {MAX_ITEMS} items")]
    Items,
    #[error("byte {offset}: {what} has {seen}, at most {limit} allowed")]
    Limit { offset: usize, what: &'static str, seen: u64, limit: u64 },
    #[error("{what} is empty; what is empty is left out")]
    Empty { what: &'static str },
    #[error("{what}: wanted {wanted} bytes, seen {seen}")]
    Length { what: &'static str, wanted: usize, seen: usize },
    #[error("key {key} of {what} is unknown")]
    UnknownKey { what: &'static str, key: u64 },
    #[error("key {key} of {what} is missing")]
    MissingKey { what: &'static str, key: u64 },
    #[error("{what}: value {value} is not allowed")]
    Value { what: &'static str, value: u64 },
}

/// Reads one message from front to back.
pub struct Decoder<'a> {
    reader: Reader<'a>,
    items: u16,
    depth: u8,
}

impl<'a> Decoder<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Decoder { reader: Reader::new(bytes), items: 0, depth: 0 }
    }

    fn head(&mut self) -> Result<(u8, u64, usize), CborError> {
        let offset = self.reader.offset();
        self.items += 1;
        if self.items > MAX_ITEMS {
            return Err(CborError::Items);
        }
        let first = self.reader.u8()?;
        let (major, info) = (first >> 5, first & 0x1F);
        let (value, least) = match info {
            0..=23 => (u64::from(info), 0),
            24 => (u64::from(self.reader.u8()?), 24),
            25 => (u64::from(self.reader.u16_be()?), 1 << 8),
            26 => (u64::from(self.reader.u32_be()?), 1 << 16),
            27 => (self.reader.u64_be()?, 1 << 32),
            _ => return Err(CborError::Form { offset }),
        };
        if value < least {
            return Err(CborError::NotShortest { offset });
        }
        Ok((major, value, offset))
    }

    fn expect(&mut self, wanted_major: u8, wanted: &'static str) -> Result<(u64, usize), CborError> {
        let (major, value, offset) = self.head()?;
        if major == wanted_major { Ok((value, offset)) } else { Err(CborError::Kind { offset, wanted, seen: major }) }
    }

    pub fn uint(&mut self) -> Result<u64, CborError> {
        self.expect(UINT, "an unsigned integer").map(|(value, _)| value)
    }

    pub fn bool(&mut self) -> Result<bool, CborError> {
        match self.head()? {
            (SIMPLE, 20, _) => Ok(false),
            (SIMPLE, 21, _) => Ok(true),
            (seen, _, offset) => Err(CborError::Kind { offset, wanted: "a boolean", seen }),
        }
    }

    /// Reads a byte string of at least one byte.
    pub fn bytes(&mut self, what: &'static str, limit: usize) -> Result<&'a [u8], CborError> {
        let (length, offset) = self.expect(BYTES, "a byte string")?;
        let bytes = self.string(what, length, limit, offset)?;
        if bytes.is_empty() { Err(CborError::Empty { what }) } else { Ok(bytes) }
    }

    pub fn array_of<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], CborError> {
        let bytes = self.bytes(what, N)?;
        bytes.try_into().map_err(|_| CborError::Length { what, wanted: N, seen: bytes.len() })
    }

    /// Reads a text string of at least one character.
    pub fn text(&mut self, what: &'static str, limit: usize) -> Result<&'a str, CborError> {
        let text = self.text_or_empty(what, limit)?;
        if text.is_empty() { Err(CborError::Empty { what }) } else { Ok(text) }
    }

    /// Reads a text string for people, which may say nothing.
    pub fn text_or_empty(&mut self, what: &'static str, limit: usize) -> Result<&'a str, CborError> {
        let (length, offset) = self.expect(TEXT, "a text string")?;
        let bytes = self.string(what, length, limit, offset)?;
        std::str::from_utf8(bytes).map_err(|_| CborError::Utf8 { offset })
    }

    fn string(&mut self, what: &'static str, length: u64, limit: usize, offset: usize) -> Result<&'a [u8], CborError> {
        match usize::try_from(length) {
            Ok(n) if n <= limit => Ok(self.reader.take(n)?),
            _ => Err(CborError::Limit { offset, what, seen: length, limit: limit as u64 }),
        }
    }

    fn open(&mut self, major: u8, wanted: &'static str, what: &'static str, limit: usize) -> Result<usize, CborError> {
        let (count, offset) = self.expect(major, wanted)?;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(CborError::Depth);
        }
        usize::try_from(count).ok().filter(|n| *n <= limit).ok_or(CborError::Limit {
            offset,
            what,
            seen: count,
            limit: limit as u64,
        })
    }

    /// Reads an array, `each` per element.
    pub fn array(
        &mut self,
        what: &'static str,
        limit: usize,
        mut each: impl FnMut(&mut Self) -> Result<(), CborError>,
    ) -> Result<usize, CborError> {
        let count = self.open(ARRAY, "an array", what, limit)?;
        for _ in 0..count {
            each(self)?;
        }
        self.depth -= 1;
        Ok(count)
    }

    /// Reads an array of at least one element: where the format has an optional key, an empty list is left out.
    pub fn list(
        &mut self,
        what: &'static str,
        limit: usize,
        each: impl FnMut(&mut Self) -> Result<(), CborError>,
    ) -> Result<(), CborError> {
        match self.array(what, limit, each)? {
            0 => Err(CborError::Empty { what }),
            _ => Ok(()),
        }
    }

    /// Reads an array of exactly two elements.
    pub fn pair<T>(
        &mut self,
        what: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, CborError>,
    ) -> Result<T, CborError> {
        let count = self.open(ARRAY, "an array", what, 2)?;
        if count != 2 {
            return Err(CborError::Length { what, wanted: 2, seen: count });
        }
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    /// Reads a map with unsigned keys in ascending order; `each` gets the key and reads the value.
    pub fn map(
        &mut self,
        what: &'static str,
        limit: usize,
        mut each: impl FnMut(&mut Self, u64) -> Result<(), CborError>,
    ) -> Result<(), CborError> {
        let count = self.open(MAP, "a map", what, limit)?;
        let mut last = None;
        for _ in 0..count {
            let offset = self.reader.offset();
            let key = self.uint()?;
            if last.is_some_and(|last| key <= last) {
                return Err(CborError::KeyOrder { offset });
            }
            last = Some(key);
            each(self, key)?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// Reads a map of at least one pair, with text keys in the order of their encodings (shorter first, then by bytes).
    pub fn text_map(
        &mut self,
        what: &'static str,
        limit: usize,
        key_limit: usize,
        mut each: impl FnMut(&mut Self, &'a str) -> Result<(), CborError>,
    ) -> Result<(), CborError> {
        let count = self.open(MAP, "a map", what, limit)?;
        if count == 0 {
            return Err(CborError::Empty { what });
        }
        let mut last: Option<(usize, &[u8])> = None;
        for _ in 0..count {
            let offset = self.reader.offset();
            let key = self.text("key", key_limit)?;
            let order = (key.len(), key.as_bytes());
            if last.is_some_and(|last| order <= last) {
                return Err(CborError::KeyOrder { offset });
            }
            last = Some(order);
            each(self, key)?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// Skips one item of any accepted kind: for keys that the format says to ignore.
    pub fn skip(&mut self) -> Result<(), CborError> {
        let (major, value, offset) = self.head()?;
        match major {
            UINT => Ok(()),
            SIMPLE if value == 20 || value == 21 => Ok(()),
            BYTES | TEXT => {
                let n = usize::try_from(value).map_err(|_| CborError::Form { offset })?;
                self.reader.take(n)?;
                Ok(())
            }
            ARRAY | MAP => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err(CborError::Depth);
                }
                let count = if major == MAP { value.saturating_mul(2) } else { value };
                if count > u64::from(MAX_ITEMS) {
                    return Err(CborError::Items);
                }
                for _ in 0..count {
                    self.skip()?;
                }
                self.depth -= 1;
                Ok(())
            }
            seen => Err(CborError::Kind { offset, wanted: "an item of the profile", seen }),
        }
    }

    pub fn finish(self) -> Result<(), CborError> {
        Ok(self.reader.finish()?)
    }
}

/// Writes one message. The caller writes map keys in ascending order; a debug assertion is in the round-trip tests.
#[derive(Default)]
pub struct Encoder {
    out: Vec<u8>,
}

impl Encoder {
    pub fn new() -> Self {
        Self::default()
    }

    fn head(&mut self, major: u8, value: u64) -> &mut Self {
        let top = major << 5;
        if value < 24 {
            self.out.push(top | value.to_be_bytes()[7]);
        } else if let Ok(v) = u8::try_from(value) {
            self.out.extend([top | 24, v]);
        } else if let Ok(v) = u16::try_from(value) {
            self.out.push(top | 25);
            self.out.extend(v.to_be_bytes());
        } else if let Ok(v) = u32::try_from(value) {
            self.out.push(top | 26);
            self.out.extend(v.to_be_bytes());
        } else {
            self.out.push(top | 27);
            self.out.extend(value.to_be_bytes());
        }
        self
    }

    pub fn uint(&mut self, value: u64) -> &mut Self {
        self.head(UINT, value)
    }
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.head(SIMPLE, 20 + u64::from(value))
    }
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.head(BYTES, value.len() as u64).out.extend(value);
        self
    }
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.head(TEXT, value.len() as u64).out.extend(value.as_bytes());
        self
    }
    /// Opens an array of `count` items, which follow.
    pub fn array(&mut self, count: usize) -> &mut Self {
        self.head(ARRAY, count as u64)
    }
    /// Opens a map of `count` pairs, which follow.
    pub fn map(&mut self, count: usize) -> &mut Self {
        self.head(MAP, count as u64)
    }
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uint(bytes: &[u8]) -> Result<u64, CborError> {
        let mut d = Decoder::new(bytes);
        let value = d.uint()?;
        d.finish()?;
        Ok(value)
    }

    #[test]
    fn numbers_have_one_spelling() {
        for value in [0, 23, 24, 255, 256, 65_535, 65_536, u64::from(u32::MAX), u64::from(u32::MAX) + 1, u64::MAX] {
            assert_eq!(uint(&Encoder::new().uint(value).finish()), Ok(value));
        }
        for long in [&[0x18, 23][..], &[0x19, 0, 255], &[0x1A, 0, 0, 255, 255], &[0x1B, 0, 0, 0, 0, 1, 0, 0, 0]] {
            assert_eq!(uint(long), Err(CborError::NotShortest { offset: 0 }));
        }
        assert_eq!(uint(&[0x20]), Err(CborError::Kind { offset: 0, wanted: "an unsigned integer", seen: 1 }));
        assert!(matches!(uint(&[0x00, 0x00]), Err(CborError::Read(ReadError::Trailing { .. }))));
    }

    fn map(bytes: &[u8]) -> Result<Vec<u64>, CborError> {
        let mut keys = vec![];
        let mut d = Decoder::new(bytes);
        d.map("test", 8, |d, key| {
            keys.push(key);
            d.skip()
        })?;
        d.finish()?;
        Ok(keys)
    }

    #[test]
    fn proto_d2_duplicates_disorder_indefinite_tags_floats_depth_and_counts_are_refused() {
        assert_eq!(map(&[0xA2, 1, 0, 2, 0]), Ok(vec![1, 2]));
        assert_eq!(map(&[0xA2, 1, 0, 1, 0]), Err(CborError::KeyOrder { offset: 3 }));
        assert_eq!(map(&[0xA2, 2, 0, 1, 0]), Err(CborError::KeyOrder { offset: 3 }));
        assert_eq!(map(&[0xBF, 1, 0, 0xFF]), Err(CborError::Form { offset: 0 }));
        assert_eq!(
            map(&[0xA1, 1, 0xC0, 0]),
            Err(CborError::Kind { offset: 2, wanted: "an item of the profile", seen: 6 })
        );
        assert!(map(&[0xA1, 1, 0xF9, 0, 0]).is_err());
        assert!(map(&[0xA1, 1, 0xF6]).is_err());
        assert_eq!(map(&[0xA1, 1, 0x81, 0x81, 0x81, 0x81, 0]), Err(CborError::Depth));
        assert!(matches!(map(&[0xBB, 255, 255, 255, 255, 255, 255, 255, 255]), Err(CborError::Limit { .. })));
        let mut many = vec![0xA1, 1, 0x99, 1, 0];
        many.extend([0; 256]);
        assert_eq!(map(&many), Err(CborError::Items));
        assert!(matches!(map(&[0xA1, 1, 0x5B, 255, 255, 255, 255, 255, 255, 255, 255]), Err(CborError::Read(_))));
    }

    #[test]
    fn what_is_empty_is_left_out() {
        let empty = |what| CborError::Empty { what };
        assert_eq!(Decoder::new(&[0x40]).bytes("token", 8), Err(empty("token")));
        assert_eq!(Decoder::new(&[0x60]).text("target", 8), Err(empty("target")));
        assert_eq!(Decoder::new(&[0x60]).text_or_empty("text", 8), Ok(""));
        assert_eq!(Decoder::new(&[0x80]).list("names", 8, |d| d.skip()), Err(empty("names")));
        assert_eq!(Decoder::new(&[0x81, 0]).list("names", 8, |d| d.skip()), Ok(()));
        assert_eq!(Decoder::new(&[0xA0]).text_map("logs", 8, 8, |d, _| d.skip()), Err(empty("logs")));
    }
}
