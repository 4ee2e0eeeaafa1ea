//! Certificate revocation lists of AMD's roots.
//!
//! Lists are optional and untrusted. One that names the root of the chain as its issuer must be signed by that root and be
//! current, or the chain is refused; one of another issuer is ignored. A critical extension makes a list mean something that
//! is not looked at here (a part of the certificates, a difference to another list), so it refuses (RFC 5280 §5.2).

use super::MAX_CRL_BYTES;
use super::der;
use super::roots::Anchor;
use super::signed::{Signed, SignedError};
use crate::time::UnixTime;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

/// What revocation lists said of a chain that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum CrlStatus {
    /// At least one list of the chain's root was there and named nothing of the chain.
    Checked {
        /// When the first of these lists wants to be replaced.
        next_update: UnixTime,
    },
    /// None was there.
    Absent,
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

    pub(super) fn is_issued_by(&self, anchor: &Anchor) -> bool {
        self.list.tbs_cert_list.issuer.as_raw() == anchor.subject
    }

    /// Whether the root that it names signed it. Nothing else of it may be used before.
    pub(super) fn verify_signature(&self, anchor: &Anchor) -> Result<(), CrlError> {
        let issuer = anchor.name();
        self.signed.verify(&anchor.key).map_err(|source| CrlError::Signed { issuer, source })
    }

    /// Whether the certificate with this serial number (without leading zeros) is revoked.
    pub(super) fn names(&self, serial: &[u8]) -> bool {
        self.list.iter_revoked_certificates().any(|entry| der::unsigned(entry.raw_serial()) == serial)
    }

    /// Whether a verified list speaks about now; until when.
    pub(super) fn holds(&self, anchor: &Anchor, now: UnixTime) -> Result<UnixTime, CrlError> {
        let issuer = anchor.name();
        if let Some(extension) = self.list.extensions().iter().find(|e| e.critical) {
            return Err(CrlError::CriticalExtension { issuer, oid: extension.oid.to_id_string() });
        }
        let this_update = UnixTime::from_secs(self.list.last_update().timestamp());
        let Some(next_update) = self.list.next_update() else { return Err(CrlError::NoNextUpdate { issuer }) };
        let next_update = UnixTime::from_secs(next_update.timestamp());
        if now < this_update || now > next_update {
            return Err(CrlError::Stale { issuer, this_update, next_update, now });
        }
        Ok(next_update)
    }
}
