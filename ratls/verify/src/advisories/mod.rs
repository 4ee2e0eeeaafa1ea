//! Advisories: which published vulnerabilities of this machine are known to be fixed, open, or beyond any report.
//!
//! The table is data with a date. Nothing here decides whether a guest is accepted: that is the policy's.
//!
//! ```text
//! table   the dated text, read strictly                     --> AdvisoryTable
//! line    family, model, stepping                           --> ProcessorLine
//! judge   table x report                                    --> a verdict per advisory
//! ```

mod judge;
mod line;
mod table;

pub use judge::{AdvisoryVerdict, JudgedAdvisory, OpenReason};
pub use line::ProcessorLine;
pub use table::{Advisory, AdvisoryRow, AdvisoryTable, AdvisoryTableError, MAX_TABLE_BYTES, TableDate};

/// A table older than this is no longer evidence of the absence of anything. About one bulletin appears a month.
pub const MAX_AGE_DAYS: u64 = 90;
