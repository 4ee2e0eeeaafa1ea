//! Findings: what can be wrong with evidence, and what is to be done about it?
//!
//! ```text
//! check      every check: its printed id, which stage makes it, what it does to the trust table, and its words
//!   report endorsement binding quote claims tpm event_log nitro files google azure identity policy    one family each
//! finding    what one check saw, how grave that is, and what was expected
//! ```
//!
//! Decides nothing. `verify` maps the variants of its errors to checks, `appraise` makes findings of them, and programs
//! compare [`Check`]s; ids are for people and for files.

pub mod check;
mod finding;

pub use check::{
    AzureCheck, BindingCheck, Check, CheckStage, ClaimsCheck, EndorsementCheck, EventLogCheck, FilesCheck, GoogleCheck,
    IdentityCheck, NitroCheck, PolicyCheck, QuoteCheck, ReportCheck, TableEffect, TpmCheck,
};
pub use finding::{Finding, Severity};
