//! Larger evidence that clients fetch by its digest: hashed once, shared by everybody who asks.

use ratls::crypto::sha256;
use ratls::wire::attest::PartInfo;
use ratls::wire::limits::MAX_PART_TOTAL;
use std::fmt;
use std::sync::Arc;

/// Bytes and what ATTEST says of them.
#[derive(Clone)]
pub struct Part {
    info: PartInfo,
    bytes: Arc<[u8]>,
}

impl Part {
    /// `None` for what the wire cannot carry: no bytes at all, or more than [`MAX_PART_TOTAL`].
    pub fn new(name: &str, media_type: &str, bytes: impl Into<Arc<[u8]>>) -> Option<Self> {
        let bytes = bytes.into();
        let length = u32::try_from(bytes.len()).ok()?;
        if bytes.is_empty() || bytes.len() > MAX_PART_TOTAL {
            return None;
        }
        let info = PartInfo { name: name.into(), digest: sha256(&[&bytes]), length, media_type: media_type.into() };
        Some(Part { info, bytes })
    }

    pub fn info(&self) -> &PartInfo {
        &self.info
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Part({}, {} bytes)", self.info.name, self.info.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_the_wire_can_carry_and_nothing_else() {
        let whole = Part::new("event-log", "m", vec![7; MAX_PART_TOTAL]).unwrap();
        assert_eq!(whole.info().length, 1 << 20);
        assert_eq!(whole.info().digest, sha256(&[whole.bytes()]));
        assert!(Part::new("event-log", "m", vec![7; MAX_PART_TOTAL + 1]).is_none());
        assert!(Part::new("event-log", "m", vec![]).is_none());
    }
}
