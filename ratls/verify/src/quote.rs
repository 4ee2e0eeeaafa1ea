//! Is a quote good? Made by this AK inside a TPM, for this question, over exactly these registers with these values.
//!
//! That is all. Who vouches for the AK is the platform's file; which registers a policy needs is appraisal's question
//! ([`VerifiedQuote::missing`] answers it). Clock and reset count are told, not judged. The checks and their ids are those of
//! hashes come before signatures. Q_QN is consistency and no proof: an unrestricted key can sign any
//! qualified signer, which is why the attributes are checked and the area itself must be vouched for.

use crate::endorsement::TrustAnchors;
use findings::{Check, QuoteCheck};
use formats::crypto::{self, BadSignature, Scheme, constant_time_eq};
use formats::evidence::tpm::public::{Curve, padded};
use formats::evidence::tpm::{
    AttestError, Bank, Clock, Hash, Hierarchy, Key, PcrValues, Public, Quoted, Signature, SignatureError,
};

/// What was quoted, by which key. Only [`verify_quote`] makes one.
#[derive(Clone, Debug)]
#[must_use]
pub struct VerifiedQuote {
    public: Public,
    hierarchy: Hierarchy,
    pcrs: PcrValues,
    clock: Clock,
    firmware_version: u64,
}

impl VerifiedQuote {
    /// The key that signed.
    pub fn public(&self) -> &Public {
        &self.public
    }
    /// The hierarchy whose primary key it is.
    pub fn hierarchy(&self) -> Hierarchy {
        self.hierarchy
    }
    /// The registers that the quote covers, and no others.
    pub fn pcrs(&self) -> &PcrValues {
        &self.pcrs
    }
    pub fn clock(&self) -> Clock {
        self.clock
    }
    pub fn firmware_version(&self) -> u64 {
        self.firmware_version
    }
    /// Those of the wanted registers that the quote does not cover: nothing is known of them (Q_SEL).
    pub fn missing(&self, wanted: impl IntoIterator<Item = u8>) -> Vec<u8> {
        wanted.into_iter().filter(|index| self.pcrs.value(*index).is_none()).collect()
    }
}

/// Why a quote is not good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuoteError {
    #[error(transparent)]
    Attest(#[from] AttestError),
    #[error(transparent)]
    SignatureForm(#[from] SignatureError),
    #[error("the key is no attestation key: it {unfit}")]
    Attributes { unfit: String },
    #[error("the key's public area leaves its signature scheme open; a restricted key has one")]
    NoScheme,
    #[error(
        "the signature is of scheme {seen:#06x} with {seen_hash:?}, the key's is {wanted:#06x} with {wanted_hash:?}"
    )]
    Scheme { seen: u16, seen_hash: Hash, wanted: u16, wanted_hash: Hash },
    #[error("keys and hashes of this kind are not used together here")]
    Unsupported,
    #[error("the quote answers {seen:?}, asked was {wanted:?}")]
    Nonce { seen: String, wanted: String },
    #[error("the quote selects {seen} banks, wanted exactly one")]
    Banks { seen: usize },
    #[error("the quote selects registers of bank {seen:#06x}, the values are of {wanted}")]
    Bank { seen: u16, wanted: Bank },
    #[error("the quote selects no register")]
    Empty,
    #[error("the quote selects registers {selected:?}, values are given for {given:?}")]
    Selection { selected: Vec<u8>, given: Vec<u8> },
    #[error("the values do not hash to what was quoted: {seen}, quoted {wanted}")]
    Digest { seen: String, wanted: String },
    #[error("the quote names another signer: it is not by this key as a primary key of any hierarchy")]
    QualifiedSigner { seen: String },
    #[error("the quote's signature does not verify under the key")]
    Signature,
}

impl QuoteError {
    /// Returns the printed id of the check that failed.
    pub fn id(&self) -> &'static str {
        self.check().id()
    }

    /// Returns the check that failed.
    pub fn check(&self) -> Check {
        match self {
            QuoteError::Attest(AttestError::Magic { .. }) => QuoteCheck::Magic.into(),
            QuoteError::Attest(AttestError::Type { .. }) => QuoteCheck::Type.into(),
            QuoteError::Attest(_) => QuoteCheck::Parse.into(),
            QuoteError::Attributes { .. } | QuoteError::NoScheme => QuoteCheck::Key.into(),
            QuoteError::SignatureForm(_)
            | QuoteError::Scheme { .. }
            | QuoteError::Unsupported
            | QuoteError::Signature => QuoteCheck::Signature.into(),
            QuoteError::Nonce { .. } => QuoteCheck::Nonce.into(),
            QuoteError::Banks { .. } | QuoteError::Bank { .. } | QuoteError::Empty | QuoteError::Selection { .. } => {
                QuoteCheck::Selection.into()
            }
            QuoteError::Digest { .. } => QuoteCheck::Digest.into(),
            QuoteError::QualifiedSigner { .. } => QuoteCheck::QualifiedName.into(),
        }
    }
}

/// Verifies one quote.
///
/// `attest` are the bytes that were signed; `qualifying` is what the quote must answer, all of it; `pcrs` are the values that
/// the quoting side gave. The caller still has to know who vouches for `public`.
pub fn verify_quote(
    public: &Public,
    attest: &[u8],
    signature: &Signature,
    qualifying: &[u8],
    pcrs: &PcrValues,
) -> Result<VerifiedQuote, QuoteError> {
    let quoted = Quoted::parse(attest)?;
    answers(&quoted, qualifying)?;
    verify_parsed(public, attest, &quoted, signature, pcrs, crypto::verify)
}

/// The same, where these roots may remember that this key signed exactly these bytes. All else is looked at again.
pub(super) fn verify_quote_under(
    anchors: &TrustAnchors,
    public: &Public,
    attest: &[u8],
    signature: &Signature,
    qualifying: &[u8],
    pcrs: &PcrValues,
) -> Result<VerifiedQuote, QuoteError> {
    let quoted = Quoted::parse(attest)?;
    answers(&quoted, qualifying)?;
    let verify =
        |scheme, key: &[u8], message: &[u8], bytes: &[u8]| anchors.verify_signature(scheme, key, message, bytes);
    verify_parsed(public, attest, &quoted, signature, pcrs, verify)
}

/// Verifies a quote from a file, of which nobody knows what it was asked. What it answered stands in it and is shown.
pub fn verify_quote_of_file(
    public: &Public,
    attest: &[u8],
    signature: &Signature,
    pcrs: &PcrValues,
) -> Result<VerifiedQuote, QuoteError> {
    verify_parsed(public, attest, &Quoted::parse(attest)?, signature, pcrs, crypto::verify)
}

fn verify_parsed(
    public: &Public,
    attest: &[u8],
    quoted: &Quoted,
    signature: &Signature,
    pcrs: &PcrValues,
    verify: impl FnOnce(Scheme, &[u8], &[u8], &[u8]) -> Result<(), BadSignature>,
) -> Result<VerifiedQuote, QuoteError> {
    attestation_key(public, signature)?;
    let hierarchy = signer(public, quoted)?;
    selects(quoted, pcrs)?;
    let values: Vec<&[u8]> = pcrs.iter().map(|(_, value)| value.as_bytes()).collect();
    let digest = signature.hash().digest(&values);
    if !constant_time_eq(&digest, &quoted.pcr_digest) {
        return Err(QuoteError::Digest { seen: hex::encode(digest), wanted: hex::encode(&quoted.pcr_digest) });
    }
    let (scheme, bytes) = scheme(public.key(), signature)?;
    verify(scheme, &public.key().subject_public_key(), attest, &bytes).map_err(|_| QuoteError::Signature)?;
    let pcrs = pcrs.clone();
    let (clock, firmware_version) = (quoted.clock, quoted.firmware_version);
    Ok(VerifiedQuote { public: public.clone(), hierarchy, pcrs, clock, firmware_version })
}

/// Q_NONCE: the whole of it, length too.
fn answers(quoted: &Quoted, qualifying: &[u8]) -> Result<(), QuoteError> {
    if constant_time_eq(&quoted.extra_data, qualifying) {
        return Ok(());
    }
    Err(QuoteError::Nonce { seen: hex::encode(&quoted.extra_data), wanted: hex::encode(qualifying) })
}

/// Q_AK, and the scheme of Q_SIG: a signature by the key's own scheme and no other.
fn attestation_key(public: &Public, signature: &Signature) -> Result<(), QuoteError> {
    if let Some(unfit) = public.attributes().unfit_for_ak() {
        return Err(QuoteError::Attributes { unfit });
    }
    let wanted = public.scheme().ok_or(QuoteError::NoScheme)?;
    let (seen, seen_hash) = (signature.scheme(), signature.hash());
    if (seen, seen_hash) == (wanted.algorithm, wanted.hash) {
        return Ok(());
    }
    Err(QuoteError::Scheme { seen, seen_hash, wanted: wanted.algorithm, wanted_hash: wanted.hash })
}

/// Q_SEL: one bank, and exactly the registers whose values are given. Otherwise any value could be printed for the rest.
fn selects(quoted: &Quoted, pcrs: &PcrValues) -> Result<(), QuoteError> {
    let [selection] = &quoted.selections[..] else {
        return Err(QuoteError::Banks { seen: quoted.selections.len() });
    };
    if selection.algorithm != pcrs.bank().algorithm() {
        return Err(QuoteError::Bank { seen: selection.algorithm, wanted: pcrs.bank() });
    }
    if selection.indices.is_empty() {
        return Err(QuoteError::Empty);
    }
    let given: Vec<u8> = pcrs.indices().collect();
    if selection.indices != given {
        return Err(QuoteError::Selection { selected: selection.indices.clone(), given });
    }
    Ok(())
}

/// Q_QN.
fn signer(public: &Public, quoted: &Quoted) -> Result<Hierarchy, QuoteError> {
    Hierarchy::ALL
        .into_iter()
        .find(|hierarchy| public.qualified_name(*hierarchy).as_bytes() == quoted.qualified_signer)
        .ok_or_else(|| QuoteError::QualifiedSigner { seen: hex::encode(&quoted.qualified_signer) })
}

/// How a key of this kind made a signature of this one, and the signature as [`crypto::verify`] takes it.
fn scheme(key: &Key, signature: &Signature) -> Result<(Scheme, Vec<u8>), QuoteError> {
    match (key, signature) {
        (Key::Rsa { .. }, Signature::RsaSsa { hash, signature }) => {
            let scheme = match hash {
                Hash::Sha256 => Scheme::RsaPkcs1Sha256,
                Hash::Sha384 => Scheme::RsaPkcs1Sha384,
                Hash::Sha512 => Scheme::RsaPkcs1Sha512,
            };
            Ok((scheme, signature.clone()))
        }
        (Key::Rsa { .. }, Signature::RsaPss { hash, signature }) => {
            let scheme = match hash {
                Hash::Sha256 => Scheme::RsaPssSha256,
                Hash::Sha384 => Scheme::RsaPssSha384,
                Hash::Sha512 => Scheme::RsaPssSha512,
            };
            Ok((scheme, signature.clone()))
        }
        (Key::Ecc { curve, .. }, Signature::Ecdsa { hash, r, s }) => {
            let scheme = match (curve, hash) {
                (Curve::P256, Hash::Sha256) => Scheme::EcdsaP256Sha256Fixed,
                (Curve::P384, Hash::Sha384) => Scheme::EcdsaP384Sha384Fixed,
                _ => return Err(QuoteError::Unsupported),
            };
            let fixed = |integer: &[u8]| padded(integer, curve.size()).ok_or(QuoteError::Signature);
            Ok((scheme, [fixed(r)?, fixed(s)?].concat()))
        }
        _ => Err(QuoteError::Unsupported),
    }
}
