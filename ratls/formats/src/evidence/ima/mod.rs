//! The list of the Linux Integrity Measurement Architecture: which files the kernel measured, in the order of extension into PCR 10.
//!
//! ```text
//! parse    bytes → ImaList                 Documentation/security/IMA-templates.rst; ima_measurements_show() in ima_fs.c
//! entry    one record: template, file digest, path, signature
//! replay   ImaList × quote → Prefix        the entries that the quoted PCR 10 confirms, and no other
//! ```
//!
//! The list grows while it is read, so the quote confirms some prefix of it. Within the prefix the template data of each entry is
//! bound: its hash was extended. What a list proves is narrow: these files were opened under the kernel's measuring policy. It does
//! not say that nothing else ran, and it is worth nothing where that policy is not known.

mod entry;
mod parse;
mod replay;

pub use entry::{FileDigest, ImaEntry, Template};
pub use parse::{ImaError, MAX_ENTRIES, MAX_IMA_LIST};
pub use replay::{BootAggregate, ImaMismatch, Prefix};

/// The register that IMA extends (CONFIG_IMA_MEASURE_PCR_IDX).
pub const IMA_PCR: u8 = 10;

/// A list that was read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImaList {
    entries: Vec<ImaEntry>,
    hash_len: usize,
}

impl ImaList {
    /// All entries sent, whether or not the quote confirms them.
    pub fn entries(&self) -> &[ImaEntry] {
        &self.entries
    }
}
