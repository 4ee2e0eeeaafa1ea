//! Evidence of every profile through the real verifier: accepted as it is, and refused for each single thing that is wrong with
//! it. AMD-SP and TPMs are software: PROVES NOTHING.
//!
//! A guest and what may be wrong with it stand here; the tests are in a file for each question.

#![allow(clippy::unwrap_used)]

mod hardware;
mod parts;
mod quote;
mod remembered;
#[path = "../shared/mod.rs"]
mod shared;
mod vouched;

use std::sync::{Arc, OnceLock};

use ratls::appraise::{Severity, appraise};
use ratls::binding::leaf::leaf_hash;
use ratls::binding::{
    Bind32, Binder, LeafType, Profile, Purpose, Role, Statement, Tree, UpstreamScope, binder, statement::Epoch,
    statement::LogDigest,
};
use ratls::bundle::Bundle;
use ratls::cert::spki_digest;
use ratls::crypto::{sha256, sha384, sha512};
use ratls::digest::Sha256Digest;
use ratls::endorsement::TrustAnchors;
use ratls::evidence::snp::ReportId;
use ratls::evidence::svsm::Nonce;
use ratls::policy::AppraisalPolicy;
use ratls::tcb::Product;
use ratls::time::{CLOCK_LEEWAY_SECS, UnixTime};
use ratls::verify::credential::Seed;
use ratls::verify::{
    AkProof, Channel, Connection, CredentialError, CredentialProof, Freshness, Link, Part, Question, TpmKind,
    VerifiedEvidence, VerifyError, verify_bundle, verify_connection,
};
use ratls::wire::attest::{Attest, AttestPurpose, Endorsement, HardwareFormat, PartInfo, TpmEvidence, media, part};
use ratls::wire::credential::{CredentialResponse, CredentialSecret};
use ratls::wire::svsm::SvsmEvidence;
use shared::soft_tpm::{Quote, SoftTpm, bitmap, sha384_digest};
use simulator::{Config, Pki, RsaSize, SimulatedAmdSp};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn pki() -> &'static Arc<Pki> {
    static PKI: OnceLock<Arc<Pki>> = OnceLock::new();
    PKI.get_or_init(|| Arc::new(Pki::generate(Product::Milan, RsaSize::Bits2048)))
}

fn anchors() -> TrustAnchors {
    TrustAnchors::amd().with_simulator_root(pki().root_pem().as_bytes()).unwrap()
}

/// The TPM of the guest, and one of somebody else's.
fn azure_tpm() -> &'static SoftTpm {
    static TPM: OnceLock<SoftTpm> = OnceLock::new();
    TPM.get_or_init(SoftTpm::azure)
}

fn gce_tpm() -> &'static SoftTpm {
    static TPM: OnceLock<SoftTpm> = OnceLock::new();
    TPM.get_or_init(SoftTpm::gce)
}

fn other_tpm() -> &'static SoftTpm {
    static TPM: OnceLock<SoftTpm> = OnceLock::new();
    TPM.get_or_init(SoftTpm::azure)
}

fn question(b: &Binder, report: &[u8]) -> Vec<u8> {
    sha256(&[b"EVIDENT-TPM\0", b.as_bytes(), sha384(&[report]).as_bytes()]).as_bytes().to_vec()
}

/// What Azure's paravisor writes, with this user-data.
fn json(tpm: &SoftTpm, user_data: Option<&str>) -> String {
    let n = base64url(&tpm.modulus());
    let user_data = user_data.map(|data| format!(r#","user-data":"{data}""#)).unwrap_or_default();
    format!(
        r#"{{"keys":[{{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":"{n}"}}],"vm-configuration":{{"console-enabled":false,"secure-boot":true,"tpm-enabled":true,"vmUniqueId":"SIMULATED"}}{user_data}}}"#
    )
}

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        (0..=chunk.len()).for_each(|i| text.push(char::from(DIGITS[(word >> (18 - 6 * i) & 63) as usize])));
    }
    text
}

fn ek_manifest() -> Vec<u8> {
    let mut manifest = hex::decode(
        "0001000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa00060080004300100800000000000100",
    )
    .unwrap();
    manifest.extend(other_tpm().modulus());
    manifest
}

type On<'a, T> = Box<dyn Fn(&mut T) + 'a>;
/// What the paravisor writes for this TPM and this B.
type Json<'a> = Box<dyn Fn(&SoftTpm, &Binder) -> String + 'a>;
type Flip = (&'static str, fn(&mut TpmEvidence));

/// A guest, and what is wrong with it: nothing, unless a test says so. Each field changes one thing at its time.
struct Guest<'a> {
    profile: Profile,
    tpm: Option<&'a SoftTpm>,
    config: On<'a, Config>,
    statement: On<'a, Statement>,
    /// The JSON before it is hashed; `None` where the paravisor takes no data.
    json: Json<'a>,
    /// REPORT_DATA before it is signed.
    report_data: On<'a, [u8; 64]>,
    manifest: Vec<u8>,
    /// What Q is over, before the quote.
    quoted_report: On<'a, Vec<u8>>,
    quote: On<'a, Quote>,
    attest: On<'a, Attest>,
}

fn guest<'a>(profile: Profile) -> Guest<'a> {
    let tpm = match profile {
        Profile::Snp => None,
        Profile::AzureSnp | Profile::SvsmSnp => Some(azure_tpm()),
        Profile::AwsSnp | Profile::GcpSnp => Some(gce_tpm()),
    };
    Guest {
        profile,
        tpm,
        config: Box::new(|_| {}),
        statement: Box::new(|_| {}),
        json: Box::new(|tpm, b| json(tpm, Some(&b.to_string()))),
        report_data: Box::new(|_| {}),
        manifest: ek_manifest(),
        quoted_report: Box::new(|_| {}),
        quote: Box::new(|_| {}),
        attest: Box::new(|_| {}),
    }
}

/// What a connection to that guest shows.
struct Shown {
    leaf_certificate: Vec<u8>,
    attest: Vec<u8>,
}

impl Guest<'_> {
    fn show(&self) -> Shown {
        let mut config = Config::new(Product::Milan);
        config.report_id = Some(ReportId::from_bytes([0x1D; 32]));
        (self.config)(&mut config);
        let mut sp = SimulatedAmdSp::new(pki(), config);
        // Any certificate has a key; which one it is makes no difference here.
        let leaf_certificate = sp.certificates().remove(0);
        let spki = spki_digest(&leaf_certificate).unwrap();
        let leaf = leaf_hash(LeafType::ChannelInitial, Role::Server, &spki, &Bind32::from_exporter([9; 32]));
        let mut statement = Statement {
            profile: self.profile,
            purpose: Purpose::Batch,
            root: Tree::build(&[leaf]).unwrap().root(),
            n: 1,
            spki,
            epoch: Epoch::from_bytes([3; 16]),
            counter: 1,
            ak: self.tpm.map(|tpm| sha256(&[&tpm.public()])),
            logs: vec![],
            config: Sha256Digest::from_bytes([5; 32]),
            names: vec![],
            time_ms: 1_800_000_000_000,
            upstream_scope: UpstreamScope::InsideGuest,
        };
        (self.statement)(&mut statement);
        let statement = statement.encode();
        let b = binder(&statement);
        let (hardware, report) = self.hardware(&mut sp, &b);
        let tpm = self.tpm.map(|tpm| {
            let mut report = report;
            (self.quoted_report)(&mut report);
            tpm.quote(&question(&b, &report), &self.quote)
        });
        let certificate = |bytes| Endorsement { media_type: media::CERTIFICATE.to_owned(), bytes };
        let mut attest = Attest {
            purpose: AttestPurpose::Initial,
            seq: 0,
            statement,
            index: 0,
            siblings: vec![],
            hardware: vec![hardware],
            tpm,
            endorsements: sp.certificates().into_iter().map(certificate).collect(),
            parts: vec![],
            identity: vec![],
            client_evidence_wanted: false,
            features: 0,
            pool_idle_ms: 0,
        };
        (self.attest)(&mut attest);
        Shown { leaf_certificate, attest: attest.encode() }
    }

    fn hardware(&self, sp: &mut SimulatedAmdSp, b: &Binder) -> ((HardwareFormat, Vec<u8>), Vec<u8>) {
        let mut signed = |mut data: [u8; 64]| {
            (self.report_data)(&mut data);
            sp.report(&data).unwrap()
        };
        match self.profile {
            Profile::Snp | Profile::AwsSnp | Profile::GcpSnp => {
                let report = signed(*b.as_bytes());
                ((HardwareFormat::SnpReport, report.clone()), report)
            }
            Profile::AzureSnp => {
                let json = (self.json)(self.tpm.unwrap_or(azure_tpm()), b);
                let mut data = [0; 64];
                data[..32].copy_from_slice(sha256(&[json.as_bytes()]).as_bytes());
                let report = signed(data);
                ((HardwareFormat::HclBlob, hcl_blob(&report, json.as_bytes())), report)
            }
            Profile::SvsmSnp => {
                let report = signed(*sha512(&[b.as_bytes(), &self.manifest]).as_bytes());
                let nonce = Nonce::from_bytes(*b.as_bytes());
                let evidence = SvsmEvidence { report: report.clone(), manifest: self.manifest.clone(), nonce };
                ((HardwareFormat::SvsmManifest, evidence.encode()), report)
            }
        }
    }

    fn verify(&self) -> Result<VerifiedEvidence, VerifyError> {
        self.show().verify(&anchors())
    }

    #[track_caller]
    fn refused_as(&self, id: &str) {
        match self.verify() {
            Ok(_) => panic!("accepted, wanted {id}"),
            Err(error) => assert_eq!(error.id(), id, "{error}"),
        }
    }
}

impl Shown {
    fn verify(&self, anchors: &TrustAnchors) -> Result<VerifiedEvidence, VerifyError> {
        let bind = Bind32::from_exporter([9; 32]);
        let connection = Connection { leaf_certificate: &self.leaf_certificate, bind, attest: &self.attest };
        verify_connection(&connection, anchors, NOW).map(|(evidence, _)| evidence)
    }
}

/// The content of NV index 0x01400001.
fn hcl_blob(report: &[u8], json: &[u8]) -> Vec<u8> {
    let length = u32::try_from(json.len()).unwrap();
    let mut blob = b"HCLA".to_vec();
    for word in [2, 32 + 1184 + 20 + length, 2, 0, 0, 0, 0] {
        blob.extend(word.to_le_bytes());
    }
    blob.extend(report);
    for word in [20 + length, 1, 2, 1, length] {
        blob.extend(word.to_le_bytes());
    }
    blob.extend(json);
    blob.resize(2600, 0);
    blob
}

const WITH_TPM: [Profile; 4] = [Profile::AwsSnp, Profile::GcpSnp, Profile::AzureSnp, Profile::SvsmSnp];

fn fatal_ids(evidence: VerifiedEvidence) -> Vec<&'static str> {
    let result = appraise(None, evidence);
    result.findings().iter().filter(|f| f.severity() == Severity::Fatal).map(|f| f.id()).collect()
}
