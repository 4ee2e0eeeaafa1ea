//! The guest's side of attestation: report devices, the endorsements of their signatures, and the batcher.
//!
//! ```text
//!  TLS driver ── ChannelLeaf ──▶ batcher ── one request per batch ──▶ Platform ──▶ ReportDevice   configfs-tsm, /dev/sev-guest, simulator
//!                    ▲               │
//!                    └── Attestation ┘          endorse ◀── certificate table, else kds ──▶ AMD's KDS
//! ```
//!
//! Nothing here decides what is trusted: reports and certificates are verified by `ratls`, whoever brought them.

#![warn(clippy::unwrap_used)]

pub mod batcher;
pub mod choose;
pub mod configfs;
pub mod detect;
pub mod device;
pub mod endorse;
pub mod imds;
pub mod issuers;
pub mod kds;
pub mod logs;
pub mod platform;
pub mod sev_guest;
pub mod tpm;

pub use batcher::{AttestError, AttestHandle, Attestation, BatchEvidence, Batcher};
pub use device::{DeviceError, DeviceReport, Pace, ReportDevice};
pub use endorse::{EndorseError, Endorsed, Endorser, Standing};
pub use kds::Kds;
pub use platform::{PlainSnp, Platform};
