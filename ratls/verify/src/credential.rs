//! MakeCredential: a secret hidden so that only a TPM with this EK can find it, and only if a key of exactly this name is
//! loaded there (TPM 2.0 Library, Part 1, 24).
//!
//! The AK's name is computed here from a public area whose attributes were checked, so the secret's return proves residency
//! and attributes both. The EK is that of the manifest which the report is over, never one that came beside it. Random bytes are
//! arguments, and encrypting the seed for the EK (RSA-OAEP) is the caller's, because it needs more of them.

use crate::evidence::VerifiedEvidence;
use crate::tpm::{AkProof, Witness};
use formats::crypto::{self, constant_time_eq};
use formats::evidence::snp::ReportId;
use formats::evidence::tpm::{Key, Name};
pub use formats::wire::credential::Seed;
use formats::wire::credential::{CredentialResponse, CredentialSecret};
use zeroize::Zeroizing;

/// What OAEP takes as its label, the zero included.
pub const OAEP_LABEL: &[u8] = b"IDENTITY\0";

/// Why there is no proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    #[error("there is no EK and AK of an SVSM in this evidence to be proven")]
    NothingToProve,
    #[error("this build (crypto backend {}) cannot make credentials", crypto::BACKEND)]
    Unsupported,
    #[error("the TPM did not find the secret: the AK does not live beside the EK of the manifest")]
    Secret,
    #[error("the proof is for other keys or another guest")]
    Other,
}

/// A secret on its way, and whom it was hidden for.
pub struct Question {
    subject: CredentialProof,
    secret: Zeroizing<[u8; 32]>,
    id_object: Vec<u8>,
    ek: Vec<u8>,
}

/// An AK that was proven. It stays true as long as the guest runs: keep it by [`CredentialProof`] itself, which names all
/// that it depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CredentialProof {
    ek: Name,
    ak: Name,
    guest: ReportId,
}

impl VerifiedEvidence {
    /// Notes that the AK was proven to live beside the EK. The proof must be for this EK, this AK and this guest.
    pub fn prove_ak(&mut self, proof: &CredentialProof) -> Result<(), CredentialError> {
        proof.is_for(self)?;
        self.set_proof(AkProof::Credential);
        Ok(())
    }
}

impl Question {
    /// Hides `secret` for the AK of this evidence under keys made from `seed`. Both are fresh random bytes.
    pub fn new(evidence: &VerifiedEvidence, seed: &Seed, secret: CredentialSecret) -> Result<Self, CredentialError> {
        let subject = CredentialProof::wanted(evidence).ok_or(CredentialError::NothingToProve)?;
        let ek = match evidence.svsm().map(|manifest| manifest.ek().key()) {
            Some(key @ Key::Rsa { .. }) => key.subject_public_key(),
            _ => return Err(CredentialError::NothingToProve),
        };
        let id_object = id_object(seed, &subject.ak, secret.as_bytes())?;
        Ok(Question { subject, secret: Zeroizing::new(*secret.as_bytes()), id_object, ek })
    }

    /// Buffer of TPM2B_ID_OBJECT.
    pub fn id_object(&self) -> &[u8] {
        &self.id_object
    }

    /// The EK as PKCS#1 `RSAPublicKey`: encrypt the seed for it with OAEP, SHA-256 and [`OAEP_LABEL`].
    pub fn ek_pkcs1(&self) -> &[u8] {
        &self.ek
    }

    /// The proof, if the answer is the secret.
    pub fn answered(self, response: &CredentialResponse) -> Result<CredentialProof, CredentialError> {
        if constant_time_eq(response.secret.as_bytes(), self.secret.as_slice()) {
            Ok(self.subject)
        } else {
            Err(CredentialError::Secret)
        }
    }
}

impl CredentialProof {
    /// What a proof for this evidence would be: the key to look for one that was made before. `None` where the evidence has
    /// no such question.
    pub fn key(evidence: &VerifiedEvidence) -> Option<CredentialKey> {
        Self::wanted(evidence).map(CredentialKey)
    }

    fn wanted(evidence: &VerifiedEvidence) -> Option<Self> {
        let (manifest, tpm) = (evidence.svsm()?, evidence.tpm()?);
        Some(CredentialProof {
            ek: manifest.ek().name(),
            ak: tpm.ak()?.name(),
            guest: *evidence.report().report().report_id(),
        })
    }

    pub(super) fn is_for(&self, evidence: &VerifiedEvidence) -> Result<(), CredentialError> {
        match Self::wanted(evidence) {
            Some(wanted) if wanted == *self => Ok(()),
            Some(_) => Err(CredentialError::Other),
            None => Err(CredentialError::NothingToProve),
        }
    }

    /// Names of EK and AK, and the guest.
    pub fn is_of(&self, key: &CredentialKey) -> bool {
        key.0 == *self
    }
}

/// What a proof is about, without being one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CredentialKey(CredentialProof);

/// What a bundle's witness saw, for who can only believe it.
pub(super) fn witnessed(evidence: &mut VerifiedEvidence) -> Result<(), CredentialError> {
    CredentialProof::wanted(evidence).ok_or(CredentialError::NothingToProve)?;
    evidence.set_proof(AkProof::Witnessed(Witness::Somebody));
    Ok(())
}

/// TPM2B_ID_OBJECT's buffer: TPM2B(HMAC over encrypted identity and name) ‖ encrypted identity, an AES-CFB of TPM2B(secret).
pub fn id_object(seed: &Seed, ak: &Name, secret: &[u8; 32]) -> Result<Vec<u8>, CredentialError> {
    let name = ak.as_bytes();
    let storage = kdfa(seed, b"STORAGE", name, 128);
    let mut identity = [&[0, 32][..], secret].concat();
    let key: &[u8; 16] = storage.first_chunk().expect("KDFa gives a whole hash");
    crypto::aes_128_cfb_encrypt(key, &mut identity).map_err(|_| CredentialError::Unsupported)?;
    let integrity = kdfa(seed, b"INTEGRITY", &[], 256);
    let mac = crypto::hmac_sha256(integrity.as_slice(), &[&identity, name]);
    Ok([&[0, 32][..], mac.as_slice(), &identity].concat())
}

/// KDFa of Part 1, 11.4.10.2 with SHA-256, up to one block: the first `bits` are the key.
fn kdfa(seed: &Seed, label: &[u8], context: &[u8], bits: u32) -> Zeroizing<[u8; 32]> {
    let (counter, bits) = (1u32.to_be_bytes(), bits.to_be_bytes());
    crypto::hmac_sha256(seed.as_bytes(), &[&counter, label, &[0], context, &bits])
}
