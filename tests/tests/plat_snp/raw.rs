//! Certificate tables and reports whose bytes are not what they seem.

use crate::guest::{NOW, Seen, after, forged, good};
use ratls::endorsement::table::{CertificateTable, TableError, TableItem};
use simulator::amd_sp::{certificate_table, guid};

#[test]
fn plat_n23_a_certificate_table_is_read_within_its_bounds_only() {
    let sp = good().sp;
    let table = sp.certificate_table();
    let parsed = CertificateTable::parse(&table).unwrap();
    assert!(parsed.certificates().eq(sp.certificates().iter().map(Vec::as_slice)));

    let patched = |offset: usize, value: u32| {
        let mut table = table.clone();
        table[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        CertificateTable::parse(&table).map(drop)
    };
    // Offset and length of the first entry stand at 16 and 20.
    let length = u32::try_from(table.len()).unwrap();
    for (offset, value) in [(16, u32::MAX), (16, length), (16, 0), (20, u32::MAX), (20, length)] {
        let refused = patched(offset, value);
        assert!(matches!(refused, Err(TableError::Bounds { index: 0, .. })), "{offset} {value}: {refused:?}");
    }
}

#[test]
fn plat_n23_a_certificate_table_has_everything_once_and_an_end() {
    let twice = certificate_table(&[(guid::VCEK, b"one"), (guid::VCEK, b"two")]);
    assert_eq!(CertificateTable::parse(&twice), Err(TableError::Duplicate { item: TableItem::Vcek }));

    // Twice something that nobody uses is nobody's business.
    let unknown = certificate_table(&[([9; 16], b"one"), ([9; 16], b"two"), (guid::VCEK, b"three")]);
    assert_eq!(CertificateTable::parse(&unknown).unwrap().get(TableItem::Vcek), Some(&b"three"[..]));

    let whole = certificate_table(&[(guid::VCEK, b"")]);
    assert!(CertificateTable::parse(&whole).is_ok());
    for cut in 1..whole.len() {
        assert_eq!(CertificateTable::parse(&whole[..cut]), Err(TableError::Unterminated), "{cut}");
    }
    let large = certificate_table(&[(guid::VCEK, &[0; 0x4000])]);
    assert_eq!(CertificateTable::parse(&large), Err(TableError::TooLarge { seen: large.len() }));
}

#[test]
fn plat_n24_two_reports_with_the_same_fields_but_other_bytes_are_not_the_same() {
    // Bit 6 of platform_info has no name and no reader, so a parser and encoder of fields would lose the change.
    after(|case| case.report()[0x40] ^= 1 << 6).judge().refused_for("R_SIG");
    forged(|report| report[0x40] ^= 1 << 6).judge().accepted();
}

#[test]
fn plat_n24_reserved_bytes_refuse_even_where_they_are_signed() {
    for reserved in [0x4C, 0x18B, 0x1EB, 0x1EF, 0x1F8, 0x208, 0x29F] {
        let mut case = forged(|report| report[reserved] = 1);
        let report = case.report().clone();
        assert_eq!(refusal(&case, &report), "R_RESERVED", "{reserved:#x}");
    }
}

#[test]
fn plat_n24_no_byte_of_a_report_can_be_changed() {
    let mut case = good();
    let report = case.report().clone();
    for i in 0..report.len() {
        for mask in [0x01, 0x80] {
            let mut changed = report.clone();
            changed[i] ^= mask;
            let refused = refusal(&case, &changed);
            assert!(refused.starts_with("R_") || refused.starts_with("E_"), "{i:#x}: {refused}");
        }
    }
}

/// Why the verifier refuses this report under the certificates of this case, whatever connection it came over.
fn refusal(case: &Seen, report: &[u8]) -> &'static str {
    let certificates: Vec<&[u8]> = case.attest.endorsements[..2].iter().map(|e| e.bytes.as_slice()).collect();
    ratls::verify::verify_report(report, &certificates, &[], &case.roots, NOW).expect_err("a changed report").id()
}
