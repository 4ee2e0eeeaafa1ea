//! Launch digests against published vectors and against a report that hardware signed.

#[path = "shared/mod.rs"]
mod shared;

use ratls::evidence::snp::Measurement;
use ratls::launch::{
    Firmware, GceHost, GuestFeatures, Ingredient, KernelHashes, LaunchError, Machine, OvmfLaunch, VcpuCount,
    VcpuSignature, Vmm,
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
    // A file that EC2 launches without a kernel (platforms.md §10).
    let machine = Machine {
        vmm: Vmm::Ec2,
        vcpus: VcpuCount::new(1).unwrap(),
        model: VcpuSignature::of_model(23, 1, 2),
        features: GuestFeatures::SNP,
    };
    let digest = OvmfLaunch::new(firmware, None).unwrap().digest(&machine).unwrap();
    assert!(digest.to_string().starts_with("fb789cb6"), "{digest}");
}
