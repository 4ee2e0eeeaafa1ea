//! EC2 with SEV-SNP: an ordinary report, and beside it NitroTPM's attestation document, which the Nitro system signs.
//!
//! The document is asked for by a vendor command that reads a request from an NV index and writes the answer into it. The index is
//! defined for one request and removed after it, whatever happens. Its nonce is B and its user data the hash of the report, so that
//! neither can be another machine's. A machine without NitroTPM, or whose TPM does not know the command, attests by its report alone.

use super::vtpm::{Logs, Vtpm};
use super::{Boot, Gathered, Platform};
use crate::device::{DeviceError, DeviceReport, Pace, ReportDevice};
use crate::tpm::{NvAccess, Tpm, TpmError, TpmQueue};
use ratls::binding::{Binder, Profile};
use ratls::crypto::sha384;
use ratls::wire::attest::HardwareFormat;
use ratls::wire::cbor::{CborError, Decoder, Encoder};
use ratls::wire::limits::MAX_HARDWARE_BYTES;
use std::sync::Arc;

/// "NitroTPM" in TPM_PT_VENDOR_STRING_1 and _2.
const VENDOR: [(u32, u32); 2] = [(0x106, 0x4E69_7472), (0x107, 0x6F54_504D)];
/// In the range that the owner may define as he likes (TCG Registry of Reserved Handles, 0x01800000 to 0x01BFFFFF).
pub const DOCUMENT_INDEX: u32 = 0x0184_5645;
/// What AWS's own tool makes the index: the answer needs some 5 KiB.
const DOCUMENT_SIZE: u16 = 8192;

/// Why there is no document.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoDocument {
    #[error("no TPM ({0})")]
    NoTpm(TpmError),
    #[error("its TPM is not NitroTPM")]
    NotNitro,
    #[error("its NitroTPM does not know the command for an attestation document")]
    UnknownCommand,
}

/// An EC2 instance.
pub struct Aws {
    device: Box<dyn ReportDevice>,
    nitro: Result<Vtpm, NoDocument>,
}

impl Aws {
    /// Asks the TPM for a document once, to know whether it gives any. `tpm` is what came of opening it.
    pub fn open(
        device: Box<dyn ReportDevice>,
        tpm: Result<TpmQueue, TpmError>,
        logs: &Logs,
    ) -> Result<Self, DeviceError> {
        let nitro = match tpm {
            Ok(tpm) => match probe(&tpm) {
                Ok(()) => Ok(Vtpm::with_boot(tpm, None, None, logs)),
                Err(Probed::Without(why)) => Err(why),
                Err(Probed::Failed(error)) => return Err(error),
            },
            Err(error @ TpmError::Absent { .. }) => Err(NoDocument::NoTpm(error)),
            Err(error) => return Err(error.into()),
        };
        if let Err(why) = &nitro {
            tracing::warn!(reason = %why, "this instance attests by its SEV-SNP report alone");
        }
        Ok(Aws { device, nitro })
    }
}

enum Probed {
    Without(NoDocument),
    Failed(DeviceError),
}

fn probe(tpm: &TpmQueue) -> Result<(), Probed> {
    let nitro = tpm.call(|tpm| {
        for (property, wanted) in VENDOR {
            if tpm.property(property)? != Some(wanted) {
                return Ok(false);
            }
        }
        Ok(true)
    });
    match nitro.map_err(|error| Probed::Failed(error.into()))? {
        false => Err(Probed::Without(NoDocument::NotNitro)),
        true => match document(tpm, &[0; 64], &[0; 48]) {
            Ok(_) => Ok(()),
            Err(DeviceError::Tpm(TpmError::Code { code, .. })) if code.is_unknown_command() => {
                Err(Probed::Without(NoDocument::UnknownCommand))
            }
            Err(error) => Err(Probed::Failed(error)),
        },
    }
}

impl Platform for Aws {
    fn profile(&self) -> Profile {
        Profile::AwsSnp
    }

    fn describe(&self) -> String {
        match &self.nitro {
            Ok(_) => format!("{}, and NitroTPM", self.device.describe()),
            Err(why) => format!("{}, without NitroTPM's document: {why}", self.device.describe()),
        }
    }

    fn simulated(&self) -> bool {
        self.device.simulated()
    }

    fn pace(&self) -> Pace {
        self.device.pace()
    }

    fn boot(&self) -> Arc<Boot> {
        self.nitro.as_ref().map(|nitro| nitro.boot.clone()).unwrap_or_default()
    }

    fn gather(&mut self, binder: &Binder) -> Result<Gathered, DeviceError> {
        let DeviceReport { report, certificates } = self.device.report(binder.as_bytes())?;
        let mut hardware = vec![(HardwareFormat::SnpReport, report.clone())];
        let mut parts = Vec::new();
        if let Ok(nitro) = &mut self.nitro {
            let document = document(&nitro.tpm, binder.as_bytes(), sha384(&[&report]).as_bytes())?;
            hardware.push((HardwareFormat::NitroDocument, document));
            parts = nitro.parts();
        }
        Ok(Gathered { hardware, report, certificates, tpm: None, parts })
    }
}

/// A document with this nonce and user data.
fn document(tpm: &TpmQueue, nonce: &[u8; 64], user_data: &[u8; 48]) -> Result<Vec<u8>, DeviceError> {
    let request = request(nonce, user_data);
    let answer = tpm.call(move |tpm| {
        let index = match tpm.nv_index(DOCUMENT_INDEX)? {
            // Left by a process that was killed in between.
            Some(index) if index.size == usize::from(DOCUMENT_SIZE) => index,
            Some(index) => {
                let (what, wanted) = ("the request for a Nitro document", DOCUMENT_SIZE.into());
                return Err(TpmError::IndexSize { index: DOCUMENT_INDEX, what, seen: index.size, wanted });
            }
            None => tpm.nv_define(DOCUMENT_INDEX, DOCUMENT_SIZE, NvAccess::Password)?,
        };
        let ask = |tpm: &mut Tpm| {
            tpm.nv_write(&index, &request)?;
            tpm.nitro_attest(DOCUMENT_INDEX)?;
            tpm.nv_read(&index)
        };
        let answer = ask(tpm);
        if let Err(error) = tpm.nv_undefine(DOCUMENT_INDEX) {
            tracing::warn!(%error, "the NV index of a Nitro document could not be removed");
        }
        answer
    })?;
    parse(&answer)
}

/// `{"Attestation": {"user_data": …, "nonce": …, "public_key": null}}`.
fn request(nonce: &[u8; 64], user_data: &[u8; 48]) -> Vec<u8> {
    let mut e = Encoder::new();
    e.map(1)
        .text("Attestation")
        .map(3)
        .text("user_data")
        .bytes(user_data)
        .text("nonce")
        .bytes(nonce)
        .text("public_key");
    // null, which the encoder does not know: nothing of ours has it.
    [&e.finish()[..], &[0xF6]].concat()
}

/// `{"Attestation": {"document": bytes}}` or `{"Error": text}`, and padding to the end of the index.
fn parse(answer: &[u8]) -> Result<Vec<u8>, DeviceError> {
    let unreadable = |reason: String| DeviceError::Unreadable { what: "answer of NitroTPM", reason };
    let (mut document, mut error) = (None, None);
    let read = Decoder::new(answer).text_map("answer", 2, 32, |d, key| {
        match key {
            "Attestation" => d.text_map("attestation", 4, 32, |d, key| {
                match key {
                    "document" => document = Some(d.bytes("document", MAX_HARDWARE_BYTES)?.to_vec()),
                    _ => d.skip()?,
                }
                Ok::<_, CborError>(())
            })?,
            "Error" => error = Some(d.text("error", 512)?.to_owned()),
            _ => d.skip()?,
        }
        Ok(())
    });
    match (read, document, error) {
        (_, _, Some(error)) => Err(DeviceError::Refused { reason: format!("NitroTPM says {error:?}") }),
        (Ok(_), Some(document), None) => Ok(document),
        (Ok(_), None, None) => Err(unreadable("there is no document in it".into())),
        (Err(error), _, None) => Err(unreadable(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_ends_where_its_cbor_does() {
        let mut e = Encoder::new();
        let mut answer = e.map(1).text("Attestation").map(1).text("document").bytes(&[7; 300]).finish();
        answer.resize(8192, 0xFF);
        assert_eq!(parse(&answer).unwrap(), [7; 300]);
        answer.truncate(200);
        assert!(matches!(parse(&answer), Err(DeviceError::Unreadable { .. })));
        let error = Encoder::new().map(1).text("Error").text("InvalidArgument").finish();
        assert!(parse(&error).unwrap_err().to_string().contains("InvalidArgument"));
        assert!(matches!(parse(&[0xFF; 8192]), Err(DeviceError::Unreadable { .. })));
    }

    #[test]
    fn the_request_is_as_the_tool_of_aws_writes_it() {
        let request = request(&[1; 64], &[2; 48]);
        let head = [&[0xA1, 0x6B][..], b"Attestation", &[0xA3, 0x69], b"user_data", &[0x58, 48, 2]].concat();
        assert!(request.starts_with(&head));
        assert!(request.ends_with(&[&b"\x65nonce\x58\x40"[..], &[1; 64], b"\x6Apublic_key\xF6"].concat()));
    }
}
