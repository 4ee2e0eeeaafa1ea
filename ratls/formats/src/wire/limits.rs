//! Every limit of the wire, as a named constant (docs/protocol.md, "Limits"). 1 KiB is 1,024 bytes.

/// Length of `u8 type ‖ u24 length`.
pub const FRAME_HEADER: usize = 4;
/// Largest body of any frame without a smaller limit of its own.
pub const MAX_FRAME_BODY: usize = 65_536;
/// Largest body of ATTEST: 48 KiB.
pub const MAX_ATTEST: usize = 49_152;
/// Largest body of DATA, so that header and body are 65,536 bytes.
pub const MAX_DATA: usize = 65_532;
/// Digest, total and offset in front of the bytes of a PART.
pub const PART_HEADER: usize = 40;
/// Most bytes carried by one PART.
pub const MAX_PART_BYTES: usize = 65_496;
/// Most bytes of all parts of one connection: 4 MiB.
pub const MAX_PARTS_TOTAL: usize = 4 << 20;
/// Most bytes of one part (an event log): 1 MiB.
pub const MAX_PART_TOTAL: usize = 1 << 20;
/// Most digests in one WANT.
pub const MAX_WANT: usize = 16;
/// Longest Merkle path: log2 of the 65,536 leaves of the largest tree.
pub const MAX_PATH: usize = 16;
/// Largest statement: 2 KiB.
pub const MAX_STATEMENT: usize = 2_048;
/// Most stapled endorsements.
pub const MAX_ENDORSEMENTS: usize = 8;
/// Largest certificate among them: 4 KiB.
pub const MAX_CERTIFICATE: usize = 4_096;
/// Largest CRL among them: 16 KiB.
pub const MAX_CRL: usize = 16_384;
/// Most pieces of hardware evidence, and the largest of them (a Nitro document).
pub const MAX_HARDWARE: usize = 4;
pub const MAX_HARDWARE_BYTES: usize = 16_384;
/// Report and largest manifest of an SVSM.
pub const MAX_SVSM_REPORT: usize = 1_184;
pub const MAX_SVSM_MANIFEST: usize = 8_192;
/// Largest TPMS_ATTEST, TPMT_SIGNATURE and TPMT_PUBLIC; an RSA-4096 signature has 518 bytes.
pub const MAX_TPM_STRUCTURE: usize = 1_024;
/// PCRs of a TPM, and the longest value (SHA-384).
pub const MAX_PCRS: usize = 24;
pub const MAX_PCR_VALUE: usize = 48;
/// Largest credential and encrypted secret of CRED: an RSA-4096 ciphertext has 512 bytes.
pub const MAX_CREDENTIAL: usize = 640;
/// Most names that a guest claims, and the longest of them (a DNS name).
pub const MAX_NAMES: usize = 8;
pub const MAX_NAME: usize = 253;
/// Most logs and listed parts.
pub const MAX_LOGS: usize = 8;
/// Longest text of CLOSE and REFUSE.
pub const MAX_TEXT: usize = 200;
/// Longest media type.
pub const MAX_MEDIA_TYPE: usize = 100;
/// Longest access token in OPEN.
pub const MAX_TOKEN: usize = 256;
/// Longest inner ALPN and target.
pub const MAX_TARGET: usize = 260;
/// Most connection ids in one CHALLENGE.
pub const MAX_CHALLENGE_IDS: usize = 2_048;
/// Largest leaf certificate of `evident/1`: it carries no evidence.
pub const MAX_LEAF_CERTIFICATE: usize = 65_536;
/// Largest CMW extension: refuse above 48 KiB, warn above 12 KiB.
pub const MAX_CMW: usize = 49_152;
pub const WARN_CMW: usize = 12_288;
/// DATA that a client may keep to repeat on another connection: 64 KiB.
pub const MAX_EARLY_DATA_KEPT: usize = 65_536;
/// Most bytes of ignorable frames (types 0x80 and up) between two others.
pub const MAX_IGNORED: usize = 65_536;
