//! The half of MakeCredential that needs randomness: a seed and a secret, and the seed encrypted for the EK.
//!
//! The other half, and everything that decides, is [`ratls::verify::credential`]. The crypto backend `ring` has no OAEP: under it
//! there is no question, the AK stays unproven, and appraisal says so.

use ratls::verify::{CredentialError, Question, VerifiedEvidence};
use ratls::wire::credential::Credential;

/// A question for the AK of this evidence; `None` where this build cannot ask.
#[cfg(feature = "aws-lc-rs")]
pub(crate) fn question(evidence: &VerifiedEvidence) -> Result<Option<(Question, Credential)>, CredentialError> {
    use proxy_core::tls::config::provider;
    use ratls::verify::credential::Seed;
    use ratls::wire::credential::CredentialSecret;

    let (mut seed, mut secret) = ([0; 32], [0; 32]);
    let random = provider().secure_random;
    random.fill(&mut seed).and_then(|()| random.fill(&mut secret)).map_err(|_| CredentialError::Unsupported)?;
    let question = Question::new(evidence, &Seed::from_bytes(seed), CredentialSecret::from_bytes(secret))?;
    let encrypted_secret = encrypt(question.ek_pkcs1(), &seed).ok_or(CredentialError::Unsupported)?;
    let credential = Credential { id_object: question.id_object().to_vec(), encrypted_secret };
    Ok(Some((question, credential)))
}

#[cfg(not(feature = "aws-lc-rs"))]
pub(crate) fn question(_: &VerifiedEvidence) -> Result<Option<(Question, Credential)>, CredentialError> {
    Ok(None)
}

/// RSA-OAEP with SHA-256 in both places and the label that TPMs expect (Part 1, B.10.3).
#[cfg(feature = "aws-lc-rs")]
fn encrypt(ek_pkcs1: &[u8], seed: &[u8]) -> Option<Vec<u8>> {
    use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
    use ratls::verify::credential::OAEP_LABEL;

    let key = PublicEncryptingKey::from_der(&spki(ek_pkcs1)?).ok()?;
    let key = OaepPublicEncryptingKey::new(key).ok()?;
    let mut ciphertext = vec![0; key.ciphertext_size()];
    let written = key.encrypt(&OAEP_SHA256_MGF1SHA256, seed, &mut ciphertext, Some(OAEP_LABEL)).ok()?.len();
    ciphertext.truncate(written);
    Some(ciphertext)
}

/// SubjectPublicKeyInfo of an RSA key of 2048 bit or more: lengths take two bytes.
#[cfg(feature = "aws-lc-rs")]
fn spki(pkcs1: &[u8]) -> Option<Vec<u8>> {
    /// rsaEncryption with NULL parameters (RFC 4055, 1.2).
    const ALGORITHM: [u8; 15] = [0x30, 13, 6, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 1, 5, 0];
    let long = |tag: u8, contents: &[u8]| {
        let length = u16::try_from(contents.len()).ok().filter(|length| *length >= 0x100)?;
        Some([&[tag, 0x82][..], &length.to_be_bytes(), contents].concat())
    };
    let key = long(3, &[&[0], pkcs1].concat())?;
    long(0x30, &[&ALGORITHM[..], &key].concat())
}
