//! Reports through `/dev/sev-guest`, for guests whose kernel has no configfs-tsm (Linux 5.19 to 6.6).
//!
//! The ioctl is that of the crate `sev`. Only its plain request is used, never `get_ext_report`: that one walks the certificate
//! table, which the *host* wrote, with offsets and lengths that it does not check against the buffer (sev 8.0.0,
//! `CertTableEntry::parse_table`), and what it found would go out to strangers as certificates: the host could read this process's
//! memory, the TLS key in it included. So there is no certificate table here. The VCEK then comes from AMD's KDS; where a host signs
//! with a VLEK, which KDS gives to nobody but the host, the operator names a certificate file or uses a kernel with configfs-tsm.

use crate::device::{DeviceError, DeviceReport, Pace, ReportDevice};
use sev::error::{FirmwareError, UserApiError, VmmError};
use sev::firmware::guest::Firmware;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The path that the crate `sev` opens.
pub const DEVICE: &str = "/dev/sev-guest";

const HELP: &str = "give this user's group the device, as the udev rule in systemd/ does";
/// `MSG_VERSION` of the request, the only one that every firmware knows.
const MESSAGE_VERSION: u32 = 1;
/// The driver has already retried for a minute when it says that the host throttles.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// The driver's answer once its VMPCK is disabled (drivers/virt/coco/sev-guest/sev-guest.c).
const ENOTTY: i32 = 25;

/// The open device.
#[derive(Debug)]
pub struct SevGuest {
    firmware: Firmware,
    vmpl: u32,
    pace: Pace,
}

impl SevGuest {
    /// Opens the device. Reports will be for `vmpl`; it is always sent, because `sev` asks for 1 where nothing is said.
    pub fn open(vmpl: u32) -> Result<Self, DeviceError> {
        let firmware = Firmware::open().map_err(|error| failure("open", error))?;
        Ok(SevGuest { firmware, vmpl, pace: Pace::default() })
    }

    /// Another pace than the default, for a host that is known to throttle.
    pub fn with_pace(self, pace: Pace) -> Self {
        SevGuest { pace, ..self }
    }
}

impl ReportDevice for SevGuest {
    fn report(&mut self, report_data: &[u8; 64]) -> Result<DeviceReport, DeviceError> {
        let report = self
            .firmware
            .get_report(Some(MESSAGE_VERSION), Some(*report_data), Some(self.vmpl))
            .map_err(|error| cause(error, self.vmpl))?;
        DeviceReport::over(report_data, report, Vec::new())?.at_vmpl(self.vmpl)
    }

    fn describe(&self) -> String {
        format!("{DEVICE} (VMPL {})", self.vmpl)
    }

    fn pace(&self) -> Pace {
        self.pace
    }
}

fn cause(error: UserApiError, vmpl: u32) -> DeviceError {
    match error {
        UserApiError::VmmError(VmmError::RateLimitRetryRequest) => DeviceError::Busy { retry_after: RETRY_AFTER },
        UserApiError::FirmwareError(FirmwareError::IoError(error)) | UserApiError::IOError(error) => {
            failure("ask for a report at", error)
        }
        UserApiError::VmplError => DeviceError::PrivilegeFloor { floor: 0, wanted: vmpl },
        other => DeviceError::Refused { reason: other.to_string() },
    }
}

fn failure(operation: &'static str, error: io::Error) -> DeviceError {
    use io::ErrorKind as Kind;
    let path = || Path::new(DEVICE).to_owned();
    match (error.kind(), error.raw_os_error()) {
        (Kind::PermissionDenied, _) => DeviceError::Denied { operation, path: path(), help: HELP },
        (Kind::ResourceBusy | Kind::WouldBlock | Kind::Interrupted | Kind::TimedOut, _) => {
            DeviceError::Busy { retry_after: RETRY_AFTER }
        }
        (_, Some(ENOTTY)) => DeviceError::Gone,
        _ => DeviceError::Io { operation, path: path(), error: Arc::new(error) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttling_host_is_busy_and_a_disabled_key_is_gone() {
        let throttled = cause(UserApiError::VmmError(VmmError::RateLimitRetryRequest), 0);
        assert!(matches!(throttled, DeviceError::Busy { .. }));
        let no_key = FirmwareError::IoError(io::Error::from_raw_os_error(ENOTTY));
        assert!(matches!(cause(UserApiError::FirmwareError(no_key), 0), DeviceError::Gone));
        let invalid = UserApiError::FirmwareError(FirmwareError::from(0x16u32));
        assert!(matches!(cause(invalid, 0), DeviceError::Refused { .. }));
    }
}
