//! Measurement: what should these values be, and what do they say was booted?
//!
//! ```text
//! launch         the launch digest from firmware, kernel, initrd, command line and machine
//! reference      artifacts that the verifier holds --> the expected register value, and the proof for it
//! measured_boot  an event log --> what was booted, as named facts; the difference between two boots
//! ```
//!
//! Assumes nothing about who supplied the artifacts or the log. Whether a register really holds a value is the
//! `verify` crate's question; whether that value is acceptable is the `appraise` crate's.

#![warn(clippy::unwrap_used)]

pub mod launch;
pub mod measured_boot;
pub mod reference;
