//! One bounded reader for every binary format of the project.
//!
//! Contract: never panics, never reads past the slice, and a caller that wants "nothing left over" says so with
//! [`Reader::finish`]. It knows no format; limits belong to the parser that uses it.

/// A cursor over bytes that were received. All reads are checked.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

/// The input ended early, or went on where it had to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Fewer bytes were left than the format needs.
    #[error("input ends at byte {offset}: {wanted} more bytes wanted, {left} left")]
    Short { offset: usize, wanted: usize, left: usize },
    /// Bytes follow what should have been the end.
    #[error("{left} bytes follow the end of the structure at byte {offset}")]
    Trailing { offset: usize, left: usize },
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes, offset: 0 }
    }

    /// Bytes read so far.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes not yet read.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    pub fn take(&mut self, n: usize) -> Result<&'a [u8], ReadError> {
        match self.rest.split_at_checked(n) {
            Some((head, tail)) => {
                self.rest = tail;
                self.offset += n;
                Ok(head)
            }
            None => Err(ReadError::Short { offset: self.offset, wanted: n, left: self.rest.len() }),
        }
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let bytes = self.take(N)?;
        let mut array = [0; N];
        array.copy_from_slice(bytes);
        Ok(array)
    }

    pub fn u8(&mut self) -> Result<u8, ReadError> {
        self.array::<1>().map(|[b]| b)
    }
    pub fn u16_be(&mut self) -> Result<u16, ReadError> {
        self.array().map(u16::from_be_bytes)
    }
    pub fn u24_be(&mut self) -> Result<u32, ReadError> {
        self.array().map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }
    pub fn u32_be(&mut self) -> Result<u32, ReadError> {
        self.array().map(u32::from_be_bytes)
    }
    pub fn u64_be(&mut self) -> Result<u64, ReadError> {
        self.array().map(u64::from_be_bytes)
    }
    pub fn u16_le(&mut self) -> Result<u16, ReadError> {
        self.array().map(u16::from_le_bytes)
    }
    pub fn u32_le(&mut self) -> Result<u32, ReadError> {
        self.array().map(u32::from_le_bytes)
    }
    pub fn u64_le(&mut self) -> Result<u64, ReadError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Everything that is left.
    pub fn remaining(&mut self) -> &'a [u8] {
        let rest = self.rest;
        self.offset += rest.len();
        self.rest = &[];
        rest
    }

    /// Ends the read: anything left over is an error.
    pub fn finish(self) -> Result<(), ReadError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(ReadError::Trailing { offset: self.offset, left: self.rest.len() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_in_order_and_refuses_what_is_left_over() {
        let mut r = Reader::new(&[1, 0, 2, 0xFF]);
        assert_eq!(r.u8(), Ok(1));
        assert_eq!(r.u16_be(), Ok(2));
        assert_eq!(r.clone().finish(), Err(ReadError::Trailing { offset: 3, left: 1 }));
        assert_eq!(r.u16_le(), Err(ReadError::Short { offset: 3, wanted: 2, left: 1 }));
        assert_eq!(r.u8(), Ok(255));
        assert_eq!(r.finish(), Ok(()));
    }
}
