//! Profile `aws-snp`: a report of the guest's own asking, and the word of a NitroTPM outside it.
//!
//! The word is a document that the Nitro system signs, or a quote by a key in the TPM. For such a key nobody outside AWS
//! vouches, and that the statement names it is the guest's own word: the quote is genuine and proves nothing. Where both came,
//! both must be good, and the document is what counts. Neither is a link to the AMD-SP: the document holds the report's
//! hash because the guest put it there (N50).

use crate::channel::Freshness;
use crate::endorsement::nitro::verify_nitro_document;
use crate::error::VerifyError;
use crate::evidence::Platform;
use crate::pieces::{Pieces, quoted};
use crate::tpm::{AkProof, TpmKind};
use formats::crypto::{constant_time_eq, sha384};
use formats::evidence::nitro::NitroDocument;
use formats::wire::attest::HardwareFormat;

pub(super) fn verify(pieces: &Pieces<'_>) -> Result<Platform, VerifyError> {
    let (report, document) = hardware(pieces)?;
    pieces.carries_binder(report)?;
    if let Some(document) = document {
        carries(pieces, document, report)?;
    }
    let quote = quoted(pieces, report)?;
    let platform = Platform::of_report(pieces.verify_report(report)?, Freshness::Connect);
    Ok(match (document, quote) {
        (Some(document), _) => {
            let document = verify_nitro_document(document, &pieces.crls, pieces.anchors, pieces.now)?;
            platform.with_tpm(TpmKind::Host, document, AkProof::Document)
        }
        (None, Some(quote)) => platform.with_tpm(TpmKind::Host, quote, AkProof::Unproven),
        (None, None) => platform,
    })
}

/// A report, and perhaps a document beside it.
fn hardware<'a>(pieces: &Pieces<'a>) -> Result<(&'a [u8], Option<&'a [u8]>), VerifyError> {
    use HardwareFormat::{NitroDocument, SnpReport};
    match pieces.hardware {
        [(SnpReport, report), (NitroDocument, document)] | [(NitroDocument, document), (SnpReport, report)] => {
            Ok((report, Some(document)))
        }
        _ => pieces.only(SnpReport).map(|report| (report, None)),
    }
}

/// The document answers this statement, and was made after this report.
fn carries(pieces: &Pieces<'_>, document: &[u8], report: &[u8]) -> Result<(), VerifyError> {
    let document = NitroDocument::parse(document).map_err(crate::endorsement::nitro::NitroRefusal::from)?;
    let is = |seen: Option<&[u8]>, wanted: &[u8]| seen.is_some_and(|seen| constant_time_eq(seen, wanted));
    if !is(document.nonce(), pieces.binder.as_bytes()) {
        return Err(VerifyError::NitroNonce);
    }
    if !is(document.user_data(), sha384(&[report]).as_bytes()) {
        return Err(VerifyError::NitroReport);
    }
    Ok(())
}
