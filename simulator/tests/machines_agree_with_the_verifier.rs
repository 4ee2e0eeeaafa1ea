//! What an emulated machine gives is what the verifier's parsers take, and its certificates lead to the simulator's roots.

#[path = "support/tpm.rs"]
mod tpm;

use ratls::endorsement::{AkIdentity, PublicKey, TrustAnchors, verify_azure_ak, verify_gce_ak};
use ratls::evidence::event_log::{Comparison, EventLog, EventType, Replay};
use ratls::evidence::hcl::Hcl;
use ratls::evidence::svsm::Manifest;
use ratls::evidence::tpm::{Bank, PcrValues, Public};
use ratls::tcb::Product;
use ratls::time::UnixTime;
use simulator::cloud::{azure, gce, svsm};
use simulator::machine::{Cloud, Machine, Settings};
use simulator::tpm::objects::{self, Bank as TheirBank};
use simulator::{Config, Pki, RsaSize, SimulatedAmdSp};
use std::path::Path;
use std::sync::Arc;
use tpm::Tpm;

const NOW: UnixTime = UnixTime::from_secs(1_790_000_000);

fn start(dir: &Path, settings: Settings) -> (Machine, TrustAnchors) {
    let pki = Arc::new(Pki::load_or_create(dir, Product::Milan, RsaSize::Bits2048).unwrap());
    let settings = Settings { size: RsaSize::Bits2048, ..settings };
    let machine = Machine::start(dir, settings, SimulatedAmdSp::new(&pki, Config::new(Product::Milan))).unwrap();
    let root = std::fs::read(dir.join("root.pem")).unwrap();
    let anchors = TrustAnchors::amd().with_simulator_root(&root).unwrap();
    (machine, anchors)
}

fn page(machine: &Machine, path: &str) -> Vec<u8> {
    let url = format!("{}{path}", machine.places().metadata);
    std::process::Command::new("curl").args(["-sSf", "--noproxy", "*", &url]).output().unwrap().stdout
}

#[test]
fn an_azure_ak_is_vouched_for_by_both_hierarchies() {
    let dir = tempfile::tempdir().unwrap();
    for hierarchy in [azure::Hierarchy::Cloud, azure::Hierarchy::Global] {
        let vm = azure::Vm { hierarchy, ..azure::Vm::new() };
        let (machine, anchors) = start(dir.path(), Settings::new(Cloud::Azure(vm)));
        let mut tpm = Tpm::of(&machine);
        let hcl = Hcl::parse(&tpm.nv(azure::REPORT_INDEX)).unwrap();
        let ak = PublicKey::rsa(&hcl.claims().ak_modulus, &[1, 0, 1]).unwrap();
        let leaf = tpm.nv(azure::AK_CERTIFICATE_INDEX);
        let intermediates = match hierarchy {
            azure::Hierarchy::Cloud => {
                vec![page(&machine, "/azure/issuing-ca.cer"), page(&machine, "/azure/policy-ca.cer")]
            }
            azure::Hierarchy::Global => {
                let pki = Pki::load_or_create(dir.path(), Product::Milan, RsaSize::Bits2048).unwrap();
                let authorities = azure::Authorities::load_or_create(dir.path(), &pki, RsaSize::Bits2048).unwrap();
                authorities.intermediates(hierarchy, "")
            }
        };
        let mut certificates = vec![leaf.as_slice()];
        certificates.extend(intermediates.iter().map(Vec::as_slice));
        let verified = verify_azure_ak(&certificates, &[], &ak, &anchors, NOW).unwrap();
        assert!(verified.simulated());
        assert!(matches!(verified.identity(), AkIdentity::Azure(vm) if vm.id() == "5eed00c0ffee"));
        assert!(verify_azure_ak(&certificates, &[], &ak, &TrustAnchors::amd(), NOW).is_err());
        assert!(verify_azure_ak(&certificates[..1], &[], &ak, &anchors, NOW).is_err());
    }
}

#[test]
fn a_gce_ak_is_vouched_for_and_names_its_instance() {
    let dir = tempfile::tempdir().unwrap();
    let (machine, anchors) = start(dir.path(), Settings::new(Cloud::Gce(gce::Instance::new())));
    let mut tpm = Tpm::of(&machine);
    let intermediate = page(&machine, "/gce/intermediate.crt");
    for (template, certificate) in
        [(gce::RSA_TEMPLATE_INDEX, gce::RSA_CERTIFICATE_INDEX), (gce::ECC_TEMPLATE_INDEX, gce::ECC_CERTIFICATE_INDEX)]
    {
        let (template, leaf) = (tpm.nv(template), tpm.nv(certificate));
        let key = machine.tpm().with_tpm(|tpm| {
            let key = objects::create_primary(tpm, simulator::tpm::command::ENDORSEMENT, &template).unwrap();
            objects::flush(tpm, key.handle).unwrap();
            key
        });
        let public = Public::parse(&key.public).unwrap();
        let ak = PublicKey::from_spki(&public.key().subject_public_key());
        let ak = ak.or_else(|_| PublicKey::rsa_pkcs1(&public.key().subject_public_key()));
        let ak = ak.or_else(|_| PublicKey::point(&public.key().subject_public_key())).unwrap();
        let verified = verify_gce_ak(&[&leaf, &intermediate], &[], &ak, &anchors, NOW).unwrap();
        let AkIdentity::Gce(instance) = verified.identity() else { panic!("an instance") };
        assert_eq!(instance.instance_id(), 0x8000_0000_0000_5EED);
        assert!(verified.simulated() && instance.security().is_production);
    }
}

#[test]
fn an_svsms_manifests_are_read_as_its_ek() {
    let dir = tempfile::tempdir().unwrap();
    let (machine, _) = start(dir.path(), Settings::new(Cloud::Svsm));
    let entry = machine.places().configfs.clone().unwrap().join("evident");
    std::fs::create_dir(&entry).unwrap();
    let ask = |guid: &str| {
        std::fs::write(entry.join("inblob"), [3; 64]).unwrap();
        std::fs::write(entry.join("service_provider"), "svsm").unwrap();
        std::fs::write(entry.join("service_guid"), guid).unwrap();
        Manifest::parse(&std::fs::read(entry.join("manifestblob")).unwrap())
    };
    let one = ask(svsm::VTPM).unwrap();
    let all = ask("00000000-0000-0000-0000-000000000000").unwrap();
    assert!(!one.names_services() && all.names_services());
    assert_eq!(one.ek().as_bytes(), all.ek().as_bytes());
    assert!(ask(svsm::UEFI_MM).is_err());
}

#[test]
fn every_machines_log_is_orderly_and_says_what_its_registers_hold() {
    let dir = tempfile::tempdir().unwrap();
    for cloud in [Cloud::Azure(azure::Vm::new()), Cloud::Gce(gce::Instance::new()), Cloud::Aws, Cloud::Svsm] {
        for secure_boot in [true, false] {
            let mut settings = Settings::new(cloud.clone());
            settings.boot.secure_boot = secure_boot;
            let (machine, _) = start(dir.path(), settings);
            let log = EventLog::parse(&std::fs::read(&machine.places().event_log).unwrap()).unwrap();
            assert_eq!(log.anomalies(), [], "{cloud:?}");
            for (bank, theirs) in [(Bank::Sha256, TheirBank::Sha256), (Bank::Sha384, TheirBank::Sha384)] {
                let values: Vec<Vec<u8>> = machine
                    .tpm()
                    .with_tpm(|tpm| (0..24).map(|pcr| objects::read_pcr(tpm, theirs, pcr).unwrap()).collect());
                let quoted = PcrValues::new(bank, (0..).zip(values.iter().map(Vec::as_slice))).unwrap();
                let replay = Replay::of(&log, bank).unwrap();
                for pcr in (0..24).filter(|pcr| *pcr != 10) {
                    let compared = replay.compare(pcr, &quoted);
                    assert!(matches!(compared, Comparison::Equal | Comparison::Untouched), "PCR {pcr}: {compared:?}");
                }
            }
            let unread = log.events().iter().filter(|event| event.extends() && event.read().claimed().is_none());
            assert!(
                unread.map(|event| event.kind()).all(|kind| kind == EventType::PLATFORM_FIRMWARE_BLOB),
                "{cloud:?}"
            );
        }
    }
}
