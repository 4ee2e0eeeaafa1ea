//! Endorsements: who vouches for the key that signed a report.
//!
//! ```text
//! roots   ARK, pinned by its bytes ── signs ──▶ ASK or ASVK ── signs ──▶ VCEK or VLEK     chain: all of it, at a time
//!           └── signs ──▶ CRL                                              └── vek: what the leaf says of chip and TCB
//! ```
//!
//! The clouds' hierarchies stand beside AMD's: authority (roots, each for one place), path (leaf to root, at a time), azure_ak and
//! gce_ak (attestation keys of vTPMs), nitro (documents of AWS), gce_firmware (endorsements of Google's firmware).
//!
//! Everything but the roots is untrusted material from guest, host or network. Sources: AMD 57230 (VCEK
//! certificate and KDS), RFC 5280, RFC 4055.

pub mod ak;
pub mod authority;
pub mod azure_ak;
pub mod chain;
pub mod crl;
pub mod gce_ak;
pub mod gce_firmware;
pub mod key;
pub mod nitro;
pub mod path;
pub mod pem;
pub mod roots;
pub mod table;
pub mod usage;
pub mod vek;

mod certificate;
mod der;
mod remembered;
mod signed;

pub use ak::{AkError, AkIdentity, VerifiedAk};
pub use authority::Place;
pub use azure_ak::{AzureVm, azure_ak_keys, verify_azure_ak};
pub use certificate::CertificateError;
pub use chain::{ChainError, VerifiedVek};
pub use crl::{CrlError, CrlStatus};
pub use gce_ak::{GceInstance, SecurityProperties, gce_ak_keys, verify_gce_ak};
pub use gce_firmware::{GceFirmwareRefusal, VerifiedGceEndorsement, verify_gce_endorsement};
pub use key::{PublicKey, PublicKeyError};
pub use nitro::{NitroRefusal, VerifiedNitro, verify_nitro_document};
pub use path::PathError;
pub use roots::TrustAnchors;
pub use signed::SignedError;
pub use vek::{VekError, VekKind};

/// Certificates that one verification looks at. A chain has two besides its root; a host may send both kinds and a root.
pub const MAX_CERTIFICATES: usize = 8;
/// Bytes of one certificate. AMD's have at most 1,700.
pub const MAX_CERTIFICATE_BYTES: usize = 4096;
/// Revocation lists that one verification looks at: two kinds for each product, and some to spare.
pub const MAX_CRLS: usize = 8;
/// Bytes of one revocation list.
pub const MAX_CRL_BYTES: usize = 16 * 1024;
