#![doc = include_str!("../README.md")]

pub use ::appraise;
pub use ::findings;
pub use ::verify;
pub use appraise::policy;
pub use formats::{binding, bytes, crypto, digest, evidence, guid, tcb, text, time, wire};
pub use measure::{launch, measured_boot, reference};
pub use verify::{advisories, bundle, cert, endorsement};
