//! What each register means, as data (systemd, docs/TPM2_PCR_MEASUREMENTS.md; PFP 1.05, section 3.3.4).

/// What a register tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    Firmware,
    /// Everything between firmware and kernel: loader, stub, initrd, command line.
    Boot,
    Kernel,
    Userspace,
}

/// Whether a register can say anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidential {
    Yes,
    /// Whoever runs at locality 0, so any program of the guest with the device, can reset it and extend what it likes.
    Resettable,
    /// Of a dynamic launch, which no guest of SEV-SNP makes; its reset value is all ones.
    DynamicLaunch,
}

/// A register, and what its value is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    pub pcr: u8,
    pub holds: &'static str,
    /// What it says something about; a component is covered only with all its registers.
    pub layers: &'static [Layer],
    pub evidential: Evidential,
    /// What a reader must know beside the value; empty where there is nothing.
    pub note: &'static str,
}

const fn row(pcr: u8, holds: &'static str, layers: &'static [Layer], note: &'static str) -> Meaning {
    let evidential = match pcr {
        16 | 23 => Evidential::Resettable,
        17..=22 => Evidential::DynamicLaunch,
        _ => Evidential::Yes,
    };
    Meaning { pcr, holds, layers, evidential, note }
}

use Layer::{Boot, Firmware, Kernel, Userspace};

const DRTM: &str = "all ones unless somebody made a dynamic launch; never evidence here";
const RESETTABLE: &str = "any program of the guest can reset it; never evidence";

/// All registers, in their order.
pub static REGISTERS: [Meaning; 24] = [
    row(
        0,
        "firmware version",
        &[Firmware],
        "a version text and, on GCE, the technology that the firmware found; not the firmware's bytes",
    ),
    row(1, "firmware configuration, ACPI and SMBIOS tables, boot order", &[Firmware], "the host decides most of it"),
    row(2, "option ROMs", &[Boot], ""),
    row(3, "configuration of option ROMs", &[Boot], ""),
    row(4, "boot loaders, unified kernel image, kernel", &[Boot, Kernel], "hashes of images as Secure Boot sees them"),
    row(5, "partition table, boot manager's actions", &[Boot], ""),
    row(6, "platform events", &[Boot], ""),
    row(7, "Secure Boot: state, keys, who vouched", &[Boot], "says who signed, not what"),
    row(8, "commands of grub, kernel command line", &[Boot, Kernel], ""),
    row(9, "files that grub read (kernel, initrd), initrd and options of the EFI stub", &[Boot, Kernel], ""),
    row(10, "files that IMA measured", &[Userspace], "what was opened under the kernel's measuring policy, no more"),
    row(11, "unified kernel image: sections, then boot phases", &[Boot, Kernel], ""),
    row(12, "overrides of a unified kernel image: command line, credentials, addons", &[Boot, Kernel], ""),
    row(13, "system extensions for the initrd", &[Boot], ""),
    row(14, "shim: MOK lists", &[Boot], "keys that the machine's owner added to Secure Boot's"),
    row(15, "machine id, root and volume keys", &[Userspace], "differs from machine to machine"),
    row(16, "debugging", &[], RESETTABLE),
    row(17, "dynamic launch", &[], DRTM),
    row(18, "dynamic launch", &[], DRTM),
    row(19, "dynamic launch", &[], DRTM),
    row(20, "dynamic launch", &[], DRTM),
    row(21, "dynamic launch", &[], DRTM),
    row(22, "dynamic launch", &[], DRTM),
    row(23, "applications", &[], RESETTABLE),
];

/// The meaning of a register; `None` for one that does not exist.
pub fn meaning(pcr: u8) -> Option<&'static Meaning> {
    REGISTERS.get(usize::from(pcr))
}

/// Registers that say something about a layer.
pub fn registers_of(layer: Layer) -> impl Iterator<Item = u8> {
    REGISTERS.iter().filter(move |row| row.layers.contains(&layer)).map(|row| row.pcr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plat_n41_registers_that_anybody_can_reset_belong_to_no_layer() {
        for (pcr, row) in (0..).zip(&REGISTERS) {
            assert_eq!(row.pcr, pcr);
            assert_eq!(row.evidential == Evidential::Yes, !row.layers.is_empty(), "PCR {pcr}");
            assert_eq!(matches!(pcr, 16..=23), row.evidential != Evidential::Yes, "PCR {pcr}");
        }
        assert_eq!(registers_of(Userspace).collect::<Vec<_>>(), [10, 15]);
        assert_eq!(registers_of(Kernel).collect::<Vec<_>>(), [4, 8, 9, 11, 12]);
        assert_eq!(meaning(24), None);
    }
}
