//! The roots that a chain may end in: AMD's three ARKs and those of the clouds ([`super::authority`]), pinned by their bytes, and
//! those of a simulator where a policy names them.
//!
//! A root that arrives with evidence is never one of these. The intermediate CAs are not pinned: AMD re-issued one already, and
//! each is signed by its ARK.

use std::sync::Arc;

use super::authority::{Authority, AuthorityError, Place};
use super::certificate::{Certificate, CertificateError};
use super::chain::VerifiedVek;
use super::key::PublicKey;
use super::pem::{self, PemError};
use super::remembered::{Name, Remembered};
use super::signed::{Hierarchy, SignedError};
use super::vek::VekKind;
use formats::crypto::{self, BadSignature, Scheme};
use formats::tcb::Product;
use formats::time::UnixTime;

const ARK_MILAN: &[u8] = include_bytes!("roots/ark-milan.der");
const ARK_GENOA: &[u8] = include_bytes!("roots/ark-genoa.der");
const ARK_TURIN: &[u8] = include_bytes!("roots/ark-turin.der");

/// Why a file cannot be a root.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnchorError {
    #[error("the root cannot be read")]
    Pem(#[from] PemError),
    #[error("the file holds {seen} certificates, a root is one")]
    Count { seen: usize },
    #[error("the root is refused")]
    Certificate(#[from] CertificateError),
    #[error(
        "the root's common name is {seen:?}, wanted ARK-Milan, ARK-Genoa or ARK-Turin, or that of a cloud's root (docs/policy.md)"
    )]
    Name { seen: String },
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("the root is not signed by itself")]
    SelfSigned(#[from] SignedError),
    #[error("the root has the key or the place of another root: {name}")]
    Duplicate { name: String },
}

/// One root.
#[derive(Clone, Debug)]
pub(super) struct Anchor {
    pub(super) product: Product,
    pub(super) simulated: bool,
    /// The whole name, for comparison.
    pub(super) subject: Vec<u8>,
    pub(super) serial: Vec<u8>,
    pub(super) key: PublicKey,
    pub(super) not_before: UnixTime,
    pub(super) not_after: UnixTime,
}

impl Anchor {
    fn parse(der: &[u8], simulated: bool) -> Result<Self, AnchorError> {
        let certificate = Certificate::parse(der)?;
        certificate.check_amd()?;
        let name = certificate.subject_cn();
        let product = name
            .strip_prefix("ARK-")
            .and_then(Product::from_name)
            .ok_or_else(|| AnchorError::Name { seen: name.to_owned() })?;
        let key = certificate.ca_key()?;
        certificate.verify_signature(&key, Hierarchy::Amd)?;
        Ok(Anchor {
            product,
            simulated,
            subject: certificate.subject().to_vec(),
            serial: certificate.serial().to_vec(),
            key,
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
        })
    }

    pub(super) fn name(&self) -> String {
        format!("ARK-{}", self.product)
    }
}

/// The roots of one verification.
#[derive(Clone, Debug)]
pub struct TrustAnchors {
    anchors: Vec<Anchor>,
    authorities: Vec<Authority>,
    /// What verified under exactly these; clones share it.
    remembered: Option<Arc<Remembered>>,
}

impl TrustAnchors {
    /// The built-in ones: AMD's roots of Milan, Genoa and Turin, and those of the vTPMs of Azure, Google and AWS, each for its place.
    pub fn amd() -> TrustAnchors {
        let anchors = [ARK_MILAN, ARK_GENOA, ARK_TURIN];
        TrustAnchors {
            anchors: anchors.map(|der| Anchor::parse(der, false).expect("AMD's roots parse")).to_vec(),
            authorities: Authority::built_in(),
            remembered: None,
        }
    }

    /// From now on what verified need not be computed again, for as long as this value and its clones live: chains, certificates of
    /// vTPMs' keys, documents, signatures. Answers are the same with and without.
    pub fn remembering(self) -> TrustAnchors {
        TrustAnchors { remembered: Some(Arc::default()), ..self }
    }

    /// What a chain of these is remembered under; `None` where nothing is.
    pub(crate) fn chain_name(&self, kind: VekKind, certificates: &[&[u8]], crls: &[&[u8]]) -> Option<Name> {
        self.remembered.as_ref().map(|_| Name::of_chain(kind, certificates, crls))
    }

    pub(crate) fn remembered_chain(&self, name: &Name, now: UnixTime) -> Option<VerifiedVek> {
        self.remembered.as_ref()?.chains.find(name, now)
    }

    pub(crate) fn remember_chain(&self, name: Name, vek: &VerifiedVek, at: UnixTime) {
        if let Some(remembered) = &self.remembered {
            remembered.chains.keep(name, vek, at, vek.crl().ends(vek.not_after()));
        }
    }

    pub(super) fn remembered(&self) -> Option<&Remembered> {
        self.remembered.as_deref()
    }

    /// A signature over evidence, by a key that leads to one of these roots.
    pub(crate) fn verify_signature(
        &self,
        scheme: Scheme,
        key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        match &self.remembered {
            Some(remembered) => remembered.verify(scheme, key, message, signature),
            None => crypto::verify(scheme, key, message, signature),
        }
    }

    /// These and a simulator's: one or several certificates in PEM, or one in DER, each with the structure and the common name of
    /// the real root whose place it takes. Whatever ends in one of them is simulated and proves nothing. At most one for each
    /// product of AMD and for each place.
    pub fn with_simulator_root(mut self, pem_or_der: &[u8]) -> Result<TrustAnchors, AnchorError> {
        for der in pem::certificates(pem_or_der)? {
            let certificate = Certificate::parse(&der)?;
            match Authority::simulated(&der, certificate.subject_cn()) {
                Some(authority) => self.add_authority(authority?)?,
                None => self.add_anchor(Anchor::parse(&der, true)?)?,
            }
        }
        Ok(self)
    }

    /// These with another root of Google's firmware endorsements: one certificate in PEM or DER, in place of the built-in one.
    /// Whoever names the file has decided that it is Google's, and that nothing else is. One that is a simulator's already stays one.
    pub fn with_gce_firmware_root(mut self, pem_or_der: &[u8]) -> Result<TrustAnchors, AnchorError> {
        let files = pem::certificates(pem_or_der)?;
        let [der] = files.as_slice() else { return Err(AnchorError::Count { seen: files.len() }) };
        let root = Authority::parse(der, Place::GceFirmware, false)?;
        let simulated = |a: &Authority| a.simulated && a.place == root.place && a.key == root.key;
        let is_simulated = self.authorities.iter().any(simulated);
        self.authorities.retain(|a| a.simulated || a.place != Place::GceFirmware);
        self.forget();
        if !is_simulated {
            self.add_authority(root)?;
        }
        Ok(self)
    }

    /// Other roots: what verified under the ones before is nothing to them.
    fn forget(&mut self) {
        self.remembered = self.remembered.as_ref().map(|_| Arc::default());
    }

    fn add_anchor(&mut self, new: Anchor) -> Result<(), AnchorError> {
        if self.anchors.iter().any(|a| a.key == new.key || (a.simulated && a.product == new.product)) {
            return Err(AnchorError::Duplicate { name: new.name() });
        }
        self.anchors.push(new);
        self.forget();
        Ok(())
    }

    fn add_authority(&mut self, new: Authority) -> Result<(), AnchorError> {
        let same = |a: &Authority| a.key == new.key || (a.simulated && new.simulated && a.place == new.place);
        if self.authorities.iter().any(same) {
            return Err(AnchorError::Duplicate { name: new.label });
        }
        self.authorities.push(new);
        self.forget();
        Ok(())
    }

    /// True where a simulator's root was added.
    pub fn has_simulator_root(&self) -> bool {
        self.anchors.iter().any(|a| a.simulated) || self.authorities.iter().any(|a| a.simulated)
    }

    pub(super) fn named<'a>(&'a self, subject: &'a [u8]) -> impl Iterator<Item = &'a Anchor> {
        self.anchors.iter().filter(move |a| a.subject == subject)
    }

    /// The roots of this name for this place.
    pub(super) fn at<'a>(&'a self, place: Place, subject: &'a [u8]) -> impl Iterator<Item = &'a Authority> {
        self.authorities.iter().filter(move |a| a.place == place && a.subject == subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use formats::crypto::sha256;

    #[test]
    fn roots_are_the_ones_that_amd_published() {
        let fingerprints = [ARK_MILAN, ARK_GENOA, ARK_TURIN].map(|der| sha256(&[der]).to_string());
        assert_eq!(
            fingerprints,
            [
                "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
                "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
                "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
            ]
        );
        let anchors = TrustAnchors::amd();
        assert_eq!(anchors.anchors.iter().map(|a| a.product).collect::<Vec<_>>(), Product::ALL);
        assert!(!anchors.has_simulator_root());
    }

    #[test]
    fn refuses_a_root_of_amd_as_a_simulator() {
        let refused = TrustAnchors::amd().with_simulator_root(ARK_GENOA).unwrap_err();
        assert_eq!(refused, AnchorError::Duplicate { name: "ARK-Genoa".to_owned() });
    }

    #[test]
    fn refuses_a_root_whose_signature_is_not_its_own() {
        let mut der = ARK_MILAN.to_vec();
        *der.last_mut().unwrap() ^= 1;
        let refused = TrustAnchors::amd().with_simulator_root(&der).unwrap_err();
        assert_eq!(refused, AnchorError::SelfSigned(SignedError::Signature));
        assert!(matches!(TrustAnchors::amd().with_simulator_root(&der[1..]), Err(AnchorError::Pem(_))));
    }
}
