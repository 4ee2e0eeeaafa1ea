//! PCR 4, 8 and 9 of a boot by shim and grub, foretold: against a real log of Google's, with `tpm2_eventlog` as the second opinion, and against
//! files.

#![allow(clippy::unwrap_used)]

mod shared;

use std::process::Command;

use ratls::evidence::event_log::EventLog;
use ratls::evidence::event_log::data::GrubRole;
use ratls::evidence::tpm::{Bank, PcrValue};
use ratls::measured_boot::{Boot, LineSource};
use ratls::reference::{GrubBoot, PeImage, grub_commands};

/// The boot again, from what the log says happened: hashes of images and files, and commands as texts. Nothing of PCR 8 is taken from
/// the log but what the commands were; that `linux` measures its line again is foretold.
fn foretold(boot: &Boot) -> GrubBoot {
    let bank = boot.bank();
    let mut all = boot.images().iter().fold(GrubBoot::new(bank), |all, image| all.program_by_digest(image.digest));
    for line in boot.grub().iter().filter(|line| line.value.role == GrubRole::Command) {
        assert!(line.bound, "{line:?}");
        all = all.command(&line.value.text);
    }
    all = boot.files().iter().fold(all, |all, file| all.file_by_digest(file.digest));
    match boot.command_lines().iter().any(|line| line.source == LineSource::LoadOptions) {
        true => all.stub_took_options(),
        false => all,
    }
}

/// `pcrs:` of `tpm2_eventlog`, of the bank sha256.
fn second_opinion(log: &std::path::Path, pcr: u8) -> String {
    let output = Command::new("tpm2_eventlog").arg(log).output().expect("tpm2_eventlog of Debian's tpm2-tools");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, pcrs) = text.split_once("\npcrs:").unwrap_or_else(|| panic!("no pcrs in {text}"));
    let (_, bank) = pcrs.split_once("sha256:").unwrap();
    let bank = bank.split("sha384:").next().unwrap();
    let line = bank
        .lines()
        .find_map(|line| line.trim().strip_prefix(&format!("{pcr} ")).or(line.trim().strip_prefix(&format!("{pcr}:"))));
    line.unwrap_or_else(|| panic!("PCR {pcr} is not in {bank}"))
        .trim_start_matches([' ', ':'])
        .trim_start_matches("0x")
        .to_lowercase()
}

#[test]
fn a_real_boot_by_grub_is_foretold_as_tpm2_eventlog_replays_it() {
    let test = "a_real_boot_by_grub_is_foretold_as_tpm2_eventlog_replays_it";
    let Some(folder) = shared::folder(test) else { return };
    for file in ["eventlogs__ubuntu-2404-amd-sevsnp.bin", "eventlogs__ubuntu-2104-no-secure-boot.bin"] {
        let path = folder.join("eventlog").join(file);
        let log = EventLog::parse(&std::fs::read(&path).unwrap()).unwrap();
        let boot = Boot::interpret(&log, Bank::Sha256, None).unwrap();
        let all = foretold(&boot);
        for (pcr, value) in [(4, all.pcr4()), (8, all.pcr8()), (9, all.pcr9())] {
            assert_eq!(value.to_string(), second_opinion(&path, pcr), "{file}: PCR {pcr}");
        }
        let (line, _) = all.command_line().unwrap();
        assert_eq!(line, boot.command_line().unwrap().text(), "{file}");
        // One command more, and PCR 8 alone is another one.
        let other = all.clone().command("boot");
        assert!(other.pcr8() != all.pcr8() && other.pcr4() == all.pcr4() && other.pcr9() == all.pcr9());
    }
}

#[test]
fn files_and_a_script_lead_to_the_registers_that_such_a_boot_fills() {
    const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
    let image = std::fs::read(STUB).expect("Debian's systemd-boot-efi");
    let script = "set timeout=0\nset k=/vmlinuz-6.8.0-45\nlinux $k root=LABEL=root ro\ninitrd /initrd.img-6.8.0-45\n";
    for bank in [Bank::Sha256, Bank::Sha384] {
        let mut all = GrubBoot::new(bank).program(&image).unwrap().file(script.as_bytes());
        for command in grub_commands(script, &[]).unwrap() {
            all = all.command(&command);
        }
        let all = all.file(b"kernel").file(b"initrd").stub_took_options();
        let extend = |texts: &[&[u8]]| {
            texts.iter().fold(PcrValue::filled(bank, 0), |value, text| value.extended(bank.hash(&[text]).as_bytes()))
        };
        let authenticode = PeImage::parse(&image).unwrap().digest(bank);
        let before = extend(&[b"Calling EFI Application from Boot Option", &[0; 4]]);
        assert_eq!(all.pcr4(), before.extended(authenticode.as_bytes()));
        let pcr8: [&[u8]; 5] = [
            b"set timeout=0",
            b"set k=/vmlinuz-6.8.0-45",
            b"linux /vmlinuz-6.8.0-45 root=LABEL=root ro",
            b"/vmlinuz-6.8.0-45 root=LABEL=root ro",
            b"initrd /initrd.img-6.8.0-45",
        ];
        assert_eq!(all.pcr8(), extend(&pcr8));
        let options = shared::logs::utf16("BOOT_IMAGE=/vmlinuz-6.8.0-45 root=LABEL=root ro");
        assert_eq!(all.pcr9(), extend(&[script.as_bytes(), b"kernel", b"initrd", &options]));
    }
    assert!(GrubBoot::new(Bank::Sha256).program(b"no image").is_err());
}
