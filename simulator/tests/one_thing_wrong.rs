//! A simulated chain with one thing wrong at a time: each is refused for its own reason, and the untouched one is not.

use ratls::endorsement::{CrlStatus, TrustAnchors};
use ratls::tcb::{Product, TcbVersion};
use ratls::time::UnixTime;
use ratls::verify::report::{ReportRefusal, VerifiedReport, verify_report};
use simulator::{Authority, Config, Extension, LeafTemplate, Pki, RsaSize, SimulatedAmdSp, Validity, Vek};
use std::sync::{Arc, LazyLock};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const EARLIER: UnixTime = UnixTime::from_secs(1_799_000_000);
const LATER: UnixTime = UnixTime::from_secs(1_801_000_000);

static MILAN: LazyLock<Arc<Pki>> = LazyLock::new(|| pki(Product::Milan));
static TURIN: LazyLock<Arc<Pki>> = LazyLock::new(|| pki(Product::Turin));

fn pki(product: Product) -> Arc<Pki> {
    Arc::new(Pki::generate(product, RsaSize::Bits2048))
}

fn anchors(pki: &Pki) -> TrustAnchors {
    TrustAnchors::amd().with_simulator_root(pki.root_pem().as_bytes()).unwrap()
}

fn device(config: Config) -> SimulatedAmdSp {
    SimulatedAmdSp::new(if config.product == Product::Turin { &TURIN } else { &MILAN }, config)
}

fn milan(change: impl FnOnce(&mut Config)) -> SimulatedAmdSp {
    let mut config = Config::new(Product::Milan);
    change(&mut config);
    device(config)
}

fn vlek() -> SimulatedAmdSp {
    milan(|config| config.vek = Vek::Vlek { csp: "CN=cc-test.example".to_owned() })
}

/// A report of this device under these certificates, a leaf first.
fn verify(sp: &SimulatedAmdSp, certificates: &[Vec<u8>], crls: &[Vec<u8>]) -> Result<VerifiedReport, ReportRefusal> {
    let report = sp.report_with(&[7; 64], |_| ());
    let certificates: Vec<&[u8]> = certificates.iter().map(Vec::as_slice).collect();
    let crls: Vec<&[u8]> = crls.iter().map(Vec::as_slice).collect();
    verify_report(&report, &certificates, &crls, &anchors(sp.pki()), NOW)
}

/// The same under a leaf of which something was changed before it was signed.
fn with_leaf(sp: &SimulatedAmdSp, change: impl FnOnce(&mut LeafTemplate)) -> Result<VerifiedReport, ReportRefusal> {
    let mut leaf = sp.leaf_template();
    change(&mut leaf);
    verify(sp, &[sp.pki().issue(&leaf), sp.certificates().remove(1)], &[])
}

fn position(leaf: &LeafTemplate, suffix: &[u32]) -> usize {
    let oid = Extension::raw(suffix, &[]).oid;
    leaf.extensions.iter().position(|e| e.oid == oid).expect("the extension is there")
}

#[test]
fn the_untouched_chain_is_accepted() {
    for sp in [milan(|_| ()), vlek(), device(Config::new(Product::Turin))] {
        let verified = with_leaf(&sp, |_| ()).unwrap();
        assert!(verified.vek().simulated());
        assert_eq!(verified.vek().crl(), CrlStatus::Absent);
        assert_eq!(verified.vek().chip_id().is_some(), verified.vek().csp().is_none());
    }
}

#[test]
fn refuses_a_leaf_without_one_of_its_extensions() {
    for (sp, suffixes) in [
        (milan(|_| ()), &[&[2][..], &[3, 1], &[3, 2], &[3, 3], &[3, 8], &[4]][..]),
        (vlek(), &[&[2], &[3, 3], &[5]]),
        (device(Config::new(Product::Turin)), &[&[3, 9], &[4]]),
    ] {
        for suffix in suffixes {
            let refused = with_leaf(&sp, |leaf| {
                leaf.extensions.remove(position(leaf, suffix));
            });
            assert_eq!(refused.unwrap_err().id(), "E_EXTENSION", "without {suffix:?}");
        }
    }
}

#[test]
fn refuses_a_leaf_with_an_extension_twice() {
    for suffix in [&[2][..], &[3, 1], &[4]] {
        let refused =
            with_leaf(&milan(|_| ()), |leaf| leaf.extensions.push(leaf.extensions[position(leaf, suffix)].clone()));
        assert_eq!(refused.unwrap_err().id(), "E_EXTENSION", "{suffix:?} twice");
    }
}

#[test]
fn refuses_a_leaf_with_the_extension_of_the_other_kind() {
    let csp = Extension::text(&[5], "CN=cc-test.example");
    assert_eq!(with_leaf(&milan(|_| ()), |leaf| leaf.extensions.push(csp)).unwrap_err().id(), "E_EXTENSION");
    let hw_id = Extension::raw(&[4], &[1; 64]);
    assert_eq!(with_leaf(&vlek(), |leaf| leaf.extensions.push(hw_id)).unwrap_err().id(), "E_EXTENSION");
}

#[test]
fn refuses_an_unknown_critical_extension() {
    let mut unknown = Extension::integer(&[99], 1);
    assert!(with_leaf(&milan(|_| ()), |leaf| leaf.extensions.push(unknown.clone())).is_ok());
    unknown.critical = true;
    assert_eq!(with_leaf(&milan(|_| ()), |leaf| leaf.extensions.push(unknown)).unwrap_err().id(), "E_EXTENSION");
}

#[test]
fn refuses_versions_in_other_encodings() {
    let raw = |suffix, value: &'static [u8]| Extension::raw(suffix, value);
    for bad in [
        raw(&[3, 1], &[2, 2, 0, 4]),
        raw(&[3, 1], &[2, 2, 1, 4]),
        raw(&[3, 1], &[2, 1, 0x84]),
        raw(&[3, 1], &[4, 1, 4]),
        raw(&[3, 1], &[2, 1, 4, 0]),
        raw(&[3, 1], &[]),
        raw(&[3, 4], &[2, 1, 1]),
        raw(&[2], &[0x0C, 5, b'M', b'i', b'l', b'a', b'n']),
    ] {
        let refused = with_leaf(&milan(|_| ()), |leaf| {
            let at = leaf.extensions.iter().position(|e| e.oid == bad.oid).unwrap();
            leaf.extensions[at] = bad.clone();
        });
        assert_eq!(refused.unwrap_err().id(), "E_EXTENSION", "{bad:?}");
    }
}

#[test]
fn a_chip_id_may_be_wrapped_but_not_shortened_or_padded() {
    let hw_id = |sp: &SimulatedAmdSp, value: Vec<u8>| {
        with_leaf(sp, |leaf| {
            let at = position(leaf, &[4]);
            leaf.extensions[at].value = value;
        })
        .map(|_| ())
        .map_err(|e| e.id())
    };
    let sp = milan(|_| ());
    let id = sp.chip_id().as_bytes().to_vec();
    assert_eq!(hw_id(&sp, id.clone()), Ok(()));
    assert_eq!(hw_id(&sp, [&[4, 64], &id[..]].concat()), Ok(()));
    assert_eq!(hw_id(&sp, [&[5, 64], &id[..]].concat()), Err("E_EXTENSION"));
    assert_eq!(hw_id(&sp, id[..8].to_vec()), Err("E_EXTENSION"), "only Turin's are short");
    assert_eq!(hw_id(&sp, [&id[..], &[0]].concat()), Err("E_EXTENSION"));
    assert_eq!(hw_id(&sp, [&id[..63], &[id[63] ^ 1]].concat()), Err("E_CHIP_ID"));

    let sp = device(Config::new(Product::Turin));
    let id = sp.chip_id().as_bytes().to_vec();
    assert_eq!(hw_id(&sp, id[..8].to_vec()), Ok(()));
    assert_eq!(hw_id(&sp, id.clone()), Ok(()));
    assert_eq!(hw_id(&sp, [&[4, 8], &id[..8]].concat()), Ok(()));
    assert_eq!(hw_id(&sp, id[..7].to_vec()), Err("E_EXTENSION"));
    assert_eq!(hw_id(&sp, [&id[..8], &[1; 56]].concat()), Err("E_CHIP_ID"));
}

#[test]
fn refuses_a_leaf_of_the_wrong_kind_of_authority() {
    for (sp, other) in [(milan(|_| ()), Authority::Asvk), (vlek(), Authority::Ask)] {
        let leaf = sp.pki().issue(&LeafTemplate { issuer: other, ..sp.leaf_template() });
        let refused = verify(&sp, &[leaf, sp.pki().certificate(other).to_vec()], &[]).unwrap_err();
        assert_eq!(refused.id(), "E_PRODUCT", "{refused}");
        let leaf = sp.pki().issue(&LeafTemplate { issuer: Authority::Ark, ..sp.leaf_template() });
        assert_eq!(verify(&sp, &[leaf], &[]).unwrap_err().id(), "E_PRODUCT", "the root issues no leaves");
    }
}

#[test]
fn refuses_a_key_that_is_no_point_on_p384() {
    for key in [vec![4; 65], vec![4; 96], [vec![2], vec![7; 96]].concat()] {
        let refused = with_leaf(&milan(|_| ()), |leaf| leaf.public_key = key);
        assert_eq!(refused.unwrap_err().id(), "E_EXTENSION");
    }
    let refused = with_leaf(&milan(|_| ()), |leaf| leaf.public_key[96] ^= 1);
    assert_eq!(refused.unwrap_err().id(), "R_SIG");
}

#[test]
fn refuses_a_validity_that_does_not_contain_now() {
    for (not_before, not_after) in [(EARLIER, EARLIER), (LATER, LATER), (LATER, EARLIER)] {
        let validity = Validity { not_before, not_after };
        assert_eq!(with_leaf(&milan(|_| ()), |leaf| leaf.validity = validity).unwrap_err().id(), "E_VALIDITY");
    }
    assert!(with_leaf(&milan(|_| ()), |leaf| leaf.validity = Validity { not_before: NOW, not_after: NOW }).is_ok());
    for (not_before, not_after) in [(EARLIER, EARLIER), (LATER, LATER)] {
        let old = Arc::new(Pki::generate_valid(Product::Milan, RsaSize::Bits2048, Validity { not_before, not_after }));
        let sp = SimulatedAmdSp::new(&old, Config::new(Product::Milan));
        assert_eq!(with_leaf(&sp, |_| ()).unwrap_err().id(), "E_VALIDITY", "of the authorities");
    }
}

#[test]
fn the_whole_chain_says_until_when_it_is_valid() {
    let verified = with_leaf(&milan(|_| ()), |leaf| leaf.validity.not_after = LATER).unwrap();
    assert_eq!(verified.vek().not_after(), LATER);
}

#[test]
fn refuses_the_chain_of_another_product_than_the_report() {
    let sp = milan(|config| config.cpuid = [0x19, 0x11, 1]);
    assert_eq!(with_leaf(&sp, |_| ()).unwrap_err().id(), "E_PRODUCT", "Genoa's CPUID");
    let sp = milan(|config| config.cpuid = [0x1B, 0, 0]);
    assert!(matches!(with_leaf(&sp, |_| ()), Err(ReportRefusal::UnknownProduct { .. })));
}

#[test]
fn a_wrong_product_name_counts_only_where_the_report_cannot_tell() {
    let rename = |leaf: &mut LeafTemplate| {
        let at = position(leaf, &[2]);
        leaf.extensions[at] = Extension::text(&[2], "Genoa-B1");
    };
    let verified = with_leaf(&milan(|_| ()), rename).unwrap();
    assert!(!verified.vek().product_name_agrees());
    assert_eq!((verified.vek().product(), verified.vek().product_name()), (Product::Milan, "Genoa-B1"));
    let refused = with_leaf(&milan(|config| config.report_version = 2), rename).unwrap_err();
    assert!(matches!(refused, ReportRefusal::ProductName { .. }), "{refused}");
}

#[test]
fn refuses_versions_above_the_one_that_runs() {
    for above in [|c: &mut Config| c.committed_tcb.snp += 1, |c: &mut Config| c.reported_tcb.microcode += 1] {
        let refused = with_leaf(&milan(above), |_| ()).unwrap_err();
        assert!(matches!(refused, ReportRefusal::TcbAboveCurrent { .. }), "{refused}");
    }
    // A migrated guest may have been launched on something newer.
    assert!(with_leaf(&milan(|config| config.launch_tcb.snp += 1), |_| ()).is_ok());
}

#[test]
fn refuses_reserved_bytes_of_a_signed_tcb() {
    let sp = milan(|_| ());
    let certificates = sp.certificates();
    let certificates: Vec<&[u8]> = certificates.iter().map(Vec::as_slice).collect();
    for offset in [0x038, 0x180, 0x1E0, 0x1F0] {
        let report = sp.report_with(&[7; 64], |raw| raw[offset + 2] = 1);
        let refused = verify_report(&report, &certificates, &[], &anchors(&MILAN), NOW).unwrap_err();
        assert_eq!(refused.id(), "R_RESERVED", "{refused}");
    }
}

#[test]
fn refuses_a_certificate_for_a_higher_version_than_reported() {
    let refused = with_leaf(&milan(|_| ()), |leaf| {
        let at = position(leaf, &[3, 8]);
        leaf.extensions[at] = Extension::integer(&[3, 8], 220);
    });
    assert_eq!(
        refused.unwrap_err(),
        ReportRefusal::TcbNotOfKey {
            seen: TcbVersion::new_milan_genoa(4, 0, 24, 219),
            wanted: TcbVersion::new_milan_genoa(4, 0, 24, 220),
        }
    );
}

#[test]
fn two_simulators_of_the_same_names_are_told_apart_by_their_keys() {
    let sp = milan(|_| ());
    let other = pki(Product::Milan);
    let mixed = [sp.certificates()[0].clone(), other.certificate(Authority::Ask).to_vec()];
    assert_eq!(verify(&sp, &mixed, &[]).unwrap_err().id(), "E_ROOT");
    let both = [mixed[0].clone(), mixed[1].clone(), sp.certificates()[1].clone()];
    assert!(verify(&sp, &both, &[]).is_ok(), "an issuer of the same name must not keep out the right one");
    let stranger = other.issue(&sp.leaf_template());
    let refused = verify(&sp, &[stranger, sp.certificates()[1].clone()], &[]).unwrap_err();
    assert_eq!(refused.id(), "E_CHAIN", "{refused}");
}

#[test]
fn the_root_of_a_simulator_is_one_per_product() {
    let twice = anchors(&MILAN).with_simulator_root(MILAN.root_pem().as_bytes());
    assert!(twice.is_err());
    let second = anchors(&MILAN).with_simulator_root(pki(Product::Milan).root_pem().as_bytes());
    assert!(second.is_err());
    assert!(anchors(&MILAN).with_simulator_root(TURIN.certificate(Authority::Ark)).is_ok());
    let file = |second: String| TrustAnchors::amd().with_simulator_root([MILAN.root_pem(), second].concat().as_bytes());
    assert!(file(TURIN.root_pem()).is_ok());
    assert!(file(pki(Product::Milan).root_pem()).is_err());
    let no_root = MILAN.certificate(Authority::Ask);
    assert!(TrustAnchors::amd().with_simulator_root(no_root).is_err());
}

#[test]
fn lists_are_used_where_the_root_of_the_chain_issued_them() {
    let sp = milan(|_| ());
    let good = sp.certificates();
    let fresh = |pki: &Pki, revoked: &[u64]| pki.crl(revoked, EARLIER, LATER);

    let of_others = [fresh(&TURIN, &[TURIN.serial(Authority::Ask)])];
    assert_eq!(verify(&sp, &good, &of_others).unwrap().vek().crl(), CrlStatus::Absent);

    let sooner = UnixTime::from_secs(LATER.as_secs() - 1);
    let two = [fresh(&MILAN, &[]), MILAN.crl(&[], EARLIER, sooner), of_others[0].clone()];
    assert_eq!(verify(&sp, &good, &two).unwrap().vek().crl(), CrlStatus::Checked { next_update: sooner });

    let id = |crls: &[Vec<u8>]| verify(&sp, &good, crls).map(|_| ()).map_err(|e| e.id());
    assert_eq!(id(&[fresh(&MILAN, &[1, MILAN.serial(Authority::Ask)])]), Err("E_REVOKED"));
    assert_eq!(id(&[fresh(&MILAN, &[MILAN.serial(Authority::Ark)])]), Err("E_REVOKED"));
    assert_eq!(id(&[fresh(&MILAN, &[MILAN.serial(Authority::Asvk)])]), Ok(()));
    assert_eq!(id(&[fresh(&MILAN, &[0])]), Ok(()), "every leaf has serial number 0");
    assert_eq!(id(&[MILAN.crl(&[], EARLIER, EARLIER)]), Err("E_CRL"));
    assert_eq!(id(&[MILAN.crl(&[], LATER, LATER)]), Err("E_CRL"));
    assert_eq!(
        id(&[MILAN.crl(&[MILAN.serial(Authority::Ask)], EARLIER, EARLIER)]),
        Err("E_REVOKED"),
        "what an old list revoked stays revoked"
    );
    assert_eq!(id(&[fresh(&pki(Product::Milan), &[])]), Err("E_CRL"), "the same name, another key");
    assert_eq!(id(&[fresh(&MILAN, &[]), b"\x30\x00".to_vec()]), Err("E_CRL"));
    assert_eq!(id(&[vec![0x30; 16 * 1024 + 1]]), Err("E_CRL"));
}

#[test]
fn no_bit_of_a_list_can_be_changed() {
    let sp = milan(|_| ());
    let certificates = sp.certificates();
    let crl = MILAN.crl(&[MILAN.serial(Authority::Ask)], EARLIER, LATER);
    for at in 0..crl.len() {
        let mut changed = crl.clone();
        changed[at] ^= 1 << (at % 8);
        match verify(&sp, &certificates, &[changed]) {
            Err(refused) => assert!(matches!(refused.id(), "E_CRL" | "E_REVOKED"), "byte {at:#x}: {refused}"),
            // A changed issuer makes it a list of somebody else, which says nothing here.
            Ok(verified) => assert_eq!(verified.vek().crl(), CrlStatus::Absent, "byte {at:#x}"),
        }
    }
}
