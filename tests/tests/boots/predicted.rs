//! What the guest measured, against what its files and its quote-worthy registers say: predicted before it starts.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use evident_tests::boot::{Booted, Launch};
use ratls::evidence::event_log::{EventLog, EventType};
use ratls::evidence::ima::{BootAggregate, ImaList};
use ratls::evidence::tpm::{Bank, PcrValue, PcrValues};
use ratls::measured_boot::{Boot, LineSource, State};
use ratls::reference::{BootReference, Part, PeImage};

const BANK: Bank = Bank::Sha256;
/// What `-m` gives the guest.
const MEMORY: u32 = 1024 << 20;
/// A file of the kernel as the firmware gets it.
pub(crate) const KERNEL_IN_HAND: &str = "vmlinuz-as-handed-over";

/// Registers that hang on the guest's files alone.
pub(crate) struct Predicted {
    kernel: PcrValue,
    initrd: PcrValue,
    command_line: String,
    patched: Vec<u8>,
    pcr4: PcrValue,
    pcr9: PcrValue,
    reference: BootReference,
}

impl Predicted {
    pub(crate) fn of(launch: &Launch) -> Result<Predicted> {
        let (kernel, initrd) = (std::fs::read(&launch.kernel.image)?, std::fs::read(&launch.initrd)?);
        signed_by_debian(&kernel)?;
        let patched = as_qemu_hands_it(&kernel, u32::try_from(initrd.len())?).context("no kernel of x86")?;
        let kernel = PeImage::parse(&patched)?.digest(BANK);
        // OVMF tells the stub where the initrd is.
        let command_line = format!("{} initrd=initrd", launch.command_line);
        let options: Vec<u8> = format!("{command_line}\0").encode_utf16().flat_map(u16::to_le_bytes).collect();
        let zero = PcrValue::filled(BANK, 0);
        let extend = |value: PcrValue, bytes: &[u8]| value.extended(BANK.hash(&[bytes]).as_bytes());
        let pcr4 = zero.extended(kernel.as_bytes());
        let pcr4 = extend(extend(pcr4, b"Calling EFI Application from Boot Option"), &[0; 4]);
        let pcr9 = extend(extend(zero, &options), &initrd);
        let mut reference = BootReference::new();
        reference.add(Part::Kernel, "vmlinuz, as QEMU hands it over", &patched);
        reference.add(Part::Initrd, "initrd", &initrd);
        let initrd = BANK.hash(&[&initrd]);
        Ok(Predicted { kernel, initrd, command_line, patched, pcr4, pcr9, reference })
    }

    pub(crate) fn pcr4(&self) -> String {
        self.pcr4.to_string()
    }
    pub(crate) fn pcr9(&self) -> String {
        self.pcr9.to_string()
    }

    /// What a policy for this guest says: its registers, and what was booted in terms of meaning. Its firmware is no firmware of
    /// Google's, so PCR 0 is not compared.
    pub(crate) fn rules(&self) -> String {
        format!(
            "[gcp]\npcr0 = \"not compared\"\n\n[tpm.pcrs.sha256]\n4 = \"{}\"\n9 = \"{}\"\n\n\
             [event_log]\nkernel_command_line = \"{}\"\nkernel = \"{}\"\ninitrd = \"{}\"\nsecure_boot = \"not required\"\n",
            self.pcr4, self.pcr9, self.command_line, self.kernel, self.initrd
        )
    }

    /// The same guest by its files, which are in this folder: firmware, kernel, initrd. Secure Boot is off, and has no keys.
    pub(crate) fn rules_of_files(&self, folder: &Path, firmware: &str) -> Result<String> {
        std::fs::write(folder.join(KERNEL_IN_HAND), &self.patched)?;
        let nothing = ratls::crypto::sha256(&[]);
        let keys = ["PK", "KEK", "db", "dbx"].map(|name| format!("{name} = \"{nothing}\"\n")).concat();
        Ok(format!(
            "[gcp]\npcr0 = \"not compared\"\n\n[event_log]\nkernel_command_line = \"{}\"\nsecure_boot = \"not required\"\n\n\
             [event_log.secure_boot_keys]\n{keys}\n[[reference]]\nkind = \"launch\"\nfirmware = \"{firmware}\"\nvmm = [\"qemu\"]\n\
             vcpus = [1]\nvcpu_types = [\"EPYC-v4\"]\n\n[[reference]]\nkind = \"boot\"\nkernel = \"{KERNEL_IN_HAND}\"\n\
             initrd = \"initrd\"\n",
            self.command_line
        ))
    }

    /// Everything that the guest's TPM, firmware and kernel wrote down.
    pub(crate) fn holds(&self, booted: &Booted) -> Result<()> {
        let shown: Vec<(u8, Vec<u8>)> =
            booted.pcrs().iter().map(|(pcr, value)| Ok((*pcr, hex::decode(value)?))).collect::<Result<_>>()?;
        let pcrs = PcrValues::new(BANK, shown.iter().map(|(pcr, value)| (*pcr, &value[..])))?;
        ensure!(pcrs.value(4) == Some(&self.pcr4), "PCR 4 is {:?}, predicted {}", pcrs.value(4), self.pcr4);
        ensure!(pcrs.value(9) == Some(&self.pcr9), "PCR 9 is {:?}, predicted {}", pcrs.value(9), self.pcr9);
        self.log(&booted.event_log()?, &pcrs)?;
        files(&booted.ima_list()?, &pcrs)
    }

    fn log(&self, bytes: &[u8], pcrs: &PcrValues) -> Result<()> {
        let log = EventLog::parse(bytes)?;
        ensure!(log.anomalies().is_empty(), "{:?}", log.anomalies());
        let boot = Boot::interpret(&log, BANK, Some(pcrs)).context("the log has the bank")?;
        for register in boot.registers().iter().filter(|register| register.pcr != 10) {
            ensure!(register.state.is_confirmed(), "{register:?}");
        }
        ensure!(matches!(boot.register(0).map(|r| &r.state), Some(State::Confirmed)));
        let kernel = boot.kernel().context("a kernel")?;
        ensure!(kernel.digest == self.kernel && kernel.name.as_deref() == Some("kernel"), "{kernel:?}");
        let [line] = boot.command_lines() else { anyhow::bail!("{:?}", boot.command_lines()) };
        ensure!(line.source == LineSource::LoadOptions && line.is(&self.command_line), "{line:?}");
        ensure!(!line.is(&format!("{} init=/bin/sh", self.command_line)));
        let [initrd] = &boot.initrds()[..] else { anyhow::bail!("{:?}", boot.initrds()) };
        let proof = self.reference.proof(&[kernel.digest, initrd.digest], Some(&self.command_line));
        let proof = proof.context("the files in hand are those that were measured")?;
        ensure!([Part::Kernel, Part::Initrd, Part::CommandLine].into_iter().all(|part| proof.covers(part)));
        let words: Vec<String> = boot.sentences().into_iter().map(|sentence| sentence.text).collect();
        ensure!(words.contains(&"Secure Boot is off: nobody vouches for what runs.".to_owned()), "{words:#?}");
        ensure!(log.events().iter().any(|event| event.kind() == EventType::BOOT_SERVICES_APPLICATION));
        Ok(())
    }
}

/// The list that the kernel made under the policy of `init.sh`: it replays, it is of this boot, and busybox stands in it.
fn files(bytes: &[u8], pcrs: &PcrValues) -> Result<()> {
    let list = ImaList::parse(bytes)?;
    let prefix = list.replay(pcrs)?;
    ensure!(*prefix.boot_aggregate() == BootAggregate::Equal, "{:?}", prefix.boot_aggregate());
    let busybox = std::fs::read("/bin/busybox")?;
    let digest = format!("sha256:{}", ratls::crypto::sha256(&[&busybox]));
    let measured =
        |path: &str| prefix.entries().iter().find(|entry| entry.path() == path).and_then(|entry| entry.file());
    ensure!(measured("/bin/busybox").map(ToString::to_string) == Some(digest), "{:?}", prefix.entries());
    ensure!(measured("/bin/evident-proxy").is_some(), "{:?}", prefix.entries());
    ensure!(prefix.violations().count() == 0);
    Ok(())
}

/// Debian's signature in the kernel's file holds the same hash, over the file as it is shipped: a second opinion on Authenticode.
fn signed_by_debian(kernel: &[u8]) -> Result<()> {
    let digest = PeImage::parse(kernel)?.digest(BANK);
    let signature = kernel.get(kernel.len().saturating_sub(16 << 10)..).unwrap_or_default();
    ensure!(signature.windows(32).any(|window| window == digest.as_bytes()), "no signature over {digest}");
    Ok(())
}

/// QEMU fills in fields of the setup header, unless memory is encrypted (`x86_load_linux()` of hw/i386/x86.c, 7.2; the boot protocol
/// in Documentation/x86/boot.rst names them). The addresses follow from the guest's memory.
fn as_qemu_hands_it(kernel: &[u8], initrd: u32) -> Option<Vec<u8>> {
    const REAL: u32 = 0x1_0000;
    const COMMAND_LINE: u32 = 0x2_0000;
    /// Left for ACPI tables below the end of memory.
    const ACPI: u32 = 0x2_8000;
    let mut patched = kernel.to_vec();
    let mut put =
        |at: usize, bytes: &[u8]| patched.get_mut(at..at + bytes.len()).map(|field| field.copy_from_slice(bytes));
    let initrd_at = (MEMORY - ACPI - 1 - initrd) & !4095;
    // type_of_loader, loadflags with CAN_USE_HEAP, ramdisk_image, ramdisk_size, heap_end_ptr, cmd_line_ptr.
    put(0x210, &[0xB0, kernel.get(0x211)? | 0x80])?;
    put(0x218, &initrd_at.to_le_bytes())?;
    put(0x21C, &initrd.to_le_bytes())?;
    put(0x224, &u16::try_from(COMMAND_LINE - REAL - 0x200).ok()?.to_le_bytes())?;
    put(0x228, &COMMAND_LINE.to_le_bytes())?;
    Some(patched)
}
