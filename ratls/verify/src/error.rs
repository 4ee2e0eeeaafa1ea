//! Why evidence is not authentic, not fresh or not bound, whichever way it came.

use crate::bundle::BundleError;
use crate::cert::CertError;
use crate::credential::CredentialError;
use crate::endorsement::AkError;
use crate::endorsement::gce_firmware::GceFirmwareRefusal;
use crate::endorsement::nitro::NitroRefusal;
use crate::format_checks;
use crate::parts::PartRefusal;
use crate::report::ReportRefusal;
use crate::tpm::TpmError;
use findings::{
    BindingCheck, Check, ClaimsCheck, EndorsementCheck, EventLogCheck, FilesCheck, NitroCheck, QuoteCheck, ReportCheck,
    TpmCheck,
};
use formats::binding::merkle::PathError;
use formats::binding::{Profile, Purpose, SpkiDigest, StatementError};
use formats::evidence::hcl::HclError;
use formats::evidence::ima::ImaMismatch;
use formats::evidence::snp::ReportError;
use formats::evidence::svsm::ManifestError;
use formats::evidence::tpm::Bank;
use formats::wire::attest::AttestPurpose;
use formats::wire::cbor::CborError;

/// Why evidence is not authentic, not fresh or not bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    #[error("the ATTEST frame does not parse: {0}")]
    Attest(#[source] CborError),
    #[error("ATTEST has purpose {purpose:?} and seq {seq}; the first one of a connection is Initial with seq 0")]
    Purpose { purpose: AttestPurpose, seq: u64 },
    #[error(transparent)]
    Statement(#[from] StatementError),
    #[error(transparent)]
    Certificate(#[from] CertError),
    #[error("the statement is for {seen:?}, wanted {wanted:?}: leaf type and purpose must match")]
    StatementPurpose { seen: Purpose, wanted: Purpose },
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("this connection is not in the tree that the statement names: the evidence is of another connection")]
    NotInTree,
    #[error("the statement names key {seen}, the certificate has {wanted}")]
    OtherKey { seen: SpkiDigest, wanted: SpkiDigest },
    #[error("there is no SNP report")]
    NoReport,
    #[error("no key for the quote was given, and no certificate of one: nobody can tell who signed it")]
    NoAk,
    #[error("hardware evidence of a kind that profile {0} does not have")]
    UnexpectedHardware(Profile),
    #[error("something of a TPM came, or the statement names a key of one; profile {0} has none")]
    UnexpectedTpm(Profile),
    #[error("no values of registers were given for the quote")]
    NoPcrs,
    #[error("the event log has no digests of bank {0}, whose registers came with it")]
    LogBank(Bank),
    #[error("the event log leads to {replayed} in PCR {pcr}, which holds {quoted}: it is another boot's, or not whole")]
    Replay { pcr: u8, replayed: String, quoted: String },
    #[error("PCR {pcr} is given as {given}, and the document signs {signed}: they are of different machines or boots")]
    OtherRegisters { pcr: u8, given: String, signed: String },
    #[error(transparent)]
    ImaList(#[from] ImaMismatch),
    #[error("nothing that was given is signed: {0}")]
    NothingSigned(String),
    #[error("the endorsement of the firmware is refused")]
    Endorsement(#[from] GceFirmwareRefusal),
    #[error("the report does not parse: {0}")]
    Report(#[source] ReportError),
    #[error("the report is over {seen}, asked was {wanted}: it was not asked for with this")]
    ReportData { seen: String, wanted: String },
    #[error(
        "the paravisor put nothing of the guest's into its report, and no TPM quoted: nothing is of this connection"
    )]
    Unbound,
    #[error(transparent)]
    Hcl(#[from] HclError),
    #[error("the SVSM's evidence does not parse: {0}")]
    Svsm(#[source] CborError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("REPORT_DATA is not the hash of nonce and manifest: the SVSM did not attest this manifest")]
    NotOverManifest,
    #[error(transparent)]
    Tpm(#[from] TpmError),
    #[error("nobody vouches for the TPM's key")]
    Ak(#[from] AkError),
    #[error("the ATTEST lists another {name} than the statement commits to")]
    Log { name: String },
    #[error(transparent)]
    Part(#[from] PartRefusal),
    #[error(transparent)]
    Nitro(#[from] NitroRefusal),
    #[error("the Nitro document's nonce is not the one that was asked with")]
    NitroNonce,
    #[error("the Nitro document's user data is not the hash of this report")]
    NitroReport,
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error(transparent)]
    Refused(#[from] ReportRefusal),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("an endorsement of media type {0:?} is unknown")]
    EndorsementType(String),
}

impl VerifyError {
    /// Returns the printed id of the check that failed.
    pub fn id(&self) -> &'static str {
        self.check().id()
    }

    /// Returns the check that failed.
    pub fn check(&self) -> Check {
        match self {
            VerifyError::Attest(_) => BindingCheck::Attest.into(),
            VerifyError::Purpose { .. } | VerifyError::StatementPurpose { .. } => BindingCheck::Purpose.into(),
            VerifyError::Statement(_) => BindingCheck::Statement.into(),
            VerifyError::Certificate(_) => BindingCheck::Certificate.into(),
            VerifyError::Path(_) => BindingCheck::Path.into(),
            VerifyError::NotInTree => BindingCheck::Channel.into(),
            VerifyError::OtherKey { .. } => BindingCheck::Key.into(),
            VerifyError::UnexpectedHardware(_) | VerifyError::UnexpectedTpm(_) => BindingCheck::Profile.into(),
            VerifyError::NoReport => BindingCheck::NoReport.into(),
            VerifyError::NoAk => QuoteCheck::Key.into(),
            VerifyError::NoPcrs => QuoteCheck::Selection.into(),
            VerifyError::LogBank(_) | VerifyError::Replay { .. } => EventLogCheck::Replay.into(),
            VerifyError::OtherRegisters { .. } => QuoteCheck::Digest.into(),
            VerifyError::ImaList(mismatch) => format_checks::ima_mismatch(mismatch).into(),
            VerifyError::NothingSigned(_) => FilesCheck::Unsigned.into(),
            VerifyError::Endorsement(refusal) => refusal.check().into(),
            VerifyError::Report(_) => ReportCheck::Parse.into(),
            VerifyError::ReportData { .. } | VerifyError::Unbound => ReportCheck::Fresh.into(),
            VerifyError::Hcl(error) => format_checks::hcl(error),
            VerifyError::Svsm(_) | VerifyError::Manifest(_) | VerifyError::NotOverManifest => {
                ClaimsCheck::Manifest.into()
            }
            VerifyError::Tpm(error) => error.check(),
            VerifyError::Ak(error) => error.check(),
            VerifyError::Log { .. } => BindingCheck::Logs.into(),
            VerifyError::Part(error) => error.check(),
            VerifyError::Nitro(error) => error.check(),
            VerifyError::NitroNonce => NitroCheck::Nonce.into(),
            VerifyError::NitroReport => NitroCheck::Report.into(),
            VerifyError::Credential(_) => TpmCheck::Proof.into(),
            VerifyError::Refused(refusal) => refusal.check(),
            VerifyError::Bundle(_) => BindingCheck::Bundle.into(),
            VerifyError::EndorsementType(_) => EndorsementCheck::Type.into(),
        }
    }
}
