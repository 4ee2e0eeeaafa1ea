//! What was booted, in words: the log of a real SEV-SNP machine, and logs made by hand.

mod shared;

use ratls::crypto::sha256;
use ratls::evidence::event_log::{EventLog, EventType};
use ratls::evidence::tpm::Bank;
use ratls::measured_boot::diff::{diff, summary};
use ratls::measured_boot::unexplained::{Slip, slip};
use ratls::measured_boot::{Boot, LineSource, State, Technology};
use ratls::reference::Unified;
use shared::logs::{COMMAND_LINE, Log, good, utf16};

fn interpret(log: &Log) -> Boot {
    let parsed = EventLog::parse(&log.bytes()).unwrap();
    Boot::interpret(&parsed, Bank::Sha256, Some(&log.quoted(Bank::Sha256))).unwrap()
}

fn words(boot: &Boot) -> String {
    boot.sentences().iter().map(|s| format!("{}: {}\n", s.subject, s.text)).collect()
}

fn real(test: &str, name: &str) -> Option<Boot> {
    let path = shared::folder(test)?.join("eventlog").join(name);
    let log = EventLog::parse(&std::fs::read(path).unwrap()).unwrap();
    Boot::interpret(&log, Bank::Sha256, None)
}

#[test]
fn the_gce_sev_snp_log_is_interpreted_in_words() {
    let test = "the_gce_sev_snp_log_is_interpreted_in_words";
    let Some(boot) = real(test, "eventlogs__ubuntu-2404-amd-sevsnp.bin") else { return };
    let words = words(&boot);
    for sentence in [
        "firmware: The firmware calls itself \"GCE Virtual Firmware v2\", and says that it runs under SEV-SNP. \
         The registers do not cover its bytes.\n",
        "Secure Boot: Secure Boot is off: nobody vouches for what runs.\n",
        "Secure Boot keys: KEK holds \"Microsoft Corporation KEK CA 2011\" (SHA-256 fabefc16",
        "Secure Boot keys: dbx holds 371 image hashes (SHA-256 920e358e",
        "SBAT: shim runs nothing that SBAT level 2021030218 revokes.\n",
        "boot program: Program 1: \\EFI\\ubuntu\\shimx64.efi, Authenticode 724de684",
        "boot program: Program 2: \\EFI\\ubuntu\\grubx64.efi, Authenticode 5e8cb75a",
        "grub: grub ran 70 commands and read 11 files.\n",
        "kernel: The kernel is /vmlinuz-6.8.0-1010-gcp (a6cdd6ff",
        "), version 6.8.0-1010-gcp.\n",
        "command line: The kernel command line is \"/vmlinuz-6.8.0-1010-gcp root=PARTUUID=8270f3c9-b4e4-4345-80ee-5a62db7ebf3f \
         ro console=ttyS0,115200 panic=-1\", measured by grub and by the kernel's EFI stub.\n",
        "root: It names no dm-verity root hash: it binds no root file system.\n",
        "disk: The disk is 9b3aa448-be40-489b-b8c3-9c16fb4fb6a2 with 4 partitions.\n",
        "registers: No quote was given: the log is what somebody wrote down, and nothing confirms it.\n",
    ] {
        assert!(words.contains(sentence), "{sentence}\nis not in\n{words}");
    }
    assert!(boot.sentences().iter().all(|sentence| sentence.bound));
    assert!(boot.anomalies().is_empty());
    assert_eq!(boot.technology().unwrap().value, Technology::SevSnp);
    assert!(!boot.secure_boot().unwrap().value);
}

#[test]
fn vendors_of_keys_are_named_in_logs_with_secure_boot() {
    let test = "vendors_of_keys_are_named_in_logs_with_secure_boot";
    let Some(boot) = real(test, "eventlogs__eventlogwithsp800155.bin") else { return };
    let words = words(&boot);
    assert!(words.contains("Secure Boot: Secure Boot is on.\n"), "{words}");
    assert!(words.contains("and says that it runs under no memory encryption."), "{words}");
    assert!(boot.authorities().iter().any(|authority| !authority.value.keys.names.is_empty()), "{words}");
    // The kernel of Container-Optimized OS is started as an image of its own, and its root is verified.
    assert_eq!(boot.images().len(), 3);
    assert!(
        words.contains("The kernel command line is \"/syslinux/vmlinuz.B init=/usr/lib/systemd/systemd"),
        "{words}"
    );
}

#[test]
fn a_quote_confirms_registers_and_leaves_others_open() {
    let boot = interpret(&good());
    assert!(boot.registers().iter().all(|register| register.state.is_confirmed()));
    assert_eq!(boot.command_line().unwrap().text(), COMMAND_LINE);
    assert_eq!(boot.kernel().unwrap().name.as_deref(), Some("/vmlinuz-6.8.0-45"));
    assert_eq!(boot.initrds()[0].digest, Bank::Sha256.hash(&[b"the initrd"]));

    let parsed = EventLog::parse(&good().bytes()).unwrap();
    let more = good().grub("grub_cmd: ", "reboot").quoted(Bank::Sha256);
    let boot = Boot::interpret(&parsed, Bank::Sha256, Some(&more)).unwrap();
    assert!(matches!(boot.register(8).unwrap().state, State::Unexplained { .. }));
    assert!(words(&boot).contains("The log does not explain PCR 8."));
    let other_bank = Boot::interpret(&parsed, Bank::Sha384, Some(&more)).unwrap();
    assert!(other_bank.registers().iter().all(|register| register.state == State::NotQuoted));
}

/// systemd-stub: name and content of each section into PCR 11, an override into PCR 12.
fn unified(sections: &[(&str, &str)]) -> Log {
    let mut log = good();
    log.records.retain(|record| ![8, 9].contains(&record.pcr));
    for (name, content) in sections {
        let called = [utf16(name), vec![0, 0]].concat();
        let name = format!("{name}\0");
        log = log.measured(11, EventType::IPL, name.as_bytes(), &called);
        log = log.measured(11, EventType::IPL, content.as_bytes(), &called);
    }
    log
}

#[test]
fn sections_of_a_unified_image_are_named_by_their_digests_alone() {
    let sections = [(".linux", "the kernel"), (".osrel", "ID=debian"), (".cmdline", COMMAND_LINE), (".initrd", "x")];
    let mut log = unified(&sections);
    for record in log.records.iter_mut().filter(|record| record.pcr == 11) {
        record.data = b"anything".to_vec();
    }
    let boot = interpret(&log);
    let seen: Vec<_> = boot.stub().sections.iter().map(|s| (s.name, s.digest)).collect();
    let wanted = sections.map(|(name, content)| (name, Bank::Sha256.hash(&[content.as_bytes()])));
    assert_eq!(seen, wanted);
    assert!(boot.stub().unread.is_empty());
    let line = &boot.command_lines()[0];
    assert_eq!((line.source, line.is(COMMAND_LINE), line.is("another")), (LineSource::Section, true, false));
    // Content that looks like the name of a section is content still.
    let boot = interpret(&unified(&[(".linux", ".cmdline\0"), (".osrel", "x")]));
    assert_eq!(boot.stub().sections.iter().map(|s| s.name).collect::<Vec<_>>(), [".linux", ".osrel"]);
}

#[test]
fn boot_phases_that_no_log_has_are_found_by_their_words() {
    let log = unified(&[(".linux", "the kernel")]);
    let with = |phases: &[&str]| {
        let extended = phases
            .iter()
            .fold(log.clone(), |log, phase| log.measured(11, EventType::IPL, phase.as_bytes(), phase.as_bytes()));
        let parsed = EventLog::parse(&log.bytes()).unwrap();
        Boot::interpret(&parsed, Bank::Sha256, Some(&extended.quoted(Bank::Sha256))).unwrap()
    };
    let phases = ["enter-initrd", "leave-initrd", "sysinit", "ready"];
    let boot = with(&phases);
    assert_eq!(boot.register(11).unwrap().state, State::ConfirmedWithPhases(phases.to_vec()));
    assert!(words(&boot).contains("systemd has passed enter-initrd, leave-initrd, sysinit, ready."));
    assert!(matches!(with(&["ready", "sysinit"]).register(11).unwrap().state, State::Unexplained { .. }));
    assert!(matches!(with(&["attack"]).register(11).unwrap().state, State::Unexplained { .. }));
}

#[test]
fn an_override_of_the_command_line_is_seen() {
    let text = [utf16("init=/bin/sh"), vec![0, 0]].concat();
    let boot = interpret(&unified(&[(".cmdline", COMMAND_LINE)]).event(12, EventType::IPL, &text));
    assert_eq!(boot.command_lines().len(), 2);
    assert_eq!(boot.command_lines()[0].source, LineSource::Override);
    assert!(words(&boot).contains("init stands in it: a shell without a password is the first program."));
}

#[test]
fn an_override_leads_to_the_register_that_is_foretold_and_without_one_it_is_untouched() {
    let own = unified(&[(".cmdline", COMMAND_LINE)]);
    let text = [utf16("init=/bin/sh"), vec![0, 0]].concat();
    let overridden = own.clone().event(12, EventType::IPL, &text);
    for bank in [Bank::Sha256, Bank::Sha384] {
        let holds = |log: &Log| log.pcrs(bank)[&12];
        assert_eq!(holds(&overridden), Unified::pcr12(bank, Some("init=/bin/sh")));
        assert_ne!(holds(&overridden), Unified::pcr12(bank, Some("init=/bin/s")));
        assert_eq!(holds(&own), Unified::pcr12(bank, None));
    }
}

#[test]
fn a_text_whose_digest_is_another_is_said_to_be_a_claim() {
    let mut log = good();
    let at = log.position(|record| record.data.starts_with(b"kernel_cmdline: "));
    log.records[at].data.splice(16..17, *b"#").for_each(drop);
    let boot = interpret(&log);
    assert_eq!(boot.command_line(), None);
    assert!(boot.sentences().iter().any(|sentence| sentence.subject == "grub" && !sentence.bound));
    let mut log = good();
    log.records[0].measured = b"another firmware".to_vec();
    assert!(words(&interpret(&log)).contains("(Only a claim: its digest says something else.)"));
}

#[test]
fn another_kernel_is_told_as_another_kernel_and_nothing_else() {
    let upgraded = {
        let mut log = good();
        for record in &mut log.records {
            if record.pcr == 9 && record.data.starts_with(b"/vmlinuz") {
                record.measured = b"a newer kernel".to_vec();
            }
            record.change(|bytes| {
                if let Ok(text) = String::from_utf8(bytes.clone()) {
                    *bytes = text.replace("6.8.0-45", "6.8.0-47").into_bytes();
                }
            });
        }
        log
    };
    let (a, b) = (interpret(&good()), interpret(&upgraded));
    let told = summary(&diff(&a, &b));
    assert_eq!(
        told,
        "kernel 6.8.0-45 → 6.8.0-47; grub commands changed: 3 no longer run, 3 new; firmware unchanged; \
         Secure Boot unchanged; Secure Boot keys unchanged; boot programs unchanged; initrd unchanged; \
         command line unchanged; MOK unchanged"
    );
    assert!(diff(&a, &a).iter().all(|difference| !difference.is_change()));
}

#[test]
fn every_other_difference_has_its_own_words() {
    let a = interpret(&good());
    let told = |change: &dyn Fn(&mut Log)| {
        let mut log = good();
        change(&mut log);
        let changes = diff(&a, &interpret(&log)).into_iter().filter(|d| d.is_change()).map(|d| d.to_string());
        changes.collect::<Vec<_>>().join("; ")
    };
    let at = |start: &'static [u8]| good().position(|record| record.data.starts_with(start));
    let replace = |start: &'static [u8], from: &'static str, to: &'static str| {
        let at = at(start);
        move |log: &mut Log| {
            log.records[at].change(|bytes| {
                *bytes = String::from_utf8(bytes.clone()).unwrap().replace(from, to).into_bytes();
            });
        }
    };
    assert_eq!(
        told(&replace(b"kernel_cmdline", " ro ", " rw init=/bin/sh ")),
        "command line -ro +init=/bin/sh +rw; grub commands changed: 1 no longer run, 1 new"
    );
    let kernel = told(&|log| log.records[at(b"/vmlinuz")].measured = b"a backdoor".to_vec());
    assert!(kernel.starts_with("kernel 6.8.0-45 with another content: "), "{kernel}");
    let shim = good().position(|record| record.measured == b"the hash of shim");
    let programs = told(&|log| log.records[shim].measured = b"another".to_vec());
    assert!(programs.starts_with("boot programs changed: program 1: \\EFI\\debian\\shimx64.efi "), "{programs}");
    let host = told(&|log| {
        log.records[1].change(|bytes| bytes[16] = 0);
    });
    assert_eq!(
        host,
        "firmware \"GCE Virtual Firmware v2\" under SEV-SNP → \"GCE Virtual Firmware v2\" under no memory encryption"
    );
    let off = told(&|log| {
        log.records[2].change(|bytes| *bytes.last_mut().unwrap() = 0);
    });
    assert_eq!(off, "Secure Boot on → off");
    let initrd = told(&|log| log.records[at(b"/initrd")].measured = b"another initrd".to_vec());
    assert!(initrd.starts_with("initrd /initrd.img-6.8.0-45 ("), "{initrd}");
}

#[test]
fn real_logs_differ_in_meaning() {
    let test = "real_logs_differ_in_meaning";
    let Some(a) = real(test, "eventlogs__ubuntu-2104-no-secure-boot.bin") else { return };
    let Some(b) = real(test, "eventlogs__ubuntu-2404-amd-sevsnp.bin") else { return };
    let told = summary(&diff(&a, &b));
    for words in [
        "firmware \"GCE Virtual Firmware v1\" under no memory encryption → \"GCE Virtual Firmware v2\" under SEV-SNP",
        "kernel 5.11.0-1006-gcp → 6.8.0-1010-gcp",
        "Secure Boot unchanged",
        "SBAT level unchanged",
    ] {
        assert!(told.contains(words), "{words}\nis not in\n{told}");
    }
}

#[test]
fn the_kernel_s_own_digest_of_its_options_is_matched_to_the_text_of_grub() {
    let options = utf16(&format!("BOOT_IMAGE={COMMAND_LINE}"));
    let tag = [&0x8F3B_22EDu32.to_le_bytes()[..], &[26, 0, 0, 0], b"LOADED_IMAGE::LoadOptions\0"].concat();
    let boot = interpret(&good().measured(9, EventType::EVENT_TAG, &options, &tag));
    let sources: Vec<_> = boot.command_lines().iter().map(|line| (line.source, line.line.is_some())).collect();
    assert_eq!(sources, [(LineSource::Grub, true), (LineSource::LoadOptions, true)]);
    // The kernel got other options than grub says.
    let boot = interpret(&good().measured(9, EventType::EVENT_TAG, b"other options", &tag));
    assert!(boot.command_lines()[1].line.is_none());
    let digest = sha256(&[b"other options"]);
    assert!(words(&boot).contains(&format!("the kernel's EFI stub measured a command line with the digest {digest}")));
}

#[test]
fn a_log_with_an_entry_too_much_is_told_by_that_entry() {
    let log = |log: &Log| EventLog::parse(&log.bytes()).unwrap();
    let quoted = good().quoted(Bank::Sha256);
    let at = good().position(|record| record.data.starts_with(b"grub_cmd: linux "));
    // Event 0 is the header.
    let number = at + 1;
    let mut more = good();
    let mut extra = more.records[at].clone();
    extra.change(|bytes| bytes.push(b'x'));
    more.records.insert(at, extra);
    assert_eq!(slip(&log(&more), &quoted, 8), Some(Slip::Without { event: number }));
    let mut swapped = good();
    let next = good().position(|record| record.data.starts_with(b"kernel_cmdline: "));
    swapped.records.swap(at, next);
    assert_eq!(slip(&log(&swapped), &quoted, 8), Some(Slip::Swapped { event: number }));
    let longer = good().grub("grub_cmd: ", "boot").grub("grub_cmd: ", "more");
    let last = good().position(|record| record.data.starts_with(b"grub_cmd: initrd "));
    assert_eq!(slip(&log(&longer), &quoted, 8), Some(Slip::EndsAt { event: last + 1 }));
    let untouched = Log::new().quoted(Bank::Sha256);
    assert_eq!(slip(&log(&good()), &untouched, 8), Some(Slip::Untouched));
    let elsewhere = good().grub("grub_cmd: ", "later").quoted(Bank::Sha256);
    assert_eq!(slip(&log(&good()), &elsewhere, 8), None);
}

/// A log of less than 1 MiB with thousands of files and of words that may name them.
#[test]
#[allow(clippy::disallowed_methods)]
fn files_and_the_words_that_may_name_them_are_not_compared_one_by_one() {
    let mut log = good();
    for number in 0..3_500 {
        log = log.measured(9, EventType::IPL, b"x", format!("/x{number}\0").as_bytes());
    }
    log = log.grub("grub_cmd: ", &format!("initrd {}", "a ".repeat(260 * 1024)));
    let boot = interpret(&log);
    let started = std::time::Instant::now();
    assert_eq!(boot.initrds().len(), 1);
    assert!(started.elapsed().as_secs() < 3, "{:?}", started.elapsed());
}
