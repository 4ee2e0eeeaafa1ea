//! A bundle: what one connection showed, in a file, to be verified again at another time.
//!
//! It proves what was signed, not who is on the other end of a connection now.

use std::collections::BTreeMap;

use formats::binding::Bind32;
use formats::crypto::sha256;
use formats::digest::Sha256Digest;
use formats::time::UnixTime;
use formats::wire::cbor::{CborError, Decoder, Encoder};
use formats::wire::limits::*;

/// First bytes of a bundle file, before the CBOR.
pub const MAGIC: &[u8] = b"EVIDENT-BUNDLE\n";
const VERSION: u64 = 1;
/// Largest bundle file.
pub const MAX_BUNDLE: usize = MAGIC.len() + MAX_ATTEST + MAX_PARTS_TOTAL + MAX_LEAF_CERTIFICATE + 4_096;

pub struct Bundle {
    /// The body of ATTEST as received.
    pub attest: Vec<u8>,
    pub parts: BTreeMap<Sha256Digest, Vec<u8>>,
    /// DER of the certificate that the connection showed.
    pub leaf_certificate: Vec<u8>,
    pub bind: Bind32,
    /// When the evidence was received, by the client's clock.
    pub received: UnixTime,
    /// The client saw the AK proven by CRED. Nobody who reads the file can see it again.
    pub witnessed_ak: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    #[error("not a bundle: the file does not begin with {:?}", String::from_utf8_lossy(MAGIC))]
    Magic,
    #[error("a bundle of version {0}; this program reads version {VERSION}")]
    Version(u64),
    #[error("a part does not have its digest")]
    PartDigest,
    #[error("the bundle does not parse")]
    Cbor(#[from] CborError),
}

impl Bundle {
    pub fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::new();
        e.map(if self.witnessed_ak { 7 } else { 6 }).uint(1).uint(VERSION).uint(2).bytes(&self.attest);
        e.uint(3).array(self.parts.len());
        for bytes in self.parts.values() {
            e.bytes(bytes);
        }
        e.uint(4).bytes(&self.leaf_certificate).uint(5).bytes(self.bind.as_bytes());
        e.uint(6).uint(u64::try_from(self.received.as_secs()).unwrap_or(0));
        if self.witnessed_ak {
            e.uint(7).bool(true);
        }
        [MAGIC, &e.finish()].concat()
    }

    pub fn parse(file: &[u8]) -> Result<Self, BundleError> {
        let body = file.strip_prefix(MAGIC).ok_or(BundleError::Magic)?;
        let (mut version, mut attest, mut parts, mut leaf, mut bind, mut received) =
            (None, None, BTreeMap::new(), None, None, None);
        let mut witnessed_ak = false;
        let mut d = Decoder::new(body);
        d.map("bundle", 7, |d, key| {
            match key {
                1 => version = Some(d.uint()?),
                2 => attest = Some(d.bytes("ATTEST", MAX_ATTEST)?.to_vec()),
                3 => {
                    d.array("parts", MAX_LOGS, |d| {
                        let bytes = d.bytes("part", MAX_PART_TOTAL)?;
                        parts.insert(sha256(&[bytes]), bytes.to_vec());
                        Ok(())
                    })?;
                }
                4 => leaf = Some(d.bytes("leaf certificate", MAX_LEAF_CERTIFICATE)?.to_vec()),
                5 => bind = Some(Bind32::from_exporter(d.array_of("bind32")?)),
                6 => received = Some(d.uint()?),
                7 => witnessed_ak = witnessed(d)?,
                key => return Err(CborError::UnknownKey { what: "bundle", key }),
            }
            Ok(())
        })?;
        d.finish()?;
        let missing = |key| CborError::MissingKey { what: "bundle", key };
        match version.ok_or(missing(1))? {
            VERSION => {}
            other => return Err(BundleError::Version(other)),
        }
        let received = received.ok_or(missing(6))?;
        Ok(Bundle {
            attest: attest.ok_or(missing(2))?,
            parts,
            witnessed_ak,
            leaf_certificate: leaf.ok_or(missing(4))?,
            bind: bind.ok_or(missing(5))?,
            received: UnixTime::from_secs(
                i64::try_from(received).map_err(|_| CborError::Value { what: "time", value: received })?,
            ),
        })
    }
}

/// True, or left out.
fn witnessed(d: &mut Decoder<'_>) -> Result<bool, CborError> {
    if d.bool()? { Ok(true) } else { Err(CborError::Value { what: "AK proof witnessed", value: 0 }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_went_and_refuses_anything_shorter() {
        let bundle = Bundle {
            attest: vec![1, 2],
            parts: BTreeMap::from([(sha256(&[b"log"]), b"log".to_vec())]),
            leaf_certificate: vec![3; 300],
            bind: Bind32::from_exporter([4; 32]),
            received: UnixTime::from_secs(1_800_000_000),
            witnessed_ak: true,
        };
        let file = bundle.encode();
        let back = Bundle::parse(&file).unwrap();
        assert_eq!((back.attest, back.parts, back.received), (bundle.attest, bundle.parts, bundle.received));
        assert!(back.witnessed_ak && back.bind == bundle.bind && back.leaf_certificate == bundle.leaf_certificate);
        for end in 0..file.len() {
            assert!(Bundle::parse(&file[..end]).is_err());
        }
    }
}
