//! What a verifier remembers changes how long an answer takes, and never the answer.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use ratls::endorsement::TrustAnchors;
use ratls::tcb::Product;
use ratls::time::UnixTime;
use ratls::verify::{ReportRefusal, VerifiedReport, verify_report};
use simulator::{Config, Pki, RsaSize, SimulatedAmdSp};

struct Guest {
    sp: SimulatedAmdSp,
    certificates: Vec<Vec<u8>>,
    crl: Vec<u8>,
    anchors: TrustAnchors,
}

const DAY: i64 = 86_400;

fn now() -> UnixTime {
    UnixTime::from_secs(i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap())
}

fn later(secs: i64) -> UnixTime {
    UnixTime::from_secs(now().as_secs() + secs)
}

impl Guest {
    fn new() -> Guest {
        let pki = Arc::new(Pki::generate(Product::Milan, RsaSize::Bits2048));
        let anchors = TrustAnchors::amd().with_simulator_root(pki.root_pem().as_bytes()).unwrap().remembering();
        let sp = SimulatedAmdSp::new(&pki, Config::new(Product::Milan));
        Guest { certificates: sp.certificates(), crl: pki.crl(&[], later(-DAY), later(10 * DAY)), sp, anchors }
    }

    fn report(&self, data: u8) -> Vec<u8> {
        self.sp.report_with(&[data; 64], |_| ())
    }

    fn verify(&self, report: &[u8], at: UnixTime) -> Result<VerifiedReport, ReportRefusal> {
        self.verify_under(&self.anchors, report, at)
    }

    fn verify_under(
        &self,
        anchors: &TrustAnchors,
        report: &[u8],
        at: UnixTime,
    ) -> Result<VerifiedReport, ReportRefusal> {
        let certificates: Vec<&[u8]> = self.certificates.iter().map(Vec::as_slice).collect();
        verify_report(report, &certificates, &[&self.crl], anchors, at)
    }
}

#[test]
fn the_same_and_other_reports_under_a_remembered_chain_are_accepted_as_before() {
    let guest = Guest::new();
    let first = guest.verify(&guest.report(1), now()).unwrap();
    for data in [1, 1, 2, 3] {
        let again = guest.verify(&guest.report(data), now()).unwrap();
        assert_eq!(again.vek().public_key(), first.vek().public_key());
        assert!(again.vek().simulated());
        assert_eq!(again.report().report_data().as_bytes(), &[data; 64]);
    }
}

#[test]
fn every_changed_byte_of_a_report_is_refused_with_the_chain_and_the_report_remembered() {
    let guest = Guest::new();
    let report = guest.report(1);
    let _ = guest.verify(&report, now()).unwrap();
    for at in (0..report.len()).step_by(7) {
        let mut changed = report.clone();
        changed[at] ^= 1;
        let fresh = guest.verify_under(&guest.anchors.clone().remembering(), &changed, now()).unwrap_err();
        assert_eq!(guest.verify(&changed, now()).unwrap_err(), fresh, "byte {at}");
    }
}

#[test]
fn what_ends_with_time_ends_although_it_is_remembered() {
    let guest = Guest::new();
    let report = guest.report(1);
    let _ = guest.verify(&report, now()).unwrap();
    let _ = guest.verify(&report, later(9 * DAY)).unwrap();
    assert_eq!(guest.verify(&report, later(11 * DAY)).unwrap_err().id(), "E_CRL");
    assert_eq!(guest.verify(&report, later(200 * 365 * DAY)).unwrap_err().id(), "E_VALIDITY");
    // A clock that was set back finds nothing remembered, and what is not yet valid is refused.
    assert_eq!(guest.verify(&report, later(-2 * DAY)).unwrap_err().id(), "E_CRL");
}

#[test]
fn a_list_that_revokes_is_not_overlooked_for_one_that_did_not() {
    let mut guest = Guest::new();
    let report = guest.report(1);
    let _ = guest.verify(&report, now()).unwrap();
    let pki = guest.sp.pki().clone();
    guest.crl = pki.crl(&[pki.serial(simulator::Authority::Ask)], later(-DAY), later(10 * DAY));
    assert_eq!(guest.verify(&report, now()).unwrap_err().id(), "E_REVOKED");
}

#[test]
fn other_roots_remember_nothing_of_these() {
    let guest = Guest::new();
    let report = guest.report(1);
    let _ = guest.verify(&report, now()).unwrap();
    let other = Arc::new(Pki::generate(Product::Milan, RsaSize::Bits2048));
    for anchors in [
        TrustAnchors::amd().remembering(),
        TrustAnchors::amd().with_simulator_root(other.root_pem().as_bytes()).unwrap().remembering(),
    ] {
        assert_eq!(guest.verify_under(&anchors, &report, now()).unwrap_err().id(), "E_ROOT");
    }
    // A root that is added to roots that remember makes other roots.
    let amd = TrustAnchors::amd().remembering();
    assert!(guest.verify_under(&amd, &report, now()).is_err());
    let with = amd.clone().with_simulator_root(guest.sp.root_pem().as_bytes()).unwrap();
    let _ = guest.verify_under(&with, &report, now()).unwrap();
    assert!(guest.verify_under(&amd, &report, now()).is_err());
}
