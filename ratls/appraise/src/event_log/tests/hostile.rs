//! Logs of at most 1 MiB that are made to cost whoever reads them as much as they can: what is hashed and what is kept stays in proportion
//! to the log.

use std::sync::Arc;

use super::*;
use formats::evidence::event_log::data::TAG_LOAD_OPTIONS;
use formats::evidence::event_log::{Irregularity, MAX_LOG};
use formats::evidence::tpm::hashed;
use measure::measured_boot::{MAX_CMDLINE_BYTES, MAX_LINES};

/// How often each byte of a log may be hashed: to read it, to interpret it, and for each way in which a text may have been measured.
const TIMES: usize = 40;

/// With the digest that the kernel's EFI stub measures of a command line, so many times.
pub(super) fn and_by_the_stub(mut log: Log, text: &str, times: usize) -> Log {
    let tag = [&TAG_LOAD_OPTIONS.to_le_bytes()[..], &[2, 0, 0, 0], b"x\0"].concat();
    let text = utf16(text);
    for _ in 0..times {
        log = log.measured(9, EventType::EVENT_TAG, &text, &tag);
    }
    log
}

/// What is read and found, within the bytes that may be hashed.
fn within_bounds(policy: &AppraisalPolicy, log: &Log) -> (Boot, Vec<Finding>) {
    let (bytes, quoted) = (log.bytes(), log.quoted(Bank::Sha256));
    assert!(bytes.len() <= MAX_LOG, "{}", bytes.len());
    let work = || {
        let log = ReadLog::parse(&bytes).unwrap();
        let records = Records { quoted: &quoted, log: Some(&log), ima: None };
        let findings = judged(policy, Some(records)).0;
        (read(records).unwrap().1, findings)
    };
    let (read, hashed) = hashed::during(work);
    assert!(hashed <= TIMES * bytes.len(), "{hashed} bytes hashed for a log of {}", bytes.len());
    read
}

#[test]
fn a_line_that_is_too_long_is_not_read() {
    let text = "a ".repeat(450 * 1024);
    let (boot, findings) =
        within_bounds(&accepting(), &and_by_the_stub(good().grub("kernel_cmdline: ", &text), &text, 60));
    let read = boot.command_lines().iter().filter(|line| line.line.is_some()).count();
    assert_eq!((boot.command_lines().len(), read), (62, 1));
    assert_eq!(refused(&findings), ["L_COMMAND_LINE", "L_EVENT"]);
    let text = "a".repeat(MAX_CMDLINE_BYTES);
    let (boot, _) = within_bounds(
        &accepting(),
        &good().grub("kernel_cmdline: ", &text).grub("kernel_cmdline: ", &(text.clone() + "a")),
    );
    let read: Vec<bool> = boot.command_lines().iter().map(|line| line.line.is_some()).collect();
    assert_eq!(read, [true, true, false], "at the limit, and one above it");
}

#[test]
fn lines_with_one_text_share_it() {
    let text = "a ".repeat(30 * 1024);
    let log = and_by_the_stub(good().grub("kernel_cmdline: ", &text), &text, MAX_LINES - 2);
    let (boot, _) = within_bounds(&accepting(), &log);
    assert_eq!((boot.command_lines().len(), boot.anomalies()), (MAX_LINES, &[][..]));
    let of_grub = boot.command_lines()[1].line.as_ref().unwrap();
    assert!(boot.command_lines()[2..].iter().all(|line| Arc::ptr_eq(line.line.as_ref().unwrap(), of_grub)));
}

#[test]
fn of_more_lines_than_any_boot_measures_none_is_read() {
    let exact = policy(
        &full(),
        &[("kernel_command_line", &format!("{COMMAND_LINE:?}")), ("grub_commands", "\"any\""), ("variables", "")],
    );
    let log = and_by_the_stub(good(), COMMAND_LINE, MAX_LINES - 1);
    assert_eq!(refused(&within_bounds(&exact, &log).1), Vec::<&str>::new());
    let mut log = and_by_the_stub(good(), COMMAND_LINE, MAX_LINES);
    let (boot, findings) = within_bounds(&exact, &log);
    assert_eq!(refused(&findings), ["L_ODD", "L_COMMAND_LINE", "L_EVENT"]);
    assert_eq!(boot.anomalies().iter().map(|odd| odd.what()).collect::<Vec<_>>(), [Irregularity::ManyCommandLines]);
    assert!(boot.command_lines().iter().all(|line| line.line.is_none()));
    // As many and as long as fit.
    for _ in 0..8 {
        log = log.grub("kernel_cmdline: ", &"a ".repeat(30 * 1024));
    }
    let (boot, _) = within_bounds(&exact, &and_by_the_stub(log, "x", 3_500));
    assert!(boot.command_lines().iter().all(|line| line.line.is_none()));
    assert!(boot.sentences().len() < 100);
}

#[test]
fn commands_that_hand_on_a_line_are_compared_with_all_lines_at_once() {
    let exact = policy(
        &full(),
        &[("kernel_command_line", &format!("{COMMAND_LINE:?}")), ("grub_commands", "\"any\""), ("variables", "")],
    );
    let mut log = and_by_the_stub(good(), COMMAND_LINE, MAX_LINES - 1);
    for _ in 0..300 {
        log = log.grub("grub_cmd: ", &format!("linux {}", "a".repeat(3_000)));
    }
    let (boot, findings) = within_bounds(&exact, &log);
    assert_eq!(refused(&findings), Vec::<&str>::new());
    assert_eq!(boot.command_line().map(|line| line.text()), Some(COMMAND_LINE));
}
