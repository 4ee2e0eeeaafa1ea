//! Certificate revocation lists, of AMD's roots and of the clouds' CAs.
//!
//! Lists are optional and untrusted. One that names an issuer in the chain must be signed by that issuer and be current, or the
//! chain is refused; one of another issuer is ignored. Google has several CAs of one name, which the key identifier tells apart. A critical extension makes a list mean something that
//! is not looked at here (a part of the certificates, a difference to another list), so it refuses (RFC 5280 §5.2).

use super::MAX_CRL_BYTES;
use super::authority::Authority;
use super::der;
use super::key::PublicKey;
use super::roots::Anchor;
use super::signed::{Hierarchy, Signed, SignedError};
use formats::bytes::Reader;
use formats::time::UnixTime;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1D, 0x23];
const KEY_IDENTIFIER: u8 = 0x80;

/// What revocation lists said of a chain that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum CrlStatus {
    /// At least one list was there and named nothing of the chain: of AMD's root, or of any authority of a cloud's path.
    Checked {
        /// When the first of these lists wants to be replaced.
        next_update: UnixTime,
    },
    /// None was there.
    Absent,
}

impl CrlStatus {
    /// When what was verified with these lists ends, if the certificates do so at `not_after`.
    pub fn ends(self, not_after: UnixTime) -> UnixTime {
        match self {
            CrlStatus::Checked { next_update } => not_after.min(next_update),
            CrlStatus::Absent => not_after,
        }
    }

    /// What two parts of a chain say together.
    pub(super) fn and(self, other: CrlStatus) -> CrlStatus {
        match (self, other) {
            (CrlStatus::Checked { next_update: a }, CrlStatus::Checked { next_update: b }) => {
                CrlStatus::Checked { next_update: a.min(b) }
            }
            (CrlStatus::Absent, status) | (status, CrlStatus::Absent) => status,
        }
    }
}

/// Who may have issued a list: a certificate authority of the chain.
pub(super) struct Issuer {
    pub(super) label: String,
    /// The whole name, for comparison.
    pub(super) subject: Vec<u8>,
    pub(super) key: PublicKey,
    pub(super) key_id: Option<Vec<u8>>,
    pub(super) may_sign_lists: bool,
    pub(super) hierarchy: Hierarchy,
}

impl Issuer {
    /// AMD's roots sign lists, and no two have one name.
    pub(super) fn of_anchor(anchor: &Anchor) -> Self {
        Issuer {
            label: anchor.name(),
            subject: anchor.subject.clone(),
            key: anchor.key.clone(),
            key_id: None,
            may_sign_lists: true,
            hierarchy: Hierarchy::Amd,
        }
    }

    pub(super) fn of_authority(root: &Authority) -> Self {
        Issuer {
            label: root.label.clone(),
            subject: root.subject.clone(),
            key: root.key.clone(),
            key_id: root.key_id.clone(),
            may_sign_lists: root.may_sign_lists,
            hierarchy: Hierarchy::Cloud,
        }
    }
}

/// Why a revocation list makes a chain refused, other than by naming a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CrlError {
    #[error("a revocation list has {seen} bytes, at most {MAX_CRL_BYTES} are read")]
    TooLarge { seen: usize },
    #[error("a revocation list is not one list in DER")]
    Malformed,
    #[error("the revocation list of {issuer} has the critical extension {oid}, which is not known here")]
    CriticalExtension { issuer: String, oid: String },
    #[error("the revocation list of {issuer} is refused")]
    Signed { issuer: String, source: SignedError },
    #[error("{issuer} signed a revocation list, which its certificate does not allow")]
    NotListSigner { issuer: String },
    #[error("the revocation list of {issuer} does not say until when it holds")]
    NoNextUpdate { issuer: String },
    #[error(
        "the revocation list of {issuer} holds from {this_update} to {next_update}, now is {now}; fetch it again, or set the clock"
    )]
    Stale { issuer: String, this_update: UnixTime, next_update: UnixTime, now: UnixTime },
}

/// A list that was parsed, not verified.
pub(super) struct Crl<'a> {
    list: CertificateRevocationList<'a>,
    signed: Signed<'a>,
}

impl<'a> Crl<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, CrlError> {
        if bytes.len() > MAX_CRL_BYTES {
            return Err(CrlError::TooLarge { seen: bytes.len() });
        }
        let signed = Signed::parse(bytes).map_err(|_| CrlError::Malformed)?;
        let (rest, list) = CertificateRevocationList::from_der(bytes).map_err(|_| CrlError::Malformed)?;
        if !rest.is_empty()
            || list.tbs_cert_list.as_ref() != signed.body
            || list.tbs_cert_list.signature != list.signature_algorithm
        {
            return Err(CrlError::Malformed);
        }
        Ok(Crl { list, signed })
    }

    /// The whole name of its issuer, as received.
    pub(super) fn issuer(&self) -> &[u8] {
        self.list.tbs_cert_list.issuer.as_raw()
    }

    /// For messages.
    pub(super) fn issuer_label(&self) -> String {
        let name = &self.list.tbs_cert_list.issuer;
        let common_name = name.iter_common_name().next().and_then(|name| name.as_str().ok());
        common_name.unwrap_or("an authority without a common name").to_owned()
    }

    pub(super) fn is_issued_by(&self, issuer: &Issuer) -> bool {
        let other_key = match (self.authority_key_id(), &issuer.key_id) {
            (Some(named), Some(known)) => named != known.as_slice(),
            _ => false,
        };
        self.list.tbs_cert_list.issuer.as_raw() == issuer.subject && !other_key
    }

    /// RFC 5280 §4.2.1.1: SEQUENCE { [0] keyIdentifier, … }.
    fn authority_key_id(&self) -> Option<&[u8]> {
        let extension = self.list.extensions().iter().find(|e| e.oid.as_bytes() == AUTHORITY_KEY_ID)?;
        let mut parts = Reader::new(der::only(extension.value, der::SEQUENCE).ok()?);
        der::element(&mut parts, KEY_IDENTIFIER).ok().map(|id| id.contents)
    }

    /// Whether the issuer that it names signed it. Nothing else of it may be used before.
    pub(super) fn verify_signature(&self, issuer: &Issuer) -> Result<(), CrlError> {
        self.signed
            .verify(&issuer.key, issuer.hierarchy)
            .map_err(|source| CrlError::Signed { issuer: issuer.label.clone(), source })?;
        if !issuer.may_sign_lists {
            return Err(CrlError::NotListSigner { issuer: issuer.label.clone() });
        }
        Ok(())
    }

    /// Whether the certificate with this serial number (without leading zeros) is revoked.
    pub(super) fn names(&self, serial: &[u8]) -> bool {
        self.list.iter_revoked_certificates().any(|entry| der::unsigned(entry.raw_serial()) == serial)
    }

    /// Whether a verified list speaks about now; until when.
    pub(super) fn holds(&self, issuer: &Issuer, now: UnixTime) -> Result<UnixTime, CrlError> {
        let issuer = issuer.label.clone();
        if let Some(extension) = self.list.extensions().iter().find(|e| e.critical) {
            return Err(CrlError::CriticalExtension { issuer, oid: extension.oid.to_id_string() });
        }
        let this_update = UnixTime::from_secs(self.list.last_update().timestamp());
        let Some(next_update) = self.list.next_update() else { return Err(CrlError::NoNextUpdate { issuer }) };
        let next_update = UnixTime::from_secs(next_update.timestamp());
        if !this_update.has_begun(now) || now > next_update {
            return Err(CrlError::Stale { issuer, this_update, next_update, now });
        }
        Ok(next_update)
    }
}
