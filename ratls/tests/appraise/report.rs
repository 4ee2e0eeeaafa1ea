//! What the SNP rules of a policy say to a report.

use super::*;

#[test]
fn plat_n01_a_debuggable_guest_is_refused_live_and_under_every_policy() {
    let debug = |c: &mut Config| c.policy |= 1 << 19;
    refused(&appraise(Some(&policy("")), live(debug)), "R_DEBUG", "guest policy");
    refused(&appraise(Some(&policy("")), file(debug)), "R_DEBUG", "guest policy");
    let result = appraise(None, live(debug));
    assert_eq!((result.verdict(), result.exit_code()), (Verdict::Refused(ratls::appraise::Stage::Appraise), 3));
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
