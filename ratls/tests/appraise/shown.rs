//! What is shown of a verdict: JSON, text, a report for a browser.

use super::*;

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

#[test]
fn the_text_says_what_is_proven_and_what_is_not() {
    let text = appraise(Some(&policy("")), live(|_| {})).to_string();
    for line in [
        "  AMD-SP  vTPM  firmware     other boot   kernel       userspace",
        "  ✓       –     ◑ L2 amd-sp  ○ L0         ○ L0         ○ L0",
        "  SIMULATED   the firmware (L2): hardware would have to sign it; a simulator did, which proves nothing",
        "  not proven  what boots the kernel, the kernel, the userspace: unverified: it could be under an attacker's",
    ] {
        assert!(text.lines().any(|l| l == line), "{line:?} is not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "plain text has no colours");
    let file = appraise(Some(&policy("")), file(|_| {})).to_string();
    assert!(!file.contains('✗'), "a genuine file has no root that failed\n{file}");
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
