//! The X.509 carrier: the lean leaf of `evident/1`, and the evidence-bearing leaf that ordinary clients get.
//!
//! The evidence stands in `id-pe-cmw` (1.3.6.1.5.5.7.1.35, not critical): a DER OCTET STRING that holds a CMW collection
//! (draft-ietf-rats-msg-wrap) with the entries `st` (statement), `hw` (hardware evidence), `end` (endorsements) and, where a TPM
//! quoted, `tpm`. It proves that the
//! key belongs to an attested guest, not that this connection ends there: an extracted key can be relayed to.

use formats::binding::SpkiDigest;
use formats::crypto::sha256;
use formats::wire::attest::{Endorsement, HardwareFormat, TpmEvidence, decode_hardware, encode_hardware, media};
use formats::wire::cbor::{CborError, Decoder, Encoder};
use formats::wire::limits::*;
use x509_parser::prelude::*;

/// OID of `id-pe-cmw`.
pub const CMW_OID: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 1, 35];
const CMW_OID_TEXT: &str = "1.3.6.1.5.5.7.1.35";
/// Value of `__cmwc_t`: says that the collection is EVIDENT's, version 1.
pub const CMW_TYPE: &str = "tag:evident.example,2026:cmw/1";
const STATEMENT_TYPE: &str = "application/vnd.evident.statement+cbor";
const REPORT_TYPE: &str = "application/vnd.amd.sev-snp.report";
/// Hardware evidence of any other kind: CBOR, as ATTEST key 6.
const HARDWARE_TYPE: &str = "application/vnd.evident.hardware+cbor";
/// CBOR, as ATTEST key 7.
const TPM_TYPE: &str = "application/vnd.evident.tpm+cbor";
const ENDORSEMENTS_TYPE: &str = "application/vnd.evident.endorsements+cbor";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertError {
    #[error("the leaf certificate of {0} bytes does not parse")]
    Certificate(usize),
    #[error("the leaf certificate carries no evidence (no extension {CMW_OID_TEXT})")]
    NoEvidence,
    #[error("the extension {CMW_OID_TEXT} stands there {0} times")]
    Duplicate(usize),
    #[error("an extension of {0} bytes; at most {MAX_CMW} are allowed")]
    Size(usize),
    #[error("the extension is not one DER octet string")]
    OctetString,
    #[error("the CMW collection does not parse: {0}")]
    Cbor(#[from] CborError),
    #[error("CMW entry {entry}: media type {seen:?}")]
    MediaType { entry: &'static str, seen: String },
    #[error("the CMW collection has no entry {0:?}")]
    Missing(&'static str),
    #[error("CMW entry {0:?} is not of this version")]
    Unknown(String),
}

/// SHA-256 of the DER SubjectPublicKeyInfo, as received.
pub fn spki_digest(leaf: &[u8]) -> Result<SpkiDigest, CertError> {
    let certificate = parse(leaf)?;
    Ok(SpkiDigest::from_bytes(*sha256(&[certificate.public_key().raw]).as_bytes()))
}

fn parse(leaf: &[u8]) -> Result<X509Certificate<'_>, CertError> {
    match X509Certificate::from_der(leaf) {
        Ok((rest, certificate)) if rest.is_empty() && leaf.len() <= MAX_LEAF_CERTIFICATE => Ok(certificate),
        _ => Err(CertError::Certificate(leaf.len())),
    }
}

/// Evidence for a key, as the evidence-bearing leaf carries it. All of it is claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEvidence {
    pub statement: Vec<u8>,
    /// As in ATTEST key 6.
    pub hardware: Vec<(HardwareFormat, Vec<u8>)>,
    pub tpm: Option<TpmEvidence>,
    pub endorsements: Vec<Endorsement>,
}

impl KeyEvidence {
    /// The content of the extension (extnValue): a DER OCTET STRING around the collection.
    pub fn encode_extension(&self) -> Vec<u8> {
        let mut endorsements = Encoder::new();
        endorsements.array(self.endorsements.len());
        for endorsement in &self.endorsements {
            endorsements.array(2).text(&endorsement.media_type).bytes(&endorsement.bytes);
        }
        let mut e = Encoder::new();
        e.map(if self.tpm.is_some() { 5 } else { 4 });
        match &self.hardware[..] {
            [(HardwareFormat::SnpReport, report)] => e.text("hw").array(2).text(REPORT_TYPE).bytes(report),
            several => e.text("hw").array(2).text(HARDWARE_TYPE).bytes(&encode_hardware(several)),
        };
        e.text("st").array(2).text(STATEMENT_TYPE).bytes(&self.statement);
        e.text("end").array(2).text(ENDORSEMENTS_TYPE).bytes(&endorsements.finish());
        if let Some(tpm) = &self.tpm {
            e.text("tpm").array(2).text(TPM_TYPE).bytes(&tpm.encode());
        }
        e.text("__cmwc_t").text(CMW_TYPE);
        octet_string(&e.finish())
    }

    /// Takes the evidence out of a leaf. Exactly one extension; unknown entries refuse.
    pub fn from_leaf(leaf: &[u8]) -> Result<Self, CertError> {
        let certificate = parse(leaf)?;
        let values: Vec<&[u8]> =
            certificate.extensions().iter().filter(|e| e.oid.to_id_string() == CMW_OID_TEXT).map(|e| e.value).collect();
        match values[..] {
            [] => Err(CertError::NoEvidence),
            [value] => Self::parse_extension(value),
            _ => Err(CertError::Duplicate(values.len())),
        }
    }

    /// Parses the content of the extension.
    pub fn parse_extension(value: &[u8]) -> Result<Self, CertError> {
        if value.len() > MAX_CMW {
            return Err(CertError::Size(value.len()));
        }
        let collection = octet_string_content(value).ok_or(CertError::OctetString)?;
        let (mut statement, mut hardware, mut list, mut tpm, mut kind, mut unknown) =
            (None, None, None, None, None, None);
        let mut d = Decoder::new(collection);
        d.text_map("CMW", 8, 32, |d, key| {
            match key {
                "hw" => hardware = Some(entry(d, MAX_CMW)?),
                "st" => statement = Some(entry(d, MAX_STATEMENT)?),
                "end" => list = Some(entry(d, MAX_CMW)?),
                "tpm" => tpm = Some(entry(d, MAX_CMW)?),
                "__cmwc_t" => kind = Some(d.text("CMW type", 100)?),
                other => {
                    unknown = Some(other.to_owned());
                    d.skip()?;
                }
            }
            Ok(())
        })?;
        d.finish()?;
        match (unknown, kind) {
            (Some(entry), _) => return Err(CertError::Unknown(entry)),
            (None, Some(CMW_TYPE)) => {}
            (None, Some(other)) => return Err(CertError::MediaType { entry: "__cmwc_t", seen: other.to_owned() }),
            (None, None) => return Err(CertError::Missing("__cmwc_t")),
        }
        let typed = |entry: &'static str, wanted: &str, value: Option<(&str, &[u8])>| match value {
            None => Err(CertError::Missing(entry)),
            Some((seen, bytes)) if seen == wanted => Ok(bytes.to_vec()),
            Some((seen, _)) => Err(CertError::MediaType { entry, seen: seen.to_owned() }),
        };
        Ok(KeyEvidence {
            statement: typed("st", STATEMENT_TYPE, statement)?,
            hardware: match hardware {
                Some((HARDWARE_TYPE, list)) => several(list)?,
                other => vec![(HardwareFormat::SnpReport, typed("hw", REPORT_TYPE, other)?)],
            },
            tpm: match tpm {
                None => None,
                some => Some(TpmEvidence::parse(&typed("tpm", TPM_TYPE, some)?)?),
            },
            endorsements: endorsements(&typed("end", ENDORSEMENTS_TYPE, list)?)?,
        })
    }
}

fn entry<'a>(d: &mut Decoder<'a>, limit: usize) -> Result<(&'a str, &'a [u8]), CborError> {
    d.pair("CMW entry", |d| Ok((d.text("media type", MAX_MEDIA_TYPE)?, d.bytes("CMW entry", limit)?)))
}

/// A report alone has a media type of its own, and no second spelling.
fn several(list: &[u8]) -> Result<Vec<(HardwareFormat, Vec<u8>)>, CertError> {
    let hardware = decode_hardware(list)?;
    match hardware[..] {
        [(HardwareFormat::SnpReport, _)] => Err(CertError::MediaType { entry: "hw", seen: HARDWARE_TYPE.to_owned() }),
        _ => Ok(hardware),
    }
}

fn endorsements(bytes: &[u8]) -> Result<Vec<Endorsement>, CborError> {
    let mut found = vec![];
    let mut d = Decoder::new(bytes);
    d.array("endorsements", MAX_ENDORSEMENTS, |d| {
        found.push(d.pair("endorsement", |d| {
            let media_type = d.text("media type", MAX_MEDIA_TYPE)?.to_owned();
            let limit = if media_type == media::CRL { MAX_CRL } else { MAX_CERTIFICATE };
            Ok(Endorsement { media_type, bytes: d.bytes("endorsement", limit)?.to_vec() })
        })?);
        Ok(())
    })?;
    d.finish()?;
    Ok(found)
}

fn octet_string(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("the collection is far below 4 GiB").to_be_bytes();
    let significant: Vec<u8> = length.into_iter().skip_while(|b| *b == 0).collect();
    let mut der = vec![0x04];
    match (content.len(), u8::try_from(significant.len())) {
        (0..0x80, _) => der.push(length[3]),
        (_, Ok(n)) => {
            der.push(0x80 | n);
            der.extend(significant);
        }
        _ => unreachable!("four bytes at most"),
    }
    der.extend(content);
    der
}

fn octet_string_content(der: &[u8]) -> Option<&[u8]> {
    let (rest, object) = x509_parser::der_parser::der::parse_der_octetstring(der).ok()?;
    let content = object.as_slice().ok()?;
    // DER has one spelling: what we would write ourselves.
    (rest.is_empty() && octet_string(content) == der).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> KeyEvidence {
        KeyEvidence {
            statement: vec![0xA0; 300],
            hardware: vec![(HardwareFormat::SnpReport, vec![1; 1184])],
            tpm: None,
            endorsements: vec![Endorsement { media_type: media::CERTIFICATE.into(), bytes: vec![2; 1300] }],
        }
    }

    #[test]
    fn comes_back_as_it_went_and_nothing_shorter_does() {
        let value = example().encode_extension();
        assert_eq!(KeyEvidence::parse_extension(&value), Ok(example()));
        for end in 0..value.len() {
            assert!(KeyEvidence::parse_extension(&value[..end]).is_err());
        }
        let mut longer = value;
        longer.push(0);
        assert_eq!(KeyEvidence::parse_extension(&longer), Err(CertError::OctetString));
    }

    #[test]
    fn proto_d4_a_huge_extension_is_refused_before_it_is_parsed() {
        assert_eq!(KeyEvidence::parse_extension(&[4; MAX_CMW + 1]), Err(CertError::Size(MAX_CMW + 1)));
        assert_eq!(spki_digest(&[0x30; 70_000]), Err(CertError::Certificate(70_000)));
        assert_eq!(spki_digest(&[0x30, 0x82, 0xFF, 0xFF]), Err(CertError::Certificate(4)));
        let nested: Vec<u8> = std::iter::repeat_n([0x30, 0x80], 100).flatten().collect();
        assert!(spki_digest(&nested).is_err());
    }

    #[test]
    fn another_media_type_is_refused() {
        let mut value = example().encode_extension();
        let at = value.windows(REPORT_TYPE.len()).position(|w| w == REPORT_TYPE.as_bytes()).unwrap();
        value[at] = b'A';
        assert!(matches!(KeyEvidence::parse_extension(&value), Err(CertError::MediaType { entry: "hw", .. })));
    }

    #[test]
    fn evidence_of_every_platform_comes_back_and_has_one_spelling() {
        let tpm = TpmEvidence {
            attest: vec![1],
            signature: vec![2],
            bank: 11,
            pcrs: [(0, vec![3; 32])].into(),
            public: vec![4],
        };
        for hardware in [
            vec![(HardwareFormat::HclBlob, vec![5; 2600])],
            vec![(HardwareFormat::SnpReport, vec![6; 1184]), (HardwareFormat::NitroDocument, vec![7; 5000])],
        ] {
            let evidence = KeyEvidence { hardware, tpm: Some(tpm.clone()), ..example() };
            let value = evidence.encode_extension();
            assert_eq!(KeyEvidence::parse_extension(&value), Ok(evidence));
            assert!((0..value.len()).all(|end| KeyEvidence::parse_extension(&value[..end]).is_err()));
        }
        let hardware = vec![(HardwareFormat::HclBlob, vec![1; 1184])];
        let mut value = KeyEvidence { hardware, ..example() }.encode_extension();
        let at = value.windows(5).position(|w| w == [2, 0x59, 0x04, 0xA0, 1]).unwrap();
        value[at] = 1;
        assert!(matches!(KeyEvidence::parse_extension(&value), Err(CertError::MediaType { entry: "hw", .. })));
    }
}
