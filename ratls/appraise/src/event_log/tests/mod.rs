//! Each rule of `[event_log]`: a boot that it accepts, and one mutation that it refuses, with the right reason. The logs are made by
//! hand: SIMULATED, PROVE NOTHING.

use super::*;
use crate::levels::Provenance;
use crate::policy::AppraisalPolicy;
use findings::{Finding, Severity};
use formats::crypto::sha256;
use formats::evidence::event_log::EventType;
use formats::evidence::tpm::Bank;
use verify::Channel;

mod boot;
mod hostile;
mod in_hand;
#[path = "../../../../tests/shared/logs.rs"]
#[allow(dead_code, unreachable_pub)]
mod logs;
mod pins;
mod texts;
mod userspace;
use logs::{COMMAND_LINE, Log, good, utf16};

const BASE: &str = r#"version = 1
profiles = ["snp"]
identity = "any"

[snp]
measurements = ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]
signing_keys = ["vcek"]

[snp.minimum_tcb.milan]
bl = 4
tee = 0
snp = 24
ucode = 219

[event_log]
"#;

fn hex(content: &str) -> String {
    sha256(&[content.as_bytes()]).to_string()
}

/// Every rule that a boot through grub can have, each as it is true of [`good`].
fn full() -> Vec<(&'static str, String)> {
    let digest = |content: &str| format!("{:?}", hex(content));
    let keys = [("PK", "a platform key"), ("KEK", "a key exchange key"), ("db", "a certificate"), ("dbx", "")];
    let keys: Vec<_> = keys.iter().map(|(name, content)| format!("{name} = {}", digest(content))).collect();
    vec![
        ("technology", "\"sev-snp\"".to_owned()),
        ("secure_boot", "\"required\"".to_owned()),
        ("secure_boot_keys", format!("{{ {} }}", keys.join(", "))),
        ("authorities", digest("a certificate")),
        ("boot_programs", format!("[{}, {}]", digest("the hash of shim"), digest("the hash of grub"))),
        ("kernel", digest("the kernel")),
        ("initrd", digest("the initrd")),
        ("files", format!("[{}]", digest("the text of grub.cfg"))),
        ("mok", digest("the MOK list")),
        ("grub_commands", "[\"set timeout=${seconds}\", \"initrd /initrd.img-${version}\"]".to_owned()),
        (
            "kernel_command_line",
            "\"/vmlinuz-${version} root=PARTUUID=8270f3c9-b4e4-4345-80ee-5a62db7ebf3f ro console=ttyS0\"".to_owned(),
        ),
        ("variables", "{ version = [\"6.8.0-45\", \"6.8.0-47\"] }".to_owned()),
    ]
}

/// The policy with these rules, where `change` puts another value or, with an empty one, leaves the key out.
fn policy(rules: &[(&str, String)], change: &[(&str, &str)]) -> AppraisalPolicy {
    let mut text = BASE.to_owned();
    for (key, value) in rules {
        let value = change.iter().find(|(changed, _)| changed == key).map_or(value.as_str(), |(_, value)| value);
        if !value.is_empty() {
            text.push_str(&format!("{key} = {value}\n"));
        }
    }
    for (key, value) in change.iter().filter(|(key, _)| !rules.iter().any(|(known, _)| known == key)) {
        text.push_str(&format!("{key} = {value}\n"));
    }
    AppraisalPolicy::parse(&text, "test.toml").unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn judged(policy: &AppraisalPolicy, records: Option<Records<'_>>) -> (Vec<Finding>, Vec<Covered>) {
    let mut judge = Judge::new(true, policy.only(), Channel::Exporter);
    let covered = appraise(&mut judge, policy.only().unwrap().event_log(), NOTHING, records);
    (judge.into_findings(), covered)
}

/// A log as its guest quotes it.
fn booted(policy: &AppraisalPolicy, log: &Log) -> (Vec<Finding>, Vec<Covered>) {
    quoted(policy, log, &log.quoted(Bank::Sha256))
}

fn quoted(policy: &AppraisalPolicy, log: &Log, pcrs: &PcrValues) -> (Vec<Finding>, Vec<Covered>) {
    let log = ReadLog::parse(&log.bytes()).unwrap();
    judged(policy, Some(Records { quoted: pcrs, log: Some(&log), ima: None }))
}

/// Ids of what refuses, each once.
fn refused(findings: &[Finding]) -> Vec<&'static str> {
    let mut ids: Vec<_> = findings.iter().filter(|f| f.severity() == Severity::Fatal).map(Finding::id).collect();
    ids.dedup();
    ids
}

fn rows(covered: &[Covered]) -> Vec<(Component, Cover, Matched)> {
    covered.iter().map(|row| (row.component, row.cover, row.matched.clone())).collect()
}

const NOTHING: Held<'static> = Held { files: None, images: &[], rebuilds: &[] };
const OWN: Matched = Matched::Digest(Provenance::Own);

/// A policy that accepts the good log in full, but for the partition table, which it does not have.
fn accepting() -> AppraisalPolicy {
    policy(&full(), &[])
}

#[test]
fn a_command_line_by_its_digest_is_accepted_and_not_taken_for_known() {
    let listed = hex(COMMAND_LINE);
    let by_digest = |digest: &str| {
        let digests = format!("[{digest:?}]");
        policy(
            &full(),
            &[
                ("kernel_command_line", ""),
                ("variables", "{ version = [\"6.8.0-45\"] }"),
                ("kernel_command_line_digests", &digests),
            ],
        )
    };
    let accepted = by_digest(&listed);
    let (findings, covered) = booted(&accepted, &good());
    assert_eq!(refused(&findings), Vec::<&str>::new(), "{findings:#?}");
    // grub's log has the text.
    assert_eq!(rows(&covered)[1], (Component::Kernel, Cover::Full, OWN));
    let (findings, _) = booted(&by_digest(&hex("another line")), &good());
    assert_eq!(refused(&findings), ["L_COMMAND_LINE", "L_EVENT"]);
}

#[test]
fn digests_that_were_learned_say_so() {
    let learned = policy(&full(), &[("from", "\"learned\"")]);
    let (_, covered) = booted(&learned, &good());
    assert_eq!(rows(&covered)[1].2, Matched::Digest(Provenance::Learned));
}

#[test]
fn a_boot_that_every_rule_names_is_covered_in_full() {
    let (findings, covered) = booted(&accepting(), &good());
    assert_eq!(refused(&findings), Vec::<&str>::new(), "{findings:#?}");
    assert_eq!(findings, [], "nothing is left open");
    let wanted = [
        (Component::Boot, Cover::Full, OWN),
        (Component::Kernel, Cover::Full, OWN),
        (Component::Userspace, Cover::None, Matched::Nothing),
    ];
    assert_eq!(rows(&covered), wanted);
    let line = Named { what: "kernel command line", value: COMMAND_LINE.to_owned() };
    assert_eq!(covered[1].says, [line]);
}

#[test]
fn without_rules_registers_are_confirmed_and_compared_with_nothing() {
    let (log, pcrs) = (ReadLog::parse(&good().bytes()).unwrap(), good().quoted(Bank::Sha256));
    let mut judge = Judge::new(false, None, Channel::Exporter);
    let covered = appraise(&mut judge, None, NOTHING, Some(Records { quoted: &pcrs, log: Some(&log), ima: None }));
    assert_eq!(judge.into_findings(), []);
    let wanted = [
        (Component::Boot, Cover::Full, Matched::Nothing),
        (Component::Kernel, Cover::Full, Matched::Nothing),
        (Component::Userspace, Cover::None, Matched::Nothing),
    ];
    assert_eq!(rows(&covered), wanted);
    assert!(appraise(&mut Judge::new(false, None, Channel::Exporter), None, NOTHING, None).is_empty());
}

#[test]
fn a_rule_that_is_left_out_leaves_its_register_open_or_refuses_what_others_do_not_name() {
    // Left out alone, the register has no rule, and its component is covered in part.
    for key in ["mok", "boot_programs"] {
        let (findings, covered) = booted(&policy(&full(), &[(key, "")]), &good());
        assert_eq!(refused(&findings), Vec::<&str>::new(), "{key}");
        assert!(findings.iter().any(|finding| finding.id() == "L_OPEN"), "{key}");
        assert_eq!(covered[0].cover, Cover::Partial, "{key}");
    }
    // Left out beside other rules about the same register, what it named is unexpected.
    for key in ["files", "initrd", "grub_commands", "authorities"] {
        let change: &[_] =
            &[(key, ""), ("variables", if key == "grub_commands" { "{ version = \"6.8.0-45\" }" } else { "" })];
        let (findings, _) = booted(&policy(&full(), change), &good());
        assert_eq!(refused(&findings), ["L_EVENT"], "{key}");
    }
}

#[test]
fn plat_n37_what_is_left_open_or_ignored_is_shown_and_covered_in_part_only() {
    for (change, notes) in [
        (("files", "\"any\""), "1 events of PCR 9 are compared with nothing"),
        (("grub_commands", "\"any\""), "2 events of PCR 8 are compared with nothing"),
        (("ignore_registers", "[4]"), "PCR 4 is ignored"),
    ] {
        let (findings, covered) = booted(&policy(&full(), &[change]), &good());
        assert_eq!(refused(&findings), Vec::<&str>::new(), "{change:?}");
        assert!(findings.iter().any(|f| ["L_OPEN", "L_IGNORED"].contains(&f.id())), "{change:?}");
        for row in &covered[..2] {
            assert_eq!((row.cover, row.matched == OWN), (Cover::Partial, false), "{change:?}: {row:?}");
            assert_eq!(row.notes, [notes], "{change:?}");
        }
    }
    // Ignored is ignored: a change there is not seen, and not claimed to be.
    let mut log = good();
    log.records.iter_mut().filter(|r| r.measured == b"the hash of shim").for_each(|r| r.measured = b"x".to_vec());
    assert_eq!(refused(&booted(&policy(&full(), &[("ignore_registers", "[4]")]), &log).0), Vec::<&str>::new());
    assert_eq!(refused(&booted(&accepting(), &log).0), ["L_EVENT"]);
    // A register that the quote leaves out is not silently skipped.
    let pcrs = good().pcrs(Bank::Sha256);
    let some = pcrs.iter().filter(|(pcr, _)| **pcr != 9).map(|(pcr, value)| (*pcr, value.as_bytes()));
    let some = PcrValues::new(Bank::Sha256, some).unwrap();
    let (findings, covered) = quoted(&accepting(), &good(), &some);
    assert_eq!(refused(&findings), ["L_REPLAY"]);
    assert!(covered[1].notes.contains(&"PCR 9 is not quoted".to_owned()));
}

#[test]
fn plat_n39_a_log_without_the_events_of_a_register_is_refused() {
    let pcrs = good().quoted(Bank::Sha256);
    for pcr in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14] {
        let mut log = good();
        log.records.retain(|record| record.pcr != pcr);
        let (findings, _) = quoted(&accepting(), &log, &pcrs);
        assert!(refused(&findings).contains(&"L_REPLAY"), "PCR {pcr}: {findings:?}");
    }
}

#[test]
fn plat_n40_an_odd_log_refuses_under_rules_and_holds_levels_down_without() {
    let log = good().separator(5);
    let (findings, covered) = booted(&accepting(), &log);
    assert_eq!(refused(&findings), ["L_ODD"]);
    assert_eq!(covered[0].cover, Cover::Partial);
    let (parsed, pcrs) = (ReadLog::parse(&log.bytes()).unwrap(), log.quoted(Bank::Sha256));
    let mut judge = Judge::new(false, None, Channel::Exporter);
    appraise(&mut judge, None, NOTHING, Some(Records { quoted: &pcrs, log: Some(&parsed), ima: None }));
    let findings: Vec<_> = judge.into_findings().iter().map(|f| (f.id(), f.severity())).collect();
    assert_eq!(findings, [("L_ODD", Severity::Cap)]);
}

#[test]
fn a_guest_without_quote_log_or_bank_does_not_pass_rules() {
    let (log, pcrs) = (ReadLog::parse(&good().bytes()).unwrap(), good().quoted(Bank::Sha256));
    let ids = |records| refused(&judged(&accepting(), records).0);
    assert_eq!(ids(None), ["L_ABSENT"]);
    assert_eq!(ids(Some(Records { quoted: &pcrs, log: None, ima: None })), ["L_ABSENT"]);
    assert_eq!(ids(Some(Records { quoted: &pcrs, log: Some(&log), ima: None })), Vec::<&str>::new());
    // Digests of the other bank are none of this one's.
    let findings = quoted(&accepting(), &good(), &good().quoted(Bank::Sha384)).0;
    assert!(refused(&findings).contains(&"L_EVENT"), "{findings:?}");
}
