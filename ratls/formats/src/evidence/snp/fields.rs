//! The typed values inside an SNP report: identifiers, guest policy, platform information, CPUID, firmware versions.
//!
//! Sources: AMD 56860 (SEV-SNP ABI), table ATTESTATION_REPORT.

use crate::digest::bytes_type;
use crate::tcb::Product;
use std::fmt;

bytes_type!(
    /// REPORT_DATA: what the requester asked the firmware to sign.
    ReportData, 64);
bytes_type!(
    /// The launch digest.
    Measurement, 48);
bytes_type!(
    /// HOST_DATA, chosen by the hypervisor at launch.
    HostData, 32);
bytes_type!(
    /// SHA-384 of an ID or author key; zero where there was none.
    KeyDigest, 48);
bytes_type!(
    /// Identifies the guest instance; new at every launch.
    ReportId, 32);
bytes_type!(
    /// Identifies the chip. Turin fills the first 8 bytes; zero where masked or under a VLEK.
    ChipId, 64);
bytes_type!(
    /// FAMILY_ID of the ID block, chosen by the guest's owner.
    FamilyId, 16);
bytes_type!(
    /// IMAGE_ID of the ID block, chosen by the guest's owner.
    ImageId, 16);

/// POLICY: what the guest's owner allowed and required at launch.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct GuestPolicy(u64);

impl GuestPolicy {
    /// Bit 17 is reserved and must be one.
    const MUST_BE_ONE: u64 = 1 << 17;
    /// Bits above 25 are reserved and must be zero (ABI 1.58).
    const RESERVED: u64 = !0 << 26;

    pub const fn from_raw(raw: u64) -> Self {
        GuestPolicy(raw)
    }
    pub const fn raw(self) -> u64 {
        self.0
    }
    pub(super) const fn reserved_is_right(self) -> bool {
        self.0 & Self::MUST_BE_ONE != 0 && self.0 & Self::RESERVED == 0
    }
    const fn bit(self, n: u32) -> bool {
        self.0 & (1 << n) != 0
    }

    /// Least ABI version of the firmware, (major, minor).
    pub const fn abi(self) -> (u8, u8) {
        let [minor, major, ..] = self.0.to_le_bytes();
        (major, minor)
    }
    /// Permission: simultaneous multithreading may be on.
    pub const fn smt_allowed(self) -> bool {
        self.bit(16)
    }
    /// Permission: a migration agent may be associated, and may hold the guest's keys.
    pub const fn migrate_ma_allowed(self) -> bool {
        self.bit(18)
    }
    /// Permission: the host may read and write the guest's memory.
    pub const fn debug_allowed(self) -> bool {
        self.bit(19)
    }
    /// Restriction: only one socket.
    pub const fn single_socket_required(self) -> bool {
        self.bit(20)
    }
    /// Permission: CXL devices and memory may be there.
    pub const fn cxl_allowed(self) -> bool {
        self.bit(21)
    }
    /// Restriction: memory is encrypted with AES-256-XTS.
    pub const fn mem_aes_256_xts_required(self) -> bool {
        self.bit(22)
    }
    /// Restriction: running average power limit is off.
    pub const fn rapl_disabled_required(self) -> bool {
        self.bit(23)
    }
    /// Restriction: ciphertext hiding for DRAM is on.
    pub const fn ciphertext_hiding_required(self) -> bool {
        self.bit(24)
    }
    /// Restriction: guest pages are not swapped or moved.
    pub const fn page_swap_disabled_required(self) -> bool {
        self.bit(25)
    }
}

/// PLATFORM_INFO: how the machine was set up when the report was made.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PlatformInfo(u64);

impl PlatformInfo {
    pub const fn from_raw(raw: u64) -> Self {
        PlatformInfo(raw)
    }
    pub const fn raw(self) -> u64 {
        self.0
    }
    const fn bit(self, n: u32) -> bool {
        self.0 & (1 << n) != 0
    }
    pub const fn smt_enabled(self) -> bool {
        self.bit(0)
    }
    pub const fn tsme_enabled(self) -> bool {
        self.bit(1)
    }
    pub const fn ecc_enabled(self) -> bool {
        self.bit(2)
    }
    pub const fn rapl_disabled(self) -> bool {
        self.bit(3)
    }
    pub const fn ciphertext_hiding_enabled(self) -> bool {
        self.bit(4)
    }
    /// Memory aliases were looked for since the last reset (the answer to BadRAM).
    pub const fn alias_check_complete(self) -> bool {
        self.bit(5)
    }
    pub const fn tio_enabled(self) -> bool {
        self.bit(7)
    }
}

macro_rules! hex_number {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
    };
}
hex_number!(GuestPolicy);
hex_number!(PlatformInfo);

/// Which key the firmware signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SigningKey {
    /// Of this chip.
    Vcek,
    /// Of the cloud provider, loaded into this chip.
    Vlek,
    /// None: the signature is zero.
    None,
}

impl SigningKey {
    pub(super) const fn from_bits(bits: u32) -> Option<Self> {
        match bits {
            0 => Some(SigningKey::Vcek),
            1 => Some(SigningKey::Vlek),
            7 => Some(SigningKey::None),
            _ => None,
        }
    }
}

impl fmt::Display for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            SigningKey::Vcek => "VCEK",
            SigningKey::Vlek => "VLEK",
            SigningKey::None => "none",
        })
    }
}

/// Family, model and stepping, extended fields combined. Reports carry them from version 3 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cpuid {
    pub family: u8,
    pub model: u8,
    pub stepping: u8,
}

impl Cpuid {
    /// The product with this CPUID, where it is one that this crate knows.
    pub const fn product(self) -> Option<Product> {
        match (self.family, self.model) {
            (0x19, 0x00..=0x0F) => Some(Product::Milan),
            (0x19, 0x10..=0x1F | 0xA0..=0xAF) => Some(Product::Genoa),
            (0x1A, 0x00..=0x11) => Some(Product::Turin),
            _ => None,
        }
    }
}

/// `19h/a0h/2`
impl fmt::Display for Cpuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}h/{:02x}h/{}", self.family, self.model, self.stepping)
    }
}

impl serde::Serialize for Cpuid {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Version of the SEV firmware. For people; security decisions use the TCB versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FirmwareVersion {
    pub major: u8,
    pub minor: u8,
    pub build: u8,
}

impl fmt::Display for FirmwareVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.build)
    }
}

impl serde::Serialize for FirmwareVersion {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Verified mitigations, bit by bit as AMD's bulletins number them. Reports carry them in version 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct MitigationVectors {
    /// When the guest was launched or imported.
    pub launch: u64,
    /// When the report was made.
    pub current: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpuid_names_the_product_at_the_edges_of_each_range() {
        let product = |family, model| Cpuid { family, model, stepping: 0 }.product();
        assert_eq!(product(0x19, 0x0F), Some(Product::Milan));
        assert_eq!(product(0x19, 0x10), Some(Product::Genoa));
        assert_eq!(product(0x19, 0x20), None);
        assert_eq!(product(0x19, 0xAF), Some(Product::Genoa));
        assert_eq!(product(0x1A, 0x11), Some(Product::Turin));
        assert_eq!(product(0x1A, 0x12), None);
        assert_eq!(product(0x17, 0x31), None);
    }

    #[test]
    fn policy_of_azure_asks_for_abi_0_31_and_allows_smt_only() {
        let policy = GuestPolicy::from_raw(0x3001F);
        assert_eq!(policy.abi(), (0, 31));
        assert!(policy.smt_allowed() && policy.reserved_is_right());
        assert!(!policy.debug_allowed() && !policy.migrate_ma_allowed() && !policy.cxl_allowed());
        assert!(!GuestPolicy::from_raw(0x1001F).reserved_is_right());
        assert!(!GuestPolicy::from_raw(0x3001F | 1 << 26).reserved_is_right());
    }
}
