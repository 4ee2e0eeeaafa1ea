//! What one verifier need not compute twice: which chains led to its roots, and which signatures verified.
//!
//! It is a value of whoever verifies ([`TrustAnchors::remembering`]), belongs to one set of roots, and is bounded. Successes
//! only are kept, under a SHA-256 over every byte that went in, so a hit says what the computation would say. What depends on the
//! time is asked again: a chain counts between the time at which it was verified and the first of its ends (certificates,
//! revocation lists); a clock that was set back finds nothing. Nothing of the binding is ever kept: leaf, path, statement and B
//! are computed for each connection.
//!
//! [`TrustAnchors::remembering`]: super::TrustAnchors::remembering

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use super::chain::VerifiedVek;
use super::crl::CrlStatus;
use super::vek::VekKind;
use crate::crypto::{self, BadSignature, Scheme, sha256};
use crate::digest::Sha256Digest;
use crate::time::UnixTime;

/// Guests have one chain each, and a client some guests.
const MAX_CHAINS: usize = 256;
/// One for each batch, lately.
const MAX_SIGNATURES: usize = 4_096;

/// Chains and signatures that verified.
#[derive(Debug, Default)]
pub(super) struct Remembered(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    chains: HashMap<Sha256Digest, (VerifiedVek, UnixTime)>,
    signatures: HashSet<Sha256Digest>,
}

/// Stands for one kind of key, these certificates and these lists.
pub(crate) fn chain_name(kind: VekKind, certificates: &[&[u8]], crls: &[&[u8]]) -> Sha256Digest {
    let kind: &[u8] = match kind {
        VekKind::Vcek => b"vcek",
        VekKind::Vlek => b"vlek",
    };
    name("chain", &[&[kind], certificates, &[b"lists"], crls].concat())
}

/// Every part with its length, so that no two lists of parts are the same bytes.
fn name(what: &str, parts: &[&[u8]]) -> Sha256Digest {
    let lengths: Vec<[u8; 8]> =
        parts.iter().map(|part| u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes()).collect();
    let mut all = Vec::with_capacity(2 * parts.len() + 1);
    all.push(what.as_bytes());
    for (length, part) in lengths.iter().zip(parts) {
        all.extend([&length[..], part]);
    }
    sha256(&all)
}

impl Remembered {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Each statement leaves both collections whole.
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The key at the end of this chain, if it was verified no later than `now` and has not ended.
    pub(super) fn chain(&self, name: &Sha256Digest, now: UnixTime) -> Option<VerifiedVek> {
        let inner = self.lock();
        let (vek, at) = inner.chains.get(name)?;
        let ends = match vek.crl() {
            CrlStatus::Checked { next_update } => vek.not_after().min(next_update),
            CrlStatus::Absent => vek.not_after(),
        };
        (*at <= now && now <= ends).then(|| vek.clone())
    }

    pub(super) fn note_chain(&self, name: Sha256Digest, vek: &VerifiedVek, at: UnixTime) {
        let mut inner = self.lock();
        if inner.chains.len() >= MAX_CHAINS {
            inner.chains.clear();
        }
        inner.chains.insert(name, (vek.clone(), at));
    }

    /// [`crypto::verify`], at most once for what verifies.
    pub(super) fn verify(
        &self,
        scheme: Scheme,
        key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        let name = name("signature", &[format!("{scheme:?}").as_bytes(), key, message, signature]);
        if self.lock().signatures.contains(&name) {
            return Ok(());
        }
        crypto::verify(scheme, key, message, signature)?;
        let mut inner = self.lock();
        if inner.signatures.len() >= MAX_SIGNATURES {
            inner.signatures.clear();
        }
        inner.signatures.insert(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_where_parts_are_cut_elsewhere() {
        let (a, b): (&[u8], &[u8]) = (b"ab", b"c");
        let names = [
            chain_name(VekKind::Vcek, &[a, b], &[]),
            chain_name(VekKind::Vcek, &[b"a", b"bc"], &[]),
            chain_name(VekKind::Vcek, &[b"abc"], &[]),
            chain_name(VekKind::Vcek, &[a], &[b]),
            chain_name(VekKind::Vcek, &[b, a], &[]),
            chain_name(VekKind::Vlek, &[a, b], &[]),
        ];
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    }

    #[test]
    fn a_signature_that_does_not_verify_is_not_kept() {
        let memory = Remembered::default();
        for _ in 0..2 {
            assert!(memory.verify(Scheme::EcdsaP384Sha384Fixed, &[4; 97], b"message", &[1; 96]).is_err());
        }
        assert!(memory.lock().signatures.is_empty());
    }
}
