//! The pieces of one ATTEST, one leaf or one bundle, as the platforms' files take them: what came, by kind, beside the B that it
//! must carry. Nothing in here is verified.

use crate::endorsement::TrustAnchors;
use crate::error::VerifyError;
use crate::quote::{VerifiedQuote, verify_quote_under};
use crate::report::{VerifiedReport, verify_report};
use crate::tpm::TpmError;
use formats::binding::{Binder, Profile, Statement, quote_binder};
use formats::crypto::constant_time_eq;
use formats::evidence::snp::Report;
use formats::evidence::tpm::{Bank, PcrValues, Public, Signature};
use formats::time::UnixTime;
use formats::wire::attest::{Endorsement, HardwareFormat, TpmEvidence, media};

pub(super) struct Pieces<'a> {
    pub(super) statement: &'a Statement,
    pub(super) binder: Binder,
    pub(super) hardware: &'a [(HardwareFormat, Vec<u8>)],
    pub(super) tpm: Option<&'a TpmEvidence>,
    pub(super) certificates: Vec<&'a [u8]>,
    pub(super) crls: Vec<&'a [u8]>,
    pub(super) anchors: &'a TrustAnchors,
    pub(super) now: UnixTime,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(
        statement: &'a Statement,
        binder: Binder,
        hardware: &'a [(HardwareFormat, Vec<u8>)],
        tpm: Option<&'a TpmEvidence>,
        endorsements: &'a [Endorsement],
        anchors: &'a TrustAnchors,
        now: UnixTime,
    ) -> Result<Self, VerifyError> {
        let (mut certificates, mut crls) = (vec![], vec![]);
        for endorsement in endorsements {
            match endorsement.media_type.as_str() {
                media::CERTIFICATE => certificates.push(&endorsement.bytes[..]),
                media::CRL => crls.push(&endorsement.bytes[..]),
                other => return Err(VerifyError::EndorsementType(other.to_owned())),
            }
        }
        Ok(Pieces { statement, binder, hardware, tpm, certificates, crls, anchors, now })
    }

    pub(super) fn profile(&self) -> Profile {
        self.statement.profile
    }

    /// The one piece of hardware evidence, where it must be of this format.
    pub(super) fn only(&self, format: HardwareFormat) -> Result<&'a [u8], VerifyError> {
        match self.hardware {
            [] => Err(VerifyError::NoReport),
            [(seen, bytes)] if *seen == format => Ok(bytes),
            _ => Err(VerifyError::UnexpectedHardware(self.profile())),
        }
    }

    /// A report of the guest's own asking: REPORT_DATA is B.
    pub(super) fn carries_binder(&self, report: &[u8]) -> Result<(), VerifyError> {
        let report = Report::parse(report).map_err(VerifyError::Report)?;
        carries(report.report_data().as_bytes(), self.binder.as_bytes())
    }

    pub(super) fn verify_report(&self, report: &[u8]) -> Result<VerifiedReport, VerifyError> {
        Ok(verify_report(report, &self.certificates, &self.crls, self.anchors, self.now)?)
    }
}

/// What hardware signed is what it must be: all 64 bytes.
pub(super) fn carries(seen: &[u8; 64], wanted: &[u8; 64]) -> Result<(), VerifyError> {
    if constant_time_eq(seen, wanted) {
        return Ok(());
    }
    Err(VerifyError::ReportData { seen: hex::encode(seen), wanted: hex::encode(wanted) })
}

/// The quote of this statement's AK over this report: `None` where the statement names no AK. Nobody vouches for the key yet.
pub(super) fn quoted(pieces: &Pieces<'_>, report: &[u8]) -> Result<Option<VerifiedQuote>, TpmError> {
    let Statement { ak, .. } = pieces.statement;
    let (wanted, evidence) = match (ak, pieces.tpm) {
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(TpmError::Stripped),
        (None, Some(_)) => return Err(TpmError::Unnamed),
        (Some(wanted), Some(evidence)) => (*wanted, evidence),
    };
    let public = Public::parse(&evidence.public)?;
    let seen = public.digest();
    if seen != wanted {
        return Err(TpmError::OtherAk { seen, wanted });
    }
    let bank = Bank::from_algorithm(evidence.bank).ok_or(TpmError::Bank(evidence.bank))?;
    let pcrs = PcrValues::new(bank, evidence.pcrs.iter().map(|(index, value)| (*index, &value[..])))?;
    let signature = Signature::parse(&evidence.signature)?;
    let question = quote_binder(&pieces.binder, report);
    let quote = verify_quote_under(pieces.anchors, &public, &evidence.attest, &signature, question.as_bytes(), &pcrs)?;
    Ok(Some(quote))
}
