//! The ordinary verifier accepts what the simulator signs, under the simulator's root and under no other.

use ratls::endorsement::{CrlStatus, TrustAnchors, VekKind};
use ratls::tcb::Product;
use ratls::time::{CLOCK_LEEWAY_SECS, UnixTime};
use ratls::verify::{ReportRefusal, VerifiedReport, verify_report};
use simulator::{Authority, Config, Pki, RsaSize, SimulatedAmdSp, Validity, Vek};
use std::sync::Arc;

const DATA: [u8; 64] = [0x5A; 64];
/// 2026-11-23T21:00:00Z
const NOW: UnixTime = UnixTime::from_secs(1_795_467_600);
const CSP: &str = "CN=cc-simulated.example";

fn pki(product: Product) -> Arc<Pki> {
    Arc::new(Pki::generate(product, RsaSize::Bits2048))
}

fn veks() -> [Vek; 2] {
    [Vek::Vcek, Vek::Vlek { csp: CSP.to_owned() }]
}

fn anchors(pki: &Pki) -> TrustAnchors {
    TrustAnchors::amd().with_simulator_root(pki.root_pem().as_bytes()).expect("a root")
}

fn verify(
    sp: &mut SimulatedAmdSp,
    crls: &[Vec<u8>],
    anchors: &TrustAnchors,
    now: UnixTime,
) -> Result<VerifiedReport, ReportRefusal> {
    let report = sp.report(&DATA).expect("a report");
    let certificates = sp.certificates();
    let certificates: Vec<&[u8]> = certificates.iter().map(Vec::as_slice).collect();
    let crls: Vec<&[u8]> = crls.iter().map(Vec::as_slice).collect();
    verify_report(&report, &certificates, &crls, anchors, now)
}

#[test]
fn every_product_version_and_key_is_accepted_under_the_root_and_refused_without_it() {
    for product in Product::ALL {
        let pki = pki(product);
        let trusted = anchors(&pki);
        for report_version in [2, 3, 4, 5] {
            for vek in veks() {
                let config = Config { report_version, vek: vek.clone(), ..Config::new(product) };
                let mut sp = SimulatedAmdSp::new(&pki, config);
                let what = format!("{product}, version {report_version}, {vek:?}");

                let crls = [sp.crl()];
                let verified = verify(&mut sp, &crls, &trusted, NOW).unwrap_or_else(|e| panic!("{what}: {e:?}"));
                let key = verified.vek();
                assert!(key.simulated(), "{what}");
                assert_eq!(key.product(), product, "{what}");
                assert_eq!(key.crl(), CrlStatus::Checked { next_update: Validity::LONG.not_after }, "{what}");
                match vek {
                    Vek::Vcek => {
                        assert_eq!((key.kind(), key.csp()), (VekKind::Vcek, None));
                        assert_eq!(key.chip_id(), Some(sp.chip_id()));
                    }
                    Vek::Vlek { csp } => {
                        assert_eq!((key.kind(), key.csp()), (VekKind::Vlek, Some(csp.as_str())));
                        assert_eq!(key.chip_id(), None);
                    }
                }

                let refused = verify(&mut sp, &[], &TrustAnchors::amd(), NOW).unwrap_err();
                assert_eq!(refused.id(), "E_ROOT", "{what}");
            }
        }
    }
}

#[test]
fn another_simulators_root_is_no_root_of_this_one() {
    let (ours, theirs) = (pki(Product::Milan), pki(Product::Milan));
    let mut sp = SimulatedAmdSp::new(&theirs, Config::new(Product::Milan));
    assert_eq!(verify(&mut sp, &[], &anchors(&ours), NOW).unwrap_err().id(), "E_ROOT");
}

#[test]
fn a_simulator_loaded_from_its_directory_signs_under_the_root_that_lies_there() {
    let dir = tempfile::tempdir().unwrap();
    // AMD's size, to see once that all of it works with that.
    Pki::load_or_create(dir.path(), Product::Genoa, RsaSize::Bits4096).unwrap();
    let pki = Arc::new(Pki::load_or_create(dir.path(), Product::Genoa, RsaSize::Bits4096).unwrap());
    let root = std::fs::read(dir.path().join(simulator::ROOT_FILE)).unwrap();
    let anchors = TrustAnchors::amd().with_simulator_root(&root).unwrap();
    let mut sp = SimulatedAmdSp::new(&pki, Config::new(Product::Genoa));
    assert!(verify(&mut sp, &[], &anchors, NOW).unwrap().vek().simulated());
    let table = sp.certificate_table();
    assert!(table.len() <= 0x4000, "{} bytes", table.len());
}

#[test]
fn a_leaf_outside_its_validity_is_refused_at_both_ends() {
    let pki = pki(Product::Milan);
    let leaf_validity = Validity { not_before: UnixTime::from_secs(1_700_000_000), not_after: NOW };
    let mut sp = SimulatedAmdSp::new(&pki, Config { leaf_validity, ..Config::new(Product::Milan) });
    let mut at = |now| verify(&mut sp, &[], &anchors(&pki), now).map(drop).map_err(|e| e.id());
    assert_eq!(at(leaf_validity.not_before), Ok(()));
    assert_eq!(at(leaf_validity.not_after), Ok(()));
    // A clock may be a minute slow, and not a second more; an end has no leeway.
    let before = |secs| UnixTime::from_secs(leaf_validity.not_before.as_secs() - secs);
    assert_eq!(at(before(CLOCK_LEEWAY_SECS)), Ok(()));
    assert_eq!(at(before(CLOCK_LEEWAY_SECS + 1)), Err("E_VALIDITY"));
    assert_eq!(at(UnixTime::from_secs(NOW.as_secs() + 1)), Err("E_VALIDITY"));
}

#[test]
fn a_list_that_names_the_issuer_revokes_the_key() {
    let pki = pki(Product::Milan);
    let mut sp = SimulatedAmdSp::new(&pki, Config::new(Product::Milan));
    let crl = |authority| pki.crl(&[pki.serial(authority)], Validity::LONG.not_before, Validity::LONG.not_after);
    assert_eq!(verify(&mut sp, &[crl(Authority::Ask)], &anchors(&pki), NOW).unwrap_err().id(), "E_REVOKED");
    assert!(verify(&mut sp, &[crl(Authority::Asvk)], &anchors(&pki), NOW).is_ok());
}
