//! Which machine this is, which report hardware it has, and what to do where it has none.
//!
//! A hint for the operator, for the pace and for the choice of platform; no verifier believes any of it.

use crate::configfs::{self, ConfigfsTsm};
use crate::device::{DeviceError, Pace, ReportDevice};
use crate::logs;
use crate::platform::Logs;
use crate::sev_guest::{self, SevGuest};
use crate::tpm::Address;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where to look. [`Places::of_this_machine`] is what a program uses; tests bring folders of their own.
#[derive(Clone, Debug)]
pub struct Places {
    /// An entry that root prepared. Where it is named nothing else is tried: the operator said which one.
    pub prepared_entry: Option<PathBuf>,
    pub configfs_root: PathBuf,
    /// Whether there is a device is asked of this path; what is opened then is [`sev_guest::DEVICE`].
    pub sev_guest: PathBuf,
    /// `/sys/class/dmi/id`.
    pub dmi: PathBuf,
    pub tpm: Address,
    pub logs: Logs,
}

/// The kernel's resource manager, which several programs can use at a time.
pub const DEFAULT_TPM: &str = "/dev/tpmrm0";
/// Behind the name of a prepared entry: the one for ordinary reports below an SVSM.
pub const ORDINARY: &str = "-ordinary";

impl Places {
    pub fn of_this_machine(prepared_entry: Option<PathBuf>) -> Self {
        Places {
            prepared_entry,
            configfs_root: configfs::DEFAULT_ROOT.into(),
            sev_guest: sev_guest::DEVICE.into(),
            dmi: "/sys/class/dmi/id".into(),
            tpm: Address::Device(DEFAULT_TPM.into()),
            logs: Logs { event_log: Some(logs::EVENT_LOG.into()), ima_list: None },
        }
    }
}

/// Whose machine this seems to be, by what its firmware says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    Azure,
    Aws,
    Gcp,
    Unknown,
}

impl Host {
    pub fn detect(dmi: &Path) -> Self {
        let says = |file: &str, text: &str| fs::read_to_string(dmi.join(file)).is_ok_and(|seen| seen.trim() == text);
        if says("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77") {
            Host::Azure
        } else if says("sys_vendor", "Amazon EC2") {
            Host::Aws
        } else if says("product_name", "Google Compute Engine") {
            Host::Gcp
        } else {
            Host::Unknown
        }
    }

    /// How often this host lets its guests ask.
    pub fn pace(self) -> Pace {
        match self {
            Host::Gcp => Pace { min_interval: Duration::from_secs(2), burst: 1 },
            Host::Azure => Pace { min_interval: Duration::from_millis(2200), burst: 1 },
            Host::Aws | Host::Unknown => Pace::default(),
        }
    }
}

/// Opens the first report device that works: configfs-tsm, else `/dev/sev-guest`. Reports will be for `vmpl`.
pub fn open(places: &Places, vmpl: u32) -> Result<Box<dyn ReportDevice>, NoDevice> {
    let host = Host::detect(&places.dmi);
    let pace = host.pace();
    let mut looked_for = Vec::new();
    if let Some(entry) = &places.prepared_entry {
        match ConfigfsTsm::reuse(entry, vmpl) {
            Ok(device) => return Ok(Box::new(device.with_pace(pace))),
            Err(error) => looked_for.push(Looked::failed(format!("the prepared entry {}", entry.display()), error)),
        }
        return Err(NoDevice { looked_for, host });
    }
    let what = format!("configfs-tsm at {}", places.configfs_root.display());
    if places.configfs_root.is_dir() {
        match ConfigfsTsm::create(&places.configfs_root, vmpl) {
            Ok(device) => return Ok(Box::new(device.with_pace(pace))),
            Err(error) => looked_for.push(Looked::failed(what, error)),
        }
    } else {
        looked_for.push(Looked { what, outcome: Outcome::Absent });
    }
    let what = format!("the device {}", places.sev_guest.display());
    if places.sev_guest.exists() {
        match SevGuest::open(vmpl) {
            Ok(device) => return Ok(Box::new(device.with_pace(pace))),
            Err(error) => looked_for.push(Looked::failed(what, error)),
        }
    } else {
        looked_for.push(Looked { what, outcome: Outcome::Absent });
    }
    Err(NoDevice { looked_for, host })
}

/// One place and what was found there.
#[derive(Clone, Debug)]
pub struct Looked {
    pub what: String,
    pub outcome: Outcome,
}

#[derive(Clone, Debug)]
pub enum Outcome {
    Absent,
    Failed(DeviceError),
}

impl Looked {
    fn failed(what: String, error: DeviceError) -> Self {
        Looked { what, outcome: Outcome::Failed(error) }
    }
}

/// Nothing usable was found. Prints as the list of places and the advice that fits them.
#[derive(Clone, Debug)]
pub struct NoDevice {
    pub looked_for: Vec<Looked>,
    pub host: Host,
}

impl std::error::Error for NoDevice {}

impl fmt::Display for NoDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no usable SEV-SNP report device; looked for:")?;
        for Looked { what, outcome } in &self.looked_for {
            match outcome {
                Outcome::Absent => write!(f, "\n  {what}: not there")?,
                Outcome::Failed(error) => write!(f, "\n  {what}: {error}")?,
            }
        }
        f.write_str("\nWhat to do: ")?;
        f.write_str(self.advice())
    }
}

impl NoDevice {
    fn advice(&self) -> &'static str {
        if self.looked_for.iter().any(|looked| matches!(looked.outcome, Outcome::Failed(_))) {
            return "the hardware interface is there and cannot be used; put right what stands beside it above.";
        }
        match self.host {
            Host::Azure => {
                "this looks like an Azure machine, whose guests attest through the vTPM; use a confidential size (DCas or ECas) and \
                 the platform `azure`."
            }
            Host::Aws => {
                "this looks like an EC2 machine; start it with AMD SEV-SNP enabled (CpuOptions AmdSevSnp=enabled)."
            }
            Host::Gcp => {
                "this looks like a Google machine; create it as a Confidential VM of the type SEV_SNP, and load the kernel module \
                 sev-guest."
            }
            Host::Unknown => {
                "run this in an SEV-SNP guest with Linux 5.19 or later (6.7 for configfs-tsm), load the kernel module sev-guest \
                 (`modprobe sev-guest`), and mount configfs (`mount -t configfs none /sys/kernel/config`)."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty(dir: &Path) -> Places {
        Places {
            prepared_entry: None,
            configfs_root: dir.join("report"),
            sev_guest: dir.join("sev-guest"),
            dmi: dir.join("dmi"),
            tpm: Address::Device(dir.join("tpmrm0")),
            logs: Logs::default(),
        }
    }

    #[test]
    fn says_what_it_looked_for_and_what_to_do_where_there_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let error = open(&empty(dir.path()), 0).err().expect("there is no device in an empty folder");
        let text = error.to_string();
        assert!(text.contains("report: not there") && text.contains("sev-guest: not there"), "{text}");
        assert!(text.contains("modprobe sev-guest"), "{text}");
    }

    #[test]
    fn a_named_entry_is_the_only_one_tried() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places { prepared_entry: Some(dir.path().join("mine")), ..empty(dir.path()) };
        fs::create_dir(&places.configfs_root).unwrap();
        let error = open(&places, 0).err().expect("the entry is missing");
        assert_eq!(error.looked_for.len(), 1);
        assert!(error.to_string().contains("put right what stands beside it"));
        assert_eq!(fs::read_dir(&places.configfs_root).unwrap().count(), 0);
    }

    #[test]
    fn the_pace_follows_the_host() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Host::detect(dir.path()), Host::Unknown);
        fs::write(dir.path().join("product_name"), "Google Compute Engine\n").unwrap();
        assert_eq!(Host::detect(dir.path()), Host::Gcp);
        assert_eq!(Host::Gcp.pace().min_interval, Duration::from_secs(2));
        fs::write(dir.path().join("sys_vendor"), "Amazon EC2\n").unwrap();
        assert_eq!(Host::detect(dir.path()), Host::Aws);
    }
}
