//! Keys of another kind, cloud or root, without a chip, or revoked.

use crate::guest::{MILAN, NOW, Seen, after, certificate, forged, good, roots, seen, with};
use ratls::appraise::Severity;
use ratls::binding::binder;
use ratls::tcb::Product;
use ratls::time::{CLOCK_LEEWAY_SECS, UnixTime};
use ratls::wire::attest::media;
use simulator::{Authority, Config, Validity, Vek};

const CSP: &str = "CN=cc-simulated.example";

fn vlek() -> Vek {
    Vek::Vlek { csp: CSP.to_owned() }
}

/// A policy for VLEKs of [`CSP`].
fn accept_vlek(case: &mut Seen) {
    case.replace_policy("signing_keys = [\"vcek\"]", &format!("signing_keys = [\"vlek\"]\ncsp = [\"{CSP}\"]"));
}

#[test]
fn plat_n07_refuses_a_masked_chip_key() {
    // As firmware does it, with a signature of zeros; then with a real signature, to see that the bit alone suffices.
    after(|case| {
        let mut config = case.sp.config().clone();
        config.mask_chip_key = true;
        let mut masked = simulator::SimulatedAmdSp::new(&MILAN, config);
        *case.report() = masked.report(binder(&case.attest.statement).as_bytes()).unwrap();
    })
    .judge()
    .refused_for("R_MASK");
    forged(|report| report[0x48] |= 1 << 1).judge().refused_for("R_MASK");
    // SIGNING_KEY 7: signed by none.
    forged(|report| report[0x48] |= 7 << 2).judge().refused_for("R_MASK");
}

#[test]
fn plat_n08_refuses_a_report_without_chip_id_under_a_vcek() {
    forged(|report| report[0x1A0..0x1E0].fill(0)).judge().refused_for("E_CHIP_ID");
}

#[test]
fn plat_n08_refuses_a_report_of_another_chip() {
    forged(|report| report[0x1DF] ^= 1).judge().refused_for("E_CHIP_ID");
}

#[test]
fn plat_n08_accepts_a_report_without_chip_id_under_a_vlek_but_not_as_a_machine() {
    let mut case = with(|guest| guest.vek = vlek());
    accept_vlek(&mut case);
    case.judge().accepted();
    case.replace_policy("\"vlek\"]", "\"vlek\", \"vcek\"]");
    let machine = format!("[identity]\nchip_ids = [\"{}\"]", case.sp.chip_id());
    case.replace_policy("identity = \"any\"", &machine);
    case.judge().refused_for("I_VLEK");
}

#[test]
fn plat_n09_refuses_a_vlek_where_the_policy_wants_a_vcek() {
    with(|guest| guest.vek = vlek()).judge().refused_for("R_KEYSEL");
}

#[test]
fn plat_n09_refuses_a_report_that_names_the_other_kind_of_key() {
    // SIGNING_KEY says VLEK, the certificate is of a VCEK.
    forged(|report| report[0x48] |= 1 << 2).judge().refused_for("R_KEYSEL");
}

#[test]
fn plat_n10_refuses_a_vlek_of_another_cloud() {
    let under = |csp: &str| {
        let mut case = with(|guest| guest.vek = Vek::Vlek { csp: csp.to_owned() });
        accept_vlek(&mut case);
        case.judge()
    };
    under(CSP).accepted();
    for other in ["CN=cc-simulated.example.org", "CN=cc-simulated", "cn=cc-simulated.example"] {
        under(other).refused_for("I_CSP");
    }
}

#[test]
fn plat_n21_refuses_a_root_that_comes_with_the_evidence() {
    let theirs = roots(Product::Milan);
    let mut case = seen(&theirs, Config::new(Product::Milan));
    case.judge().accepted();
    case.roots = good().roots;
    case.judge().refused_for("E_ROOT");
    // It sends its root too; a root of the right name makes no difference.
    case.attest.endorsements.push(certificate(theirs.certificate(Authority::Ark).to_vec()));
    case.judge().refused_for("E_ROOT");
}

#[test]
fn plat_n21_refuses_a_simulators_root_that_the_policy_does_not_name() {
    let case = after(|case| case.roots = ratls::endorsement::TrustAnchors::amd());
    case.judge().refused_for("E_ROOT");
    // Verified under another policy's roots, it is still refused by a policy that names none.
    after(|case| case.replace_policy("[roots]\nsimulator = \"root.pem\"\n", "")).judge().refused_for("S_SIMULATED");
}

/// Replaces the stapled list; `None` takes it away.
fn staple(case: &mut Seen, crl: Option<Vec<u8>>) {
    case.attest.endorsements.retain(|e| e.media_type != media::CRL);
    case.attest
        .endorsements
        .extend(crl.map(|bytes| ratls::wire::attest::Endorsement { media_type: media::CRL.to_owned(), bytes }));
}

fn one_hour(secs: i64) -> (UnixTime, UnixTime) {
    (UnixTime::from_secs(NOW.as_secs() + secs), UnixTime::from_secs(NOW.as_secs() + secs + 3600))
}

#[test]
fn plat_n22_a_missing_list_is_shown_and_refused_where_it_is_required() {
    let mut case = after(|case| staple(case, None));
    case.judge().accepted_with("E_CRL_ABSENT", Severity::Warning);
    case.policy.push_str("[endorsements]\ncrl = \"require\"\n");
    case.judge().refused_for("E_CRL_ABSENT");
    after(|case| case.policy.push_str("[endorsements]\ncrl = \"require\"\n")).judge().accepted_without("E_CRL_ABSENT");
}

#[test]
fn plat_n22_refuses_a_stale_list_and_one_of_the_future() {
    for offset in [-3601, CLOCK_LEEWAY_SECS + 1] {
        let (this_update, next_update) = one_hour(offset);
        let case = after(|case| staple(case, Some(MILAN.crl(&[], this_update, next_update))));
        case.judge().refused_for("E_CRL");
    }
    for offset in [-3600, -1800, CLOCK_LEEWAY_SECS] {
        let (this_update, next_update) = one_hour(offset);
        after(|case| staple(case, Some(MILAN.crl(&[], this_update, next_update)))).judge().accepted();
    }
}

#[test]
fn plat_n22_refuses_a_list_that_the_root_did_not_sign() {
    let forged = roots(Product::Milan).crl(&[], Validity::LONG.not_before, Validity::LONG.not_after);
    after(|case| staple(case, Some(forged))).judge().refused_for("E_CRL");
}

#[test]
fn plat_n22_refuses_a_key_whose_issuer_was_revoked() {
    let (this_update, next_update) = one_hour(-1800);
    let revoked = MILAN.crl(&[MILAN.serial(Authority::Ask)], this_update, next_update);
    after(|case| staple(case, Some(revoked))).judge().refused_for("E_REVOKED");
}
