//! A guest below an SVSM (Coconut): the SVSM, at VMPL 0, asks for the report over our nonce and a manifest, and the manifest holds the EK
//! of the vTPM that it runs.
//!
//! So the report says what runs the vTPM, and the EK is its. That the AK lives beside that EK is what a client's CRED asks, and only the
//! TPM can answer. The SVSM gives no certificates with its reports; an ordinary report, at this kernel's own level, brings them.

use super::vtpm::{Logs, Vtpm};
use super::{Activate, ActivateError, Activator, Boot, Gathered, Platform};
use crate::configfs::{ConfigfsTsm, Service};
use crate::device::{DeviceError, Pace, ReportDevice};
use crate::tpm::{AkSource, Hierarchy, TpmQueue};
use ratls::binding::{Binder, Profile};
use ratls::evidence::svsm::Manifest;
use ratls::wire::attest::HardwareFormat;
use ratls::wire::cbor::Encoder;
use ratls::wire::credential::{Credential, CredentialSecret};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The vTPM's service in SVSM's attestation protocol.
const VTPM_SERVICE: &str = "c476f1eb-0123-45a5-9641-b4e7dde5bfe3";
/// Certificates change with a firmware update of the host, which takes a restart of the guest or a migration.
const CERTIFICATES_AGE: Duration = Duration::from_secs(3600);

/// P-256, ECDSA with SHA-256; fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign. No `unique`: the owner's
/// seed gives one such key.
const AK_TEMPLATE: &[u8] = &[
    0x00, 0x23, 0x00, 0x0B, 0x00, 0x05, 0x04, 0x72, 0x00, 0x00, 0x00, 0x10, 0x00, 0x18, 0x00, 0x0B, 0x00, 0x03, 0x00,
    0x10, 0x00, 0x00, 0x00, 0x00,
];
/// The TCG's default EK template for RSA-2048 up to `unique` (EK Credential Profile, L-1), which the SVSM makes its EK from.
const EK_HEAD: [u8; 58] = [
    0x00, 0x01, 0x00, 0x0B, 0x00, 0x03, 0x00, 0xB2, 0x00, 0x20, 0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xB3, 0xF8, 0x1A,
    0x90, 0xCC, 0x8D, 0x46, 0xA5, 0xD7, 0x24, 0xFD, 0x52, 0xD7, 0x6E, 0x06, 0x52, 0x0B, 0x64, 0xF2, 0xA1, 0xDA, 0x1B,
    0x33, 0x14, 0x69, 0xAA, 0x00, 0x06, 0x00, 0x80, 0x00, 0x43, 0x00, 0x10, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01,
    0x00,
];

fn ek_template() -> Vec<u8> {
    [&EK_HEAD[..], &[0; 256]].concat()
}

/// A guest below an SVSM.
pub struct Svsm {
    reports: ConfigfsTsm,
    ordinary: ConfigfsTsm,
    vtpm: Vtpm,
    /// TPMT_PUBLIC of the EK, as the TPM makes it.
    ek: Vec<u8>,
    service: Service,
    certificates: Option<(Vec<u8>, Instant)>,
    pace: Pace,
}

impl Svsm {
    /// `reports` and `ordinary` are two entries: what was once asked of a service stays with its entry.
    pub fn open(reports: ConfigfsTsm, ordinary: ConfigfsTsm, tpm: TpmQueue, logs: &Logs) -> Result<Self, DeviceError> {
        let ek = tpm.call(|tpm| tpm.primary_public(Hierarchy::Endorsement, &ek_template()))?;
        let ak = AkSource::Primary(Hierarchy::Owner, AK_TEMPLATE.to_vec());
        let vtpm = Vtpm::new(tpm, ak, None, logs)?;
        let (pace, ordinary) = (reports.pace(), ordinary.at_floor()?);
        let mut svsm = Svsm { reports, ordinary, vtpm, ek, service: Service::All, certificates: None, pace };
        svsm.choose_manifest()?;
        svsm.renew_certificates();
        Ok(svsm)
    }

    /// The manifest of all services has their GUIDs inside the hash, so it is preferred; an SVSM that does not give it, or gives more than
    /// can be sent, is asked for the vTPM's alone.
    fn choose_manifest(&mut self) -> Result<(), DeviceError> {
        match self.manifest(&[0; 64]) {
            Ok(_) => return Ok(()),
            Err(error @ (DeviceError::Busy { .. } | DeviceError::Denied { .. } | DeviceError::Gone)) => {
                return Err(error);
            }
            Err(error) => tracing::info!(%error, "no manifest of all of the SVSM's services; asking for the vTPM's"),
        }
        self.service = Service::One(VTPM_SERVICE);
        self.rest();
        self.manifest(&[0; 64]).map(drop)
    }

    /// Report and manifest over this nonce, of which the manifest names the EK of the TPM that we talk to.
    fn manifest(&mut self, nonce: &[u8; 64]) -> Result<(Vec<u8>, Vec<u8>), DeviceError> {
        let unreadable = |reason: String| DeviceError::Unreadable { what: "manifest of the SVSM", reason };
        let answer = self.reports.service_report(nonce, self.service)?;
        let manifest = Manifest::parse(&answer.manifest).map_err(|error| unreadable(error.to_string()))?;
        if manifest.ek().as_bytes() != self.ek {
            return Err(unreadable("its EK is not that of the TPM which this guest uses".into()));
        }
        Ok((answer.report, answer.manifest))
    }

    /// Asked for again when they are old; where that fails the old ones stay.
    fn renew_certificates(&mut self) {
        if self.certificates.as_ref().is_some_and(|(_, since)| since.elapsed() < CERTIFICATES_AGE) {
            return;
        }
        self.rest();
        let table = match self.ordinary.report(&[0; 64]) {
            Ok(report) => report.certificates,
            Err(error) => {
                tracing::warn!(%error, "no ordinary report, and so no certificates of the host");
                self.certificates.take().map(|(table, _)| table).unwrap_or_default()
            }
        };
        self.certificates = Some((table, Instant::now()));
        self.rest();
    }

    /// Where the host throttles, two requests are a while apart, or its SVSM may fail.
    fn rest(&self) {
        if self.pace.burst <= 1 {
            std::thread::sleep(self.pace.min_interval);
        }
    }
}

impl Platform for Svsm {
    fn profile(&self) -> Profile {
        Profile::SvsmSnp
    }

    fn describe(&self) -> String {
        format!("{}, below an SVSM, and its vTPM", self.ordinary.describe())
    }

    fn pace(&self) -> Pace {
        self.pace
    }

    fn boot(&self) -> Arc<Boot> {
        self.vtpm.boot.clone()
    }

    fn gather(&mut self, binder: &Binder) -> Result<Gathered, DeviceError> {
        self.renew_certificates();
        let (report, manifest) = self.manifest(binder.as_bytes())?;
        let tpm = self.vtpm.quote(binder, &report)?;
        let mut e = Encoder::new();
        e.map(3).uint(1).bytes(&report).uint(2).bytes(&manifest).uint(3).bytes(binder.as_bytes());
        Ok(Gathered {
            hardware: vec![(HardwareFormat::SvsmManifest, e.finish())],
            report,
            certificates: self.certificates.as_ref().map(|(table, _)| table.clone()).unwrap_or_default(),
            tpm: Some(tpm),
            parts: self.vtpm.parts(),
        })
    }

    fn activator(&self) -> Option<Activator> {
        Some(Activator::new(Credentials(self.vtpm.tpm.clone())))
    }
}

/// Opens credentials with the EK of the manifest.
struct Credentials(TpmQueue);

impl Activate for Credentials {
    fn activate(&self, credential: Credential) -> oneshot::Receiver<Result<CredentialSecret, ActivateError>> {
        let waiting = self.0.later(move |tpm| {
            let opened = tpm.activate_credential(&ek_template(), &credential);
            let secret = opened.map_err(DeviceError::from)?.and_then(|secret| secret.try_into().ok());
            secret.map(CredentialSecret::from_bytes).ok_or(ActivateError::NotOurs)
        });
        waiting.unwrap_or_else(|_| {
            let (reply, answer) = oneshot::channel();
            // The receiver is right here.
            let _ = reply.send(Err(ActivateError::QueueFull));
            answer
        })
    }
}
