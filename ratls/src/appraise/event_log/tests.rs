//! Each rule of `[event_log]`: a boot that it accepts, and one mutation that it refuses, with the right reason. The logs are made by
//! hand: SIMULATED, PROVE NOTHING.

use super::*;
use crate::appraise::finding::{Finding, Severity};
use crate::appraise::levels::Provenance;
use crate::crypto::sha256;
use crate::evidence::event_log::EventType;
use crate::evidence::tpm::Bank;
use crate::policy::AppraisalPolicy;
use crate::verify::Channel;

mod hostile;
#[path = "../../../tests/shared/logs.rs"]
#[allow(dead_code, unreachable_pub)]
mod logs;
use logs::{COMMAND_LINE, GLOBAL, IMAGE_SECURITY, Log, good, utf16, variable};

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
    let mut judge = Judge::new(Some(policy), Channel::Exporter);
    let covered = appraise(&mut judge, policy.event_log(), NOTHING, records);
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
    let mut judge = Judge::new(None, Channel::Exporter);
    let covered = appraise(&mut judge, None, NOTHING, Some(Records { quoted: &pcrs, log: Some(&log), ima: None }));
    assert_eq!(judge.into_findings(), []);
    let wanted = [
        (Component::Boot, Cover::Full, Matched::Nothing),
        (Component::Kernel, Cover::Full, Matched::Nothing),
        (Component::Userspace, Cover::None, Matched::Nothing),
    ];
    assert_eq!(rows(&covered), wanted);
    assert!(appraise(&mut Judge::new(None, Channel::Exporter), None, NOTHING, None).is_empty());
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
    let mut judge = Judge::new(None, Channel::Exporter);
    appraise(&mut judge, None, NOTHING, Some(Records { quoted: &pcrs, log: Some(&parsed), ima: None }));
    let findings: Vec<_> = judge.into_findings().iter().map(|f| (f.id(), f.severity())).collect();
    assert_eq!(findings, [("L_ODD", Severity::Cap)]);
}

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

/// A unified kernel image, with a root hash in its command line.
fn unified() -> (Log, Vec<(&'static str, String)>) {
    let line = format!("roothash={} ima_policy=tcb", "ab".repeat(32));
    let mut log = good();
    log.records.retain(|record| ![8, 9].contains(&record.pcr));
    for (name, content) in
        [(".linux", "the kernel"), (".osrel", "ID=x"), (".cmdline", &line), (".initrd", "the initrd")]
    {
        log = log.measured(11, EventType::IPL, format!("{name}\0").as_bytes(), &[utf16(name), vec![0, 0]].concat());
        log = log.measured(11, EventType::IPL, content.as_bytes(), &[utf16(name), vec![0, 0]].concat());
    }
    let mut rules = full();
    rules.retain(|(key, _)| !["files", "grub_commands", "variables", "kernel_command_line"].contains(key));
    rules.push(("uki", format!("{{ \".osrel\" = {:?} }}", hex("ID=x"))));
    rules.push(("kernel_command_line", format!("{line:?}")));
    (log, rules)
}

#[test]
fn a_unified_image_with_a_root_hash_covers_the_userspace() {
    let (log, rules) = unified();
    let (findings, covered) = booted(&policy(&rules, &[]), &log);
    assert_eq!(findings, [], "nothing is left open");
    // The text of the line is not in the log; it is the policy's, whose digest was measured.
    let cover: Vec<_> = covered.iter().map(|row| row.cover).collect();
    assert_eq!(cover, [Cover::Full, Cover::Full, Cover::Full], "{covered:#?}");
    assert!(covered.iter().all(|row| row.matched == OWN), "{covered:#?}");

    let other = |change: &dyn Fn(&mut Log)| {
        let mut log = log.clone();
        change(&mut log);
        refused(&booted(&policy(&rules, &[]), &log).0)
    };
    let content = |text: &'static [u8]| {
        move |log: &mut Log| {
            let at = log.position(|record| record.measured.starts_with(text));
            log.records[at].measured.push(b'x');
        }
    };
    assert_eq!(other(&content(b"roothash=")), ["L_COMMAND_LINE", "L_EVENT"]);
    assert_eq!(other(&content(b"the kernel")), ["L_KERNEL", "L_EVENT"]);
    assert_eq!(other(&content(b"the initrd")), ["L_EVENT"]);
    assert_eq!(other(&content(b"ID=x")), ["L_EVENT"]);
    let text = [utf16("rd.break"), vec![0, 0]].concat();
    assert_eq!(other(&|log| *log = log.clone().event(12, EventType::IPL, &text)), ["L_COMMAND_LINE", "L_EVENT"]);
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

/// A list of IMA in the template `ima-ng`, by hand.
struct Files(Vec<(String, Vec<u8>)>);

impl Files {
    /// Of the boot that was quoted, with these files and contents.
    fn of(pcrs: &PcrValues, files: &[(&str, &str)]) -> Files {
        let values: Vec<&[u8]> = (0..10).map(|pcr| pcrs.value(pcr).unwrap().as_bytes()).collect();
        let mut records = vec![("boot_aggregate".to_owned(), sha256(&values).as_bytes().to_vec())];
        let hash = |content: &str| sha256(&[content.as_bytes()]).as_bytes().to_vec();
        records.extend(files.iter().map(|(path, content)| ((*path).to_owned(), hash(content))));
        Files(records)
    }

    fn data(&self) -> impl Iterator<Item = Vec<u8>> {
        let field = |bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes(), bytes].concat();
        self.0.iter().map(move |(path, digest)| {
            let digest = field(&[b"sha256:\0", &digest[..]].concat());
            [digest, field(&[path.as_bytes(), b"\0"].concat())].concat()
        })
    }

    /// The list, and PCR 10; the entry at `void` is a violation.
    fn list(&self, void: Option<usize>) -> (ImaList, crate::evidence::tpm::PcrValue) {
        let (mut bytes, mut pcr10) = (Vec::new(), crate::evidence::tpm::PcrValue::filled(Bank::Sha256, 0));
        for (place, data) in self.data().enumerate() {
            let void = void == Some(place);
            bytes.extend(10u32.to_le_bytes());
            bytes.extend([u8::from(!void); 20]);
            bytes.extend(6u32.to_le_bytes());
            bytes.extend(b"ima-ng");
            bytes.extend((data.len() as u32).to_le_bytes());
            bytes.extend(&data);
            let hash = Bank::Sha256.hash(&[&data]);
            pcr10 = pcr10.extended(if void { &[0xFF; 32] } else { hash.as_bytes() });
        }
        (ImaList::parse(&bytes).unwrap(), pcr10)
    }
}

fn with_pcr10(log: &Log, pcr10: &crate::evidence::tpm::PcrValue) -> PcrValues {
    let mut pcrs = log.pcrs(Bank::Sha256);
    pcrs.insert(10, *pcr10);
    PcrValues::new(Bank::Sha256, pcrs.iter().map(|(pcr, value)| (*pcr, value.as_bytes()))).unwrap()
}

const FILES: [(&str, &str); 2] = [("/usr/lib/systemd/systemd", "init"), ("/usr/bin/server", "server")];

/// The unified image without a root hash, whose policy lists [`FILES`].
fn with_ima(line: &str) -> (Log, AppraisalPolicy) {
    let (mut log, rules) = unified();
    let at = log.position(|record| record.measured.starts_with(b"roothash="));
    log.records[at].measured = line.as_bytes().to_vec();
    let files: Vec<_> = FILES.iter().map(|(path, content)| format!("{path:?} = \"sha256:{}\"", hex(content))).collect();
    let ima = format!("{{ policy = \"tcb\", files = {{ {} }} }}", files.join(", "));
    (log, policy(&rules, &[("kernel_command_line", &format!("{line:?}")), ("ima", &ima)]))
}

fn with_list(policy: &AppraisalPolicy, log: &Log, files: &Files, void: Option<usize>) -> (Vec<Finding>, Vec<Covered>) {
    let (list, pcr10) = files.list(void);
    let (parsed, pcrs) = (ReadLog::parse(&log.bytes()).unwrap(), with_pcr10(log, &pcr10));
    judged(policy, Some(Records { quoted: &pcrs, log: Some(&parsed), ima: Some(&list) }))
}

#[test]
fn a_list_whose_files_are_all_named_covers_the_userspace_within_its_policy() {
    let (log, policy) = with_ima("ro ima_policy=tcb");
    let files = Files::of(&log.quoted(Bank::Sha256), &FILES);
    let (findings, covered) = with_list(&policy, &log, &files, None);
    assert_eq!(findings, []);
    assert_eq!((covered[2].cover, &covered[2].matched), (Cover::PolicyBounded, &OWN));
}

#[test]
fn plat_n43_a_list_is_worth_less_or_refused_for_each_thing_that_is_wrong_with_it() {
    let (log, policy) = with_ima("ro ima_policy=tcb");
    let pcrs = log.quoted(Bank::Sha256);
    let good = Files::of(&pcrs, &FILES);
    let userspace = |files: &Files, void| {
        let (findings, covered) = with_list(&policy, &log, files, void);
        let told: Vec<_> = findings.iter().map(|finding| (finding.id(), finding.severity())).collect();
        (told, covered[2].cover)
    };
    assert_eq!(userspace(&good, None), (vec![], Cover::PolicyBounded));
    assert_eq!(userspace(&good, Some(2)), (vec![("L_IMA_VIOLATION", Severity::Cap)], Cover::Partial));
    let other = Files::of(&pcrs, &[FILES[0], ("/usr/bin/server", "a trojan")]);
    assert_eq!(userspace(&other, None), (vec![("L_IMA_FILE", Severity::Fatal)], Cover::Partial));
    let more = Files::of(&pcrs, &[FILES[0], FILES[1], ("/tmp/x", "server")]);
    assert_eq!(userspace(&more, None), (vec![("L_IMA_FILE", Severity::Fatal)], Cover::Partial));
    let other_boot = Files::of(&self::good().quoted(Bank::Sha256), &FILES);
    assert_eq!(userspace(&other_boot, None), (vec![("L_IMA_BOOT", Severity::Fatal)], Cover::Partial));
    let mut headless = Files::of(&pcrs, &FILES);
    headless.0.remove(0);
    assert_eq!(userspace(&headless, None), (vec![("L_IMA_BOOT", Severity::Fatal)], Cover::Partial));

    // A list that ends before what was extended.
    let (short, _) = Files::of(&pcrs, &FILES[..1]).list(None);
    let (parsed, quoted) = (ReadLog::parse(&log.bytes()).unwrap(), with_pcr10(&log, &good.list(None).1));
    let records = Records { quoted: &quoted, log: Some(&parsed), ima: Some(&short) };
    assert_eq!(refused(&judged(&policy, Some(records)).0), ["L_IMA_REPLAY"]);
    assert_eq!(refused(&judged(&policy, Some(Records { ima: None, ..records })).0), ["L_IMA_ABSENT"]);
    let idle = Records { quoted: &pcrs, ..records };
    assert_eq!(refused(&judged(&policy, Some(idle)).0), ["L_IMA_ABSENT"]);

    // A kernel whose measuring policy is another, or not known.
    for line in ["ro ima_policy=critical_data", "ro", "ro ima_policy=tcb ima_policy=tcb"] {
        let (log, policy) = with_ima(line);
        let files = Files::of(&log.quoted(Bank::Sha256), &FILES);
        let (findings, covered) = with_list(&policy, &log, &files, None);
        assert!(refused(&findings).contains(&"L_IMA_POLICY"), "{line}: {findings:?}");
        assert_eq!(covered[2].cover, Cover::Partial, "{line}");
    }
}

#[test]
fn a_list_that_no_rule_asks_for_is_told_and_compared_with_nothing() {
    let (log, pcrs) = (good(), good().quoted(Bank::Sha256));
    let (findings, covered) = with_list(&accepting(), &log, &Files::of(&pcrs, &FILES), None);
    assert_eq!((findings.len(), covered[2].cover), (0, Cover::Partial));
    let (findings, covered) = with_list(&accepting(), &log, &Files::of(&pcrs, &FILES), Some(1));
    let told: Vec<_> = findings.iter().map(|finding| (finding.id(), finding.severity())).collect();
    assert_eq!((told, covered[2].cover), (vec![("L_IMA_VIOLATION", Severity::Cap)], Cover::Partial));
}

/// The kernel, initrd, grub and its configuration as files in hand, by content: the logs are made so that it is measured.
fn files(names: &[(crate::reference::Part, &str)]) -> BootReference {
    let mut files = BootReference::new();
    for (part, content) in names {
        files.add(*part, content, content.as_bytes());
    }
    files
}

#[test]
fn files_in_hand_recompute_what_was_measured_and_rebuilds_prove_their_source() {
    use crate::reference::Part;
    let all = [
        (Part::Loader, "the hash of shim"),
        (Part::Loader, "the hash of grub"),
        (Part::Loader, "the text of grub.cfg"),
        (Part::Initrd, "the initrd"),
        (Part::Kernel, "the kernel"),
    ];
    let judge = |held: Held<'_>, policy: &AppraisalPolicy, log: &Log| {
        let (parsed, pcrs) = (ReadLog::parse(&log.bytes()).unwrap(), log.quoted(Bank::Sha256));
        let mut judge = Judge::new(Some(policy), Channel::Exporter);
        let records = Records { quoted: &pcrs, log: Some(&parsed), ima: None };
        let covered = appraise(&mut judge, policy.event_log(), held, Some(records));
        (refused(&judge.into_findings()), covered)
    };
    // No digest of these stands in the policy.
    let change = ["boot_programs", "kernel", "initrd", "files"].map(|key| (key, ""));
    let policy = policy(&full(), &change);
    let held = files(&all);
    let with = |files| Held { files: Some(files), ..NOTHING };
    let (ids, covered) = judge(with(&held), &policy, &good());
    assert_eq!(ids, Vec::<&str>::new());
    for row in &covered[..2] {
        assert_eq!(row.cover, Cover::Full, "{row:?}");
        assert!(matches!(&row.matched, Matched::Binary(proof) if proof.covers(Part::CommandLine)), "{row:?}");
    }
    // Each file is needed, and each must be the one that was measured.
    for missing in 0..all.len() {
        let some: Vec<_> = all.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, file)| *file).collect();
        let some = files(&some);
        let (ids, covered) = judge(Held { files: Some(&some), ..NOTHING }, &policy, &good());
        assert!(ids.contains(&"L_EVENT"), "without {:?}: {ids:?}", all[missing]);
        assert!(covered[..2].iter().any(|row| !matches!(row.matched, Matched::Binary(_))), "{:?}", all[missing]);
    }
    // An initrd in hand is no kernel.
    let initrd_only = files(&[(Part::Initrd, "the kernel")]);
    let listed = self::policy(&full(), &[("kernel", "")]);
    let (_, covered) = judge(with(&initrd_only), &listed, &good());
    assert!(covered[1].notes.contains(&"its digest is on no list".to_owned()), "{:?}", covered[1]);

    let rebuilds: Vec<Rebuild> = all.iter().map(|(_, name)| crate::reference::tests::rebuild(name)).collect();
    let (_, covered) = judge(Held { rebuilds: &rebuilds, ..with(&held) }, &policy, &good());
    assert!(covered[..2].iter().all(|row| matches!(row.matched, Matched::Source(_))), "{covered:#?}");
    let (_, covered) = judge(Held { rebuilds: &rebuilds[1..], ..with(&held) }, &policy, &good());
    assert!(matches!((&covered[0].matched, &covered[1].matched), (Matched::Binary(_), Matched::Source(_))));
}

#[test]
fn an_image_in_hand_proves_the_root_hash_that_the_command_line_names() {
    let (log, rules) = unified();
    let policy = policy(&rules, &[]);
    let (parsed, pcrs) = (ReadLog::parse(&log.bytes()).unwrap(), log.quoted(Bank::Sha256));
    let records = Records { quoted: &pcrs, log: Some(&parsed), ima: None };
    let userspace = |root: &[u8]| {
        let images = [crate::reference::tests::recomputed(root, &[(crate::reference::Part::Image, "root.img")])];
        let mut judge = Judge::new(Some(&policy), Channel::Exporter);
        appraise(&mut judge, policy.event_log(), Held { images: &images, ..NOTHING }, Some(records))[2].clone()
    };
    assert!(matches!(userspace(&[0xAB; 32]).matched, Matched::Binary(_)));
    assert_eq!(userspace(&[0xAC; 32]).matched, OWN);
}
