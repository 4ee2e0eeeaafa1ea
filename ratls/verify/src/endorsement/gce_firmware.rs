//! Who signed an endorsement of Google's firmware: one hop below the built-in root, or below one that the operator named.
//!
//! It is a vendor's word that a launch digest is that of a firmware of his. Which digest the guest has is the report's word;
//! appraisal compares them. There is no revocation for these certificates, so an old endorsement of a firmware with a known
//! fault verifies for as long as its signer's certificate does: a policy sets a minimum.

use super::authority::Place;
use super::certificate::{BASIC_CONSTRAINTS, Certificate, CertificateError, KEY_USAGE};
use super::key::PublicKey;
use super::path::{PathError, Pool, Question, Rules};
use super::remembered::{Name, once};
use super::roots::TrustAnchors;
use findings::{Check, GoogleCheck};
use formats::crypto::{self, Scheme};
use formats::evidence::gce_endorsement::{GceEndorsement, GceEndorsementError};
use formats::time::UnixTime;

/// Why an endorsement is not Google's at this time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GceFirmwareRefusal {
    #[error(transparent)]
    Endorsement(#[from] GceEndorsementError),
    #[error("the signer's certificate is refused")]
    Signer(#[source] CertificateError),
    #[error("the signer's certificate is of a CA, is no RSA key's, or does not allow its key to sign")]
    SignerUse,
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("the signature over the endorsement does not verify under its certificate's key")]
    Signature,
}

impl GceFirmwareRefusal {
    /// Returns the printed id of the check that failed.
    pub fn id(&self) -> &'static str {
        Check::from(self.check()).id()
    }

    /// Returns the check that failed.
    pub fn check(&self) -> GoogleCheck {
        match self {
            GceFirmwareRefusal::Endorsement(_) => GoogleCheck::Parse,
            GceFirmwareRefusal::Signer(source) if source.is_about_extensions() => GoogleCheck::Extension,
            GceFirmwareRefusal::Signer(_) | GceFirmwareRefusal::SignerUse => GoogleCheck::Chain,
            GceFirmwareRefusal::Path(error) => match error.question() {
                Question::Chain | Question::Revoked | Question::Crl => GoogleCheck::Chain,
                Question::Root => GoogleCheck::Root,
                Question::Extension => GoogleCheck::Extension,
                Question::Validity => GoogleCheck::Validity,
            },
            GceFirmwareRefusal::Signature => GoogleCheck::Signature,
        }
    }
}

/// An endorsement that verified. Only [`verify_gce_endorsement`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedGceEndorsement {
    endorsement: GceEndorsement,
    simulated: bool,
    not_after: UnixTime,
}

impl VerifiedGceEndorsement {
    pub fn endorsement(&self) -> &GceEndorsement {
        &self.endorsement
    }
    /// True where the path ends in the root of a simulator: then nothing is proven.
    pub fn simulated(&self) -> bool {
        self.simulated
    }
    /// When the first certificate of the path ends.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }
}

/// Verifies an endorsement as it was published or as the host handed it to the guest.
pub fn verify_gce_endorsement(
    bytes: &[u8],
    anchors: &TrustAnchors,
    now: UnixTime,
) -> Result<VerifiedGceEndorsement, GceFirmwareRefusal> {
    let verify = || {
        let verified = verify(bytes, anchors, now)?;
        let ends = verified.not_after;
        Ok((verified, ends))
    };
    once(anchors, |memory| (&memory.firmware, Name::of_firmware(bytes)), now, verify)
}

fn verify(bytes: &[u8], anchors: &TrustAnchors, now: UnixTime) -> Result<VerifiedGceEndorsement, GceFirmwareRefusal> {
    let endorsement = GceEndorsement::parse(bytes)?;
    let signer = Certificate::parse(endorsement.certificate()).map_err(GceFirmwareRefusal::Signer)?;
    signer.only_critical(&[BASIC_CONSTRAINTS, KEY_USAGE]).map_err(GceFirmwareRefusal::Signer)?;
    let key = match signer.key().map_err(GceFirmwareRefusal::Signer)? {
        PublicKey::Rsa(key) if !signer.is_ca() && signer.may_sign_data() => key,
        _ => return Err(GceFirmwareRefusal::SignerUse),
    };
    // One hop: without other certificates, only the root can have issued it.
    let none = Pool::parse(&[], &[])?;
    let path = none.path(&signer, Rules { place: Place::GceFirmware, use_of_cas: None }, anchors, now)?;
    crypto::verify(Scheme::RsaPssSha256, &key, endorsement.signed_bytes(), endorsement.signature())
        .map_err(|_| GceFirmwareRefusal::Signature)?;
    Ok(VerifiedGceEndorsement { endorsement, simulated: path.simulated, not_after: path.not_after })
}
