//! Policies over what each platform shows: accepted as it is, and refused for each single thing that is wrong (platforms.md §9).
//!
//! Reports are the simulator's, TPMs and CAs are made here with aws-lc and openssl: PROVES NOTHING.

#![allow(clippy::unwrap_used)]

mod shared;

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use ratls::appraise::{AttestationResult, Severity, Verdict, appraise_files};
use ratls::crypto::{sha256, sha384, sha512};
use ratls::endorsement::{TrustAnchors, pem};
use ratls::evidence::nitro::NitroDocument;
use ratls::evidence::snp::Report;
use ratls::evidence::svsm::Nonce;
use ratls::evidence::tpm::{Bank, PcrValues, Public};
use ratls::policy::AppraisalPolicy;
use ratls::tcb::Product;
use ratls::time::UnixTime;
use ratls::verify::{AkFile, Files, QuoteFiles, SvsmFiles, verify_files};
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

/// CAs of one test, gone with it.
struct Lab(PathBuf);

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const CA: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign";
const LEAF: &str = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature";
/// zone z, project 1 "p", instance 7 "n", production.
const INSTANCE: &str = "1.3.6.1.4.1.11129.2.1.21=DER:30180c017a0201010c01700201070c016ea0073005a1030101ff";

impl Lab {
    fn new(test: &str) -> Lab {
        let dir = std::env::temp_dir().join(format!("evident-policies-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Lab(dir)
    }

    fn openssl(&self, args: &[&str]) {
        let output = Command::new("openssl").current_dir(&self.0).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        std::fs::write(self.0.join(name), contents).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.join(name)).unwrap()
    }

    fn der(&self, name: &str) -> Vec<u8> {
        pem::certificates(&self.read(name)).unwrap().remove(0)
    }

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
            endorsement: None,
            anchors,
        }
    }

    fn judge(&self, policy: &AppraisalPolicy) -> AttestationResult {
        let quote = self.tpm.as_ref().map(|tpm| tpm.quote(&self.question, |_| {}));
        let pcrs = quote.as_ref().map(|quote| {
            let values = quote.pcrs.iter().map(|(index, value)| (*index, &value[..]));
            PcrValues::new(Bank::from_algorithm(quote.bank).unwrap(), values).unwrap()
        });
        let files = Files {
            report: self.hcl.is_none().then_some(&self.report[..]),
            hcl: self.hcl.as_deref(),
            svsm: self.svsm.as_deref().map(|manifest| SvsmFiles { manifest, nonce: Nonce::from_bytes(B) }),
            nitro: self.nitro.as_deref(),
            quote: quote.as_ref().map(|quote| QuoteFiles { attest: &quote.attest, signature: &quote.signature }),
            pcrs,
            ak: self.ak.clone(),
            event_log: None,
            ima_list: None,
            endorsement: self.endorsement.as_deref(),
            certificates: self.certificates.iter().map(Vec::as_slice).collect(),
            crls: vec![],
        };
        let only = policy.profiles().first().copied();
        appraise_files(Some(policy), verify_files(&files, only, &self.anchors, NOW).unwrap_or_else(|e| panic!("{e}")))
    }
}

fn area(tpm: &SoftTpm) -> AkFile {
    AkFile::Area(Box::new(Public::parse(&tpm.public()).unwrap()))
}

// ---- Google

const ANY: &str = "identity = \"any\"";
const VENDOR: &str = "require_roots = [\"amd\", \"csp\"]\n[identity.tpm]\ngce_instance_ids = [\"7\"]";

fn gcp(lab: &Lab) -> Guest {
    lab.root("/CN=EK\\/AK CA Root", P256, &["-sha256"]);
    let mut tpm = SoftTpm::gce();
    tpm.pcrs.insert(0, hex::decode(PCR0).unwrap());
    let subject = "/O=Google Compute Engine/L=z/OU=p/CN=7";
    let leaf = lab.leaf(subject, &format!("{LEAF}\n{INSTANCE}"), Some(&tpm.spki()), P256, &["-sha256"]);
    let mut guest = Guest::of(sp().report(&B).unwrap(), lab.anchors());
    guest.ak = Some(area(&tpm));
    guest.tpm = Some(tpm);
    guest.certificates.push(leaf);
    guest
}

#[test]
fn a_guest_of_google_is_accepted_and_said_to_rest_on_google() {
    let lab = Lab::new("gcp");
    let guest = gcp(&lab);
    let more = "[gcp]\nprojects = [\"p\"]\nzones = [\"z\"]\n[tpm]\nrequire_pcrs = [7]\n";
    let result = guest.judge(&policy("gcp-snp", &guest.report, VENDOR, more));
    accepted(&result);
    assert!(result.findings().iter().any(|f| f.id() == "T_VENDOR" && f.severity() == Severity::Warning));
    assert_eq!(result.identity().as_str(), "tpm");
    assert!(result.simulated());
}

#[test]
fn plat_n33_another_instance_project_or_zone_of_google_is_refused() {
    let lab = Lab::new("gcp-place");
    let guest = gcp(&lab);
    let judge = |identity: &str, more: &str| fatal(&guest.judge(&policy("gcp-snp", &guest.report, identity, more)));
    assert_eq!(judge("[identity.tpm]\ngce_instance_ids = [\"8\"]", ""), ["I_TPM"]);
    assert_eq!(judge("[identity.tpm]\nec2_instance_ids = [\"i-07\"]", ""), ["I_TPM"], "a list of another cloud");
    assert_eq!(judge(ANY, "[gcp]\nprojects = [\"q\"]\n"), ["G_PROJECT"]);
    assert_eq!(judge(ANY, "[gcp]\nzones = [\"y\"]\n"), ["G_ZONE"]);
}

#[test]
fn registers_that_differ_or_are_missing_are_refused() {
    let lab = Lab::new("gcp-pcrs");
    let mut guest = gcp(&lab);
    let judge = |guest: &Guest, more: &str| fatal(&guest.judge(&policy("gcp-snp", &guest.report, ANY, more)));
    let value = hex::encode(guest.tpm.as_ref().unwrap().pcrs.get(&4).unwrap());
    assert!(judge(&guest, &format!("[tpm.pcrs.sha256]\n4 = \"{value}\"\n")).is_empty());
    assert_eq!(judge(&guest, &format!("[tpm.pcrs.sha256]\n4 = \"{}\"\n", "11".repeat(32))), ["T_PCR"]);
    assert_eq!(judge(&guest, &format!("[tpm.pcrs.sha384]\n4 = \"{}\"\n", "11".repeat(48))), ["T_BANK"]);
    assert_eq!(judge(&guest, "[tpm]\nbanks = [\"sha384\"]\n"), ["T_BANK"]);
    guest.tpm.as_mut().unwrap().pcrs.remove(&4);
    assert_eq!(judge(&guest, &format!("[tpm.pcrs.sha256]\n4 = \"{value}\"\n")), ["Q_SEL"]);
    assert_eq!(judge(&guest, "[tpm]\nrequire_pcrs = [4]\n"), ["Q_SEL"]);
    guest.tpm.as_mut().unwrap().pcrs.insert(0, vec![7; 32]);
    assert_eq!(judge(&guest, ""), ["G_PCR0"], "firmware that ran under something else");
    assert!(judge(&guest, "[gcp]\npcr0 = \"not compared\"\n").is_empty());
}

#[test]
fn a_quote_that_nobody_vouches_for_is_of_another_report_or_missing_is_refused() {
    let lab = Lab::new("gcp-quote");
    let mut guest = gcp(&lab);
    let judge = |guest: &Guest, identity: &str, more: &str| {
        fatal(&guest.judge(&policy("gcp-snp", &guest.report, identity, more)))
    };
    let leaf = guest.certificates.pop().unwrap();
    assert_eq!(judge(&guest, ANY, ""), ["T_AK_UNPROVEN"]);
    assert_eq!(judge(&guest, VENDOR, ""), ["T_AK_UNPROVEN", "T_ROOTS", "I_TPM"]);
    guest.certificates.push(leaf);
    guest.question = question(&sp().report(&[1; 64]).unwrap());
    assert_eq!(judge(&guest, ANY, ""), ["T_UNBOUND"], "the quote names another report");
    guest.tpm = None;
    guest.ak = None;
    // The report alone is one of profile `snp`, which this policy does not have.
    assert_eq!(judge(&guest, ANY, ""), ["P_PROFILE"]);
}

fn proto(number: u8, contents: &[u8]) -> Vec<u8> {
    let (mut len, mut length) = (contents.len(), vec![]);
    while len >= 0x80 {
        length.push(u8::try_from(len & 0x7F).unwrap() | 0x80);
        len >>= 7;
    }
    length.push(u8::try_from(len).unwrap());
    [vec![number << 3 | 2], length, contents.to_vec()].concat()
}

#[test]
fn plat_n51_an_endorsement_is_of_this_measurement_and_not_too_old() {
    let lab = Lab::new("gcp-endorsement");
    let mut guest = gcp(&lab);
    let firmware = Lab::new("gcp-firmware");
    firmware.root("/CN=GCE-cc-tcb-root", RSA, PSS);
    let signer = firmware.leaf("/CN=signer", LEAF, None, RSA, PSS);
    let endorse = |measurement: &[u8]| {
        let entry = proto(2, &[vec![0x08, 2], proto(2, measurement)].concat());
        let snp = proto(7, &[vec![0x08, 3], entry].concat());
        // 1,750,000,000 s, June 2025.
        let time = proto(1, &[0x08, 0x80, 0xE7, 0xBB, 0xC2, 0x06]);
        let golden = [time, proto(4, &signer), proto(5, &[5; 48]), snp].concat();
        firmware.write("golden", &golden);
        let sign = ["dgst", "-sign", "leaf.key", "-out", "sig"];
        firmware.openssl(&[&sign[..], PSS, &["golden"]].concat());
        [proto(1, &golden), proto(2, &firmware.read("sig"))].concat()
    };
    let measurement = *Report::parse(&guest.report).unwrap().measurement().as_bytes();
    guest.anchors = guest.anchors.with_gce_firmware_root(&firmware.read("root.pem")).unwrap();
    guest.endorsement = Some(endorse(&measurement));
    let judge = |guest: &Guest, more: &str| {
        let rules = format!("[gcp]\nendorsement_root = \"tcb.crt\"\n{more}");
        fatal(&guest.judge(&policy("gcp-snp", &guest.report, ANY, &rules)))
    };
    assert!(judge(&guest, "min_svn = 3\nendorsed_not_before = \"2025-06-01T00:00:00Z\"\n").is_empty());
    assert_eq!(judge(&guest, "min_svn = 4\n"), ["G_SVN"]);
    assert_eq!(judge(&guest, "endorsed_not_before = \"2025-07-01T00:00:00Z\"\n"), ["G_OLD"]);
    guest.endorsement = Some(endorse(&[9; 48]));
    assert_eq!(judge(&guest, ""), ["G_MEASUREMENT"], "an endorsement of another firmware");
    guest.endorsement = None;
    assert_eq!(judge(&guest, ""), ["G_MISSING"]);
}

// ---- Azure

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        (0..=chunk.len()).for_each(|i| text.push(char::from(DIGITS[(word >> (18 - 6 * i) & 63) as usize])));
    }
    text
}

const VM: &str = "7df7b373-b947-4aaa-96e5-c358f2a03d20";
const GOOD: &str = r#""console-enabled":false,"secure-boot":true,"tpm-enabled":true"#;

fn azure(configuration: &str, user_data: bool) -> Guest {
    let lab = Lab::new("azure");
    lab.root("/CN=Azure Virtual TPM Root Certificate Authority 2023", P256, &["-sha256"]);
    let tpm = SoftTpm::azure();
    let n = base64url(&tpm.modulus());
    let data = if user_data { format!(",\"user-data\":\"{}\"", hex::encode(B)) } else { String::new() };
    let json = format!(
        r#"{{"keys":[{{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":"{n}"}}],"vm-configuration":{{{configuration},"vmUniqueId":"{VM}"}}{data}}}"#
    );
    let mut over = [0; 64];
    over[..32].copy_from_slice(sha256(&[json.as_bytes()]).as_bytes());
    let report = sp().report(&over).unwrap();
    let length = u32::try_from(json.len()).unwrap();
    let mut blob = b"HCLA".to_vec();
    [2, 32 + 1184 + 20 + length, 2, 0, 0, 0, 0].iter().for_each(|word: &u32| blob.extend(word.to_le_bytes()));
    blob.extend(&report);
    [20 + length, 1, 2, 1, length].iter().for_each(|word: &u32| blob.extend(word.to_le_bytes()));
    blob.extend(json.as_bytes());
    let mut guest = Guest::of(report, lab.anchors());
    guest.hcl = Some(blob);
    guest.tpm = Some(tpm);
    guest
}

#[test]
fn a_guest_of_azure_is_accepted_and_each_thing_that_its_paravisor_admits_is_refused() {
    let rules = format!("[identity.tpm]\nazure_vm_ids = [\"{VM}\"]");
    let judge = |guest: &Guest, more: &str| fatal(&guest.judge(&policy("azure-snp", &guest.report, &rules, more)));
    let guest = azure(GOOD, true);
    accepted(&guest.judge(&policy("azure-snp", &guest.report, &rules, "")));
    assert_eq!(judge(&guest, "[azure]\nak_certificate = \"require\"\n"), ["T_AK_NO_CERT"]);
    for (wrong, id, allow) in [
        (
            r#""console-enabled":true,"secure-boot":true,"tpm-enabled":true"#,
            "Z_CONSOLE",
            "[azure]\nconsole = \"allow\"\n",
        ),
        (
            r#""console-enabled":false,"secure-boot":false,"tpm-enabled":true"#,
            "Z_SECURE_BOOT",
            "[azure]\ninsecure_boot = \"allow\"\n",
        ),
        (r#""console-enabled":false,"secure-boot":true,"tpm-enabled":false"#, "Z_TPM", ""),
    ] {
        let guest = azure(wrong, true);
        assert_eq!(judge(&guest, ""), [id]);
        assert_eq!(judge(&guest, allow).is_empty(), !allow.is_empty(), "{id}");
    }
    let other = format!("[identity.tpm]\nazure_vm_ids = [\"{}\"]", VM.replace('7', "8"));
    assert_eq!(fatal(&guest.judge(&policy("azure-snp", &guest.report, &other, ""))), ["I_TPM"]);
}

#[test]
fn plat_n46_n47_a_report_without_the_guests_data_holds_every_level_down() {
    let guest = azure(GOOD, false);
    let result = guest.judge(&policy("azure-snp", &guest.report, ANY, ""));
    assert!(result.findings().iter().any(|f| f.id() == "Z_STALE" && f.severity() == Severity::Cap), "{result}");
}

// ---- AWS

fn cbor(major: u8, len: usize) -> Vec<u8> {
    let [high, low] = u16::try_from(len).unwrap().to_be_bytes();
    vec![major << 5 | 25, high, low]
}

fn bytes(value: &[u8]) -> Vec<u8> {
    [cbor(2, value.len()), value.to_vec()].concat()
}

fn text(value: &str) -> Vec<u8> {
    [cbor(3, value.len()), value.as_bytes().to_vec()].concat()
}

fn document(lab: &Lab, user_data: &[u8], seconds: u64) -> Vec<u8> {
    let leaf = lab.leaf("/CN=i-07-tpm01", LEAF, None, P384, &["-sha384"]);
    let pcrs: Vec<u8> = (0..24u8).flat_map(|index| [cbor(0, index.into()), bytes(&[index; 48])].concat()).collect();
    let time = [vec![0x1B], (seconds * 1000).to_be_bytes().to_vec()].concat();
    let pairs = [
        [text("module_id"), text("i-07-tpm01")].concat(),
        [text("digest"), text("SHA384")].concat(),
        [text("timestamp"), time].concat(),
        [text("nitrotpm_pcrs"), cbor(5, 24), pcrs].concat(),
        [text("certificate"), bytes(&leaf)].concat(),
        [text("cabundle"), cbor(4, 1), bytes(&lab.der("root.pem"))].concat(),
        [text("public_key"), vec![0xF6]].concat(),
        [text("user_data"), bytes(user_data)].concat(),
        [text("nonce"), bytes(&B)].concat(),
    ];
    let payload = [cbor(5, pairs.len()), pairs.concat()].concat();
    let mut whole = [vec![0x84, 0x44, 0xA1, 0x01, 0x38, 0x22, 0xA0], bytes(&payload), bytes(&[0; 96])].concat();
    lab.write("signed", NitroDocument::parse(&whole).unwrap().signed_bytes());
    lab.openssl(&["dgst", "-sha384", "-sign", "leaf.key", "-out", "sig", "signed"]);
    let der = lab.read("sig");
    let r_len = usize::from(der[3]);
    let fixed = |integer: &[u8]| {
        let digits: Vec<u8> = integer.iter().copied().skip_while(|b| *b == 0).collect();
        [vec![0; 48 - digits.len()], digits].concat()
    };
    let signature = [fixed(&der[4..4 + r_len]), fixed(&der[6 + r_len..])].concat();
    let at = whole.len() - 96;
    whole[at..].copy_from_slice(&signature);
    whole
}

fn aws(lab: &Lab) -> Guest {
    lab.root("/CN=aws.nitro-enclaves", P384, &["-sha384"]);
    let mut guest = Guest::of(sp().report(&B).unwrap(), lab.anchors());
    guest.nitro = Some(document(lab, sha384(&[&guest.report]).as_bytes(), 1_800_000_000 - 60));
    guest
}

#[test]
fn a_guest_of_aws_is_accepted_by_its_document_and_refused_without() {
    let lab = Lab::new("aws");
    let mut guest = aws(&lab);
    let identity = "require_roots = [\"amd\", \"csp\"]\n[identity.tpm]\nec2_instance_ids = [\"i-07\"]";
    let judge = |guest: &Guest, identity: &str, more: &str| {
        fatal(&guest.judge(&policy("aws-snp", &guest.report, identity, more)))
    };
    let registers = format!("[tpm.pcrs.sha384]\n4 = \"{}\"\n", "04".repeat(48));
    accepted(&guest.judge(&policy(
        "aws-snp",
        &guest.report,
        identity,
        &format!("{registers}[aws]\nmax_document_age = \"1m\"\n"),
    )));
    assert_eq!(judge(&guest, identity, "[aws]\nmax_document_age = \"59s\"\n"), ["N_AGE"]);
    assert_eq!(judge(&guest, "[identity.tpm]\nec2_instance_ids = [\"i-08\"]", ""), ["I_TPM"]);
    assert_eq!(judge(&guest, ANY, &registers.replace("04", "05")), ["T_PCR"]);
    guest.nitro = Some(document(&lab, sha384(&[b"another report"]).as_bytes(), 1_800_000_000));
    assert_eq!(judge(&guest, ANY, ""), ["T_UNBOUND"]);
    // A quote in the document's place: genuine, by a key that nobody vouches for.
    guest.nitro = None;
    let tpm = SoftTpm::gce();
    guest.ak = Some(area(&tpm));
    guest.tpm = Some(tpm);
    assert_eq!(judge(&guest, ANY, ""), ["T_AK_UNPROVEN"]);
    assert!(judge(&guest, ANY, "[aws]\nvtpm = \"none\"\n").is_empty());
}

#[test]
fn plat_n50_a_document_is_no_link_to_the_amd_sp_whatever_it_carries() {
    let lab = Lab::new("aws-link");
    let guest = aws(&lab);
    let result = guest.judge(&policy("aws-snp", &guest.report, ANY, ""));
    let tpm = result.evidence().unwrap().tpm().unwrap();
    assert_eq!(tpm.link().anchor(), Some(ratls::verify::Root::Vtpm));
    assert!(result.findings().iter().any(|f| f.id() == "T_VENDOR"), "{result}");
}

// ---- SVSM

#[test]
fn plat_n55_an_unproven_key_below_an_svsm_is_refused_unless_the_policy_says_so_in_words() {
    let lab = Lab::new("svsm");
    lab.root("/CN=EK\\/AK CA Root", P256, &["-sha256"]);
    let mut manifest = hex::decode(
        "0001000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa00060080004300100800000000000100",
    )
    .unwrap();
    let tpm = SoftTpm::azure();
    manifest.extend(tpm.modulus());
    let mut guest = Guest::of(sp().report(sha512(&[&B, &manifest]).as_bytes()).unwrap(), lab.anchors());
    guest.svsm = Some(manifest);
    guest.ak = Some(area(&tpm));
    guest.tpm = Some(tpm);
    let judge = |more: &str| fatal(&guest.judge(&policy("svsm-snp", &guest.report, ANY, more)));
    assert_eq!(judge(""), ["T_AK_UNPROVEN"]);
    assert!(judge("[svsm]\nak = \"accept a key that nobody vouches for\"\n").is_empty());
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
