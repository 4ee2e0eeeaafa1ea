//! DSSE envelopes: a payload, its type, and signatures over both.
//!
//! github.com/secure-systems-lab/dsse, protocol.md and envelope.md, v1.0. What is signed is the payload as it was received (PAE);
//! `keyid` is a hint that nobody signed and is not looked at. Here only ed25519 and ECDSA on P-256 with SHA-256.

use serde::Deserialize;
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

use formats::crypto::{self, Scheme};

/// Largest envelope. Provenance of a large build lists some hundred inputs.
pub const MAX_ENVELOPE_BYTES: usize = 4 << 20;
/// Signatures of one envelope that are tried.
const MAX_SIGNATURES: usize = 64;

/// A public key that the policy's author trusts for something.
#[derive(Clone, PartialEq, Eq)]
pub struct TrustedKey {
    kind: KeyKind,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyKind {
    Ed25519,
    P256,
}

impl std::fmt::Debug for TrustedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}({})", self.kind, hex::encode(&self.bytes))
    }
}

/// A text that is no public key that could verify an envelope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    #[error("it is neither PEM (BEGIN PUBLIC KEY) nor the base64 of a SubjectPublicKeyInfo")]
    Form,
    #[error("the key is neither ed25519 nor ECDSA on P-256")]
    Kind,
}

impl TrustedKey {
    /// A SubjectPublicKeyInfo in PEM, or the base64 between the lines of PEM.
    pub fn parse(text: &str) -> Result<TrustedKey, KeyError> {
        let text = text.trim();
        let inner = match text.strip_prefix("-----BEGIN PUBLIC KEY-----") {
            Some(rest) => rest.strip_suffix("-----END PUBLIC KEY-----").ok_or(KeyError::Form)?,
            None => text,
        };
        let packed: String = inner.split_ascii_whitespace().collect();
        let der = data_encoding::BASE64.decode(packed.as_bytes()).map_err(|_| KeyError::Form)?;
        let (rest, info) = SubjectPublicKeyInfo::from_der(&der).map_err(|_| KeyError::Form)?;
        if !rest.is_empty() {
            return Err(KeyError::Form);
        }
        // RFC 8410: no parameters. RFC 5480: the curve as parameter.
        let (oid, parameters) = (info.algorithm.algorithm.to_id_string(), info.algorithm.parameters.as_ref());
        let curve = parameters.and_then(|p| p.as_oid().ok()).map(|oid| oid.to_id_string());
        let bytes = info.subject_public_key.data.to_vec();
        let kind = match (oid.as_str(), curve.as_deref(), bytes.len()) {
            ("1.3.101.112", None, 32) if parameters.is_none() => KeyKind::Ed25519,
            ("1.2.840.10045.2.1", Some("1.2.840.10045.3.1.7"), 65) if bytes.first() == Some(&4) => KeyKind::P256,
            _ => return Err(KeyError::Kind),
        };
        Ok(TrustedKey { kind, bytes })
    }

    fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        // The specification's own example has r and s side by side; in-toto and sigstore write DER.
        let scheme = match self.kind {
            KeyKind::Ed25519 => Scheme::Ed25519,
            KeyKind::P256 if signature.len() == 64 => Scheme::EcdsaP256Sha256Fixed,
            KeyKind::P256 => Scheme::EcdsaP256Sha256Asn1,
        };
        crypto::verify(scheme, &self.bytes, message, signature).is_ok()
    }
}

/// Why a file is no envelope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    #[error("it has {seen} bytes, at most {MAX_ENVELOPE_BYTES}")]
    TooLarge { seen: usize },
    #[error("it is no DSSE envelope: {0}")]
    Json(String),
    #[error("the {0} is not base64")]
    Base64(&'static str),
    #[error("it has {seen} signatures; wanted 1 to {MAX_SIGNATURES}")]
    Signatures { seen: usize },
}

/// An envelope whose signatures were not checked.
#[derive(Clone, Debug)]
pub struct Envelope {
    payload_type: String,
    payload: Vec<u8>,
    signatures: Vec<Vec<u8>>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: String,
}

impl Envelope {
    /// Reads the JSON of an envelope. Unknown members are allowed, as the format says; none of them is signed.
    pub fn parse(json: &[u8]) -> Result<Envelope, EnvelopeError> {
        if json.len() > MAX_ENVELOPE_BYTES {
            return Err(EnvelopeError::TooLarge { seen: json.len() });
        }
        let document: Document = serde_json::from_slice(json).map_err(|e| EnvelopeError::Json(e.to_string()))?;
        let seen = document.signatures.len();
        if seen == 0 || seen > MAX_SIGNATURES {
            return Err(EnvelopeError::Signatures { seen });
        }
        let signatures = document.signatures.iter().map(|s| base64(&s.sig, "signature")).collect::<Result<_, _>>()?;
        Ok(Envelope { payload_type: document.payload_type, payload: base64(&document.payload, "payload")?, signatures })
    }

    pub fn payload_type(&self) -> &str {
        &self.payload_type
    }
    /// What the signatures are over, beside its type.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Whether one of the signatures is this key's.
    pub fn is_signed_by(&self, key: &TrustedKey) -> bool {
        let message = pae(&self.payload_type, &self.payload);
        self.signatures.iter().any(|signature| key.signed(&message, signature))
    }
}

/// Standard or URL-safe alphabet: the format allows both.
fn base64(text: &str, what: &'static str) -> Result<Vec<u8>, EnvelopeError> {
    let standard = data_encoding::BASE64.decode(text.as_bytes());
    standard.or_else(|_| data_encoding::BASE64URL.decode(text.as_bytes())).map_err(|_| EnvelopeError::Base64(what))
}

/// Pre-authentication encoding: `DSSEv1 SP len(type) SP type SP len(payload) SP payload`.
fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_that_of_the_specification() {
        // The example of protocol.md.
        let wanted = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world";
        assert_eq!(pae("http://example.com/HelloWorld", b"hello world"), wanted);
    }

    /// The test vector of DSSE's protocol.md: a deterministic ECDSA signature on P-256.
    const VECTOR: &str = r#"{"payload": "aGVsbG8gd29ybGQ=", "payloadType": "http://example.com/HelloWorld", "signatures": [{"sig": "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="}]}"#;

    #[test]
    fn reads_envelopes_and_refuses_what_is_none() {
        let envelope = Envelope::parse(VECTOR.as_bytes()).unwrap();
        assert_eq!(envelope.payload(), b"hello world");
        let key = TrustedKey::parse("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEZ805D3eqNZywjCI19lInBJOp7YMrCrzAH3CVTAOQ0jgMeCvVTiaRJaRPRDOv8UMs6U4SvKc6pnrIDOoSYI3fdA==").unwrap();
        assert!(envelope.is_signed_by(&key));
        let other = VECTOR.replace("aGVsbG8gd29ybGQ=", "aGVsbG8gV29ybGQ=");
        assert!(!Envelope::parse(other.as_bytes()).unwrap().is_signed_by(&key));
        let other = VECTOR.replace("HelloWorld", "Helloworld");
        assert!(!Envelope::parse(other.as_bytes()).unwrap().is_signed_by(&key));
        let no_signature = r#"{"payload": "", "payloadType": "", "signatures": []}"#;
        assert_eq!(Envelope::parse(no_signature.as_bytes()).unwrap_err(), EnvelopeError::Signatures { seen: 0 });
        for (from, to) in [("aGVsbG8gd29ybGQ=", "aGVsbG8gd29ybGQ"), ("A3Jq", "A3J*"), ("\"payload\"", "\"load\"")] {
            assert!(Envelope::parse(VECTOR.replace(from, to).as_bytes()).is_err(), "{to}");
        }
    }

    #[test]
    fn refuses_keys_of_other_kinds() {
        // RFC 8410, example of an ed25519 key.
        let good = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";
        let key = TrustedKey::parse(good).unwrap();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{good}\n-----END PUBLIC KEY-----\n");
        assert_eq!(TrustedKey::parse(&pem), Ok(key));
        assert_eq!(TrustedKey::parse("MCowBQYDK2VwAyEA"), Err(KeyError::Form));
        assert_eq!(TrustedKey::parse(&good[1..]), Err(KeyError::Form));
        assert_eq!(TrustedKey::parse(pem.trim_end().trim_end_matches("-----")), Err(KeyError::Form));
        // X25519, which signs nothing.
        assert_eq!(TrustedKey::parse(&good.replacen("K2Vw", "K2Vu", 1)), Err(KeyError::Kind));
    }
}
