//! Revocation lists: which of them a policy may ask for, and that an acceptance ends with the first of them.

use ratls::appraise::levels::Row;

use super::aws::{aws, aws_with};
use super::google::{gcp, gcp_with};
use super::*;

const HOUR: i64 = 3_600;
const ANNOUNCES: &str = "crlDistributionPoints=URI:http://example.com/list.crl";

fn after(hours: i64) -> UnixTime {
    UnixTime::from_secs(NOW.as_secs() + hours * HOUR)
}

/// As openssl takes it.
fn digits(time: UnixTime) -> String {
    time.to_string().replace(['-', ':', 'T'], "")
}

fn amds_list(hours: i64) -> Vec<u8> {
    pki().crl(&[], after(-1), after(hours))
}

#[test]
fn an_acceptance_ends_with_the_first_list() {
    let lab = Lab::new("lists-gcp");
    let mut guest = gcp(&lab);
    let until = |guest: &Guest, profile: &str| {
        let result = guest.judge(&policy(profile, &guest.report, ANY, ""));
        accepted(&result);
        result.expires().unwrap()
    };
    assert_eq!(until(&guest, "gcp-snp"), after(24));
    for (hours, ends) in [(1, 1), (23, 23), (25, 24)] {
        guest.crls = vec![lab.crl("root", &[], &digits(after(hours)))];
        assert_eq!(until(&guest, "gcp-snp"), after(ends), "of the key's CA, {hours} h");
        guest.crls = vec![amds_list(hours)];
        assert_eq!(until(&guest, "gcp-snp"), after(ends), "of AMD, {hours} h");
    }
    let lab = Lab::new("lists-aws");
    let mut guest = aws(&lab);
    assert_eq!(until(&guest, "aws-snp"), after(24));
    for (hours, ends) in [(1, 1), (25, 24)] {
        guest.crls = vec![lab.crl_with("sha384", "root", &[], &digits(after(hours)))];
        assert_eq!(until(&guest, "aws-snp"), after(ends), "of the document's CA, {hours} h");
    }
}

/// Whose lists are missing, as the findings say it, where these are required.
fn missing(guest: &Guest, profile: &str, rule: &str) -> Vec<(&'static str, String)> {
    let more = format!("[endorsements]\ncrl = \"{rule}\"\n");
    let result = guest.judge(&policy(profile, &guest.report, ANY, &more));
    let fatal: Vec<_> = result.findings().iter().filter(|f| f.severity() == Severity::Fatal).collect();
    assert!(fatal.iter().all(|finding| finding.id() == "E_CRL_ABSENT"), "{result}");
    if !fatal.iter().any(|finding| finding.subject() == "revocation list") {
        assert_eq!(result.levels_if_fresh().amd_sp(), Row::Ok, "a cloud's list is no matter of the AMD-SP");
    }
    fatal.iter().map(|finding| (finding.subject(), finding.seen().to_owned())).collect()
}

#[test]
fn plat_n22_lists_that_are_required_are_amds_and_those_that_certificates_announce() {
    let amds = || ("revocation list", "none".to_owned());
    let of = |issuer: &str| ("vTPM's revocation list", format!("none of {issuer}"));
    let lab = Lab::new("required-gcp");
    let mut silent = gcp(&lab);
    assert_eq!(missing(&silent, "gcp-snp", "if-present"), []);
    assert_eq!(missing(&silent, "gcp-snp", "require"), [amds()]);
    silent.crls = vec![amds_list(1)];
    assert_eq!(missing(&silent, "gcp-snp", "require"), [], "a CA that announces no list has none");

    let lab = Lab::new("announced-gcp");
    let mut guest = gcp_with(&lab, ANNOUNCES);
    assert_eq!(missing(&guest, "gcp-snp", "if-present"), []);
    assert_eq!(missing(&guest, "gcp-snp", "require"), [amds(), of("EK/AK CA Root")]);
    assert_eq!(missing(&guest, "gcp-snp", "require-amd"), [amds()]);
    guest.crls = vec![amds_list(1)];
    assert_eq!(missing(&guest, "gcp-snp", "require"), [of("EK/AK CA Root")]);
    assert_eq!(missing(&guest, "gcp-snp", "require-amd"), []);
    guest.crls.push(lab.crl("root", &[], &digits(after(1))));
    assert_eq!(missing(&guest, "gcp-snp", "require"), []);

    let lab = Lab::new("announced-aws");
    let mut guest = aws_with(&lab, ANNOUNCES);
    guest.crls = vec![amds_list(1)];
    assert_eq!(missing(&guest, "aws-snp", "require"), [of("aws.nitro-enclaves")]);
    guest.crls.push(lab.crl_with("sha384", "root", &[], &digits(after(1))));
    assert_eq!(missing(&guest, "aws-snp", "require"), []);
}
