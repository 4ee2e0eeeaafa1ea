//! What the rest of the program knows of report hardware: one blocking question with one answer.
//!
//! Assumes that a device answers one request at a time and may take seconds; the batcher gives it a thread of its own. Does not
//! verify the report: the device lives in the guest's kernel, but what it hands over passed through the host, so [`DeviceReport::over`]
//! refuses only what cannot be the answer to the question, and `ratls` judges the rest.

use crate::tpm::TpmError;
use ratls::bytes::Reader;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of an SNP attestation report (AMD 56860, ATTESTATION_REPORT).
pub const REPORT_LEN: usize = 0x4A0;
/// Most bytes of a certificate table: the kernel's `SEV_FW_BLOB_MAX_SIZE`.
pub const MAX_CERTIFICATE_TABLE: usize = 0x4000;

const VMPL_OFFSET: usize = 0x30;
const REPORT_DATA_OFFSET: usize = 0x50;

/// A source of attestation reports: hardware, or the simulator in its place.
pub trait ReportDevice: Send {
    /// Asks for one report over exactly these bytes. Blocks until the answer or an error.
    fn report(&mut self, report_data: &[u8; 64]) -> Result<DeviceReport, DeviceError>;

    /// What this is, for a log line, such as `configfs-tsm at /sys/kernel/config/tsm/report (VMPL 0)`.
    fn describe(&self) -> String;

    /// True where no hardware stands behind the signature. Every line that a person sees must then say so.
    fn simulated(&self) -> bool {
        false
    }

    /// How often it may be asked.
    fn pace(&self) -> Pace {
        Pace::default()
    }
}

/// The bytes as the device gave them. Nothing in them is verified.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceReport {
    /// The report as signed, [`REPORT_LEN`] bytes.
    pub report: Vec<u8>,
    /// The host's certificate table (AMD GHCB specification); empty where the host gave none.
    pub certificates: Vec<u8>,
}

impl DeviceReport {
    /// Takes the bytes only if they are a report over `report_data`: another process may have raced us on the same configfs entry, and
    /// a report over its bytes must not pass for ours.
    pub fn over(report_data: &[u8; 64], report: Vec<u8>, certificates: Vec<u8>) -> Result<Self, DeviceError> {
        if report.len() != REPORT_LEN {
            return Err(DeviceError::ReportLength { seen: report.len() });
        }
        // Not secret, so an ordinary comparison.
        if field::<64>(&report, REPORT_DATA_OFFSET) != Some(*report_data) {
            return Err(DeviceError::WrongReportData);
        }
        Ok(DeviceReport { report, certificates })
    }

    /// Refuses a report for another VMPL than the one asked for.
    pub fn at_vmpl(self, wanted: u32) -> Result<Self, DeviceError> {
        match field(&self.report, VMPL_OFFSET).map(u32::from_le_bytes) {
            Some(seen) if seen == wanted => Ok(self),
            Some(seen) => Err(DeviceError::WrongVmpl { seen, wanted }),
            None => Err(DeviceError::ReportLength { seen: self.report.len() }),
        }
    }
}

impl std::fmt::Debug for DeviceReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeviceReport({} bytes, certificate table of {} bytes)", self.report.len(), self.certificates.len())
    }
}

fn field<const N: usize>(report: &[u8], offset: usize) -> Option<[u8; N]> {
    let mut reader = Reader::new(report);
    reader.take(offset).ok()?;
    reader.array().ok()
}

/// How often a device may be asked, from start to start: `burst` requests at once, one more each `min_interval`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub min_interval: Duration,
    /// At least 1; 0 is taken as 1.
    pub burst: u32,
}

/// For hosts that announce no throttle: 8 at once, refilled one per 100 ms. Asking faster can make the driver give up its key to the
/// firmware until the next boot.
impl Default for Pace {
    fn default() -> Self {
        Pace { min_interval: Duration::from_millis(100), burst: 8 }
    }
}

/// Why there is no report. `Clone`, because everybody who waited for the batch is told.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The host throttles, or somebody else is using the same entry.
    #[error("the device is busy; ask again in {} ms", retry_after.as_millis())]
    Busy { retry_after: Duration },
    /// The kernel disabled the key between guest and firmware (VMPCK), or unloaded the driver.
    #[error(
        "the guest can get no more reports until it is started again: its key to the AMD Secure Processor (VMPCK) is disabled"
    )]
    Gone,
    /// The firmware or the hypervisor said no.
    #[error("the firmware or the hypervisor refused to make a report: {reason}")]
    Refused { reason: String },
    /// This user may not use the device. `help` says how it is given to one.
    #[error("permission to {operation} {} is denied: {help}", path.display())]
    Denied { operation: &'static str, path: PathBuf, help: &'static str },
    /// Another failure of a file operation.
    #[error("cannot {operation} {}: {error}", path.display())]
    Io { operation: &'static str, path: PathBuf, error: Arc<io::Error> },
    /// A file of the interface holds something else than its documentation says.
    #[error("{} holds {seen:?}, which is not {wanted}", path.display())]
    Format { path: PathBuf, seen: String, wanted: &'static str },
    /// The kernel serves other confidential-computing hardware.
    #[error("{} says {seen:?}; only sev_guest makes SEV-SNP reports", path.display())]
    Provider { path: PathBuf, seen: String },
    /// The kernel runs at a less privileged level than the one configured.
    #[error("reports for VMPL {wanted} cannot be had here: the lowest level that this kernel may ask for is {floor}")]
    PrivilegeFloor { floor: u32, wanted: u32 },
    /// The result is larger than the interface allows.
    #[error("{} holds more than {max_bytes} bytes", path.display())]
    Oversized { path: PathBuf, max_bytes: usize },
    /// Not as long as a report.
    #[error("the device returned {seen} bytes; an SNP report has 1184")]
    ReportLength { seen: usize },
    /// The report is over other bytes than those asked for.
    #[error("the device returned a report over other REPORT_DATA than was asked for")]
    WrongReportData,
    /// The TPM beside the report.
    #[error(transparent)]
    Tpm(TpmError),
    /// What the machine gave has not the form that its platform documents.
    #[error("the {what} of this machine cannot be read: {reason}")]
    Unreadable { what: &'static str, reason: String },
    /// The report is for another privilege level than the one asked for.
    #[error("the device returned a report for VMPL {seen}; asked for was {wanted}")]
    WrongVmpl { seen: u32, wanted: u32 },
}

/// A busy TPM is a busy device: who waits is told when to come back.
impl From<TpmError> for DeviceError {
    fn from(error: TpmError) -> Self {
        match error {
            TpmError::Busy { retry_after, .. } => DeviceError::Busy { retry_after },
            other => DeviceError::Tpm(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(data: [u8; 64], vmpl: u32) -> Vec<u8> {
        let mut report = vec![0; REPORT_LEN];
        report[VMPL_OFFSET..VMPL_OFFSET + 4].copy_from_slice(&vmpl.to_le_bytes());
        report[REPORT_DATA_OFFSET..REPORT_DATA_OFFSET + 64].copy_from_slice(&data);
        report
    }

    #[test]
    fn takes_the_report_that_was_asked_for() {
        let taken =
            DeviceReport::over(&[7; 64], report([7; 64], 1), vec![1, 2]).and_then(|report| report.at_vmpl(1)).unwrap();
        assert_eq!(taken.report, report([7; 64], 1));
        assert_eq!(taken.certificates, [1, 2]);
    }

    #[test]
    fn refuses_a_report_over_other_data_even_in_its_last_byte() {
        let mut data = [7; 64];
        data[63] = 6;
        let refused = DeviceReport::over(&[7; 64], report(data, 0), vec![]).unwrap_err();
        assert!(matches!(refused, DeviceError::WrongReportData));
    }

    #[test]
    fn refuses_a_report_for_another_vmpl() {
        let refused = DeviceReport::over(&[7; 64], report([7; 64], 2), vec![]).unwrap().at_vmpl(0).unwrap_err();
        assert!(matches!(refused, DeviceError::WrongVmpl { seen: 2, wanted: 0 }));
    }

    #[test]
    fn refuses_a_report_that_is_too_short_or_too_long() {
        for len in [0, REPORT_LEN - 1, REPORT_LEN + 1] {
            let refused = DeviceReport::over(&[0; 64], vec![0; len], vec![]).unwrap_err();
            assert!(matches!(refused, DeviceError::ReportLength { seen } if seen == len));
        }
    }
}
