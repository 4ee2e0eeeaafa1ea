//! Keys 8 and 9: endorsements that came along, and parts that can be asked for.

use crate::digest::Sha256Digest;
use crate::wire::cbor::{CborError, Decoder};
use crate::wire::limits::{MAX_CERTIFICATE, MAX_CRL, MAX_MEDIA_TYPE, MAX_PART_TOTAL};

/// A stapled endorsement: bytes of a media type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endorsement {
    pub media_type: String,
    pub bytes: Vec<u8>,
}

/// Something larger that WANT can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartInfo {
    pub name: String,
    pub digest: Sha256Digest,
    pub length: u32,
    pub media_type: String,
}

/// Media types of endorsements (key 8).
pub mod media {
    pub const CERTIFICATE: &str = "application/pkix-cert";
    pub const CRL: &str = "application/pkix-crl";
    /// The settings behind statement key 11: deterministic CBOR, a list of [name, value].
    pub const SETTINGS: &str = "application/vnd.evident.settings+cbor";
    /// A TCG2 (crypto-agile) event log.
    pub const EVENT_LOG: &str = "application/vnd.evident.tcg2-event-log";
    /// A binary IMA measurement list.
    pub const IMA_LOG: &str = "application/vnd.evident.ima-log";
    /// Google's `VMLaunchEndorsement`.
    pub const GCE_ENDORSEMENT: &str = "application/vnd.evident.gce-endorsement";
}

/// Names of parts (key 9) that this version knows.
pub mod part {
    /// The settings behind statement key 11.
    pub const SETTINGS: &str = "settings";
    /// The firmware's TCG2 event log, as the kernel shows it.
    pub const EVENT_LOG: &str = "event-log";
    /// The kernel's IMA measurement list in binary form.
    pub const IMA_LOG: &str = "ima-log";
    /// Google's endorsement of its firmware.
    pub const GCE_ENDORSEMENT: &str = "gce-endorsement";
}

pub(super) fn endorsement(d: &mut Decoder<'_>) -> Result<Endorsement, CborError> {
    d.pair("endorsement", |d| {
        let media_type = d.text("media type", MAX_MEDIA_TYPE)?.to_owned();
        let limit = if media_type == media::CRL { MAX_CRL } else { MAX_CERTIFICATE };
        Ok(Endorsement { media_type, bytes: d.bytes("endorsement", limit)?.to_vec() })
    })
}

pub(super) fn part_info(d: &mut Decoder<'_>) -> Result<PartInfo, CborError> {
    let (mut name, mut digest, mut length, mut media_type, mut at) = (None, None, None, None, 0);
    let count = d.array("part", 4, |d| {
        match at {
            0 => name = Some(d.text("part name", 32)?.to_owned()),
            1 => digest = Some(Sha256Digest::from_bytes(d.array_of("part digest")?)),
            2 => {
                let value = d.uint()?;
                let seen = usize::try_from(value).unwrap_or(usize::MAX);
                if value == 0 {
                    return Err(CborError::Empty { what: "part" });
                }
                length = Some(u32::try_from(value).ok().filter(|_| seen <= MAX_PART_TOTAL).ok_or(limit(
                    "part",
                    seen,
                    MAX_PART_TOTAL,
                ))?);
            }
            _ => media_type = Some(d.text("media type", MAX_MEDIA_TYPE)?.to_owned()),
        }
        at += 1;
        Ok(())
    })?;
    match (name, digest, length, media_type) {
        (Some(name), Some(digest), Some(length), Some(media_type)) => Ok(PartInfo { name, digest, length, media_type }),
        _ => Err(CborError::Length { what: "part", wanted: 4, seen: count }),
    }
}

pub(super) fn limit(what: &'static str, seen: usize, limit: usize) -> CborError {
    CborError::Limit { offset: 0, what, seen: seen as u64, limit: limit as u64 }
}
