//! Guests that are debuggable, movable, less privileged, replayed, relayed, or of somebody else.

use crate::guest::{Seen, after, attest, good, with};
use ratls::appraise::{Identity, Severity};
use ratls::binding::Bind32;
use ratls::evidence::snp::{HostData, KeyDigest, ReportId};

#[test]
fn plat_n01_refuses_a_guest_that_the_host_may_debug() {
    with(|guest| guest.policy |= 1 << 19).judge().refused_for("R_DEBUG");
}

#[test]
fn plat_n02_refuses_a_guest_that_a_migration_agent_may_move() {
    with(|guest| guest.policy |= 1 << 18).judge().refused_for("R_MIG");
}

#[test]
fn plat_n02_the_opt_in_covers_only_a_guest_without_an_agent() {
    let opt_in = |agent: [u8; 32]| {
        let mut case = with(|guest| {
            guest.policy |= 1 << 18;
            guest.report_id_ma = ReportId::from_bytes(agent);
        });
        case.snp_policy("migrate_ma = \"allow-unused\"");
        case.judge()
    };
    opt_in([0xFF; 32]).accepted_with("R_MIG", Severity::Warning);
    opt_in([0x11; 32]).refused_for("R_MIG");
}

#[test]
fn plat_n03_refuses_a_report_of_less_privileged_code() {
    for vmpl in 1..=3 {
        with(|guest| guest.vmpl = vmpl).judge().refused_for("R_VMPL");
    }
}

#[test]
fn plat_n04_a_device_that_answers_for_another_vmpl_than_0_is_not_believed() {
    // `sev` asks for VMPL 1 where nothing is said; the attester says 0, and looks whether it got that.
    use attester::{DeviceError, DeviceReport};
    let answer = |vmpl| {
        let case = with(|guest| guest.vmpl = vmpl);
        let report = case.sp.report_with(&[7; 64], |_| ());
        DeviceReport::over(&[7; 64], report, Vec::new()).and_then(|report| report.at_vmpl(0))
    };
    assert!(answer(0).is_ok());
    assert!(matches!(answer(1), Err(DeviceError::WrongVmpl { seen: 1, wanted: 0 })));
}

#[test]
fn plat_n05_refuses_the_evidence_of_another_connection() {
    after(|case| case.bind = Bind32::from_exporter([0xB2; 32])).judge().refused_for("B_CHANNEL");
}

#[test]
fn plat_n05_refuses_an_older_report_of_the_same_guest() {
    after(|case| {
        let mut newer = attest(&case.sp, &case.leaf, &case.bind, 2, |_| ());
        newer.hardware = case.attest.hardware.clone();
        case.attest = newer;
    })
    .judge()
    .refused_for("R_FRESH");
}

#[test]
fn plat_n05_compares_every_byte_of_report_data() {
    for i in 0..64 {
        let case = good();
        let changed = attest(&case.sp, &case.leaf, &case.bind, 1, |report| report[0x50 + i] ^= 1);
        Seen { attest: changed, ..case }.judge().refused_for("R_FRESH");
    }
    good().judge().accepted();
}

#[test]
fn plat_n06_refuses_a_report_that_names_only_the_key() {
    after(|case| {
        let spki = *ratls::cert::spki_digest(&case.leaf).unwrap().as_bytes();
        case.attest = attest(&case.sp, &case.leaf, &case.bind, 1, |report| {
            report[0x50..0x90].fill(0);
            report[0x50..0x70].copy_from_slice(&spki);
        });
    })
    .judge()
    .refused_for("R_FRESH");
}

#[test]
fn plat_n19_an_id_block_that_nobody_pinned_proves_no_owner() {
    let case = with(|guest| guest.id_key_digest = KeyDigest::from_bytes([0x33; 48]));
    let judgement = case.judge();
    judgement.accepted_with("R_ID", Severity::Cap);
    assert_eq!(judgement.identity, Identity::Any);
}

#[test]
fn plat_n19_only_the_pinned_key_is_the_owner() {
    let under = |digest: [u8; 48]| {
        let mut case = with(|guest| guest.id_key_digest = KeyDigest::from_bytes(digest));
        let owner = format!("[identity.launch_identity]\nid_key_digest = \"{}\"\nmin_guest_svn = 0", "33".repeat(48));
        case.replace_policy("identity = \"any\"", &owner);
        case.judge()
    };
    let owned = under([0x33; 48]);
    owned.accepted_without("R_ID");
    assert_eq!(owned.identity, Identity::Owner);
    under([0x34; 48]).refused_for("I_LAUNCH");
    under([0; 48]).refused_for("I_LAUNCH");
}

#[test]
fn plat_n20_host_data_proves_nothing_without_the_measurement() {
    let named = HostData::from_bytes([0x66; 32]);
    let mut case = with(|guest| guest.host_data = named);
    case.snp_policy(&format!("host_data = [\"{named}\"]"));
    case.judge().accepted();
    let measurement = case.sp.config().measurement.to_string();
    case.replace_policy(&measurement, &"ab".repeat(48));
    case.judge().refused_for("R_LD");
}

#[test]
fn plat_n20_host_data_is_compared_where_it_is_named_and_nowhere_else() {
    let mut case = with(|guest| guest.host_data = HostData::from_bytes([0x67; 32]));
    case.judge().accepted();
    case.snp_policy(&format!("host_data = [\"{}\"]", "66".repeat(32)));
    case.judge().refused_for("R_HOST");
}
