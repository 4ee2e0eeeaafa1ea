use super::*;
use formats::evidence::snp::{Cpuid, REPORT_LEN};

/// What the advisories look at in a report; everything else is as a genuine one has it.
#[derive(Clone)]
struct ReportParts {
    version: u32,
    cpuid: Cpuid,
    policy: u64,
    platform: u64,
    tcb: [u64; 4],
    vectors: (u64, u64),
}

const POLICY: u64 = 0x3_0000;

impl ReportParts {
    /// Everything that the table names is there, on this line.
    fn patched(line: ProcessorLine) -> ReportParts {
        let tcb = match line.product() {
            Product::Turin => TcbVersion::new_turin(9, 9, 9, 99, 254),
            Product::Milan | Product::Genoa => TcbVersion::new_milan_genoa(9, 9, 99, 254),
        };
        ReportParts {
            version: 5,
            cpuid: line.cpuid(),
            policy: POLICY,
            platform: 0b10_0001,
            tcb: [tcb.raw(); 4],
            vectors: (u64::MAX, u64::MAX),
        }
    }

    fn report(&self) -> Report {
        let mut raw = [0; REPORT_LEN];
        let mut put = |at: usize, bytes: &[u8]| raw[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x000, &self.version.to_le_bytes());
        put(0x008, &self.policy.to_le_bytes());
        put(0x034, &1u32.to_le_bytes());
        put(0x040, &self.platform.to_le_bytes());
        if self.version >= 3 {
            put(0x188, &[self.cpuid.family, self.cpuid.model, self.cpuid.stepping]);
        }
        for (at, raw) in [0x038, 0x180, 0x1E0, 0x1F0].into_iter().zip(self.tcb) {
            put(at, &raw.to_le_bytes());
        }
        if self.version >= 5 {
            put(0x1F8, &self.vectors.0.to_le_bytes());
            put(0x200, &self.vectors.1.to_le_bytes());
        }
        Report::parse(&raw).unwrap()
    }

    fn of(&self, line: ProcessorLine, advisory: &Advisory) -> AdvisoryVerdict {
        judge_advisory(advisory, &self.report(), line.product())
    }
}

const KINDS: [TcbKind; 4] = [TcbKind::Current, TcbKind::Reported, TcbKind::Committed, TcbKind::Launch];

/// One component of one TCB.
fn with_component(parts: &ReportParts, line: ProcessorLine, kind: usize, component: &str, value: u8) -> ReportParts {
    let mut parts = parts.clone();
    let mut bytes = parts.tcb[kind].to_le_bytes();
    let at = match (line.product(), component) {
        (Product::Turin, "snp") => 3,
        (_, "snp") => 6,
        (_, "microcode") => 7,
        other => panic!("{other:?}"),
    };
    bytes[at] = value;
    parts.tcb[kind] = u64::from_le_bytes(bytes);
    parts
}

/// Every row with numbers, on every line.
fn numbered_rows(table: &AdvisoryTable) -> impl Iterator<Item = (&Advisory, ProcessorLine, &AdvisoryRow)> {
    table.advisories().iter().flat_map(|advisory| {
        ProcessorLine::ALL.into_iter().filter_map(move |line| Some((advisory, line, advisory.row(line)?)))
    })
}

#[test]
fn a_patched_machine_has_nothing_open_but_what_its_policy_leaves_open() {
    let table = AdvisoryTable::built_in();
    for line in ProcessorLine::ALL {
        let judged = table.judge(&ReportParts::patched(line).report(), line.product(), None);
        let open: Vec<&str> = judged
            .iter()
            .filter(|one| matches!(one.verdict(), AdvisoryVerdict::Open { .. }))
            .map(|one| one.advisory().name())
            .collect();
        let expected = ["CipherLeaks and ciphertext side channels", "Heracles", "PwrLeak"];
        assert!(open.iter().all(|name| expected.contains(name)), "{line}: {open:?}");
    }
}

#[test]
fn each_tcb_one_below_a_necessary_number_opens_the_row_and_says_whose_turn_it_is() {
    let table = AdvisoryTable::built_in();
    let mut tried = 0;
    for (advisory, line, row) in numbered_rows(table).filter(|(_, _, row)| row.alternatives.is_empty()) {
        for (component, want) in [("snp", row.open_below_snp), ("microcode", row.open_below_microcode)] {
            let Some(want) = want else { continue };
            let good = ReportParts::patched(line);
            for (kind, what) in [(2, OpenReason::Machine), (1, OpenReason::Key), (3, OpenReason::Launch)] {
                let at = with_component(&good, line, kind, component, want).of(line, advisory);
                assert!(
                    !matches!(at, AdvisoryVerdict::Open { .. }),
                    "{} {line} {component} {want}: {at:?}",
                    advisory.id()
                );
                let below = with_component(&good, line, kind, component, want - 1).of(line, advisory);
                assert!(
                    matches!(&below, AdvisoryVerdict::Open { what: seen, .. } if *seen == what),
                    "{} {line} {:?} {component} {}: {below:?}",
                    advisory.id(),
                    KINDS[kind],
                    want - 1
                );
                tried += 1;
            }
        }
    }
    assert!(tried > 150, "only {tried}");
}

#[test]
fn all_four_tcbs_must_have_a_sufficient_number_to_meet_a_row() {
    let table = AdvisoryTable::built_in();
    let mut tried = 0;
    for (advisory, line, row) in numbered_rows(table).filter(|(_, _, row)| row.alternatives.is_empty()) {
        for (component, want) in [("snp", row.min_snp), ("microcode", row.min_microcode)] {
            let Some(want) = want else { continue };
            let good = ReportParts::patched(line);
            for kind in 0..4 {
                let at = with_component(&good, line, kind, component, want).of(line, advisory);
                assert!(matches!(at, AdvisoryVerdict::Met { .. }), "{} {line} {want}: {at:?}", advisory.id());
                let below = with_component(&good, line, kind, component, want - 1).of(line, advisory);
                assert!(!matches!(below, AdvisoryVerdict::Met { .. }), "{} {line} {kind}: {below:?}", advisory.id());
                tried += 1;
            }
        }
    }
    assert!(tried > 200, "only {tried}");
}

#[test]
fn each_bit_must_be_set_in_both_vectors() {
    let table = AdvisoryTable::built_in();
    let mut tried = 0;
    for (advisory, line, row) in numbered_rows(table) {
        for bit in &row.bits {
            let mask = !(1u64 << bit);
            for vectors in [(mask, u64::MAX), (u64::MAX, mask), (mask, mask)] {
                let verdict = ReportParts { vectors, ..ReportParts::patched(line) }.of(line, advisory);
                let is_right = match row.bit_clear.unwrap() {
                    ClearBit::Open => matches!(verdict, AdvisoryVerdict::Open { .. }),
                    ClearBit::NotProvable => matches!(verdict, AdvisoryVerdict::NotProvable { .. }),
                };
                assert!(is_right, "{} {line} bit {bit} {vectors:x?}: {verdict:?}", advisory.id());
                tried += 1;
            }
        }
    }
    assert!(tried > 80, "only {tried}");
}

#[test]
fn without_vectors_a_row_that_needs_bits_is_not_provable() {
    let table = AdvisoryTable::built_in();
    for version in [3, 4] {
        for (advisory, line, row) in numbered_rows(table).filter(|(_, _, row)| !row.bits.is_empty()) {
            let verdict = ReportParts { version, ..ReportParts::patched(line) }.of(line, advisory);
            assert!(matches!(verdict, AdvisoryVerdict::NotProvable { .. }), "{} {row:?}: {verdict:?}", advisory.id());
        }
    }
}

#[test]
fn a_version_2_report_is_judged_only_where_every_part_of_the_product_agrees() {
    let table = AdvisoryTable::built_in();
    let advisory = |id: &str| table.advisories().iter().find(|one| one.is_named(id)).unwrap().clone();
    let old = |microcode| ReportParts {
        version: 2,
        tcb: [TcbVersion::new_milan_genoa(3, 0, 99, microcode).raw(); 4],
        ..ReportParts::patched(ProcessorLine::MilanB1)
    };
    // CacheWarp: 209 on Milan, 52 on Milan-X.
    let cache_warp = |microcode| judge_advisory(&advisory("SB-3005"), &old(microcode).report(), Product::Milan);
    assert!(matches!(cache_warp(209), AdvisoryVerdict::Met { .. }));
    assert!(matches!(cache_warp(100), AdvisoryVerdict::NotProvable { .. }));
    assert!(matches!(cache_warp(51), AdvisoryVerdict::Open { .. }));
}

#[test]
fn an_unknown_part_is_not_provable_and_a_known_one_without_a_row_is_not_listed() {
    let table = AdvisoryTable::built_in();
    for (family, model, stepping) in [(0x19, 0x01, 0), (0x19, 0xA0, 1), (0x1A, 0x02, 3), (0x1A, 0x50, 0)] {
        let cpuid = Cpuid { family, model, stepping };
        let parts = ReportParts { cpuid, ..ReportParts::patched(ProcessorLine::MilanB1) };
        for one in table.judge(&parts.report(), Product::Milan, None) {
            assert!(matches!(one.verdict(), AdvisoryVerdict::NotProvable { .. }), "{cpuid} {}", one.advisory().id());
        }
    }
    let line = ProcessorLine::TurinC1;
    let judged = table.judge(&ReportParts::patched(line).report(), line.product(), None);
    let verdict = |id: &str| judged.iter().find(|one| one.advisory().is_named(id)).unwrap().verdict().as_str();
    assert_eq!(verdict("SB-3045"), "not-listed");
    assert_eq!(verdict("SB-3016"), "not-listed");
}

#[test]
fn policy_and_platform_bits_rule_attacks_out() {
    let table = AdvisoryTable::built_in();
    let line = ProcessorLine::TurinC1;
    let verdict = |parts: &ReportParts, name: &str| {
        let judged = table.judge(&parts.report(), line.product(), None);
        judged.iter().find(|one| one.advisory().name() == name).unwrap().verdict().as_str()
    };
    let old = ReportParts { tcb: [TcbVersion::new_turin(0, 1, 0, 2, 71).raw(); 4], ..ReportParts::patched(line) };
    assert_eq!(verdict(&old, "StackWarp"), "open");
    assert_eq!(verdict(&ReportParts { policy: POLICY & !(1 << 16), ..old.clone() }, "StackWarp"), "met");
    assert_eq!(verdict(&ReportParts { platform: 1 << 5, ..old.clone() }, "StackWarp"), "met");
    let ciphertext = "CipherLeaks and ciphertext side channels";
    assert_eq!(verdict(&old, ciphertext), "open");
    assert_eq!(verdict(&ReportParts { policy: POLICY | 1 << 24, ..old.clone() }, ciphertext), "met");
    assert_eq!(verdict(&ReportParts { policy: POLICY | 1 << 25, ..old.clone() }, ciphertext), "open");
    assert_eq!(verdict(&ReportParts { policy: POLICY | 1 << 25, ..old.clone() }, "Heracles"), "met");
    assert_eq!(verdict(&ReportParts { platform: 1 << 3 | 1, ..old.clone() }, "PwrLeak"), "met");
    assert_eq!(verdict(&ReportParts { platform: 1, ..old.clone() }, "BadRAM"), "open");
}

#[test]
fn advisories_that_cast_doubt_come_first_and_others_of_a_platform_only_there() {
    let table = AdvisoryTable::built_in();
    let line = ProcessorLine::MilanB1;
    let report = ReportParts::patched(line).report();
    let judged = table.judge(&report, line.product(), Some(Profile::Snp));
    let doubts: Vec<bool> = judged.iter().map(JudgedAdvisory::casts_doubt).collect();
    assert!(doubts[0] && doubts.is_sorted_by(|a, b| a >= b), "{doubts:?}");
    let has =
        |profile, id: &str| table.judge(&report, line.product(), profile).iter().any(|o| o.advisory().is_named(id));
    assert!(has(Some(Profile::AzureSnp), "CVE-2025-49707") && !has(Some(Profile::GcpSnp), "CVE-2025-49707"));
    assert!(has(None, "CVE-2025-49707"));
}
