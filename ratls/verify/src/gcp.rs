//! Profile `gcp-snp`: a report of the guest's own asking, and a quote by a vTPM outside it.
//!
//! Report and quote are tied by Q, and by nothing that the AMD-SP knows: Google's certificate vouches for the vTPM, and no
//! field of it names the report's chip or guest. A quote by a key without a certificate is genuine and proves nothing.

use crate::channel::Freshness;
use crate::endorsement::{AkError, verify_gce_ak};
use crate::error::VerifyError;
use crate::evidence::Platform;
use crate::pieces::{Pieces, quoted};
use crate::tpm::{self, AkProof, TpmKind};
use formats::wire::attest::HardwareFormat;

pub(super) fn verify(pieces: &Pieces<'_>) -> Result<Platform, VerifyError> {
    let report = pieces.only(HardwareFormat::SnpReport)?;
    pieces.carries_binder(report)?;
    let quote = quoted(pieces, report)?;
    let platform = Platform::of_report(pieces.verify_report(report)?, Freshness::Connect);
    let Some(quote) = quote else { return Ok(platform) };
    let key = tpm::certified_key(quote.public().key());
    let proof = match verify_gce_ak(&pieces.certificates, &pieces.crls, &key, pieces.anchors, pieces.now) {
        Ok(ak) => AkProof::Certificate(Box::new(ak)),
        Err(AkError::NoCertificate(_)) => AkProof::Unproven,
        Err(error) => return Err(error.into()),
    };
    Ok(platform.with_tpm(TpmKind::Host, quote, proof))
}
