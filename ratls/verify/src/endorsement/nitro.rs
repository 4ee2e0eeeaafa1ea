//! Who signed an attestation document of NitroTPM: up to AWS's root, at a time.
//!
//! The document is the Nitro system's word about a TPM that lives outside the guest. It holds no field of an SNP report and no
//! report holds one of it, so it is no link to the AMD-SP. `nonce`, `user_data` and `public_key` are whatever the guest gave and
//! are handed out as values; who compares them must know that the last two prove nothing about the guest (N50).

use super::MAX_CERTIFICATES;
use super::authority::Place;
use super::certificate::{BASIC_CONSTRAINTS, Certificate, CertificateError, KEY_USAGE};
use super::crl::CrlStatus;
use super::key::PublicKey;
use super::path::{PathError, Pool, Question, Rules};
use super::remembered::{Name, once};
use super::roots::TrustAnchors;
use findings::{Check, NitroCheck};
use formats::crypto::{self, Scheme};
use formats::evidence::nitro::{NitroDocument, NitroError};
use formats::time::UnixTime;

/// Why a document is not the Nitro system's word at this time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NitroRefusal {
    #[error(transparent)]
    Document(#[from] NitroError),
    #[error("the document's first CA certificate is not a root that is trusted here: it is called {seen}")]
    Root { seen: String },
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("the document's own certificate is refused")]
    Leaf(#[source] CertificateError),
    #[error("the document's own certificate is of a CA, or does not allow its key to sign")]
    LeafUse,
    #[error("the document's own key is not on P-384")]
    LeafKey,
    #[error("the document's signature does not verify under its certificate's key")]
    Signature,
}

impl NitroRefusal {
    /// Returns the printed id of the check that failed.
    pub fn id(&self) -> &'static str {
        self.check().id()
    }

    /// Returns the check that failed.
    pub fn check(&self) -> Check {
        match self {
            NitroRefusal::Document(NitroError::Enclave) => NitroCheck::Enclave.into(),
            NitroRefusal::Document(NitroError::Algorithm { .. }) => NitroCheck::Algorithm.into(),
            NitroRefusal::Document(_) => NitroCheck::Parse.into(),
            NitroRefusal::Root { .. } => NitroCheck::Root.into(),
            NitroRefusal::Path(error) => match error.question() {
                Question::Chain => NitroCheck::Chain.into(),
                Question::Root => NitroCheck::Root.into(),
                Question::Extension => NitroCheck::Extension.into(),
                Question::Validity => NitroCheck::Validity.into(),
                Question::Revoked => NitroCheck::Revoked.into(),
                Question::Crl => NitroCheck::Crl.into(),
            },
            NitroRefusal::Leaf(source) if source.is_about_extensions() => NitroCheck::Extension.into(),
            NitroRefusal::Leaf(_) | NitroRefusal::LeafUse | NitroRefusal::LeafKey => NitroCheck::Chain.into(),
            NitroRefusal::Signature => NitroCheck::Signature.into(),
        }
    }
}

/// A document that AWS's root vouches for. Only [`verify_nitro_document`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedNitro {
    document: NitroDocument,
    simulated: bool,
    crl: CrlStatus,
    missing_list: Option<String>,
    not_after: UnixTime,
}

impl VerifiedNitro {
    pub fn document(&self) -> &NitroDocument {
        &self.document
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
    /// Until when the whole path is valid: about three hours after the document was made.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }
}

/// Verifies a document as it came from the TPM. `crls` may hold lists of others.
pub fn verify_nitro_document(
    bytes: &[u8],
    crls: &[&[u8]],
    anchors: &TrustAnchors,
    now: UnixTime,
) -> Result<VerifiedNitro, NitroRefusal> {
    let verify = || {
        let verified = verify(bytes, crls, anchors, now)?;
        let ends = verified.crl.ends(verified.not_after);
        Ok((verified, ends))
    };
    once(anchors, |memory| (&memory.documents, Name::of_document(bytes, crls)), now, verify)
}

fn verify(bytes: &[u8], crls: &[&[u8]], anchors: &TrustAnchors, now: UnixTime) -> Result<VerifiedNitro, NitroRefusal> {
    let document = NitroDocument::parse(bytes)?;
    let bundle: Vec<&[u8]> = document.cabundle().iter().map(Vec::as_slice).take(MAX_CERTIFICATES).collect();
    let pool = Pool::parse(&bundle, crls)?;
    check_first(&pool, anchors)?;

    let leaf = Certificate::parse(document.certificate()).map_err(NitroRefusal::Leaf)?;
    leaf.only_critical(&[BASIC_CONSTRAINTS, KEY_USAGE]).map_err(NitroRefusal::Leaf)?;
    if leaf.is_ca() || !leaf.may_sign_data() {
        return Err(NitroRefusal::LeafUse);
    }
    let key = match leaf.key().map_err(NitroRefusal::Leaf)? {
        PublicKey::P384(point) => point,
        PublicKey::Rsa(_) | PublicKey::P256(_) => return Err(NitroRefusal::LeafKey),
    };
    let path = pool.path(&leaf, Rules { place: Place::NitroTpm, use_of_cas: None }, anchors, now)?;
    crypto::verify(Scheme::EcdsaP384Sha384Fixed, &key, &document.signed_bytes(), document.signature())
        .map_err(|_| NitroRefusal::Signature)?;
    Ok(VerifiedNitro {
        document,
        simulated: path.simulated,
        crl: path.crl,
        missing_list: path.missing_list,
        not_after: path.not_after,
    })
}

/// AWS puts its root first. That it is ours decides nothing (the path does), but one that is not tells the reason.
fn check_first(pool: &Pool<'_>, anchors: &TrustAnchors) -> Result<(), NitroRefusal> {
    let Some(first) = pool.certificates().next() else { return Ok(()) };
    let known = |key: PublicKey| anchors.at(Place::NitroTpm, first.subject()).any(|root| root.key == key);
    if first.key().is_ok_and(known) { Ok(()) } else { Err(NitroRefusal::Root { seen: first.label() }) }
}
