//! Parsers of evidence: bytes to typed claims, and nothing about whether they are true.

pub mod snp;
pub mod tpm;
