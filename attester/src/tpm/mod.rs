//! A TPM 2.0, as far as attestation needs one: a dozen commands, written and read as bytes.
//!
//! ```text
//!   platform ──▶ queue (a thread; quotes before credentials) ──▶ commands ──▶ link   /dev/tpmrm0, /dev/tpm0, swtpm's sockets
//!                                                                  └─ code: what a response code means, and what is worth waiting for
//! ```
//!
//! The commands are written here and not by a library, because a quote has to be passed on exactly as it was signed, NitroTPM's vendor
//! command belongs to no library, and a guest should need nothing installed (layouts: TCG TPM 2.0 Library, parts 1 to 3, revision
//! 1.59). Authorisations are empty passwords and one policy; no secret of ours is kept in the TPM, and what it answers is judged by
//! `ratls`.

mod code;
mod commands;
mod frame;
mod link;
mod queue;
mod quote;

pub use code::Code;
pub(crate) use commands::NvAccess;
pub use commands::{Hierarchy, NvIndex, Patience, Tpm};
pub use link::{Address, AddressError, Link};
pub use queue::{QueueFull, TpmQueue};
pub use quote::{AkSource, Quote};

use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Why the TPM did not do what it was asked. `Clone`, because everybody who waited for the batch is told.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TpmError {
    /// There is no such device.
    #[error("there is no TPM at {address}")]
    Absent { address: String },
    /// This user may not use it.
    #[error(
        "permission to use the TPM at {address} is denied: give this user's group the device, as the udev rule in systemd/ does"
    )]
    Denied { address: String },
    /// The device or the socket failed.
    #[error("the TPM at {address} cannot be used: {error}")]
    Io { address: String, error: Arc<io::Error> },
    /// It was busy for as long as we wait, by its own word.
    #[error("the TPM is busy ({code}); ask again in {} ms", retry_after.as_millis())]
    Busy { code: Code, retry_after: Duration },
    /// It did not answer at all.
    #[error("the TPM did not answer within {} s", waited.as_secs())]
    TimedOut { waited: Duration },
    /// Somebody gave wrong passwords. Only time or the owner helps.
    #[error(
        "the TPM is in dictionary-attack lockout: it refuses authorisations until its lockout time has passed, or until the owner resets it \
         (tpm2_dictionarylockout --clear-lockout)"
    )]
    Lockout,
    /// Any other response code.
    #[error("the TPM refused {command}: {code}")]
    Code { command: &'static str, code: Code },
    /// Not a response to what was asked.
    #[error("the TPM's answer to {command} is malformed")]
    Malformed { command: &'static str },
    /// An index that this platform has is not there.
    #[error("the TPM has no NV index {index:#010x} ({what})")]
    NoIndex { index: u32, what: &'static str },
    /// It is there and is something else.
    #[error("NV index {index:#010x} ({what}) has {seen} bytes, wanted {wanted}")]
    IndexSize { index: u32, what: &'static str, seen: usize, wanted: usize },
    /// A key that this platform has is not there.
    #[error("the TPM has no key {handle:#010x} ({what})")]
    NoKey { handle: u32, what: &'static str },
    /// PCRs changed during each of so many quotes.
    #[error("the PCRs changed during each of {attempts} quotes")]
    PcrsMove { attempts: u32 },
    /// The thread has ended.
    #[error("the TPM's thread has ended")]
    Ended,
}
