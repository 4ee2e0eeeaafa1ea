//! How one TLS connection gets into what the hardware signs (docs/protocol.md, "Binding").
//!
//! ```text
//! exporter secret --> bind32 --> leaf --> Merkle root --> statement --> B --> REPORT_DATA
//! ```
//!
//! Written once and used by both sides: the guest walks it from left to right, the verifier recomputes it and compares
//! with the bytes that the hardware signed. Even a batch of one connection goes through all of it.

mod bind32;
pub mod binder;
pub mod exporter;
pub mod leaf;
pub mod merkle;
pub mod statement;

pub use bind32::Bind32;
pub use binder::{Binder, binder, quote_binder};
pub use exporter::ExporterSecret;
pub use leaf::{ChannelLeaf, KeyLeaf, LeafHash, LeafType, Role, SpkiDigest};
pub use merkle::{MAX_LEAVES, Root, Sibling, Tree};
pub use statement::{Profile, Purpose, Statement, StatementError, UpstreamScope};
