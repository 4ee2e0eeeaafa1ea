//! Key 6: pieces of hardware evidence, each of another form.

use crate::wire::cbor::{CborError, Decoder, Encoder};
use crate::wire::limits::{MAX_HARDWARE, MAX_HARDWARE_BYTES};

/// Form of a piece of hardware evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum HardwareFormat {
    /// An SNP attestation report of 1,184 bytes.
    SnpReport = 1,
    /// The content of Azure's NV index.
    HclBlob = 2,
    /// Report, manifest and nonce of an SVSM.
    SvsmManifest = 3,
    /// A NitroTPM attestation document (COSE), beside a report.
    NitroDocument = 4,
}

/// The list of key 6 alone, for evidence in a certificate.
pub fn encode_hardware(hardware: &[(HardwareFormat, Vec<u8>)]) -> Vec<u8> {
    let mut e = Encoder::new();
    write(&mut e, hardware);
    e.finish()
}

pub fn decode_hardware(bytes: &[u8]) -> Result<Vec<(HardwareFormat, Vec<u8>)>, CborError> {
    let mut d = Decoder::new(bytes);
    let hardware = read(&mut d)?;
    d.finish()?;
    Ok(hardware)
}

pub(super) fn write(e: &mut Encoder, hardware: &[(HardwareFormat, Vec<u8>)]) {
    e.array(hardware.len());
    for (format, bytes) in hardware {
        e.array(2).uint(*format as u64).bytes(bytes);
    }
}

pub(super) fn read(d: &mut Decoder<'_>) -> Result<Vec<(HardwareFormat, Vec<u8>)>, CborError> {
    let mut hardware: Vec<(HardwareFormat, Vec<u8>)> = vec![];
    d.array("hardware evidence", MAX_HARDWARE, |d| {
        let item = d.pair("hardware evidence", |d| {
            let format = hardware_format(d.uint()?)?;
            Ok((format, d.bytes("hardware evidence", MAX_HARDWARE_BYTES)?.to_vec()))
        })?;
        if hardware.iter().any(|(format, _)| *format == item.0) {
            return Err(CborError::Value { what: "hardware format, twice", value: item.0 as u64 });
        }
        hardware.push(item);
        Ok(())
    })?;
    Ok(hardware)
}

fn hardware_format(value: u64) -> Result<HardwareFormat, CborError> {
    match value {
        1 => Ok(HardwareFormat::SnpReport),
        2 => Ok(HardwareFormat::HclBlob),
        3 => Ok(HardwareFormat::SvsmManifest),
        4 => Ok(HardwareFormat::NitroDocument),
        value => Err(CborError::Value { what: "hardware format", value }),
    }
}
