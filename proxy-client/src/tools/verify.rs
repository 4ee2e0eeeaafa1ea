//! `evident-client verify`: evidence in files, verified again and appraised.
//!
//! It contacts nothing. What it can prove ends at what was signed: a file says nothing of who is on the other end of a
//! connection, so the report's REPORT_DATA is shown and compared with nothing, except in a bundle, which holds the
//! connection's own values.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use ratls::appraise::{AttestationResult, Finding, appraise};
use ratls::binding::Profile;
use ratls::bundle::{Bundle, MAX_BUNDLE};
use ratls::endorsement::pem::{self, PemError};
use ratls::endorsement::{MAX_CRL_BYTES, TrustAnchors};
use ratls::evidence::snp::{Report, SigningKey, TcbKind};
use ratls::policy::AppraisalPolicy;
use ratls::time::UnixTime;
use ratls::verify::{Channel, ReportRefusal, VerifiedEvidence, verify_bundle, verify_report};

use super::input::{self, ReadFileError};
use super::policy::{self, LoadedPolicy};
use super::{EXIT_UNREADABLE, EXIT_USAGE, Output, inspect_view};

/// More than any report; the parser says what was wrong with its length.
const MAX_REPORT_BYTES: usize = 64 * 1024;
/// Eight certificates in PEM and the text around them.
const MAX_CERTIFICATE_FILE_BYTES: usize = 256 * 1024;
/// A list in PEM is a third longer than in DER.
const MAX_CRL_FILE_BYTES: usize = 2 * MAX_CRL_BYTES;

/// Verify evidence in files, without a network
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("evidence").required(true).multiple(false).args(["bundle", "snp_report"]))]
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
    /// Certificates of its key and of their issuer, DER or PEM, in any order; roots among them are ignored
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "bundle")]
    pub cert: Vec<PathBuf>,
    /// Revocation lists, DER or PEM
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "bundle")]
    pub crl: Vec<PathBuf>,
    #[command(flatten)]
    pub later: LaterInputs,
}

/// Evidence of platforms that this version does not verify. The flags are known so that they are refused by name.
#[derive(Debug, Args)]
pub struct LaterInputs {
    /// Azure HCL report (not supported by this version)
    #[arg(long, value_name = "FILE")]
    pub hcl: Option<PathBuf>,
    /// TPM quote (not supported by this version)
    #[arg(long, value_name = "FILE")]
    pub quote: Option<PathBuf>,
    /// Signature of the quote (not supported by this version)
    #[arg(long, value_name = "FILE")]
    pub quote_signature: Option<PathBuf>,
    /// PCR values as JSON (not supported by this version)
    #[arg(long, value_name = "FILE")]
    pub pcrs: Option<PathBuf>,
    /// Attestation key of the TPM (not supported by this version)
    #[arg(long, value_name = "FILE")]
    pub ak: Option<PathBuf>,
    /// TCG event log (not supported by this version)
    #[arg(long, value_name = "FILE")]
    pub event_log: Option<PathBuf>,
    /// IMA log (not supported by this version)
    #[arg(long, value_name = "FILE")]
    pub ima_log: Option<PathBuf>,
    /// NitroTPM attestation document (not supported by this version)
    #[arg(long, value_name = "FILE")]
    pub nitro_document: Option<PathBuf>,
    /// SVSM manifest (not supported by this version)
    #[arg(long, value_name = "FILE")]
    pub svsm_manifest: Option<PathBuf>,
}

impl LaterInputs {
    fn given(&self) -> Option<&'static str> {
        [
            ("--hcl", &self.hcl),
            ("--quote", &self.quote),
            ("--quote-signature", &self.quote_signature),
            ("--pcrs", &self.pcrs),
            ("--ak", &self.ak),
            ("--event-log", &self.event_log),
            ("--ima-log", &self.ima_log),
            ("--nitro-document", &self.nitro_document),
            ("--svsm-manifest", &self.svsm_manifest),
        ]
        .into_iter()
        .find(|(_, file)| file.is_some())
        .map(|(flag, _)| flag)
    }
}

#[derive(Debug, thiserror::Error)]
enum VerifyFilesError {
    #[error("{0} is not supported by this version yet")]
    Unsupported(&'static str),
    #[error(transparent)]
    Policy(#[from] policy::LoadError),
    #[error(transparent)]
    Read(#[from] ReadFileError),
}

/// A certificate or revocation list file that holds none.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
struct CertificateFileError {
    path: PathBuf,
    source: PemError,
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
        Err(error @ VerifyFilesError::Unsupported(_)) => {
            Output::failed(EXIT_USAGE, &error, "Give --snp-report with --cert, or a bundle of a plain SNP guest.")
        }
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
    if let Some(flag) = args.later.given() {
        return Err(VerifyFilesError::Unsupported(flag));
    }
    let loaded = args.policy.as_deref().map(policy::load).transpose()?;
    let (policy, anchors) = match loaded {
        Some(LoadedPolicy { policy, anchors }) => (Some(policy), anchors),
        None => (None, TrustAnchors::amd()),
    };
    match (&args.bundle, &args.snp_report) {
        (Some(bundle), _) => judge_bundle(bundle, policy.as_ref(), &anchors, now),
        (None, Some(report)) => judge_report(report, args, policy.as_ref(), &anchors, now),
        (None, None) => Err(VerifyFilesError::Unsupported("verifying nothing")),
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
            AttestationResult::refusal(Finding::of_verification(error.id(), &error), Channel::None, None, now)
        }
    })
}

fn judge_report(
    path: &Path,
    args: &VerifyArgs,
    policy: Option<&AppraisalPolicy>,
    anchors: &TrustAnchors,
    now: UnixTime,
) -> Result<AttestationResult, VerifyFilesError> {
    let refused = |finding| AttestationResult::refusal(finding, Channel::None, Some(Profile::Snp), now);
    let report = input::read(path, MAX_REPORT_BYTES)?;
    let certificates = read_each(&args.cert, MAX_CERTIFICATE_FILE_BYTES)?;
    let crls = read_each(&args.crl, MAX_CRL_FILE_BYTES)?;
    let parsed = parse_each(certificates, pem::certificates).and_then(|c| Ok((c, parse_each(crls, pem::crls)?)));
    let (certificates, crls) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return Ok(refused(Finding::of_verification("E_CERTIFICATE", &error))),
    };
    let verified = verify_report(&report, &slices(&certificates), &slices(&crls), anchors, now);
    Ok(match verified {
        Ok(verified) => appraise(policy, VerifiedEvidence::offline(verified, now)),
        Err(error) => refused(explain(&error, &report)),
    })
}

fn read_each(paths: &[PathBuf], max: usize) -> Result<Vec<(PathBuf, Vec<u8>)>, ReadFileError> {
    paths.iter().map(|path| Ok((path.clone(), input::read(path, max)?))).collect()
}

fn parse_each(
    files: Vec<(PathBuf, Vec<u8>)>,
    parse: impl Fn(&[u8]) -> Result<Vec<Vec<u8>>, PemError>,
) -> Result<Vec<Vec<u8>>, CertificateFileError> {
    let mut all = Vec::new();
    for (path, bytes) in files {
        all.extend(parse(&bytes).map_err(|source| CertificateFileError { path, source })?);
    }
    Ok(all)
}

fn slices(owned: &[Vec<u8>]) -> Vec<&[u8]> {
    owned.iter().map(Vec::as_slice).collect()
}

/// The finding for a refused report; where only the certificate is missing, it says where AMD has it.
fn explain(error: &ReportRefusal, report: &[u8]) -> Finding {
    let finding = Finding::of_verification(error.id(), error);
    match (error, Report::parse(report)) {
        (ReportRefusal::NoEndorsement, Ok(report)) => match vcek_address(&report) {
            Some(address) => finding.with_help(format!("give it with --cert; AMD has it at {address}")),
            None => finding,
        },
        _ => finding,
    }
}

/// Where AMD's key service has the VCEK of a report, if the report says of which product it is (platforms.md §3.2).
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
