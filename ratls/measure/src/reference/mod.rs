//! Reference values that stand for more than a digest: recomputed from files in hand, and rebuilt from source.
//!
//! ```text
//! artefacts + recipe --> Expected --(equals what was measured)--> BinaryProof --(each file rebuilt)--> SourceProof
//! ```
//!
//! A level of 3 or 4 needs one of these proofs, and only the functions of this folder make what they are made of.

mod authenticode;
mod boot;
mod dsse;
mod grub;
mod launch;
mod proof;
mod rebuild;
mod uki;
mod verity;

pub use authenticode::{PeError, PeImage};
pub use boot::BootReference;
pub use dsse::{Envelope, EnvelopeError, KeyError, MAX_ENVELOPE_BYTES, TrustedKey};
pub use grub::{GrubBoot, ScriptError, commands as grub_commands};
pub use launch::{CmdlineError, LaunchFound, LaunchNames, LaunchReference, Standing, Userspace, cmdline_value};
pub use proof::{Artefact, BinaryProof, Expected, NotRebuilt, Part, Rebuild, SourceProof};
pub use rebuild::{RebuildError, Rebuilder, Rebuilders, own_build};
pub use uki::Unified;
pub use verity::{SUPERBLOCK_BYTES, VerityError, VerityFormat, VerityHasher, VerityRoot};

#[cfg(any(test, feature = "test-support"))]
#[doc(hidden)]
pub use proof::test_support;
