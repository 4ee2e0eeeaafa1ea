//! Whose guest it is.

use super::*;

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
