use super::*;

/// A table of one advisory with this row.
fn with_row(row: &str) -> Result<AdvisoryTable, AdvisoryTableError> {
    AdvisoryTable::parse(text(row).as_bytes())
}

fn text(row: &str) -> String {
    format!(
        "format = 1\nas_of = \"2026-11-01\"\n[[advisory]]\nid = \"X-1\"\nname = \"x\"\npublished = \"2026\"\n\
         checked = \"2026-11-01\"\nforges_reports = false\nattack = \"a\"\nremedy = \"r\"\nsources = [\"s\"]\n\
         confidence = \"c\"\n[[advisory.row]]\nlines = [\"milan-b1\"]\n{row}"
    )
}

const GOOD: &str = "shows = \"fix\"\nmin_snp = 5\nopen_below_snp = 5\n";

#[test]
fn the_built_in_table_is_read_and_has_a_row_for_each_line_somewhere() {
    let table = AdvisoryTable::built_in();
    assert_eq!(table.as_of().as_str(), "2026-10-10");
    assert_eq!(table.advisories().iter().map(|advisory| advisory.rows().len()).sum::<usize>(), 65);
    for line in ProcessorLine::ALL {
        assert!(table.advisories().iter().filter(|advisory| advisory.row(line).is_some()).count() > 10, "{line}");
    }
}

#[test]
fn an_advisory_is_found_by_id_short_id_alias_and_cve() {
    let table = AdvisoryTable::built_in();
    let named = |text: &str| table.advisories().iter().filter(|advisory| advisory.is_named(text)).count();
    for (text, count) in [
        ("AMD-SB-3020", 1),
        ("sb-3020", 1),
        ("GCP-2025-065", 1),
        ("cve-2025-0033", 1),
        ("SB-3021", 2),
        ("3020", 0),
        ("RMP", 0),
    ] {
        assert_eq!(named(text), count, "{text}");
    }
}

#[test]
fn a_row_that_contradicts_itself_is_refused() {
    assert!(with_row(GOOD).is_ok());
    for row in [
        "shows = \"fix\"\n",
        "shows = \"fixed\"\nmin_snp = 5\n",
        "shows = \"fix\"\nmin_snp = 5\nopen_below_snp = 6\n",
        "shows = \"fix\"\nmin_snp = 256\n",
        "shows = \"fix\"\nmin_fmc = 1\n",
        "shows = \"fix\"\nbits = [1]\n",
        "shows = \"fix\"\nbits = [64]\nbit_clear = \"open\"\n",
        "shows = \"fix\"\nmin_snp = 5\nbit_clear = \"open\"\n",
        "shows = \"fix\"\nmin_snp = 5\nwhy = \"x\"\n",
        "shows = \"fix\"\nmin_snp = 5\nunknown = 1\n",
        "shows = \"not-provable\"\n",
        "shows = \"not-provable\"\nwhy = \"w\"\nmin_snp = 1\n",
        "shows = \"not-affected\"\nwhy = \"w\"\nopen_below_snp = 1\n",
        "shows = \"physical\"\n",
        "shows = \"alternatives\"\n",
        "shows = \"alternatives\"\nalternatives = [\"policy-smt-refused\"]\nmin_snp = 1\n",
        "shows = \"fix\"\nmin_snp = 5\n[[advisory.row]]\nlines = [\"milan-b1\"]\nshows = \"fix\"\nmin_snp = 6\n",
        "shows = \"fix\"\nmin_snp = 5\n[[advisory.row]]\nlines = []\nshows = \"fix\"\nmin_snp = 6\n",
    ] {
        assert!(with_row(row).is_err(), "{row}");
    }
}

#[test]
fn a_text_of_another_format_date_size_or_spelling_is_refused() {
    let good = text(GOOD);
    for (from, to) in [
        ("format = 1", "format = 2"),
        ("format = 1\n", ""),
        ("as_of = \"2026-11-01\"", "as_of = \"1 November\""),
        ("as_of = \"2026-11-01\"", "as_of = \"2026-13-01\""),
        ("id = \"X-1\"", "id = \" \""),
        ("attack = \"a\"", "attack = \"a\\u001b[31m\""),
        ("sources = [\"s\"]", "sources = []"),
        ("confidence = \"c\"", "confidence = \"c\"\nprofiles = [\"azure\"]"),
        ("milan-b1", "milan-b7"),
        ("forges_reports = false", "forges_reports = \"no\""),
    ] {
        assert!(good.contains(from), "{from}");
        assert!(AdvisoryTable::parse(good.replacen(from, to, 1).as_bytes()).is_err(), "{to}");
    }
    assert!(matches!(AdvisoryTable::parse(&[0xFF; 4]), Err(AdvisoryTableError::Encoding)));
    assert!(matches!(AdvisoryTable::parse(&vec![b' '; MAX_TABLE_BYTES + 1]), Err(AdvisoryTableError::Size { .. })));
}

#[test]
fn only_a_newer_table_replaces_the_built_in_one() {
    let good = text(GOOD);
    assert!(AdvisoryTable::replacing_built_in(good.as_bytes()).is_ok());
    for date in ["2026-10-10", "2026-10-09", "2025-12-31"] {
        let older = good.replacen("as_of = \"2026-11-01\"", &format!("as_of = \"{date}\""), 1);
        let refused = AdvisoryTable::replacing_built_in(older.as_bytes());
        assert!(matches!(refused, Err(AdvisoryTableError::NotNewer { .. })), "{date}");
    }
}

#[test]
fn the_age_of_a_table_counts_whole_days() {
    let date: TableDate = "2026-10-10".parse().unwrap();
    for (now, days) in [
        ("2026-10-10T23:59:59Z", 0),
        ("2026-10-11T00:00:00Z", 1),
        ("2027-01-08T00:00:00Z", 90),
        ("2026-01-01T00:00:00Z", 0),
    ] {
        assert_eq!(date.age_days(UnixTime::parse_rfc3339(now).unwrap()), days, "{now}");
    }
}
