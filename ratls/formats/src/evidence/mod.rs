//! Parsers of evidence: bytes to typed claims, and nothing about whether they are true.

mod cbor;
pub mod event_log;
pub mod gce_endorsement;
pub mod hcl;
pub mod ima;
pub mod json;
pub mod nitro;
mod protobuf;
pub mod snp;
pub mod svsm;
pub mod tpm;
