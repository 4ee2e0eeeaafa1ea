//! WANT and PART: larger items, addressed by digest, only those that the ATTEST listed.
//!
//! A part arrives in order: each PART continues where the last one ended, says the same total, and the whole hashes to
//! the digest that was asked for. Anything else ends the connection.

use std::collections::HashMap;

use super::attest::PartInfo;
use super::cbor::{CborError, Decoder, Encoder};
use super::limits::*;
use crate::bytes::Reader;
use crate::crypto::sha256;
use crate::digest::Sha256Digest;

/// The body of WANT: at most [`MAX_WANT`] digests.
pub fn encode_want(digests: &[Sha256Digest]) -> Vec<u8> {
    let mut e = Encoder::new();
    e.array(digests.len());
    for digest in digests {
        e.bytes(digest.as_bytes());
    }
    e.finish()
}

pub fn parse_want(body: &[u8]) -> Result<Vec<Sha256Digest>, CborError> {
    let mut digests = vec![];
    let mut d = Decoder::new(body);
    d.array("digests", MAX_WANT, |d| {
        digests.push(Sha256Digest::from_bytes(d.array_of("digest")?));
        Ok(())
    })?;
    d.finish()?;
    Ok(digests)
}

/// The bodies of the PART frames that carry `bytes`.
pub fn encode_parts(digest: &Sha256Digest, bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let total = u32::try_from(bytes.len()).expect("parts are at most 1 MiB").to_be_bytes();
    bytes.chunks(MAX_PART_BYTES).enumerate().map(move |(i, chunk)| {
        let offset = u32::try_from(i * MAX_PART_BYTES).expect("parts are at most 1 MiB").to_be_bytes();
        let mut body = Vec::with_capacity(PART_HEADER + chunk.len());
        body.extend_from_slice(digest.as_bytes());
        body.extend(total);
        body.extend(offset);
        body.extend(chunk);
        body
    })
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartError {
    #[error("a PART of {0} bytes; it has {PART_HEADER} bytes of header and at least one more")]
    Short(usize),
    #[error("a PART for a digest that was not asked for")]
    NotWanted,
    #[error("a PART says a total of {seen} bytes, {wanted} were announced")]
    Total { seen: u32, wanted: u32 },
    #[error("a PART at offset {seen}, {wanted} comes next")]
    Offset { seen: u32, wanted: u32 },
    #[error("a PART goes beyond its total of {total} bytes")]
    Beyond { total: u32 },
    #[error("the bytes of a part do not have its digest")]
    Digest,
    #[error("parts of {seen} bytes in all were announced; at most {MAX_PARTS_TOTAL} are taken")]
    TooMuch { seen: usize },
    #[error("a part of no bytes was announced")]
    EmptyPart,
}

/// Collects the parts that were asked for.
#[derive(Debug)]
pub struct Assembler {
    wanted: HashMap<Sha256Digest, (u32, Vec<u8>)>,
    done: HashMap<Sha256Digest, Vec<u8>>,
}

impl Assembler {
    pub fn new<'a>(wanted: impl IntoIterator<Item = &'a PartInfo>) -> Result<Self, PartError> {
        let mut map = HashMap::new();
        let mut seen = 0usize;
        for part in wanted {
            if part.length == 0 {
                return Err(PartError::EmptyPart);
            }
            if map.insert(part.digest, (part.length, vec![])).is_none() {
                seen = seen.saturating_add(part.length as usize);
            }
        }
        if seen > MAX_PARTS_TOTAL {
            return Err(PartError::TooMuch { seen });
        }
        Ok(Assembler { wanted: map, done: HashMap::new() })
    }

    /// Takes the body of one PART; true when everything that was asked for is here.
    pub fn add(&mut self, body: &[u8]) -> Result<bool, PartError> {
        let mut reader = Reader::new(body);
        let short = |_| PartError::Short(body.len());
        let digest = Sha256Digest::from_bytes(reader.array().map_err(short)?);
        let total = reader.u32_be().map_err(short)?;
        let offset = reader.u32_be().map_err(short)?;
        let bytes = reader.remaining();
        if bytes.is_empty() {
            return Err(PartError::Short(body.len()));
        }
        let (wanted, have) = self.wanted.get_mut(&digest).ok_or(PartError::NotWanted)?;
        let next = u32::try_from(have.len()).expect("bounded by the announced length");
        if total != *wanted {
            return Err(PartError::Total { seen: total, wanted: *wanted });
        }
        if offset != next {
            return Err(PartError::Offset { seen: offset, wanted: next });
        }
        if bytes.len() > (total - next) as usize {
            return Err(PartError::Beyond { total });
        }
        have.extend(bytes);
        if have.len() == total as usize {
            if sha256(&[have]) != digest {
                return Err(PartError::Digest);
            }
            let (_, bytes) = self.wanted.remove(&digest).expect("it was just there");
            self.done.insert(digest, bytes);
        }
        Ok(self.wanted.is_empty())
    }

    /// The parts, by digest.
    pub fn finish(self) -> HashMap<Sha256Digest, Vec<u8>> {
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(bytes: &[u8]) -> PartInfo {
        PartInfo { name: "x".into(), digest: sha256(&[bytes]), length: bytes.len() as u32, media_type: "m".into() }
    }

    #[test]
    fn parts_arrive_in_order() {
        let bytes: Vec<u8> = (0..150_000u32).map(|i| i as u8).collect();
        let part = info(&bytes);
        let mut assembler = Assembler::new([&part]).unwrap();
        let bodies: Vec<_> = encode_parts(&part.digest, &bytes).collect();
        assert_eq!(bodies.len(), 3);
        let done: Vec<bool> = bodies.iter().map(|body| assembler.add(body).unwrap()).collect();
        assert_eq!(done, [false, false, true]);
        assert_eq!(assembler.finish()[&part.digest], bytes);
        assert_eq!(parse_want(&encode_want(&[part.digest])), Ok(vec![part.digest]));
    }

    #[test]
    fn proto_d5_wrong_digest_overlap_gap_beyond_total_and_unasked_are_refused() {
        let bytes = vec![1; 100];
        let part = info(&bytes);
        let body = |digest: &Sha256Digest, total: u32, offset: u32, bytes: &[u8]| {
            [&digest.as_bytes()[..], &total.to_be_bytes(), &offset.to_be_bytes(), bytes].concat()
        };
        let add = |bodies: &[Vec<u8>]| {
            let mut assembler = Assembler::new([&part]).unwrap();
            bodies.iter().map(|b| assembler.add(b)).find_map(Result::err)
        };
        let d = &part.digest;
        assert_eq!(add(&[body(d, 100, 0, &[2; 100])]), Some(PartError::Digest));
        assert_eq!(add(&[body(d, 101, 0, &[1; 50])]), Some(PartError::Total { seen: 101, wanted: 100 }));
        let first = body(d, 100, 0, &[1; 50]);
        assert_eq!(add(&[first.clone(), body(d, 100, 49, &[1; 51])]), Some(PartError::Offset { seen: 49, wanted: 50 }));
        assert_eq!(add(&[first.clone(), body(d, 100, 51, &[1; 49])]), Some(PartError::Offset { seen: 51, wanted: 50 }));
        assert_eq!(add(&[first.clone(), body(d, 100, 50, &[1; 51])]), Some(PartError::Beyond { total: 100 }));
        assert_eq!(add(&[body(&Sha256Digest::from_bytes([0; 32]), 100, 0, &[1])]), Some(PartError::NotWanted));
        assert_eq!(add(&[body(d, 100, 0, &[])]), Some(PartError::Short(40)));
        assert_eq!(add(&[first, body(d, 100, 50, &[1; 50]), body(d, 100, 0, &[1])]), Some(PartError::NotWanted));
        let huge: Vec<PartInfo> = (0..5u8)
            .map(|i| PartInfo { digest: Sha256Digest::from_bytes([i; 32]), length: 1 << 20, ..part.clone() })
            .collect();
        assert_eq!(Assembler::new(&huge).unwrap_err(), PartError::TooMuch { seen: 5 << 20 });
    }
}
