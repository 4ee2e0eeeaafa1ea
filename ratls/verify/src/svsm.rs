//! Profile `svsm-snp`: an SVSM at VMPL 0 asks for the report, over the guest's nonce and its own manifest.
//!
//! The manifest names the EK of the SVSM's vTPM. That the AK which quotes lives beside that EK is not in the evidence: whoever
//! chose the nonce can quote with any key. It takes a round trip ([`crate::credential`]); until then the AK is unproven.

use crate::channel::Freshness;
use crate::error::VerifyError;
use crate::evidence::Platform;
use crate::pieces::{Pieces, carries, quoted};
use crate::tpm::{AkProof, TpmKind};
use formats::crypto::constant_time_eq;
use formats::evidence::snp::Report;
use formats::evidence::svsm::{Manifest, report_data};
use formats::wire::attest::HardwareFormat;
use formats::wire::svsm::SvsmEvidence;

pub(super) fn verify(pieces: &Pieces<'_>) -> Result<Platform, VerifyError> {
    let evidence = SvsmEvidence::parse(pieces.only(HardwareFormat::SvsmManifest)?).map_err(VerifyError::Svsm)?;
    let manifest = Manifest::parse(&evidence.manifest)?;
    carries(evidence.nonce.as_bytes(), pieces.binder.as_bytes())?;
    let report = Report::parse(&evidence.report).map_err(VerifyError::Report)?;
    let wanted = report_data(&evidence.nonce, &evidence.manifest);
    if !constant_time_eq(report.report_data().as_bytes(), wanted.as_bytes()) {
        return Err(VerifyError::NotOverManifest);
    }
    let quote = quoted(pieces, &evidence.report)?;
    let mut platform = Platform::of_report(pieces.verify_report(&evidence.report)?, Freshness::Connect);
    if let Some(quote) = quote {
        platform = platform.with_tpm(TpmKind::Svsm, quote, AkProof::Unproven);
    }
    platform.svsm = Some(manifest);
    Ok(platform)
}
