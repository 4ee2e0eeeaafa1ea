//! Appraisal, one mutation per finding: a simulated guest that its policy accepts, and what each change of guest, policy or
//! connection makes of it. The evidence goes through the real verifier; only the AMD-SP is software.

#![allow(clippy::unwrap_used)]

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
    assert_eq!(result.verdict(), Verdict::Refused, "{result}");
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

#[test]
fn a_live_guest_that_its_policy_names_is_accepted_and_gives_the_token() {
    let result = accepted(appraise(Some(&policy("")), live(|_| {})));
    assert_eq!(result.identity(), Identity::Any);
    assert_eq!(severity(&result, "I_ANY"), Severity::Warning);
    assert_eq!(result.expires(), Some(UnixTime::from_secs(NOW.as_secs() + 24 * 3600)));
    assert!(result.policy_digest().is_some());
    let token = result.into_accepted().expect("an accepted live connection gives the token");
    assert_eq!(token.result().verdict(), Verdict::Accepted);
}

#[test]
fn the_simulated_example_accepts_the_simulators_guest() {
    let text = include_str!("../../examples/policies/simulated.toml");
    let policy = AppraisalPolicy::parse(text, "simulated.toml").unwrap();
    assert_eq!(policy.anchors_needed(), Some(simulator::ROOT_FILE));
    let result = accepted(appraise(Some(&policy), live(|_| {})));
    assert_eq!(severity(&result, "S_SIMULATED"), Severity::Warning);
    assert!(result.to_string().starts_with("SIMULATED, PROVES NOTHING\nACCEPTED by simulated.toml\n"), "{result}");
}

#[test]
fn an_accepted_file_gives_no_token() {
    let result = accepted(appraise(Some(&policy("")), file(|_| {})));
    assert_eq!(severity(&result, "C_CHANNEL"), Severity::Warning);
    assert_eq!(severity(&result, "R_FRESH"), Severity::Warning);
    assert!(result.into_accepted().is_err());
}

#[test]
fn an_acceptance_ends_with_the_certificate_if_that_is_sooner_than_the_policys_age() {
    let not_after = UnixTime::from_secs(NOW.as_secs() + 3600);
    let evidence = live(|c| c.leaf_validity = Validity { not_after, ..Validity::LONG });
    assert_eq!(accepted(appraise(Some(&policy("")), evidence)).expires(), Some(not_after));
    let short = policy_with("identity = \"any\"", "", "[freshness]\nmax_age = \"90s\"");
    let result = accepted(appraise(Some(&short), live(|_| {})));
    assert_eq!(result.expires(), Some(UnixTime::from_secs(NOW.as_secs() + 90)));
}

#[test]
fn a_refused_connection_and_one_without_a_policy_give_no_token() {
    assert!(appraise(None, live(|_| {})).into_accepted().is_err());
    let policy = policy("distrust_products = [\"milan\"]");
    assert!(appraise(Some(&policy), live(|_| {})).into_accepted().is_err());
}

#[test]
fn proto_c11_simulated_evidence_is_refused_where_the_policy_names_no_root_of_a_simulator() {
    let text =
        "version = 1\nprofiles = [\"snp\"]\nidentity = \"any\"\n[snp]\nsmt = \"allow\"\nsigning_keys = [\"vcek\"]\n";
    let measurement = Config::new(Product::Milan).measurement;
    let text = format!(
        "{text}measurements = [\"{measurement}\"]\n[snp.minimum_tcb.milan]\nbl = 1\ntee = 0\nsnp = 1\nucode = 1\n"
    );
    let policy = AppraisalPolicy::parse(&text, "test.toml").unwrap();
    refused(&appraise(Some(&policy), live(|_| {})), "S_SIMULATED", "root");
    // Without a policy there is nobody to accept; the guest that looks at itself is told.
    let result = appraise(None, live(|_| {}));
    assert_eq!((result.verdict(), severity(&result, "S_SIMULATED")), (Verdict::Authentic, Severity::Warning));
    assert!(result.to_string().starts_with("SIMULATED, PROVES NOTHING\n"), "{result}");
    assert!(result.into_accepted().is_err());
}

#[test]
fn plat_n01_a_debuggable_guest_is_refused_live_and_under_every_policy() {
    let debug = |c: &mut Config| c.policy |= 1 << 19;
    refused(&appraise(Some(&policy("")), live(debug)), "R_DEBUG", "guest policy");
    refused(&appraise(Some(&policy("")), file(debug)), "R_DEBUG", "guest policy");
    let result = appraise(None, live(debug));
    assert_eq!((result.verdict(), result.exit_code()), (Verdict::Refused, 3));
    assert_eq!(severity(&result, "R_DEBUG"), Severity::Fatal);
    assert_eq!(severity(&appraise(None, file(debug)), "R_DEBUG"), Severity::Cap);
}

#[test]
fn plat_n02_a_guest_with_a_migration_agent_is_refused_and_one_without_needs_leave() {
    let unused = |c: &mut Config| c.policy |= 1 << 18;
    let used = |c: &mut Config| {
        c.policy |= 1 << 18;
        c.report_id_ma = ReportId::from_bytes(bytes(1));
    };
    let leave = policy("migrate_ma = \"allow-unused\"");
    refused(&appraise(Some(&policy("")), live(unused)), "R_MIG", "guest policy");
    refused(&appraise(Some(&leave), live(used)), "R_MIG", "guest policy");
    let result = accepted(appraise(Some(&leave), live(unused)));
    assert_eq!(severity(&result, "R_MIG"), Severity::Warning);
}

#[test]
fn plat_n03_a_report_of_another_vmpl_is_refused() {
    let vmpl = |n| move |c: &mut Config| c.vmpl = n;
    refused(&appraise(Some(&policy("")), live(vmpl(1))), "R_VMPL", "vmpl");
    refused(&appraise(Some(&policy("vmpl = 1")), live(vmpl(0))), "R_VMPL", "vmpl");
    refused(&appraise(Some(&policy("vmpl = 1")), live(vmpl(2))), "R_VMPL", "vmpl");
    let result = accepted(appraise(Some(&policy("vmpl = 1")), live(vmpl(1))));
    assert_eq!(severity(&result, "R_VMPL"), Severity::Warning);
    assert_eq!(severity(&appraise(None, file(vmpl(1))), "R_VMPL"), Severity::Cap);
}

#[test]
fn plat_n09_a_key_kind_that_the_policy_does_not_accept_is_refused() {
    let vlek = |c: &mut Config| c.vek = Vek::Vlek { csp: "CN=cloud".to_owned() };
    refused(&appraise(Some(&policy("")), live(vlek)), "R_KEYSEL", "signing_key");
    let only_vlek = policy("signing_keys = [\"vlek\"]\ncsp = [\"CN=cloud\"]");
    refused(&appraise(Some(&only_vlek), live(|_| {})), "R_KEYSEL", "signing_key");
    accepts(appraise(Some(&only_vlek), live(vlek)));
}

#[test]
fn plat_n10_the_key_of_another_cloud_is_refused() {
    let policy = policy("signing_keys = [\"vlek\"]\ncsp = [\"CN=cloud\"]");
    for csp in ["CN=clouds", "CN=clou", "CN=CLOUD"] {
        let evidence = live(|c| c.vek = Vek::Vlek { csp: csp.to_owned() });
        refused(&appraise(Some(&policy), evidence), "I_CSP", "csp");
    }
}

#[test]
fn plat_n11_each_component_below_its_floor_is_refused_in_reported_and_committed() {
    let tcb = |change: fn(&mut Tcb)| {
        move |c: &mut Config| {
            change(&mut c.reported_tcb);
            change(&mut c.committed_tcb);
        }
    };
    for lower in [(|t| t.bootloader -= 1) as fn(&mut Tcb), |t| t.snp -= 1, |t| t.microcode -= 1] {
        let result = appraise(Some(&policy("")), live(tcb(lower)));
        refused(&result, "R_TCB", "reported_tcb");
        refused(&result, "R_TCB", "committed_tcb");
    }
}

#[test]
fn plat_n11_launch_and_committed_have_floors_of_their_own_where_the_policy_says_so() {
    let launch = policy(
        "[snp.minimum_launch_tcb.milan]\nbl = 4\ntee = 0\nsnp = 24\nucode = 219\n[snp.minimum_tcb.milan]\nbl = 3\ntee = 0\nsnp = 20\nucode = 100\n",
    );
    let old_launch = |c: &mut Config| c.launch_tcb.snp = 23;
    refused(&appraise(Some(&launch), live(old_launch)), "R_TCB", "launch_tcb");
    accepts(appraise(Some(&policy("")), live(old_launch)));
    let committed = policy(
        "[snp.minimum_committed_tcb.milan]\nbl = 4\ntee = 0\nsnp = 24\nucode = 219\n[snp.minimum_tcb.milan]\nbl = 3\ntee = 0\nsnp = 20\nucode = 100\n",
    );
    refused(&appraise(Some(&committed), live(|c| c.committed_tcb.snp = 23)), "R_TCB", "committed_tcb");
}

#[test]
fn a_product_without_a_floor_is_refused() {
    let genoa = policy("[snp.minimum_tcb.genoa]\nbl = 1\ntee = 0\nsnp = 1\nucode = 1\n");
    refused(&appraise(Some(&genoa), live(|_| {})), "R_TCB", "product");
}

#[test]
fn plat_n13_provisional_firmware_is_shown() {
    let policy = policy("[snp.minimum_tcb.milan]\nbl = 3\ntee = 0\nsnp = 20\nucode = 100\n");
    let result = accepted(appraise(Some(&policy), live(|c| c.committed_tcb.snp = 23)));
    assert_eq!(severity(&result, "R_TCB"), Severity::Warning);
}

#[test]
fn plat_n14_permissions_of_the_guest_policy_are_refused_unless_allowed() {
    let result = appraise(Some(&policy("smt = \"refuse\"")), live(|_| {}));
    assert_eq!(severity(&result, "R_POLICY"), Severity::Fatal);
    let no_smt = |c: &mut Config| {
        c.policy &= !(1 << 16);
        c.platform_info &= !1;
    };
    accepts(appraise(Some(&policy("smt = \"refuse\"")), live(no_smt)));
    let smt_on = |c: &mut Config| c.policy &= !(1 << 16);
    refused(&appraise(Some(&policy("smt = \"refuse\"")), live(smt_on)), "R_PLATFORM", "platform_info");
    let cxl = |c: &mut Config| c.policy |= 1 << 21;
    refused(&appraise(Some(&policy("")), live(cxl)), "R_POLICY", "guest policy");
    accepts(appraise(Some(&policy("cxl = \"allow\"")), live(cxl)));
}

#[test]
fn plat_n14_restrictions_that_the_policy_requires_must_all_be_there() {
    for (word, bit) in [
        ("single-socket", 20),
        ("mem-aes-256-xts", 22),
        ("rapl-disabled", 23),
        ("ciphertext-hiding", 24),
        ("page-swap-disabled", 25),
    ] {
        let policy = policy(&format!("require_policy = [\"{word}\"]"));
        let others = 0b11_1101 << 20 & !(1 << bit);
        refused(&appraise(Some(&policy), live(|c| c.policy |= others)), "R_POLICY", "guest policy");
        accepts(appraise(Some(&policy), live(|c| c.policy |= 1 << bit)));
    }
    let abi = policy("minimum_abi = \"1.51\"");
    refused(&appraise(Some(&abi), live(|c| c.policy |= 0x0132)), "R_POLICY", "guest policy");
    refused(&appraise(Some(&abi), live(|c| c.policy |= 0x00FF)), "R_POLICY", "guest policy");
    accepts(appraise(Some(&abi), live(|c| c.policy |= 0x0133)));
    accepts(appraise(Some(&abi), live(|c| c.policy |= 0x0200)));
}

#[test]
fn plat_n15_a_platform_without_what_the_policy_requires_is_refused() {
    for (word, bit) in [
        ("tsme", 1),
        ("ecc", 2),
        ("rapl-disabled", 3),
        ("ciphertext-hiding", 4),
        ("alias-check-complete", 5),
        ("tio", 7),
    ] {
        let policy = policy(&format!("require_platform_info = [\"{word}\"]"));
        let without = |c: &mut Config| c.platform_info = 0xBF & !(1 << bit);
        refused(&appraise(Some(&policy), live(without)), "R_PLATFORM", "platform_info");
        accepts(appraise(Some(&policy), live(|c| c.platform_info = 1 << bit)));
    }
    let result = accepted(appraise(Some(&policy("")), live(|c| c.platform_info = 0)));
    assert_eq!(severity(&result, "R_PLATFORM"), Severity::Warning);
}

#[test]
fn plat_n16_a_distrusted_product_is_refused() {
    refused(&appraise(Some(&policy("distrust_products = [\"milan\"]")), live(|_| {})), "R_PRODUCT", "product");
    accepts(appraise(Some(&policy("distrust_products = [\"genoa\"]")), live(|_| {})));
}

#[test]
fn plat_n18_missing_bits_of_a_mitigation_vector_are_refused() {
    let policy = policy("mitigations = { launch = 1, current = 3 }");
    let vectors = |launch, current| {
        move |c: &mut Config| {
            c.report_version = 5;
            (c.launch_mit_vector, c.current_mit_vector) = (launch, current);
        }
    };
    accepts(appraise(Some(&policy), live(vectors(1, 7))));
    refused(&appraise(Some(&policy), live(vectors(0, 3))), "R_MITIGATION", "launch_mit_vector");
    refused(&appraise(Some(&policy), live(vectors(1, 1))), "R_MITIGATION", "current_mit_vector");
    refused(&appraise(Some(&policy), live(|c| c.report_version = 3)), "R_MITIGATION", "launch_mit_vector");
}

#[test]
fn plat_n19_an_id_block_counts_only_where_its_key_is_pinned() {
    let owned = |byte: u8| {
        move |c: &mut Config| {
            c.id_key_digest = KeyDigest::from_bytes(bytes(byte));
            c.guest_svn = 2;
        }
    };
    let result = accepted(appraise(Some(&policy("")), live(owned(1))));
    assert_eq!(severity(&result, "R_ID"), Severity::Cap);
    let key = KeyDigest::from_bytes(bytes(1));
    let pinned = |rest: &str| {
        let identity = format!("identity.launch_identity = {{ id_key_digest = \"{key}\", min_guest_svn = 2{rest} }}");
        policy_with(&identity, "", "")
    };
    let result = accepted(appraise(Some(&pinned("")), live(owned(1))));
    assert_eq!(result.identity(), Identity::Owner);
    assert!(result.findings().iter().all(|f| f.id() != "R_ID"));
    refused(&appraise(Some(&pinned("")), live(owned(2))), "I_LAUNCH", "id_key_digest");
    refused(&appraise(Some(&pinned("")), live(|_| {})), "I_LAUNCH", "guest_svn");
    let author = KeyDigest::from_bytes(bytes(3));
    let with_author = pinned(&format!(", author_key_digest = \"{author}\""));
    refused(&appraise(Some(&with_author), live(owned(1))), "I_LAUNCH", "author_key_digest");
    let authored = |enabled| {
        move |c: &mut Config| {
            owned(1)(c);
            c.author_key_en = enabled;
            c.author_key_digest = KeyDigest::from_bytes(bytes(3));
        }
    };
    accepts(appraise(Some(&with_author), live(authored(true))));
    refused(&appraise(Some(&with_author), live(authored(false))), "I_LAUNCH", "author_key_digest");
    let with_host_data = pinned(&format!(", host_data = \"{}\"", HostData::from_bytes(bytes(4))));
    refused(&appraise(Some(&with_host_data), live(owned(1))), "I_LAUNCH", "host_data");
}

#[test]
fn proto_i1_a_good_guest_on_another_machine_is_refused() {
    let own = pki().chip_id();
    let listed = |id: &str| policy_with(&format!("identity.chip_ids = [\"{id}\"]"), "", "");
    let result = accepted(appraise(Some(&listed(&own.to_string())), live(|_| {})));
    assert_eq!(result.identity(), Identity::Platform);
    let result = appraise(Some(&listed(&"11".repeat(64))), live(|_| {}));
    refused(&result, "I_CHIP", "chip_id");
    assert_eq!(result.identity(), Identity::None);
}

#[test]
fn proto_i2_a_vlek_report_under_chip_ids_is_refused() {
    let identity = format!("identity.chip_ids = [\"{}\"]", pki().chip_id());
    let policy = policy_with(&identity, "signing_keys = [\"vcek\", \"vlek\"]\ncsp = [\"CN=cloud\"]", "");
    let vlek = |c: &mut Config| c.vek = Vek::Vlek { csp: "CN=cloud".to_owned() };
    refused(&appraise(Some(&policy), live(vlek)), "I_VLEK", "chip_id");
}

#[test]
fn a_pinned_guest_instance_is_refused_after_a_new_launch() {
    let id = ReportId::from_bytes(bytes(8));
    let policy = policy_with(&format!("identity.report_ids = [\"{id}\"]"), "", "");
    let result = accepted(appraise(Some(&policy), live(|c| c.report_id = Some(id))));
    assert_eq!(result.identity(), Identity::Pinned);
    refused(&appraise(Some(&policy), live(|_| {})), "I_PIN", "report_id");
}

#[test]
fn all_identity_rules_of_a_policy_must_hold() {
    let id = ReportId::from_bytes(bytes(8));
    let identity = format!("identity.report_ids = [\"{id}\"]\nidentity.chip_ids = [\"{}\"]", pki().chip_id());
    let policy = policy_with(&identity, "", "");
    let result = accepted(appraise(Some(&policy), live(|c| c.report_id = Some(id))));
    assert_eq!(result.identity(), Identity::Platform);
    refused(&appraise(Some(&policy), live(|_| {})), "I_PIN", "report_id");
}

#[test]
fn another_measurement_host_data_or_older_guest_is_refused() {
    let other = |c: &mut Config| c.measurement = Measurement::from_bytes(bytes(1));
    refused(&appraise(Some(&policy("")), live(other)), "R_LD", "measurement");
    let hosted = policy(&format!("host_data = [\"{}\"]", HostData::from_bytes(bytes(4))));
    refused(&appraise(Some(&hosted), live(|_| {})), "R_HOST", "host_data");
    accepts(appraise(Some(&hosted), live(|c| c.host_data = HostData::from_bytes(bytes(4)))));
    let svn = policy("min_guest_svn = 3");
    refused(&appraise(Some(&svn), live(|c| c.guest_svn = 2)), "R_SVN", "guest_svn");
    accepts(appraise(Some(&svn), live(|c| c.guest_svn = 3)));
}

#[test]
fn plat_n22_an_absent_revocation_list_is_shown_or_refused_as_the_policy_says() {
    let require = policy_with("identity = \"any\"", "", "[endorsements]\ncrl = \"require\"");
    refused(&appraise(Some(&require), live_with(|_| {}, |_| {}, false)), "E_CRL_ABSENT", "revocation list");
    accepts(appraise(Some(&require), live(|_| {})));
    let result = accepted(appraise(Some(&policy("")), live_with(|_| {}, |_| {}, false)));
    assert_eq!(severity(&result, "E_CRL_ABSENT"), Severity::Warning);
}

#[test]
fn a_configuration_that_the_policy_does_not_name_is_refused() {
    let named = |byte: u8| {
        let digest = Sha256Digest::from_bytes(bytes(byte));
        policy_with("identity = \"any\"", "", &format!("[guest]\nconfig = [\"{digest}\"]"))
    };
    accepts(appraise(Some(&named(5)), live(|_| {})));
    refused(&appraise(Some(&named(6)), live(|_| {})), "P_CONFIG", "config");
    // A bare report carries no statement, and what cannot be compared does not pass.
    refused(&appraise(Some(&named(5)), file(|_| {})), "P_CONFIG", "config");
}

#[test]
fn an_upstream_outside_the_guest_needs_the_policys_words() {
    let outside = || live_with(|_| {}, |s| s.upstream_scope = UpstreamScope::OutsideGuest, true);
    refused(&appraise(Some(&policy("")), outside()), "P_UPSTREAM", "upstream_scope");
    let leave = policy_with("identity = \"any\"", "", "[guest]\nupstream_scope = \"plaintext leaves the guest\"");
    let result = accepted(appraise(Some(&leave), outside()));
    assert_eq!(severity(&result, "P_UPSTREAM"), Severity::Warning);
}

#[test]
fn a_guest_that_claims_other_names_is_refused() {
    let named = policy_with("names = [\"llm.example\"]\nidentity = \"any\"", "", "");
    let claims = |name: &'static str| live_with(|_| {}, move |s| s.names = vec![name.to_owned()], true);
    accepts(appraise(Some(&named), claims("LLM.example")));
    refused(&appraise(Some(&named), claims("db.example")), "P_NAME", "names");
    let result = accepted(appraise(Some(&named), live(|_| {})));
    assert_eq!(severity(&result, "P_NAME"), Severity::Info);
}

#[test]
fn all_findings_are_returned_and_the_fatal_ones_come_first() {
    let evidence = live(|c| {
        c.policy |= 1 << 19;
        c.vmpl = 2;
        c.measurement = Measurement::from_bytes(bytes(1));
    });
    let result = appraise(Some(&policy("distrust_products = [\"milan\"]")), evidence);
    let fatal: Vec<_> =
        result.findings().iter().take_while(|f| f.severity() == Severity::Fatal).map(|f| f.id()).collect();
    for id in ["R_DEBUG", "R_VMPL", "R_LD", "R_PRODUCT"] {
        assert!(fatal.contains(&id), "{id} is not among {fatal:?}");
    }
    assert!(result.findings().is_sorted_by_key(|f| f.severity()));
    let text = result.to_string();
    assert!(text.lines().nth(1).unwrap().ends_with("4 reasons"), "{text}");
}

#[test]
fn json_has_the_fields_of_the_contract() {
    let json = appraise(Some(&policy("")), live(|_| {})).to_json();
    assert_eq!(json["verdict"], "accepted");
    assert_eq!(json["profile"], "snp");
    assert_eq!(json["simulated"], true);
    assert_eq!(json["channel"], "exporter");
    assert_eq!(json["freshness"], serde_json::json!({"hw": "connect", "tpm": "none"}));
    assert_eq!(json["identity"], "any");
    assert_eq!(json["levels"]["amd_sp"], "ok");
    assert_eq!(json["levels"]["vtpm"], "absent");
    assert_eq!(json["levels"], json["levels_if_fresh"], "a live connection is fresh");
    assert_eq!(json["levels"]["view"], "strict");
    let why = "L2: the digest equals the one you pinned; give the firmware file to reach L3";
    let firmware = serde_json::json!({"level": 2, "anchor": "amd-sp", "why": why});
    assert_eq!(json["levels"]["firmware"], firmware);
    for component in ["boot", "kernel", "userspace"] {
        let cell = &json["levels"][component];
        assert_eq!((&cell["level"], &cell["anchor"]), (&0.into(), &"none".into()), "{component}");
        assert!(cell["why"].as_str().unwrap().starts_with("L0: no register is known to carry "), "{cell}");
    }
    assert_eq!(json["at"], "2027-01-15T08:00:00Z");
    assert_eq!(json["evidence"]["snp"]["product"], "milan");
    assert_eq!(json["evidence"]["snp"]["signing_key"], "vcek");
    let tcb = serde_json::json!({"bl": 4, "tee": 0, "snp": 24, "ucode": 219});
    for kind in ["reported", "committed", "launch", "current"] {
        assert_eq!(json["evidence"]["snp"][format!("{kind}_tcb")], tcb);
    }
    for finding in json["findings"].as_array().unwrap() {
        let keys: Vec<_> = finding.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys.len(), 6);
        assert!(["id", "severity", "subject", "seen", "wanted", "help"].iter().all(|k| keys.contains(k)));
    }
    let offline = appraise(Some(&policy("")), file(|_| {})).to_json();
    assert_eq!((&offline["levels"]["amd_sp"], &offline["levels_if_fresh"]["amd_sp"]), (&"failed".into(), &"ok".into()));
    assert_eq!(offline["channel"], "none");
    assert_eq!(offline["levels"]["firmware"]["level"], 0, "a file is never fresh");
    assert_eq!(offline["levels_if_fresh"]["firmware"], firmware);
}

#[test]
fn proto_x2_no_exporter_value_is_in_what_is_shown() {
    let result = appraise(Some(&policy("")), live(|_| {}));
    let exporter = "09".repeat(32);
    assert!(!result.to_json().to_string().contains(&exporter));
    assert!(!result.to_string().contains(&exporter));
    assert!(!format!("{result:?}").contains("9, 9, 9, 9"));
}

fn wanting(levels: &str) -> AppraisalPolicy {
    policy_with("identity = \"any\"", "", &format!("[levels]\n{levels}"))
}

#[test]
fn a_level_that_is_reached_is_accepted_on_a_connection_and_of_a_file() {
    for levels in ["firmware = \"L1\"", "firmware = \"L2\"", "firmware = \"L2 amd-sp\""] {
        accepts(appraise(Some(&wanting(levels)), live(|_| {})));
        accepts(appraise(Some(&wanting(levels)), file(|_| {})));
    }
}

#[test]
fn a_level_that_is_not_reached_refuses_with_the_reason() {
    let result = appraise(Some(&wanting("firmware = \"L3\"")), live(|_| {}));
    refused(&result, "P_LEVEL", "firmware");
    let finding = &result.findings()[0];
    assert_eq!((finding.seen(), finding.wanted()), ("L2 amd-sp", "L3 or above"));
    assert!(finding.help().ends_with("give the firmware file to reach L3"), "{}", finding.help());
    refused(&appraise(Some(&wanting("kernel = \"L1\"")), live(|_| {})), "P_LEVEL", "kernel");
}

#[test]
fn another_root_than_the_policy_asks_for_refuses() {
    let result = appraise(Some(&wanting("firmware = \"L2 vtpm\"")), live(|_| {}));
    refused(&result, "P_LEVEL", "firmware");
    assert_eq!(result.findings()[0].wanted(), "L2 vtpm or above");
}

#[test]
fn a_guest_that_the_host_can_read_has_no_level() {
    let json = appraise(None, live(|c| c.policy |= 1 << 19)).to_json();
    assert_eq!((&json["levels"]["amd_sp"], &json["levels"]["firmware"]["level"]), (&"failed".into(), &0.into()));
    assert!(json["levels"]["firmware"]["why"].as_str().unwrap().contains("R_DEBUG"));
}

#[test]
fn what_was_never_verified_shows_an_empty_table() {
    let finding = ratls::appraise::Finding::of_verification("R_SIG", &std::fmt::Error);
    let json = AttestationResult::refusal(finding, ratls::verify::Channel::Exporter, None, NOW).to_json();
    assert_eq!(json["levels"]["amd_sp"], "failed");
    assert_eq!(json["levels"]["kernel"]["why"], "L0: the evidence is refused (R_SIG), so nothing in it counts");
}

#[test]
fn the_text_says_what_is_proven_and_what_is_not() {
    let text = appraise(Some(&policy("")), live(|_| {})).to_string();
    for line in [
        "  AMD-SP  vTPM  firmware     boot         kernel       userspace",
        "  ✓       –     ◑ L2 amd-sp  ○ L0         ○ L0         ○ L0",
        "  SIMULATED   the firmware (L2): hardware would have to sign it; a simulator did, which proves nothing",
        "  not proven  what boots the kernel, the kernel, the userspace: it may be anything, also the attacker's",
    ] {
        assert!(text.lines().any(|l| l == line), "{line:?} is not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "plain text has no colours");
    let file = appraise(Some(&policy("")), file(|_| {})).to_string();
    assert!(file.lines().any(|l| l.starts_with("  now       ✗       –     ○ L0")), "{file}");
    assert!(file.lines().any(|l| l.starts_with("  if fresh  ✓       –     ◑ L2 amd-sp")), "{file}");
}

#[test]
fn the_report_is_one_file_without_script_or_anything_to_fetch() {
    let result = appraise(Some(&policy("")), live(|_| {}));
    let page = ratls::appraise::html::report(&result, "guest <img src=x>:8443");
    assert!(page.contains("SIMULATED, PROVES NOTHING"));
    assert!(page.contains("guest &lt;img src=x&gt;:8443") && !page.contains("<img"));
    assert!(page.contains("<svg") && page.contains("aria-label=\"Trust table."));
    for fetched in ["<script", "src=\"", "href=", "url(", "@import", " style=\"", "onload"] {
        assert!(!page.contains(fetched), "{fetched}");
    }
}
