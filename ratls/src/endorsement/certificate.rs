//! One X.509 certificate, as far as AMD's hierarchy needs it.
//!
//! x509-parser reads the fields; the signed bytes are cut out separately ([`super::signed`]) and must be the same ones. AMD's
//! leaves have serial number 0, which RFC 5280 forbids; it is accepted. Not checked, because nothing here depends on it: key
//! identifiers, CRL distribution points, and attributes of names other than by comparing whole names.

use super::MAX_CERTIFICATE_BYTES;
use super::der;
use super::signed::{Signed, SignedError};
use crate::time::UnixTime;
use std::collections::HashSet;
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

const RSA_ENCRYPTION: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01];
const EC_PUBLIC_KEY: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01];
const SECP384R1: &[u8] = &[0x2B, 0x81, 0x04, 0x00, 0x22];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1D, 0x13];
const KEY_USAGE: &[u8] = &[0x55, 0x1D, 0x0F];

/// Bits of an RSA key. Below is weak; above only costs time (AMD: 4096).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// Why a certificate is refused, whoever signed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    #[error("it has {seen} bytes, at most {MAX_CERTIFICATE_BYTES} are read")]
    TooLarge { seen: usize },
    #[error("it is not one certificate in DER")]
    Malformed,
    #[error("it is not an X.509 certificate of version 3")]
    Version,
    #[error("it names one signature algorithm inside and another outside")]
    TwoAlgorithms,
    #[error("its subject or issuer has not exactly one common name")]
    CommonName,
    #[error("extension {oid} stands in it twice")]
    DuplicateExtension { oid: String },
    #[error("extension {oid} is critical and not known here")]
    CriticalExtension { oid: String },
    #[error("it is no CA certificate that may sign certificates")]
    NotCa,
    #[error("its key is not RSA of {} to {} bits", RSA_BITS.start(), RSA_BITS.end())]
    NotRsa,
    #[error("its key is not an uncompressed point on P-384")]
    NotP384,
}

impl CertificateError {
    pub(super) fn is_about_extensions(&self) -> bool {
        matches!(self, CertificateError::DuplicateExtension { .. } | CertificateError::CriticalExtension { .. })
    }
}

/// A certificate that was parsed, not verified.
pub(super) struct Certificate<'a> {
    x509: X509Certificate<'a>,
    signed: Signed<'a>,
}

impl<'a> Certificate<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, CertificateError> {
        if bytes.len() > MAX_CERTIFICATE_BYTES {
            return Err(CertificateError::TooLarge { seen: bytes.len() });
        }
        let signed = Signed::parse(bytes).map_err(|_| CertificateError::Malformed)?;
        let (rest, x509) = X509Certificate::from_der(bytes).map_err(|_| CertificateError::Malformed)?;
        if !rest.is_empty() || x509.tbs_certificate.as_ref() != signed.body {
            return Err(CertificateError::Malformed);
        }
        if x509.version() != X509Version::V3 {
            return Err(CertificateError::Version);
        }
        if x509.tbs_certificate.signature != x509.signature_algorithm {
            return Err(CertificateError::TwoAlgorithms);
        }
        let mut seen = HashSet::new();
        for extension in x509.extensions() {
            let oid = extension.oid.as_bytes();
            if !seen.insert(oid) {
                return Err(CertificateError::DuplicateExtension { oid: extension.oid.to_id_string() });
            }
            if extension.critical && oid != BASIC_CONSTRAINTS && oid != KEY_USAGE {
                return Err(CertificateError::CriticalExtension { oid: extension.oid.to_id_string() });
            }
        }
        let certificate = Certificate { x509, signed };
        common_name(&certificate.x509.tbs_certificate.subject).ok_or(CertificateError::CommonName)?;
        common_name(&certificate.x509.tbs_certificate.issuer).ok_or(CertificateError::CommonName)?;
        Ok(certificate)
    }

    /// The whole name, as received.
    pub(super) fn subject(&self) -> &[u8] {
        self.x509.tbs_certificate.subject.as_raw()
    }
    pub(super) fn issuer(&self) -> &[u8] {
        self.x509.tbs_certificate.issuer.as_raw()
    }
    pub(super) fn subject_cn(&self) -> &str {
        common_name(&self.x509.tbs_certificate.subject).expect("parse checked it")
    }
    pub(super) fn issuer_cn(&self) -> &str {
        common_name(&self.x509.tbs_certificate.issuer).expect("parse checked it")
    }

    /// Without leading zeros.
    pub(super) fn serial(&self) -> &[u8] {
        der::unsigned(self.x509.raw_serial())
    }

    pub(super) fn not_before(&self) -> UnixTime {
        UnixTime::from_secs(self.x509.validity().not_before.timestamp())
    }
    pub(super) fn not_after(&self) -> UnixTime {
        UnixTime::from_secs(self.x509.validity().not_after.timestamp())
    }

    /// Contents of the extension with this OID (DER contents). There is at most one.
    pub(super) fn extension(&self, oid: &[u8]) -> Option<&'a [u8]> {
        self.x509.extensions().iter().find(|e| e.oid.as_bytes() == oid).map(|e| e.value)
    }

    /// The key of a CA that may sign certificates, as PKCS#1.
    pub(super) fn ca_key(&self) -> Result<&[u8], CertificateError> {
        let constraints = self.x509.basic_constraints().map_err(|_| CertificateError::NotCa)?;
        let usage = self.x509.key_usage().map_err(|_| CertificateError::NotCa)?;
        if !constraints.is_some_and(|c| c.value.ca) || !usage.is_some_and(|u| u.value.key_cert_sign()) {
            return Err(CertificateError::NotCa);
        }
        let key = self.x509.public_key();
        let pkcs1: &[u8] = &key.subject_public_key.data;
        let bits = der::rsa_modulus_bits(pkcs1).map_err(|_| CertificateError::NotRsa)?;
        if key.algorithm.algorithm.as_bytes() != RSA_ENCRYPTION || !RSA_BITS.contains(&bits) {
            return Err(CertificateError::NotRsa);
        }
        Ok(pkcs1)
    }

    /// The uncompressed point of a leaf.
    pub(super) fn p384_key(&self) -> Result<[u8; 97], CertificateError> {
        let key = self.x509.public_key();
        let curve = key.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok());
        let on_p384 = key.algorithm.algorithm.as_bytes() == EC_PUBLIC_KEY
            && curve.is_some_and(|curve| curve.as_bytes() == SECP384R1);
        let point: [u8; 97] = key.subject_public_key.data.as_ref().try_into().map_err(|_| CertificateError::NotP384)?;
        if !on_p384 || point[0] != 0x04 {
            return Err(CertificateError::NotP384);
        }
        Ok(point)
    }

    /// Whether `key`, of the issuer, made this certificate's signature.
    pub(super) fn verify_signature(&self, key: &[u8]) -> Result<(), SignedError> {
        self.signed.verify(key)
    }
}

fn common_name<'a>(name: &'a x509_parser::x509::X509Name<'_>) -> Option<&'a str> {
    let mut names = name.iter_common_name();
    match (names.next(), names.next()) {
        (Some(only), None) => only.as_str().ok(),
        _ => None,
    }
}
