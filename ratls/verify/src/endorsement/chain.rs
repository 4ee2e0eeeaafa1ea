//! From a leaf to a pinned root, at a time.
//!
//! The certificates and lists are untrusted, in any order, and may be more than needed; roots among them are not even looked
//! at. Names decide which signatures are tried (whole names, byte by byte), signatures and the pinned roots decide the rest.
//! Every certificate, the root too, must be valid at the given time. [`VerifiedVek`] is made here only.

use super::certificate::{Certificate, CertificateError};
use super::crl::{Crl, CrlError, CrlStatus, Issuer};
use super::roots::{Anchor, TrustAnchors};
use super::signed::{Hierarchy, SignedError};
use super::vek::{VekClaims, VekError, VekKind};
use super::{MAX_CERTIFICATES, MAX_CRLS};
use findings::{Check, EndorsementCheck};
use formats::evidence::snp::ChipId;
use formats::tcb::{Product, TcbVersion};
use formats::time::UnixTime;

/// Why there is no chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    #[error("{seen} {what} were given, at most {max} are looked at")]
    TooMany { what: &'static str, seen: usize, max: usize },
    #[error("certificate {index} is refused")]
    Certificate { index: usize, source: CertificateError },
    #[error("the {kind} certificate says something wrong")]
    Vek { kind: VekKind, source: VekError },
    #[error("no certificate of {issuer}, which issued the {kind}, was given")]
    NoIssuer { kind: VekKind, issuer: String },
    #[error("{subject} cannot issue certificates")]
    NotIssuer { subject: String, source: CertificateError },
    #[error("{subject} does not lead to a root that is trusted here: its issuer is called {issuer}")]
    Root { subject: String, issuer: String },
    #[error("{subject} is refused as issued by {issuer}")]
    Signed { subject: String, issuer: String, source: SignedError },
    #[error("the key is for {seen}, its root is of {wanted}")]
    Product { seen: Product, wanted: Product },
    #[error(
        "{subject} is valid from {not_before} to {not_after}, and now is {now}; if that is not the time, the clock here is wrong"
    )]
    Validity { subject: String, not_before: UnixTime, not_after: UnixTime, now: UnixTime },
    #[error("{subject} was revoked by {issuer}")]
    Revoked { subject: String, issuer: String },
    #[error(transparent)]
    Crl(#[from] CrlError),
}

impl ChainError {
    /// Returns the printed id of the check that failed.
    pub fn id(&self) -> &'static str {
        self.check().id()
    }

    /// Returns the check that failed.
    pub fn check(&self) -> Check {
        match self {
            ChainError::Certificate { source, .. } if source.is_about_extensions() => {
                EndorsementCheck::Extension.into()
            }
            ChainError::TooMany { .. }
            | ChainError::Certificate { .. }
            | ChainError::NoIssuer { .. }
            | ChainError::NotIssuer { .. }
            | ChainError::Signed { .. } => EndorsementCheck::Chain.into(),
            ChainError::Vek { source: VekError::Issuer { .. }, .. } | ChainError::Product { .. } => {
                EndorsementCheck::Product.into()
            }
            ChainError::Vek { .. } => EndorsementCheck::Extension.into(),
            ChainError::Root { .. } => EndorsementCheck::Root.into(),
            ChainError::Validity { .. } => EndorsementCheck::Validity.into(),
            ChainError::Revoked { .. } => EndorsementCheck::Revoked.into(),
            ChainError::Crl(_) => EndorsementCheck::Crl.into(),
        }
    }

    /// How far the attempt came. Of several that failed, the one that came furthest is told.
    pub(crate) fn depth(&self) -> u8 {
        match self {
            ChainError::TooMany { .. } | ChainError::Certificate { .. } => 0,
            ChainError::Vek { .. } => 1,
            ChainError::NoIssuer { .. } => 2,
            ChainError::NotIssuer { .. } => 3,
            ChainError::Root { .. } => 4,
            ChainError::Product { .. } => 5,
            ChainError::Signed { .. } => 6,
            ChainError::Validity { .. } => 7,
            ChainError::Crl(_) => 8,
            ChainError::Revoked { .. } => 9,
        }
    }
}

/// A key of the AMD-SP that leads to a pinned root.
#[derive(Clone, Debug)]
pub struct VerifiedVek {
    claims: VekClaims,
    simulated: bool,
    crl: CrlStatus,
    not_after: UnixTime,
}

impl VerifiedVek {
    pub fn kind(&self) -> VekKind {
        self.claims.kind
    }
    /// The product that issuer and root agree on.
    pub fn product(&self) -> Product {
        self.claims.product
    }
    /// The leaf's own word for it, such as `Milan-B0`. For people: AMD got it wrong on some parts.
    pub fn product_name(&self) -> &str {
        &self.claims.product_name
    }
    /// Whether the leaf's word for the product is of the family that its issuer says.
    pub fn product_name_agrees(&self) -> bool {
        let family = self.product_name().split_once('-').map_or(self.product_name(), |(family, _)| family);
        family == self.product().name()
    }
    /// The TCB that the key was derived for.
    pub fn tcb(&self) -> TcbVersion {
        self.claims.tcb
    }
    /// The chip, under a VCEK.
    pub fn chip_id(&self) -> Option<&ChipId> {
        self.claims.chip_id.as_ref()
    }
    /// The cloud provider, under a VLEK, such as `CN=cc-us-east-2.amazonaws.com`.
    pub fn csp(&self) -> Option<&str> {
        self.claims.csp.as_deref()
    }
    /// True where the chain ends in the root of a simulator: then nothing is proven.
    pub fn simulated(&self) -> bool {
        self.simulated
    }
    pub fn crl(&self) -> CrlStatus {
        self.crl
    }
    /// Until when the whole chain is valid.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }
    /// An uncompressed point on P-384.
    pub fn public_key(&self) -> &[u8; 97] {
        &self.claims.public_key
    }
}

/// Certificates and revocation lists as they came, parsed.
pub(crate) struct Endorsements<'a> {
    leaves: Vec<(VekKind, Certificate<'a>)>,
    intermediates: Vec<Certificate<'a>>,
    crls: Vec<Crl<'a>>,
}

impl<'a> Endorsements<'a> {
    /// Refuses what cannot be parsed, even where a chain would not need it.
    pub(crate) fn parse(certificates: &[&'a [u8]], crls: &[&'a [u8]]) -> Result<Self, ChainError> {
        for (what, seen, max) in
            [("certificates", certificates.len(), MAX_CERTIFICATES), ("revocation lists", crls.len(), MAX_CRLS)]
        {
            if seen > max {
                return Err(ChainError::TooMany { what, seen, max });
            }
        }
        let (mut leaves, mut intermediates) = (Vec::new(), Vec::new());
        for (index, der) in certificates.iter().enumerate() {
            if certificates[..index].contains(der) {
                continue; // the same one again: guest and host may both send it
            }
            let refused = |source| ChainError::Certificate { index, source };
            let certificate = Certificate::parse(der).map_err(refused)?;
            if !is_amds(&certificate) {
                continue; // of a vTPM's hierarchy, which is somebody else's question
            }
            certificate.check_amd().map_err(refused)?;
            match [VekKind::Vcek, VekKind::Vlek].into_iter().find(|k| k.common_name() == certificate.subject_cn()) {
                Some(kind) => leaves.push((kind, certificate)),
                None if certificate.subject_cn().starts_with("ARK-") => {} // a root is pinned, not sent
                None => intermediates.push(certificate),
            }
        }
        let crls = crls.iter().map(|der| Crl::parse(der)).collect::<Result<_, _>>()?;
        Ok(Endorsements { leaves, intermediates, crls })
    }

    /// Kinds of the leaves, before anything is verified.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = VekKind> + '_ {
        self.leaves.iter().map(|(kind, _)| *kind)
    }

    /// One attempt for each leaf of this kind.
    pub(crate) fn verify<'s>(
        &'s self,
        kind: VekKind,
        anchors: &'s TrustAnchors,
        now: UnixTime,
    ) -> impl Iterator<Item = Result<VerifiedVek, ChainError>> + 's {
        let leaves = self.leaves.iter().filter(move |(of, _)| *of == kind);
        leaves.map(move |(_, leaf)| self.verify_leaf(leaf, kind, anchors, now))
    }

    fn verify_leaf(
        &self,
        leaf: &Certificate<'_>,
        kind: VekKind,
        anchors: &TrustAnchors,
        now: UnixTime,
    ) -> Result<VerifiedVek, ChainError> {
        let claims = VekClaims::read(leaf, kind).map_err(|source| ChainError::Vek { kind, source })?;
        let mut refused = ChainError::NoIssuer { kind, issuer: leaf.issuer_cn().to_owned() };
        for issuer in self.intermediates.iter().filter(|c| c.subject() == leaf.issuer()) {
            let no_root =
                ChainError::Root { subject: issuer.subject_cn().to_owned(), issuer: issuer.issuer_cn().to_owned() };
            refused = deeper(refused, no_root);
            for anchor in anchors.named(issuer.issuer()) {
                match self.verify_path(&claims, leaf, issuer, anchor, now) {
                    Ok(vek) => return Ok(vek),
                    Err(error) => refused = deeper(refused, error),
                }
            }
        }
        Err(refused)
    }

    fn verify_path(
        &self,
        claims: &VekClaims,
        leaf: &Certificate<'_>,
        issuer: &Certificate<'_>,
        anchor: &Anchor,
        now: UnixTime,
    ) -> Result<VerifiedVek, ChainError> {
        let (leaf_name, issuer_name) = (leaf.subject_cn(), issuer.subject_cn());
        let issuer_key =
            issuer.ca_key().map_err(|source| ChainError::NotIssuer { subject: issuer_name.to_owned(), source })?;
        if claims.product != anchor.product {
            return Err(ChainError::Product { seen: claims.product, wanted: anchor.product });
        }
        issuer.verify_signature(&anchor.key, Hierarchy::Amd).map_err(|error| match error {
            SignedError::Signature => ChainError::Root { subject: issuer_name.to_owned(), issuer: anchor.name() },
            source => ChainError::Signed { subject: issuer_name.to_owned(), issuer: anchor.name(), source },
        })?;
        leaf.verify_signature(&issuer_key, Hierarchy::Amd).map_err(|source| ChainError::Signed {
            subject: leaf_name.to_owned(),
            issuer: issuer_name.to_owned(),
            source,
        })?;
        valid_at(now, &anchor.name(), anchor.not_before, anchor.not_after)?;
        valid_at(now, issuer_name, issuer.not_before(), issuer.not_after())?;
        valid_at(now, leaf_name, leaf.not_before(), leaf.not_after())?;
        let crl = self.revocation(issuer, anchor, now)?;
        Ok(VerifiedVek {
            claims: claims.clone(),
            simulated: anchor.simulated,
            crl,
            not_after: leaf.not_after().min(issuer.not_after()).min(anchor.not_after),
        })
    }

    /// Leaves cannot be named by a list: all have serial number 0. AMD raises the TCB instead.
    fn revocation(&self, issuer: &Certificate<'_>, anchor: &Anchor, now: UnixTime) -> Result<CrlStatus, ChainError> {
        let mut status = CrlStatus::Absent;
        let root = Issuer::of_anchor(anchor);
        for crl in self.crls.iter().filter(|crl| crl.is_issued_by(&root)) {
            crl.verify_signature(&root)?;
            for (serial, subject) in [(issuer.serial(), issuer.subject_cn()), (&anchor.serial, &anchor.name())] {
                if crl.names(serial) {
                    return Err(ChainError::Revoked { subject: subject.to_owned(), issuer: anchor.name() });
                }
            }
            status = status.and(CrlStatus::Checked { next_update: crl.holds(&root, now)? });
        }
        Ok(status)
    }
}

/// Whether a certificate calls itself one of AMD's hierarchy: a VEK, what issues one, or a root. Those of the clouds' vTPMs come
/// in the same list.
fn is_amds(certificate: &Certificate<'_>) -> bool {
    let name = certificate.subject_cn();
    name.starts_with("SEV-") || name.starts_with("ARK-")
}

fn deeper(known: ChainError, new: ChainError) -> ChainError {
    if new.depth() > known.depth() { new } else { known }
}

fn valid_at(now: UnixTime, subject: &str, not_before: UnixTime, not_after: UnixTime) -> Result<(), ChainError> {
    if !not_before.has_begun(now) || now > not_after {
        return Err(ChainError::Validity { subject: subject.to_owned(), not_before, not_after, now });
    }
    Ok(())
}
