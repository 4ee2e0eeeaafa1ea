//! What an emulated machine measured while it booted: into a TPM, and into the logs that say what the numbers mean.
//!
//! ```text
//!   guest  what boots: firmware, boot loader, kernel, command line ─▶ events ─▶ log: binary_bios_measurements, and PCRs
//!   ima    what was opened since                                                    binary_runtime_measurements, and PCR 10
//!   pe     a unified kernel image as a file
//! ```
//!
//! The content is made up and plausible: names and structures are those of the machines, the measured bytes are short texts. The
//! parsers that read it are those of `ratls`, which share nothing with it.

pub mod event;
pub mod guest;
pub mod ima;
pub mod log;
pub mod pe;

pub use guest::{Firmware, Guest, Loader};
pub use log::Log;
