//! What the simulator makes is read by programs that know nothing of it: `openssl` and the report parser of `ratls`.

use ratls::crypto::{self, Scheme};
use ratls::evidence::snp::{Report, SigningKey, TcbKind};
use ratls::tcb::Product;
use ratls::time::UnixTime;
use simulator::{Authority, Config, Pki, RsaSize, SimulatedAmdSp, Vek};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

const DATA: [u8; 64] = [0x5A; 64];

fn vlek() -> Vek {
    Vek::Vlek { csp: "CN=cc-simulated.example".to_owned() }
}

fn pki(product: Product) -> Arc<Pki> {
    Arc::new(Pki::generate(product, RsaSize::Bits2048))
}

fn openssl(dir: &Path, arguments: &[&str]) -> Option<(bool, String)> {
    let output = match Command::new("openssl").args(arguments).current_dir(dir).output() {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: {arguments:?}: no openssl program ({error})");
            return None;
        }
    };
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

#[test]
fn openssl_verifies_the_chain_from_the_root_file() {
    for product in Product::ALL {
        let pki = pki(product);
        for vek in [Vek::Vcek, vlek()] {
            let sp = SimulatedAmdSp::new(&pki, Config { vek, ..Config::new(product) });
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("root.pem"), sp.root_pem()).unwrap();
            let names = ["leaf.der", "issuer.der"];
            for (name, der) in names.iter().zip(sp.certificates()) {
                std::fs::write(dir.path().join(name), der).unwrap();
                let pem = name.replace("der", "pem");
                let Some((true, _)) = openssl(dir.path(), &["x509", "-inform", "der", "-in", name, "-out", &pem])
                else {
                    return;
                };
            }
            // Not -x509_strict: that wants key identifiers on the leaf, and AMD's leaves have none either.
            let verified =
                openssl(dir.path(), &["verify", "-CAfile", "root.pem", "-untrusted", "issuer.pem", "leaf.pem"]);
            assert_eq!(verified, Some((true, "leaf.pem: OK\n".to_owned())));
            let (_, text) = openssl(dir.path(), &["x509", "-in", "leaf.pem", "-noout", "-text"]).unwrap();
            assert!(text.contains("Serial Number: 0 (0x0)") && text.contains("O = EVIDENT simulator: proves nothing"));
        }
    }
}

/// The object identifiers of a certificate, in its order, as `openssl` names them.
fn objects(der: &Path) -> Option<Vec<String>> {
    let arguments = ["asn1parse", "-inform", "der", "-in", der.file_name()?.to_str()?];
    let (parsed, text) = openssl(der.parent()?, &arguments)?;
    assert!(parsed, "{text}");
    Some(text.lines().filter_map(|line| line.split_once("OBJECT")).map(|(_, name)| name.trim().to_owned()).collect())
}

#[test]
fn leaves_have_the_attributes_and_extensions_of_real_ones_in_the_same_order() {
    let evidence = match std::env::var_os("EVIDENT_EVIDENCE") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/evidence"),
    };
    let Ok(cases) = evidence.join("snp").read_dir() else {
        println!(
            "skipped: leaves_have_the_attributes_and_extensions_of_real_ones_in_the_same_order: no evidence folder"
        );
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let simulated = dir.path().join("leaf.der");
    let mut compared = 0;
    for case in cases {
        let case = case.unwrap();
        let name = case.file_name().into_string().unwrap();
        let Some(product) = Product::ALL.into_iter().find(|p| name.starts_with(&p.name().to_lowercase())) else {
            continue;
        };
        let vek = if name.contains("vlek") { vlek() } else { Vek::Vcek };
        let sp = SimulatedAmdSp::new(&pki(product), Config { vek, ..Config::new(product) });
        std::fs::write(&simulated, &sp.certificates()[0]).unwrap();
        let Some(ours) = objects(&simulated) else { return };
        let real = case.path().join("vek.der");
        assert_eq!(Some(ours), objects(&real), "{name}");
        compared += 1;
    }
    assert!(compared >= 10, "{compared} certificates compared");
}

#[test]
fn openssl_verifies_the_crl_and_finds_the_revoked_serial() {
    let pki = pki(Product::Milan);
    let dir = tempfile::tempdir().unwrap();
    let (this_update, next_update) = (UnixTime::from_secs(1_700_000_000), UnixTime::from_secs(2_000_000_000));
    let crl = pki.crl(&[pki.serial(Authority::Ask)], this_update, next_update);
    std::fs::write(dir.path().join("crl.der"), crl).unwrap();
    std::fs::write(dir.path().join("root.pem"), pki.root_pem()).unwrap();
    let arguments = ["crl", "-inform", "der", "-in", "crl.der", "-CAfile", "root.pem", "-noout", "-text"];
    let Some((true, text)) = openssl(dir.path(), &arguments) else { return };
    assert!(text.contains("verify OK") && text.contains("Serial Number: 010001"), "{text}");
    assert!(text.contains("Next Update: May 18 03:33:20 2033 GMT"), "{text}");
}

#[test]
fn every_field_of_the_configuration_is_where_the_parser_looks_for_it() {
    for product in Product::ALL {
        let pki = pki(product);
        for report_version in [2, 3, 4, 5] {
            for vek in [Vek::Vcek, vlek()] {
                let config = Config { report_version, vek, guest_svn: 7, ..Config::new(product) };
                let mut sp = SimulatedAmdSp::new(&pki, config.clone());
                let raw = sp.report(&DATA).unwrap();
                let report = Report::parse(&raw).unwrap();
                assert_eq!(report.version(), report_version);
                assert_eq!(report.guest_svn(), 7);
                assert_eq!(report.report_data().as_bytes(), &DATA);
                assert_eq!(report.measurement(), &config.measurement);
                assert_eq!(report.host_data(), &config.host_data);
                assert_eq!(report.vmpl(), 0);
                assert_eq!(
                    report.tcb(TcbKind::Reported, product.layout()).bootloader(),
                    config.reported_tcb.bootloader
                );
                assert_eq!(report.tcb(TcbKind::Launch, product.layout()).microcode(), config.launch_tcb.microcode);
                let vcek = config.vek == Vek::Vcek;
                assert_eq!(report.signing_key(), if vcek { SigningKey::Vcek } else { SigningKey::Vlek });
                assert_eq!(report.chip_id().is_zero(), !vcek);
                let key = sp.leaf_template().public_key;
                let signature = report.signature_fixed();
                crypto::verify(Scheme::EcdsaP384Sha384Fixed, &key, report.signed_bytes(), &signature).unwrap();
            }
        }
    }
}

#[test]
fn another_reported_tcb_is_another_key_and_the_same_one_is_the_same() {
    let pki = pki(Product::Milan);
    let key = |snp| {
        let mut config = Config::new(Product::Milan);
        config.reported_tcb.snp = snp;
        SimulatedAmdSp::new(&pki, config).leaf_template().public_key
    };
    assert_eq!(key(20), key(20));
    assert_ne!(key(20), key(21));
}

#[test]
fn refuses_a_more_privileged_vmpl_than_the_guests() {
    let pki = pki(Product::Milan);
    let mut sp = SimulatedAmdSp::new(&pki, Config { vmpl: 2, ..Config::new(Product::Milan) });
    assert_eq!(sp.report_at(&DATA, 0), Err(simulator::DeviceError::Vmpl { asked: 0, own: 2 }));
    let report = sp.report_at(&DATA, 3).unwrap();
    assert_eq!(Report::parse(&report).unwrap().vmpl(), 3);
}

#[test]
fn says_that_it_proves_nothing() {
    let pki = pki(Product::Milan);
    let sp = SimulatedAmdSp::new(&pki, Config::new(Product::Milan));
    assert!(sp.to_string().starts_with("SIMULATED, PROVES NOTHING"));
    assert!(pki.to_string().starts_with("SIMULATED, PROVES NOTHING"));
    assert!(sp.root_pem().starts_with("SIMULATED, PROVES NOTHING\n"));
}
