//! Profile `aws-snp`: a report of the guest's own asking, and the word of a NitroTPM outside it (platforms.md §7.1 C).
//!
//! A quote by a key of a NitroTPM is genuine and proves nothing: nobody outside AWS vouches for such a key, and that the
//! statement names it is the guest's own word.

use crate::verify::connection::VerifyError;
use crate::verify::evidence::{Freshness, Platform};
use crate::verify::pieces::Pieces;
use crate::verify::tpm::{self, AkProof, TpmKind};
use crate::wire::attest::HardwareFormat;

pub(super) fn verify(pieces: &Pieces<'_>) -> Result<Platform, VerifyError> {
    let report = pieces.only(HardwareFormat::SnpReport)?;
    pieces.carries_binder(report)?;
    let quote = tpm::quoted(pieces, report)?;
    let platform = Platform::of_report(pieces.verify_report(report)?, Freshness::Connect);
    Ok(match quote {
        Some(quote) => platform.with_tpm(TpmKind::Host, quote, AkProof::Unproven),
        None => platform,
    })
}
