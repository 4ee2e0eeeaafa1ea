//! One direction's record protection of TLS 1.3 (RFC 8446 §5.2, §5.3, §7.1 to §7.3): a traffic secret, the key and the
//! nonces made of it, and records sealed and opened where they lie.
//!
//! The handshake, its negotiation and its secrets are rustls'; what is here begins when both Finished are checked.

#[cfg(feature = "aws-lc-rs")]
use aws_lc_rs::aead;
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
use ring::aead;

use aead::{Aad, LessSafeKey, Nonce, UnboundKey};
use ratls::crypto::{SuiteHash, constant_time_eq};
use rustls::{CipherSuite, ConnectionTrafficSecrets};
use zeroize::Zeroizing;

use crate::stack;

/// Before the ciphertext: type, version, length.
pub(super) const HEAD: usize = 5;
/// After the plaintext: its type, and the tag that all three suites have.
pub(super) const TAIL: usize = 17;
pub(super) const TAG: usize = 16;
const NONCE: usize = 12;
/// Every protected record says that it is application data of TLS 1.2.
const OUTER: [u8; 3] = [23, 3, 3];

/// What the inner type of a record says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InnerType {
    Alert,
    Handshake,
    Data,
}

impl InnerType {
    const fn byte(self) -> u8 {
        match self {
            InnerType::Alert => 21,
            InnerType::Handshake => 22,
            InnerType::Data => 23,
        }
    }
}

/// The suites of `evident/1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordSuite {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

impl RecordSuite {
    pub(super) fn of_cipher(suite: CipherSuite) -> Option<RecordSuite> {
        match suite {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => Some(RecordSuite::Aes128Gcm),
            CipherSuite::TLS13_AES_256_GCM_SHA384 => Some(RecordSuite::Aes256Gcm),
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Some(RecordSuite::ChaCha20Poly1305),
            _ => None,
        }
    }

    fn algorithm(self) -> &'static aead::Algorithm {
        match self {
            RecordSuite::Aes128Gcm => &aead::AES_128_GCM,
            RecordSuite::Aes256Gcm => &aead::AES_256_GCM,
            RecordSuite::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }

    fn hash(self) -> SuiteHash {
        match self {
            RecordSuite::Aes256Gcm => SuiteHash::Sha384,
            RecordSuite::Aes128Gcm | RecordSuite::ChaCha20Poly1305 => SuiteHash::Sha256,
        }
    }

    /// `HKDF-Expand-Label(secret, label, "", length)`.
    fn expand(self, secret: &[u8], label: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(vec![0; length]);
        self.hash().expand_label(secret, label, None, &mut out);
        out
    }
}

/// A record that its key did not make, or that says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadRecord {
    #[error("the secret does not have the length of its suite's hash")]
    Secret,
    #[error("a record does not open under its key")]
    Sealed,
    #[error("a record has no inner type")]
    NoType,
    #[error("a record of inner type {0}")]
    Type(u8),
    #[error("the sequence numbers of a key are used up")]
    Exhausted,
}

/// One direction of one connection.
pub(super) struct Protection {
    suite: RecordSuite,
    secret: Zeroizing<Vec<u8>>,
    key: LessSafeKey,
    iv: [u8; NONCE],
    /// Of the next record.
    sequence: u64,
}

impl Protection {
    /// Goes on at `sequence` under the keys of this traffic secret.
    pub(super) fn new(suite: RecordSuite, secret: &[u8], sequence: u64) -> Result<Self, BadRecord> {
        if secret.len() != suite.hash().length() {
            return Err(BadRecord::Secret);
        }
        let key = suite.expand(secret, b"key", suite.algorithm().key_len());
        let iv = suite.expand(secret, b"iv", NONCE);
        Ok(Protection {
            suite,
            secret: Zeroizing::new(secret.to_vec()),
            key: LessSafeKey::new(UnboundKey::new(suite.algorithm(), &key).map_err(|_| BadRecord::Secret)?),
            iv: iv.as_slice().try_into().map_err(|_| BadRecord::Secret)?,
            sequence,
        })
    }

    /// The keys after KeyUpdate.
    pub(super) fn update(&mut self) -> Result<(), BadRecord> {
        stack::mark();
        let next = self.suite.expand(&self.secret, b"traffic upd", self.suite.hash().length());
        *self = Protection::new(self.suite, &next, 0)?;
        Ok(())
    }

    /// Whether this is the direction that has these keys.
    pub(super) fn has_iv(&self, secrets: &ConnectionTrafficSecrets) -> bool {
        let iv = match (secrets, self.suite) {
            (ConnectionTrafficSecrets::Aes128Gcm { iv, .. }, RecordSuite::Aes128Gcm)
            | (ConnectionTrafficSecrets::Aes256Gcm { iv, .. }, RecordSuite::Aes256Gcm)
            | (ConnectionTrafficSecrets::Chacha20Poly1305 { iv, .. }, RecordSuite::ChaCha20Poly1305) => iv,
            _ => return false,
        };
        constant_time_eq(iv.as_ref(), &self.iv)
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    fn nonce(&mut self) -> Result<Nonce, BadRecord> {
        let mut nonce = self.iv;
        for (byte, number) in nonce[NONCE - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        self.sequence = self.sequence.checked_add(1).ok_or(BadRecord::Exhausted)?;
        Ok(Nonce::assume_unique_for_key(nonce))
    }

    /// Seals `HEAD ‖ plaintext ‖ TAIL` in place.
    ///
    /// # Panics
    /// If `record` has no room for head and tail, or more plaintext than a record may have: our own buffers have neither.
    pub(super) fn seal(&mut self, kind: InnerType, record: &mut [u8]) -> Result<(), BadRecord> {
        let end = record.len() - TAG;
        record[end - 1] = kind.byte();
        self.seal_inner(record)
    }

    /// Seals `HEAD ‖ plaintext ‖ type ‖ padding ‖ tag` in place, whatever type and padding stand there.
    pub(super) fn seal_inner(&mut self, record: &mut [u8]) -> Result<(), BadRecord> {
        let sealed = u16::try_from(record.len() - HEAD).expect("our records are smaller than 64 KiB");
        let (head, body) = record.split_at_mut(HEAD);
        head[..3].copy_from_slice(&OUTER);
        head[3..].copy_from_slice(&sealed.to_be_bytes());
        let (inner, tag) = body.split_at_mut(body.len() - TAG);
        let nonce = self.nonce()?;
        let made = self.key.seal_in_place_separate_tag(nonce, Aad::from(&head[..]), inner);
        tag.copy_from_slice(made.map_err(|_| BadRecord::Sealed)?.as_ref());
        Ok(())
    }

    /// Opens `HEAD ‖ ciphertext` in place; the plaintext begins after the head and has the length given.
    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<(InnerType, usize), BadRecord> {
        let (head, body) = record.split_at_mut(HEAD);
        let nonce = self.nonce()?;
        let inner = self.key.open_in_place(nonce, Aad::from(&head[..]), body).map_err(|_| BadRecord::Sealed)?;
        // Padding is zeros behind the type.
        let end = inner.iter().rposition(|byte| *byte != 0).ok_or(BadRecord::NoType)?;
        match inner[end] {
            21 => Ok((InnerType::Alert, end)),
            22 => Ok((InnerType::Handshake, end)),
            23 => Ok((InnerType::Data, end)),
            other => Err(BadRecord::Type(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
    }

    /// RFC 8448 §3, "Simple 1-RTT Handshake": the server's application traffic secret, its key and iv.
    #[test]
    fn keys_are_those_of_rfc_8448() {
        let secret = hex("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643");
        assert_eq!(RecordSuite::Aes128Gcm.expand(&secret, b"key", 16)[..], hex("9f02283b6c9c07efc26bb9f2ac92e356"));
        assert_eq!(RecordSuite::Aes128Gcm.expand(&secret, b"iv", 12)[..], hex("cf782b88dd83549aadf1e984"));
    }

    fn pair(suite: RecordSuite) -> (Protection, Protection) {
        let secret = vec![7; suite.hash().length()];
        (Protection::new(suite, &secret, 3).unwrap(), Protection::new(suite, &secret, 3).unwrap())
    }

    fn record(plain: &[u8]) -> Vec<u8> {
        [&[0; HEAD], plain, &[0; TAIL]].concat()
    }

    #[test]
    fn what_one_seals_the_other_opens_once_and_in_order() {
        for suite in [RecordSuite::Aes128Gcm, RecordSuite::Aes256Gcm, RecordSuite::ChaCha20Poly1305] {
            let (mut seals, mut opens) = pair(suite);
            for round in 0..3 {
                for plain in [&b"first"[..], b"", &[9; 16_384]] {
                    let mut sealed = record(plain);
                    seals.seal(InnerType::Data, &mut sealed).unwrap();
                    let mut opened = sealed.clone();
                    assert_eq!(opens.open(&mut opened).unwrap(), (InnerType::Data, plain.len()), "{suite:?}");
                    assert_eq!(&opened[HEAD..HEAD + plain.len()], plain);
                    let (_, mut again) = pair(suite);
                    assert!(round == 0 && plain == b"first" || again.open(&mut sealed).is_err(), "a repeated record");
                }
                seals.update().unwrap();
                opens.update().unwrap();
                assert_eq!(seals.sequence(), 0);
            }
        }
    }

    #[test]
    fn every_byte_of_a_record_matters() {
        let (mut seals, _) = pair(RecordSuite::Aes128Gcm);
        let mut sealed = record(b"abc");
        seals.seal(InnerType::Data, &mut sealed).unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(pair(RecordSuite::Aes128Gcm).1.open(&mut changed), Err(BadRecord::Sealed), "byte {at}");
        }
    }

    #[test]
    fn a_record_of_padding_alone_and_one_of_another_type_are_refused() {
        let (mut seals, mut opens) = pair(RecordSuite::Aes128Gcm);
        for (byte, error) in [(0, BadRecord::NoType), (20, BadRecord::Type(20))] {
            let mut sealed = record(b"");
            sealed[HEAD] = byte;
            seals.seal_inner(&mut sealed).unwrap();
            assert_eq!(opens.open(&mut sealed), Err(error));
        }
    }
}
