//! Parsers of evidence: bytes to typed claims, and nothing about whether they are true.

pub mod event_log;
pub mod hcl;
pub mod ima;
pub mod json;
pub mod snp;
pub mod svsm;
pub mod tpm;
