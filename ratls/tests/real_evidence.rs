//! Reports and certificates that came off real machines: all that is authentic verifies, and nothing else does.

mod shared;

use ratls::endorsement::{CrlStatus, MAX_CERTIFICATES, TrustAnchors, VekKind};
use ratls::evidence::snp::{Report, SigningKey, TcbKind};
use ratls::tcb::TcbLayout;
use ratls::time::UnixTime;
use ratls::verify::report::{ReportRefusal, VerifiedReport, verify_report};
use serde_json::{Value, json};
use shared::{Case, authentic, cases};

fn verify(case: &Case, certificates: &[&[u8]], at: UnixTime) -> Result<VerifiedReport, ReportRefusal> {
    verify_report(&case.report, certificates, &[], &TrustAnchors::amd(), at)
}

/// The layout that the case's own description implies.
fn layout(fields: &Value) -> TcbLayout {
    if fields["current_tcb"].get("fmc").is_some() { TcbLayout::Turin } else { TcbLayout::MilanGenoa }
}

#[test]
fn every_field_of_every_report_is_as_the_case_says() {
    for case in cases("every_field_of_every_report_is_as_the_case_says") {
        let wanted = &case.json["fields"];
        let report = Report::parse(&case.report).unwrap();
        let tcb = |kind| serde_json::to_value(report.tcb(kind, layout(wanted))).unwrap();
        let seen = json!({
            "version": report.version(),
            "guest_svn": report.guest_svn(),
            "policy": report.policy(),
            "debug": report.policy().debug_allowed(),
            "smt": report.policy().smt_allowed(),
            "migrate_ma": report.policy().migrate_ma_allowed(),
            "family_id": report.family_id(),
            "image_id": report.image_id(),
            "vmpl": report.vmpl(),
            "current_tcb": tcb(TcbKind::Current),
            "platform_info": report.platform_info(),
            "signing_key": report.signing_key().to_string(),
            "mask_chip_key": u8::from(report.mask_chip_key()),
            "author_key_en": u8::from(report.author_key_en()),
            "report_data": report.report_data(),
            "measurement": report.measurement(),
            "host_data": report.host_data(),
            "id_key_digest": report.id_key_digest(),
            "author_key_digest": report.author_key_digest(),
            "report_id": report.report_id(),
            "reported_tcb": tcb(TcbKind::Reported),
            "cpuid": report.cpuid(),
            "chip_id": report.chip_id(),
            "committed_tcb": tcb(TcbKind::Committed),
            "launch_tcb": tcb(TcbKind::Launch),
            "current_fw": report.current_firmware(),
            "committed_fw": report.committed_firmware(),
        });
        assert_eq!(&seen, wanted, "{}", case.id);
        assert_eq!(report.raw()[..], case.report[..], "{}", case.id);
        for kind in TcbKind::ALL {
            assert!(report.tcb(kind, layout(wanted)).reserved_is_zero(), "{} {kind}", case.id);
        }
        if let (Some(_), Some(product)) = (report.cpuid(), case.product()) {
            assert_eq!(report.product_from_cpuid(), Some(product), "{}", case.id);
        }
        assert_eq!(report.mitigation().is_some(), report.version() == 5, "{}", case.id);
    }
}

#[test]
fn authentic_reports_verify_and_say_what_their_certificate_says() {
    for case in authentic("authentic_reports_verify_and_say_what_their_certificate_says") {
        let verified = verify(&case, &case.certificates(), case.at()).unwrap_or_else(|e| panic!("{}: {e}", case.id));
        let vek = verified.vek();
        let vlek = verified.report().signing_key() == SigningKey::Vlek;
        assert_eq!(vek.kind(), if vlek { VekKind::Vlek } else { VekKind::Vcek }, "{}", case.id);
        // Not every case notes what its certificate says.
        for (key, seen) in
            [("product", json!(vek.product_name())), ("vek_tcb", json!(vek.tcb())), ("csp", json!(vek.csp()))]
        {
            assert!(case.json.get(key).is_none_or(|noted| *noted == seen), "{} {key}", case.id);
        }
        assert!(vek.product_name_agrees(), "{}", case.id);
        assert_eq!(vek.chip_id(), (!vlek).then_some(verified.report().chip_id()), "{}", case.id);
        assert_eq!(vek.crl(), CrlStatus::Absent);
        assert!(!vek.simulated());
        assert!(vek.not_after() >= case.at());
        assert_eq!(verified.tcb(TcbKind::Reported), vek.tcb());
    }
}

/// Leaf, issuer, the issuers of all others, and a repeated issuer, in every rotation and its reverse.
#[test]
fn certificates_may_come_in_any_order_and_with_others_beside() {
    let all = authentic("certificates_may_come_in_any_order_and_with_others_beside");
    let mut issuers: Vec<&[u8]> = all.iter().filter_map(|c| c.issuer.as_deref()).collect();
    issuers.sort();
    issuers.dedup();
    for case in &all {
        let mut certificates = case.certificates();
        certificates.extend(issuers.iter().take(MAX_CERTIFICATES - 2));
        for _ in 0..certificates.len() {
            certificates.rotate_left(1);
            let _ = verify(case, &certificates, case.at()).unwrap();
            let reversed: Vec<&[u8]> = certificates.iter().rev().copied().collect();
            let _ = verify(case, &reversed, case.at()).unwrap();
        }
    }
}

#[test]
fn the_right_one_of_several_leaves_is_found() {
    let all = authentic("the_right_one_of_several_leaves_is_found");
    for case in &all {
        let mut certificates: Vec<&[u8]> =
            all.iter().filter(|c| c.id != case.id).filter_map(|c| c.vek.as_deref()).take(6).collect();
        certificates.extend(case.certificates());
        let _ = verify(case, &certificates, case.at()).unwrap();
    }
}

#[test]
fn refuses_a_report_without_endorsement() {
    for case in cases("refuses_a_report_without_endorsement") {
        let at = if case.is_authentic() { case.at() } else { UnixTime::from_secs(1_750_000_000) };
        let without: Vec<&[u8]> = case.issuer.iter().map(Vec::as_slice).collect();
        assert_eq!(verify(&case, &without, at).unwrap_err().id(), "E_NO_ENDORSEMENT", "{}", case.id);
        assert_eq!(verify(&case, &[], at).unwrap_err(), ReportRefusal::NoEndorsement, "{}", case.id);
    }
}

#[test]
fn refuses_a_leaf_without_its_issuer_and_with_another() {
    let all = authentic("refuses_a_leaf_without_its_issuer_and_with_another");
    for case in &all {
        let leaf = case.vek.as_deref().unwrap();
        assert_eq!(verify(case, &[leaf], case.at()).unwrap_err().id(), "E_CHAIN", "{}", case.id);
        for other in all.iter().filter(|other| other.issuer != case.issuer) {
            let refused = verify(case, &[leaf, other.issuer.as_deref().unwrap()], case.at()).unwrap_err();
            assert_eq!(refused.id(), "E_CHAIN", "{} with the issuer of {}", case.id, other.id);
        }
    }
}

/// The TCB that an authentic report's key was derived for, as eight bytes.
fn reported(report: &Report) -> &[u8] {
    &report.raw()[0x180..0x188]
}

/// Every report with the certificates of every other case: refused, and for the first thing that differs.
#[test]
fn refuses_a_report_with_the_certificates_of_another() {
    let all = authentic("refuses_a_report_with_the_certificates_of_another");
    for case in &all {
        let report = Report::parse(&case.report).unwrap();
        for other in all.iter().filter(|other| other.vek != case.vek) {
            let theirs = Report::parse(&other.report).unwrap();
            let product = other.product().or_else(|| theirs.product_from_cpuid());
            let wanted = if report.signing_key() != theirs.signing_key() {
                "R_KEYSEL"
            } else if report.cpuid().is_some() && report.product_from_cpuid() != product {
                "E_PRODUCT"
            } else if report.chip_id() != theirs.chip_id() {
                "E_CHIP_ID"
            } else if reported(&report) != reported(&theirs) {
                "R_TCB"
            } else {
                "R_SIG"
            };
            let refused = verify(case, &other.certificates(), other.at()).unwrap_err();
            assert_eq!(refused.id(), wanted, "{} under {}: {refused}", case.id, other.id);
        }
    }
}

/// The edges are found by asking: the last second is good, the next one is not.
#[test]
fn refuses_certificates_outside_their_validity_and_names_the_clock() {
    for case in authentic("refuses_certificates_outside_their_validity_and_names_the_clock") {
        let verified = verify(&case, &case.certificates(), case.at()).unwrap();
        let last = verified.vek().not_after();
        assert!(verify(&case, &case.certificates(), last).is_ok(), "{}", case.id);
        for outside in [last.as_secs() + 1, 0, i64::MAX] {
            let refused = verify(&case, &case.certificates(), UnixTime::from_secs(outside)).unwrap_err();
            assert_eq!(refused.id(), "E_VALIDITY", "{} at {outside}", case.id);
            assert!(refused.to_string().contains("clock"), "{refused}");
        }
    }
}

#[test]
fn refuses_forged_vceks() {
    let all = authentic("refuses_forged_vceks");
    let Some(folder) = shared::folder("refuses_forged_vceks") else { return };
    let milan = all.iter().find(|c| c.id.starts_with("milan-v3-vcek")).unwrap();
    for name in ["snp__test-vcek-invalid-legacy.der", "snp__test-vcek-invalid-new.der"] {
        let forged = std::fs::read(folder.join("refuse").join(name)).unwrap();
        // Both are valid at this time, and name Milan's ASK as their issuer.
        let at = UnixTime::parse_rfc3339("2026-01-01T00:00:00Z").unwrap();
        let certificates = [forged.as_slice(), milan.issuer.as_deref().unwrap()];
        let refused = verify(milan, &certificates, at).unwrap_err();
        assert_eq!(refused.id(), "E_CHAIN", "{name}: {refused}");
        let beside = [certificates[0], certificates[1], milan.vek.as_deref().unwrap()];
        assert!(verify(milan, &beside, milan.at()).is_ok(), "a forged leaf must not keep out the genuine one");
    }
}

#[test]
fn refuses_more_or_larger_certificates_than_are_looked_at() {
    for case in authentic("refuses_more_or_larger_certificates_than_are_looked_at").iter().take(1) {
        let leaf = case.vek.as_deref().unwrap();
        let many = vec![leaf; MAX_CERTIFICATES + 1];
        assert_eq!(verify(case, &many, case.at()).unwrap_err().id(), "E_CHAIN");
        let large = vec![0x30; ratls::endorsement::MAX_CERTIFICATE_BYTES + 1];
        assert_eq!(verify(case, &[&large], case.at()).unwrap_err().id(), "E_CHAIN");
        assert_eq!(verify(case, &[b""], case.at()).unwrap_err().id(), "E_CHAIN");
        let crls: Vec<&[u8]> = vec![b"\x30\x00"; 9];
        let refused =
            verify_report(&case.report, &case.certificates(), &crls, &TrustAnchors::amd(), case.at()).unwrap_err();
        assert_eq!(refused.id(), "E_CHAIN");
        let refused =
            verify_report(&case.report, &case.certificates(), &crls[..1], &TrustAnchors::amd(), case.at()).unwrap_err();
        assert_eq!(refused.id(), "E_CRL");
    }
}

/// One bit of each byte of each authentic report, and each cut of it.
#[test]
fn never_accepts_a_report_with_a_flipped_bit() {
    let anchors = TrustAnchors::amd();
    for case in authentic("never_accepts_a_report_with_a_flipped_bit") {
        let certificates = case.certificates();
        let mut report = case.report.clone();
        for at in 0..report.len() {
            let bit = 1 << ((at * 5 + case.report[0x50] as usize) % 8);
            report[at] ^= bit;
            let refused = verify_report(&report, &certificates, &[], &anchors, case.at());
            assert!(refused.is_err(), "{} accepted with bit {bit:#x} of byte {at:#x} flipped", case.id);
            report[at] ^= bit;
        }
        assert_eq!(report, case.report);
        for len in [0, 1, 0x2A0, report.len() - 1] {
            assert_eq!(
                verify_report(&report[..len], &certificates, &[], &anchors, case.at()).unwrap_err().id(),
                "R_LEN"
            );
        }
    }
}

/// One bit of each byte of a leaf and of an issuer: refused, or (in the issuer's own envelope) never a different answer.
#[test]
fn never_accepts_a_certificate_with_a_flipped_bit() {
    let anchors = TrustAnchors::amd();
    let all = authentic("never_accepts_a_certificate_with_a_flipped_bit");
    for case in all.iter().filter(|c| c.id.starts_with("turin") || c.id.starts_with("milan-v3-vlek")) {
        for which in 0..2 {
            let whole = case.certificates()[which].to_vec();
            for at in 0..whole.len() {
                let mut changed = whole.clone();
                changed[at] ^= 1 << (at % 8);
                let mut certificates = case.certificates();
                certificates[which] = &changed;
                let refused = verify_report(&case.report, &certificates, &[], &anchors, case.at());
                assert!(refused.is_err(), "{} accepted with byte {at:#x} of certificate {which} changed", case.id);
            }
        }
    }
}
