//! Texts of grub and command lines: what hands on the accepted line, and what looks like it.

use super::*;

#[test]
fn plat_n38_a_command_shown_as_the_command_line_does_not_pass() {
    // grub runs the good line as a command, which fails, and boots another; the log swaps the prefixes, which nothing covers.
    let evil = "/vmlinuz-6.8.0-45 root=PARTUUID=8270f3c9-b4e4-4345-80ee-5a62db7ebf3f rw init=/bin/sh";
    let at = good().position(|record| record.data.starts_with(b"kernel_cmdline: "));
    let mut log = good();
    log.records
        .splice(at..=at, Log::new().grub("kernel_cmdline: ", COMMAND_LINE).grub("grub_cmd: ", evil).records)
        .for_each(drop);
    let (findings, _) = booted(&accepting(), &log);
    assert_eq!(refused(&findings), ["L_EVENT"]);
    // And with the rest of grub's commands left open, nothing above partial is claimed.
    let (findings, covered) = booted(&policy(&full(), &[("grub_commands", "\"any\"")]), &log);
    assert_eq!((refused(&findings), covered[1].cover), (vec![], Cover::Partial));
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    match bytes.windows(from.len()).position(|window| window == from) {
        Some(at) => [&bytes[..at], to, &replaced(&bytes[at + from.len()..], from, to)].concat(),
        None => bytes.to_vec(),
    }
}

#[test]
fn another_command_line_kernel_or_file_is_refused_each_with_its_own_reason() {
    let changed = |from: &str, to: &str| {
        let mut log = good();
        for record in &mut log.records {
            record.change(|bytes| *bytes = replaced(bytes, from.as_bytes(), to.as_bytes()));
        }
        refused(&booted(&accepting(), &log).0)
    };
    assert_eq!(changed(" ro ", " ro rd.break "), ["L_COMMAND_LINE", "L_EVENT"]);
    assert_eq!(changed("6.8.0-45", "6.8.0-46"), ["L_COMMAND_LINE", "L_EVENT"], "a version that is not listed");
    assert_eq!(changed("6.8.0-45", "6.8.0-47"), Vec::<&str>::new(), "one that is");
    assert_eq!(changed(" ro ", " ro ro "), ["L_COMMAND_LINE", "L_EVENT"]);
    assert_eq!(changed("the kernel", "another kernel"), ["L_KERNEL", "L_EVENT"]);
    for content in ["the initrd", "the text of grub.cfg", "the hash of grub", "the hash of shim", "the MOK list"] {
        assert_eq!(changed(content, "another"), ["L_EVENT"], "{content}");
    }
    assert_eq!(changed("a platform key", "a Xlatform key"), ["L_KEYS", "L_EVENT"]);
    assert_eq!(changed("set timeout=0", "set timeout=0 x"), ["L_EVENT"]);
}
