//! Formats: what do these bytes say?
//!
//! Parsers and encoders for everything that EVIDENT sends, receives, signs or reads. Nothing here decides whether a
//! claim is true: that is the `verify` crate's question.
//!
//! ```text
//! evidence   what hardware signed: SNP reports, TPM structures, HCL blobs, Nitro documents, event logs, IMA lists
//! binding    exporter, bind32, leaf, Merkle tree, statement, binder: written once, used by both ends
//! wire       CBOR, frames, ATTEST, OPEN to CLOSE, parts, and every limit as a named constant
//! tcb        TCB versions, which carry their layout and have no order across layouts
//! crypto     the only module that names a crypto library, with two backends
//! text       text that somebody else wrote, made safe to show
//! bytes · digest · guid · time
//! ```

#![warn(clippy::unwrap_used)]

pub mod binding;
pub mod bytes;
pub mod crypto;
pub mod digest;
pub mod evidence;
pub mod guid;
pub mod tcb;
pub mod text;
pub mod time;
pub mod wire;
