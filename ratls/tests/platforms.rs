//! Evidence of every profile through the real verifier: accepted as it is, and refused for each single thing that is wrong with
//! it (platforms.md §9 N30–N55, protocol.md §11 C1–C11). AMD-SP and TPMs are software: PROVES NOTHING.

#![allow(clippy::unwrap_used)]

mod shared;

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
use ratls::time::UnixTime;
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

/// The content of NV index 0x01400001 (platforms.md §7.2).
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

#[test]
fn evidence_of_every_profile_verifies_and_says_how_far_it_hangs_on_the_amd_sp() {
    for profile in Profile::ALL {
        let evidence = guest(profile).verify().unwrap_or_else(|error| panic!("{profile}: {error}"));
        assert_eq!((evidence.profile(), evidence.hw_freshness()), (profile, Freshness::Connect));
        let tpm = evidence.tpm().map(|tpm| (tpm.kind(), tpm.proof().as_str(), tpm.link(), tpm.freshness()));
        let wanted = match profile {
            Profile::Snp => None,
            // Nobody vouches for these keys: no certificate came, no round trip was made.
            Profile::AwsSnp | Profile::GcpSnp => {
                Some((TpmKind::Host, "unproven", Link::GuestAsserted, Freshness::Connect))
            }
            Profile::AzureSnp => Some((TpmKind::Paravisor, "paravisor", Link::FirmwareAsserted, Freshness::Connect)),
            Profile::SvsmSnp => Some((TpmKind::Svsm, "unproven", Link::GuestAsserted, Freshness::Connect)),
        };
        assert_eq!(tpm, wanted, "{profile}");
        assert_eq!(evidence.hcl().is_some(), profile == Profile::AzureSnp);
        assert_eq!(evidence.svsm().is_some(), profile == Profile::SvsmSnp);
        assert!(evidence.simulated());
    }
}

#[test]
fn a_quote_with_pss_verifies_too() {
    let tpm = SoftTpm::pss();
    assert!(Guest { tpm: Some(&tpm), ..guest(Profile::AzureSnp) }.verify().is_ok());
}

#[test]
fn plat_n30_what_no_tpm_made_is_no_quote() {
    for profile in WITH_TPM {
        Guest { quote: Box::new(|q| q.magic = 0xFF54_4348), ..guest(profile) }.refused_as("Q_MAGIC");
        Guest { quote: Box::new(|q| q.kind = 0x8017), ..guest(profile) }.refused_as("Q_TYPE");
    }
}

#[test]
fn plat_n31_a_key_without_the_attributes_of_an_ak_is_refused() {
    // userWithAuth and noDA say nothing; each of the others makes it an AK, and decrypt unmakes it.
    for bit in [1, 4, 5, 16, 17, 18] {
        let tpm = SoftTpm::gce().with_attributes(0x0005_0072 ^ 1 << bit);
        Guest { tpm: Some(&tpm), ..guest(Profile::GcpSnp) }.refused_as("Q_AK");
    }
}

#[test]
fn plat_n32_a_key_that_the_paravisor_does_not_name_is_refused() {
    Guest { json: Box::new(|_, b| json(other_tpm(), Some(&b.to_string()))), ..guest(Profile::AzureSnp) }
        .refused_as("Q_AK");
}

#[test]
fn plat_n34_values_are_of_exactly_the_selected_registers_of_one_bank() {
    for profile in WITH_TPM {
        Guest { quote: Box::new(|q| q.selections[0].1 = bitmap(0..8)), ..guest(profile) }.refused_as("Q_SEL");
        Guest { quote: Box::new(|q| q.selections[0].1 = bitmap(1..17)), ..guest(profile) }.refused_as("Q_SEL");
        Guest { quote: Box::new(|q| q.selections[0].0 = 0x000C), ..guest(profile) }.refused_as("Q_SEL");
        Guest { quote: Box::new(|q| q.selections[0].0 = 0x0004), ..guest(profile) }.refused_as("Q_SEL");
        Guest { quote: Box::new(|q| q.selections.push((0x0C, [0, 0, 0]))), ..guest(profile) }.refused_as("Q_SEL");
        let sha1 = |attest: &mut Attest| attest.tpm.as_mut().unwrap().bank = 0x0004;
        Guest { attest: Box::new(sha1), ..guest(profile) }.refused_as("Q_SEL");
    }
}

#[test]
fn proto_c5_a_selection_of_nothing_or_of_other_registers_is_refused() {
    let nothing = |q: &mut Quote| {
        q.selections[0].1 = [0; 3];
        q.pcr_digest = sha256(&[]).as_bytes().to_vec();
    };
    Guest { quote: Box::new(nothing), ..guest(Profile::GcpSnp) }.refused_as("Q_SEL");
    let one_less = |attest: &mut Attest| drop(attest.tpm.as_mut().unwrap().pcrs.remove(&7));
    Guest { attest: Box::new(one_less), ..guest(Profile::GcpSnp) }.refused_as("Q_SEL");
    let one_more = |attest: &mut Attest| drop(attest.tpm.as_mut().unwrap().pcrs.insert(23, vec![0; 32]));
    Guest { attest: Box::new(one_more), ..guest(Profile::GcpSnp) }.refused_as("Q_SEL");
}

#[test]
fn plat_n35_the_digest_is_the_scheme_s_hash_over_ascending_registers() {
    let values = |tpm: &SoftTpm| tpm.pcrs.values().cloned().collect::<Vec<_>>();
    let tpm = gce_tpm();
    let reversed = |q: &mut Quote| {
        let values = values(tpm);
        q.pcr_digest = sha256(&values.iter().rev().map(Vec::as_slice).collect::<Vec<_>>()).as_bytes().to_vec();
    };
    Guest { quote: Box::new(reversed), ..guest(Profile::GcpSnp) }.refused_as("Q_DIG");
    let other_hash = |q: &mut Quote| {
        let values = values(tpm);
        q.pcr_digest = sha384_digest(&values.iter().map(Vec::as_slice).collect::<Vec<_>>());
    };
    Guest { quote: Box::new(other_hash), ..guest(Profile::GcpSnp) }.refused_as("Q_DIG");
    let printed = |attest: &mut Attest| attest.tpm.as_mut().unwrap().pcrs.get_mut(&4).unwrap()[0] ^= 1;
    Guest { attest: Box::new(printed), ..guest(Profile::GcpSnp) }.refused_as("Q_DIG");
}

#[test]
fn plat_n36_the_question_is_answered_whole() {
    for profile in WITH_TPM {
        Guest { quote: Box::new(|q| q.extra_data.truncate(31)), ..guest(profile) }.refused_as("Q_NONCE");
        Guest { quote: Box::new(|q| q.extra_data.push(0)), ..guest(profile) }.refused_as("Q_NONCE");
        Guest { quote: Box::new(|q| q.extra_data.clear()), ..guest(profile) }.refused_as("Q_NONCE");
        Guest { quote: Box::new(|q| q.extra_data[31] ^= 1), ..guest(profile) }.refused_as("Q_NONCE");
    }
}

#[test]
fn a_quote_names_its_signer_and_is_signed_by_it() {
    for profile in WITH_TPM {
        Guest { quote: Box::new(|q| q.qualified_signer[9] ^= 1), ..guest(profile) }.refused_as("Q_QN");
        let forged = |attest: &mut Attest| *attest.tpm.as_mut().unwrap().signature.last_mut().unwrap() ^= 1;
        Guest { attest: Box::new(forged), ..guest(profile) }.refused_as("Q_SIG");
        let other_scheme = |attest: &mut Attest| attest.tpm.as_mut().unwrap().signature[1] ^= 2;
        Guest { attest: Box::new(other_scheme), ..guest(profile) }.refused_as("Q_SIG");
        let sha1 = |attest: &mut Attest| attest.tpm.as_mut().unwrap().signature[3] = 4;
        Guest { attest: Box::new(sha1), ..guest(profile) }.refused_as("Q_SIG");
    }
}

#[test]
fn proto_c1_a_stripped_tpm_is_missed_by_the_statement_or_shown_as_missing() {
    for profile in WITH_TPM {
        Guest { attest: Box::new(|attest| attest.tpm = None), ..guest(profile) }.refused_as("B_TPM");
        Guest { statement: Box::new(|statement| statement.ak = None), ..guest(profile) }.refused_as("B_TPM");
        let without = Guest { tpm: None, ..guest(profile) }.verify().unwrap();
        assert!(without.tpm().is_none(), "{profile}: which is for the policy to judge");
    }
    let unasked = |attest: &mut Attest| attest.tpm = Some(gce_tpm().quote(&[0; 32], |_| {}));
    Guest { attest: Box::new(unasked), ..guest(Profile::Snp) }.refused_as("B_PROFILE");
}

#[test]
fn proto_c2_a_quote_by_another_key_than_the_statement_names_is_refused() {
    for profile in WITH_TPM {
        let swapped = |attest: &mut Attest| {
            let quote = attest.tpm.as_ref().unwrap();
            let asked = quote.attest[44..76].to_vec();
            attest.tpm = Some(other_tpm().quote(&asked, |_| {}));
        };
        Guest { attest: Box::new(swapped), ..guest(profile) }.refused_as("Q_AK");
    }
}

#[test]
fn proto_c3_and_c4_a_quote_over_another_report_is_refused() {
    for profile in WITH_TPM {
        Guest { quoted_report: Box::new(|report| report[0x90] ^= 1), ..guest(profile) }.refused_as("Q_NONCE");
    }
    // Another machine's quote over the same B: its report is another one, whoever's TPM it is.
    let another_guest = guest(Profile::GcpSnp).show();
    let Ok(theirs) = Attest::parse(&another_guest.attest) else { panic!("it parses") };
    let its_quote = |attest: &mut Attest| attest.tpm = theirs.tpm.clone();
    Guest {
        config: Box::new(|config| config.report_id = Some(ReportId::from_bytes([7; 32]))),
        attest: Box::new(its_quote),
        ..guest(Profile::GcpSnp)
    }
    .refused_as("Q_NONCE");
}

#[test]
fn the_hardware_signed_b_wherever_the_profile_has_it() {
    for profile in [Profile::Snp, Profile::AwsSnp, Profile::GcpSnp] {
        Guest { report_data: Box::new(|data| data[63] ^= 1), ..guest(profile) }.refused_as("R_FRESH");
    }
    Guest { report_data: Box::new(|data| data[31] ^= 1), ..guest(Profile::AzureSnp) }.refused_as("H_HASH");
    Guest { report_data: Box::new(|data| data[63] ^= 1), ..guest(Profile::SvsmSnp) }.refused_as("H_MANIFEST");
    let other_nonce = |attest: &mut Attest| {
        let mut evidence = SvsmEvidence::parse(&attest.hardware[0].1).unwrap();
        evidence.nonce = Nonce::from_bytes([1; 64]);
        attest.hardware[0].1 = evidence.encode();
    };
    Guest { attest: Box::new(other_nonce), ..guest(Profile::SvsmSnp) }.refused_as("R_FRESH");
}

#[test]
fn plat_n44_the_json_has_one_reading_and_is_hashed_as_it_came() {
    let azure = |json: Json<'static>| Guest { json, ..guest(Profile::AzureSnp) };
    let good = |tpm: &SoftTpm, b: &Binder| json(tpm, Some(&b.to_string()));
    // Hashed by the paravisor as it is, so only the reader can refuse it.
    azure(Box::new(move |tpm, b| good(tpm, b).replacen("{\"kid\"", "{\"kid\":\"HCLAkPub\",\"kid\"", 1)))
        .refused_as("H_JSON");
    azure(Box::new(move |tpm, b| good(tpm, b).replacen('{', "{\"user-data\":\"00\",", 1))).refused_as("H_JSON");
    azure(Box::new(move |tpm, b| {
        let key =
            format!(r#"{{"kid":"HCLAkPub","kty":"RSA","e":"AQAB","n":"{}"}},"#, base64url(&other_tpm().modulus()));
        good(tpm, b).replacen("\"keys\":[", &format!("\"keys\":[{key}"), 1)
    }))
    .refused_as("H_JSON");
    azure(Box::new(move |tpm, b| good(tpm, b) + " {}")).refused_as("H_JSON");
    azure(Box::new(move |tpm, b| good(tpm, b).replace("HCLAkPub", "HCLOther"))).refused_as("H_KEY");
    azure(Box::new(move |tpm, b| good(tpm, b).replace("AQAB", "Aw"))).refused_as("H_KEY");
    azure(Box::new(move |tpm, b| good(tpm, b).replace(&base64url(&tpm.modulus()), &base64url(&[0; 256]))))
        .refused_as("H_KEY");
    // White space that the paravisor hashed is no lie.
    assert!(azure(Box::new(move |tpm, b| good(tpm, b).replace(",\"", ", \""))).verify().is_ok());
}

#[test]
fn proto_c7_a_json_that_was_written_anew_is_refused() {
    let rewritten = |attest: &mut Attest| {
        let blob = &mut attest.hardware[0].1;
        let at = blob.windows(2).position(|w| w == b",\"").unwrap();
        blob.splice(at..at + 2, *b", \"");
        blob.truncate(2600);
        let length = u32::from_le_bytes(blob[1232..1236].try_into().unwrap()) + 1;
        blob[1232..1236].copy_from_slice(&length.to_le_bytes());
        blob[1216..1220].copy_from_slice(&(length + 20).to_le_bytes());
    };
    Guest { attest: Box::new(rewritten), ..guest(Profile::AzureSnp) }.refused_as("H_HASH");
}

#[test]
fn plat_n45_headers_that_are_not_signed_decide_nothing() {
    let blob = |at: usize, value: u8| {
        Box::new(move |attest: &mut Attest| attest.hardware[0].1[at] = value) as On<'static, Attest>
    };
    let azure = |attest| Guest { attest, ..guest(Profile::AzureSnp) };
    azure(blob(1224, 4)).refused_as("H_TYPE");
    azure(blob(1224, 5)).refused_as("H_TYPE");
    azure(blob(1228, 2)).refused_as("H_HASH");
    azure(blob(1228, 3)).refused_as("H_HASH");
    azure(blob(1228, 0)).refused_as("H_PARSE");
    azure(blob(1220, 3)).refused_as("H_PARSE");
    azure(blob(1216, 0)).refused_as("H_PARSE");
    azure(blob(0, b'h')).refused_as("H_PARSE");
    azure(blob(4, 9)).refused_as("H_PARSE");
    Guest { report_data: Box::new(|data| data[63] = 1), ..guest(Profile::AzureSnp) }.refused_as("H_HASH");
}

#[test]
fn plat_n46_user_data_is_b_or_the_report_is_not_fresh() {
    let with = |user_data: Option<String>| Guest {
        json: Box::new(move |tpm, _| json(tpm, user_data.as_deref())),
        ..guest(Profile::AzureSnp)
    };
    with(Some("00".repeat(64))).refused_as("R_FRESH");
    with(Some("11".repeat(64))).refused_as("R_FRESH");
    with(Some("00".repeat(63))).refused_as("H_JSON");
    let prefix = Guest {
        json: Box::new(|tpm, b| json(tpm, Some(&format!("{}{}", &b.to_string()[..64], "00".repeat(32))))),
        ..guest(Profile::AzureSnp)
    };
    prefix.refused_as("R_FRESH");
    let old = with(None).verify().unwrap();
    assert_eq!(old.hw_freshness(), Freshness::Stale);
    let tpm = old.tpm().unwrap();
    assert_eq!((tpm.freshness(), old.hcl().unwrap().user_data), (Freshness::Connect, None));
}

#[test]
fn plat_n47_an_old_paravisors_report_of_any_day_is_never_fresh() {
    // The report was made for somebody else, long ago; the key is the same and quotes now.
    let old = Guest { json: Box::new(|tpm, _| json(tpm, None)), ..guest(Profile::AzureSnp) };
    let recorded = Attest::parse(&old.show().attest).unwrap().hardware.remove(0);
    let replayed = |attest: &mut Attest| {
        let b = binder(&attest.statement);
        let report = &recorded.1[32..1216];
        attest.tpm = Some(azure_tpm().quote(&question(&b, report), |_| {}));
        attest.hardware = vec![recorded.clone()];
    };
    let replay = Guest {
        statement: Box::new(|statement| statement.counter = 99),
        attest: Box::new(replayed),
        ..guest(Profile::AzureSnp)
    };
    assert_eq!(replay.verify().unwrap().hw_freshness(), Freshness::Stale, "so the AMD-SP vouches for nothing of now");
    let nothing_of_now = Guest { tpm: None, json: Box::new(|tpm, _| json(tpm, None)), ..guest(Profile::AzureSnp) };
    nothing_of_now.refused_as("R_FRESH");
}

#[test]
fn plat_n48_proto_c9_certificates_of_another_chip_or_tcb_are_refused() {
    for profile in Profile::ALL {
        let of = |change: fn(&mut Config)| {
            let mut config = Config::new(Product::Milan);
            change(&mut config);
            let certificates = SimulatedAmdSp::new(pki(), config).certificates();
            Box::new(move |attest: &mut Attest| {
                for (endorsement, bytes) in attest.endorsements.iter_mut().zip(&certificates) {
                    endorsement.bytes = bytes.clone();
                }
            }) as On<'static, Attest>
        };
        let chip: fn(&mut Config) = |config| config.chip_id = Some(ratls::evidence::snp::ChipId::from_bytes([9; 64]));
        Guest { attest: of(chip), ..guest(profile) }.refused_as("E_CHIP_ID");
        let tcb: fn(&mut Config) = |config| config.reported_tcb.snp -= 1;
        Guest { attest: of(tcb), ..guest(profile) }.refused_as("R_TCB");
        let none = |attest: &mut Attest| attest.endorsements.clear();
        Guest { attest: Box::new(none), ..guest(profile) }.refused_as("E_NO_ENDORSEMENT");
    }
}

#[test]
fn proto_c6_a_log_is_the_one_that_the_statement_commits_to() {
    let log = b"log of this boot".to_vec();
    let committed = |statement: &mut Statement| {
        let digest = sha256(&[&log]);
        statement.logs = vec![LogDigest { name: part::EVENT_LOG.to_owned(), length: 16, digest }];
    };
    let listed = |bytes: &[u8], length: u32| {
        let digest = sha256(&[bytes]);
        let info =
            PartInfo { name: part::EVENT_LOG.to_owned(), digest, length, media_type: media::EVENT_LOG.to_owned() };
        Box::new(move |attest: &mut Attest| attest.parts = vec![info.clone()]) as On<'static, Attest>
    };
    let with = |attest| Guest { statement: Box::new(committed), attest, ..guest(Profile::GcpSnp) };
    assert!(with(listed(&log, 16)).verify().is_ok());
    with(listed(b"log of that boot", 16)).refused_as("B_LOGS");
    with(listed(&log, 15)).refused_as("B_LOGS");
    Guest { attest: listed(&log, 16), ..guest(Profile::GcpSnp) }.refused_as("B_LOGS");
}

#[test]
fn proto_c8_plat_n03_at_another_vmpl_anybody_can_have_asked() {
    for profile in [Profile::SvsmSnp, Profile::AzureSnp] {
        for vmpl in 1..=3 {
            let evidence =
                Guest { config: Box::new(move |config| config.vmpl = vmpl), ..guest(profile) }.verify().unwrap();
            assert_eq!(evidence.tpm().unwrap().link(), Link::GuestAsserted);
            assert!(fatal_ids(evidence).contains(&"R_VMPL"), "{profile} at VMPL {vmpl}");
        }
    }
}

#[test]
fn proto_c11_a_simulated_chain_is_refused_where_no_policy_names_its_root() {
    for profile in Profile::ALL {
        let error = guest(profile).show().verify(&TrustAnchors::amd()).unwrap_err();
        assert_eq!(error.id(), "E_ROOT", "{error}");
    }
}

#[test]
fn hardware_of_another_platform_is_refused() {
    for profile in Profile::ALL {
        for other in [HardwareFormat::SnpReport, HardwareFormat::HclBlob, HardwareFormat::SvsmManifest] {
            let relabelled = |attest: &mut Attest| attest.hardware[0].0 = other;
            let own = guest(profile).show().attest;
            if Attest::parse(&own).unwrap().hardware[0].0 != other {
                Guest { attest: Box::new(relabelled), ..guest(profile) }.refused_as("B_PROFILE");
            }
        }
        Guest { attest: Box::new(|attest| attest.hardware.clear()), ..guest(profile) }.refused_as("B_NO_REPORT");
        let beside = |attest: &mut Attest| attest.hardware.push((HardwareFormat::NitroDocument, vec![1]));
        if profile != Profile::AwsSnp {
            Guest { attest: Box::new(beside), ..guest(profile) }.refused_as("B_PROFILE");
        }
    }
}

#[test]
fn plat_n54_only_the_manifest_in_the_report_says_what_the_ek_is() {
    let other_key = |attest: &mut Attest| {
        let mut evidence = SvsmEvidence::parse(&attest.hardware[0].1).unwrap();
        evidence.manifest[100] ^= 1;
        attest.hardware[0].1 = evidence.encode();
    };
    Guest { attest: Box::new(other_key), ..guest(Profile::SvsmSnp) }.refused_as("H_MANIFEST");
    // Hashed by the SVSM, and not that of a vTPM.
    Guest { manifest: vec![1, 0, 0, 0], ..guest(Profile::SvsmSnp) }.refused_as("H_MANIFEST");
    Guest { manifest: [ek_manifest(), vec![0]].concat(), ..guest(Profile::SvsmSnp) }.refused_as("H_MANIFEST");
}

/// The secret is ours, so that the answer can be given without a TPM.
fn asked(evidence: &VerifiedEvidence) -> Result<Question, CredentialError> {
    Question::new(evidence, &Seed::from_bytes([1; 32]), CredentialSecret::from_bytes([2; 32]))
}

#[test]
fn plat_n55_an_ak_is_proven_by_the_secret_and_by_nothing_else() {
    if ratls::crypto::BACKEND == "ring" {
        let evidence = guest(Profile::SvsmSnp).verify().unwrap();
        assert!(matches!(asked(&evidence), Err(CredentialError::Unsupported)));
        return;
    }
    let mut evidence = guest(Profile::SvsmSnp).verify().unwrap();
    assert_eq!(evidence.tpm().unwrap().link(), Link::GuestAsserted);
    let wrong = CredentialResponse { secret: CredentialSecret::from_bytes([3; 32]) };
    assert_eq!(asked(&evidence).unwrap().answered(&wrong), Err(CredentialError::Secret));
    let right = CredentialResponse { secret: CredentialSecret::from_bytes([2; 32]) };
    let proof = asked(&evidence).unwrap().answered(&right).unwrap();
    assert!(proof.is_of(&CredentialProof::key(&evidence).unwrap()));

    let mut another_guest = Guest {
        config: Box::new(|config| config.report_id = Some(ReportId::from_bytes([7; 32]))),
        ..guest(Profile::SvsmSnp)
    }
    .verify()
    .unwrap();
    assert_eq!(another_guest.prove_ak(&proof), Err(CredentialError::Other));
    let mut another_ak = Guest { tpm: Some(gce_tpm()), ..guest(Profile::SvsmSnp) }.verify().unwrap();
    assert_eq!(another_ak.prove_ak(&proof), Err(CredentialError::Other));
    let mut another_ek = ek_manifest();
    another_ek[100] ^= 1;
    let mut another_ek = Guest { manifest: another_ek, ..guest(Profile::SvsmSnp) }.verify().unwrap();
    assert_eq!(another_ek.prove_ak(&proof), Err(CredentialError::Other));
    let mut azure = guest(Profile::AzureSnp).verify().unwrap();
    assert_eq!(azure.prove_ak(&proof), Err(CredentialError::NothingToProve));

    evidence.prove_ak(&proof).unwrap();
    assert_eq!(evidence.tpm().unwrap().link(), Link::FirmwareAsserted);
    assert!(matches!(evidence.tpm().unwrap().proof(), AkProof::Credential));
}

#[test]
fn every_piece_of_the_tpm_is_bound_to_every_other() {
    for profile in WITH_TPM {
        let flips: [Flip; 4] = [
            ("attest", |tpm| tpm.attest[50] ^= 1),
            ("signature", |tpm| tpm.signature[40] ^= 1),
            ("public", |tpm| *tpm.public.last_mut().unwrap() ^= 1),
            ("pcrs", |tpm| tpm.pcrs.get_mut(&0).unwrap()[0] ^= 1),
        ];
        for (what, flip) in flips {
            let changed =
                Guest { attest: Box::new(move |attest| flip(attest.tpm.as_mut().unwrap())), ..guest(profile) };
            assert!(changed.verify().is_err(), "{profile}: {what}");
        }
    }
}

// ---- who vouches: the clouds' certificates and documents

/// The clouds' authorities, as their emulators have them.
struct Clouds {
    azure: simulator::cloud::azure::Authorities,
    gce: simulator::cloud::gce::Authorities,
    aws: simulator::cloud::aws::Authorities,
}

fn clouds() -> &'static Clouds {
    static CLOUDS: OnceLock<Clouds> = OnceLock::new();
    CLOUDS.get_or_init(|| {
        use simulator::cloud::{aws, azure, gce};
        let dir = tempfile::tempdir().unwrap();
        let (dir, size) = (dir.path(), RsaSize::Bits2048);
        Clouds {
            azure: azure::Authorities::load_or_create(dir, pki(), size).unwrap(),
            gce: gce::Authorities::load_or_create(dir, pki(), size).unwrap(),
            aws: aws::Authorities::load_or_create(dir, pki()).unwrap(),
        }
    })
}

fn anchors_with_clouds() -> TrustAnchors {
    let clouds = clouds();
    let roots = [clouds.azure.root_pem(), clouds.gce.root_pem(), clouds.aws.root_pem()].concat();
    anchors().with_simulator_root(roots.as_bytes()).unwrap()
}

fn certified<'a>(certificates: Vec<Vec<u8>>) -> On<'a, Attest> {
    Box::new(move |attest| {
        let certificates = certificates.iter().cloned();
        let endorsement = |bytes| Endorsement { media_type: media::CERTIFICATE.to_owned(), bytes };
        attest.endorsements.extend(certificates.map(endorsement));
    })
}

fn gce_certificates(tpm: &SoftTpm) -> Vec<Vec<u8>> {
    let gce = &clouds().gce;
    vec![
        gce.ak_certificate(&simulator::cloud::gce::Instance::new(), &tpm.spki(), "http://127.0.0.1"),
        gce.intermediate(),
    ]
}

fn azure_certificates(tpm: &SoftTpm) -> Vec<Vec<u8>> {
    use simulator::cloud::azure::Hierarchy;
    let (azure, url) = (&clouds().azure, "http://127.0.0.1");
    let name = "0123456789ab.ConfidentialVM.Azure.windows.net";
    [
        vec![azure.ak_certificate(Hierarchy::Cloud, name, &tpm.modulus(), url)],
        azure.intermediates(Hierarchy::Cloud, url),
    ]
    .concat()
}

impl Guest<'_> {
    fn verify_with_clouds(&self) -> Result<VerifiedEvidence, VerifyError> {
        self.show().verify(&anchors_with_clouds())
    }
}

#[test]
fn a_certificate_of_the_cloud_makes_a_key_the_vendor_s_and_no_more() {
    let gce = Guest { attest: certified(gce_certificates(gce_tpm())), ..guest(Profile::GcpSnp) };
    let evidence = gce.verify_with_clouds().unwrap();
    let tpm = evidence.tpm().unwrap();
    assert_eq!((tpm.link(), tpm.proof().as_str(), tpm.simulated()), (Link::VendorPki, "certificate", true));
    assert!(tpm.proof().certificate().is_some());
    let azure = Guest { attest: certified(azure_certificates(azure_tpm())), ..guest(Profile::AzureSnp) };
    let evidence = azure.verify_with_clouds().unwrap();
    let tpm = evidence.tpm().unwrap();
    assert_eq!((tpm.link(), tpm.proof().as_str()), (Link::FirmwareAsserted, "paravisor"));
    assert!(tpm.proof().certificate().is_some());
    // At another VMPL the paravisor vouches for nothing, and the certificate remains.
    let azure = Guest { config: Box::new(|config| config.vmpl = 2), ..azure };
    assert_eq!(azure.verify_with_clouds().unwrap().tpm().unwrap().link(), Link::VendorPki);
}

#[test]
fn plat_n33_a_certificate_for_another_key_is_refused() {
    let others = SoftTpm::gce();
    let gce = Guest { attest: certified(gce_certificates(&others)), ..guest(Profile::GcpSnp) };
    assert_eq!(gce.verify_with_clouds().unwrap_err().id(), "T_AK_KEY");
    let azure = Guest { attest: certified(azure_certificates(other_tpm())), ..guest(Profile::AzureSnp) };
    assert_eq!(azure.verify_with_clouds().unwrap_err().id(), "T_AK_KEY");
    let unknown_root = Guest { attest: certified(gce_certificates(gce_tpm())), ..guest(Profile::GcpSnp) };
    unknown_root.refused_as("T_AK_ROOT");
}

/// A document that the Nitro system made for this guest, changed before it is signed.
fn with_document<'a>(change: impl Fn(&mut simulator::cloud::aws::Asked) + 'a) -> Guest<'a> {
    let document = move |attest: &mut Attest| {
        let b = binder(&attest.statement);
        let mut asked = simulator::cloud::aws::Asked {
            nonce: Some(b.as_bytes().to_vec()),
            user_data: Some(sha384(&[&attest.hardware[0].1]).as_bytes().to_vec()),
            public_key: None,
        };
        change(&mut asked);
        let pcrs: Vec<Vec<u8>> = (0..24).map(|index| sha384(&[&[index]]).as_bytes().to_vec()).collect();
        let module = "i-0123456789abcdef0-tpm0000000000000000";
        let now_ms = u64::try_from(NOW.as_secs()).unwrap() * 1000;
        let document = clouds().aws.document(module, &pcrs, &asked, now_ms);
        attest.hardware.push((HardwareFormat::NitroDocument, document));
    };
    Guest { tpm: None, attest: Box::new(document), ..guest(Profile::AwsSnp) }
}

#[test]
fn a_nitro_document_speaks_for_the_registers_and_is_no_link_to_the_amd_sp() {
    let evidence = with_document(|_| {}).verify_with_clouds().unwrap();
    let tpm = evidence.tpm().unwrap();
    assert_eq!((tpm.kind(), tpm.link(), tpm.proof().as_str()), (TpmKind::Host, Link::VendorPki, "document"));
    assert_eq!((tpm.pcrs().indices().count(), tpm.ak(), tpm.clock()), (24, None, None));
    assert!(evidence.not_after() < evidence.report().vek().not_after(), "the document lives for hours");
    // Beside a quote it is the document that counts, and the quote must still be good.
    let both = Guest { tpm: Some(gce_tpm()), ..with_document(|_| {}) };
    assert_eq!(both.verify_with_clouds().unwrap().tpm().unwrap().proof().as_str(), "document");
    let bad = Guest { quote: Box::new(|q| q.extra_data[0] ^= 1), ..both };
    assert_eq!(bad.verify_with_clouds().unwrap_err().id(), "Q_NONCE");
}

#[test]
fn plat_n50_a_document_answers_this_statement_and_this_report_and_its_public_key_says_nothing() {
    let id = |change: fn(&mut simulator::cloud::aws::Asked)| {
        with_document(change).verify_with_clouds().map(|_| "").unwrap_or_else(|e| e.id())
    };
    assert_eq!(id(|asked| asked.nonce.as_mut().unwrap()[63] ^= 1), "N_NONCE");
    assert_eq!(id(|asked| asked.nonce.as_mut().unwrap().truncate(63)), "N_NONCE");
    assert_eq!(id(|asked| asked.nonce = None), "N_NONCE");
    assert_eq!(id(|asked| asked.user_data.as_mut().unwrap()[0] ^= 1), "N_REPORT");
    assert_eq!(id(|asked| asked.user_data = None), "N_REPORT");
    // The guest itself chooses it, so it neither harms nor helps.
    let with_key = with_document(|asked| asked.public_key = Some(gce_tpm().spki()));
    let with_key = Guest { tpm: Some(gce_tpm()), ..with_key };
    assert_eq!(with_key.verify_with_clouds().unwrap().tpm().unwrap().link(), Link::VendorPki);
    let unknown_root = with_document(|_| {});
    unknown_root.refused_as("N_ROOT");
}

// ---- parts

#[test]
fn proto_c6_parts_belong_to_the_evidence_or_are_refused() {
    let log = shared::logs::good().bytes();
    let settings = b"settings".to_vec();
    let committed = |statement: &mut Statement| {
        let length = u64::try_from(log.len()).unwrap();
        statement.logs = vec![LogDigest { name: part::EVENT_LOG.to_owned(), length, digest: sha256(&[&log]) }];
        statement.config = sha256(&[&settings]);
    };
    let info = |name: &str, bytes: &[u8]| PartInfo {
        name: name.to_owned(),
        digest: sha256(&[bytes]),
        length: u32::try_from(bytes.len()).unwrap(),
        media_type: media::EVENT_LOG.to_owned(),
    };
    let listed = |attest: &mut Attest| {
        attest.parts = vec![
            info(part::EVENT_LOG, &log),
            info(part::SETTINGS, &settings),
            info(part::IMA_LOG, b"not an IMA list"),
            info(part::GCE_ENDORSEMENT, b"not an endorsement"),
        ];
    };
    let mut evidence =
        Guest { statement: Box::new(committed), attest: Box::new(listed), ..guest(Profile::GcpSnp) }.verify().unwrap();
    assert_eq!(evidence.listed_parts().len(), 4);
    assert!(evidence.parts().event_log().is_none());
    let mut add = |name: &str, bytes: &[u8], anchors: &TrustAnchors| {
        Part::read(name, bytes).and_then(|part| evidence.add_part(&part, anchors)).map_err(|error| error.id())
    };
    assert_eq!(add(part::EVENT_LOG, &log, &anchors()), Ok(()));
    assert_eq!(add(part::SETTINGS, &settings, &anchors()), Ok(()));
    assert_eq!(add(part::SETTINGS, b"others", &anchors()), Err("B_PART"));
    assert!(add(part::IMA_LOG, b"not an IMA list", &anchors()).is_err());
    assert!(add(part::EVENT_LOG, &log[..log.len() - 1], &anchors()).is_err(), "truncated");
    let longer = shared::logs::good().separator(9).bytes();
    assert_eq!(add(part::EVENT_LOG, &longer, &anchors()), Err("B_PART"), "a good log of another boot");
    // Nobody named a root for it, so nothing rests on it; with one it must be genuine.
    assert_eq!(add(part::GCE_ENDORSEMENT, b"not an endorsement", &anchors_with_clouds()), Err("G_PARSE"));
    assert!(evidence.parts().event_log().is_some() && evidence.parts().settings() == Some(&settings[..]));
    assert!(evidence.parts().ima_list().is_none() && evidence.parts().gce_endorsement().is_none());
}

// ---- bundles and policies

fn bundle(shown: &Shown, parts: &[&[u8]], witnessed_ak: bool) -> Bundle {
    Bundle {
        attest: shown.attest.clone(),
        parts: parts.iter().map(|part| (sha256(&[part]), part.to_vec())).collect(),
        leaf_certificate: shown.leaf_certificate.clone(),
        bind: Bind32::from_exporter([9; 32]),
        received: NOW,
        witnessed_ak,
    }
}

#[test]
fn a_bundle_of_every_platform_verifies_again_and_is_of_no_connection() {
    for profile in Profile::ALL {
        let log = shared::logs::good().bytes();
        let length = u32::try_from(log.len()).unwrap();
        let committed = |statement: &mut Statement| {
            let digest = sha256(&[&log]);
            statement.logs = vec![LogDigest { name: part::EVENT_LOG.to_owned(), length: length.into(), digest }];
        };
        let listed = |attest: &mut Attest| {
            let (digest, media_type) = (sha256(&[&log]), media::EVENT_LOG.to_owned());
            attest.parts = vec![PartInfo { name: part::EVENT_LOG.to_owned(), digest, length, media_type }];
        };
        let shown = Guest { statement: Box::new(committed), attest: Box::new(listed), ..guest(profile) }.show();
        let saved = Bundle::parse(&bundle(&shown, &[&log], false).encode()).unwrap();
        let (evidence, _) = verify_bundle(&saved, &anchors(), NOW).unwrap();
        assert_eq!((evidence.channel(), evidence.hw_freshness()), (Channel::None, Freshness::None));
        assert!(evidence.tpm().is_none_or(|tpm| tpm.freshness() == Freshness::None));
        assert!(evidence.parts().event_log().is_some(), "{profile}");
        let truncated = bundle(&shown, &[&log[..log.len() - 1]], false);
        let (evidence, _) = verify_bundle(&truncated, &anchors(), NOW).unwrap();
        assert!(evidence.parts().event_log().is_none(), "a part that nobody listed is no part");
    }
}

/// Decision 18: recorded as witnessed, not re-verifiable.
#[test]
fn a_bundle_says_that_its_witness_saw_the_ak_proven_where_there_was_something_to_prove() {
    let verified = |profile, witnessed| {
        let saved = bundle(&guest(profile).show(), &[], witnessed);
        verify_bundle(&saved, &anchors(), NOW).map(|(evidence, _)| evidence.tpm().map(|tpm| tpm.proof().as_str()))
    };
    assert_eq!(verified(Profile::SvsmSnp, true).unwrap(), Some("witnessed"));
    assert_eq!(verified(Profile::SvsmSnp, false).unwrap(), Some("unproven"));
    let warned = |witnessed| {
        let saved = bundle(&guest(Profile::SvsmSnp).show(), &[], witnessed);
        let result = appraise(None, verify_bundle(&saved, &anchors(), NOW).unwrap().0);
        result.findings().iter().any(|f| f.id() == "T_AK_WITNESSED" && f.severity() == Severity::Warning)
    };
    assert!(warned(true) && !warned(false));
    for profile in [Profile::Snp, Profile::AzureSnp, Profile::GcpSnp] {
        assert_eq!(verified(profile, true).unwrap_err().id(), "T_AK_PROOF");
    }
}

#[test]
fn proto_c10_evidence_of_another_profile_than_the_policy_names_is_refused() {
    let policy = |name: &str| {
        let file = format!("{}/../examples/policies/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        AppraisalPolicy::parse(&std::fs::read_to_string(&file).unwrap(), &file).unwrap()
    };
    let judged = |profile, policy: &AppraisalPolicy| {
        let result = appraise(Some(policy), guest(profile).verify().unwrap());
        result.findings().iter().any(|f| f.id() == "P_PROFILE" && f.severity() == Severity::Fatal)
    };
    for (name, own) in [("azure", Profile::AzureSnp), ("svsm", Profile::SvsmSnp), ("gcp", Profile::GcpSnp)] {
        let policy = policy(name);
        for profile in Profile::ALL {
            assert_eq!(judged(profile, &policy), profile != own, "{profile} under {name}.toml");
        }
    }
}

// ---- what is remembered

/// A guest of this cloud with its log and the certificates of its key, as a client would save it.
fn full_bundle(profile: Profile, log: &[u8], certificates: Vec<Vec<u8>>) -> Bundle {
    let (digest, length) = (sha256(&[log]), u32::try_from(log.len()).unwrap());
    let committed = |statement: &mut Statement| {
        statement.logs = vec![LogDigest { name: part::EVENT_LOG.to_owned(), length: length.into(), digest }];
    };
    let certified = certified(certificates);
    let listed = |attest: &mut Attest| {
        certified(attest);
        let media_type = media::EVENT_LOG.to_owned();
        attest.parts = vec![PartInfo { name: part::EVENT_LOG.to_owned(), digest, length, media_type }];
    };
    let shown = Guest { statement: Box::new(committed), attest: Box::new(listed), ..guest(profile) }.show();
    bundle(&shown, &[log], false)
}

fn copy(bundle: &Bundle) -> Bundle {
    Bundle::parse(&bundle.encode()).unwrap()
}

fn full_bundles() -> [Bundle; 2] {
    let log = shared::logs::good().bytes();
    [
        full_bundle(Profile::AzureSnp, &log, azure_certificates(azure_tpm())),
        full_bundle(Profile::GcpSnp, &log, gce_certificates(gce_tpm())),
    ]
}

/// What a verifier finds: the id of its refusal, or all of the verdict.
fn found(bundle: &Bundle, anchors: &TrustAnchors, at: UnixTime) -> Result<String, &'static str> {
    match verify_bundle(bundle, anchors, at) {
        Ok((evidence, _)) => Ok(appraise(None, evidence).to_json().to_string()),
        Err(error) => Err(error.id()),
    }
}

#[test]
fn a_changed_byte_of_a_full_bundle_is_never_answered_from_memory() {
    for saved in full_bundles() {
        let memory = anchors_with_clouds().remembering();
        let accepted = found(&saved, &memory, NOW).unwrap();
        assert_eq!(found(&saved, &memory, NOW).as_ref(), Ok(&accepted), "the second time as the first");
        let (fresh, mut tried, mut refused) = (anchors_with_clouds(), 0, 0);
        for at in (0..saved.attest.len()).step_by(29) {
            let mut changed = copy(&saved);
            changed.attest[at] ^= 1;
            let answer = found(&changed, &memory, NOW);
            assert_eq!(answer, found(&changed, &fresh, NOW), "byte {at}");
            (tried, refused) = (tried + 1, refused + usize::from(answer.is_err()));
        }
        // A byte that decides nothing is one of the connection's own terms.
        assert!(refused * 10 > tried * 9, "{refused} of {tried}");
        let log = saved.parts.values().next().unwrap().clone();
        for at in (0..log.len()).step_by(29) {
            let mut other = log.clone();
            other[at] ^= 1;
            // Even where somebody lists it under the digest of the first.
            let forged = Bundle { parts: [(sha256(&[&log]), other)].into(), ..copy(&saved) };
            assert_eq!(found(&forged, &memory, NOW), found(&forged, &fresh, NOW), "byte {at}");
            assert!(found(&forged, &memory, NOW).is_err(), "byte {at}");
        }
        assert_eq!(found(&saved, &memory, NOW), Ok(accepted));
    }
}

#[test]
fn a_certificate_that_expired_is_refused_although_it_is_remembered() {
    use ratls::endorsement::{AkError, PublicKey, verify_azure_ak, verify_gce_ak};

    let ends = UnixTime::from_secs(2_524_607_999);
    let (before, after) = (UnixTime::from_secs(1_577_836_799), UnixTime::from_secs(ends.as_secs() + 1));
    type Verify =
        fn(&[&[u8]], &[&[u8]], &PublicKey, &TrustAnchors, UnixTime) -> Result<ratls::endorsement::VerifiedAk, AkError>;
    let azure_key = PublicKey::rsa(&azure_tpm().modulus(), &[1, 0, 1]).unwrap();
    let gce_key = PublicKey::point(&gce_tpm().point()).unwrap();
    let cases: [(Verify, Vec<Vec<u8>>, PublicKey); 2] = [
        (verify_azure_ak, azure_certificates(azure_tpm()), azure_key),
        (verify_gce_ak, gce_certificates(gce_tpm()), gce_key),
    ];
    for (verify, certificates, key) in cases {
        let memory = anchors_with_clouds().remembering();
        let certificates: Vec<&[u8]> = certificates.iter().map(Vec::as_slice).collect();
        let ak = verify(&certificates, &[], &key, &memory, NOW).unwrap();
        assert_eq!(ak.not_after(), ends);
        for at in [NOW, ends] {
            assert!(verify(&certificates, &[], &key, &memory, at).is_ok());
        }
        for at in [before, after] {
            assert_eq!(verify(&certificates, &[], &key, &memory, at).unwrap_err().id(), "T_AK_VALIDITY");
        }
        // Another key, fewer certificates, other roots: other questions.
        let other = PublicKey::point(&SoftTpm::gce().point()).unwrap();
        assert_eq!(verify(&certificates, &[], &other, &memory, NOW).unwrap_err().id(), "T_AK_KEY");
        assert_eq!(verify(&certificates[..1], &[], &key, &memory, NOW).unwrap_err().id(), "T_AK_ROOT");
        assert_eq!(verify(&certificates, &[], &key, &anchors().remembering(), NOW).unwrap_err().id(), "T_AK_ROOT");
    }
}

#[test]
fn a_document_that_is_remembered_ends_with_its_certificate() {
    let shown = with_document(|_| {}).show();
    let memory = anchors_with_clouds().remembering();
    let saved = bundle(&shown, &[], false);
    let accepted = found(&saved, &memory, NOW).unwrap();
    assert_eq!(found(&saved, &memory, NOW), Ok(accepted));
    assert_eq!(found(&saved, &memory, UnixTime::from_secs(NOW.as_secs() + 4 * 3600)), Err("N_VALIDITY"));
}
