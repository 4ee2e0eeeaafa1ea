//! Which of the six platforms this guest runs on, and opening it.
//!
//! Where the operator says it, that one is opened or the reason told why not. Otherwise what the machine shows decides, each step said:
//! first what only a confidential machine of that cloud has, then what its firmware says of itself. A cloud that was recognised and
//! cannot be opened is an error, not a quieter kind of evidence. No verifier believes any of it.

use crate::configfs::{ConfigfsTsm, MAX_VMPL};
use crate::detect::{self, Host, NoDevice, ORDINARY, Places};
use crate::device::{DeviceError, Pace};
use crate::platform::{Aws, Azure, Gcp, PlainSnp, Platform, Svsm};
use crate::tpm::{Tpm, TpmError, TpmQueue};
use std::ffi::OsString;
use std::fmt;

/// How a guest attests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Snp,
    Azure,
    Gcp,
    Aws,
    Svsm,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Snp => "snp",
            Kind::Azure => "azure",
            Kind::Gcp => "gcp",
            Kind::Aws => "aws",
            Kind::Svsm => "svsm",
        })
    }
}

/// An open platform and how it was found.
pub struct Chosen {
    pub platform: Box<dyn Platform>,
    pub kind: Kind,
    /// One line per thing that was looked at; empty where the operator chose.
    pub seen: Vec<String>,
}

/// Why there is no platform.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoPlatform {
    #[error(transparent)]
    NoDevice(#[from] NoDevice),
    #[error("the platform {kind} cannot be used here: {error}{}", advice(*.kind, .error, .seen))]
    Failed { kind: Kind, error: DeviceError, seen: Vec<String> },
}

fn advice(kind: Kind, error: &DeviceError, seen: &[String]) -> String {
    let no_tpm = matches!(error, DeviceError::Tpm(TpmError::Absent { .. }));
    match (kind, seen) {
        (_, []) if no_tpm => "\nWhat to do: load the TPM driver, set device.tpm, or choose another platform".to_owned(),
        (_, []) => String::new(),
        (Kind::Azure, seen) => format!("\nit was chosen by what was seen:\n  {}", seen.join("\n  ")),
        (_, seen) => format!(
            "\nit was chosen by what was seen:\n  {}\nWhat to do: put that right, or choose the platform `snp` to attest by the report alone",
            seen.join("\n  ")
        ),
    }
}

/// Opens the platform that was chosen, or the one that this machine looks like. Reports that the guest asks for itself will be for `vmpl`.
pub fn open(choice: Option<Kind>, places: &Places, vmpl: u32) -> Result<Chosen, NoPlatform> {
    let mut seen = Vec::new();
    let kind = choice.unwrap_or_else(|| look(places, &mut seen));
    let failed = |error: DeviceError, seen: Vec<String>| NoPlatform::Failed { kind, error, seen };
    let tpm = || Tpm::open(&places.tpm).and_then(TpmQueue::start);
    let opened: Result<Box<dyn Platform>, DeviceError> = match kind {
        Kind::Snp => Ok(Box::new(PlainSnp::new(detect::open(places, vmpl)?))),
        Kind::Gcp => {
            let device = detect::open(places, vmpl)?;
            tpm().and_then(|tpm| Gcp::open(device, tpm, &places.logs)).map(|gcp| Box::new(gcp) as _).map_err(Into::into)
        }
        Kind::Aws => {
            let device = detect::open(places, vmpl)?;
            Aws::open(device, tpm(), &places.logs).map(|aws| Box::new(aws) as _)
        }
        Kind::Azure => {
            tpm().and_then(|tpm| Azure::open(tpm, &places.logs)).map(|azure| Box::new(azure) as _).map_err(Into::into)
        }
        Kind::Svsm => svsm(places, tpm()).map(|svsm| Box::new(svsm) as _),
    };
    match opened {
        Ok(platform) => Ok(Chosen { platform, kind, seen }),
        Err(error) => Err(failed(error, seen)),
    }
}

/// What the machine looks like.
fn look(places: &Places, seen: &mut Vec<String>) -> Kind {
    let host = Host::detect(&places.dmi);
    seen.push(match host {
        Host::Azure => "its firmware calls it an Azure machine".into(),
        Host::Aws => "its firmware calls it an EC2 instance".into(),
        Host::Gcp => "its firmware calls it a Google Compute Engine instance".into(),
        Host::Unknown => format!("its firmware names none of the clouds ({})", places.dmi.display()),
    });
    let tpm = Tpm::open(&places.tpm);
    match &tpm {
        Ok(_) => seen.push(format!("there is a TPM at {}", places.tpm)),
        Err(error) => seen.push(error.to_string()),
    }
    if let Ok(mut tpm) = tpm {
        match hcl(&mut tpm) {
            Ok(true) => {
                seen.push("the TPM holds an HCL report: Azure's paravisor".into());
                return Kind::Azure;
            }
            Ok(false) => {}
            Err(error) => seen.push(format!("the TPM does not say whether it holds an HCL report: {error}")),
        }
        match entry(places, "").map(|entry| entry.has_service()) {
            Ok(true) => {
                seen.push("the kernel runs below an SVSM (configfs-tsm has service_provider)".into());
                return Kind::Svsm;
            }
            Ok(false) => seen.push("the kernel does not run below an SVSM".into()),
            Err(error) => seen.push(format!("configfs-tsm does not say whether there is an SVSM: {error}")),
        }
        if host == Host::Gcp {
            return Kind::Gcp;
        }
    }
    match host {
        Host::Azure => Kind::Azure,
        Host::Aws => Kind::Aws,
        // Without its vTPM a Google machine has a report and nothing else.
        Host::Gcp | Host::Unknown => Kind::Snp,
    }
}

fn hcl(tpm: &mut Tpm) -> Result<bool, TpmError> {
    Ok(tpm.nv_index(crate::platform::azure::REPORT_INDEX)?.is_some())
}

fn svsm(places: &Places, tpm: Result<TpmQueue, TpmError>) -> Result<Svsm, DeviceError> {
    let (reports, ordinary) = (entry(places, "")?, entry(places, ORDINARY)?);
    if !reports.has_service() {
        let error = std::sync::Arc::new(std::io::ErrorKind::NotFound.into());
        return Err(DeviceError::Io { operation: "ask an SVSM by", path: places.configfs_root.clone(), error });
    }
    Svsm::open(reports, ordinary, tpm?, &places.logs)
}

/// The entry that root prepared, with this behind its name; else one of our own. Its level is that of the kernel.
fn entry(places: &Places, behind: &str) -> Result<ConfigfsTsm, DeviceError> {
    let pace: Pace = Host::detect(&places.dmi).pace();
    let entry = match &places.prepared_entry {
        Some(path) => {
            let mut name = OsString::from(path);
            name.push(behind);
            ConfigfsTsm::reuse(name.as_ref(), MAX_VMPL)
        }
        None => ConfigfsTsm::create(&places.configfs_root, MAX_VMPL),
    };
    Ok(entry?.with_pace(pace))
}
