//! What a unified image and a list of IMA say of the userspace.

use super::*;

/// A unified kernel image, with a root hash in its command line.
pub(super) fn unified() -> (Log, Vec<(&'static str, String)>) {
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
    rules.push(("verity_key", "\"roothash\"".to_owned()));
    (log, rules)
}

/// The userspace's row under the unified image's rules, with another command line and these rules about it.
fn under_line(line: &str, verity: &[(&'static str, &str)]) -> Covered {
    let (mut log, mut rules) = unified();
    let at = log.position(|record| record.measured.starts_with(b"roothash="));
    log.records[at].measured = line.as_bytes().to_vec();
    rules.retain(|(key, _)| !["kernel_command_line", "verity_key"].contains(key));
    rules.push(("kernel_command_line", format!("{line:?}")));
    rules.extend(verity.iter().map(|(key, value)| (*key, (*value).to_owned())));
    let (_, covered) = booted(&policy(&rules, &[]), &log);
    covered[2].clone()
}

#[test]
fn a_root_hash_covers_the_userspace_only_if_nothing_beside_it_can_change_what_runs() {
    let hash = format!("roothash={}", "ab".repeat(32));
    let key: &[(&'static str, &str)] = &[("verity_key", "\"roothash\"")];
    assert_eq!(under_line(&hash, key).cover, Cover::Full);
    // Nobody says that the initrd mounts nothing else.
    let unsaid = under_line(&hash, &[]);
    assert_eq!((unsaid.cover, &unsaid.matched), (Cover::Partial, &Matched::Nothing));
    assert!(unsaid.notes[0].contains("verity_key"), "{unsaid:?}");
    for word in
        ["systemd.verity=no", "root=/dev/vda2", "rw", "init=/bin/sh", "rd.break", "systemd.mask=x", "never.heard.of"]
    {
        let row = under_line(&format!("{hash} {word}"), key);
        assert_eq!((row.cover, &row.matched), (Cover::Partial, &Matched::Nothing), "{word}");
        assert!(row.notes[0].contains(word), "{row:?}");
        let named = format!("[{word:?}]");
        let row = under_line(&format!("{hash} {word}"), &[("verity_key", "\"roothash\""), ("neutral_words", &named)]);
        assert_eq!(row.cover, Cover::Full, "{word}");
    }
    let usr = under_line(&format!("usrhash={} root=/dev/vda2 rw", "ab".repeat(32)), key);
    assert_eq!((usr.cover, &usr.matched), (Cover::Partial, &Matched::Nothing));
    assert!(usr.notes[0].contains("/usr"), "{usr:?}");
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
    fn list(&self, void: Option<usize>) -> (ImaList, formats::evidence::tpm::PcrValue) {
        let (mut bytes, mut pcr10) = (Vec::new(), formats::evidence::tpm::PcrValue::filled(Bank::Sha256, 0));
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

fn with_pcr10(log: &Log, pcr10: &formats::evidence::tpm::PcrValue) -> PcrValues {
    let mut pcrs = log.pcrs(Bank::Sha256);
    pcrs.insert(10, *pcr10);
    PcrValues::new(Bank::Sha256, pcrs.iter().map(|(pcr, value)| (*pcr, value.as_bytes()))).unwrap()
}

const FILES: [(&str, &str); 2] = [("/usr/lib/systemd/systemd", "init"), ("/usr/bin/server", "server")];

/// The unified image without a root hash, whose policy lists [`FILES`].
fn with_ima(line: &str) -> (Log, AppraisalPolicy) {
    with_ima_under(line, &format!("{line:?}"), "[]")
}

/// The same, where the policy accepts these lines and those with these digests.
fn with_ima_under(line: &str, lines: &str, digests: &str) -> (Log, AppraisalPolicy) {
    let (mut log, rules) = unified();
    let at = log.position(|record| record.measured.starts_with(b"roothash="));
    log.records[at].measured = line.as_bytes().to_vec();
    let files: Vec<_> = FILES.iter().map(|(path, content)| format!("{path:?} = \"sha256:{}\"", hex(content))).collect();
    let ima = format!("{{ policy = \"tcb\", files = {{ {} }} }}", files.join(", "));
    let change = [("kernel_command_line", lines), ("ima", &ima), ("kernel_command_line_digests", digests)];
    let change: Vec<(&str, &str)> = change.into_iter().filter(|(_, value)| *value != "[]").collect();
    (log, policy(&rules, &change))
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

/// A line that the kernel's EFI stub measured as a digest is the one that the kernel went by, whatever grub or an image says.
#[test]
fn the_measuring_policy_is_known_only_where_every_line_that_was_measured_says_it() {
    let (tcb, other) = ("ro ima_policy=tcb", "ro ima_policy=critical_data");
    let digest = sha256(&[&utf16(other)]).to_string();
    let judged = |measured: &str, lines: &str, digests: &str| {
        let (log, policy) = with_ima_under(tcb, lines, digests);
        let log = super::hostile::and_by_the_stub(log, measured, 1);
        let files = Files::of(&log.quoted(Bank::Sha256), &FILES);
        let (findings, covered) = with_list(&policy, &log, &files, None);
        (refused(&findings), covered[2].cover)
    };
    let own = format!("{tcb:?}");
    assert_eq!(judged(tcb, &own, "[]"), (vec![], Cover::PolicyBounded));
    // Accepted by its digest alone, and by its text: neither is the line that names the policy.
    let refusal = (vec!["L_IMA_POLICY"], Cover::Partial);
    assert_eq!(judged(other, &own, &format!("[{digest:?}]")), refusal);
    assert_eq!(judged(other, &format!("[{tcb:?}, {other:?}]"), "[]"), refusal);
}

/// Without rules about lines, what the log has as a digest alone is known as little.
#[test]
fn a_line_that_nobody_compares_and_nobody_can_read_leaves_the_measuring_policy_unknown() {
    let grub = |measured: &str| {
        let mut log = good();
        log.records.retain(|record| record.pcr != 8);
        let log = super::hostile::and_by_the_stub(log.grub("kernel_cmdline: ", "ro ima_policy=tcb"), measured, 1);
        let files = Files::of(&log.quoted(Bank::Sha256), &FILES);
        let listed: Vec<_> =
            FILES.iter().map(|(path, content)| format!("{path:?} = \"sha256:{}\"", hex(content))).collect();
        let ima = format!("{{ policy = \"tcb\", files = {{ {} }} }}", listed.join(", "));
        let policy = policy(&[], &[("ima", &ima), ("files", "\"any\""), ("grub_commands", "\"any\"")]);
        refused(&with_list(&policy, &log, &files, None).0)
    };
    assert_eq!(grub("ro ima_policy=tcb"), Vec::<&str>::new());
    assert_eq!(grub("ro"), ["L_IMA_POLICY"]);
}
