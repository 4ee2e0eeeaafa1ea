//! Event logs: those of real machines replay to the registers that came with them, and each departure from a good one is seen.

mod shared;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use ratls::evidence::event_log::data::{Data, GrubRole};
use ratls::evidence::event_log::{Comparison, EventLog, EventLogError, EventType, Irregularity, MAX_LOG, Replay};
use ratls::evidence::tpm::Bank;
use shared::logs::{self, GLOBAL, IMAGE_SECURITY, Log, good, variable};

/// Every log in the evidence folder, by name, with the registers that it must replay to.
fn real(test: &str) -> Vec<(PathBuf, BTreeMap<u8, String>)> {
    let Some(folder) = shared::folder(test).map(|folder| folder.join("eventlog")) else { return Vec::new() };
    let wanted: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("expected-pcrs.json")).unwrap()).unwrap();
    let logs = wanted.as_object().unwrap().iter().map(|(name, banks)| {
        let pcrs = banks["sha256"].as_object().into_iter().flatten();
        let pcrs = pcrs.map(|(pcr, value)| (pcr.parse().unwrap(), value.as_str().unwrap().to_owned()));
        (folder.join(name), pcrs.collect())
    });
    let logs: Vec<_> = logs.collect();
    assert!(logs.len() >= 8, "the evidence folder lost event logs: {} left", logs.len());
    logs
}

fn parse(path: &PathBuf) -> Result<EventLog, EventLogError> {
    EventLog::parse(&std::fs::read(path).unwrap())
}

#[test]
fn real_logs_replay_to_the_registers_that_came_with_them() {
    for (path, wanted) in real("real_logs_replay_to_the_registers_that_came_with_them") {
        if wanted.is_empty() {
            assert_eq!(parse(&path), Err(EventLogError::Sha1), "{}", path.display());
            continue;
        }
        let replay = Replay::of(&parse(&path).unwrap(), Bank::Sha256).unwrap();
        for pcr in 0..24 {
            let seen = replay.mentions(pcr).then(|| replay.value(pcr).unwrap().to_string());
            assert_eq!(seen.as_ref(), wanted.get(&pcr), "{}, PCR {pcr}", path.display());
        }
    }
}

/// tpm2-tools replays the same logs: all three banks' registers stand at the end of what it prints. Versions up to 5.7 extend
/// EV_NO_ACTION events into PCR 0, against the profile; there they have no second opinion on PCR 0.
#[test]
fn tpm2_eventlog_replays_to_the_same_registers_in_both_banks() {
    for (path, wanted) in real("tpm2_eventlog_replays_to_the_same_registers_in_both_banks") {
        if wanted.is_empty() {
            continue;
        }
        let log = parse(&path).unwrap();
        let output = Command::new("tpm2_eventlog").arg(&path).output().expect("tpm2_eventlog of Debian's tpm2-tools");
        assert!(output.status.success(), "{}", path.display());
        let text = String::from_utf8_lossy(&output.stdout);
        let (events, pcrs) = text.split_once("\npcrs:\n").unwrap();
        assert_eq!(events.matches("- EventNum:").count(), log.events().len() + 1, "{}", path.display());
        let no_action = log.events().iter().any(|event| !event.extends());
        let (mut bank, mut compared) = (None, 0);
        for line in pcrs.lines() {
            match line.trim().split_once(':').unwrap() {
                ("sha256", "") => bank = Some(Bank::Sha256),
                ("sha384", "") => bank = Some(Bank::Sha384),
                (_, "") => bank = None,
                (pcr, _) if pcr.trim() == "0" && no_action => {}
                (pcr, value) => {
                    let Some(bank) = bank else { continue };
                    let replay = Replay::of(&log, bank).unwrap();
                    let seen = replay.value(pcr.trim().parse().unwrap()).unwrap().to_string();
                    assert_eq!(value.trim(), format!("0x{seen}"), "{}, {bank}:{pcr}", path.display());
                    compared += 1;
                }
            }
        }
        assert!(compared >= 20, "{}: {compared}", path.display());
    }
}

#[test]
fn real_logs_have_nothing_odd_and_their_data_is_bound_where_the_profile_says_so() {
    for (path, wanted) in real("real_logs_have_nothing_odd_and_their_data_is_bound_where_the_profile_says_so") {
        if wanted.is_empty() {
            continue;
        }
        let log = parse(&path).unwrap();
        assert_eq!(log.anomalies(), [], "{}", path.display());
        for event in log.events().iter().filter(|event| event.extends()) {
            let reading = event.read();
            let bound = reading.bound().is_some();
            let should = match event.kind() {
                EventType::IPL => event.pcr() == 8,
                EventType::PLATFORM_CONFIG_FLAGS
                | EventType::VARIABLE_BOOT
                | EventType::BOOT_SERVICES_APPLICATION
                | EventType::EVENT_TAG => false,
                _ => true,
            };
            assert_eq!(bound, should, "{}: {event:?}: {reading:?}", path.display());
            if should {
                continue;
            }
            // Old versions of shim write no device path that is one.
            let unread =
                [EventType::PLATFORM_CONFIG_FLAGS, EventType::BOOT_SERVICES_APPLICATION].contains(&event.kind());
            assert!(unread || reading.claimed().is_some(), "{}: {event:?}", path.display());
        }
    }
}

#[test]
fn a_log_that_was_cut_off_is_refused() {
    let Some(folder) = shared::folder("a_log_that_was_cut_off_is_refused") else { return };
    let mut cut = std::fs::read(folder.join("refuse/eventlog-truncated.bin")).unwrap();
    // Its first record is of a register that does not exist, too.
    assert_eq!(EventLog::parse(&cut), Err(EventLogError::Header));
    cut[..4].fill(0);
    assert!(matches!(EventLog::parse(&cut), Err(EventLogError::Truncated(_))));
}

#[test]
fn a_good_log_is_read_and_every_shorter_one_is_refused_or_ends_between_events() {
    let log = good().bytes();
    let parsed = EventLog::parse(&log).unwrap();
    assert_eq!(parsed.events().len(), good().records.len());
    assert_eq!(parsed.anomalies(), []);
    let mut whole = 0;
    for end in 0..log.len() {
        match EventLog::parse(&log[..end]) {
            Ok(_) => whole += 1,
            Err(error) => assert!(matches!(error, EventLogError::Truncated(_)), "{end}: {error}"),
        }
    }
    assert_eq!(whole, good().records.len(), "between any two events, and after the header");
}

#[test]
fn the_header_is_what_the_profile_says_or_the_log_is_refused() {
    let refusal = |bytes: &[u8]| EventLog::parse(bytes).unwrap_err();
    assert_eq!(refusal(&logs::header(&[(4, 20)])), EventLogError::Sha1);
    assert_eq!(refusal(&logs::header(&[(11, 32), (11, 32)])), EventLogError::AlgorithmTwice(11));
    assert_eq!(refusal(&logs::header(&[(11, 20)])), EventLogError::DigestSize { algorithm: 11, seen: 20 });
    assert!(matches!(refusal(&logs::header(&[])), EventLogError::HeaderField { .. }));
    let many: Vec<_> = (0x20..0x31).map(|id| (id, 32)).collect();
    assert!(matches!(refusal(&logs::header(&many)), EventLogError::HeaderField { .. }));
    let mut old = logs::header(&[(11, 32)]);
    old[32 + 14] = b'2';
    assert_eq!(refusal(&old), EventLogError::Sha1, "Spec ID Event02 is of TCG 1.2");
    old[32] = b'X';
    assert_eq!(refusal(&old), EventLogError::Header);
    let mut of_tdx = logs::header(&[(12, 48)]);
    of_tdx[0] = 1;
    assert_eq!(refusal(&of_tdx), EventLogError::ConfidentialComputing, "a header in measurement register 1");
}

#[test]
fn each_event_has_exactly_the_digests_that_the_header_declares() {
    let log = logs::header(&[(4, 20), (11, 32), (12, 48)]);
    let event = good().records[0].bytes();
    assert!(EventLog::parse(&[&log[..], &event].concat()).is_ok());
    let changed = |at: usize, byte: u8| {
        let mut event = event.clone();
        event[at] = byte;
        EventLog::parse(&[&log[..], &event].concat()).unwrap_err()
    };
    assert_eq!(changed(8, 2), EventLogError::DigestCount { event: 1, seen: 2, wanted: 3 });
    assert_eq!(changed(12, 5), EventLogError::Digest { event: 1, algorithm: 5 });
    // The second digest says that it is SHA-1 too.
    assert_eq!(changed(12 + 22, 4), EventLogError::Digest { event: 1, algorithm: 4 });
    assert_eq!(changed(0, 24), EventLogError::Pcr { event: 1, seen: 24 });
}

#[test]
fn padding_ends_a_log_only_where_nothing_else_follows() {
    let log = good().bytes();
    assert_eq!(EventLog::parse(&[&log[..], &[0xFF; 512]].concat()), EventLog::parse(&log));
    let hidden = [&log[..], &[0xFF; 512], &[0]].concat();
    assert_eq!(EventLog::parse(&hidden), Err(EventLogError::Padding { offset: log.len() }));
}

#[test]
fn a_log_at_the_limit_is_read_and_one_above_is_not() {
    let mut log = logs::header(&[(11, 32)]);
    log.resize(MAX_LOG, 0xFF);
    assert!(EventLog::parse(&log).is_ok());
    log.push(0xFF);
    assert_eq!(EventLog::parse(&log), Err(EventLogError::TooLong { seen: MAX_LOG + 1 }));

    let event = [&[0; 4][..], &[3, 0, 0, 0], &[1, 0, 0, 0], &[11, 0], &[0; 32], &[0; 4]].concat();
    let many = |count| [logs::header(&[(11, 32)]), event.repeat(count)].concat();
    assert_eq!(EventLog::parse(&many(8_192)).unwrap().events().len(), 8_192);
    assert_eq!(EventLog::parse(&many(8_193)), Err(EventLogError::TooManyEvents));
}

/// What [`EventLog::anomalies`] says of a log that differs from a good one.
fn odd(log: &Log) -> Vec<(u8, Irregularity)> {
    EventLog::parse(&log.bytes()).unwrap().anomalies().iter().map(|a| (a.pcr(), a.what())).collect()
}

/// The good log with one record changed, added (before the place) or taken out.
fn with(change: impl Fn(&mut Log)) -> Log {
    let mut log = good();
    change(&mut log);
    log
}

#[test]
fn plat_n39_a_register_whose_events_were_left_out_is_not_equal_to_its_quote() {
    let quoted = good().quoted(Bank::Sha256);
    let compare = |log: &Log, pcr| {
        Replay::of(&EventLog::parse(&log.bytes()).unwrap(), Bank::Sha256).unwrap().compare(pcr, &quoted)
    };
    for pcr in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14] {
        assert_eq!(compare(&good(), pcr), Comparison::Equal, "PCR {pcr}");
        let without = with(|log| log.records.retain(|record| record.pcr != u32::from(pcr)));
        assert!(matches!(compare(&without, pcr), Comparison::Different { .. }), "PCR {pcr}");
    }
    for pcr in [10, 11, 12, 13, 15, 16, 17, 22, 23] {
        assert_eq!(compare(&good(), pcr), Comparison::Untouched, "PCR {pcr}");
    }
    // One event less at the end of a register.
    let cut = with(|log| drop(log.records.pop()));
    assert!(matches!(compare(&cut, 5), Comparison::Different { .. }));
    let other_bank = Replay::of(&EventLog::parse(&good().bytes()).unwrap(), Bank::Sha384).unwrap();
    assert_eq!(other_bank.compare(0, &quoted), Comparison::NotQuoted);
    assert_eq!(other_bank.compare(0, &good().quoted(Bank::Sha384)), Comparison::Equal);
}

#[test]
fn plat_n38_data_that_does_not_hash_to_its_digest_is_only_a_claim() {
    let read = |log: &Log, at: usize| {
        let log = EventLog::parse(&log.bytes()).unwrap();
        let event = log.events()[at].clone();
        (event.read().bound().is_some(), event.read().claimed().is_some())
    };
    let grub = good().position(|r| r.data.starts_with(b"kernel_cmdline: "));
    let secure_boot = good().position(|r| r.pcr == 7);
    for at in [0, 1, secure_boot, grub] {
        assert_eq!(read(&good(), at), (true, true), "record {at}");
        // The data is exchanged, the digest stays: the registers replay as before.
        let data = good().records[at].data.clone();
        let changed = with(|log| log.records[at].data[data.len() - 3] ^= 1);
        assert_eq!(changed.quoted(Bank::Sha256), good().quoted(Bank::Sha256));
        assert!(!read(&changed, at).0, "record {at}");
    }
    // The type is exchanged: the same bytes are no variable, and so not read as one.
    let relabelled = with(|log| log.records[0].kind = EventType::VARIABLE_DRIVER_CONFIG);
    assert_eq!(read(&relabelled, 0), (false, false));
    // The prefix of grub is covered by nothing, and so the text stays bound under another name.
    let relabelled = with(|log| log.records[grub].data.splice(.."kernel_cmdline".len(), *b"grub_cmd").for_each(drop));
    let log = EventLog::parse(&relabelled.bytes()).unwrap();
    let reading = log.events()[grub].read();
    assert!(matches!(reading.bound(), Some(Data::Grub(text)) if text.role == GrubRole::Command));
}

#[test]
fn plat_n40_a_second_separator_or_firmware_after_the_first_is_odd() {
    assert_eq!(odd(&good()), []);
    for pcr in 0..8 {
        assert_eq!(odd(&good().separator(pcr)), [(pcr as u8, Irregularity::SecondSeparator)]);
        let none = with(|log| log.records.retain(|r| r.pcr != pcr || r.kind != EventType::SEPARATOR));
        assert!(odd(&none).contains(&(pcr as u8, Irregularity::NoSeparator)), "PCR {pcr}");
        // A separator under another name is still one.
        let second = good().event(pcr, EventType::EFI_ACTION, &[0; 4]);
        assert_eq!(odd(&second)[0], (pcr as u8, Irregularity::SecondSeparator), "PCR {pcr}");
    }
    let separator = good().position(|r| r.pcr == 2);
    let only_called = with(|log| log.records[separator].measured = b"an option ROM".to_vec());
    assert_eq!(odd(&only_called), [(2, Irregularity::FalseSeparator)]);
    let error =
        with(|log| log.records[separator] = Log::new().event(2, EventType::SEPARATOR, &[1, 0, 0, 0]).records.remove(0));
    assert_eq!(odd(&error), [(2, Irregularity::ErrorSeparator(1))]);
    assert_eq!(odd(&good().event(0, EventType::POST_CODE, b"more")), [(0, Irregularity::AfterSeparator)]);
    assert_eq!(odd(&good().event(3, EventType::S_CRTM_VERSION, b"x")), [(3, Irregularity::FirmwareElsewhere)]);
    assert_eq!(odd(&good().event(5, EventType(0x1234), b"x")), [(5, Irregularity::UnknownType(0x1234))]);
    assert_eq!(odd(&good().event(9, EventType(0x1234), b"x")), []);
}

#[test]
fn plat_n40_secure_boot_is_configured_before_the_separator_and_used_after_it() {
    let configure = |name: &str, data: &[u8]| variable(GLOBAL, name, data);
    let late = good().event(7, EventType::VARIABLE_DRIVER_CONFIG, &configure("PK", b"another"));
    assert_eq!(odd(&late), [(7, Irregularity::ConfigurationAfterSeparator)]);
    let authority = variable(IMAGE_SECURITY, "db", b"a certificate");
    let early = with(|log| {
        log.records.splice(2..2, Log::new().event(7, EventType::VARIABLE_AUTHORITY, &authority).records).for_each(drop);
    });
    assert_eq!(odd(&early), [(7, Irregularity::AuthorityBeforeSeparator)]);
    let state = |data: &[u8]| {
        let record = Log::new().event(7, EventType::VARIABLE_DRIVER_CONFIG, &configure("SecureBoot", data));
        with(|log| log.records[2] = record.records[0].clone())
    };
    assert_eq!(odd(&state(&[1])), []);
    assert_eq!(odd(&state(&[0])), []);
    // A variable that does not exist.
    assert_eq!(odd(&state(&[])), []);
    for data in [&[2][..], &[1, 0]] {
        assert_eq!(odd(&state(data)), [(7, Irregularity::SecureBootValue)], "{data:?}");
    }
    let unmeasured = with(|log| drop(log.records.remove(2)));
    assert_eq!(odd(&unmeasured), [(7, Irregularity::NoSecureBootVariable)]);
    let twice = with(|log| log.records.insert(3, log.records[2].clone()));
    assert_eq!(odd(&twice), [(7, Irregularity::SecondSecureBootVariable)]);
    let unvouched = with(|log| log.records.retain(|r| r.kind != EventType::VARIABLE_AUTHORITY));
    assert_eq!(odd(&unvouched), [(7, Irregularity::NoAuthority)]);
    let debug = with(|log| {
        log.records.splice(2..2, Log::new().event(7, EventType::EFI_ACTION, b"UEFI Debug Mode").records).for_each(drop);
    });
    assert_eq!(odd(&debug), [(7, Irregularity::DebugMode)]);
    assert_eq!(odd(&good().event(7, EventType::IPL, b"x")), [(7, Irregularity::NotOfSecureBoot)]);
    // A kernel that QEMU hands to OVMF is started before the boot options, and alone.
    let direct = with(|log| {
        let at = log.position(|r| r.data.starts_with(b"Calling"));
        log.records.retain(|r| r.measured != b"the hash of grub");
        let kernel = log.position(|r| r.kind == EventType::BOOT_SERVICES_APPLICATION);
        let kernel = log.records.remove(kernel);
        log.records.insert(at, kernel);
    });
    assert_eq!(odd(&direct), []);
    // A unified image, or a shim, that QEMU hands over starts another behind the call; two in front are none.
    let nested = with(|log| {
        let at = log.position(|r| r.data.starts_with(b"Calling"));
        let first = log.position(|r| r.kind == EventType::BOOT_SERVICES_APPLICATION);
        let image = log.records.remove(first);
        log.records.insert(at, image);
    });
    assert_eq!(odd(&nested), []);
    let two = with(|log| {
        let at = log.position(|r| r.data.starts_with(b"Calling"));
        let call = log.records.remove(at);
        let last = log.records.iter().rposition(|r| r.kind == EventType::BOOT_SERVICES_APPLICATION).unwrap();
        log.records.insert(last + 1, call);
    });
    assert_eq!(odd(&two), [(4, Irregularity::ApplicationBeforeCall), (4, Irregularity::ApplicationBeforeCall)]);
    let uncalled = with(|log| log.records.retain(|r| !r.data.starts_with(b"Calling")));
    assert_eq!(odd(&uncalled), [(4, Irregularity::ApplicationBeforeCall), (4, Irregularity::ApplicationBeforeCall)]);
}

#[test]
fn plat_n42_a_startup_locality_counts_only_once_first_and_if_it_exists() {
    let claim = |locality: &[u8]| {
        Log::new().event(0, EventType::NO_ACTION, &[b"StartupLocality\0", locality].concat()).records.remove(0)
    };
    let pcr0 = |log: &Log| {
        Replay::of(&EventLog::parse(&log.bytes()).unwrap(), Bank::Sha256).unwrap().value(0).unwrap().to_owned()
    };
    let plain = pcr0(&good());
    for locality in [3, 4] {
        let log = with(|log| log.records.insert(0, claim(&[locality])));
        assert_eq!(odd(&log), []);
        assert_ne!(pcr0(&log), plain);
    }
    let zero = with(|log| log.records.insert(0, claim(&[0])));
    assert_eq!((odd(&zero), pcr0(&zero)), (vec![], plain));

    let twice = with(|log| log.records.splice(0..0, [claim(&[3]), claim(&[3])]).for_each(drop));
    let late = with(|log| log.records.insert(1, claim(&[3])));
    let unknown = with(|log| log.records.insert(0, claim(&[5])));
    let long = with(|log| log.records.insert(0, claim(&[3, 0])));
    for log in [twice, late, unknown, long] {
        assert_eq!(odd(&log), [(0, Irregularity::Locality)]);
        assert_eq!(pcr0(&log), plain, "an odd claim changes no register");
    }
}
