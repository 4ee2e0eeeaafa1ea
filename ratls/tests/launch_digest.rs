//! Launch digests against published vectors and against a report that hardware signed.

#[path = "shared/dstack.rs"]
mod dstack;
#[path = "shared/mod.rs"]
mod shared;

use dstack::Container;
use ratls::digest::Sha256Digest;
use ratls::evidence::snp::{FamilyId, GuestPolicy, ImageId, Measurement, Report};
use ratls::launch::id_block::{IdAuth, IdBlock, IdBlockError};
use ratls::launch::{
    Covered, Enforcement, Firmware, GceHost, GuestFeatures, Ingredient, KernelHashes, Known, LaunchError, LaunchLink,
    Machine, Machines, MachinesError, NotCovered, OvmfLaunch, OvmfLayout, VcpuCount, VcpuSignature, Vmm, would_match,
};
use serde_json::Value;

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} of {value}"))
}

fn launch(vector: &Value, image: &[u8]) -> OvmfLaunch {
    let kernel = vector["kernel"].as_str().map(|kernel| {
        assert_eq!((kernel, text(vector, "initrd")), ("/dev/null", "/dev/null"));
        let empty = Ingredient::of_file(&[]);
        KernelHashes { kernel: empty, initrd: empty, cmdline: Ingredient::of_cmdline(text(vector, "append")) }
    });
    let mut firmware = Firmware::from_image(image).unwrap();
    if let Some(digest) = vector["ovmf_digest_override"].as_str() {
        firmware = Firmware::from_digest(Measurement::from_hex(digest).unwrap(), firmware.layout().clone());
    }
    OvmfLaunch::new(firmware, kernel).unwrap()
}

fn machine(vector: &Value) -> Machine {
    let vmm = match text(vector, "vmm") {
        "qemu" => Vmm::Qemu,
        "ec2" => Vmm::Ec2,
        "gce" => Vmm::Gce(GceHost::Milan),
        other => panic!("{other}"),
    };
    let features = u64::from_str_radix(text(vector, "guest_features").trim_start_matches("0x"), 16).unwrap();
    Machine {
        vmm,
        vcpus: VcpuCount::new(vector["vcpus"].as_u64().unwrap()).unwrap(),
        model: vector["vcpu_type"].as_str().unwrap_or("EPYC").parse().unwrap(),
        features: GuestFeatures::from_raw(features),
    }
}

#[test]
fn every_published_vector_is_recomputed() {
    let Some(folder) = shared::folder("every_published_vector_is_recomputed") else { return };
    let folder = folder.join("launch");
    let vectors: Value = serde_json::from_slice(&std::fs::read(folder.join("vectors.json")).unwrap()).unwrap();
    let vectors = vectors["vectors"].as_array().unwrap();
    assert!(vectors.len() >= 16, "{} vectors", vectors.len());
    for vector in vectors {
        let image = std::fs::read(folder.join(text(vector, "firmware"))).unwrap();
        let digest = launch(vector, &image).digest(&machine(vector)).unwrap();
        assert_eq!(digest.to_string(), text(vector, "launch_digest"), "{}", text(vector, "name"));
    }
}

#[test]
fn plat_n25_a_kernel_cannot_be_measured_through_a_firmware_without_a_place_for_its_hash() {
    let Some(folder) = shared::folder("plat_n25_a_kernel_cannot_be_measured") else { return };
    let image = std::fs::read(folder.join("launch/fixtures__ovmf_OvmfX64_suffix.bin")).unwrap();
    let firmware = Firmware::from_image(&image).unwrap();
    let empty = Ingredient::of_file(&[]);
    let hashes = KernelHashes { kernel: empty, initrd: empty, cmdline: Ingredient::of_cmdline("") };
    assert!(OvmfLaunch::new(firmware.clone(), None).is_ok());
    assert_eq!(OvmfLaunch::new(firmware, Some(hashes)).unwrap_err(), LaunchError::NoKernelHashes);
}

#[test]
fn the_digest_after_the_firmware_s_pages_is_the_published_one() {
    let Some(folder) = shared::folder("the_digest_after_the_firmware_s_pages_is_the_published_one") else { return };
    let image = std::fs::read(folder.join("launch/fixtures__ovmf_AmdSev_suffix.bin")).unwrap();
    let firmware = Firmware::from_image(&image).unwrap();
    let wanted = "086e2e9149ebf45abdc3445fba5b2da8270bdbb04094d7a2c37faaa4b24af3aa16aff8c374c2a55c467a50da6d466b74";
    assert_eq!(firmware.after_pages().to_string(), wanted);
    // A file that EC2 launches without a kernel.
    let machine = Machine {
        vmm: Vmm::Ec2,
        vcpus: VcpuCount::new(1).unwrap(),
        model: VcpuSignature::of_model(23, 1, 2),
        features: GuestFeatures::SNP,
    };
    let digest = OvmfLaunch::new(firmware, None).unwrap().digest(&machine).unwrap();
    assert!(digest.to_string().starts_with("fb789cb6"), "{digest}");
}

/// The inputs that stand beside a hardware-signed report: digests of firmware, kernel and initrd, the command line, the machine.
struct Dstack {
    report: Vec<u8>,
    inputs: Value,
}

fn dstack(test: &str) -> Option<Dstack> {
    let Container { report, inputs, .. } = dstack::read(&shared::folder(test)?.join("launch/sev_snp_attestation.bin"));
    Some(Dstack { report, inputs })
}

/// The other form of the same attestation: its inputs stand in CBOR.
#[test]
fn the_other_form_of_the_attestation_has_the_same_report_and_inputs() {
    let test = "the_other_form_of_the_attestation_has_the_same_report_and_inputs";
    let Some(folder) = shared::folder(test) else { return };
    let Container { report, inputs, certificates } = dstack::read(&folder.join("launch/sev-snp-attestation.json"));
    let first = dstack(test).unwrap();
    assert_eq!((&report, &inputs, certificates.len()), (&first.report, &first.inputs, 2));
    let case = Dstack { report, inputs };
    assert_eq!(case.launch().digest(&case.machine()).unwrap(), *Report::parse(&case.report).unwrap().measurement());
}

impl Dstack {
    fn firmware(&self) -> Firmware {
        let number = |value: &Value| u32::try_from(value.as_u64().unwrap()).unwrap();
        let sections: Vec<_> = self.inputs["ovmf_sections"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| (number(&s["gpa"]), number(&s["size"]), number(&s["section_type"])))
            .collect();
        let (reset, table) = (&self.inputs["sev_es_reset_eip"], &self.inputs["sev_hashes_table_gpa"]);
        let layout = OvmfLayout::from_parts(Some(number(reset)), Some(number(table)), &sections).unwrap();
        Firmware::from_digest(Measurement::from_hex(text(&self.inputs, "ovmf_hash")).unwrap(), layout)
    }

    fn launch(&self) -> OvmfLaunch {
        let by_digest = |key| Ingredient::by_digest(Sha256Digest::from_hex(text(&self.inputs, key)).unwrap());
        let cmdline = Ingredient::of_cmdline(text(&self.inputs, "base_cmdline"));
        let hashes = KernelHashes { kernel: by_digest("kernel_hash"), initrd: by_digest("initrd_hash"), cmdline };
        OvmfLaunch::new(self.firmware(), Some(hashes)).unwrap()
    }

    fn machine(&self) -> Machine {
        Machine {
            vmm: Vmm::Qemu,
            vcpus: VcpuCount::new(self.inputs["vcpus"].as_u64().unwrap()).unwrap(),
            model: text(&self.inputs, "vcpu_type").parse().unwrap(),
            features: GuestFeatures::from_raw(self.inputs["guest_features"].as_u64().unwrap()),
        }
    }
}

#[test]
fn a_report_that_hardware_signed_is_recomputed_from_the_digests_beside_it() {
    let Some(case) = dstack("a_report_that_hardware_signed_is_recomputed_from_the_digests_beside_it") else { return };
    let report = Report::parse(&case.report).unwrap();
    assert_eq!(case.launch().digest(&case.machine()).unwrap(), *report.measurement());

    let found = case.launch().find(&Machines::one(case.machine()), Enforcement::Claimed, report.measurement()).unwrap();
    let coverage = found.coverage();
    assert_eq!(coverage.firmware, Ok(Covered { link: LaunchLink::Direct, known: Known::Digest }));
    assert_eq!(coverage.kernel, Ok(Covered { link: LaunchLink::VerifiedByMeasured, known: Known::Digest }));
    assert_eq!(coverage.cmdline, Ok(Covered { link: LaunchLink::VerifiedByMeasured, known: Known::Bytes }));
}

#[test]
fn plat_n27_the_machine_that_matched_is_named_and_another_one_is_refused_with_the_reason() {
    let Some(case) = dstack("plat_n27_the_machine_that_matched_is_named") else { return };
    let seen = *Report::parse(&case.report).unwrap().measurement();
    let (launch, right) = (case.launch(), case.machine());
    let counts = |counts: &[u64]| counts.iter().map(|n| VcpuCount::new(*n).unwrap()).collect::<Vec<_>>();
    let machines = |vcpus: &[u64], model: VcpuSignature, features| {
        Machines::new(vec![Vmm::Qemu], counts(vcpus), vec![model], features).unwrap()
    };
    let usual = vec![GuestFeatures::SNP_DEBUG_SWAP, GuestFeatures::SNP];

    let allowed = machines(&[1, 2, 4], right.model, usual.clone());
    assert_eq!(*launch.find(&allowed, Enforcement::Claimed, &seen).unwrap().machine(), right);

    let fewer = machines(&[1, 4], right.model, usual.clone());
    assert_eq!(launch.find(&fewer, Enforcement::Claimed, &seen), None);
    assert_eq!(would_match(&launch.explain(&fewer, &seen).unwrap()), "it would match with vcpus = 2");

    let other = machines(&[2], VcpuSignature::of_model(25, 17, 0), vec![GuestFeatures::SNP_DEBUG_SWAP]);
    assert_eq!(launch.find(&other, Enforcement::Claimed, &seen), None);
    let why = would_match(&launch.explain(&other, &seen).unwrap());
    assert_eq!(why, "it would match with vcpu type = EPYC and guest features = 0x1 (SNP)");

    let too_many = Machines::new(vec![Vmm::Qemu], counts(&(1..=33).collect::<Vec<_>>()), vec![right.model], usual);
    assert_eq!(too_many, Err(MachinesError::TooMany(66)));
}

#[test]
fn plat_n26_a_measured_hash_covers_nothing_unless_the_reference_says_that_this_firmware_compares_it() {
    let Some(case) = dstack("plat_n26_a_measured_hash_covers_nothing") else { return };
    let seen = *Report::parse(&case.report).unwrap().measurement();
    let coverage =
        *case.launch().find(&Machines::one(case.machine()), Enforcement::NotClaimed, &seen).unwrap().coverage();
    assert!(coverage.firmware.is_ok());
    for component in [coverage.kernel, coverage.initrd, coverage.cmdline] {
        assert_eq!(component, Err(NotCovered::NotEnforced));
    }
}

#[test]
fn plat_n25_a_launch_without_kernel_hashes_covers_the_firmware_alone() {
    let Some(case) = dstack("plat_n25_a_launch_without_kernel_hashes_covers_the_firmware_alone") else { return };
    let without = OvmfLaunch::new(case.firmware(), None).unwrap();
    let digest = without.digest(&case.machine()).unwrap();
    let found = without.find(&Machines::one(case.machine()), Enforcement::Claimed, &digest).unwrap();
    assert!(found.coverage().firmware.is_ok());
    assert_eq!(found.coverage().kernel, Err(NotCovered::NotInRecipe));
    let why = case.launch().explain(&Machines::one(case.machine()), &digest).unwrap();
    assert_eq!(would_match(&why), "it would match with no kernel measured (kernel-hashes off)");
}

/// The digests stand in virtee/sev's tests/id-block.rs (Apache-2.0), with the block that is signed.
#[test]
fn a_published_id_auth_is_read_verified_and_written_again() {
    let Some(folder) = shared::folder("a_published_id_auth_is_read_verified_and_written_again") else { return };
    let bytes = std::fs::read(folder.join("launch/measurement__test_auth_block.bin")).unwrap();
    let auth = IdAuth::parse(&bytes).unwrap();
    assert_eq!(auth.to_bytes().as_slice(), bytes);
    let id_key = "59fb2c686dfa4fef49f38339aa775c90051c28d57383ddc3baf3b5eb4b1496df3b0dbbdcbae5fe27677a644820773fe2";
    assert_eq!(auth.id_key_digest().to_string(), id_key);
    let author = "eed81169fb0cb5e0ec34794f128fd4e0c4a46f67c65a1adfa81fcb24bcc088c272369b7ffc3eb2b6af6a4284a1b36c5f";
    assert_eq!(auth.author_key_digest().unwrap().to_string(), author);
    auth.verify_author().unwrap();

    let block = IdBlock {
        launch_digest: Measurement::from_hex(ID_BLOCK_DIGEST).unwrap(),
        family_id: FamilyId::from_bytes([0; 16]),
        image_id: ImageId::from_bytes([0; 16]),
        guest_svn: 0,
        policy: GuestPolicy::from_raw(0x3_0000),
    };
    assert_eq!(IdBlock::parse(&block.to_bytes()), Ok(block));
    auth.verify(&block).unwrap();
    let other = IdBlock { guest_svn: 1, ..block };
    assert_eq!(auth.verify(&other), Err(IdBlockError::Signature("the signature of the ID block")));
    for (at, says) in [(0, "algorithm"), (4, "algorithm"), (8, "zero"), (64 + 48, "zero"), (64 + 512, "curve")] {
        let mut broken = bytes.clone();
        broken[at] ^= 4;
        let error = IdAuth::parse(&broken).unwrap_err().to_string();
        assert!(error.contains(says), "{at}: {error}");
    }
    assert!(IdAuth::parse(&bytes[1..]).is_err());
}

const ID_BLOCK_DIGEST: &str =
    "a14d638341e5674628fe1e02fbedebe5e5ab4faf1dd72d8966068e615bb99efd13d214b35c231715b38e263dc6059745";
