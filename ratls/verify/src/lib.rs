//! Verification: is the evidence authentic, as fresh as it says, and bound to what it says? No policy here.
//!
//! ```text
//! connection  one connection, one key, one bundle: the order of checks        --> VerifiedEvidence
//! snp azure gcp aws svsm   what each platform's pieces are, and how they hang together
//! report      one SNP report under its endorsements, at a time                --> VerifiedReport
//! quote       one TPM quote by an AK, over registers                          --> VerifiedQuote
//! tpm         the quote that answers this connection, and who vouches         --> VerifiedTpm
//! parts       logs, lists and endorsements beside an ATTEST                   --> VerifiedParts
//! files       pieces of evidence in files, and what holds between them        --> VerifiedFiles
//! credential  the round trip that proves an AK beside an EK                   --> CredentialProof
//! endorsement pinned roots, chains, VEK extensions, revocation lists, the host's certificate table
//! bundle      evidence of one connection in a file
//! cert        the two leaf certificates, id-pe-cmw
//! ```

#![warn(clippy::unwrap_used)]

pub mod advisories;
mod aws;
mod azure;
pub mod bundle;
pub mod cert;
pub mod connection;
pub mod credential;
pub mod endorsement;
pub mod evidence;
pub mod files;
mod format_checks;
mod gcp;
pub mod link;
pub mod parts;
mod pieces;
pub mod quote;
pub mod report;
mod snp;
mod svsm;
pub mod tpm;

pub use connection::{Connection, VerifyError, verify_bundle, verify_connection, verify_key};
pub use credential::{CredentialError, CredentialProof, Question};
pub use evidence::{Channel, Freshness, VerifiedEvidence};
pub use files::{AkFile, Files, QuoteFiles, SvsmFiles, VerifiedFiles, VerifiedPieces, verify_files};
pub use format_checks::ima_mismatch;
pub use link::{Link, Root};
pub use parts::{Part, PartRefusal, VerifiedParts};
pub use quote::{QuoteError, VerifiedQuote, verify_quote};
pub use report::{ReportRefusal, VerifiedReport, verify_report};
pub use tpm::{AkProof, Registers, TpmError, TpmKind, VerifiedTpm, Witness};
