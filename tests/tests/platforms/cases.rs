//! Deployments with everything that a user may hold of them: which levels each then shows is the business of `rows`, and the best
//! that each can show that of `table_1`.

use evident_tests::launch::Launched;
use ratls::launch::Firmware as Ovmf;
use ratls::tcb::Product;
use simulator::Cloud;
use simulator::boot::{Firmware, Loader};
use simulator::cloud::azure;

use crate::booted;
use crate::guest::{Deployment, Guest};
use crate::held::{Held, root_hash};
use crate::policies;

/// A guest, and what its user holds.
pub(crate) struct Case {
    pub(crate) deployment: Deployment,
    /// `simulator.toml` of the guest.
    pub(crate) simulated: String,
    pub(crate) held: Held,
}

impl Case {
    pub(crate) async fn start(&self) -> Guest {
        Guest::simulated(self.deployment, &self.simulated).await
    }
}

const ANY: &str = "identity = \"any\"\n";
const ENFORCED: &str = "kernel_hashes = \"enforced by this firmware\"\n";
/// A file system that nothing verifies.
const UNVERIFIED: &str = "root=/dev/vda2 ro quiet";
/// The key of the ID block of Azure's emulated paravisor, and the lowest guest_svn.
const MIN_SVN: u32 = 12;

/// The command line of a guest that mounts the image of [`Held::image`].
fn verity() -> String {
    format!("root=/dev/mapper/root ro systemd.verity_root_data=LABEL=root roothash={}", root_hash())
}

fn head(deployment: Deployment) -> Held {
    Held::new(policies::head(deployment, ANY, ""))
}

fn measurement(launched: &Launched) -> String {
    format!("measurement = \"{}\"\n", launched.digest().unwrap())
}

/// A list of one digest that the user pinned.
fn pinned(hex: &str) -> String {
    format!("measurements = [\"{hex}\"]\n")
}

/// Firmware that this hypervisor launches, recomputed from its file.
fn firmware(held: Held, vmm: &str, launched: &Launched) -> Held {
    let reference =
        format!("[[reference]]\nkind = \"launch\"\nfirmware = \"OVMF.fd\"\nvmm = [\"{vmm}\"]\nvcpus = [1, 2, 4]\n");
    held.launched(launched).with("launch", &reference)
}

// ---- AWS

/// A unified kernel image under dm-verity; firmware, image and file system rebuilt.
pub(crate) fn aws_rebuilt() -> Case {
    let launched = Launched::firmware("ec2", 2).unwrap();
    let boots = booted::guest(Firmware::Aws, Loader::Unified, &verity());
    let held = firmware(head(Deployment::Aws), "ec2", &launched).boots_files(&boots).image();
    Case {
        deployment: Deployment::Aws,
        simulated: measurement(&launched) + &booted::simulated(&boots, false),
        held: held.rebuilt(&["OVMF.fd", "guest.efi", "root.img"]),
    }
}

/// A distribution's programs, by its digests; only the firmware was rebuilt.
pub(crate) fn aws_distribution() -> Case {
    let launched = Launched::firmware("ec2", 2).unwrap();
    let boots = booted::guest(Firmware::Aws, Loader::Grub, UNVERIFIED);
    let held = firmware(head(Deployment::Aws), "ec2", &launched).boots_digests(&boots);
    Case {
        deployment: Deployment::Aws,
        simulated: measurement(&launched) + &booted::simulated(&boots, false),
        held: held.rebuilt(&["OVMF.fd"]),
    }
}

// ---- Azure

/// The paravisor's launch digest is pinned; what boots is recomputed from its files, with the file system.
fn azure(boots: &simulator::boot::Guest, ima: bool) -> Case {
    let launch = pinned(evident_tests::policy::SIMULATED_MEASUREMENT);
    Case {
        deployment: Deployment::Azure,
        simulated: booted::simulated(boots, ima),
        held: Held::new(policies::head(Deployment::Azure, ANY, &launch)),
    }
}

/// At its best: all files of the system in hand, and a launch digest that is on the user's list.
pub(crate) fn azure_known() -> Case {
    let boots = booted::guest(Firmware::Azure, Loader::Unified, &verity());
    let case = azure(&boots, false);
    Case { held: case.held.boots_files(&boots).image(), ..case }
}

/// The same below a paravisor of 2023, whose reports the user accepts.
pub(crate) fn azure_old() -> Case {
    let case = azure_known();
    let accepts = "stale_report = \"accept a report of unknown age\"\n";
    Case {
        // The table of the policy's head is the last one in it.
        held: case.held.adding_to_head(accepts),
        simulated: format!("{}\n[azure]\nregeneration_ms = 0\nuser_data = false\n", case.simulated),
        ..case
    }
}

/// Only who signed the paravisor's launch is pinned.
pub(crate) fn azure_signer() -> Case {
    let boots = booted::guest(Firmware::Azure, Loader::Unified, &verity());
    let signer = Cloud::Azure(azure::Vm::new()).reports(Product::Milan).id_key_digest;
    let identity = format!("[identity.launch_identity]\nid_key_digest = \"{signer}\"\nmin_guest_svn = {MIN_SVN}\n");
    let head = policies::head(Deployment::Azure, &identity, "measurements = \"whatever launch_identity signed\"\n");
    Case { held: Held::new(head).boots_files(&boots).image(), ..azure(&boots, false) }
}

/// Programs by their digests, and an IMA list that the policy asks for and compares with nothing.
pub(crate) fn azure_with_ima() -> Case {
    let boots = booted::guest(Firmware::Azure, Loader::Grub, UNVERIFIED);
    let case = azure(&boots, true);
    Case { held: case.held.boots_digests(&boots).with("levels", "[levels]\nuserspace = \"L1\"\n"), ..case }
}

// ---- Google

/// Google's word for the firmware; loaders and kernel in hand, and nothing about the userspace.
pub(crate) fn gcp_endorsed() -> Case {
    let boots = booted::guest(Firmware::Gce, Loader::Grub, UNVERIFIED);
    let held = head(Deployment::Gcp).adding_to_head("endorsement_root = \"gce-tcb-root.pem\"\nmin_svn = 1\n");
    Case { deployment: Deployment::Gcp, simulated: booted::simulated(&boots, false), held: held.boots_files(&boots) }
}

/// Google's firmware in hand, of which there is no source; the rest is the user's own, and rebuilt.
pub(crate) fn gcp_recomputed() -> Case {
    let launched = Launched::firmware("gce", 2).unwrap();
    let boots = booted::guest(Firmware::Gce, Loader::Unified, &verity());
    let held = firmware(head(Deployment::Gcp), "gce", &launched).boots_files(&boots).image();
    Case {
        deployment: Deployment::Gcp,
        simulated: measurement(&launched) + &booted::simulated(&boots, false),
        held: held.rebuilt(&["guest.efi", "root.img"]),
    }
}

// ---- everything in the launch digest

/// Firmware, kernel, initrd and this command line, all of them in hand, under QEMU; `more` says where the userspace is.
fn snpguard(command_line: &str, more: &str) -> (Launched, Held) {
    let launched = Launched::direct_boot(command_line).unwrap();
    let reference = format!(
        "[[reference]]\nkind = \"launch\"\nfirmware = \"OVMF.fd\"\nkernel = \"vmlinuz\"\ninitrd = \"initrd.img\"\n\
         cmdline = {command_line:?}\n{ENFORCED}vmm = [\"qemu\"]\nvcpus = [2, 4]\nvcpu_types = [\"EPYC-v4\"]\n{more}"
    );
    let held = head(Deployment::Direct).launched(&launched).with("launch", &reference);
    (launched, held)
}

const LAUNCHED: [&str; 3] = ["OVMF.fd", "vmlinuz", "initrd.img"];

pub(crate) fn snpguard_verity() -> Case {
    let command_line = format!("boot=verity verity_disk=/dev/vda verity_roothash={} ro", root_hash());
    let (launched, held) =
        snpguard(&command_line, "verity_key = \"verity_roothash\"\nneutral_words = [\"boot=verity\"]\n");
    let files = [&LAUNCHED[..], &["root.img"]].concat();
    Case { deployment: Deployment::Direct, simulated: measurement(&launched), held: held.image().rebuilt(&files) }
}

pub(crate) fn snpguard_encrypted() -> Case {
    let (launched, held) = snpguard("boot=encrypted ro", "userspace = \"on an encrypted disk\"\n");
    Case { deployment: Deployment::Direct, simulated: measurement(&launched), held: held.rebuilt(&LAUNCHED) }
}

/// The same guest as [`snpguard_verity`], which the host may debug.
pub(crate) fn debuggable() -> Case {
    let case = snpguard_verity();
    Case { simulated: format!("{}policy = 0xB_0000\n", case.simulated), ..case }
}

/// Firmware of QEMU's and a kernel that nothing measures.
pub(crate) fn plain_kernel() -> Case {
    let launched = Launched::firmware("qemu", 2).unwrap();
    let reference = "[[reference]]\nkind = \"launch\"\nfirmware = \"OVMF.fd\"\nvmm = [\"qemu\"]\nvcpus = [2]\n\
                     vcpu_types = [\"EPYC-v4\"]\n";
    let held = head(Deployment::Direct).launched(&launched).with("launch", reference).rebuilt(&["OVMF.fd"]);
    Case { deployment: Deployment::Direct, simulated: measurement(&launched), held }
}

/// A guest whose userspace is its initrd; of every part the user has a digest and no file.
pub(crate) fn microcvm_digests() -> Case {
    let command_line = "ro";
    let launched = Launched::direct_boot(command_line).unwrap();
    let read = |name: &str| std::fs::read(launched.folder().join(name)).unwrap();
    let sum = |name: &str| ratls::crypto::sha256(&[&read(name)]);
    let ovmf = Ovmf::from_image(&read("OVMF.fd")).unwrap();
    let kinds = [(0x80_0000, 0x9000, 1), (0x80_D000, 0x1000, 2), (0x80_E000, 0x1000, 3), (0x81_0000, 0x1000, 0x10)];
    let sections = kinds.map(|(gpa, size, kind)| format!("{{ gpa = {gpa:#x}, size = {size:#x}, type = {kind:#x} }}"));
    let reference = format!(
        "[[reference]]\nkind = \"launch\"\nfirmware_digest = \"{}\"\n\
         layout = {{ reset_eip = 0x80B004, hash_table = 0x810C00, sections = [{}] }}\n\
         kernel_sha256 = \"{}\"\ninitrd_sha256 = \"{}\"\ncmdline = \"{command_line}\"\n{ENFORCED}\
         vmm = [\"qemu\"]\nvcpus = [4]\nvcpu_types = [\"EPYC-v4\"]\nuserspace = \"in the initrd\"\n",
        ovmf.after_pages(),
        sections.join(", "),
        sum("vmlinuz"),
        sum("initrd.img"),
    );
    Case {
        deployment: Deployment::Direct,
        simulated: measurement(&launched),
        held: head(Deployment::Direct).with("launch", &reference),
    }
}

/// A guest given page by page, without a firmware; all of it rebuilt.
pub(crate) fn microcvm_rebuilt() -> Case {
    let launched = Launched::pages("simulated workload").unwrap();
    let reference = "[[reference]]\nkind = \"pages\"\nlist = \"pages.toml\"\nuserspace = \"in the initrd\"\n";
    let held = head(Deployment::Direct).launched(&launched).with("launch", reference);
    Case {
        deployment: Deployment::Direct,
        simulated: measurement(&launched),
        held: held.rebuilt(&["loader.bin", "vmlinux.bin", "initrd.img"]),
    }
}

// ---- below an SVSM

/// SVSM and firmware from one file, a unified kernel image under dm-verity; all of it rebuilt.
pub(crate) fn svsm_rebuilt() -> Case {
    let launched = Launched::igvm().unwrap();
    let boots = booted::guest(Firmware::Svsm, Loader::Unified, &verity());
    let held = head(Deployment::Svsm)
        .launched(&launched)
        .with("launch", "[[reference]]\nkind = \"igvm\"\nfile = \"svsm.igvm\"\n")
        .boots_files(&boots)
        .image();
    Case {
        deployment: Deployment::Svsm,
        simulated: measurement(&launched) + &booted::simulated(&boots, false),
        held: held.rebuilt(&["svsm.igvm", "guest.efi", "root.img"]),
    }
}
