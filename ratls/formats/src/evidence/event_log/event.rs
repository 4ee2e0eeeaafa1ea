//! One event: which register, which type it claims, which digests were extended, and the data beside them.

use std::fmt;
use std::sync::Arc;

use crate::evidence::tpm::{Bank, PcrValue};

/// A record of the log.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    pub(super) number: usize,
    pub(super) pcr: u8,
    pub(super) kind: EventType,
    pub(super) sha256: Option<PcrValue>,
    pub(super) sha384: Option<PcrValue>,
    /// Shared by the copies of a log with one bank's digests.
    pub(super) data: Arc<[u8]>,
}

impl Event {
    /// Its place in the log; the header is 0, as `tpm2_eventlog` counts.
    pub fn number(&self) -> usize {
        self.number
    }
    pub fn pcr(&self) -> u8 {
        self.pcr
    }
    /// What the log calls it. No register covers this.
    pub fn kind(&self) -> EventType {
        self.kind
    }
    /// What was extended, in that bank; `None` where the log has no digests of the bank.
    pub fn digest(&self, bank: Bank) -> Option<&PcrValue> {
        match bank {
            Bank::Sha256 => self.sha256.as_ref(),
            Bank::Sha384 => self.sha384.as_ref(),
        }
    }
    /// What the log says about it. No register covers this; see [`super::data`].
    pub fn data(&self) -> &[u8] {
        &self.data
    }
    /// Whether it changed a register: everything does but EV_NO_ACTION.
    pub fn extends(&self) -> bool {
        self.kind != EventType::NO_ACTION
    }
    /// Whether what was extended is the hash of these bytes, in every bank that the log has.
    pub fn is_digest_of(&self, parts: &[&[u8]]) -> bool {
        let equal = |digest: &Option<PcrValue>| digest.is_none_or(|digest| digest.bank().hash(parts) == digest);
        (self.sha256.is_some() || self.sha384.is_some()) && equal(&self.sha256) && equal(&self.sha384)
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {} (PCR {}, {}, {} bytes)", self.number, self.pcr, self.kind, self.data.len())
    }
}

/// TCG_EVENTTYPE (PFP 1.05, table 27).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(pub u32);

macro_rules! event_types {
    ($($name:ident = $value:literal, $tcg:literal;)*) => {
        impl EventType {
            $(pub const $name: EventType = EventType($value);)*

            /// The name in the profile; `None` for a type that this version does not know.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($tcg),)*
                    _ => None,
                }
            }
        }
    };
}

event_types! {
    POST_CODE = 0x1, "EV_POST_CODE";
    NO_ACTION = 0x3, "EV_NO_ACTION";
    SEPARATOR = 0x4, "EV_SEPARATOR";
    ACTION = 0x5, "EV_ACTION";
    EVENT_TAG = 0x6, "EV_EVENT_TAG";
    S_CRTM_CONTENTS = 0x7, "EV_S_CRTM_CONTENTS";
    S_CRTM_VERSION = 0x8, "EV_S_CRTM_VERSION";
    PLATFORM_CONFIG_FLAGS = 0xA, "EV_PLATFORM_CONFIG_FLAGS";
    TABLE_OF_DEVICES = 0xB, "EV_TABLE_OF_DEVICES";
    COMPACT_HASH = 0xC, "EV_COMPACT_HASH";
    IPL = 0xD, "EV_IPL";
    NONHOST_INFO = 0x11, "EV_NONHOST_INFO";
    POST_CODE2 = 0x13, "EV_POST_CODE2";
    VARIABLE_DRIVER_CONFIG = 0x8000_0001, "EV_EFI_VARIABLE_DRIVER_CONFIG";
    VARIABLE_BOOT = 0x8000_0002, "EV_EFI_VARIABLE_BOOT";
    BOOT_SERVICES_APPLICATION = 0x8000_0003, "EV_EFI_BOOT_SERVICES_APPLICATION";
    BOOT_SERVICES_DRIVER = 0x8000_0004, "EV_EFI_BOOT_SERVICES_DRIVER";
    RUNTIME_SERVICES_DRIVER = 0x8000_0005, "EV_EFI_RUNTIME_SERVICES_DRIVER";
    GPT_EVENT = 0x8000_0006, "EV_EFI_GPT_EVENT";
    EFI_ACTION = 0x8000_0007, "EV_EFI_ACTION";
    PLATFORM_FIRMWARE_BLOB = 0x8000_0008, "EV_EFI_PLATFORM_FIRMWARE_BLOB";
    HANDOFF_TABLES = 0x8000_0009, "EV_EFI_HANDOFF_TABLES";
    PLATFORM_FIRMWARE_BLOB2 = 0x8000_000A, "EV_EFI_PLATFORM_FIRMWARE_BLOB2";
    HANDOFF_TABLES2 = 0x8000_000B, "EV_EFI_HANDOFF_TABLES2";
    VARIABLE_BOOT2 = 0x8000_000C, "EV_EFI_VARIABLE_BOOT2";
    GPT_EVENT2 = 0x8000_000D, "EV_EFI_GPT_EVENT2";
    HCRTM_EVENT = 0x8000_0010, "EV_EFI_HCRTM_EVENT";
    VARIABLE_AUTHORITY = 0x8000_00E0, "EV_EFI_VARIABLE_AUTHORITY";
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "type 0x{:08x}", self.0),
        }
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
