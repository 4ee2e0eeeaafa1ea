//! The body of ATTEST: everything that a verifier needs, and nothing that it may believe before something signed says it.

mod hardware;
mod items;
mod tpm;

pub use hardware::{HardwareFormat, decode_hardware, encode_hardware};
pub use items::{Endorsement, PartInfo, media, part};
pub use tpm::TpmEvidence;

use super::cbor::{CborError, Decoder, Encoder};
use super::limits::*;
use crate::digest::bytes_type;
use items::limit;

bytes_type!(
    /// A hash on a path of the tree.
    Sibling, 32);

/// What an ATTEST is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AttestPurpose {
    /// The first frame of a connection.
    Initial = 1,
    /// The answer to a CHALLENGE.
    Reattest = 2,
    /// A later confirmation by slower hardware.
    HwConfirm = 3,
}

/// Bits of key 12 and of OPEN key 5: a feature is on when both sides set it.
pub mod features {
    /// After FIN in both directions the connection carries another OPEN.
    pub const REUSE: u64 = 1 << 0;
    /// Control connections and re-attestation.
    pub const CONTROL: u64 = 1 << 1;
    /// Unframed tunnels. Reserved.
    pub const RAW: u64 = 1 << 2;
}

/// ATTEST, parsed. Every field is a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attest {
    pub purpose: AttestPurpose,
    pub seq: u64,
    /// The statement exactly as sent: B is over these bytes.
    pub statement: Vec<u8>,
    pub index: u64,
    pub siblings: Vec<Sibling>,
    pub hardware: Vec<(HardwareFormat, Vec<u8>)>,
    /// `None` where the platform has no TPM that is asked.
    pub tpm: Option<TpmEvidence>,
    pub endorsements: Vec<Endorsement>,
    pub parts: Vec<PartInfo>,
    /// DER certificates of a CA chain for the same TLS key, leaf first.
    pub identity: Vec<Vec<u8>>,
    /// The server wants the client's evidence before it forwards anything.
    pub client_evidence_wanted: bool,
    pub features: u64,
    /// How long the guest keeps an attested connection that carries no tunnel, in milliseconds.
    pub pool_idle_ms: u64,
}

const WHAT: &str = "ATTEST";

impl Attest {
    /// Strict: unknown keys below 64 refuse, above are ignored.
    pub fn parse(body: &[u8]) -> Result<Self, CborError> {
        if body.len() > MAX_ATTEST {
            return Err(limit("ATTEST", body.len(), MAX_ATTEST));
        }
        let mut found = Fields::default();
        let mut decoder = Decoder::new(body);
        decoder.map(WHAT, 32, |d, key| found.read(d, key))?;
        decoder.finish()?;
        found.complete()
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::new();
        let optional = [
            self.tpm.is_some(),
            !self.endorsements.is_empty(),
            !self.parts.is_empty(),
            !self.identity.is_empty(),
            self.client_evidence_wanted,
        ];
        e.map(8 + optional.iter().filter(|present| **present).count());
        e.uint(1).uint(self.purpose as u64).uint(2).uint(self.seq);
        e.uint(3).bytes(&self.statement).uint(4).uint(self.index);
        e.uint(5).array(self.siblings.len());
        for sibling in &self.siblings {
            e.bytes(sibling.as_bytes());
        }
        hardware::write(e.uint(6), &self.hardware);
        if let Some(tpm) = &self.tpm {
            tpm.encode_to(e.uint(7));
        }
        if !self.endorsements.is_empty() {
            e.uint(8).array(self.endorsements.len());
            for endorsement in &self.endorsements {
                e.array(2).text(&endorsement.media_type).bytes(&endorsement.bytes);
            }
        }
        if !self.parts.is_empty() {
            e.uint(9).array(self.parts.len());
            for part in &self.parts {
                e.array(4).text(&part.name).bytes(part.digest.as_bytes());
                e.uint(part.length.into()).text(&part.media_type);
            }
        }
        if !self.identity.is_empty() {
            e.uint(10).array(self.identity.len());
            for certificate in &self.identity {
                e.bytes(certificate);
            }
        }
        if self.client_evidence_wanted {
            e.uint(11).bool(true);
        }
        e.uint(12).uint(self.features).uint(13).uint(self.pool_idle_ms);
        e.finish()
    }
}

#[derive(Default)]
struct Fields {
    purpose: Option<AttestPurpose>,
    seq: Option<u64>,
    statement: Option<Vec<u8>>,
    index: Option<u64>,
    siblings: Option<Vec<Sibling>>,
    hardware: Option<Vec<(HardwareFormat, Vec<u8>)>>,
    tpm: Option<TpmEvidence>,
    endorsements: Vec<Endorsement>,
    parts: Vec<PartInfo>,
    identity: Vec<Vec<u8>>,
    client_evidence_wanted: bool,
    features: Option<u64>,
    pool_idle_ms: Option<u64>,
}

impl Fields {
    fn read(&mut self, d: &mut Decoder<'_>, key: u64) -> Result<(), CborError> {
        match key {
            1 => self.purpose = Some(purpose(d.uint()?)?),
            2 => self.seq = Some(d.uint()?),
            3 => self.statement = Some(d.bytes("statement", MAX_STATEMENT)?.to_vec()),
            4 => self.index = Some(d.uint()?),
            5 => {
                let siblings = self.siblings.get_or_insert_default();
                d.array("siblings", MAX_PATH, |d| {
                    siblings.push(Sibling::from_bytes(d.array_of("sibling")?));
                    Ok(())
                })?;
            }
            6 => {
                self.hardware = Some(hardware::read(d)?);
            }
            7 => self.tpm = Some(TpmEvidence::read(d)?),
            8 => {
                d.list("endorsements", MAX_ENDORSEMENTS, |d| {
                    self.endorsements.push(items::endorsement(d)?);
                    Ok(())
                })?;
            }
            9 => {
                d.list("parts", MAX_LOGS, |d| {
                    let part = items::part_info(d)?;
                    if self.parts.iter().any(|other| other.name == part.name) {
                        return Err(CborError::Value { what: "part name, twice", value: 9 });
                    }
                    self.parts.push(part);
                    Ok(())
                })?;
            }
            10 => {
                d.list("identity", MAX_ENDORSEMENTS, |d| {
                    self.identity.push(d.bytes("certificate", MAX_CERTIFICATE)?.to_vec());
                    Ok(())
                })?;
            }
            11 => self.client_evidence_wanted = d.bool()?,
            12 => self.features = Some(d.uint()?),
            13 => self.pool_idle_ms = Some(d.uint()?),
            64.. => d.skip()?,
            _ => return Err(CborError::UnknownKey { what: WHAT, key }),
        }
        Ok(())
    }

    fn complete(self) -> Result<Attest, CborError> {
        let missing = |key| CborError::MissingKey { what: WHAT, key };
        Ok(Attest {
            purpose: self.purpose.ok_or(missing(1))?,
            seq: self.seq.ok_or(missing(2))?,
            statement: self.statement.ok_or(missing(3))?,
            index: self.index.ok_or(missing(4))?,
            siblings: self.siblings.ok_or(missing(5))?,
            hardware: self.hardware.ok_or(missing(6))?,
            tpm: self.tpm,
            endorsements: self.endorsements,
            parts: self.parts,
            identity: self.identity,
            client_evidence_wanted: self.client_evidence_wanted,
            features: self.features.ok_or(missing(12))?,
            pool_idle_ms: self.pool_idle_ms.ok_or(missing(13))?,
        })
    }
}

fn purpose(value: u64) -> Result<AttestPurpose, CborError> {
    match value {
        1 => Ok(AttestPurpose::Initial),
        2 => Ok(AttestPurpose::Reattest),
        3 => Ok(AttestPurpose::HwConfirm),
        value => Err(CborError::Value { what: "purpose", value }),
    }
}

#[cfg(test)]
pub(crate) fn example() -> Attest {
    use std::collections::BTreeMap;

    use crate::digest::Sha256Digest;

    Attest {
        purpose: AttestPurpose::Initial,
        seq: 0,
        statement: vec![0xA0],
        index: 1,
        siblings: vec![Sibling::from_bytes([5; 32])],
        hardware: vec![(HardwareFormat::SnpReport, vec![7; 1184])],
        tpm: Some(TpmEvidence {
            attest: vec![8; 145],
            signature: vec![9; 70],
            bank: 0x000B,
            pcrs: BTreeMap::from([(0, vec![1; 32]), (23, vec![2; 32])]),
            public: vec![10; 90],
        }),
        endorsements: vec![Endorsement { media_type: media::CERTIFICATE.into(), bytes: vec![1, 2] }],
        parts: vec![PartInfo {
            name: "settings".into(),
            digest: Sha256Digest::from_bytes([3; 32]),
            length: 9,
            media_type: media::SETTINGS.into(),
        }],
        identity: vec![],
        client_evidence_wanted: false,
        features: 0,
        pool_idle_ms: 60_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_went() {
        let attest = example();
        assert_eq!(Attest::parse(&attest.encode()), Ok(attest.clone()));
        let bare = Attest { tpm: None, endorsements: vec![], parts: vec![], client_evidence_wanted: true, ..attest };
        assert_eq!(Attest::parse(&bare.encode()), Ok(bare));
    }

    #[test]
    fn proto_d7_a_ninth_endorsement_and_one_too_large_are_refused() {
        let mut attest = example();
        attest.endorsements = vec![attest.endorsements[0].clone(); 9];
        let seen = Attest::parse(&attest.encode()).unwrap_err();
        assert!(matches!(seen, CborError::Limit { what: "endorsements", seen: 9, limit: 8, .. }), "{seen}");
        attest.endorsements = vec![Endorsement { media_type: media::CERTIFICATE.into(), bytes: vec![0; 4097] }];
        assert!(matches!(
            Attest::parse(&attest.encode()),
            Err(CborError::Limit { what: "endorsement", seen: 4097, .. })
        ));
    }

    #[test]
    fn truncated_anywhere_is_refused() {
        let body = example().encode();
        for end in 0..body.len() {
            assert!(Attest::parse(&body[..end]).is_err());
        }
    }

    #[test]
    fn the_same_hardware_format_twice_is_refused() {
        let mut attest = example();
        attest.hardware.push(attest.hardware[0].clone());
        assert!(matches!(
            Attest::parse(&attest.encode()),
            Err(CborError::Value { what: "hardware format, twice", .. })
        ));
    }

    #[test]
    fn an_unknown_key_below_64_is_refused_and_one_above_is_ignored() {
        let body = example().encode();
        let with = |key: &[u8]| {
            let mut changed = body.clone();
            changed[0] += 1;
            changed.extend(key);
            Attest::parse(&changed)
        };
        assert_eq!(with(&[0x0E, 0]), Err(CborError::UnknownKey { what: "ATTEST", key: 14 }));
        assert_eq!(with(&[0x18, 64, 0x81, 0]), Ok(example()));
    }

    #[test]
    fn an_empty_list_is_not_another_spelling_of_no_list() {
        let body = Attest { endorsements: vec![], parts: vec![], ..example() }.encode();
        let at = body.len() - 6;
        assert_eq!(body[at..], [0x0C, 0, 0x0D, 0x19, 0xEA, 0x60], "keys 12 and 13 are the last");
        for (key, what) in [(8, "endorsements"), (9, "parts"), (10, "identity")] {
            let mut changed = body.clone();
            changed[0] += 1;
            changed.splice(at..at, [key, 0x80]);
            assert_eq!(Attest::parse(&changed), Err(CborError::Empty { what }));
        }
        let mut attest = example();
        attest.parts[0].length = 0;
        assert_eq!(Attest::parse(&attest.encode()), Err(CborError::Empty { what: "part" }));
    }
}
