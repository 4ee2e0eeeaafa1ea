//! `evident-client verify`: evidence in files, verified again and appraised.
//!
//! It contacts nothing. What it can prove ends at what was signed: a file says nothing of who is on the other end of a
//! connection, so the report's REPORT_DATA is shown and compared with nothing but what `--report-data` says, except in a bundle,
//! which holds the connection's own values.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use ratls::appraise::{AttestationResult, Finding, appraise, appraise_files};
use ratls::binding::Profile;
use ratls::bundle::{Bundle, MAX_BUNDLE};
use ratls::endorsement::TrustAnchors;
use ratls::evidence::snp::{Report, SigningKey, TcbKind};
use ratls::policy::{AppraisalPolicy, ProfilePolicy};
use ratls::time::UnixTime;
use ratls::verify::{Channel, ReportRefusal, VerifyError, verify_bundle, verify_files};

use super::input::{self, ReadFileError};
use super::pieces::{self, GivenNonce, GivenReportData, Pieces, Refused};
use super::policy::{self, LoadedPolicy};
use super::{EXIT_UNREADABLE, Output, inspect_view};

/// Verify evidence in files, without a network
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("pieces").multiple(true).conflicts_with("bundle").args(
    ["snp_report", "hcl", "quote", "ak", "event_log", "ima_log", "nitro_document", "svsm_manifest", "firmware_endorsement"],
))]
#[command(group = clap::ArgGroup::new("answers").multiple(true).args(["quote", "nitro_document"]))]
#[command(group = clap::ArgGroup::new("evidence").required(true).multiple(true).args(
    ["bundle", "snp_report", "hcl", "quote", "ak", "event_log", "ima_log", "nitro_document", "firmware_endorsement"],
))]
pub struct VerifyArgs {
    /// A bundle, as `inspect --save` writes it
    #[arg(value_name = "BUNDLE")]
    pub bundle: Option<PathBuf>,
    /// What is accepted; without it the verdict says only whether the evidence is authentic
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Judge validity at this time instead of now
    #[arg(long, value_name = "RFC3339", value_parser = UnixTime::parse_rfc3339)]
    pub at: Option<UnixTime>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Write a report to look at with a browser, in one file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// An SNP report, the 1184 bytes that the firmware signed
    #[arg(long, value_name = "FILE")]
    pub snp_report: Option<PathBuf>,
    /// What the report must be over, in hex: REPORT_DATA, or of a paravisor's blob the data that the guest gave; filled up with zeros
    #[arg(long, value_name = "HEX", value_parser = pieces::report_data, conflicts_with = "bundle")]
    pub report_data: Option<GivenReportData>,
    /// What the quote must answer (extraData), in hex; without a quote, the nonce of the NitroTPM document
    #[arg(long, value_name = "HEX", value_parser = pieces::nonce, conflicts_with = "bundle", requires = "answers")]
    pub nonce: Option<GivenNonce>,
    /// Certificates of its key and of their issuer, and those of a vTPM's key; DER or PEM, in any order, or the certificate
    /// table of an extended report (auxblob); roots among them are not used
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "bundle")]
    pub cert: Vec<PathBuf>,
    /// Revocation lists, DER or PEM
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "bundle")]
    pub crl: Vec<PathBuf>,
    /// What Azure's paravisor wrote into NV index 0x01400001: the report is in it
    #[arg(long, value_name = "FILE")]
    pub hcl: Option<PathBuf>,
    /// A TPM's quote (TPMS_ATTEST)
    #[arg(long, value_name = "FILE", requires_all = ["quote_signature", "pcrs"])]
    pub quote: Option<PathBuf>,
    /// Its signature: TPMT_SIGNATURE, or the bare one
    #[arg(long, value_name = "FILE", requires = "quote")]
    pub quote_signature: Option<PathBuf>,
    /// Values of the registers as JSON: {"0": "hex", …}, or the same below "sha256" or "sha384"
    #[arg(long, value_name = "FILE", conflicts_with = "bundle")]
    pub pcrs: Option<PathBuf>,
    /// The key that quoted: TPMT_PUBLIC, or a public key or a certificate in PEM or DER
    #[arg(long, value_name = "FILE")]
    pub ak: Option<PathBuf>,
    /// The firmware's event log (TCG2)
    #[arg(long, value_name = "FILE")]
    pub event_log: Option<PathBuf>,
    /// The kernel's measurement list (IMA), binary
    #[arg(long, value_name = "FILE")]
    pub ima_log: Option<PathBuf>,
    /// A NitroTPM attestation document
    #[arg(long, value_name = "FILE")]
    pub nitro_document: Option<PathBuf>,
    /// An SVSM's manifest
    #[arg(long, value_name = "FILE", requires_all = ["svsm_nonce", "snp_report"])]
    pub svsm_manifest: Option<PathBuf>,
    /// The 64 bytes that the SVSM was asked with
    #[arg(long, value_name = "FILE", requires = "svsm_manifest")]
    pub svsm_nonce: Option<PathBuf>,
    /// Google's endorsement of its firmware (VMLaunchEndorsement), below Google's root or the one that the policy names
    #[arg(long, value_name = "FILE")]
    pub firmware_endorsement: Option<PathBuf>,
}

const NO_BUNDLE: &str = "give a file of inspect --save, or use --snp-report";

#[derive(Debug, thiserror::Error)]
enum VerifyFilesError {
    #[error(transparent)]
    Policy(#[from] policy::LoadError),
    #[error(transparent)]
    Read(#[from] ReadFileError),
}

pub fn run(args: VerifyArgs) -> ExitCode {
    let now = args.at.unwrap_or_else(crate::dial::now);
    verify(&args, now).emit()
}

/// The command; `now` is the time that validity is judged at.
pub fn verify(args: &VerifyArgs, now: UnixTime) -> Output {
    match judge(args, now) {
        Ok(result) => inspect_view::output_with_html(&result, args.json, args.html.as_deref(), &subject(args)),
        Err(VerifyFilesError::Policy(error)) => policy::refused(&error),
        Err(error @ VerifyFilesError::Read(_)) => {
            Output::failed(EXIT_UNREADABLE, &error, "Check the name and the permissions of the file.")
        }
    }
}

/// What was looked at, for a report.
fn subject(args: &VerifyArgs) -> String {
    let file = args.bundle.as_ref().or(args.snp_report.as_ref());
    file.map_or_else(String::new, |file| file.display().to_string())
}

fn judge(args: &VerifyArgs, now: UnixTime) -> Result<AttestationResult, VerifyFilesError> {
    let loaded = args.policy.as_deref().map(policy::load).transpose()?;
    let (policy, anchors) = match loaded {
        Some(LoadedPolicy { policy, anchors, .. }) => (Some(policy), anchors),
        None => (None, TrustAnchors::amd()),
    };
    match &args.bundle {
        Some(bundle) => judge_bundle(bundle, policy.as_ref(), &anchors, now),
        None => judge_pieces(args, policy.as_ref(), &anchors, now),
    }
}

fn judge_bundle(
    path: &Path,
    policy: Option<&AppraisalPolicy>,
    anchors: &TrustAnchors,
    now: UnixTime,
) -> Result<AttestationResult, VerifyFilesError> {
    let file = input::read(path, MAX_BUNDLE)?;
    let verified = Bundle::parse(&file).map_err(Into::into).and_then(|bundle| verify_bundle(&bundle, anchors, now));
    Ok(match verified {
        Ok((evidence, _)) => appraise(policy, evidence),
        Err(error) => {
            let mut finding = Finding::of_verification(error.check(), &error);
            if matches!(error, VerifyError::Bundle(_)) {
                finding.advising(NO_BUNDLE);
            }
            AttestationResult::refusal(finding, Channel::None, None, now)
        }
    })
}

fn judge_pieces(
    args: &VerifyArgs,
    policy: Option<&AppraisalPolicy>,
    anchors: &TrustAnchors,
    now: UnixTime,
) -> Result<AttestationResult, VerifyFilesError> {
    let refused = |finding| AttestationResult::refusal(finding, Channel::None, profile(args), now);
    let read = match Pieces::read(args) {
        Ok(read) => read,
        Err(Refused::Read(error)) => return Err(error.into()),
        Err(Refused::Piece(error)) => return Ok(refused(Finding::of_verification(error.check(), &error))),
    };
    // Where the pieces do not tell their platform, a policy for one alone does.
    let wanted = policy.and_then(AppraisalPolicy::only).map(ProfilePolicy::profile);
    Ok(match verify_files(&read.files(), wanted, anchors, now) {
        Ok(verified) => appraise_files(policy, verified),
        Err(error) => refused(explain(&error, read.report())),
    })
}

/// The platform that the flags speak of, for a refusal.
fn profile(args: &VerifyArgs) -> Option<Profile> {
    let given: [(&Option<PathBuf>, Profile); 4] = [
        (&args.hcl, Profile::AzureSnp),
        (&args.nitro_document, Profile::AwsSnp),
        (&args.svsm_manifest, Profile::SvsmSnp),
        (&args.snp_report, Profile::Snp),
    ];
    given.into_iter().find(|(file, _)| file.is_some()).map(|(_, profile)| profile)
}

/// The finding for refused evidence; where only the certificate is missing, it says where AMD has it.
fn explain(error: &VerifyError, report: Option<&[u8]>) -> Finding {
    let mut finding = Finding::of_verification(error.check(), error);
    let report = report.and_then(|bytes| Report::parse(bytes).ok());
    let missing = matches!(error, VerifyError::Refused(ReportRefusal::NoEndorsement));
    if let Some(address) = report.as_ref().and_then(vcek_address).filter(|_| missing) {
        finding.advising(format!("give it with --cert; AMD has it at {address}"));
    }
    finding
}

/// Where AMD's key service has the VCEK of a report, if the report says of which product it is (AMD 57230, "VCEK Certificate and KDS Interface Specification").
fn vcek_address(report: &Report) -> Option<String> {
    let product = report.product_from_cpuid()?;
    if report.signing_key() != SigningKey::Vcek || report.chip_id().is_zero() {
        return None;
    }
    let tcb = report.tcb(TcbKind::Reported, product.layout());
    let chip_id = report.chip_id().to_string();
    // Turin's chip id has 8 bytes, and so many go into the address.
    let (chip_id, fmc) = match tcb.fmc() {
        Some(fmc) => (&chip_id[..16], format!("fmcSPL={fmc:02}&")),
        None => (&chip_id[..], String::new()),
    };
    let (bl, tee, snp, ucode) = (tcb.bootloader(), tcb.tee(), tcb.snp(), tcb.microcode());
    Some(format!(
        "https://kdsintf.amd.com/vcek/v1/{product}/{chip_id}?{fmc}blSPL={bl:02}&teeSPL={tee:02}&snpSPL={snp:02}&ucodeSPL={ucode:02}"
    ))
}
