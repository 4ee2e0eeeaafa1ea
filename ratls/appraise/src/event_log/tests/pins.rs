//! The other side of the account.

use super::*;

/// The other side of the account: whatever the rules that name everything say, the pins say.
#[test]
fn pins_name_every_event_of_a_good_boot_and_tell_what_no_rule_can_name() {
    let read = |log: &Log| Pins::read(&EventLog::parse(&log.bytes()).unwrap(), &log.quoted(Bank::Sha256)).unwrap();
    let pins = read(&good());
    assert_eq!(pins.unruly, []);
    assert_eq!(pins.lines, [COMMAND_LINE]);
    assert_eq!(pins.grub_commands, ["set timeout=0", "initrd /initrd.img-6.8.0-45"]);
    assert_eq!((pins.boot_programs.len(), pins.files.len(), pins.initrd.len(), pins.mok.len()), (2, 1, 1, 1));
    assert_eq!(pins.secure_boot_keys.len(), 4);
    let odd =
        good().event(6, EventType::COMPACT_HASH, b"something of a vendor's").measured(12, EventType::IPL, b"x", b"y");
    let unruly: Vec<u8> = read(&odd).unruly.iter().map(|(pcr, _)| *pcr).collect();
    assert_eq!(unruly, [6, 12]);
    let log = EventLog::parse(&good().bytes()).unwrap();
    let elsewhere = good().event(4, EventType::EFI_ACTION, b"x").quoted(Bank::Sha256);
    assert_eq!(
        Pins::read(&log, &elsewhere).unwrap().unruly,
        [(4, "the event log does not explain its value".to_owned())]
    );
}
