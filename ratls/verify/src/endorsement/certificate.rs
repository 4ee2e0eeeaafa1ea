//! One X.509 certificate, as far as the hierarchies of AMD and of the clouds need it.
//!
//! x509-parser reads the fields; the signed bytes are cut out separately ([`super::signed`]) and must be the same ones. AMD's
//! leaves have serial number 0, which RFC 5280 forbids; it is accepted. Not checked, because nothing here depends on it: key
//! identifiers (but to tell revocation lists of two authorities of one name apart), where revocation lists are (but whether there are any), policies, and
//! attributes of names other than by comparing whole names.

use super::MAX_CERTIFICATE_BYTES;
use super::der::{self, OCTET_STRING};
use super::key::{PublicKey, PublicKeyError};
use super::signed::{Hierarchy, Signed, SignedError};
use formats::bytes::Reader;
use formats::time::UnixTime;
use std::collections::HashSet;
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

pub(super) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1D, 0x13];
pub(super) const KEY_USAGE: &[u8] = &[0x55, 0x1D, 0x0F];
pub(super) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1D, 0x25];
pub(super) const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1D, 0x11];
const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1D, 0x1E];
const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1D, 0x0E];
const CRL_DISTRIBUTION_POINTS: &[u8] = &[0x55, 0x1D, 0x1F];

/// Extensions of one certificate. Those seen have at most 12.
const MAX_EXTENSIONS: usize = 32;

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
    #[error("it is a CA for at most {allowed} CAs below it, and there are {seen}")]
    PathLength { allowed: u32, seen: u32 },
    #[error("it is not for the use {oid}, which its subordinates are asked for")]
    ExtendedUse { oid: &'static str },
    #[error("it has more than {MAX_EXTENSIONS} extensions")]
    TooManyExtensions,
    #[error("extension {oid} is malformed")]
    MalformedExtension { oid: &'static str },
    #[error(transparent)]
    Key(#[from] PublicKeyError),
    #[error("its key is not an uncompressed point on P-384")]
    NotP384,
}

impl CertificateError {
    pub(super) fn is_about_extensions(&self) -> bool {
        matches!(
            self,
            CertificateError::DuplicateExtension { .. }
                | CertificateError::CriticalExtension { .. }
                | CertificateError::MalformedExtension { .. }
                | CertificateError::TooManyExtensions
        )
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
        if x509.extensions().len() > MAX_EXTENSIONS {
            return Err(CertificateError::TooManyExtensions);
        }
        let mut seen = HashSet::new();
        for extension in x509.extensions() {
            if !seen.insert(extension.oid.as_bytes()) {
                return Err(CertificateError::DuplicateExtension { oid: extension.oid.to_id_string() });
            }
        }
        Ok(Certificate { x509, signed })
    }

    /// What every certificate of AMD's has: one common name on each side, and no critical extension but the two that every CA has.
    pub(super) fn check_amd(&self) -> Result<(), CertificateError> {
        self.only_critical(&[BASIC_CONSTRAINTS, KEY_USAGE])?;
        for name in [&self.x509.tbs_certificate.subject, &self.x509.tbs_certificate.issuer] {
            common_name(name).ok_or(CertificateError::CommonName)?;
        }
        Ok(())
    }

    /// Refuses a critical extension that the caller does not handle. Name constraints are handled nowhere, and so refuse even
    /// where they are not marked critical.
    pub(super) fn only_critical(&self, handled: &[&[u8]]) -> Result<(), CertificateError> {
        let unknown = self.x509.extensions().iter().find(|e| {
            let oid = e.oid.as_bytes();
            oid == NAME_CONSTRAINTS || (e.critical && !handled.contains(&oid))
        });
        match unknown {
            None => Ok(()),
            Some(e) => Err(CertificateError::CriticalExtension { oid: e.oid.to_id_string() }),
        }
    }

    /// The whole name, as received.
    pub(super) fn subject(&self) -> &[u8] {
        self.x509.tbs_certificate.subject.as_raw()
    }
    pub(super) fn issuer(&self) -> &[u8] {
        self.x509.tbs_certificate.issuer.as_raw()
    }
    /// The only common name, or nothing.
    pub(super) fn subject_cn(&self) -> &str {
        common_name(&self.x509.tbs_certificate.subject).unwrap_or_default()
    }
    pub(super) fn issuer_cn(&self) -> &str {
        common_name(&self.x509.tbs_certificate.issuer).unwrap_or_default()
    }
    pub(super) fn subject_is_empty(&self) -> bool {
        self.x509.tbs_certificate.subject.iter_rdn().next().is_none()
    }
    /// The one attribute of the subject with this OID (DER contents).
    pub(super) fn subject_attribute(&self, oid: &[u8]) -> Option<&str> {
        let mut found = self.x509.tbs_certificate.subject.iter_attributes().filter(|a| a.attr_type().as_bytes() == oid);
        match (found.next(), found.next()) {
            (Some(only), None) => only.as_str().ok(),
            _ => None,
        }
    }
    /// For messages: the common name, or what stands in its place.
    pub(super) fn label(&self) -> String {
        match self.subject_cn() {
            "" => format!("the certificate with serial number {}", hex::encode(self.serial())),
            name => name.to_owned(),
        }
    }

    pub(super) fn issuer_label(&self) -> String {
        match self.issuer_cn() {
            "" => "without a common name".to_owned(),
            name => name.to_owned(),
        }
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

    /// Whether its issuer publishes a revocation list for it, by its own word (RFC 5280 §4.2.1.13).
    pub(super) fn announces_list(&self) -> bool {
        self.extension(CRL_DISTRIBUTION_POINTS).is_some()
    }

    /// The key of a CA that may sign certificates.
    pub(super) fn ca_key(&self) -> Result<PublicKey, CertificateError> {
        let constraints = self.x509.basic_constraints().map_err(|_| CertificateError::NotCa)?;
        let usage = self.x509.key_usage().map_err(|_| CertificateError::NotCa)?;
        if !constraints.is_some_and(|c| c.value.ca) || !usage.is_some_and(|u| u.value.key_cert_sign()) {
            return Err(CertificateError::NotCa);
        }
        self.key()
    }

    /// How many CAs may stand between it and a leaf.
    pub(super) fn path_length(&self) -> Option<u32> {
        self.x509.basic_constraints().ok().flatten().and_then(|c| c.value.path_len_constraint)
    }

    /// Whether `below` CAs may stand between it and a leaf.
    pub(super) fn check_path_length(&self, below: u32) -> Result<(), CertificateError> {
        match self.path_length() {
            Some(allowed) if below > allowed => Err(CertificateError::PathLength { allowed, seen: below }),
            _ => Ok(()),
        }
    }

    pub(super) fn is_ca(&self) -> bool {
        self.x509.basic_constraints().is_ok_and(|c| c.is_some_and(|c| c.value.ca))
    }
    pub(super) fn may_sign_data(&self) -> bool {
        self.x509.key_usage().is_ok_and(|u| u.is_some_and(|u| u.value.digital_signature()))
    }
    pub(super) fn may_sign_lists(&self) -> bool {
        self.x509.key_usage().is_ok_and(|u| u.is_some_and(|u| u.value.crl_sign()))
    }

    /// Whether its extended key usage names this one, as DER contents; `None` where it has no such extension.
    pub(super) fn extended_use(&self, oid: &[u8]) -> Result<Option<bool>, CertificateError> {
        let Some(value) = self.extension(EXTENDED_KEY_USAGE) else { return Ok(None) };
        let malformed = |_| CertificateError::MalformedExtension { oid: "2.5.29.37" };
        let mut uses = Reader::new(der::only(value, der::SEQUENCE).map_err(malformed)?);
        let mut found = false;
        while uses.left() > 0 {
            found |= der::element(&mut uses, der::OBJECT_IDENTIFIER).map_err(malformed)?.contents == oid;
        }
        Ok(Some(found))
    }

    pub(super) fn key(&self) -> Result<PublicKey, CertificateError> {
        Ok(PublicKey::from_spki(self.x509.public_key().raw)?)
    }

    /// What a list of this authority names in its authority key identifier.
    pub(super) fn subject_key_id(&self) -> Option<&'a [u8]> {
        der::only(self.extension(SUBJECT_KEY_ID)?, OCTET_STRING).ok()
    }

    /// The uncompressed point of a leaf.
    pub(super) fn p384_key(&self) -> Result<[u8; 97], CertificateError> {
        match self.key() {
            Ok(PublicKey::P384(point)) => Ok(point),
            _ => Err(CertificateError::NotP384),
        }
    }

    /// Whether `key`, of the issuer, made this certificate's signature.
    pub(super) fn verify_signature(&self, key: &PublicKey, hierarchy: Hierarchy) -> Result<(), SignedError> {
        self.signed.verify(key, hierarchy)
    }
}

fn common_name<'a>(name: &'a x509_parser::x509::X509Name<'_>) -> Option<&'a str> {
    let mut names = name.iter_common_name();
    match (names.next(), names.next()) {
        (Some(only), None) => only.as_str().ok(),
        _ => None,
    }
}
