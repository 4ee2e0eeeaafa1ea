//! Leaves: what of one connection (or key) enters the tree.
//!
//! `leaf = SHA-256(0x00 ‖ "EVIDENT-LEAF-v1\0" ‖ u8 type ‖ u8 role ‖ spki32 ‖ bind32)`, a preimage of exactly 83 bytes.
//! The type is load-bearing: without it, data of an application could imitate a channel.
//!
//! A [`ChannelLeaf`] for the batcher can only be made from an [`ExporterSecret`]; there is no way to hand the batcher a
//! hash or bytes that somebody else chose:
//!
//! ```compile_fail
//! let hash = ratls::binding::LeafHash::from_bytes([0; 32]);
//! let leaf: ratls::binding::ChannelLeaf = hash.into();
//! ```
//! ```compile_fail
//! let leaf = ratls::binding::ChannelLeaf { hash: ratls::binding::LeafHash::from_bytes([0; 32]) };
//! ```

use crate::binding::bind32::Bind32;
use crate::binding::exporter::ExporterSecret;
use crate::crypto::sha256;
use crate::digest::bytes_type;

bytes_type!(
    /// SHA-256 of a DER SubjectPublicKeyInfo.
    SpkiDigest, 32);
bytes_type!(
    /// Hash of a leaf as it stands in the tree.
    LeafHash, 32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LeafType {
    /// A connection, at its beginning.
    ChannelInitial = 1,
    /// A connection that was challenged again.
    ChannelReattest = 2,
    /// A TLS key (cert mode).
    Key = 3,
    /// Data of a local application.
    AppData = 4,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    None = 0,
    Server = 1,
    Client = 2,
}

const LEAF_PREFIX: &[u8] = b"\x00EVIDENT-LEAF-v1\0";

/// The leaf as the verifier recomputes it.
pub fn leaf_hash(kind: LeafType, role: Role, spki: &SpkiDigest, bind: &Bind32) -> LeafHash {
    let tail = [kind as u8, role as u8];
    LeafHash::from_bytes(*sha256(&[LEAF_PREFIX, &tail, spki.as_bytes(), bind.as_bytes()]).as_bytes())
}

/// The leaf of a live connection of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelLeaf {
    hash: LeafHash,
}

impl ChannelLeaf {
    /// Type 1, from the connection's own exporter. `spki` is the digest of the certificate shown on this connection.
    pub fn initial(role: Role, spki: &SpkiDigest, exporter: &ExporterSecret) -> Self {
        ChannelLeaf { hash: leaf_hash(LeafType::ChannelInitial, role, spki, &exporter.bind_initial()) }
    }
    pub fn hash(&self) -> LeafHash {
        self.hash
    }
}

/// The leaf of a TLS key, for the evidence-bearing certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLeaf {
    hash: LeafHash,
}

impl KeyLeaf {
    pub fn new(spki: &SpkiDigest) -> Self {
        KeyLeaf { hash: leaf_hash(LeafType::Key, Role::Server, spki, &Bind32::ZERO) }
    }
    pub fn hash(&self) -> LeafHash {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_changes_the_leaf() {
        let (spki, bind) = (SpkiDigest::from_bytes([1; 32]), Bind32::from_exporter([2; 32]));
        let leaf = leaf_hash(LeafType::ChannelInitial, Role::Server, &spki, &bind);
        assert_ne!(leaf, leaf_hash(LeafType::ChannelReattest, Role::Server, &spki, &bind));
        assert_ne!(leaf, leaf_hash(LeafType::ChannelInitial, Role::Client, &spki, &bind));
        assert_ne!(leaf, leaf_hash(LeafType::ChannelInitial, Role::Server, &SpkiDigest::from_bytes([9; 32]), &bind));
        assert_ne!(leaf, leaf_hash(LeafType::ChannelInitial, Role::Server, &spki, &Bind32::from_exporter([9; 32])));
        let mut preimage = b"\x00EVIDENT-LEAF-v1\0\x01\x01".to_vec();
        preimage.extend([1; 32]);
        preimage.extend([2; 32]);
        assert_eq!(preimage.len(), 83);
        assert_eq!(leaf.as_bytes(), sha256(&[&preimage]).as_bytes());
    }
}
