//! An SVSM: reports of VMPL 0 over nonce and manifest, the vTPM's EK as the manifest, ordinary reports for the guest's own level.
//!
//! Protocol and manifests: the errors are those of Linux' sev-guest driver. One service is emulated beside the
//! vTPM's, so that the manifest of all services has two entries.

use super::SharedSp;
use crate::configfs::{Answer, Asked, Errno, Hardware, Service};
use crate::controls::DeviceError;
use ratls::crypto;

/// The vTPM, as text and as it stands in the manifest of all services.
pub const VTPM: &str = "c476f1eb-0123-45a5-9641-b4e7dde5bfe3";
const VTPM_BYTES: u128 = 0xc476_f1eb_0123_45a5_9641_b4e7_dde5_bfe3;
/// UEFI's management mode: a version and flags.
pub const UEFI_MM: &str = "a4453a59-9e1b-4787-a033-1986d6adbe55";
const UEFI_MM_BYTES: u128 = 0xa445_3a59_9e1b_4787_a033_1986_d6ad_be55;
const UEFI_MM_MANIFEST: [u8; 8] = [1, 0, 0, 0, 0, 0, 0, 0];
/// Header of the manifest of all services.
const SERVICES: u128 = 0x6384_9ebb_3d92_4670_a1ff_58f9_c94b_87bb;
/// The level that OVMF and Linux run at.
pub const GUEST_VMPL: u32 = 2;

/// The hardware behind configfs-tsm of a guest below an SVSM whose vTPM has this EK (TPMT_PUBLIC).
pub fn hardware(sp: SharedSp, ek: Vec<u8>) -> Hardware {
    Box::new(move |asked| {
        let mut sp = sp.lock();
        let certificates = sp.certificate_table();
        let Some(service) = &asked.service else {
            let report = sp.report_at(&asked.data, asked.vmpl).map_err(|error| errno(&error))?;
            return Ok(Answer { report, certificates, manifest: Vec::new() });
        };
        let manifest = manifest(service, &ek)?;
        let report_data = crypto::sha512(&[&asked.data, &manifest]);
        let report = sp.report_of_monitor(report_data.as_bytes()).map_err(|error| errno(&error))?;
        // The SVSM has no certificates to give; the guest asks for an ordinary report to get them.
        Ok(Answer { report, certificates: Vec::new(), manifest })
    })
}

/// The hardware behind configfs-tsm of a guest that is alone on its virtual machine.
pub fn plain_hardware(sp: SharedSp, further: Vec<([u8; 16], Vec<u8>)>) -> Hardware {
    Box::new(move |asked: &Asked| {
        if asked.service.is_some() {
            return Err(Errno::EINVAL);
        }
        let mut sp = sp.lock();
        let report = sp.report_at(&asked.data, asked.vmpl).map_err(|error| errno(&error))?;
        Ok(Answer { report, certificates: sp.certificate_table_with(&further), manifest: Vec::new() })
    })
}

fn manifest(service: &Service, ek: &[u8]) -> Result<Vec<u8>, Errno> {
    if service.provider != "svsm" {
        return Err(Errno::EINVAL);
    }
    match service.guid.as_deref() {
        // Only version 0 exists.
        Some(_) if service.manifest_version != 0 => Err(Errno::EINVAL),
        Some(VTPM) => Ok(ek.to_vec()),
        Some(UEFI_MM) => Ok(UEFI_MM_MANIFEST.to_vec()),
        Some(_) => Err(Errno::EINVAL),
        None => Ok(all_services(&[(VTPM_BYTES, ek), (UEFI_MM_BYTES, &UEFI_MM_MANIFEST)])),
    }
}

/// GUID, total length, count; then GUID, offset, length of each; then the manifests.
fn all_services(services: &[(u128, &[u8])]) -> Vec<u8> {
    let word = |n: usize| u32::try_from(n).expect("manifests are short").to_le_bytes();
    let mut offset = 24 + 24 * services.len();
    let total = offset + services.iter().map(|(_, data)| data.len()).sum::<usize>();
    let mut manifest = [&mixed_endian(SERVICES)[..], &word(total), &word(services.len())].concat();
    for (guid, data) in services {
        manifest.extend([&mixed_endian(*guid)[..], &word(offset), &word(data.len())].concat());
        offset += data.len();
    }
    manifest.extend(services.iter().flat_map(|(_, data)| *data));
    manifest
}

/// A GUID with its first three groups little-endian.
fn mixed_endian(guid: u128) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = guid.to_be_bytes();
    let mut bytes = [d, c, b, a, f, e, h, g, 0, 0, 0, 0, 0, 0, 0, 0];
    if let Some(tail) = bytes.get_mut(8..) {
        tail.copy_from_slice(&rest);
    }
    bytes
}

fn errno(error: &DeviceError) -> Errno {
    match error {
        DeviceError::Busy { .. } => Errno::EBUSY,
        DeviceError::Refused { .. } => Errno::EIO,
        DeviceError::VmpckGone => Errno::ENOTTY,
        DeviceError::Vmpl { .. } => Errno::EINVAL,
    }
}
