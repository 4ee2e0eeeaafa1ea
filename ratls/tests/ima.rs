//! IMA lists, written by hand from the kernel's documentation: SIMULATED, PROVE NOTHING.

use ratls::crypto::sha256;
use ratls::evidence::ima::{BootAggregate, ImaError, ImaList, ImaMismatch, MAX_IMA_LIST, Template};
use ratls::evidence::tpm::{Bank, PcrValue, PcrValues};

/// A record in the making.
#[derive(Clone)]
struct Record {
    name: &'static str,
    /// What is hashed; for `ima` not what is written.
    hashed: Vec<u8>,
    written: Vec<u8>,
    violation: bool,
}

fn field(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_le_bytes(), bytes].concat()
}

fn digest_ng(prefix: &str, digest: &[u8]) -> Vec<u8> {
    field(&[prefix.as_bytes(), b":\0", digest].concat())
}

fn path_ng(path: &str) -> Vec<u8> {
    field(&[path.as_bytes(), b"\0"].concat())
}

fn record(name: &'static str, fields: &[Vec<u8>]) -> Record {
    let data = fields.concat();
    Record { name, hashed: data.clone(), written: field(&data), violation: false }
}

fn ng(path: &str, content: &str) -> Record {
    record("ima-ng", &[digest_ng("sha256", sha256(&[content.as_bytes()]).as_bytes()), path_ng(path)])
}

fn old(path: &str) -> Record {
    let digest = [7; 20];
    let mut padded = path.as_bytes().to_vec();
    padded.resize(256, 0);
    let hashed = [&digest[..], &padded].concat();
    Record { name: "ima", hashed, written: [&digest[..], &field(path.as_bytes())].concat(), violation: false }
}

/// The binary list with template hashes of a length. What the hashes are of matters to nobody but to old kernels.
fn list(records: &[Record], hash_len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        let mut hash = sha256(&[&record.hashed]).as_bytes().to_vec();
        hash.resize(hash_len, 1);
        if record.violation {
            hash.fill(0);
        }
        bytes.extend(10u32.to_le_bytes());
        bytes.extend(hash);
        bytes.extend(field(record.name.as_bytes()));
        bytes.extend(&record.written);
    }
    bytes
}

fn pcr10(records: &[Record]) -> PcrValue {
    let bank = Bank::Sha256;
    records.iter().fold(PcrValue::filled(bank, 0), |value, record| {
        let hash = bank.hash(&[&record.hashed]);
        value.extended(if record.violation { &[0xFF; 32] } else { hash.as_bytes() })
    })
}

/// PCR 0 to 9 of a boot, and PCR 10.
fn quoted(boot: u8, pcr10: PcrValue) -> PcrValues {
    let boot: Vec<[u8; 32]> = (0..10).map(|pcr| *sha256(&[&[boot, pcr]]).as_bytes()).collect();
    let values = (0..).zip(boot.iter().map(|value| &value[..]));
    PcrValues::new(Bank::Sha256, values.chain([(10, pcr10.as_bytes())])).unwrap()
}

fn aggregate(boot: u8, registers: u8) -> Record {
    let values: Vec<u8> = (0..registers).flat_map(|pcr| *sha256(&[&[boot, pcr]]).as_bytes()).collect();
    record("ima-ng", &[digest_ng("sha256", sha256(&[&values]).as_bytes()), path_ng("boot_aggregate")])
}

/// Every template once, after the aggregate of boot 1.
fn good() -> Vec<Record> {
    let digest = [3; 32];
    vec![
        aggregate(1, 10),
        ng("/usr/lib/systemd/systemd", "init"),
        record("ima-sig", &[digest_ng("sha256", &digest), path_ng("/usr/bin/signed"), field(b"\x03\x02signature")]),
        record("ima-buf", &[digest_ng("sha256", &digest), path_ng("kexec-cmdline"), field(b"root=/dev/vda1 ro")]),
        record(
            "ima-modsig",
            &[digest_ng("sha512", &[4; 64]), path_ng("/usr/lib/modules/a.ko"), field(b""), field(b"d"), field(b"s")],
        ),
        record("ima-ngv2", &[digest_ng("verity:sha256", &digest), path_ng("/usr/bin/verity")]),
        record("ima-sigv2", &[digest_ng("ima:sha256", &digest), path_ng("/usr/bin/v2"), field(b"")]),
        old("/usr/bin/old"),
    ]
}

#[test]
fn every_template_is_read_and_the_whole_list_replays() {
    for hash_len in [20, 32, 48] {
        let list = ImaList::parse(&list(&good(), hash_len)).unwrap();
        let templates: Vec<_> = list.entries().iter().map(|entry| entry.template()).collect();
        use Template::{Ima, ImaBuf, ImaModsig, ImaNg, ImaNgV2, ImaSig, ImaSigV2};
        assert_eq!(templates, [ImaNg, ImaNg, ImaSig, ImaBuf, ImaModsig, ImaNgV2, ImaSigV2, Ima]);
        let paths: Vec<_> = list.entries().iter().map(|entry| entry.path()).collect();
        assert_eq!(paths[1..4], ["/usr/lib/systemd/systemd", "/usr/bin/signed", "kexec-cmdline"]);
        assert_eq!(list.entries()[3].extra(), b"root=/dev/vda1 ro");
        assert_eq!(list.entries()[5].file().unwrap().to_string(), format!("verity:sha256:{}", "03".repeat(32)));
        let quoted = quoted(1, pcr10(&good()));
        let prefix = list.replay(&quoted).unwrap();
        assert_eq!((prefix.entries().len(), prefix.boot_aggregate()), (8, &BootAggregate::Equal));
        assert_eq!(prefix.violations().count(), 0);
    }
}

#[test]
fn every_cut_is_refused_or_ends_between_records() {
    let bytes = list(&good(), 20);
    let whole = (1..bytes.len()).filter(|end| ImaList::parse(&bytes[..*end]).is_ok()).count();
    assert_eq!(whole, good().len() - 1);
}

#[test]
fn plat_n43_only_the_prefix_that_the_quote_confirms_counts() {
    let sent = ImaList::parse(&list(&good(), 20)).unwrap();
    for count in 1..good().len() {
        let quoted = quoted(1, pcr10(&good()[..count]));
        assert_eq!(sent.replay(&quoted).unwrap().entries().len(), count);
    }
    // A list that ends before what was extended.
    let short = ImaList::parse(&list(&good()[..7], 20)).unwrap();
    assert!(matches!(short.replay(&quoted(1, pcr10(&good()))), Err(ImaMismatch::NoPrefix { entries: 7, .. })));
    // One entry left out, one exchanged, two in another order.
    let mut changed = good();
    changed.remove(2);
    let mut exchanged = good();
    exchanged[1] = ng("/usr/lib/systemd/systemd", "another init");
    let mut moved = good();
    moved.swap(1, 2);
    for records in [changed, exchanged, moved] {
        let list = ImaList::parse(&list(&records, 20)).unwrap();
        assert!(matches!(list.replay(&quoted(1, pcr10(&good()))), Err(ImaMismatch::NoPrefix { .. })));
    }
    // A kernel that does not measure.
    let silent = quoted(1, PcrValue::filled(Bank::Sha256, 0));
    assert_eq!(sent.replay(&silent).unwrap().entries().len(), 0);
    assert_eq!(sent.replay(&silent).unwrap().boot_aggregate(), &BootAggregate::Absent);
    let uncovered = PcrValues::new(Bank::Sha256, [(9, &[0; 32][..])]).unwrap();
    assert_eq!(sent.replay(&uncovered), Err(ImaMismatch::NotQuoted));
}

#[test]
fn plat_n43_a_violation_is_extended_as_ones_and_told() {
    let mut records = good();
    records[3].violation = true;
    let list = ImaList::parse(&list(&records, 20)).unwrap();
    let quoted = quoted(1, pcr10(&records));
    let prefix = list.replay(&quoted).unwrap();
    let void: Vec<_> = prefix.violations().map(|entry| entry.number()).collect();
    assert_eq!((prefix.entries().len(), void), (8, vec![3]));
    // It cannot be passed off as a good measurement.
    let clean = ImaList::parse(&self::list(&good(), 20)).unwrap();
    assert!(matches!(clean.replay(&quoted), Err(ImaMismatch::NoPrefix { .. })));
}

#[test]
fn plat_n43_a_list_of_another_boot_is_told_by_its_first_entry() {
    let boot = |first: Record, boot: u8| {
        let mut records = good();
        records[0] = first;
        let quoted = quoted(boot, pcr10(&records));
        ImaList::parse(&list(&records, 20)).unwrap().replay(&quoted).unwrap().boot_aggregate().clone()
    };
    assert_eq!(boot(aggregate(1, 10), 1), BootAggregate::Equal);
    assert_eq!(boot(aggregate(1, 8), 1), BootAggregate::Equal, "a kernel that leaves out PCR 8 and 9");
    assert!(matches!(boot(aggregate(1, 10), 2), BootAggregate::Different { .. }));
    assert!(matches!(boot(aggregate(1, 9), 1), BootAggregate::Different { .. }));
    assert_eq!(boot(ng("/usr/bin/true", "true"), 1), BootAggregate::Absent);
    let sha1 = record("ima-ng", &[digest_ng("sha1", &[5; 20]), path_ng("boot_aggregate")]);
    assert_eq!(boot(sha1, 1), BootAggregate::OtherBank { algorithm: "sha1".to_owned() });
}

#[test]
fn padded_sha1_of_old_kernels_is_refused_by_name() {
    let bytes = list(&good(), 20);
    let parsed = ImaList::parse(&bytes).unwrap();
    let value = good().iter().fold(PcrValue::filled(Bank::Sha256, 0), |value, record| {
        let mut hash = sha256(&[&record.hashed]).as_bytes()[..20].to_vec();
        hash.resize(32, 0);
        value.extended(&hash)
    });
    assert_eq!(parsed.replay(&quoted(1, value)), Err(ImaMismatch::PaddedSha1));
}

#[test]
fn a_record_that_is_not_what_its_template_says_is_replayed_but_not_read() {
    let odd = [
        record("ima-ng", &[digest_ng("sha256", &[3; 32])]),
        record("ima-ng", &[digest_ng("sha256", &[3; 31]), path_ng("/a")]),
        record("ima-ng", &[digest_ng("crc32", &[3; 4]), path_ng("/a")]),
        record("ima-ng", &[digest_ng("ima:sha256", &[3; 32]), path_ng("/a")]),
        record("ima-ng", &[digest_ng("sha256", &[3; 32]), path_ng("/a"), field(b"more")]),
        record("ima-ng", &[digest_ng("sha256", &[3; 32]), field(b"/a")]),
        record("ima-ng", &[digest_ng("sha256", &[3; 32]), path_ng("/a\0b")]),
        record("d-ng|n-ng|evmsig", &[digest_ng("sha256", &[3; 32]), path_ng("/a")]),
    ];
    for odd in odd {
        let records = [aggregate(1, 10), odd];
        let list = ImaList::parse(&list(&records, 20)).unwrap();
        let entry = &list.entries()[1];
        assert_eq!((entry.template(), entry.file(), entry.path()), (Template::Other, None, ""));
        assert_eq!(list.replay(&quoted(1, pcr10(&records))).unwrap().entries().len(), 2);
    }
}

#[test]
fn a_list_at_the_limits_is_read_and_one_above_is_refused() {
    let mut bytes = list(&good(), 20);
    bytes.resize(MAX_IMA_LIST + 1, 0);
    assert_eq!(ImaList::parse(&bytes), Err(ImaError::TooLong { seen: MAX_IMA_LIST + 1 }));
    assert_eq!(ImaList::parse(&[0; 64]), Err(ImaError::Start));
    assert_eq!(ImaList::parse(&[]).unwrap().entries().len(), 0);

    let with_buffer = |length: usize| {
        let overhead = digest_ng("sha256", &[3; 32]).len() + path_ng("x").len() + 4;
        let fields = [digest_ng("sha256", &[3; 32]), path_ng("x"), field(&vec![0; length - overhead])];
        ImaList::parse(&list(&[record("ima-buf", &fields)], 20))
    };
    assert!(with_buffer(256 << 10).is_ok());
    assert!(matches!(with_buffer((256 << 10) + 1), Err(ImaError::Length { what: "data", .. })));
    let name = |length: usize| ImaList::parse(&list(&[old(&"x".repeat(length))], 20));
    assert!(name(255).is_ok());
    assert!(matches!(name(256), Err(ImaError::Length { what: "a name", seen: 256, .. })));

    let mut other = list(&good(), 20);
    other[0] = 11;
    assert_eq!(ImaList::parse(&other), Err(ImaError::Pcr { entry: 0, seen: 11 }));

    let short = list(&[record("ima-ng", &[field(b""), field(b"")])], 20);
    assert!(ImaList::parse(&short.repeat(160_000)).is_ok());
    assert_eq!(ImaList::parse(&short.repeat(160_001)), Err(ImaError::TooManyEntries));
}
