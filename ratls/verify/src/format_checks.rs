//! Which check fails when bytes do not parse? The parsers know no checks; this is the one place that maps their errors.

use findings::{Check, ClaimsCheck, EventLogCheck, ReportCheck};
use formats::evidence::event_log::EventLogError;
use formats::evidence::hcl::HclError;
use formats::evidence::ima::ImaMismatch;

pub(crate) fn hcl(error: &HclError) -> Check {
    match error {
        HclError::NotHashed => ClaimsCheck::Hash.into(),
        HclError::ReportType { .. } => ClaimsCheck::Type.into(),
        HclError::Json(_) | HclError::Member(_) | HclError::Duplicate(_) => ClaimsCheck::Json.into(),
        HclError::NoAk | HclError::Key { .. } => ClaimsCheck::Key.into(),
        HclError::Report(_) => ReportCheck::Parse.into(),
        // Everything else is about lengths, versions and numbers of the blob itself.
        _ => ClaimsCheck::Parse.into(),
    }
}

pub(crate) fn event_log(error: &EventLogError) -> Check {
    match error {
        EventLogError::Sha1 => EventLogCheck::Sha1.into(),
        // Everything else is a form that no log of this format has.
        _ => EventLogCheck::Parse.into(),
    }
}

/// Returns the check that an IMA list fails if no prefix of it is what the quote covers.
pub fn ima_mismatch(mismatch: &ImaMismatch) -> EventLogCheck {
    match mismatch {
        ImaMismatch::NotQuoted => EventLogCheck::ImaQuote,
        ImaMismatch::PaddedSha1 => EventLogCheck::ImaSha1,
        ImaMismatch::NoPrefix { .. } | _ => EventLogCheck::ImaReplay,
    }
}
