//! Profile `snp`: the guest asks for its report itself, and there is nothing beside it.

use crate::channel::Freshness;
use crate::error::VerifyError;
use crate::evidence::Platform;
use crate::pieces::Pieces;
use formats::wire::attest::HardwareFormat;

pub(super) fn verify(pieces: &Pieces<'_>) -> Result<Platform, VerifyError> {
    let report = pieces.only(HardwareFormat::SnpReport)?;
    pieces.carries_binder(report)?;
    if pieces.tpm.is_some() || pieces.statement.ak.is_some() {
        return Err(VerifyError::UnexpectedTpm(pieces.profile()));
    }
    let report = pieces.verify_report(report)?;
    Ok(Platform::of_report(report, Freshness::Connect))
}
