//! The simulator in the place of a report device.

use crate::amd_sp::SimulatedAmdSp;
use crate::controls::DeviceError;
use attester::{DeviceError as ReportError, DeviceReport, Pace, ReportDevice};

impl ReportDevice for SimulatedAmdSp {
    /// At the guest's own VMPL, with the table that a host would add.
    fn report(&mut self, report_data: &[u8; 64]) -> Result<DeviceReport, ReportError> {
        let vmpl = self.config().vmpl;
        let report = SimulatedAmdSp::report(self, report_data).map_err(|error| match error {
            DeviceError::Busy { retry_after } => ReportError::Busy { retry_after },
            DeviceError::VmpckGone => ReportError::Gone,
            DeviceError::Refused { .. } => ReportError::Refused { reason: error.to_string() },
            DeviceError::Vmpl { asked, own } => ReportError::PrivilegeFloor { floor: own, wanted: asked },
        })?;
        DeviceReport::over(report_data, report, self.certificate_table())?.at_vmpl(vmpl)
    }

    fn describe(&self) -> String {
        self.to_string()
    }

    fn simulated(&self) -> bool {
        true
    }

    /// The throttle that was set; else the pace of real hardware. The device counts from when a request reaches it and the guest from when
    /// it sends one, so a request may come a little early, and is asked again.
    fn pace(&self) -> Pace {
        match self.controls().min_interval() {
            Some(throttle) => Pace { min_interval: throttle, burst: 1 },
            None => Pace::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Failure, Pki, RsaSize};
    use ratls::tcb::Product;
    use std::sync::Arc;
    use std::time::Duration;

    fn device() -> SimulatedAmdSp {
        let pki = Arc::new(Pki::generate(Product::Milan, RsaSize::Bits2048));
        SimulatedAmdSp::new(&pki, Config::new(Product::Milan))
    }

    #[test]
    fn answers_what_was_asked_and_says_what_it_is() {
        let mut device: Box<dyn ReportDevice> = Box::new(device());
        assert!(device.simulated() && device.describe().starts_with(crate::NOTICE));
        let answer = device.report(&[7; 64]).unwrap();
        assert_eq!(answer.report.len(), attester::device::REPORT_LEN);
        assert!(answer.certificates.len() <= attester::device::MAX_CERTIFICATE_TABLE);
    }

    #[test]
    fn a_throttle_is_its_pace() {
        let device = device();
        assert_eq!(device.pace(), Pace::default());
        device.controls().set_min_interval(Some(Duration::from_secs(2)));
        assert_eq!(device.pace(), Pace { min_interval: Duration::from_secs(2), burst: 1 });
    }

    #[test]
    fn failures_are_those_of_a_device() {
        let mut device = device();
        let controls = device.controls();
        for failure in [Failure::Busy, Failure::Refused, Failure::VmpckGone] {
            controls.fail_next(failure);
        }
        let mut ask = || ReportDevice::report(&mut device, &[0; 64]).unwrap_err();
        assert!(matches!(ask(), ReportError::Busy { .. }));
        assert!(matches!(ask(), ReportError::Refused { .. }));
        assert!(matches!(ask(), ReportError::Gone));
    }
}
