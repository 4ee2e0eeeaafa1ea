//! Azure's instance metadata, as far as it has the certificates of the reports' key.
//!
//! Plain HTTP to an address of the host, which could give them by any other way as well: what comes is verified like all certificates.

use crate::kds::BaseUrlError;
use crate::kds::http::{Answer, Client};
use ratls::endorsement::pem;
use serde::Deserialize;
use std::time::Duration;

/// Where every Azure machine finds it.
pub const AZURE: &str = "http://169.254.169.254";
const PATH: &str = "/metadata/THIM/amd/certification";
/// Without this header nothing is answered, so that no redirect or careless proxy leads here.
const HEADER: (&str, &str) = ("metadata", "true");
const TIMEOUT: Duration = Duration::from_secs(5);
/// Three certificates in PEM and in JSON are 7 KiB.
const MAX_BYTES: usize = 32 * 1024;

/// The service of one machine.
pub struct Imds {
    client: Client,
}

#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImdsError {
    #[error("Azure's instance metadata cannot be had: {0}")]
    Transport(String),
    #[error("Azure's instance metadata answers {status}")]
    Status { status: u16 },
    #[error("Azure's instance metadata has no certificates: {0}")]
    Content(String),
}

#[derive(Deserialize)]
struct Certification {
    #[serde(rename = "vcekCert")]
    vcek: String,
    #[serde(rename = "certificateChain")]
    chain: String,
}

impl Imds {
    pub fn new(base_url: &str) -> Result<Self, BaseUrlError> {
        Ok(Imds { client: Client::new(base_url, TIMEOUT)? })
    }

    /// Leaf, ASK and ARK in DER; nothing of them is verified here.
    pub async fn certificates(&self) -> Result<Vec<Vec<u8>>, ImdsError> {
        let answer = self.client.get_with(PATH, MAX_BYTES, Some(HEADER)).await;
        let body = match answer.map_err(|error| ImdsError::Transport(error.to_string()))? {
            Answer::Body(body) => body,
            Answer::Status { status, .. } => return Err(ImdsError::Status { status: status.as_u16() }),
        };
        let content: Certification =
            serde_json::from_slice(&body).map_err(|error| ImdsError::Content(error.to_string()))?;
        let pem = [content.vcek, content.chain].join("\n");
        pem::certificates(pem.as_bytes()).map_err(|error| ImdsError::Content(error.to_string()))
    }
}
