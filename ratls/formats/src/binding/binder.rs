//! B, the 64 bytes that go into REPORT_DATA, and Q, the 32 bytes of qualifying data of a quote over that report.

use crate::crypto::{sha256, sha384, sha512};
use crate::digest::{Sha256Digest, bytes_type};

bytes_type!(
    /// `B = SHA-512("EVIDENT-B-v1\0" ‖ statement as sent)`. Contains no client nonce: the exporter is the freshness.
    Binder, 64);

const BINDER_TAG: &[u8] = b"EVIDENT-B-v1\0";
const QUOTE_TAG: &[u8] = b"EVIDENT-TPM\0";

/// B over the statement's bytes exactly as they were or will be sent.
pub fn binder(statement: &[u8]) -> Binder {
    Binder::from_bytes(*sha512(&[BINDER_TAG, statement]).as_bytes())
}

/// `Q = SHA-256("EVIDENT-TPM\0" ‖ B ‖ SHA-384(hardware report as received))`: report first, quote second.
pub fn quote_binder(b: &Binder, hardware_report: &[u8]) -> Sha256Digest {
    sha256(&[QUOTE_TAG, b.as_bytes(), sha384(&[hardware_report]).as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b_is_tagged() {
        assert_eq!(binder(b"x").as_bytes(), crate::crypto::sha512(&[b"EVIDENT-B-v1\0x"]).as_bytes());
        assert_ne!(binder(b"x").as_bytes(), crate::crypto::sha512(&[b"x"]).as_bytes());
    }
}
