//! Policies over what each platform shows: accepted as it is, and refused for each single thing that is wrong.
//!
//! Reports are the simulator's, TPMs and CAs are made here with aws-lc and openssl: PROVES NOTHING.

#![allow(clippy::unwrap_used)]

#[path = "../shared/mod.rs"]
mod shared;

mod aws;
mod azure;
mod google;
mod lists;
mod profiles;
mod svsm;

use std::sync::{Arc, OnceLock};

use ratls::appraise::{AttestationResult, Severity, Verdict, appraise_files};
use ratls::binding::Profile;
use ratls::crypto::{sha256, sha384, sha512};
use ratls::endorsement::TrustAnchors;
use ratls::evidence::nitro::NitroDocument;
use ratls::evidence::snp::Report;
use ratls::evidence::svsm::Nonce;
use ratls::evidence::tpm::{Bank, PcrValues, Public};
use ratls::policy::{AppraisalPolicy, ProfilePolicy};
use ratls::tcb::Product;
use ratls::time::UnixTime;
use ratls::verify::{AkFile, Files, QuoteFiles, SvsmFiles, verify_files};
use shared::lab::Lab;
use shared::soft_tpm::SoftTpm;
use simulator::{Config, Pki, RsaSize, SimulatedAmdSp};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const B: [u8; 64] = [0xB0; 64];
/// PCR 0 of Google's firmware v2 under SEV-SNP.
const PCR0: &str = "50597a27846e91d025eef597abbc89f72bff9af849094db97b0684d8bc4c515e";

fn pki() -> &'static Arc<Pki> {
    static PKI: OnceLock<Arc<Pki>> = OnceLock::new();
    PKI.get_or_init(|| Arc::new(Pki::generate(Product::Milan, RsaSize::Bits2048)))
}

fn sp() -> SimulatedAmdSp {
    SimulatedAmdSp::new(pki(), Config::new(Product::Milan))
}

const CA: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash";
const LEAF: &str = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature";
/// zone z, project 1 "p", instance 7 "n", production.
const INSTANCE: &str = "1.3.6.1.4.1.11129.2.1.21=DER:30180c017a0201010c01700201070c016ea0073005a1030101ff";

impl Lab {
    /// A root of this name, `root.pem`, with a key of this kind.
    fn root(&self, subject: &str, kind: &[&str], sign: &[&str]) {
        self.openssl(&[&["genpkey", "-out", "root.key"], kind].concat());
        self.write("root.ext", format!("[req]\ndistinguished_name=dn\n[dn]\n[ca]\n{CA}\n"));
        let args =
            ["req", "-x509", "-new", "-key", "root.key", "-days", "3650", "-subj", subject, "-config", "root.ext"];
        self.openssl(&[&args[..], sign, &["-extensions", "ca", "-out", "root.pem"]].concat());
    }

    /// A certificate below it, for this key where one is given, else for a new one in `leaf.key`.
    fn leaf(&self, subject: &str, extensions: &str, spki: Option<&[u8]>, kind: &[&str], sign: &[&str]) -> Vec<u8> {
        self.write("ext", extensions);
        self.openssl(&[&["genpkey", "-out", "leaf.key"], kind].concat());
        self.openssl(&["req", "-new", "-key", "leaf.key", "-subj", subject, "-out", "csr"]);
        let ca =
            ["x509", "-req", "-in", "csr", "-CA", "root.pem", "-CAkey", "root.key", "-days", "3000", "-extfile", "ext"];
        let mut args = [&ca[..], sign].concat();
        if let Some(spki) = spki {
            self.write("key.der", spki);
            self.openssl(&["pkey", "-pubin", "-inform", "der", "-in", "key.der", "-out", "key.pem"]);
            args.extend(["-force_pubkey", "key.pem"]);
        }
        args.extend(["-out", "leaf.pem"]);
        self.openssl(&args);
        self.der("leaf.pem")
    }

    fn anchors(&self) -> TrustAnchors {
        let file = [pki().root_pem().into_bytes(), self.read("root.pem")].concat();
        TrustAnchors::amd().with_simulator_root(&file).unwrap()
    }
}

const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
const P384: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
const RSA: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
const PSS: &[&str] = &["-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"];

/// A policy for one platform that accepts the simulator's measurement, with this in place and these lines behind it.
fn policy(profile: &str, report: &[u8], identity: &str, more: &str) -> AppraisalPolicy {
    let measurement = Report::parse(report).unwrap().measurement().to_string();
    let text = format!(
        "version = 1\nprofiles = [\"{profile}\"]\n{identity}\n[snp]\nmeasurements = [\"{measurement}\"]\nsigning_keys = [\"vcek\"]\n\
         smt = \"allow\"\n[snp.minimum_tcb.milan]\nbl = 0\ntee = 0\nsnp = 1\nucode = 1\n[roots]\nsimulator = \"root.pem\"\n{more}"
    );
    AppraisalPolicy::parse(&text, "p.toml").unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn fatal(result: &AttestationResult) -> Vec<&'static str> {
    result.findings().iter().filter(|f| f.severity() == Severity::Fatal).map(|f| f.id()).collect()
}

#[track_caller]
fn accepted(result: &AttestationResult) {
    assert_eq!(result.verdict(), Verdict::Accepted, "{result}");
}

/// A guest's files; each field may be changed before they are verified.
struct Guest {
    report: Vec<u8>,
    hcl: Option<Vec<u8>>,
    svsm: Option<Vec<u8>>,
    nitro: Option<Vec<u8>>,
    tpm: Option<SoftTpm>,
    /// What the quote answers.
    question: Vec<u8>,
    ak: Option<AkFile>,
    certificates: Vec<Vec<u8>>,
    crls: Vec<Vec<u8>>,
    endorsement: Option<Vec<u8>>,
    anchors: TrustAnchors,
}

fn question(report: &[u8]) -> Vec<u8> {
    sha256(&[b"EVIDENT-TPM\0", &B, sha384(&[report]).as_bytes()]).as_bytes().to_vec()
}

impl Guest {
    fn of(report: Vec<u8>, anchors: TrustAnchors) -> Guest {
        Guest {
            question: question(&report),
            report,
            hcl: None,
            svsm: None,
            nitro: None,
            tpm: None,
            ak: None,
            certificates: sp().certificates(),
            crls: vec![],
            endorsement: None,
            anchors,
        }
    }

    fn judge(&self, policy: &AppraisalPolicy) -> AttestationResult {
        self.judge_as(None, policy)
    }

    /// The guest states this platform, if its evidence leaves it open.
    fn judge_as(&self, claimed: Option<Profile>, policy: &AppraisalPolicy) -> AttestationResult {
        let quote = self.tpm.as_ref().map(|tpm| tpm.quote(&self.question, |_| {}));
        let pcrs = quote.as_ref().map(|quote| {
            let values = quote.pcrs.iter().map(|(index, value)| (*index, &value[..]));
            PcrValues::new(Bank::from_algorithm(quote.bank).unwrap(), values).unwrap()
        });
        let files = Files {
            report: self.hcl.is_none().then_some(&self.report[..]),
            hcl: self.hcl.as_deref(),
            svsm: self.svsm.as_deref().map(|manifest| SvsmFiles { manifest, nonce: Nonce::from_bytes(B) }),
            report_data: None,
            nonce: None,
            nitro: self.nitro.as_deref(),
            quote: quote.as_ref().map(|quote| QuoteFiles { attest: &quote.attest, signature: &quote.signature }),
            pcrs,
            ak: self.ak.clone(),
            event_log: None,
            ima_list: None,
            endorsement: self.endorsement.as_deref(),
            certificates: self.certificates.iter().map(Vec::as_slice).collect(),
            crls: self.crls.iter().map(Vec::as_slice).collect(),
        };
        let claimed = claimed.or_else(|| policy.only().map(ProfilePolicy::profile));
        appraise_files(
            Some(policy),
            verify_files(&files, claimed, &self.anchors, NOW).unwrap_or_else(|e| panic!("{e}")),
        )
    }
}

const ANY: &str = "identity = \"any\"";

fn area(tpm: &SoftTpm) -> AkFile {
    AkFile::Area(Box::new(Public::parse(&tpm.public()).unwrap()))
}

/// The floor under a clock is the release date; a later clock that is wrong accepts what expired, and no floor can help that.
#[test]
fn plat_n58_a_clock_before_the_release_is_refused_and_expired_certificates_are_at_every_time() {
    assert!(UnixTime::from_secs(ratls::time::RELEASE_DATE.as_secs() - 1).check_clock().is_err());
    assert!(ratls::time::RELEASE_DATE.check_clock().is_ok());
    let report = sp().report(&B).unwrap();
    let anchors = TrustAnchors::amd().with_simulator_root(pki().root_pem().as_bytes()).unwrap();
    let certificates = sp().certificates();
    let slices: Vec<&[u8]> = certificates.iter().map(Vec::as_slice).collect();
    let late = UnixTime::from_secs(5_000_000_000);
    let refused = ratls::verify::verify_report(&report, &slices, &[], &anchors, late).unwrap_err();
    assert_eq!(refused.id(), "E_VALIDITY");
}
