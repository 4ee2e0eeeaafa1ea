//! Azure's confidential VMs: the paravisor (HCL) asks for the report and puts it, with a JSON that it answers for, into an NV index of
//! its vTPM.
//!
//! The guest writes 64 bytes into another index; a read of the report that begins two seconds or more after the last one gets a report
//! anew, over a JSON with these bytes. A paravisor that knows no such bytes gives the same report always: that is sent as it is, and a
//! client sees that it is not fresh.

use super::vtpm::{Logs, Vtpm};
use super::{Boot, Gathered, Platform};
use crate::device::{DeviceError, Pace};
use crate::tpm::{AkSource, NvAccess, Tpm, TpmError, TpmQueue};
use ratls::binding::{Binder, Profile};
use ratls::evidence::hcl::Hcl;
use ratls::wire::attest::HardwareFormat;
use std::sync::Arc;
use std::time::Duration;

/// HCL report: JSON and SNP report.
pub const REPORT_INDEX: u32 = 0x0140_0001;
/// What the guest wants in it; the guest defines the index.
pub const USER_DATA_INDEX: u32 = 0x0140_0002;
/// The AK, made by the paravisor.
pub const AK_HANDLE: u32 = 0x8100_0003;
/// The AK's certificate, perhaps with padding behind it.
pub const AK_CERTIFICATE_INDEX: u32 = 0x01C1_01D0;

const USER_DATA: u16 = 64;
/// Between two reads of the report: OpenHCL makes a new one after more than two seconds.
pub const REGENERATION: Duration = Duration::from_millis(2200);
/// Reads until the JSON has our bytes: the first may fall into somebody else's two seconds, and so may the second.
const READS: u32 = 4;

/// An Azure confidential VM.
pub struct Azure {
    vtpm: Vtpm,
    regeneration: Duration,
    address: String,
}

impl Azure {
    /// Finds what Azure puts into the TPM.
    pub fn open(tpm: TpmQueue, logs: &Logs) -> Result<Self, TpmError> {
        let (address, certificate) = tpm.call(|tpm| {
            let what = "the HCL report of Azure's confidential VMs";
            tpm.nv_index(REPORT_INDEX)?.ok_or(TpmError::NoIndex { index: REPORT_INDEX, what })?;
            prepare_user_data(tpm)?;
            let certificate = match tpm.nv_index(AK_CERTIFICATE_INDEX)? {
                Some(index) => Some(tpm.nv_read(&index)?),
                None => {
                    tracing::warn!(index = AK_CERTIFICATE_INDEX, "the TPM has no certificate of its AK");
                    None
                }
            };
            Ok((tpm.address().to_string(), certificate))
        })?;
        let vtpm = Vtpm::new(tpm, AkSource::Persistent(AK_HANDLE), certificate, logs)?;
        Ok(Azure { vtpm, regeneration: REGENERATION, address })
    }

    /// The report over these bytes, or the old one where the paravisor takes none.
    fn report(&self, binder: &Binder) -> Result<Vec<u8>, DeviceError> {
        let data = *binder.as_bytes();
        self.vtpm.tpm.call(move |tpm| {
            let index = prepare_user_data(tpm)?;
            tpm.nv_write(&index, &data)
        })?;
        for read in 1..=READS {
            let blob = self.vtpm.tpm.call(|tpm| tpm.nv_content(REPORT_INDEX, "the HCL report"))?;
            let hcl = Hcl::parse(&blob)
                .map_err(|error| DeviceError::Unreadable { what: "HCL report", reason: error.to_string() })?;
            match &hcl.claims().user_data {
                Some(seen) if *seen.as_bytes() == data => return Ok(blob),
                None => return Ok(blob),
                Some(_) if read < READS => std::thread::sleep(self.regeneration),
                Some(_) => {}
            }
        }
        // Somebody else writes there, or the paravisor is slower than it says.
        Err(DeviceError::Busy { retry_after: self.regeneration })
    }
}

impl Platform for Azure {
    fn profile(&self) -> Profile {
        Profile::AzureSnp
    }

    fn describe(&self) -> String {
        format!("Azure's paravisor, by the TPM at {}", self.address)
    }

    fn pace(&self) -> Pace {
        Pace { min_interval: self.regeneration, burst: 1 }
    }

    fn boot(&self) -> Arc<Boot> {
        self.vtpm.boot.clone()
    }

    fn gather(&mut self, binder: &Binder) -> Result<Gathered, DeviceError> {
        let blob = self.report(binder)?;
        let unreadable = |error: ratls::evidence::hcl::HclError| DeviceError::Unreadable {
            what: "HCL report",
            reason: error.to_string(),
        };
        let report = Hcl::parse(&blob).map_err(unreadable)?.report().to_vec();
        let tpm = self.vtpm.quote(binder, &report)?;
        Ok(Gathered {
            hardware: vec![(HardwareFormat::HclBlob, blob)],
            report,
            certificates: Vec::new(),
            tpm: Some(tpm),
            parts: self.vtpm.parts(),
        })
    }
}

/// The index of the guest's data, which is there or is made.
fn prepare_user_data(tpm: &mut Tpm) -> Result<crate::tpm::NvIndex, TpmError> {
    match tpm.nv_index(USER_DATA_INDEX)? {
        Some(index) if index.size == usize::from(USER_DATA) => Ok(index),
        Some(index) => Err(TpmError::IndexSize {
            index: USER_DATA_INDEX,
            what: "the guest's data for the report",
            seen: index.size,
            wanted: USER_DATA.into(),
        }),
        None => tpm.nv_define(USER_DATA_INDEX, USER_DATA, NvAccess::Owner),
    }
}
