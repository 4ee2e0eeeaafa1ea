//! Signature schemes by their TPM_ALG_ID (TCG Algorithm Registry, revision 1.34, table 3).

pub(super) const RSASSA: u16 = 0x0014;
pub(super) const RSAPSS: u16 = 0x0016;
pub(super) const ECDSA: u16 = 0x0018;
