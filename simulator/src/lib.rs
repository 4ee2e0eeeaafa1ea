//! A software AMD-SP with roots of its own. **SIMULATED, PROVES NOTHING.**
//!
//! ```text
//!   pki      ARK ─┬─ ASK  ── VCEK      certificates and CRL of AMD's shape, RSA-PSS and P-384
//!                 └─ ASVK ── VLEK      (`leaf`, `x509` and `der` build them, `store` keeps them)
//!   amd_sp   Config → SimulatedAmdSp → reports of 1184 bytes, signed by the VCEK or VLEK
//!   device   the same as a report device of the crate `attester`
//!   controls latency, throttle, gate and failures of that device, while somebody else owns it
//!   rebuild  somebody who signs that files came out of a source
//!
//!   machine  a whole machine of a cloud around it:
//!     tpm      swtpm behind a front           boot      what it measured, and the logs
//!     cloud    what each cloud provisions     configfs  the look-alike of configfs-tsm
//! ```
//!
//! The verifier runs unchanged over what this crate signs; that an ordinary chain ends in a root which only the user's policy
//! can name is the whole difference. So nothing here shares code with the verifier: layouts are written a second time,
//! from the same documents. No release build holds this crate.

#![warn(clippy::unwrap_used)]
#![forbid(unsafe_code)]

pub mod amd_sp;
pub mod boot;
mod cbor;
mod certificate;
pub mod cloud;
pub mod configfs;
pub mod controls;
mod der;
mod device;
mod leaf;
pub mod machine;
mod pem;
pub mod pki;
pub mod rebuild;
mod store;
pub mod tpm;
mod x509;

pub use amd_sp::{Config, SimulatedAmdSp, Tcb, Vek};
pub use controls::{Controls, DeviceError, Failure};
pub use leaf::{Extension, LeafTemplate};
pub use machine::{Cloud, Machine};
pub use pki::{Pki, RsaSize};
pub use store::{ROOT_FILE, StoreError};
pub use x509::{Authority, Validity};

/// What every line that a person sees says.
pub const NOTICE: &str = "SIMULATED, PROVES NOTHING";
