//! Which entries the quoted PCR 10 confirms, and whether they belong to the boot that the other registers tell of.

use super::entry::ImaEntry;
use super::{IMA_PCR, ImaList};
use crate::evidence::tpm::{Bank, PcrValue, PcrValues};

/// The entries that replay to the quoted PCR 10.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix<'a> {
    entries: &'a [ImaEntry],
    boot: BootAggregate,
}

/// The first entry, which ties the list to the registers that the firmware filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootAggregate {
    /// It is the hash of the quoted registers.
    Equal,
    /// It is that of another boot.
    Different { seen: String },
    /// It is over a bank that was not quoted, so it says nothing.
    OtherBank { algorithm: String },
    /// The quote has not all of PCR 0 to 9.
    NotQuoted,
    /// The first entry is something else.
    Absent,
}

/// Why no prefix of a list is what the quote speaks of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImaMismatch {
    #[error("the quote does not cover PCR {IMA_PCR}")]
    NotQuoted,
    #[error("PCR {IMA_PCR} is {quoted}, and no prefix of the {entries} entries of the IMA list replays to it")]
    NoPrefix { quoted: PcrValue, entries: usize },
    /// The kernel is older than 5.8: it extended SHA-1 digests, with zeros behind them, into every bank. So the data of such
    /// a list hangs on SHA-1 alone, for which two files can be made with one hash.
    #[error("the kernel extends SHA-1 digests padded with zeros into PCR {IMA_PCR}, as kernels before 5.8 do")]
    PaddedSha1,
}

impl<'a> Prefix<'a> {
    pub fn entries(&self) -> &'a [ImaEntry] {
        self.entries
    }
    pub fn boot_aggregate(&self) -> &BootAggregate {
        &self.boot
    }
    /// Entries whose measurement is void.
    pub fn violations(&self) -> impl Iterator<Item = &'a ImaEntry> {
        self.entries.iter().filter(|entry| entry.is_violation())
    }
}

impl ImaList {
    /// Finds the prefix that the quote confirms: the longest, if PCR 10 could come back to a value. No entries at all are a
    /// prefix too, for a kernel that does not measure.
    pub fn replay(&self, quoted: &PcrValues) -> Result<Prefix<'_>, ImaMismatch> {
        let bank = quoted.bank();
        let wanted = quoted.value(IMA_PCR).ok_or(ImaMismatch::NotQuoted)?;
        let by_hash = |entry: &ImaEntry| bank.hash(&[&entry.hashed]);
        match longest(&self.entries, wanted, by_hash) {
            Some(count) => {
                let entries = self.entries.get(..count).unwrap_or_default();
                Ok(Prefix { entries, boot: boot_aggregate(entries.first(), quoted) })
            }
            None if self.hash_len == 20 && longest(&self.entries, wanted, |e| padded(bank, e)).is_some() => {
                Err(ImaMismatch::PaddedSha1)
            }
            None => Err(ImaMismatch::NoPrefix { quoted: *wanted, entries: self.entries.len() }),
        }
    }
}

fn longest(entries: &[ImaEntry], wanted: &PcrValue, hash: impl Fn(&ImaEntry) -> PcrValue) -> Option<usize> {
    let bank = wanted.bank();
    let mut value = PcrValue::filled(bank, 0);
    let mut found = (value == *wanted).then_some(0);
    for (count, entry) in (1..).zip(entries) {
        let digest = if entry.violation { PcrValue::filled(bank, 0xFF) } else { hash(entry) };
        value = value.extended(digest.as_bytes());
        if value == *wanted {
            found = Some(count);
        }
    }
    found
}

fn padded(bank: Bank, entry: &ImaEntry) -> PcrValue {
    let mut bytes = entry.template_hash.to_vec();
    bytes.resize(bank.size(), 0);
    PcrValue::new(bank, &bytes).expect("as long as the bank's values are")
}

/// ima_calc_boot_aggregate(): H over the values of PCR 0 to 9 of one bank. Older kernels leave PCR 8 and 9 out; what they say is
/// accepted, since those registers are judged by themselves.
fn boot_aggregate(first: Option<&ImaEntry>, quoted: &PcrValues) -> BootAggregate {
    let Some(first) = first.filter(|entry| entry.path == "boot_aggregate" && !entry.violation) else {
        return BootAggregate::Absent;
    };
    let Some(file) = first.file() else { return BootAggregate::Absent };
    if file.algorithm != quoted.bank().as_str() {
        return BootAggregate::OtherBank { algorithm: file.algorithm.clone() };
    }
    let values: Option<Vec<&[u8]>> = (0..10).map(|pcr| quoted.value(pcr).map(PcrValue::as_bytes)).collect();
    let Some(values) = values else { return BootAggregate::NotQuoted };
    let equals = |values: &[&[u8]]| quoted.bank().hash(values).as_bytes() == &*file.digest;
    if equals(&values) || equals(values.get(..8).unwrap_or_default()) {
        BootAggregate::Equal
    } else {
        BootAggregate::Different { seen: hex::encode(&file.digest) }
    }
}
