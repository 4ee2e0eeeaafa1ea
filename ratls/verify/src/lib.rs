//! Verification: is the evidence authentic, as fresh as it says, and bound to what it says? No policy here.
//!
//! ```text
//! connection  one connection, one key, one bundle: the order of checks        --> VerifiedEvidence
//! snp azure gcp aws svsm   what each platform's pieces are, and how they hang together
//! report      one SNP report under its endorsements, at a time                --> VerifiedReport
//! quote       one TPM quote by an AK, over registers                          --> VerifiedQuote
//! tpm         the quote that answers this connection, and who vouches         --> VerifiedTpm
//! parts       logs, lists and endorsements beside an ATTEST                   --> VerifiedParts
//! given       pieces of evidence as they lie in files
//! files       what holds between them                                         --> VerifiedFiles
//! account     what became of each of them                                     --> PieceAccount
//! channel     what evidence hangs on, and when it was signed
//! error       why it is not authentic, not fresh or not bound                 --> VerifyError
//! credential  the round trip that proves an AK beside an EK                   --> CredentialProof
//! endorsement pinned roots, chains, VEK extensions, revocation lists, the host's certificate table
//! bundle      evidence of one connection in a file
//! cert        the two leaf certificates, id-pe-cmw
//! ```

#![warn(clippy::unwrap_used)]

mod account;
pub mod advisories;
mod aws;
mod azure;
pub mod bundle;
pub mod cert;
mod channel;
pub mod connection;
pub mod credential;
pub mod endorsement;
mod error;
pub mod evidence;
pub mod files;
mod format_checks;
mod gcp;
mod given;
pub mod link;
pub mod parts;
mod pieces;
pub mod quote;
pub mod report;
mod snp;
mod svsm;
pub mod tpm;

pub use account::{PieceAccount, PieceFate, PieceKind};
pub use channel::{Channel, Freshness};
pub use connection::{Connection, verify_bundle, verify_connection, verify_key};
pub use credential::{CredentialError, CredentialProof, Question};
pub use error::VerifyError;
pub use evidence::VerifiedEvidence;
pub use files::{VerifiedFiles, VerifiedPieces, verify_files};
pub use format_checks::ima_mismatch;
pub use given::{AkFile, Files, QuoteFiles, SvsmFiles};
pub use link::{Link, Root};
pub use parts::{Part, PartRefusal, VerifiedParts};
pub use quote::{QuoteError, VerifiedQuote, verify_quote};
pub use report::{ReportRefusal, VerifiedReport, verify_report};
pub use tpm::{AkProof, Registers, TpmError, TpmKind, VerifiedTpm, Witness};
