//! Appraisal, one mutation per finding: a simulated guest that its policy accepts, and what each change of guest, policy or
//! connection makes of it. The evidence goes through the real verifier; only the AMD-SP is software.
//!
//! The guest, the policy and what becomes of them stand here; the tests are in a file for each question.

#![allow(clippy::unwrap_used)]

mod identity;
mod levels;
mod report;
mod shown;
mod verdict;

use std::sync::{Arc, OnceLock};

use ratls::appraise::{AttestationResult, Identity, Severity, Stage, Verdict, appraise};
use ratls::binding::leaf::leaf_hash;
use ratls::binding::{
    Bind32, LeafType, Profile, Purpose, Role, Statement, Tree, UpstreamScope, binder, statement::Epoch,
};
use ratls::cert::spki_digest;
use ratls::digest::Sha256Digest;
use ratls::endorsement::TrustAnchors;
use ratls::evidence::snp::{HostData, KeyDigest, Measurement, ReportId};
use ratls::policy::AppraisalPolicy;
use ratls::tcb::Product;
use ratls::time::UnixTime;
use ratls::verify::connection::Connection;
use ratls::verify::{VerifiedEvidence, verify_connection, verify_report};
use ratls::wire::attest::{Attest, AttestPurpose, Endorsement, HardwareFormat, media};
use simulator::{Config, Pki, RsaSize, SimulatedAmdSp, Tcb, Validity, Vek};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn pki() -> &'static Arc<Pki> {
    static PKI: OnceLock<Arc<Pki>> = OnceLock::new();
    PKI.get_or_init(|| Arc::new(Pki::generate(Product::Milan, RsaSize::Bits2048)))
}

fn anchors() -> TrustAnchors {
    TrustAnchors::amd().with_simulator_root(pki().root_pem().as_bytes()).unwrap()
}

fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::new(Product::Milan);
    change(&mut config);
    config
}

/// A report in a file.
fn file(change: impl FnOnce(&mut Config)) -> VerifiedEvidence {
    let mut sp = SimulatedAmdSp::new(pki(), config(change));
    let report = sp.report(&[7; 64]).unwrap();
    let (certificates, crl) = (sp.certificates(), sp.crl());
    let certificates: Vec<&[u8]> = certificates.iter().map(Vec::as_slice).collect();
    let report = verify_report(&report, &certificates, &[&crl], &anchors(), NOW).unwrap();
    VerifiedEvidence::offline(report, NOW)
}

/// What a live connection shows.
fn live_with(change: impl FnOnce(&mut Config), state: impl FnOnce(&mut Statement), crl: bool) -> VerifiedEvidence {
    let mut sp = SimulatedAmdSp::new(pki(), config(change));
    // Any certificate has a key; which one it is makes no difference here.
    let leaf_certificate = sp.certificates().remove(0);
    let spki = spki_digest(&leaf_certificate).unwrap();
    let bind = || Bind32::from_exporter([9; 32]);
    let tree = Tree::build(&[leaf_hash(LeafType::ChannelInitial, Role::Server, &spki, &bind())]).unwrap();
    let mut statement = Statement {
        profile: Profile::Snp,
        purpose: Purpose::Batch,
        root: tree.root(),
        n: 1,
        spki,
        epoch: Epoch::from_bytes([3; 16]),
        counter: 1,
        ak: None,
        logs: vec![],
        config: Sha256Digest::from_bytes([5; 32]),
        names: vec![],
        time_ms: 1_800_000_000_000,
        upstream_scope: UpstreamScope::InsideGuest,
    };
    state(&mut statement);
    let statement = statement.encode();
    let report = sp.report(binder(&statement).as_bytes()).unwrap();
    let mut endorsements: Vec<_> = sp
        .certificates()
        .into_iter()
        .map(|bytes| Endorsement { media_type: media::CERTIFICATE.to_owned(), bytes })
        .collect();
    if crl {
        endorsements.push(Endorsement { media_type: media::CRL.to_owned(), bytes: sp.crl() });
    }
    let attest = Attest {
        purpose: AttestPurpose::Initial,
        seq: 0,
        statement,
        index: 0,
        siblings: vec![],
        hardware: vec![(HardwareFormat::SnpReport, report)],
        tpm: None,
        endorsements,
        parts: vec![],
        identity: vec![],
        client_evidence_wanted: false,
        features: 0,
        pool_idle_ms: 0,
    };
    let attest = attest.encode();
    let connection = Connection { leaf_certificate: &leaf_certificate, bind: bind(), attest: &attest };
    verify_connection(&connection, &anchors(), NOW).unwrap().0
}

fn live(change: impl FnOnce(&mut Config)) -> VerifiedEvidence {
    live_with(change, |_| {}, true)
}

/// A policy that accepts the unchanged guest; `snp` and `rest` go into it.
fn policy_with(identity: &str, snp: &str, rest: &str) -> AppraisalPolicy {
    let measurement = Config::new(Product::Milan).measurement;
    let signing_keys = if snp.contains("signing_keys") { "" } else { "signing_keys = [\"vcek\"]" };
    let floor = if snp.contains("[snp.minimum_tcb.") {
        ""
    } else {
        "[snp.minimum_tcb.milan]\nbl = 4\ntee = 0\nsnp = 24\nucode = 219\n"
    };
    let smt = if snp.contains("smt =") { "" } else { "smt = \"allow\"" };
    let measurements =
        if snp.contains("measurements") { String::new() } else { format!("measurements = [\"{measurement}\"]") };
    let text = format!(
        "version = 1\nprofiles = [\"snp\"]\n{identity}\n[snp]\n{measurements}\n{signing_keys}\n{smt}\n{snp}\n{floor}\n\
         [roots]\nsimulator = \"root.pem\"\n{rest}\n"
    );
    AppraisalPolicy::parse(&text, "test.toml").unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn policy(snp: &str) -> AppraisalPolicy {
    policy_with("identity = \"any\"", snp, "")
}

#[track_caller]
fn refused(result: &AttestationResult, id: &str, subject: &str) {
    assert_eq!(result.verdict(), Verdict::Refused(Stage::Appraise), "{result}");
    assert_eq!((result.refused_by(), result.exit_code()), (Some(Stage::Appraise), 3));
    let fatal: Vec<_> = result.findings().iter().filter(|f| f.severity() == Severity::Fatal).collect();
    assert!(fatal.iter().any(|f| f.id() == id && f.subject() == subject), "{id} {subject} is not fatal in\n{result}");
    assert!(fatal.iter().all(|f| f.id() == id), "something else is fatal too in\n{result}");
    assert!(fatal.iter().all(|f| !f.seen().is_empty() && !f.wanted().is_empty() && !f.help().is_empty()));
}

#[track_caller]
fn accepted(result: AttestationResult) -> AttestationResult {
    assert_eq!(result.verdict(), Verdict::Accepted, "{result}");
    assert_eq!((result.refused_by(), result.exit_code()), (None, 0));
    result
}

#[track_caller]
fn accepts(result: AttestationResult) {
    let _ = accepted(result);
}

#[track_caller]
fn severity(result: &AttestationResult, id: &str) -> Severity {
    result.findings().iter().find(|f| f.id() == id).unwrap_or_else(|| panic!("no {id} in\n{result}")).severity()
}

fn bytes<const N: usize>(byte: u8) -> [u8; N] {
    [byte; N]
}
