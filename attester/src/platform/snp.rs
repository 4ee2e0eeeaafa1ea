//! Plain SEV-SNP: the guest may choose REPORT_DATA, and the report is all there is (SNPGuard, microCVM).

use super::{Gathered, Platform};
use crate::device::{DeviceError, DeviceReport, Pace, ReportDevice};
use ratls::binding::{Binder, Profile};
use ratls::wire::attest::HardwareFormat;

/// A report device and nothing beside it.
pub struct PlainSnp {
    device: Box<dyn ReportDevice>,
    profile: Profile,
}

impl PlainSnp {
    pub fn new(device: Box<dyn ReportDevice>) -> Self {
        PlainSnp { device, profile: Profile::Snp }
    }
}

impl Platform for PlainSnp {
    fn profile(&self) -> Profile {
        self.profile
    }

    fn describe(&self) -> String {
        self.device.describe()
    }

    fn simulated(&self) -> bool {
        self.device.simulated()
    }

    fn pace(&self) -> Pace {
        self.device.pace()
    }

    fn gather(&mut self, binder: &Binder) -> Result<Gathered, DeviceError> {
        let DeviceReport { report, certificates } = self.device.report(binder.as_bytes())?;
        // The devices check this too; here it holds for every implementation of the trait.
        let checked = DeviceReport::over(binder.as_bytes(), report, certificates)?;
        Ok(Gathered {
            hardware: vec![(HardwareFormat::SnpReport, checked.report.clone())],
            report: checked.report,
            certificates: checked.certificates,
            tpm: None,
            parts: Vec::new(),
        })
    }
}
