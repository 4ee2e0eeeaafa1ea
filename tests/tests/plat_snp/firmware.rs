//! Firmware and machines below what the policy asks for.

use crate::guest::{MILAN, Seen, after, good, roots, seen, with};
use ratls::appraise::Severity;
use ratls::tcb::Product;
use simulator::Config;

#[test]
fn plat_n11_refuses_a_genuine_key_of_an_older_tcb() {
    with(|guest| guest.reported_tcb.snp -= 1).judge().refused_for_the("reported_tcb", "R_TCB");
}

#[test]
fn plat_n11_refuses_a_guest_that_was_launched_on_an_older_tcb() {
    let mut case = with(|guest| guest.launch_tcb.snp -= 1);
    case.judge().accepted();
    case.policy.push_str("[snp.minimum_launch_tcb]\nmilan = { bl = 4, tee = 0, snp = 24, ucode = 219 }\n");
    case.judge().refused_for_the("launch_tcb", "R_TCB");
}

#[test]
fn plat_n11_refuses_a_certificate_of_another_tcb_than_the_report() {
    after(|case| {
        let mut leaf = case.sp.leaf_template();
        let spl = leaf.extensions.iter_mut().find(|e| e.oid.ends_with(&[3, 3])).unwrap();
        *spl = simulator::Extension::integer(&[3, 3], 25);
        *case.vek() = MILAN.issue(&leaf);
    })
    .judge()
    .refused_for("R_TCB");
}

#[test]
fn plat_n12_a_higher_component_does_not_make_up_for_a_lower_one() {
    // As numbers these are far above the floor: microcode is the highest byte.
    let case = with(|guest| {
        for tcb in [&mut guest.reported_tcb, &mut guest.committed_tcb, &mut guest.current_tcb] {
            (tcb.snp, tcb.microcode) = (0, 255);
        }
    });
    let judgement = case.judge();
    let fatal: Vec<_> = judgement.findings.iter().filter(|f| f.severity() == Severity::Fatal).collect();
    assert!(fatal.iter().all(|f| f.id() == "R_TCB") && fatal.len() == 2, "{judgement:?}");
}

#[test]
fn plat_n12_a_turin_tcb_is_read_as_turins() {
    let turin = roots(Product::Turin);
    seen(&turin, Config::new(Product::Turin)).judge().accepted();
    // Its SNP version stands in a byte that Milan's layout does not look at.
    let mut older = Config::new(Product::Turin);
    older.reported_tcb.snp -= 1;
    seen(&turin, older).judge().refused_for_the("reported_tcb", "R_TCB");
}

#[test]
fn plat_n12_a_product_without_a_floor_is_refused() {
    let mut case = with(|_| ());
    case.replace_policy("milan = {", "genoa = {");
    case.judge().refused_for_the("product", "R_TCB");
}

#[test]
fn plat_n13_floors_hold_for_what_the_host_can_go_back_to() {
    with(|guest| guest.committed_tcb.snp -= 1).judge().refused_for_the("committed_tcb", "R_TCB");
}

#[test]
fn plat_n13_refuses_a_tcb_above_the_one_that_runs() {
    let beyond = with(|guest| guest.current_tcb.snp -= 1);
    beyond.judge().refused_for("R_TCB");
}

#[test]
fn plat_n13_shows_provisional_firmware() {
    with(|guest| guest.current_tcb.snp += 1).judge().accepted_with("R_TCB", Severity::Warning);
}

#[test]
fn plat_n14_shows_smt_and_refuses_it_where_the_policy_says_so() {
    good().judge().accepted_with("R_PLATFORM", Severity::Info);
    // Off on the machine, but allowed to come back; then neither.
    let mut case = with(|guest| guest.platform_info &= !1);
    case.replace_policy("smt = \"allow\"", "smt = \"refuse\"");
    case.judge().refused_for("R_POLICY");
    let mut case = with(|guest| {
        guest.platform_info &= !1;
        guest.policy &= !(1 << 16);
    });
    case.replace_policy("smt = \"allow\"", "smt = \"refuse\"");
    case.judge().accepted();
}

#[test]
fn plat_n14_refuses_missing_restrictions_that_the_policy_requires() {
    for (name, bit) in [
        ("single-socket", 20),
        ("mem-aes-256-xts", 22),
        ("rapl-disabled", 23),
        ("ciphertext-hiding", 24),
        ("page-swap-disabled", 25),
    ] {
        let require = |mut case: Seen| {
            case.snp_policy(&format!("require_policy = [\"{name}\"]"));
            case.judge()
        };
        require(with(|guest| guest.policy |= 1 << bit)).accepted();
        require(good()).refused_for("R_POLICY");
    }
    for (name, bit) in [("rapl-disabled", 3), ("ciphertext-hiding", 4)] {
        let require = |mut case: Seen| {
            case.snp_policy(&format!("require_platform_info = [\"{name}\"]"));
            case.judge()
        };
        require(with(|guest| guest.platform_info |= 1 << bit)).accepted();
        require(good()).refused_for("R_PLATFORM");
    }
}

#[test]
fn plat_n15_shows_memory_that_was_not_checked_for_aliases_and_refuses_it_on_demand() {
    let mut case = with(|guest| guest.platform_info &= !(1 << 5));
    case.judge().accepted_with("R_PLATFORM", Severity::Warning);
    case.snp_policy("require_platform_info = [\"alias-check-complete\"]");
    case.judge().refused_for("R_PLATFORM");
    after(|case| case.snp_policy("require_platform_info = [\"alias-check-complete\"]")).judge().accepted();
}

#[test]
fn plat_n16_refuses_a_product_that_the_policy_distrusts() {
    after(|case| case.snp_policy("distrust_products = [\"genoa\"]")).judge().accepted();
    after(|case| case.snp_policy("distrust_products = [\"milan\"]")).judge().refused_for("R_PRODUCT");
}

#[test]
fn plat_n17_refuses_microcode_below_the_floor() {
    with(|guest| guest.reported_tcb.microcode -= 1).judge().refused_for_the("reported_tcb", "R_TCB");
}

#[test]
fn plat_n18_refuses_missing_mitigations() {
    for (key, change) in [
        ("launch", (|guest| guest.launch_mit_vector = 0x3D) as fn(&mut Config)),
        ("current", |guest| guest.current_mit_vector = 0x3D),
    ] {
        let require = |report_version, change: fn(&mut Config)| {
            let mut case = with(|guest| {
                guest.report_version = report_version;
                change(guest);
            });
            case.snp_policy(&format!("mitigations = {{ {key} = 0x2 }}"));
            case.judge()
        };
        require(5, |_| ()).accepted();
        require(5, change).refused_for("R_MITIGATION");
        // Reports of an older version have no such field.
        require(3, |_| ()).refused_for("R_MITIGATION");
    }
}
