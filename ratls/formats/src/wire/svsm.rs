//! Hardware evidence of format 3: a report of VMPL 0 with what an SVSM hashed into it (docs/protocol.md, "ATTEST").

use super::cbor::{CborError, Decoder, Encoder};
use super::limits::{MAX_SVSM_MANIFEST, MAX_SVSM_REPORT};
use crate::digest::bytes_type;

bytes_type!(
    /// What the guest gave for the report: B, where the report is fresh.
    Nonce, 64);

/// Report, manifest and nonce as the guest got and gave them. All of it is claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SvsmEvidence {
    pub report: Vec<u8>,
    pub manifest: Vec<u8>,
    pub nonce: Nonce,
}

const WHAT: &str = "SVSM evidence";

impl SvsmEvidence {
    pub fn parse(bytes: &[u8]) -> Result<Self, CborError> {
        let (mut report, mut manifest, mut nonce) = (None, None, None);
        let mut d = Decoder::new(bytes);
        d.map(WHAT, 3, |d, key| {
            match key {
                1 => report = Some(d.bytes("report", MAX_SVSM_REPORT)?.to_vec()),
                2 => manifest = Some(d.bytes("manifest", MAX_SVSM_MANIFEST)?.to_vec()),
                3 => nonce = Some(Nonce::from_bytes(d.array_of("nonce")?)),
                key => return Err(CborError::UnknownKey { what: WHAT, key }),
            }
            Ok(())
        })?;
        d.finish()?;
        let missing = |key| CborError::MissingKey { what: WHAT, key };
        Ok(SvsmEvidence {
            report: report.ok_or(missing(1))?,
            manifest: manifest.ok_or(missing(2))?,
            nonce: nonce.ok_or(missing(3))?,
        })
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::new();
        e.map(3).uint(1).bytes(&self.report).uint(2).bytes(&self.manifest).uint(3).bytes(self.nonce.as_bytes());
        e.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_went_and_refuses_anything_shorter_or_larger() {
        let evidence =
            SvsmEvidence { report: vec![1; 1184], manifest: vec![2; 314], nonce: Nonce::from_bytes([3; 64]) };
        let bytes = evidence.encode();
        assert_eq!(SvsmEvidence::parse(&bytes), Ok(evidence.clone()));
        assert!((0..bytes.len()).all(|end| SvsmEvidence::parse(&bytes[..end]).is_err()));
        let large = SvsmEvidence { manifest: vec![2; MAX_SVSM_MANIFEST + 1], ..evidence };
        assert!(matches!(SvsmEvidence::parse(&large.encode()), Err(CborError::Limit { seen: 8193, .. })));
    }
}
