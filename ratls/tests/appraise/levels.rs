//! What a policy asks of the trust table.

use super::*;

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
    let finding = ratls::appraise::Finding::of_verification(ratls::findings::ReportCheck::Signature, &std::fmt::Error);
    let json = AttestationResult::refusal(finding, ratls::verify::Channel::Exporter, None, NOW).to_json();
    assert_eq!(json["levels"]["amd_sp"], "failed");
    assert_eq!(json["levels"]["kernel"]["why"], "L0: the evidence is refused (R_SIG), so nothing in it counts");
}
