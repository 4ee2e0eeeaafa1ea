//! bind32: the 32 bytes of a connection's exporter that a leaf commits to (docs/protocol.md, "Binding").

use crate::crypto::constant_time_eq;

/// A value that only the two ends of one connection can compute. Not printable: it may stand in bundles and audit lines,
/// nowhere else.
#[derive(Clone, Copy)]
pub struct Bind32([u8; 32]);

impl Bind32 {
    /// What the exporter of the connection gave, on either end.
    pub const fn from_exporter(bytes: [u8; 32]) -> Self {
        Bind32(bytes)
    }
    /// bind32 of a key leaf.
    pub const ZERO: Bind32 = Bind32([0; 32]);
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Bind32 {
    fn eq(&self, other: &Self) -> bool {
        constant_time_eq(&self.0, &other.0)
    }
}
