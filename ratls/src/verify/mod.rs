//! Verification: is the evidence authentic, as fresh as it says, and bound to what it says? No policy here.
//!
//! ```text
//! connection  one connection, one key, one bundle: the order of checks        --> VerifiedEvidence
//! link        how something hangs on a root of trust                          --> Link
//! report      one SNP report under its endorsements, at a time                --> VerifiedReport
//! quote       one TPM quote by an AK, over registers                         --> VerifiedQuote
//! ```

pub mod connection;
pub mod evidence;
pub mod link;
pub mod quote;
pub mod report;

pub use connection::{Connection, VerifyError, verify_bundle, verify_connection, verify_key};
pub use evidence::{Channel, Freshness, VerifiedEvidence};
pub use link::{Link, Root};
pub use quote::{QuoteError, VerifiedQuote, verify_quote};
pub use report::{ReportRefusal, VerifiedReport, verify_report};
