//! CBOR as others write it: any key order, lengths that may be open, null.
//!
//! The wire's own profile ([`crate::wire::cbor`]) has one spelling for each value. A document that AWS signed has another: its
//! payload is a map without a length. It is read here over the bytes that were signed, so that two spellings are no danger; what
//! is bounded is depth, items and every length. Tags, floats and strings in pieces are refused.

use crate::bytes::{ReadError, Reader};

/// Arrays and maps in each other. An attestation document has two.
const MAX_DEPTH: u8 = 4;
/// Items of one message. An attestation document has about 80.
const MAX_ITEMS: u16 = 512;

/// The bytes are not CBOR of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CborError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("byte {offset} starts no item of an accepted form")]
    Form { offset: usize },
    #[error("byte {offset} is not {wanted}")]
    Kind { offset: usize, wanted: &'static str },
    #[error("{what} has {seen} bytes or items, at most {limit} are read")]
    Limit { what: &'static str, seen: u64, limit: usize },
    #[error("a text is not UTF-8")]
    Utf8,
    #[error("arrays and maps are nested more than {MAX_DEPTH} deep")]
    Depth,
    #[error("more than {MAX_ITEMS} items")]
    Items,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Head {
    Uint(u64),
    Bytes(u64),
    Text(u64),
    /// `None`: until a break.
    Array(Option<u64>),
    Map(Option<u64>),
    Null,
    Break,
}

/// Reads one message.
pub(super) struct Decoder<'a> {
    reader: Reader<'a>,
    depth: u8,
    items: u16,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Decoder { reader: Reader::new(bytes), depth: 0, items: 0 }
    }

    fn head(&mut self) -> Result<(Head, usize), CborError> {
        let offset = self.reader.offset();
        self.items += 1;
        if self.items > MAX_ITEMS {
            return Err(CborError::Items);
        }
        let first = self.reader.u8()?;
        let open = first & 0x1F == 31;
        let argument = match first & 0x1F {
            small @ 0..=23 => u64::from(small),
            24 => self.reader.u8()?.into(),
            25 => self.reader.u16_be()?.into(),
            26 => self.reader.u32_be()?.into(),
            27 => self.reader.u64_be()?,
            31 => 0,
            _ => return Err(CborError::Form { offset }),
        };
        let head = match first >> 5 {
            0 if !open => Head::Uint(argument),
            2 if !open => Head::Bytes(argument),
            3 if !open => Head::Text(argument),
            4 => Head::Array((!open).then_some(argument)),
            5 => Head::Map((!open).then_some(argument)),
            7 if open => Head::Break,
            7 if first == 0xF6 => Head::Null,
            _ => return Err(CborError::Form { offset }),
        };
        Ok((head, offset))
    }

    pub(super) fn uint(&mut self) -> Result<u64, CborError> {
        match self.head()? {
            (Head::Uint(value), _) => Ok(value),
            (_, offset) => Err(CborError::Kind { offset, wanted: "an unsigned integer" }),
        }
    }

    pub(super) fn bytes(&mut self, what: &'static str, limit: usize) -> Result<&'a [u8], CborError> {
        match self.head()? {
            (Head::Bytes(len), _) => self.take(what, len, limit),
            (_, offset) => Err(CborError::Kind { offset, wanted: "a byte string" }),
        }
    }

    pub(super) fn bytes_or_null(&mut self, what: &'static str, limit: usize) -> Result<Option<&'a [u8]>, CborError> {
        match self.head()? {
            (Head::Bytes(len), _) => self.take(what, len, limit).map(Some),
            (Head::Null, _) => Ok(None),
            (_, offset) => Err(CborError::Kind { offset, wanted: "a byte string or null" }),
        }
    }

    pub(super) fn text(&mut self, what: &'static str, limit: usize) -> Result<&'a str, CborError> {
        match self.head()? {
            (Head::Text(len), _) => std::str::from_utf8(self.take(what, len, limit)?).map_err(|_| CborError::Utf8),
            (_, offset) => Err(CborError::Kind { offset, wanted: "a text" }),
        }
    }

    fn take(&mut self, what: &'static str, len: u64, limit: usize) -> Result<&'a [u8], CborError> {
        match usize::try_from(len) {
            Ok(n) if n <= limit => Ok(self.reader.take(n)?),
            _ => Err(CborError::Limit { what, seen: len, limit }),
        }
    }

    /// Reads an array, `each` per element.
    pub(super) fn array<E: From<CborError>>(
        &mut self,
        what: &'static str,
        limit: usize,
        each: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<usize, E> {
        match self.head()? {
            (Head::Array(count), _) => self.contents(what, count, limit, each),
            (_, offset) => Err(CborError::Kind { offset, wanted: "an array" }.into()),
        }
    }

    /// Reads a map, `each` per pair: it reads key and value, and tells duplicates.
    pub(super) fn map<E: From<CborError>>(
        &mut self,
        what: &'static str,
        limit: usize,
        each: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<usize, E> {
        match self.head()? {
            (Head::Map(count), _) => self.contents(what, count, limit, each),
            (_, offset) => Err(CborError::Kind { offset, wanted: "a map" }.into()),
        }
    }

    fn contents<E: From<CborError>>(
        &mut self,
        what: &'static str,
        count: Option<u64>,
        limit: usize,
        mut each: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<usize, E> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(CborError::Depth.into());
        }
        let mut read: usize = 0;
        loop {
            match count {
                Some(count) if u64::try_from(read) == Ok(count) => break,
                None if self.at_break() => {
                    self.head()?;
                    break;
                }
                _ => {}
            }
            if read == limit {
                return Err(CborError::Limit { what, seen: count.unwrap_or(u64::MAX), limit }.into());
            }
            each(self)?;
            read += 1;
        }
        self.depth -= 1;
        Ok(read)
    }

    fn at_break(&self) -> bool {
        self.reader.clone().u8() == Ok(0xFF)
    }

    pub(super) fn finish(self) -> Result<(), CborError> {
        Ok(self.reader.finish()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(bytes: &[u8]) -> Result<Vec<u64>, CborError> {
        let mut found = vec![];
        let mut decoder = Decoder::new(bytes);
        decoder.map("test", 3, |d| {
            found.push(d.uint()?);
            found.push(d.uint()?);
            Ok::<_, CborError>(())
        })?;
        decoder.finish()?;
        Ok(found)
    }

    #[test]
    fn maps_with_and_without_a_length_are_the_same() {
        assert_eq!(numbers(&[0xA2, 2, 0, 1, 0x18, 5]), Ok(vec![2, 0, 1, 5]));
        assert_eq!(numbers(&[0xBF, 2, 0, 1, 5, 0xFF]), Ok(vec![2, 0, 1, 5]));
        assert!(matches!(numbers(&[0xBF, 2, 0]), Err(CborError::Read(_))), "no end");
        assert!(matches!(numbers(&[0xA1, 2, 0, 1]), Err(CborError::Read(_))), "something behind");
        assert!(matches!(numbers(&[0xBF, 2, 0xFF]), Err(CborError::Kind { .. })), "a key without a value");
        assert!(matches!(numbers(&[0xA4, 0, 0, 0, 0, 0, 0, 0, 0]), Err(CborError::Limit { .. })));
        assert!(matches!(numbers(&[0xBF, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF]), Err(CborError::Limit { .. })));
    }

    #[test]
    fn tags_pieces_floats_and_depth_are_refused() {
        for bad in [&[0xD2, 0xA0][..], &[0xA1, 0x1F, 0], &[0xA1, 0x1C, 0], &[0xA1, 0xF9, 0, 0], &[0xA1, 0x20, 0]] {
            assert!(matches!(numbers(bad), Err(CborError::Form { .. })), "{bad:x?}");
        }
        assert!(matches!(Decoder::new(&[0x5F, 0x41, 0, 0xFF]).bytes("test", 9), Err(CborError::Form { .. })));
        assert!(matches!(
            Decoder::new(&[0x5B, 255, 255, 255, 255, 255, 255, 255, 255]).bytes("test", 9),
            Err(CborError::Limit { .. })
        ));
        fn nest(d: &mut Decoder<'_>) -> Result<(), CborError> {
            d.array("test", 1, nest).map(|_| ())
        }
        assert_eq!(nest(&mut Decoder::new(&[0x81; 9])), Err(CborError::Depth));
        let mut many = vec![0x9F];
        many.extend([0; 600]);
        let read = |d: &mut Decoder<'_>| d.uint().map(|_| ());
        assert_eq!(Decoder::new(&many).array("test", 1000, read), Err(CborError::Items));
    }
}
