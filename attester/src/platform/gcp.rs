//! Google Compute Engine: an ordinary report, and a vTPM of the host whose AK Google certifies.
//!
//! The AK is the primary key of a template that stands in NV. The host's certificate table carries, beside the VCEK, Google's endorsement
//! of its firmware, which is listed as a part.

use super::vtpm::{Logs, Vtpm};
use super::{Boot, Gathered, Part, Platform};
use crate::device::{DeviceError, DeviceReport, Pace, ReportDevice};
use crate::tpm::{AkSource, Hierarchy, Tpm, TpmError, TpmQueue};
use ratls::binding::{Binder, Profile};
use ratls::endorsement::table::{CertificateTable, TableItem};
use ratls::wire::attest::{HardwareFormat, media, part};
use std::sync::Arc;

/// Template and certificate of the AK, P-256 and RSA-2048.
pub const ECC: Indexes = Indexes { template: 0x01C1_0003, certificate: 0x01C1_0002 };
pub const RSA: Indexes = Indexes { template: 0x01C1_0001, certificate: 0x01C1_0000 };

/// Where Google keeps one AK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Indexes {
    pub template: u32,
    pub certificate: u32,
}

/// A confidential VM of Google's.
pub struct Gcp {
    device: Box<dyn ReportDevice>,
    vtpm: Vtpm,
    address: String,
    endorsement: Option<Part>,
}

impl Gcp {
    /// Makes the AK from what Google puts into the TPM. `device` asks for the reports.
    pub fn open(device: Box<dyn ReportDevice>, tpm: TpmQueue, logs: &Logs) -> Result<Self, TpmError> {
        let (address, (template, certificate)) = tpm.call(|tpm| Ok((tpm.address().to_string(), find(tpm)?)))?;
        let vtpm = Vtpm::new(tpm, AkSource::Primary(Hierarchy::Endorsement, template), Some(certificate), logs)?;
        Ok(Gcp { device, vtpm, address, endorsement: None })
    }

    /// Kept while it stays the same: it is some kilobytes in every report's table.
    fn endorsement(&mut self, table: &[u8]) -> Option<Part> {
        let table = CertificateTable::parse(table).ok()?;
        let bytes = table.get(TableItem::LaunchEndorsement)?;
        if self.endorsement.as_ref().is_none_or(|last| last.bytes() != bytes) {
            self.endorsement = Part::new(part::GCE_ENDORSEMENT, media::GCE_ENDORSEMENT, bytes);
        }
        self.endorsement.clone()
    }
}

/// Template and certificate; the elliptic one where there are both, because it signs sooner.
fn find(tpm: &mut Tpm) -> Result<(Vec<u8>, Vec<u8>), TpmError> {
    let certificate = "the certificate of Google's AK, which confidential VMs have";
    for Indexes { template, certificate: of_key } in [ECC, RSA] {
        let (Some(template), Some(of_key)) = (tpm.nv_index(template)?, tpm.nv_index(of_key)?) else { continue };
        return Ok((tpm.nv_read(&template)?, tpm.nv_read(&of_key)?));
    }
    let missing = |index, what| Err(TpmError::NoIndex { index, what });
    match (tpm.nv_index(ECC.template)?, tpm.nv_index(RSA.template)?) {
        (Some(_), _) => missing(ECC.certificate, certificate),
        (None, Some(_)) => missing(RSA.certificate, certificate),
        (None, None) => missing(ECC.template, "the template of Google's AK"),
    }
}

impl Platform for Gcp {
    fn profile(&self) -> Profile {
        Profile::GcpSnp
    }

    fn describe(&self) -> String {
        format!("{}, and Google's vTPM at {}", self.device.describe(), self.address)
    }

    fn simulated(&self) -> bool {
        self.device.simulated()
    }

    fn pace(&self) -> Pace {
        self.device.pace()
    }

    fn boot(&self) -> Arc<Boot> {
        self.vtpm.boot.clone()
    }

    fn gather(&mut self, binder: &Binder) -> Result<Gathered, DeviceError> {
        let DeviceReport { report, certificates } = self.device.report(binder.as_bytes())?;
        let tpm = self.vtpm.quote(binder, &report)?;
        let mut parts = self.vtpm.parts();
        parts.extend(self.endorsement(&certificates));
        Ok(Gathered {
            hardware: vec![(HardwareFormat::SnpReport, report.clone())],
            report,
            certificates,
            tpm: Some(tpm),
            parts,
        })
    }
}
