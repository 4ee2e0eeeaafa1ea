//! `evident-client policy learn`: what one guest showed, as a policy for its author to finish.
//!
//! Seen is not trusted. What was seen once is pinned and marked as learned; every answer that only a person can give is a
//! question that is commented out, and the first of them is mandatory, so that the file accepts nobody before it was read. What the
//! guest has and the strict default refuses stays refused until its line is uncommented.

mod boot;
mod draft;
mod platform;

use ratls::appraise::AttestationResult;
use ratls::binding::UpstreamScope;
use ratls::evidence::snp::{SigningKey, TcbKind};
use ratls::tcb::TcbVersion;
use ratls::text::Untrusted;
use ratls::verify::VerifiedEvidence;

use draft::{Draft, quoted};

/// What the author knows and the evidence only has the digest of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told<'a> {
    pub command_line: Option<&'a str>,
}

/// Something that was told and is not what the guest measured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no register that the event log explains holds this command line: {0:?}")]
pub struct NotMeasured(String);

/// The text of the policy; `None` where nothing of the evidence can be believed. `subject` says where it was learned.
pub fn policy(result: &AttestationResult, subject: &str, told: Told<'_>) -> Result<Option<String>, NotMeasured> {
    let Some(evidence) = result.evidence() else { return Ok(None) };
    let mut out = Draft::default();
    head(&mut out, evidence, subject);
    identity(&mut out, evidence);
    snp(&mut out, evidence);
    tcb(&mut out, evidence);
    platform::tables(&mut out, evidence);
    reference(&mut out, evidence);
    guest(&mut out, evidence);
    boot::table(&mut out, result, told)?;
    last(&mut out, evidence);
    Ok(Some(out.finish()))
}

fn head(out: &mut Draft, evidence: &VerifiedEvidence, subject: &str) {
    out.line(format!("# Learned from {} at {}.", Untrusted(subject).clipped(), evidence.at()));
    if evidence.simulated() {
        out.line(format!("# {}.", ratls::appraise::SIMULATED));
    }
    out.line("#");
    out.line("# SEEN IS NOT TRUSTED. This is what one guest showed once. Nobody has compared it with what it should be. Until the");
    out.line("# questions are answered the file accepts nobody: QUESTION 1 is mandatory. There are {QUESTIONS}; search for QUESTION.");
    out.line("# What is pinned here is a learned digest, level L2; docs/levels.md says what is better, docs/policy.md lists every key.");
    out.line("");
    out.line("version = 1");
    out.line(format!("profiles = [\"{}\"]", evidence.profile()));
    if let Some(statement) = evidence.statement().filter(|statement| !statement.names.is_empty()) {
        let names = statement.names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        out.question(
            "the guest claims these names. Are they what applications ask for?",
            &[format!("names = [{names}]")],
        );
    }
    out.line("");
}

fn identity(out: &mut Draft, evidence: &VerifiedEvidence) {
    let report = evidence.report().report();
    let mut answers = vec!["[identity]".to_owned()];
    if report.signing_key() == SigningKey::Vcek {
        answers.push(format!("chip_ids = [\"{}\"]   # this machine", report.chip_id()));
    }
    answers.push(format!("report_ids = [\"{}\"]   # this guest instance, until its next launch", report.report_id()));
    if !report.id_key_digest().is_zero() {
        answers.push(format!(
            "launch_identity = {{ id_key_digest = \"{}\", min_guest_svn = {} }}   # launched by whoever has this key",
            report.id_key_digest(),
            report.guest_svn()
        ));
    }
    answers.extend(platform::identities(evidence));
    answers.push(
        "or, instead of the table and above it: identity = \"any\"   # anybody's guest with such a measurement"
            .to_owned(),
    );
    out.question(
        "whose guest is it? A measurement says what runs, never where or for whom. Uncomment the table with at least one rule.",
        &answers,
    );
    out.line("");
}

fn snp(out: &mut Draft, evidence: &VerifiedEvidence) {
    let (report, vek) = (evidence.report().report(), evidence.report().vek());
    out.line("[snp]");
    match report.signing_key() {
        SigningKey::Vlek => {
            out.line("signing_keys = [\"vlek\"]");
            out.line(format!("csp = [{}]", quoted(vek.csp().unwrap_or_default())));
        }
        SigningKey::Vcek | SigningKey::None => out.line("signing_keys = [\"vcek\"]"),
    }
    let policy = report.policy();
    if policy.smt_allowed() || report.platform_info().smt_enabled() {
        let answer = "smt = \"allow\"".to_owned();
        out.question(
            "SMT is on or allowed: a sibling thread shares caches with the guest. Do you accept that?",
            &[answer],
        );
    }
    if policy.cxl_allowed() {
        out.question("the guest's memory may be on CXL devices. Do you accept that?", &["cxl = \"allow\"".to_owned()]);
    }
    if policy.migrate_ma_allowed() {
        let answer = "migrate_ma = \"allow-unused\"".to_owned();
        out.question("a migration agent may be associated with this guest. Do you accept that none is yet?", &[answer]);
    }
    if policy.debug_allowed() {
        out.question("the host may read the guest's memory (DEBUG). There is no key that accepts that.", &[]);
    }
    if report.vmpl() != 0 {
        let answer = format!("vmpl = {}", report.vmpl());
        out.question("the report was asked for at another VMPL than 0. By which code?", &[answer]);
    }
    if !report.host_data().is_zero() {
        let answer = format!("host_data = [\"{}\"]", report.host_data());
        out.question("the host gave this with the launch. Must it stay so?", &[answer]);
    }
    out.line("");
}

/// The floor is what was seen, the lower of reported and committed: the host can go back that far already.
fn tcb(out: &mut Draft, evidence: &VerifiedEvidence) {
    let product = evidence.report().vek().product();
    let (reported, committed) = (evidence.report().tcb(TcbKind::Reported), evidence.report().tcb(TcbKind::Committed));
    let lower = |of: fn(&TcbVersion) -> u8| of(&reported).min(of(&committed));
    out.question(
        "are these the oldest firmware and microcode that you accept? AMD's security bulletins name them.",
        &[],
    );
    out.line(format!("[snp.minimum_tcb.{}]", product.name().to_lowercase()));
    if let (Some(reported), Some(committed)) = (reported.fmc(), committed.fmc()) {
        out.line(format!("fmc = {}", reported.min(committed)));
    }
    out.line(format!("bl = {}", lower(TcbVersion::bootloader)));
    out.line(format!("tee = {}", lower(TcbVersion::tee)));
    out.line(format!("snp = {}", lower(TcbVersion::snp)));
    out.line(format!("ucode = {}", lower(TcbVersion::microcode)));
    out.line("");
}

/// What a digest covers beside the firmware only its files tell: on a cloud nothing, under measured direct boot everything.
fn reference(out: &mut Draft, evidence: &VerifiedEvidence) {
    out.question(
        "is this the launch measurement of the guest that you built, or of the cloud's firmware? `evident-client measure` computes it \
         from your files. Once you have compared it, write from = \"own\"; better, name the files themselves (docs/policy.md).",
        &[],
    );
    out.line("[[reference]]");
    out.line("kind = \"digest\"");
    out.line("from = \"learned\"");
    out.line(format!("measurements = [\"{}\"]", evidence.report().report().measurement()));
    out.line("");
}

fn guest(out: &mut Draft, evidence: &VerifiedEvidence) {
    let Some(statement) = evidence.statement() else { return };
    out.line("[guest]");
    out.question(
        "is this the configuration of the guest's proxy? `evident-proxy check-config` prints its digest.",
        &[],
    );
    out.line(format!("config = [\"{}\"]", statement.config));
    if statement.upstream_scope == UpstreamScope::OutsideGuest {
        let answer = "upstream_scope = \"plaintext leaves the guest\"".to_owned();
        out.question("the proxy forwards to another machine without protection. Do you accept that?", &[answer]);
    }
    out.line("");
}

fn last(out: &mut Draft, evidence: &VerifiedEvidence) {
    if evidence.simulated() {
        let answers = ["[roots]".to_owned(), "simulator = \"root.pem\"".to_owned()];
        out.question(
            "SIMULATED, PROVES NOTHING. Only to try things out: which file has the simulator's root?",
            &answers,
        );
        out.line("");
    }
    let mut answers = vec!["[levels]".to_owned(), "firmware = \"L2 amd-sp\"".to_owned()];
    if let Some(anchor) = evidence.tpm().and_then(|tpm| tpm.link().anchor()) {
        answers.extend(["boot", "kernel"].map(|part| format!("{part} = \"L2 {}\"", anchor.as_str())));
    }
    out.question("how well must each part be verified? `inspect --policy` shows what is reached.", &answers);
}
