//! What one verifier need not compute twice: which chains led to its roots, which signatures verified.
//!
//! It is a value of whoever verifies ([`TrustAnchors::remembering`]), belongs to one set of roots, and is bounded. Successes
//! only are kept, under a SHA-256 over every byte that went in, so a hit says what the computation would say. What depends on the
//! time is asked again: a chain counts between the time at which it was verified and the first of its ends (certificates,
//! revocation lists); a clock that was set back finds nothing. Nothing of the binding is ever kept: leaf, path, statement, B, and
//! what a quote answers are computed for each connection.
//!
//! [`TrustAnchors::remembering`]: super::TrustAnchors::remembering

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};

use super::ak::{Given, VerifiedAk};
use super::chain::VerifiedVek;
use super::gce_firmware::VerifiedGceEndorsement;
use super::key::PublicKey;
use super::nitro::VerifiedNitro;
use super::roots::TrustAnchors;
use super::vek::VekKind;
use formats::crypto::{self, BadSignature, Scheme, sha256};
use formats::digest::Sha256Digest;
use formats::time::UnixTime;

/// Guests have one chain and one key of a vTPM each, and a client some guests. A document is of one batch.
const MAX_KEPT: usize = 256;
/// One or two for each batch, lately.
const MAX_SIGNATURES: usize = 4_096;

/// What verified under one set of roots.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    pub(super) chains: Kept<VerifiedVek>,
    pub(super) aks: Kept<VerifiedAk>,
    pub(super) documents: Kept<VerifiedNitro>,
    pub(super) firmware: Kept<VerifiedGceEndorsement>,
    signatures: Mutex<HashSet<Name>>,
}

/// Stands for a question and every byte that its answer depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name(Sha256Digest);

impl Name {
    pub(super) fn of_chain(kind: VekKind, certificates: &[&[u8]], crls: &[&[u8]]) -> Name {
        let kind: &[u8] = match kind {
            VekKind::Vcek => b"vcek",
            VekKind::Vlek => b"vlek",
        };
        Name::of("chain", &[&[kind], certificates, crls])
    }

    pub(super) fn of_ak(provider: &str, given: &Given<'_, '_>) -> Name {
        let (kind, key): (&[u8], &[u8]) = match given.ak {
            PublicKey::Rsa(key) => (b"rsa", key),
            PublicKey::P256(point) => (b"p256", point),
            PublicKey::P384(point) => (b"p384", point),
        };
        Name::of("ak", &[&[provider.as_bytes(), kind, key], given.certificates, given.crls])
    }

    pub(super) fn of_document(document: &[u8], crls: &[&[u8]]) -> Name {
        Name::of("nitro", &[&[document], crls])
    }

    pub(super) fn of_firmware(endorsement: &[u8]) -> Name {
        Name::of("firmware", &[&[endorsement]])
    }

    fn of_signature(scheme: Scheme, key: &[u8], message: &[u8], signature: &[u8]) -> Name {
        Name::of("signature", &[&[format!("{scheme:?}").as_bytes(), key, message, signature]])
    }

    /// Every list with its length and every part with its own, so that no two of them are the same bytes.
    fn of(what: &str, lists: &[&[&[u8]]]) -> Name {
        let length = |n: usize| u64::try_from(n).unwrap_or(u64::MAX).to_be_bytes();
        let mut heads = Vec::new();
        for list in lists {
            heads.push(length(list.len()));
            heads.extend(list.iter().map(|part| length(part.len())));
        }
        let heads = heads.concat();
        let mut all = vec![what.as_bytes(), &heads];
        all.extend(lists.iter().flat_map(|list| list.iter().copied()));
        Name(sha256(&all))
    }
}

/// Values that were verified, each with the times between which it counts.
#[derive(Debug)]
pub(super) struct Kept<T>(Mutex<HashMap<Name, Timed<T>>>);

#[derive(Debug)]
struct Timed<T> {
    value: T,
    verified: UnixTime,
    ends: UnixTime,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Kept(Mutex::default())
    }
}

/// What is kept under the name of a question, or else what `verify` answers with the time at which that ends, which is kept. Anchors
/// that remember nothing ask each time.
pub(super) fn once<'a, T: Clone + 'a, E>(
    anchors: &'a TrustAnchors,
    place: impl FnOnce(&'a Remembered) -> (&'a Kept<T>, Name),
    now: UnixTime,
    verify: impl FnOnce() -> Result<(T, UnixTime), E>,
) -> Result<T, E> {
    let place = anchors.remembered().map(place);
    if let Some(known) = place.as_ref().and_then(|(kept, name)| kept.find(name, now)) {
        return Ok(known);
    }
    let (value, ends) = verify()?;
    if let Some((kept, name)) = place {
        kept.keep(name, &value, now, ends);
    }
    Ok(value)
}

impl<T: Clone> Kept<T> {
    /// What was verified no later than `now` and has not ended.
    pub(super) fn find(&self, name: &Name, now: UnixTime) -> Option<T> {
        let kept = lock(&self.0);
        let timed = kept.get(name)?;
        (timed.verified <= now && now <= timed.ends).then(|| timed.value.clone())
    }

    /// Keeps what verified at a time, until something that it rests on ends.
    pub(super) fn keep(&self, name: Name, value: &T, verified: UnixTime, ends: UnixTime) {
        let mut kept = lock(&self.0);
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(name, Timed { value: value.clone(), verified, ends });
    }
}

impl Remembered {
    /// [`crypto::verify`], at most once for what verifies.
    pub(super) fn verify(
        &self,
        scheme: Scheme,
        key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        let name = Name::of_signature(scheme, key, message, signature);
        if lock(&self.signatures).contains(&name) {
            return Ok(());
        }
        crypto::verify(scheme, key, message, signature)?;
        let mut signatures = lock(&self.signatures);
        if signatures.len() >= MAX_SIGNATURES {
            signatures.clear();
        }
        signatures.insert(name);
        Ok(())
    }
}

/// Each statement under a lock leaves its collection whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_where_parts_are_cut_elsewhere() {
        let (a, b): (&[u8], &[u8]) = (b"ab", b"c");
        let key = PublicKey::P256([4; 65]);
        let names = [
            Name::of_chain(VekKind::Vcek, &[a, b], &[]),
            Name::of_chain(VekKind::Vcek, &[b"a", b"bc"], &[]),
            Name::of_chain(VekKind::Vcek, &[b"abc"], &[]),
            Name::of_chain(VekKind::Vcek, &[a], &[b]),
            Name::of_chain(VekKind::Vcek, &[b, a], &[]),
            Name::of_chain(VekKind::Vlek, &[a, b], &[]),
            Name::of_ak("Azure", &Given { certificates: &[a, b], crls: &[], ak: &key }),
            Name::of_ak("Azure", &Given { certificates: &[a], crls: &[b], ak: &key }),
            Name::of_ak("Google", &Given { certificates: &[a, b], crls: &[], ak: &key }),
            Name::of_document(a, &[b]),
            Name::of_document(b"abc", &[]),
            Name::of_firmware(a),
        ];
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    }

    #[test]
    fn a_signature_that_is_refused_is_not_kept() {
        let memory = Remembered::default();
        for _ in 0..2 {
            assert!(memory.verify(Scheme::EcdsaP384Sha384Fixed, &[4; 97], b"message", &[1; 96]).is_err());
        }
        assert!(lock(&memory.signatures).is_empty());
    }

    #[test]
    fn what_is_kept_counts_between_its_times_and_is_bounded() {
        let (kept, name) = (Kept::default(), |n: usize| Name::of("test", &[&[&n.to_be_bytes()]]));
        let at = UnixTime::from_secs;
        kept.keep(name(0), &7, at(100), at(200));
        let found = |secs| kept.find(&name(0), at(secs));
        assert_eq!([99, 100, 200, 201].map(found), [None, Some(7), Some(7), None]);
        for n in 1..=3 * MAX_KEPT {
            kept.keep(name(n), &0, at(0), at(1));
            assert!(lock(&kept.0).len() <= MAX_KEPT);
        }
    }
}
