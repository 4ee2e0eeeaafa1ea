//! Files and images in hand, and rebuilds of them.

use super::userspace::unified;
use super::*;

/// The kernel, initrd, grub and its configuration as files in hand, by content: the logs are made so that it is measured.
fn files(names: &[(measure::reference::Part, &str)]) -> BootReference {
    let mut files = BootReference::new();
    for (part, content) in names {
        files.add(*part, content, content.as_bytes());
    }
    files
}

#[test]
fn files_in_hand_recompute_what_was_measured_and_rebuilds_prove_their_source() {
    use measure::reference::Part;
    let all = [
        (Part::Loader, "the hash of shim"),
        (Part::Loader, "the hash of grub"),
        (Part::Loader, "the text of grub.cfg"),
        (Part::Initrd, "the initrd"),
        (Part::Kernel, "the kernel"),
    ];
    let judge = |held: Held<'_>, policy: &AppraisalPolicy, log: &Log| {
        let (parsed, pcrs) = (ReadLog::parse(&log.bytes()).unwrap(), log.quoted(Bank::Sha256));
        let mut judge = Judge::new(true, policy.only(), Channel::Exporter);
        let records = Records { quoted: &pcrs, log: Some(&parsed), ima: None };
        let covered = appraise(&mut judge, policy.only().unwrap().event_log(), held, Some(records));
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

    let rebuilds: Vec<Rebuild> = all.iter().map(|(_, name)| measure::reference::test_support::rebuild(name)).collect();
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
        let images =
            [measure::reference::test_support::recomputed(root, &[(measure::reference::Part::Image, "root.img")])];
        let mut judge = Judge::new(true, policy.only(), Channel::Exporter);
        appraise(&mut judge, policy.only().unwrap().event_log(), Held { images: &images, ..NOTHING }, Some(records))[2]
            .clone()
    };
    assert!(matches!(userspace(&[0xAB; 32]).matched, Matched::Binary(_)));
    assert_eq!(userspace(&[0xAC; 32]).matched, OWN);
}
