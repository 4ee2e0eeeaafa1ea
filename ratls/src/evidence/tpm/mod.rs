//! Structures of a TPM 2.0 (TCG TPM 2.0 Library, Part 2): bytes to typed claims.

pub mod pcr;

pub use pcr::{Bank, PcrValue, PcrValues};
