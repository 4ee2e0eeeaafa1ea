//! Every platform with a TPM, gathered by the code that runs in a guest, from an emulated machine: swtpm, look-alikes of configfs-tsm
//! and of the clouds' own services. SIMULATED, PROVES NOTHING.

#![allow(clippy::unwrap_used)] // all of this is test code

use attester::choose::{self, Kind, NoPlatform};
use attester::detect::Places;
use attester::platform::{ActivateError, Gathered, Logs, Platform};
use attester::tpm::TpmError;
use attester::{DeviceError, Endorser};
use ratls::binding::{Binder, Profile, quote_binder};
use ratls::crypto::{sha256, sha384};
use ratls::endorsement::TrustAnchors;
use ratls::evidence::hcl::Hcl;
use ratls::evidence::snp::Report;
use ratls::evidence::svsm::Manifest;
use ratls::evidence::tpm::{Bank as RegisterBank, PcrValues, Public, Signature};
use ratls::tcb::Product;
use ratls::time::UnixTime;
use ratls::verify::verify_quote;
use ratls::wire::attest::{HardwareFormat, TpmEvidence, part};
use ratls::wire::credential::Credential;
use simulator::cloud::{azure, gce};
use simulator::machine::{Cloud, Machine, Settings};
use simulator::tpm::objects::{self, Bank};
use simulator::{Config, Pki, RsaSize, SimulatedAmdSp};
use std::sync::{Arc, LazyLock};
use tempfile::TempDir;

static PKI: LazyLock<Arc<Pki>> = LazyLock::new(|| Arc::new(Pki::generate(Product::Milan, RsaSize::Bits2048)));

/// A machine and where its parts are for the guest's code.
struct Rig {
    machine: Machine,
    places: Places,
    _dir: TempDir,
}

impl Rig {
    /// `None`, with a line that names the test, where the machine cannot be emulated here.
    fn start(test: &str, cloud: Cloud) -> Option<Rig> {
        let dir = tempfile::tempdir().unwrap();
        let sp = SimulatedAmdSp::new(&PKI, Config::new(Product::Milan));
        let settings = Settings { size: RsaSize::Bits2048, ..Settings::new(cloud) };
        let machine = match Machine::start(dir.path(), settings, sp) {
            Ok(machine) => machine,
            Err(error) => {
                println!("skipped: {test}: {error}");
                return None;
            }
        };
        let at = machine.places();
        let places = Places {
            prepared_entry: None,
            configfs_root: at.configfs.clone().unwrap_or_else(|| dir.path().join("no-configfs")),
            sev_guest: dir.path().join("no-sev-guest"),
            dmi: at.dmi.clone(),
            tpm: at.tcti.parse().unwrap(),
            logs: Logs { event_log: Some(at.event_log.clone()), ima_list: at.ima_log.clone() },
        };
        Some(Rig { machine, places, _dir: dir })
    }

    fn open(&self, kind: Option<Kind>) -> Box<dyn Platform> {
        choose::open(kind, &self.places, 0).unwrap_or_else(|error| panic!("{error}")).platform
    }
}

macro_rules! rig {
    ($test:literal, $cloud:expr) => {
        match Rig::start($test, $cloud) {
            Some(rig) => rig,
            None => return,
        }
    };
}

fn binder(byte: u8) -> Binder {
    Binder::from_bytes([byte; 64])
}

/// What holds for a quote of every platform: it is over B and the hash of this report, by the AK of the statement, over all registers.
fn check_quote(platform: &dyn Platform, gathered: &Gathered, binder: &Binder) -> TpmEvidence {
    let tpm = gathered.tpm.clone().expect("there is a quote");
    assert_eq!(platform.boot().ak.as_deref(), Some(tpm.public.as_slice()));
    let qualifying = quote_binder(binder, &gathered.report);
    let public = Public::parse(&tpm.public).unwrap();
    let signature = Signature::parse(&tpm.signature).unwrap();
    let values = tpm.pcrs.iter().map(|(index, value)| (*index, value.as_slice()));
    let values = PcrValues::new(RegisterBank::Sha256, values).unwrap();
    let verified = verify_quote(&public, &tpm.attest, &signature, qualifying.as_bytes(), &values);
    let verified = verified.unwrap_or_else(|error| panic!("{error}"));
    assert!(verified.missing(0..24).is_empty(), "all of PCR 0 to 23");
    tpm
}

fn part_names(platform: &dyn Platform, gathered: &Gathered) -> Vec<String> {
    let boot = platform.boot();
    boot.event_log.iter().chain(&gathered.parts).map(|part| part.info().name.clone()).collect()
}

#[test]
fn azure_s_report_has_our_bytes_and_its_quote_covers_the_report() {
    let rig = rig!("azure", Cloud::Azure(azure::Vm::new()));
    let chosen = choose::open(None, &rig.places, 0).unwrap();
    assert_eq!(chosen.kind, Kind::Azure);
    assert!(chosen.seen.iter().any(|line| line.contains("HCL report")), "{:?}", chosen.seen);
    let mut platform = chosen.platform;
    assert_eq!(platform.profile(), Profile::AzureSnp);
    for byte in [1, 2] {
        let b = binder(byte);
        let gathered = platform.gather(&b).unwrap();
        let [(HardwareFormat::HclBlob, blob)] = &gathered.hardware[..] else { panic!("one HCL report") };
        let hcl = Hcl::parse(blob).unwrap();
        assert_eq!(hcl.claims().user_data.unwrap().as_bytes(), b.as_bytes());
        assert_eq!(hcl.report(), gathered.report);
        let tpm = check_quote(platform.as_ref(), &gathered, &b);
        assert_eq!(Public::azure_ak(&hcl.claims().ak_modulus).unwrap().as_bytes(), tpm.public);
        assert_eq!(part_names(platform.as_ref(), &gathered), [part::EVENT_LOG, part::IMA_LOG]);
    }
    let certificate = platform.boot().ak_certificate.clone().expect("Azure certifies its AK");
    assert!(certificate.bytes.starts_with(&[0x30, 0x82]));
}

#[test]
fn azure_s_old_paravisor_takes_no_bytes_and_is_served_as_it_is() {
    let vm = azure::Vm { user_data: false, ..azure::Vm::new() };
    let rig = rig!("azure, old", Cloud::Azure(vm));
    let mut platform = rig.open(Some(Kind::Azure));
    let b = binder(1);
    let gathered = platform.gather(&b).unwrap();
    let [(HardwareFormat::HclBlob, blob)] = &gathered.hardware[..] else { panic!("one HCL report") };
    assert_eq!(Hcl::parse(blob).unwrap().claims().user_data, None);
    check_quote(platform.as_ref(), &gathered, &b);
}

#[test]
fn google_s_ak_comes_from_its_template_and_the_endorsement_from_the_table() {
    let rig = rig!("gcp", Cloud::Gce(gce::Instance::new()));
    let chosen = choose::open(None, &rig.places, 0).unwrap();
    assert_eq!(chosen.kind, Kind::Gcp);
    let mut platform = chosen.platform;
    let b = binder(3);
    let gathered = platform.gather(&b).unwrap();
    let [(HardwareFormat::SnpReport, report)] = &gathered.hardware[..] else { panic!("one report") };
    assert_eq!(Report::parse(report).unwrap().report_data().as_bytes(), b.as_bytes());
    check_quote(platform.as_ref(), &gathered, &b);
    assert_eq!(platform.pace().min_interval, std::time::Duration::from_secs(2));
    let names = part_names(platform.as_ref(), &gathered);
    assert_eq!(names, [part::EVENT_LOG, part::IMA_LOG, part::GCE_ENDORSEMENT]);
    assert!(platform.boot().ak_certificate.is_some());
}

#[test]
fn google_s_missing_certificate_is_named() {
    let rig = rig!("gcp, none", Cloud::Gce(gce::Instance::new()));
    let undefine = |index| {
        let command = simulator::tpm::Command::new(simulator::tpm::command::NV_UNDEFINE_SPACE);
        let platform = simulator::tpm::command::PLATFORM;
        rig.machine.tpm().with_tpm(|tpm| command.authorised(platform).handle(index).run(tpm).unwrap());
    };
    undefine(gce::ECC_CERTIFICATE_INDEX);
    // The other key serves.
    let gathered = rig.open(Some(Kind::Gcp)).gather(&binder(4)).unwrap();
    assert!(gathered.tpm.unwrap().public.starts_with(&[0, 1]), "an RSA key");
    undefine(gce::RSA_CERTIFICATE_INDEX);
    let error = choose::open(None, &rig.places, 0).err().expect("there is no certificate");
    let text = error.to_string();
    assert!(text.contains("0x01c10002") && text.contains("its firmware calls it a Google"), "{text}");
    assert!(text.contains("choose the platform `snp`"), "{text}");
}

#[test]
fn a_platform_that_was_chosen_and_has_no_tpm_is_refused_with_what_to_do() {
    let places = Places { tpm: "/nonexistent/tpmrm0".parse().unwrap(), ..Places::of_this_machine(None) };
    let error = choose::open(Some(Kind::Azure), &places, 0).err().expect("there is no TPM").to_string();
    assert!(error.contains("/nonexistent/tpmrm0"), "{error}");
    assert!(error.ends_with("load the TPM driver, set device.tpm, or choose another platform"), "{error}");
}

#[test]
fn nitro_s_document_is_over_our_bytes_and_the_report_s_hash_and_its_index_is_gone_after() {
    let rig = rig!("aws", Cloud::Aws);
    let chosen = choose::open(None, &rig.places, 0).unwrap();
    assert_eq!(chosen.kind, Kind::Aws);
    let mut platform = chosen.platform;
    assert!(platform.describe().ends_with("and NitroTPM"), "{}", platform.describe());
    let b = binder(5);
    let gathered = platform.gather(&b).unwrap();
    let [(HardwareFormat::SnpReport, report), (HardwareFormat::NitroDocument, document)] = &gathered.hardware[..]
    else {
        panic!("a report and a document")
    };
    let holds = |needle: &[u8]| document.windows(needle.len()).any(|window| window == needle);
    assert!(holds(b.as_bytes()) && holds(sha384(&[report]).as_bytes()));
    assert!(gathered.tpm.is_none() && platform.boot().ak.is_none());
    let mut tpm = attester::tpm::Tpm::open(&rig.places.tpm).unwrap();
    assert_eq!(tpm.nv_index(attester::platform::aws::DOCUMENT_INDEX).unwrap(), None);
}

#[test]
fn an_instance_without_nitro_tpm_attests_by_its_report_and_says_why() {
    let rig = rig!("aws, other TPM", Cloud::Svsm);
    let places = Places { tpm: "/nonexistent/tpmrm0".parse().unwrap(), ..rig.places.clone() };
    // This machine's kernel asks for level 2 at the lowest.
    let mut platform = choose::open(Some(Kind::Aws), &places, 2).unwrap().platform;
    assert!(platform.describe().contains("no TPM"), "{}", platform.describe());
    let gathered = platform.gather(&binder(6)).unwrap();
    assert_eq!(gathered.hardware.len(), 1);
    let platform = choose::open(Some(Kind::Aws), &rig.places, 2).unwrap().platform;
    assert!(platform.describe().contains("not NitroTPM"), "{}", platform.describe());
}

#[test]
fn the_svsm_s_manifest_names_the_ek_and_only_this_tpm_opens_a_credential_for_it() {
    let rig = rig!("svsm", Cloud::Svsm);
    let chosen = choose::open(None, &rig.places, 0).unwrap();
    assert_eq!(chosen.kind, Kind::Svsm);
    let mut platform = chosen.platform;
    let b = binder(7);
    let gathered = platform.gather(&b).unwrap();
    let [(HardwareFormat::SvsmManifest, hardware)] = &gathered.hardware[..] else { panic!("a manifest") };
    let (mut manifest, mut nonce) = (Vec::new(), Vec::new());
    let mut d = ratls::wire::cbor::Decoder::new(hardware);
    d.map("hardware", 3, |d, key| {
        let bytes = d.bytes("item", 16_384)?.to_vec();
        match key {
            2 => manifest = bytes,
            3 => nonce = bytes,
            _ => assert_eq!(bytes, gathered.report),
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(nonce, b.as_bytes());
    let report = Report::parse(&gathered.report).unwrap();
    assert_eq!(report.vmpl(), 0);
    assert_eq!(
        report.report_data().as_bytes(),
        ratls::evidence::svsm::report_data(&ratls::evidence::svsm::Nonce::from_bytes([7; 64]), &manifest).as_bytes()
    );
    let manifest = Manifest::parse(&manifest).unwrap();
    assert!(manifest.names_services(), "the one whose GUIDs are hashed is preferred");
    assert!(!gathered.certificates.is_empty(), "an ordinary report brought the host's certificates");
    let tpm = check_quote(platform.as_ref(), &gathered, &b);

    let activator = platform.activator().expect("the AK is proven by CRED");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let credential = make_credential(&rig, manifest.ek().as_bytes(), &Public::parse(&tpm.public).unwrap());
    let secret = runtime.block_on(activator.activate(credential.clone())).unwrap();
    assert_eq!(secret.as_bytes(), &[0x5E; 32]);
    let other = Credential { id_object: vec![0; 68], ..credential };
    let refused = runtime.block_on(activator.activate(other)).unwrap_err();
    assert!(matches!(refused, ActivateError::NotOurs), "{refused}");
    // The TPM is as good as before.
    let again = platform.gather(&binder(8)).unwrap();
    check_quote(platform.as_ref(), &again, &binder(8));
}

/// By the TPM itself: TPM2_MakeCredential is its half of the client's arithmetic, and needs no secret.
fn make_credential(rig: &Rig, ek: &[u8], ak: &Public) -> Credential {
    const LOAD_EXTERNAL: u32 = 0x167;
    const MAKE_CREDENTIAL: u32 = 0x168;
    rig.machine.tpm().with_tpm(|tpm| {
        use simulator::tpm::command::{Fields, response_code};
        let send = |tpm: &mut dyn simulator::tpm::Channel, command: simulator::tpm::Command| {
            let answer = tpm.transmit(&command.to_bytes()).unwrap();
            assert_eq!(response_code(&answer), Some(0));
            answer[10..].to_vec()
        };
        let load = simulator::tpm::Command::new(LOAD_EXTERNAL).sized(&[]).sized(ek).u32(0x4000_0007);
        let handle = u32::from_be_bytes(send(tpm, load)[..4].try_into().unwrap());
        let name = ak.name();
        let make =
            simulator::tpm::Command::new(MAKE_CREDENTIAL).handle(handle).sized(&[0x5E; 32]).sized(name.as_bytes());
        let answer = send(tpm, make);
        let mut fields = Fields::new(&answer);
        let credential = Credential {
            id_object: fields.sized().unwrap().to_vec(),
            encrypted_secret: fields.sized().unwrap().to_vec(),
        };
        objects::flush(tpm, handle).unwrap();
        credential
    })
}

#[test]
fn registers_that_moved_are_quoted_as_they_are() {
    let rig = rig!("moved", Cloud::Gce(gce::Instance::new()));
    let mut platform = rig.open(Some(Kind::Gcp));
    let before = platform.gather(&binder(1)).unwrap().tpm.unwrap();
    let digest = Bank::Sha256.hash(b"something that runs");
    rig.machine.tpm().with_tpm(|tpm| objects::extend(tpm, 12, &[(Bank::Sha256, digest)])).unwrap();
    let gathered = platform.gather(&binder(2)).unwrap();
    let after = check_quote(platform.as_ref(), &gathered, &binder(2));
    assert_ne!(before.pcrs[&12], after.pcrs[&12]);
    assert_eq!(before.pcrs[&4], after.pcrs[&4]);
}

#[test]
fn a_tpm_that_is_not_there_and_a_machine_that_is_no_cloud_s_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let places = Places {
        configfs_root: dir.path().join("report"),
        sev_guest: dir.path().join("sev-guest"),
        dmi: dir.path().join("dmi"),
        tpm: format!("{}", dir.path().join("tpmrm0").display()).parse().unwrap(),
        ..Places::of_this_machine(None)
    };
    match choose::open(Some(Kind::Azure), &places, 0).err() {
        Some(NoPlatform::Failed {
            kind: Kind::Azure, error: DeviceError::Tpm(TpmError::Absent { address }), ..
        }) => {
            assert!(address.ends_with("tpmrm0"));
        }
        other => panic!("{other:?}"),
    }
    match choose::open(None, &places, 0).err() {
        Some(NoPlatform::NoDevice(none)) => assert_eq!(none.looked_for.len(), 2),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn azure_s_reports_are_endorsed_by_its_instance_metadata_and_its_ak_by_where_the_certificates_point() {
    let Some(rig) = Rig::start("imds", Cloud::Azure(azure::Vm::new())) else { return };
    let places = rig.places.clone();
    let (gathered, boot) = tokio::task::spawn_blocking(move || {
        let mut platform = choose::open(Some(Kind::Azure), &places, 0).unwrap().platform;
        let gathered = platform.gather(&binder(1)).unwrap();
        (gathered, platform.boot())
    })
    .await
    .unwrap();
    let anchors = TrustAnchors::amd().with_simulator_root(PKI.root_pem().as_bytes()).unwrap();
    let now = UnixTime::from_secs(i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap());
    let metadata = rig.machine.places().metadata.clone();
    let without = Endorser::new(None, anchors.clone(), vec![], move || now);
    assert!(without.endorse(&gathered.report, &gathered.certificates).await.is_err());
    let imds = attester::imds::Imds::new(&metadata).unwrap();
    let with = Endorser::new(None, anchors, vec![], move || now).with_imds(imds);
    assert_eq!(with.endorse(&gathered.report, &gathered.certificates).await.unwrap().staple().len(), 2);

    let leaf = boot.ak_certificate.as_ref().unwrap().bytes.clone();
    let found = attester::issuers::find(&leaf, &[], Some(&metadata)).await;
    assert_eq!((found.certificates.len(), found.gap), (2, None));
    // The same address, chosen by the host and not by the operator.
    let refused = attester::issuers::find(&leaf, &[], None).await;
    assert!(refused.gap.unwrap().to_string().contains("this machine itself"));
    // From files, nothing is fetched.
    let files = attester::issuers::find(&leaf, &found.certificates, None).await;
    assert_eq!(sha256(&[&files.certificates[0]]), sha256(&[&found.certificates[0]]));
}
