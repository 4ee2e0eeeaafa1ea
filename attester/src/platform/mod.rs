//! What one batch asks of the machine, whichever of the six it runs on: the binder in, everything that carries it out.
//!
//! A [`Platform`] stands above the report device. Plain SNP is one request of that device ([`PlainSnp`]); where a TPM says what was
//! booted, the report comes first and the quote, over the report's hash, second, so that neither can be replaced by
//! another machine's.
//!
//! Assumes that a platform is asked by one thread at a time and may take seconds. Nothing here is verified: what the machine hands over
//! is judged by `ratls`, in the guest itself before it serves and in every client.

pub mod aws;
pub mod azure;
pub mod gcp;
mod part;
mod snp;
pub mod svsm;
mod vtpm;

pub use aws::Aws;
pub use azure::Azure;
pub use gcp::Gcp;
pub use part::Part;
pub use snp::PlainSnp;
pub use svsm::Svsm;
pub use vtpm::Logs;

use crate::device::{DeviceError, Pace};
use ratls::binding::{Binder, Profile};
use ratls::wire::attest::{Endorsement, HardwareFormat, TpmEvidence};
use ratls::wire::credential::{Credential, CredentialSecret};
use std::sync::Arc;
use tokio::sync::oneshot;

/// One of the machines that EVIDENT knows how to ask.
pub trait Platform: Send {
    /// What the statement announces.
    fn profile(&self) -> Profile;

    /// What this is, for a log line.
    fn describe(&self) -> String;

    /// True where no hardware stands behind the signature. Every line that a person sees must then say so.
    fn simulated(&self) -> bool {
        false
    }

    /// How often it may be asked.
    fn pace(&self) -> Pace {
        Pace::default()
    }

    /// What the statement commits to before there is a binder.
    fn boot(&self) -> Arc<Boot> {
        Arc::default()
    }

    /// Everything that carries exactly this binder. Blocks until the answer or an error.
    fn gather(&mut self, binder: &Binder) -> Result<Gathered, DeviceError>;

    /// Who proves to a client that the AK lives beside the EK; `None` where the evidence has no such question.
    fn activator(&self) -> Option<Activator> {
        None
    }
}

/// What stays as it is until the guest boots again.
#[derive(Debug, Default)]
pub struct Boot {
    /// TPMT_PUBLIC of the AK; the statement has its hash.
    pub ak: Option<Vec<u8>>,
    /// The firmware's event log; the statement has its length and hash.
    pub event_log: Option<Part>,
    /// The AK's certificate, where the platform keeps one.
    pub ak_certificate: Option<Endorsement>,
}

/// What one request brought. Nothing in it is verified.
#[derive(Clone)]
pub struct Gathered {
    /// For ATTEST key 6, in the order in which it is sent.
    pub hardware: Vec<(HardwareFormat, Vec<u8>)>,
    /// The SNP report in it, as signed.
    pub report: Vec<u8>,
    /// The host's certificate table; empty where the host gave none.
    pub certificates: Vec<u8>,
    /// For ATTEST key 7.
    pub tpm: Option<TpmEvidence>,
    /// What is listed for WANT beside the event log.
    pub parts: Vec<Part>,
}

/// The door to the TPM for a client's CRED. Clones lead to the same TPM.
#[derive(Clone)]
pub struct Activator(Arc<dyn Activate>);

impl Activator {
    pub fn new(activate: impl Activate + 'static) -> Self {
        Activator(Arc::new(activate))
    }

    /// Opens the credential, or says why not. Quotes for batches go before it.
    pub async fn activate(&self, credential: Credential) -> Result<CredentialSecret, ActivateError> {
        self.0.activate(credential).await.unwrap_or(Err(ActivateError::Device(DeviceError::Gone)))
    }
}

/// What an [`Activator`] stands for.
pub trait Activate: Send + Sync {
    /// Must not block; whoever does not wait any more drops the receiver.
    fn activate(&self, credential: Credential) -> oneshot::Receiver<Result<CredentialSecret, ActivateError>>;
}

/// Why a credential was not opened.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ActivateError {
    /// Not made for this EK and this AK, or damaged.
    #[error("the TPM does not take the credential: it was not made for this EK and this AK")]
    NotOurs,
    /// More of them wait than the TPM can answer soon.
    #[error("too many credentials wait for the TPM")]
    QueueFull,
    #[error(transparent)]
    Device(#[from] DeviceError),
}
