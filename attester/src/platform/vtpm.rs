//! What the platforms with a vTPM share: a queue to the TPM, an AK that was loaded at the start, the logs, and the order of quoting.

use super::{Boot, Part};
use crate::device::DeviceError;
use crate::logs::{self, ImaList};
use crate::tpm::{AkSource, TpmError, TpmQueue};
use ratls::binding::{Binder, quote_binder};
use ratls::evidence::tpm::Bank;
use ratls::wire::attest::{Endorsement, TpmEvidence, media};
use std::path::PathBuf;
use std::sync::Arc;

/// Where the logs are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logs {
    /// The firmware's event log; `None`: not sent.
    pub event_log: Option<PathBuf>,
    /// IMA's list; `None`: not sent.
    pub ima_list: Option<PathBuf>,
}

/// The quoting half of a platform.
pub(super) struct Vtpm {
    pub(super) tpm: TpmQueue,
    pub(super) boot: Arc<Boot>,
    ima: Option<ImaList>,
}

impl Vtpm {
    /// Loads the AK and reads the event log. `certificate` is that of the AK, where the platform keeps one.
    pub(super) fn new(
        tpm: TpmQueue,
        ak: AkSource,
        certificate: Option<Vec<u8>>,
        logs: &Logs,
    ) -> Result<Self, TpmError> {
        let public = tpm.call(move |tpm| tpm.load_ak(ak))?;
        Ok(Self::with_boot(tpm, Some(public), certificate, logs))
    }

    /// For a TPM that signs with no AK of ours.
    pub(super) fn with_boot(tpm: TpmQueue, ak: Option<Vec<u8>>, certificate: Option<Vec<u8>>, logs: &Logs) -> Self {
        let event_log = logs.event_log.as_deref().and_then(|path| match logs::event_log(path) {
            Ok(log) => Some(log),
            Err(error) => {
                tracing::warn!(%error, "the event log is not sent");
                None
            }
        });
        let ak_certificate =
            certificate.map(|bytes| Endorsement { media_type: media::CERTIFICATE.to_owned(), bytes: trimmed(bytes) });
        let boot = Boot { ak, event_log, ak_certificate };
        Vtpm { tpm, boot: Arc::new(boot), ima: logs.ima_list.clone().map(ImaList::at) }
    }

    /// Quotes over the binder and the hash of this report; report first, quote second.
    pub(super) fn quote(&self, binder: &Binder, report: &[u8]) -> Result<TpmEvidence, DeviceError> {
        let qualifying = quote_binder(binder, report);
        Ok(self.tpm.call(move |tpm| tpm.quote(qualifying.as_bytes(), Bank::Sha256))?)
    }

    /// What is read after the quote.
    pub(super) fn parts(&mut self) -> Vec<Part> {
        self.ima.as_mut().and_then(ImaList::read).into_iter().collect()
    }
}

/// An index may be larger than the certificate in it: DER says its own length.
fn trimmed(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = match bytes.as_slice() {
        [0x30, 0x82, high, low, ..] => Some(4 + usize::from(u16::from_be_bytes([*high, *low]))),
        [0x30, 0x81, length, ..] => Some(3 + usize::from(*length)),
        [0x30, length @ 0..=0x7F, ..] => Some(2 + usize::from(*length)),
        _ => None,
    };
    if let Some(length) = length {
        bytes.truncate(length);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_behind_a_certificate_is_cut_off() {
        assert_eq!(trimmed(vec![0x30, 2, 5, 0, 0xFF, 0xFF]), [0x30, 2, 5, 0]);
        assert_eq!(trimmed([&[0x30, 0x82, 1, 0][..], &[7; 300]].concat()).len(), 260);
        assert_eq!(trimmed(vec![0x30, 9, 5, 0]), [0x30, 9, 5, 0]);
        assert_eq!(trimmed(vec![0; 4]), [0; 4]);
    }
}
