//! Secure Boot, its keys and levels, and the technology that the firmware found.

use super::logs::{GLOBAL, IMAGE_SECURITY, variable};
use super::*;

#[test]
fn secure_boot_is_demanded_unless_the_policy_says_otherwise() {
    let mut log = good();
    let at = log.position(|record| record.pcr == 7);
    log.records[at].change(|bytes| *bytes.last_mut().unwrap() = 0);
    let minimal = policy(&[], &[("kernel_command_line", &format!("{COMMAND_LINE:?}")), ("grub_commands", "\"any\"")]);
    assert_eq!(refused(&booted(&minimal, &good()).0), Vec::<&str>::new());
    assert_eq!(refused(&booted(&minimal, &log).0), ["L_SECURE_BOOT"]);
    let open = policy(&full(), &[("secure_boot", "\"not required\"")]);
    assert_eq!(refused(&booted(&open, &log).0), Vec::<&str>::new());
}

#[test]
fn the_technology_that_the_firmware_found_must_be_the_policy_s() {
    for technology in [0, 1, 3] {
        let mut log = good();
        log.records[1].change(|bytes| bytes[16] = technology);
        assert_eq!(refused(&booted(&accepting(), &log).0), ["L_TECHNOLOGY"], "{technology}");
    }
}

#[test]
fn revoked_boot_programs_are_kept_out_by_the_least_sbat_level() {
    let level = |text: &str| {
        let vendor = *b"\x50\xab\x5d\x60\x46\xe0\x00\x43\xab\xb6\x3d\xd8\x10\xdd\x8b\x23";
        good().event(7, EventType::VARIABLE_AUTHORITY, &variable(vendor, "SbatLevel", text.as_bytes()))
    };
    let policy = policy(&full(), &[("sbat", "{ date = 2023012900, shim = 2, grub = 3 }")]);
    for (text, wanted) in [
        ("sbat,1,2023012900\nshim,2\ngrub,3\n", vec![]),
        ("sbat,1,2024010900\nshim,4\ngrub,4\ngrub.debian,4\n", vec![]),
        ("sbat,1,2022052400\nshim,2\ngrub,3\n", vec!["L_SBAT"]),
        ("sbat,1,2023012900\nshim,1\ngrub,3\n", vec!["L_SBAT"]),
        ("sbat,1,2023012900\nshim,2\n", vec!["L_SBAT"]),
        ("sbat,1,later", vec!["L_SBAT"]),
    ] {
        assert_eq!(refused(&booted(&policy, &level(text)).0), wanted, "{text:?}");
    }
    assert_eq!(refused(&booted(&policy, &good()).0), ["L_SBAT"]);
}

#[test]
fn authorities_and_keys_are_names_for_content_and_not_for_whoever_uses_the_name() {
    let mut log = good();
    let at = log.position(|record| record.kind == EventType::VARIABLE_AUTHORITY);
    let other = variable(IMAGE_SECURITY, "db", b"another certificate");
    log.records[at].change(|bytes| bytes.clone_from(&other));
    assert_eq!(refused(&booted(&accepting(), &log).0), ["L_EVENT"]);
    // A second variable of the same name.
    let mut log = good();
    let key = Log::new().event(7, EventType::VARIABLE_DRIVER_CONFIG, &variable(GLOBAL, "PK", b"a platform key"));
    log.records.splice(3..3, key.records).for_each(drop);
    assert_eq!(refused(&booted(&accepting(), &log).0), ["L_KEYS"]);
}
