//! Is a report genuine? Made by an AMD-SP whose key leads to a pinned root, over exactly these bytes, at a time at which the
//! certificates hold.
//!
//! That is all. Whether the guest may be debugged, at which VMPL it asked, which firmware is old: appraisal says. Whether the
//! report is fresh and belongs to a connection: the binding says. The checks come in the
//! order from cheap to dear (docs/protocol.md, "Verification"). launch_tcb is not compared with the others: migration may break the order.

use crate::endorsement::chain::Endorsements;
use crate::endorsement::{ChainError, TrustAnchors, VekKind, VerifiedVek};
use findings::{Check, EndorsementCheck, ReportCheck};
use formats::crypto::Scheme;
use formats::evidence::snp::{ChipId, Cpuid, ECDSA_P384_SHA384, Report, ReportError, SigningKey, TcbKind};
use formats::tcb::{Product, TcbVersion};
use formats::time::UnixTime;

/// A genuine report and the key that signed it. Only [`verify_report`] makes one.
#[derive(Clone, Debug)]
#[must_use]
pub struct VerifiedReport {
    report: Report,
    vek: VerifiedVek,
}

impl VerifiedReport {
    pub fn report(&self) -> &Report {
        &self.report
    }
    pub fn vek(&self) -> &VerifiedVek {
        &self.vek
    }
    /// One of the four TCB versions, in the layout of the product that the chain says.
    pub fn tcb(&self, kind: TcbKind) -> TcbVersion {
        self.report.tcb(kind, self.vek.product().layout())
    }
}

/// Why a report is not genuine, or cannot be known to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReportRefusal {
    #[error(transparent)]
    Report(#[from] ReportError),
    #[error("the report's signature algorithm is {seen}, wanted {ECDSA_P384_SHA384} (ECDSA on P-384 with SHA-384)")]
    Algorithm { seen: u32 },
    #[error("the report says that no key signed it")]
    Unsigned,
    #[error("the report says that its chip key is masked (MASK_CHIP_KEY), so its signature is zero")]
    MaskedChipKey,
    #[error("no VCEK or VLEK certificate was given, so nothing vouches for the report's signature")]
    NoEndorsement,
    #[error("the report was signed with a {wanted}, only a certificate of a {seen} was given")]
    KeyKind { seen: VekKind, wanted: VekKind },
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error("the report was made on CPUID {seen}, which is no known product")]
    UnknownProduct { seen: Cpuid },
    #[error("the report was made on {seen}, its key is for {wanted}")]
    Product { seen: Product, wanted: Product },
    #[error(
        "the certificate calls the product {seen:?}, its issuer calls it {wanted}, and a report of version 2 cannot tell"
    )]
    ProductName { seen: String, wanted: Product },
    #[error("the report's {kind} TCB has reserved bytes that are not zero: {seen}")]
    TcbReserved { kind: TcbKind, seen: TcbVersion },
    #[error("the report's reported TCB is {seen}, its key was derived for {wanted}")]
    TcbNotOfKey { seen: TcbVersion, wanted: TcbVersion },
    #[error("the report's {kind} TCB is {seen}, above its current TCB {current}")]
    TcbAboveCurrent { kind: TcbKind, seen: TcbVersion, current: TcbVersion },
    #[error("the report is from chip {seen}, its key is of chip {wanted}")]
    ChipId { seen: Box<ChipId>, wanted: Box<ChipId> },
    #[error("the report is signed with a chip's key, but its chip id is zero")]
    NoChipId,
    #[error("the report's signature does not verify under its key")]
    Signature,
}

impl ReportRefusal {
    /// Returns the printed id of the check that failed.
    pub fn id(&self) -> &'static str {
        self.check().id()
    }

    /// Returns the check that failed.
    pub fn check(&self) -> Check {
        match self {
            ReportRefusal::Report(error) => match error {
                ReportError::Length { .. } | ReportError::Read(_) => ReportCheck::Length.into(),
                ReportError::Version { .. } => ReportCheck::Version.into(),
                ReportError::Reserved { .. } => ReportCheck::Reserved.into(),
                ReportError::SigningKey { .. } => ReportCheck::SigningKey.into(),
                ReportError::SignaturePadding { .. } => ReportCheck::Signature.into(),
            },
            ReportRefusal::Algorithm { .. } => ReportCheck::Algorithm.into(),
            ReportRefusal::Unsigned | ReportRefusal::MaskedChipKey => ReportCheck::Masked.into(),
            ReportRefusal::NoEndorsement => EndorsementCheck::Missing.into(),
            ReportRefusal::KeyKind { .. } => ReportCheck::SigningKey.into(),
            ReportRefusal::Chain(error) => error.check(),
            ReportRefusal::UnknownProduct { .. }
            | ReportRefusal::Product { .. }
            | ReportRefusal::ProductName { .. } => EndorsementCheck::Product.into(),
            ReportRefusal::TcbReserved { .. } => ReportCheck::Reserved.into(),
            ReportRefusal::TcbNotOfKey { .. } | ReportRefusal::TcbAboveCurrent { .. } => ReportCheck::Tcb.into(),
            ReportRefusal::ChipId { .. } | ReportRefusal::NoChipId => EndorsementCheck::ChipId.into(),
            ReportRefusal::Signature => ReportCheck::Signature.into(),
        }
    }

    /// How far the attempt with one leaf came. Of several that failed, the one that came furthest is told.
    fn depth(&self) -> u8 {
        match self {
            ReportRefusal::Chain(error) => error.depth(),
            ReportRefusal::Signature => 101,
            _ => 100,
        }
    }
}

/// Verifies one report.
///
/// `certificates` are DER, in any order, untrusted, at most [`crate::endorsement::MAX_CERTIFICATES`]; roots among them are
/// ignored. `crls` are DER; lists of other roots are ignored, an absent one is told by [`VerifiedVek::crl`]. The caller still
/// has to appraise, and to look whether the report is fresh and bound; [`VerifiedVek::simulated`] must not get lost.
pub fn verify_report(
    report: &[u8],
    certificates: &[&[u8]],
    crls: &[&[u8]],
    anchors: &TrustAnchors,
    now: UnixTime,
) -> Result<VerifiedReport, ReportRefusal> {
    let report = Report::parse(report)?;
    let kind = signed_with(&report)?;
    let chain = anchors.chain_name(kind, certificates, crls);
    // A key that did not sign this report says nothing about the other leaves: then everything is looked at.
    if let Some(vek) = chain.as_ref().and_then(|chain| anchors.remembered_chain(chain, now))
        && signed_by(&report, &vek, anchors).is_ok()
    {
        return Ok(VerifiedReport { report, vek });
    }
    let endorsements = Endorsements::parse(certificates, crls)?;
    let mut refused = match endorsements.kinds().find(|seen| *seen != kind) {
        Some(seen) => ReportRefusal::KeyKind { seen, wanted: kind },
        None => ReportRefusal::NoEndorsement,
    };
    let mut attempted = false;
    for vek in endorsements.verify(kind, anchors, now) {
        let attempt = vek.map_err(ReportRefusal::Chain).and_then(|vek| {
            signed_by(&report, &vek, anchors)?;
            Ok(vek)
        });
        match attempt {
            Ok(vek) => {
                if let Some(chain) = chain {
                    anchors.remember_chain(chain, &vek, now);
                }
                return Ok(VerifiedReport { report, vek });
            }
            Err(error) if !attempted || error.depth() > refused.depth() => refused = error,
            Err(_) => {}
        }
        attempted = true;
    }
    Err(refused)
}

/// The kind of key that the report names, where it can have signed.
fn signed_with(report: &Report) -> Result<VekKind, ReportRefusal> {
    if report.signature_algorithm() != ECDSA_P384_SHA384 {
        return Err(ReportRefusal::Algorithm { seen: report.signature_algorithm() });
    }
    match report.signing_key() {
        SigningKey::None => Err(ReportRefusal::Unsigned),
        SigningKey::Vcek if report.mask_chip_key() => Err(ReportRefusal::MaskedChipKey),
        SigningKey::Vcek => Ok(VekKind::Vcek),
        // Whether a host combines a VLEK with a masked chip key is not known; the signature decides.
        SigningKey::Vlek => Ok(VekKind::Vlek),
    }
}

/// Whether this key may have signed this report, and did.
fn signed_by(report: &Report, vek: &VerifiedVek, anchors: &TrustAnchors) -> Result<(), ReportRefusal> {
    product(report, vek)?;
    chip(report, vek)?;
    tcb(report, vek)?;
    let signature = report.signature_fixed();
    anchors
        .verify_signature(Scheme::EcdsaP384Sha384Fixed, vek.public_key(), report.signed_bytes(), &signature)
        .map_err(|_| ReportRefusal::Signature)
}

/// From version 3 on the report says the product itself; before, the certificate must not contradict its issuer.
fn product(report: &Report, vek: &VerifiedVek) -> Result<(), ReportRefusal> {
    let wanted = vek.product();
    match report.cpuid() {
        None if vek.product_name_agrees() => Ok(()),
        None => Err(ReportRefusal::ProductName { seen: vek.product_name().to_owned(), wanted }),
        Some(cpuid) => match cpuid.product() {
            None => Err(ReportRefusal::UnknownProduct { seen: cpuid }),
            Some(seen) if seen != wanted => Err(ReportRefusal::Product { seen, wanted }),
            Some(_) => Ok(()),
        },
    }
}

/// Under a VLEK there is nothing to compare: the key is not the chip's, and the report's chip id is zero.
fn chip(report: &Report, vek: &VerifiedVek) -> Result<(), ReportRefusal> {
    let Some(wanted) = vek.chip_id() else { return Ok(()) };
    if report.chip_id().is_zero() {
        return Err(ReportRefusal::NoChipId);
    }
    if report.chip_id() != wanted {
        return Err(ReportRefusal::ChipId { seen: Box::new(*report.chip_id()), wanted: Box::new(*wanted) });
    }
    Ok(())
}

/// Reported is what the key was derived for; nothing is above what runs.
fn tcb(report: &Report, vek: &VerifiedVek) -> Result<(), ReportRefusal> {
    let of = |kind| report.tcb(kind, vek.product().layout());
    for kind in TcbKind::ALL {
        if !of(kind).reserved_is_zero() {
            return Err(ReportRefusal::TcbReserved { kind, seen: of(kind) });
        }
    }
    if of(TcbKind::Reported) != vek.tcb() {
        return Err(ReportRefusal::TcbNotOfKey { seen: of(TcbKind::Reported), wanted: vek.tcb() });
    }
    let current = of(TcbKind::Current);
    for kind in [TcbKind::Reported, TcbKind::Committed] {
        if current.at_least(&of(kind)) != Ok(true) {
            return Err(ReportRefusal::TcbAboveCurrent { kind, seen: of(kind), current });
        }
    }
    Ok(())
}
