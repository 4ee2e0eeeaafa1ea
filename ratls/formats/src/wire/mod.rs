//! The wire of `evident/1`: frames, their bodies and every limit. The normative text is docs/protocol.md and
//! docs/protocol.cddl; docs/vectors holds examples, which the tests of this module read.

pub mod attest;
pub mod cbor;
pub mod control;
pub mod credential;
pub mod frame;
pub mod limits;
pub mod parts;
pub mod svsm;

/// The ALPN protocol name.
pub const ALPN: &[u8] = b"evident/1";
