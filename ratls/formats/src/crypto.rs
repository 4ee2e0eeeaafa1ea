//! The only door to cryptographic primitives: two backends of the same API behind it.
//!
//! `aws-lc-rs` is the default (a P-384 verification in 0.25 ms against ring's 0.96); `ring` is the alternative. Where both
//! features are on, aws-lc-rs does the work: the feature `ring` alone never changes an answer, only who computes it.
//! Nothing here draws random numbers.

#[cfg(feature = "aws-lc-rs")]
use aws_lc_rs as backend;
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
use ring as backend;
#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
compile_error!("ratls needs one of the features `aws-lc-rs` and `ring`");

use crate::digest::{Sha256Digest, Sha384Digest, Sha512Digest};
use backend::{digest, hmac, signature};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Name of the backend that computes, for logs and reports.
pub const BACKEND: &str = if cfg!(feature = "aws-lc-rs") { "aws-lc-rs" } else { "ring" };

fn hash(algorithm: &'static digest::Algorithm, parts: &[&[u8]]) -> digest::Digest {
    let mut context = digest::Context::new(algorithm);
    for part in parts {
        context.update(part);
    }
    context.finish()
}

fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("a hash has the length of its algorithm")
}

/// SHA-256 over the parts, one after the other.
pub fn sha256(parts: &[&[u8]]) -> Sha256Digest {
    Sha256Digest::from_bytes(fixed(hash(&digest::SHA256, parts).as_ref()))
}
/// SHA-384 over the parts, one after the other.
pub fn sha384(parts: &[&[u8]]) -> Sha384Digest {
    Sha384Digest::from_bytes(fixed(hash(&digest::SHA384, parts).as_ref()))
}
/// SHA-512 over the parts, one after the other.
pub fn sha512(parts: &[&[u8]]) -> Sha512Digest {
    Sha512Digest::from_bytes(fixed(hash(&digest::SHA512, parts).as_ref()))
}

/// SHA-256 over bytes that come piece by piece.
pub struct Sha256Stream(digest::Context);

impl Sha256Stream {
    #[expect(clippy::new_without_default, reason = "a hash of nothing should be asked for")]
    pub fn new() -> Self {
        Sha256Stream(digest::Context::new(&digest::SHA256))
    }
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
    pub fn finish(self) -> Sha256Digest {
        Sha256Digest::from_bytes(fixed(self.0.finish().as_ref()))
    }
}

/// HMAC over the parts with SHA-256.
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(fixed(mac(hmac::HMAC_SHA256, key, parts).as_ref()))
}
/// HMAC over the parts with SHA-384.
pub fn hmac_sha384(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 48]> {
    Zeroizing::new(fixed(mac(hmac::HMAC_SHA384, key, parts).as_ref()))
}

fn mac(algorithm: hmac::Algorithm, key: &[u8], parts: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(&hmac::Key::new(algorithm, key));
    for part in parts {
        context.update(part);
    }
    context.sign()
}

/// The hash of a TLS 1.3 cipher suite. Its secrets have that hash's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuiteHash {
    /// Of the suites with AES-128-GCM and with ChaCha20-Poly1305.
    Sha256,
    /// Of the suite with AES-256-GCM.
    Sha384,
}

impl SuiteHash {
    /// Returns the hash whose output is this long.
    pub fn from_length(length: usize) -> Option<Self> {
        [SuiteHash::Sha256, SuiteHash::Sha384].into_iter().find(|hash| hash.length() == length)
    }

    /// Returns the length of the hash and of its suites' secrets, in bytes.
    pub const fn length(self) -> usize {
        match self {
            SuiteHash::Sha256 => 32,
            SuiteHash::Sha384 => 48,
        }
    }

    /// Fills `out` with `HKDF-Expand-Label(secret, label, Hash(hashed), out.len())` of RFC 8446 §7.1, or with an empty
    /// context where there is nothing to hash.
    ///
    /// # Panics
    /// If `out` is longer than the hash, or `label` than 249 bytes: both are constants of the callers.
    pub fn expand_label(self, secret: &[u8], label: &[u8], hashed: Option<&[u8]>, out: &mut [u8]) {
        let byte = |n: usize| u8::try_from(n).expect("labels and lengths are short constants");
        let context = match (hashed, self) {
            (None, _) => Vec::new(),
            (Some(bytes), SuiteHash::Sha256) => sha256(&[bytes]).as_bytes().to_vec(),
            (Some(bytes), SuiteHash::Sha384) => sha384(&[bytes]).as_bytes().to_vec(),
        };
        let head = [0, byte(out.len()), byte(6 + label.len())];
        // The first block of HKDF-Expand (RFC 5869 §2.3), whose number is 1, is all that is needed.
        let parts = [&head[..], b"tls13 ", label, &[byte(context.len())], &context, &[1]];
        let fits = "a value is no longer than its hash";
        let length = out.len();
        match self {
            SuiteHash::Sha256 => out.copy_from_slice(hmac_sha256(secret, &parts).get(..length).expect(fits)),
            SuiteHash::Sha384 => out.copy_from_slice(hmac_sha384(secret, &parts).get(..length).expect(fits)),
        }
    }
}

/// AES-128 in CFB mode with an IV of zeros, in place: what a TPM encrypts under a key that it uses once (Part 1, 24). The
/// backend `ring` has no such mode; then the bytes stay as they are.
#[cfg(feature = "aws-lc-rs")]
pub fn aes_128_cfb_encrypt(key: &[u8; 16], bytes: &mut [u8]) -> Result<(), Unsupported> {
    use backend::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
    use backend::iv::FixedLength;
    let key = UnboundCipherKey::new(&AES_128, key).and_then(EncryptingKey::cfb128).map_err(|_| Unsupported)?;
    let iv = EncryptionContext::Iv128(FixedLength::from([0; 16]));
    key.less_safe_encrypt(bytes, iv).map(drop).map_err(|_| Unsupported)
}
#[cfg(not(feature = "aws-lc-rs"))]
pub fn aes_128_cfb_encrypt(_: &[u8; 16], _: &mut [u8]) -> Result<(), Unsupported> {
    Err(Unsupported)
}

/// The backend cannot do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the crypto backend {BACKEND} does not support this")]
pub struct Unsupported;

/// Equality without telling by time where the difference is. Lengths are not secret.
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// A signature scheme and the form of key and signature that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scheme {
    /// Key: uncompressed point (97 bytes). Signature: r ‖ s, 96 bytes, big-endian.
    EcdsaP384Sha384Fixed,
    /// Key: uncompressed point (97 bytes). Signature: DER.
    EcdsaP384Sha384Asn1,
    /// Key: uncompressed point (65 bytes). Signature: DER.
    EcdsaP256Sha256Asn1,
    /// Key: uncompressed point (65 bytes). Signature: r ‖ s, 64 bytes, big-endian.
    EcdsaP256Sha256Fixed,
    /// Key: 32 bytes. Signature: 64 bytes.
    Ed25519,
    /// Key: PKCS#1 `RSAPublicKey`, 2048–4096 bit. Salt of 32 bytes.
    RsaPssSha256,
    /// Key: PKCS#1 `RSAPublicKey`, 2048–4096 bit. Salt of 48 bytes.
    RsaPssSha384,
    /// Key: PKCS#1 `RSAPublicKey`, 2048–4096 bit. Salt of 64 bytes.
    RsaPssSha512,
    /// Key: PKCS#1 `RSAPublicKey`, 2048–4096 bit.
    RsaPkcs1Sha256,
    /// Key: PKCS#1 `RSAPublicKey`, 2048–4096 bit.
    RsaPkcs1Sha384,
    /// Key: PKCS#1 `RSAPublicKey`, 2048–4096 bit.
    RsaPkcs1Sha512,
}

/// The signature is not one by this key over these bytes. Deliberately without a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

/// Verifies `signature` by `key` over `message`. The caller bounds the size of RSA keys beforehand.
pub fn verify(scheme: Scheme, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
    let algorithm: &'static dyn signature::VerificationAlgorithm = match scheme {
        Scheme::EcdsaP384Sha384Fixed => &signature::ECDSA_P384_SHA384_FIXED,
        Scheme::EcdsaP384Sha384Asn1 => &signature::ECDSA_P384_SHA384_ASN1,
        Scheme::EcdsaP256Sha256Asn1 => &signature::ECDSA_P256_SHA256_ASN1,
        Scheme::EcdsaP256Sha256Fixed => &signature::ECDSA_P256_SHA256_FIXED,
        Scheme::Ed25519 => &signature::ED25519,
        Scheme::RsaPssSha256 => &signature::RSA_PSS_2048_8192_SHA256,
        Scheme::RsaPssSha384 => &signature::RSA_PSS_2048_8192_SHA384,
        Scheme::RsaPssSha512 => &signature::RSA_PSS_2048_8192_SHA512,
        Scheme::RsaPkcs1Sha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Scheme::RsaPkcs1Sha384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Scheme::RsaPkcs1Sha512 => &signature::RSA_PKCS1_2048_8192_SHA512,
    };
    signature::UnparsedPublicKey::new(algorithm, key).verify(message, signature).map_err(|_| BadSignature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_over_the_concatenation() {
        assert_eq!(sha256(&[b"ab", b"c"]), sha256(&[b"abc"]));
        assert_eq!(sha256(&[b"abc"]).to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let mut stream = Sha256Stream::new();
        stream.update(b"a");
        stream.update(b"bc");
        assert_eq!(stream.finish(), sha256(&[b"abc"]));
        assert!(sha384(&[b"abc"]).to_string().starts_with("cb00753f45a35e8bb5a03d699ac65007"));
        assert!(sha512(&[b"abc"]).to_string().starts_with("ddaf35a193617abacc417349ae204131"));
    }

    #[test]
    fn hmac_is_that_of_rfc_4231_case_2() {
        let mac = hmac_sha256(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(hex::encode(mac.as_slice()), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn cfb_is_the_mode_that_a_tpm_uses_or_is_not_there() {
        let key = *b"\x2b\x7e\x15\x16\x28\xae\xd2\xa6\xab\xf7\x15\x88\x09\xcf\x4f\x3c";
        let mut bytes = [0; 34];
        if BACKEND == "ring" {
            assert_eq!(aes_128_cfb_encrypt(&key, &mut bytes), Err(Unsupported));
            return;
        }
        aes_128_cfb_encrypt(&key, &mut bytes).unwrap();
        // openssl enc -aes-128-cfb -K 2b7e151628aed2a6abf7158809cf4f3c -iv 0 over 34 zero bytes
        assert_eq!(hex::encode(bytes), "7df76b0c1ab899b33e42f047b91b546fa9dcf5aa138056e259e7be57958e72d8626c");
    }
}
