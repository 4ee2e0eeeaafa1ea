//! Whole machines, seen by a client that sends commands and reads files: SIMULATED, PROVES NOTHING.

#[path = "support/tpm.rs"]
mod tpm;

use simulator::cloud::{aws, azure, gce, svsm};
use simulator::machine::{Cloud, Machine, Settings};
use simulator::tpm::command::{Command, OWNER};
use simulator::{Pki, RsaSize, SimulatedAmdSp};
use std::path::Path;
use std::sync::Arc;

use ratls::tcb::Product;
use tpm::Tpm;

fn start(dir: &Path, cloud: Cloud) -> Machine {
    let pki = Arc::new(Pki::load_or_create(dir, Product::Milan, RsaSize::Bits2048).unwrap());
    let config = cloud.reports(Product::Milan);
    let settings = Settings { size: RsaSize::Bits2048, ..Settings::new(cloud) };
    Machine::start(dir, settings, SimulatedAmdSp::new(&pki, config)).unwrap()
}

#[test]
fn azure_puts_what_the_guest_wrote_into_the_report() {
    let dir = tempfile::tempdir().unwrap();
    let vm = azure::Vm { regeneration: std::time::Duration::ZERO, ..azure::Vm::new() };
    let machine = start(dir.path(), Cloud::Azure(vm));
    let mut tpm = Tpm::of(&machine);
    let first = tpm.nv(azure::REPORT_INDEX);
    assert_eq!((first.len(), &first[..4]), (2600, &b"HCLA"[..]));
    let zeros = format!("\"user-data\":\"{}\"", "0".repeat(128));
    assert!(String::from_utf8_lossy(&first).contains(&zeros));

    // The index of the guest's data is an ordinary one that the owner defines.
    let attributes: u32 = 1 << 1 | 1 << 2 | 1 << 17 | 1 << 18;
    let public = [&azure::DATA_INDEX.to_be_bytes()[..], &[0, 0x0B], &attributes.to_be_bytes(), &[0, 0, 0, 64]].concat();
    Command::new(0x12A).authorised(OWNER).u16(0).sized(&public).run(&mut tpm).unwrap();
    Command::new(0x137).authorised(OWNER).handle(azure::DATA_INDEX).sized(&[0xAB; 64]).u16(0).run(&mut tpm).unwrap();
    let second = tpm.nv(azure::REPORT_INDEX);
    assert!(String::from_utf8_lossy(&second).contains(&format!("\"user-data\":\"{}\"", "AB".repeat(64))));
    let length = |at: usize| usize::try_from(u32::from_le_bytes(*second[at..].first_chunk().unwrap())).unwrap();
    let claims = &second[1236..1236 + length(1232)];
    let report_data = &second[32 + 0x50..32 + 0x90];
    assert_eq!(report_data[..32], *ratls::crypto::sha256(&[claims]).as_bytes());
    assert_eq!(report_data[32..], [0; 32]);
    assert_eq!(length(8), 1236 + claims.len());
}

#[test]
fn azures_report_stays_for_two_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let machine = start(dir.path(), Cloud::Azure(azure::Vm::new()));
    let mut tpm = Tpm::of(&machine);
    let first = tpm.nv(azure::REPORT_INDEX);
    assert_eq!(tpm.nv(azure::REPORT_INDEX), first);
}

#[test]
fn azures_metadata_wants_its_header_and_gives_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let machine = start(dir.path(), Cloud::Azure(azure::Vm::new()));
    let get = |path: &str, headers: &[&str]| {
        let mut curl = std::process::Command::new("curl");
        curl.args(["-sS", "--noproxy", "*", "-o", "-", "-w", "\n%{http_code}"]);
        for header in headers {
            curl.args(["-H", header]);
        }
        let output = curl.arg(format!("{}{path}", machine.places().metadata)).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let answer = get(azure::IMDS_PATH, &["Metadata: true"]);
    assert!(answer.ends_with("200") && answer.contains("\"vcekCert\":\"-----BEGIN CERTIFICATE-----\\n"), "{answer}");
    assert!(get(azure::IMDS_PATH, &[]).ends_with("400"));
    assert!(get("/azure/issuing-ca.cer", &[]).ends_with("200"));
    assert!(get("/nothing", &[]).ends_with("404"));
}

#[test]
fn gces_certificates_are_for_the_keys_of_its_templates() {
    let dir = tempfile::tempdir().unwrap();
    let machine = start(dir.path(), Cloud::Gce(gce::Instance::new()));
    let mut tpm = Tpm::of(&machine);
    for (template, certificate) in
        [(gce::RSA_TEMPLATE_INDEX, gce::RSA_CERTIFICATE_INDEX), (gce::ECC_TEMPLATE_INDEX, gce::ECC_CERTIFICATE_INDEX)]
    {
        let template = tpm.nv(template);
        let key = simulator::tpm::objects::create_primary(&mut tpm, simulator::tpm::command::ENDORSEMENT, &template);
        let public = key.unwrap().public;
        let certificate = tpm.nv(certificate);
        // The coordinate, or the middle of the modulus, stands in the certificate.
        let part = &public[public.len() - 32..];
        assert!(certificate.windows(32).any(|window| window == part));
    }
}

#[test]
fn aws_answers_the_vendor_command_with_a_document_over_its_pcrs() {
    let dir = tempfile::tempdir().unwrap();
    let machine = start(dir.path(), Cloud::Aws);
    let mut tpm = Tpm::of(&machine);
    let index = 0x0180_0042_u32;
    let attributes: u32 = 1 << 2 | 1 << 18;
    let public = [&index.to_be_bytes()[..], &[0, 0x0B], &attributes.to_be_bytes(), &[0, 0, 0x20, 0]].concat();
    Command::new(0x12A).authorised(OWNER).u16(0).sized(&public).run(&mut tpm).unwrap();
    // {"Attestation": {"user_data": h'07…' (48), "nonce": h'09…' (64), "public_key": null}}
    let request = [
        &b"\xA1\x6BAttestation\xA3\x69user_data\x58\x30"[..],
        &[7; 48],
        b"\x65nonce\x58\x40",
        &[9; 64],
        b"\x6Apublic_key\xF6",
    ]
    .concat();
    Command::new(0x137).authorised(index).handle(index).sized(&request).u16(0).run(&mut tpm).unwrap();
    Command::new(aws::ATTEST).authorised(index).handle(index).run(&mut tpm).unwrap();
    let answer = tpm.nv(index);
    assert_eq!(answer.len(), 8192);
    assert!(answer.starts_with(b"\xA1\x6BAttestation\xA1\x68document\x59"), "{:?}", &answer[..40]);
    let pcr0 = machine
        .tpm()
        .with_tpm(|tpm| simulator::tpm::objects::read_pcr(tpm, simulator::tpm::objects::Bank::Sha384, 0).unwrap());
    for part in [&pcr0[..], &[7; 48], &[9; 64], b"nitrotpm_pcrs", b"-tpm0000000000000000"] {
        assert!(answer.windows(part.len()).any(|window| window == part));
    }
    assert_eq!(answer.last(), Some(&0xFF));
}

#[test]
fn an_svsm_gives_its_ek_at_vmpl_0_and_nothing_else_of_that_level() {
    let dir = tempfile::tempdir().unwrap();
    let machine = start(dir.path(), Cloud::Svsm);
    let entry = machine.places().configfs.as_ref().unwrap().join("evident");
    std::fs::create_dir(&entry).unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(entry.join(name), bytes);
    let read = |name: &str| std::fs::read(entry.join(name));
    write("inblob", &[3; 64]).unwrap();
    write("service_provider", b"svsm").unwrap();
    write("service_guid", svsm::VTPM.as_bytes()).unwrap();
    let (report, manifest) = (read("outblob").unwrap(), read("manifestblob").unwrap());
    assert_eq!((report.len(), manifest.len()), (1184, 314));
    assert_eq!(report[0x30..0x34], [0; 4]);
    assert_eq!(report[0x50..0x90], *ratls::crypto::sha512(&[&[3; 64], &manifest]).as_bytes());
    assert_eq!(read("auxblob").unwrap(), b"");

    write("service_guid", b"00000000-0000-0000-0000-000000000000").unwrap();
    assert_eq!(read("manifestblob").unwrap().len(), 24 + 2 * 24 + 314 + 8);
    assert_eq!(write("service_guid", b"no guid").unwrap_err().raw_os_error(), Some(22));
    write("service_guid", b"12345678-0000-0000-0000-000000000000").unwrap();
    assert_eq!(read("outblob").unwrap_err().raw_os_error(), Some(22));

    let ordinary = machine.places().configfs.as_ref().unwrap().join("ordinary");
    std::fs::create_dir(&ordinary).unwrap();
    assert_eq!(std::fs::write(ordinary.join("privlevel"), "0").unwrap_err().raw_os_error(), Some(22));
    std::fs::write(ordinary.join("privlevel"), "2").unwrap();
    std::fs::write(ordinary.join("inblob"), [4; 64]).unwrap();
    let report = std::fs::read(ordinary.join("outblob")).unwrap();
    assert_eq!((report[0x30], &report[0x50..0x90]), (2, &[4; 64][..]));
    assert!(!std::fs::read(ordinary.join("auxblob")).unwrap().is_empty());
}

#[test]
fn roots_of_all_clouds_stand_in_one_file_and_the_machine_leaves_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    for cloud in [Cloud::Aws, Cloud::Azure(azure::Vm::new()), Cloud::Gce(gce::Instance::new())] {
        let machine = start(dir.path(), cloud);
        assert!(machine.places().event_log.exists());
    }
    let root = std::fs::read_to_string(dir.path().join("root.pem")).unwrap();
    assert_eq!(root.matches("BEGIN CERTIFICATE").count(), 5);
    assert!(root.starts_with(simulator::NOTICE));
    let mut names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["aws.keys", "azure.keys", "gcp.keys", "root.pem", "simulator.keys"]);
}

/// Started by the next test, in a process that it kills.
#[test]
fn child_that_is_killed() {
    let Some(dir) = std::env::var_os("EVIDENT_TEST_MACHINE") else { return };
    let machine = start(Path::new(&dir), Cloud::Svsm);
    std::fs::write(Path::new(&dir).join("ready"), "").unwrap();
    std::thread::sleep(std::time::Duration::from_secs(60));
    drop(machine);
}

#[test]
fn a_machine_of_a_killed_process_leaves_neither_files_nor_mounts() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_is_killed"])
        .env("EVIDENT_TEST_MACHINE", dir.path())
        .spawn()
        .unwrap();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let wait_for = |what: &dyn Fn() -> bool| {
        while !what() && std::time::Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(what());
    };
    let machines = || {
        let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("vm-")).count()
    };
    let mounted = || std::fs::read_to_string("/proc/mounts").unwrap().contains(dir.path().to_str().unwrap());
    wait_for(&|| dir.path().join("ready").exists());
    assert!(machines() == 1 && mounted());
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for(&|| machines() == 0 && !mounted());
}
