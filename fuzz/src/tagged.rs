//! Several byte strings in one input: `u8 tag ‖ u16 length ‖ bytes`, again and again. A length that goes too far takes what is left.

use ratls::bytes::Reader;

pub const ROOT: u8 = b'R';
pub const REPORT: u8 = b'P';
pub const CERTIFICATE: u8 = b'C';
pub const CRL: u8 = b'L';

/// The strings of one input, in order. Other tags are kept: the caller looks for its own.
pub fn split(data: &[u8]) -> Vec<(u8, &[u8])> {
    let mut reader = Reader::new(data);
    let mut items = vec![];
    while let (Ok(tag), Ok(length)) = (reader.u8(), reader.u16_be()) {
        let length = usize::from(length).min(reader.left());
        items.push((tag, reader.take(length).expect("bounded by what is left")));
    }
    items
}

/// The reverse, for seeds.
pub fn join(items: &[(u8, &[u8])]) -> Vec<u8> {
    let mut data = vec![];
    for (tag, bytes) in items {
        data.push(*tag);
        data.extend(u16::try_from(bytes.len()).expect("seeds are below 64 KiB").to_be_bytes());
        data.extend(*bytes);
    }
    data
}
