//! Rules about what an emulated guest boots: its configuration by digests, its programs by digests or by files in hand.

use simulator::boot::log::{Event, kind};
use simulator::boot::{Firmware, Guest, Loader, pe};
use simulator::tpm::objects::Bank;

use crate::held::Held;

/// The guest of this cloud that boots so. Another one has another command line.
pub(crate) fn guest(firmware: Firmware, loader: Loader, command_line: &str) -> Guest {
    Guest { loader, command_line: command_line.to_owned(), ..Guest::new(firmware) }
}

/// The table of `simulator.toml` that boots it.
pub(crate) fn simulated(guest: &Guest, ima: bool) -> String {
    let loader = match guest.loader {
        Loader::Grub => "grub",
        Loader::Unified => "unified",
    };
    format!("[boot]\nloader = \"{loader}\"\ncommand_line = \"{}\"\nima = {ima}\n", guest.command_line)
}

impl Held {
    /// Programs by their files: the unified kernel image, or loaders, kernel and initrd of GRUB's way.
    pub(crate) fn boots_files(self, guest: &Guest) -> Held {
        let held = self.with("event_log", &event_log(guest, ""));
        match guest.loader {
            Loader::Unified => held
                .file("guest.efi", guest.unified_image())
                .with("boot", "[[reference]]\nkind = \"boot\"\nloaders = \"guest.efi\"\n"),
            Loader::Grub => {
                let held = held.file("vmlinuz", &guest.kernel).file("initrd.img", &guest.initrd);
                let held = Guest::loaders().into_iter().fold(held, |held, (name, bytes)| held.file(name, bytes));
                let names = Guest::loaders().map(|(name, _)| name);
                let files = format!("kernel = \"vmlinuz\"\ninitrd = \"initrd.img\"\nloaders = {names:?}\n");
                held.with("boot", &format!("[[reference]]\nkind = \"boot\"\n{files}"))
            }
        }
    }

    /// Programs by their digests.
    pub(crate) fn boots_digests(self, guest: &Guest) -> Held {
        let bank = bank(guest);
        let digest = |bytes: &[u8]| hex::encode(bank.hash(bytes));
        let mut rules = format!(
            "kernel = \"{}\"\ninitrd = \"{}\"\n",
            digest(guest.kernel.as_bytes()),
            digest(guest.initrd.as_bytes())
        );
        match guest.loader {
            Loader::Unified => {
                rules.push_str(&format!("boot_programs = \"{}\"\n", digest(&pe::hashed(&guest.unified_image()))));
                rules.push_str("[event_log.uki]\n");
                let own = [".linux", ".cmdline", ".initrd"];
                for (name, text) in guest.sections().into_iter().filter(|(name, _)| !own.contains(name)) {
                    rules.push_str(&format!("\"{name}\" = \"{}\"\n", digest(text.as_bytes())));
                }
            }
            Loader::Grub => {
                let [shim, grub, config] = Guest::loaders().map(|(_, bytes)| digest(bytes));
                rules.push_str(&format!("boot_programs = [\"{shim}\", \"{grub}\"]\nfiles = [\"{config}\"]\n"));
            }
        }
        self.with("event_log", &event_log(guest, &rules))
    }
}

/// AWS's documents have SHA-384.
fn bank(guest: &Guest) -> Bank {
    if guest.firmware == Firmware::Aws { Bank::Sha384 } else { Bank::Sha256 }
}

/// Everything but the programs, and `rules` about those; a table of its own may stand at their end.
fn event_log(guest: &Guest, rules: &str) -> String {
    let log = guest.log();
    // In both banks that a guest may quote.
    let digests = |wanted: &dyn Fn(&Event) -> bool| {
        let events = log.events.iter().filter(|event| wanted(event));
        let both = |event: &Event| [Bank::Sha256, Bank::Sha384].map(|bank| hex::encode(bank.hash(&event.measured)));
        events.flat_map(both).collect::<Vec<_>>()
    };
    let variables = |of: u32| log.events.iter().filter(move |event| event.kind == of).map(variable);
    let sha256 = |content: &[u8]| hex::encode(Bank::Sha256.hash(content));
    let authorities: Vec<String> = variables(kind::VARIABLE_AUTHORITY).map(|(_, content)| sha256(content)).collect();
    let keys = variables(kind::VARIABLE_DRIVER_CONFIG).filter(|(name, _)| name != "SecureBoot");
    let keys: String =
        keys.map(|(name, content)| format!("secure_boot_keys.{name} = \"{}\"\n", sha256(content))).collect();
    let mut text = format!(
        "[event_log]\ndisk = {:?}\nauthorities = {authorities:?}\n{keys}",
        digests(&|event| event.kind == kind::GPT)
    );
    if guest.command_line.contains("roothash=") {
        text.push_str("verity_key = \"roothash\"\n");
    }
    match guest.loader {
        Loader::Unified => text.push_str(&format!("kernel_command_line = {:?}\n", guest.command_line)),
        Loader::Grub => {
            text.push_str(&format!("kernel_command_line = {:?}\n", guest.grub_command_line()));
            text.push_str(&format!("grub_commands = {:?}\n", guest.grub_commands()));
            text.push_str(&format!("mok = {:?}\n", digests(&|event| event.pcr == 14)));
        }
    }
    text + rules
}

/// Name and content of a UEFI_VARIABLE_DATA.
fn variable(event: &Event) -> (String, &[u8]) {
    let length = |at: usize| usize::try_from(u64::from_le_bytes(event.data[at..at + 8].try_into().unwrap())).unwrap();
    let (name, content) = event.data[32..].split_at(2 * length(16));
    let name: Vec<u16> = name.chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    (String::from_utf16(&name).unwrap(), &content[..length(24)])
}
