//! The SEV-SNP attestation report: 1184 bytes to typed fields.
//!
//! The raw bytes are kept, because signatures and digests are over what was received and never over something re-encoded. For
//! the versions that are known (2 to 5) every reserved byte must hold what the ABI says; another version is refused, since
//! nobody knows what its bytes mean. A parsed report proves nothing: `verify::report` does.
//!
//! Source: AMD 56860, table ATTESTATION_REPORT. PLATFORM_INFO is not held to its reserved bits: Turin
//! firmware sets bit 6, which no public revision names.

mod fields;
mod parse;
mod report;

pub use fields::{
    ChipId, Cpuid, FamilyId, FirmwareVersion, GuestPolicy, HostData, ImageId, KeyDigest, Measurement,
    MitigationVectors, PlatformInfo, ReportData, ReportId, SigningKey,
};
pub use parse::ReportError;
pub use report::Report;

/// Length of a report.
pub const REPORT_LEN: usize = 0x4A0;
/// The signature is over the bytes before it.
const SIGNED_LEN: usize = 0x2A0;
/// SIGNATURE_ALGO of ECDSA on P-384 with SHA-384, the only one there is.
pub const ECDSA_P384_SHA384: u32 = 1;

/// Which of the four TCB versions of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TcbKind {
    /// What runs now.
    Current,
    /// What the signing key was derived for.
    Reported,
    /// What the host can no longer go below.
    Committed,
    /// What ran when the guest was launched or imported.
    Launch,
}

impl TcbKind {
    pub const ALL: [TcbKind; 4] = [TcbKind::Current, TcbKind::Reported, TcbKind::Committed, TcbKind::Launch];
}

impl std::fmt::Display for TcbKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            TcbKind::Current => "current",
            TcbKind::Reported => "reported",
            TcbKind::Committed => "committed",
            TcbKind::Launch => "launch",
        })
    }
}
