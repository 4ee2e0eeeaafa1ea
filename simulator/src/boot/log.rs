//! The TCG2 crypto-agile event log as firmware writes it, and the same events extended into a TPM.
//!
//! Layout: TCG PC Client Platform Firmware Profile 1.05, §10. Little-endian.

use crate::tpm::command::{Channel, TpmError};
use crate::tpm::objects::{self, Bank};

/// Event types of the profile, table 27.
pub mod kind {
    pub const NO_ACTION: u32 = 0x3;
    pub const SEPARATOR: u32 = 0x4;
    pub const EVENT_TAG: u32 = 0x6;
    pub const S_CRTM_VERSION: u32 = 0x8;
    pub const IPL: u32 = 0xD;
    pub const NONHOST_INFO: u32 = 0x11;
    pub const VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;
    pub const VARIABLE_BOOT: u32 = 0x8000_0002;
    pub const BOOT_SERVICES_APPLICATION: u32 = 0x8000_0003;
    pub const GPT: u32 = 0x8000_0006;
    pub const EFI_ACTION: u32 = 0x8000_0007;
    pub const PLATFORM_FIRMWARE_BLOB: u32 = 0x8000_0008;
    pub const VARIABLE_AUTHORITY: u32 = 0x8000_00E0;
}

/// One thing that was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub pcr: u32,
    pub kind: u32,
    /// What the digest is of.
    pub measured: Vec<u8>,
    /// What stands beside the digest, which no PCR covers.
    pub data: Vec<u8>,
}

/// All that was measured, in its order.
#[derive(Clone, Debug)]
pub struct Log {
    pub banks: Vec<Bank>,
    pub events: Vec<Event>,
}

impl Log {
    /// The bytes of `binary_bios_measurements`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let spec_id = self.spec_id();
        let mut log = [&[0; 4][..], &kind::NO_ACTION.to_le_bytes(), &[0; 20], &length(&spec_id), &spec_id].concat();
        for event in &self.events {
            log.extend(event.pcr.to_le_bytes());
            log.extend(event.kind.to_le_bytes());
            log.extend(u32::try_from(self.banks.len()).expect("three banks").to_le_bytes());
            for bank in &self.banks {
                log.extend(bank.id().to_le_bytes());
                log.extend(event.digest(*bank));
            }
            log.extend(length(&event.data));
            log.extend(&event.data);
        }
        log
    }

    /// Extends the TPM as the firmware and what it started did.
    pub fn extend_into(&self, tpm: &mut dyn Channel) -> Result<(), TpmError> {
        for event in self.events.iter().filter(|event| event.kind != kind::NO_ACTION) {
            let digests: Vec<_> = self.banks.iter().map(|bank| (*bank, event.digest(*bank))).collect();
            objects::extend(tpm, event.pcr, &digests)?;
        }
        Ok(())
    }

    /// Platform class 0 (client), version 2.0 errata 0, UINTN of 8 bytes, the banks, no vendor information.
    fn spec_id(&self) -> Vec<u8> {
        let mut data = b"Spec ID Event03\0\0\0\0\0\0\x02\0\x02".to_vec();
        data.extend(u32::try_from(self.banks.len()).expect("three banks").to_le_bytes());
        for bank in &self.banks {
            let size = u16::try_from(bank.digest_len()).expect("a hash is short");
            data.extend([bank.id().to_le_bytes(), size.to_le_bytes()].concat());
        }
        data.push(0);
        data
    }
}

impl Event {
    /// An event whose digest is that of its data.
    pub fn of(pcr: u32, kind: u32, data: impl Into<Vec<u8>>) -> Self {
        let data = data.into();
        Event { pcr, kind, measured: data.clone(), data }
    }

    fn digest(&self, bank: Bank) -> Vec<u8> {
        match self.kind {
            kind::NO_ACTION => vec![0; bank.digest_len()],
            _ => bank.hash(&self.measured),
        }
    }
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).expect("events are short").to_le_bytes()
}
