//! A TPM 2.0 in software for each emulated cloud: swtpm, provisioned, behind a front that answers what swtpm cannot.
//!
//! ```text
//!   the guest's TPM code ──▶ front (unix socket) ──▶ swtpm (unix socket)
//!                              └─ Stand: answers some commands itself (HCL report, Nitro document)
//! ```
//!
//! [`command`] writes and reads TPM commands for provisioning. It is no client for anybody's product: the code that a guest runs is
//! that of the crate `attester`, which shares nothing with it.

pub mod command;
pub mod front;
pub mod objects;
pub mod swtpm;
pub mod virtual_nv;

pub use command::{Channel, Command, TpmError};
pub use front::{Front, Passed, Stand};
pub use swtpm::Swtpm;
