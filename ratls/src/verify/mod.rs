//! Verification: is the evidence authentic, as fresh as it says, and bound to what it says? No policy here.
//!
//! ```text
//! connection  one connection, one key, one bundle: the order of checks        --> VerifiedEvidence
//! report      one SNP report under its endorsements, at a time                --> VerifiedReport
//! ```

pub mod connection;
pub mod evidence;
pub mod report;

pub use connection::{Connection, VerifyError, verify_bundle, verify_connection, verify_key};
pub use evidence::{Channel, Freshness, VerifiedEvidence};
pub use report::{ReportRefusal, VerifiedReport, verify_report};
