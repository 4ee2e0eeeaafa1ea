//! The attestation document of NitroTPM: bytes to claims (AWS, "NitroTPM attestation document").
//!
//! A COSE_Sign1 without a tag around a CBOR map. Nothing is verified here: who signed it is `verify::endorsement::nitro`'s
//! question. A document of a Nitro *Enclave* has the same envelope and the same root, and differs by holding `pcrs` where this
//! one holds `nitrotpm_pcrs`: it attests another thing, and is refused by name.

use super::cbor::{CborError, Decoder};
use super::tpm::pcr::PcrError;
use super::tpm::{Bank, PcrValues};
use crate::wire::limits::{MAX_HARDWARE_BYTES, MAX_PCR_VALUE, MAX_PCRS};

/// Bytes of a document. Those seen have about 5,000.
pub const MAX_DOCUMENT: usize = MAX_HARDWARE_BYTES;
/// Certificates above the leaf. AWS sends four.
const MAX_CABUNDLE: usize = 7;
/// Bytes of one certificate. Those seen have at most 792.
const MAX_CERTIFICATE: usize = 4096;
/// AWS's limit for each of public_key, user_data and nonce.
const MAX_FIELD: usize = 1024;
/// Module ids look like `i-01234567890abcdef-tpm0123456789abcdef`.
const MAX_MODULE_ID: usize = 128;
/// Longest key of the payload: `nitrotpm_pcrs`.
const MAX_KEY: usize = 32;
/// Pairs in the payload: nine are known.
const MAX_PAIRS: usize = 16;

/// `{1: -35}`, ES384, and nothing else.
const PROTECTED: [u8; 4] = [0xA1, 0x01, 0x38, 0x22];

/// Why bytes are not such a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NitroError {
    #[error("the document has {seen} bytes, at most {MAX_DOCUMENT} are read")]
    TooLarge { seen: usize },
    #[error("the document is not a COSE_Sign1 without a tag")]
    Envelope(#[source] CborError),
    #[error("the COSE_Sign1 has {seen} parts instead of 4")]
    Parts { seen: usize },
    #[error("the protected header is {seen}, wanted a1013822: ES384 and nothing else")]
    Algorithm { seen: String },
    #[error("the unprotected header is not empty")]
    Unprotected,
    #[error("the signature has {seen} bytes, wanted 96")]
    SignatureLength { seen: usize },
    #[error("the payload is malformed")]
    Payload(#[from] CborError),
    #[error("this is the document of a Nitro Enclave, not of a NitroTPM: an enclave has no PCRs of a booted system")]
    Enclave,
    #[error("the payload has {field} twice")]
    Duplicate { field: String },
    #[error("the payload has no {field}")]
    Missing { field: &'static str },
    #[error("the payload has {field:?}, which is not known here")]
    Unknown { field: String },
    #[error("digest is {seen:?}, wanted \"SHA384\"")]
    Digest { seen: String },
    #[error("a PCR value is refused")]
    Pcr(#[from] PcrError),
}

/// A document that was parsed, not verified.
#[derive(Clone, Debug)]
pub struct NitroDocument {
    payload: Vec<u8>,
    signature: [u8; 96],
    module_id: String,
    timestamp_ms: u64,
    pcrs: PcrValues,
    certificate: Vec<u8>,
    cabundle: Vec<Vec<u8>>,
    public_key: Option<Vec<u8>>,
    user_data: Option<Vec<u8>>,
    nonce: Option<Vec<u8>>,
}

impl NitroDocument {
    pub fn parse(bytes: &[u8]) -> Result<Self, NitroError> {
        if bytes.len() > MAX_DOCUMENT {
            return Err(NitroError::TooLarge { seen: bytes.len() });
        }
        match Envelope::parse(bytes) {
            Ok(envelope) => Payload::parse(envelope.payload)?.complete(envelope),
            Err(_) if holds_enclave(bytes) => Err(NitroError::Enclave),
            Err(error) => Err(error),
        }
    }

    /// What ES384 signed: the Sig_structure of RFC 9052 §4.4, with the payload as received.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut signed = vec![0x84, 0x6A];
        signed.extend(b"Signature1");
        signed.push(0x44);
        signed.extend(PROTECTED);
        signed.push(0x40);
        let [.., high, low] = self.payload.len().to_be_bytes();
        match (high, low) {
            (0, short @ 0..=23) => signed.push(0x40 | short),
            (0, low) => signed.extend([0x58, low]),
            (high, low) => signed.extend([0x59, high, low]),
        }
        signed.extend(&self.payload);
        signed
    }

    /// r ‖ s.
    pub fn signature(&self) -> &[u8; 96] {
        &self.signature
    }
    /// The instance and its TPM, such as `i-01234567890abcdef-tpm0000000000000000`.
    pub fn module_id(&self) -> &str {
        &self.module_id
    }
    /// By the clock of the Nitro system, in milliseconds since 1970.
    pub fn timestamp_ms(&self) -> u64 {
        self.timestamp_ms
    }
    /// Of the SHA-384 bank.
    pub fn pcrs(&self) -> &PcrValues {
        &self.pcrs
    }
    /// DER of the leaf.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }
    /// DER of what stands above the leaf, root first.
    pub fn cabundle(&self) -> &[Vec<u8>] {
        &self.cabundle
    }
    /// Whatever the guest gave. It says nothing about who has the key.
    pub fn public_key(&self) -> Option<&[u8]> {
        self.public_key.as_deref()
    }
    pub fn user_data(&self) -> Option<&[u8]> {
        self.user_data.as_deref()
    }
    pub fn nonce(&self) -> Option<&[u8]> {
        self.nonce.as_deref()
    }
}

struct Envelope<'a> {
    payload: &'a [u8],
    signature: [u8; 96],
}

/// Whether an enclave's document stands in bytes that are no document: others wrap theirs. It is refused in any case, and this
/// finds the better reason.
fn holds_enclave(bytes: &[u8]) -> bool {
    const WRAPPER: usize = 16;
    (0..=WRAPPER).filter_map(|skip| bytes.get(skip..)).any(|rest| {
        let envelope = Envelope::read(&mut Decoder::new(rest));
        envelope.is_ok_and(|e| matches!(Payload::parse(e.payload), Err(NitroError::Enclave)))
    })
}

impl<'a> Envelope<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, NitroError> {
        let mut decoder = Decoder::new(bytes);
        let envelope = Self::read(&mut decoder)?;
        decoder.finish().map_err(NitroError::Envelope)?;
        Ok(envelope)
    }

    fn read(decoder: &mut Decoder<'a>) -> Result<Self, NitroError> {
        let (mut protected, mut payload, mut signature): (&[u8], &[u8], &[u8]) = (&[], &[], &[]);
        let mut unprotected = 0;
        let mut part = 0;
        let parts = decoder
            .array("COSE_Sign1", 4, |d| {
                match part {
                    0 => protected = d.bytes("protected header", MAX_KEY)?,
                    1 => unprotected = d.map("unprotected header", 0, |_| Ok::<_, CborError>(()))?,
                    2 => payload = d.bytes("payload", MAX_DOCUMENT)?,
                    _ => signature = d.bytes("signature", MAX_FIELD)?,
                }
                part += 1;
                Ok(())
            })
            .map_err(|error| match error {
                CborError::Limit { what: "unprotected header", .. } => NitroError::Unprotected,
                error => NitroError::Envelope(error),
            })?;
        if parts != 4 {
            return Err(NitroError::Parts { seen: parts });
        }
        if protected != PROTECTED {
            return Err(NitroError::Algorithm { seen: hex::encode(protected) });
        }
        let signature = signature.try_into().map_err(|_| NitroError::SignatureLength { seen: signature.len() })?;
        Ok(Envelope { payload, signature })
    }
}

/// The payload while it is read.
#[derive(Default)]
struct Payload {
    module_id: Option<String>,
    digest: Option<String>,
    timestamp_ms: Option<u64>,
    pcrs: Option<PcrValues>,
    certificate: Option<Vec<u8>>,
    cabundle: Option<Vec<Vec<u8>>>,
    public_key: Option<Option<Vec<u8>>>,
    user_data: Option<Option<Vec<u8>>>,
    nonce: Option<Option<Vec<u8>>>,
}

impl Payload {
    fn parse(bytes: &[u8]) -> Result<Self, NitroError> {
        let mut found = Payload::default();
        let mut decoder = Decoder::new(bytes);
        decoder.map("payload", MAX_PAIRS, |d| {
            let key = d.text("key", MAX_KEY)?;
            found.read(key, d)
        })?;
        decoder.finish()?;
        Ok(found)
    }

    fn read(&mut self, key: &str, d: &mut Decoder<'_>) -> Result<(), NitroError> {
        let twice = || NitroError::Duplicate { field: key.to_owned() };
        let fresh = match key {
            "module_id" => self.module_id.replace(d.text("module_id", MAX_MODULE_ID)?.to_owned()).is_none(),
            "digest" => self.digest.replace(d.text("digest", MAX_KEY)?.to_owned()).is_none(),
            "timestamp" => self.timestamp_ms.replace(d.uint()?).is_none(),
            "nitrotpm_pcrs" => self.pcrs.replace(pcrs(d)?).is_none(),
            "certificate" => self.certificate.replace(d.bytes("certificate", MAX_CERTIFICATE)?.to_vec()).is_none(),
            "cabundle" => {
                let mut bundle = Vec::new();
                d.array("cabundle", MAX_CABUNDLE, |d| {
                    bundle.push(d.bytes("a certificate", MAX_CERTIFICATE)?.to_vec());
                    Ok::<_, CborError>(())
                })?;
                self.cabundle.replace(bundle).is_none()
            }
            "public_key" => self.public_key.replace(field(d, "public_key")?).is_none(),
            "user_data" => self.user_data.replace(field(d, "user_data")?).is_none(),
            "nonce" => self.nonce.replace(field(d, "nonce")?).is_none(),
            "pcrs" => return Err(NitroError::Enclave),
            other => return Err(NitroError::Unknown { field: other.to_owned() }),
        };
        if fresh { Ok(()) } else { Err(twice()) }
    }

    fn complete(self, envelope: Envelope<'_>) -> Result<NitroDocument, NitroError> {
        let missing = |field| NitroError::Missing { field };
        let digest = self.digest.ok_or(missing("digest"))?;
        if digest != "SHA384" {
            return Err(NitroError::Digest { seen: digest });
        }
        Ok(NitroDocument {
            payload: envelope.payload.to_vec(),
            signature: envelope.signature,
            module_id: self.module_id.filter(|id| !id.is_empty()).ok_or(missing("module_id"))?,
            timestamp_ms: self.timestamp_ms.ok_or(missing("timestamp"))?,
            pcrs: self.pcrs.ok_or(missing("nitrotpm_pcrs"))?,
            certificate: self.certificate.ok_or(missing("certificate"))?,
            cabundle: self.cabundle.filter(|b| !b.is_empty()).ok_or(missing("cabundle"))?,
            public_key: self.public_key.flatten(),
            user_data: self.user_data.flatten(),
            nonce: self.nonce.flatten(),
        })
    }
}

fn field(d: &mut Decoder<'_>, what: &'static str) -> Result<Option<Vec<u8>>, CborError> {
    Ok(d.bytes_or_null(what, MAX_FIELD)?.map(<[u8]>::to_vec))
}

fn pcrs(d: &mut Decoder<'_>) -> Result<PcrValues, NitroError> {
    let mut values: Vec<(u8, Vec<u8>)> = Vec::new();
    d.map("nitrotpm_pcrs", MAX_PCRS, |d| {
        let index = d.uint()?;
        let index = u8::try_from(index).map_err(|_| NitroError::Unknown { field: format!("PCR {index}") })?;
        if values.iter().any(|(seen, _)| *seen == index) {
            return Err(NitroError::Duplicate { field: format!("PCR {index}") });
        }
        values.push((index, d.bytes("a PCR value", MAX_PCR_VALUE)?.to_vec()));
        Ok(())
    })?;
    if values.is_empty() {
        return Err(NitroError::Missing { field: "nitrotpm_pcrs" });
    }
    Ok(PcrValues::new(Bank::Sha384, values.iter().map(|(index, value)| (*index, &value[..])))?)
}
