//! A certificate for the attestation key (AK) of a vTPM: what Azure's and Google's have in common.
//!
//! Such a certificate is the provider's word that a key lives in one of its vTPMs. It is no link to the AMD-SP: nothing in a
//! report names the key, unless the report's own data does ([`Link::VendorPki`](crate::Link::VendorPki)). It says nothing of the key's
//! attributes either; those are in the public area that a TPM gives, and for who checks a quote to look at.

use super::azure_ak::AzureVm;
use super::certificate::{BASIC_CONSTRAINTS, Certificate, CertificateError, EXTENDED_KEY_USAGE, KEY_USAGE};
use super::crl::CrlStatus;
use super::gce_ak::GceInstance;
use super::key::PublicKey;
use super::path::{PathError, Pool, Question, Rules};
use super::remembered::{Name, once};
use super::roots::TrustAnchors;
use findings::{Check, TpmCheck};
use formats::time::UnixTime;

/// Why nobody vouches for an AK.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AkError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("no certificate for an attestation key of {0} was given")]
    NoCertificate(&'static str),
    #[error("the certificate of {label} is for another key than the one that signed the quote")]
    OtherKey { label: String },
    #[error("the certificate of {label} is refused")]
    Certificate { label: String, source: CertificateError },
    #[error("the subject {seen:?} is not that of a confidential VM")]
    Subject { seen: String },
    #[error("{seen:?} is a Trusted Launch VM, not a confidential one: its host controls the vTPM")]
    TrustedLaunch { seen: String },
    #[error("the certificate of {label} is of a CA, not for a key of a vTPM")]
    IsCa { label: String },
    #[error("the certificate of {label} does not allow its key to sign")]
    KeyUsage { label: String },
    #[error("the certificate of {label} is not for attestation keys: extended key usage {wanted} is missing")]
    ExtendedUse { label: String, wanted: &'static str },
    #[error("{field} of the instance extension (1.3.6.1.4.1.11129.2.1.21) is malformed or missing")]
    Extension { field: &'static str },
    #[error("the subject says {field} {seen:?}, the instance extension {wanted:?}")]
    Disagree { field: &'static str, seen: String, wanted: String },
    #[error("the subject alternative name is not that of a vTPM by Google")]
    AltName,
    #[error("the vTPM of {label} is not a production one of Google's, or does not say so")]
    NotProduction { label: String },
}

impl AkError {
    /// Returns the printed id of the check that failed.
    pub fn id(&self) -> &'static str {
        self.check().id()
    }

    /// Returns the check that failed.
    pub fn check(&self) -> Check {
        match self {
            AkError::Path(error) => match error.question() {
                Question::Chain => TpmCheck::Chain.into(),
                Question::Root => TpmCheck::Root.into(),
                Question::Extension => TpmCheck::Extension.into(),
                Question::Validity => TpmCheck::Validity.into(),
                Question::Revoked => TpmCheck::Revoked.into(),
                Question::Crl => TpmCheck::Crl.into(),
            },
            AkError::NoCertificate(_) => TpmCheck::NoCertificate.into(),
            AkError::OtherKey { .. } => TpmCheck::OtherKey.into(),
            AkError::Certificate { source, .. } if source.is_about_extensions() => TpmCheck::Extension.into(),
            AkError::Certificate { .. } => TpmCheck::Chain.into(),
            AkError::Subject { .. } | AkError::TrustedLaunch { .. } | AkError::AltName | AkError::Disagree { .. } => {
                TpmCheck::Subject.into()
            }
            AkError::IsCa { .. } | AkError::KeyUsage { .. } | AkError::ExtendedUse { .. } => TpmCheck::Use.into(),
            AkError::Extension { .. } => TpmCheck::Extension.into(),
            AkError::NotProduction { .. } => TpmCheck::Production.into(),
        }
    }

    /// How far the attempt came. Of several that failed, the one that came furthest is told.
    fn depth(&self) -> u8 {
        match self {
            AkError::NoCertificate(_) => 0,
            AkError::OtherKey { .. } => 1,
            AkError::Path(_) => 3,
            _ => 2,
        }
    }
}

/// Whose key it is, by the provider's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AkIdentity {
    Azure(AzureVm),
    Gce(GceInstance),
}

/// An attestation key that a certificate of a cloud vouches for.
#[derive(Clone, Debug)]
pub struct VerifiedAk {
    key: PublicKey,
    identity: AkIdentity,
    simulated: bool,
    crl: CrlStatus,
    missing_list: Option<String>,
    not_before: UnixTime,
    not_after: UnixTime,
}

impl VerifiedAk {
    pub fn key(&self) -> &PublicKey {
        &self.key
    }
    pub fn identity(&self) -> &AkIdentity {
        &self.identity
    }
    /// True where the path ends in the root of a simulator: then nothing is proven.
    pub fn simulated(&self) -> bool {
        self.simulated
    }
    pub fn crl(&self) -> CrlStatus {
        self.crl
    }
    /// An authority of the path whose revocation list a certificate announces, and that did not come.
    pub fn missing_list(&self) -> Option<&str> {
        self.missing_list.as_deref()
    }
    /// From when the certificate is valid: for policies that want one made after a fault was fixed.
    pub fn not_before(&self) -> UnixTime {
        self.not_before
    }
    /// Until when the whole path is valid.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }
}

/// A hierarchy of AK certificates: which certificates are its leaves, and what one must say.
pub(super) struct Kind {
    pub(super) provider: &'static str,
    pub(super) rules: Rules,
    /// Critical extensions that `read` looks at, beside the usual ones.
    pub(super) critical: &'static [&'static [u8]],
    pub(super) is_leaf: fn(&Certificate<'_>) -> bool,
    pub(super) read: fn(&Certificate<'_>) -> Result<AkIdentity, AkError>,
}

/// What came, and the key that a certificate is wanted for.
pub(super) struct Given<'g, 'a> {
    pub(super) certificates: &'g [&'a [u8]],
    pub(super) crls: &'g [&'a [u8]],
    pub(super) ak: &'g PublicKey,
}

/// Finds the certificate for the key and verifies it, at most once for what verifies. `known` is a certificate that comes with
/// this program.
pub(super) fn verify(
    kind: &Kind,
    given: &Given<'_, '_>,
    known: Option<&[u8]>,
    anchors: &TrustAnchors,
    now: UnixTime,
) -> Result<VerifiedAk, AkError> {
    let verify = || {
        let mut pool = Pool::parse(given.certificates, given.crls)?;
        if let Some(der) = known {
            pool = pool.with_known(der);
        }
        let ak = find(&pool, kind, given.ak, anchors, now)?;
        let ends = ak.crl.ends(ak.not_after);
        Ok((ak, ends))
    };
    once(anchors, |memory| (&memory.aks, Name::of_ak(kind.provider, given)), now, verify)
}

fn find(
    pool: &Pool<'_>,
    kind: &Kind,
    ak: &PublicKey,
    anchors: &TrustAnchors,
    now: UnixTime,
) -> Result<VerifiedAk, AkError> {
    let mut refused = AkError::NoCertificate(kind.provider);
    for leaf in pool.certificates().filter(|c| (kind.is_leaf)(c)) {
        match verify_leaf(pool, leaf, kind, ak, anchors, now) {
            Ok(verified) => return Ok(verified),
            Err(error) if error.depth() > refused.depth() => refused = error,
            Err(_) => {}
        }
    }
    Err(refused)
}

fn verify_leaf(
    pool: &Pool<'_>,
    leaf: &Certificate<'_>,
    kind: &Kind,
    ak: &PublicKey,
    anchors: &TrustAnchors,
    now: UnixTime,
) -> Result<VerifiedAk, AkError> {
    let refused = |source| AkError::Certificate { label: leaf.label(), source };
    let key = leaf.key().map_err(refused)?;
    if key != *ak {
        return Err(AkError::OtherKey { label: leaf.label() });
    }
    let handled = [&[BASIC_CONSTRAINTS, KEY_USAGE, EXTENDED_KEY_USAGE][..], kind.critical].concat();
    leaf.only_critical(&handled).map_err(refused)?;
    let label = || leaf.label();
    if leaf.is_ca() {
        return Err(AkError::IsCa { label: label() });
    }
    if !leaf.may_sign_data() {
        return Err(AkError::KeyUsage { label: label() });
    }
    let identity = (kind.read)(leaf)?;
    let path = pool.path(leaf, kind.rules, anchors, now)?;
    Ok(VerifiedAk {
        key,
        identity,
        simulated: path.simulated,
        crl: path.crl,
        missing_list: path.missing_list,
        not_before: leaf.not_before(),
        not_after: path.not_after,
    })
}

/// Keys of the certificates that could be for an AK of this kind, before anything is verified.
pub(super) fn keys<'p>(pool: &'p Pool<'_>, kind: &'p Kind) -> impl Iterator<Item = PublicKey> + 'p {
    pool.certificates().filter(|c| (kind.is_leaf)(c)).filter_map(|c| c.key().ok())
}
