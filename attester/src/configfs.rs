//! Reports through configfs-tsm, the kernel's own interface (Linux 6.7 and later; Documentation/ABI/testing/configfs-tsm-report).
//!
//! Assumes that the kernel below `root` is the guest's own. Two facts of that interface shape the file:
//! * `inblob` is a binary attribute: the kernel takes its bytes when the file is *closed* and has no way to report an error then. Only
//!   `generation` tells whether they were taken, and only the REPORT_DATA of the result tells whose bytes they were.
//! * A new entry belongs to root whoever makes it, and `inblob` is for its owner alone. So a process without privileges uses an entry
//!   that root prepared and gave to it; [`ConfigfsTsm::reuse`].
//!
//! Does not prove that nobody else used the entry in between; it notices, and asks again.

use crate::device::{DeviceError, DeviceReport, MAX_CERTIFICATE_TABLE, Pace, REPORT_LEN, ReportDevice};
use ratls::evidence::svsm::{MAX_MANIFEST, Nonce, report_data};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where the kernel shows the interface once configfs is mounted.
pub const DEFAULT_ROOT: &str = "/sys/kernel/config/tsm/report";

/// `privlevel` may not be above this (`TSM_REPORT_PRIVLEVEL_MAX`).
pub const MAX_VMPL: u32 = 3;

const PROVIDER: &str = "sev_guest";
const OWNERSHIP: &str = "entries of configfs-tsm belong to root whoever makes them, and `inblob` is for its owner alone; have root make \
                         one entry and hand its files to this user (the systemd unit does so before it starts the proxy), and name \
                         that entry in the configuration (`device.configfs_entry`)";
/// Attribute files of text are a few digits or a short name; the kernel's limit is a page.
const MAX_TEXT: usize = 4096;
/// How often one request is begun anew when somebody else moves the generation or the kernel says that it is busy.
const ATTEMPTS: u32 = 5;
/// Before the second attempt; doubles for each later one.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// What a caller is told to wait when all attempts were in vain.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// One entry below `/sys/kernel/config/tsm/report`.
#[derive(Debug)]
pub struct ConfigfsTsm {
    entry: Entry,
    vmpl: u32,
    pace: Pace,
}

#[derive(Debug)]
struct Entry {
    dir: PathBuf,
    /// We made it, so we remove it.
    own: bool,
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.own
            && let Err(error) = fs::remove_dir(&self.dir)
        {
            tracing::warn!(path = %self.dir.display(), %error, "cannot remove the configfs-tsm entry");
        }
    }
}

impl ConfigfsTsm {
    /// Makes an entry of our own below `root`, and removes it when dropped. Reports will be for `vmpl`.
    pub fn create(root: &Path, vmpl: u32) -> Result<Self, DeviceError> {
        // Another process can make the same name only on purpose; then mkdir refuses and the next name is tried.
        for _ in 0..ATTEMPTS {
            let dir = root.join(unique_name());
            match fs::create_dir(&dir) {
                Ok(()) => return Self::checked(Entry { dir, own: true }, vmpl),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failure("make the entry", &dir, error)),
            }
        }
        Err(DeviceError::Busy { retry_after: RETRY_AFTER })
    }

    /// Uses an entry that root made and gave to this user; it stays when we go. Nobody else should use it meanwhile.
    pub fn reuse(dir: &Path, vmpl: u32) -> Result<Self, DeviceError> {
        Self::checked(Entry { dir: dir.to_owned(), own: false }, vmpl)
    }

    /// Another pace than the default, for a host that is known to throttle.
    pub fn with_pace(self, pace: Pace) -> Self {
        ConfigfsTsm { pace, ..self }
    }

    /// Finds out at the start, not at the first connection, that the entry is not what it has to be.
    fn checked(entry: Entry, vmpl: u32) -> Result<Self, DeviceError> {
        let device = ConfigfsTsm { entry, vmpl, pace: Pace::default() };
        let provider = device.text("provider")?;
        if provider != PROVIDER {
            return Err(DeviceError::Provider { path: device.path("provider"), seen: provider });
        }
        let floor = device.number("privlevel_floor")?;
        if u64::from(vmpl) < floor || vmpl > MAX_VMPL {
            let floor = u32::try_from(floor).unwrap_or(u32::MAX);
            return Err(DeviceError::PrivilegeFloor { floor, wanted: vmpl });
        }
        // Opened and closed without a byte written, which the kernel takes for nothing: only the permission is asked for.
        for attribute in ["inblob", "privlevel"] {
            device.open_for_writing(attribute)?;
        }
        Ok(device)
    }

    /// One round of the protocol: write, see that exactly our writes counted, read, see that nobody wrote since.
    fn round(&self, report_data: &[u8; 64]) -> Result<Round<DeviceReport>, DeviceError> {
        let before = self.number("generation")?;
        self.write("privlevel", self.vmpl.to_string().as_bytes())?;
        self.write("inblob", report_data)?;
        let written = self.number("generation")?;
        if written != before.wrapping_add(2) {
            return Ok(Round::Raced);
        }
        let report = self.blob("outblob", REPORT_LEN)?;
        let certificates = self.blob("auxblob", MAX_CERTIFICATE_TABLE)?;
        if self.number("generation")? != written {
            return Ok(Round::Raced);
        }
        DeviceReport::over(report_data, report, certificates)?.at_vmpl(self.vmpl).map(Round::Done)
    }

    fn path(&self, attribute: &str) -> PathBuf {
        self.entry.dir.join(attribute)
    }

    fn text(&self, attribute: &'static str) -> Result<String, DeviceError> {
        let path = self.path(attribute);
        let bytes = read_bounded(&path, MAX_TEXT)?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(text.trim_end_matches('\n').to_owned()),
            Err(_) => {
                Err(DeviceError::Format { path, seen: String::from_utf8_lossy(&bytes).into_owned(), wanted: "text" })
            }
        }
    }

    fn number(&self, attribute: &'static str) -> Result<u64, DeviceError> {
        let seen = self.text(attribute)?;
        seen.parse().map_err(|_| DeviceError::Format { path: self.path(attribute), seen, wanted: "a number" })
    }

    fn blob(&self, attribute: &'static str, max_bytes: usize) -> Result<Vec<u8>, DeviceError> {
        read_bounded(&self.path(attribute), max_bytes)
    }

    fn open_for_writing(&self, attribute: &'static str) -> Result<File, DeviceError> {
        let path = self.path(attribute);
        // Neither created nor truncated: an attribute file is the kernel's, and configfs knows no truncation.
        OpenOptions::new().write(true).open(&path).map_err(|error| failure("write", &path, error))
    }

    fn write(&self, attribute: &'static str, bytes: &[u8]) -> Result<(), DeviceError> {
        // In one write(2), because a text attribute takes each as a value of its own.
        let mut file = self.open_for_writing(attribute)?;
        let path = self.path(attribute);
        match file.write(bytes) {
            Ok(written) if written == bytes.len() => Ok(()),
            Ok(_) => Err(failure("write", &path, io::ErrorKind::WriteZero.into())),
            Err(error) => Err(failure("write", &path, error)),
        }
    }
}

/// What an SVSM is asked to vouch for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// All of its services, with their GUIDs.
    All,
    /// The one of this GUID, as text.
    One(&'static str),
}

/// What an SVSM gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceReport {
    /// Of VMPL 0, over SHA-512(nonce ‖ manifest).
    pub report: Vec<u8>,
    pub manifest: Vec<u8>,
}

/// The SVSM's part of the interface (Linux 6.10 and later).
impl ConfigfsTsm {
    /// Whether this kernel runs below an SVSM: only then are the attributes there.
    pub fn has_service(&self) -> bool {
        self.path("service_provider").exists()
    }

    /// The same entry, for reports of the lowest level that this kernel may ask for, which is its own.
    pub fn at_floor(self) -> Result<Self, DeviceError> {
        let floor = self.number("privlevel_floor")?;
        let vmpl = u32::try_from(floor).ok().filter(|floor| *floor <= MAX_VMPL);
        let path = self.path("privlevel_floor");
        let wanted = "a privilege level from 0 to 3";
        let vmpl = vmpl.ok_or(DeviceError::Format { path, seen: floor.to_string(), wanted })?;
        Ok(ConfigfsTsm { vmpl, ..self })
    }

    /// A report of VMPL 0 by the SVSM. What is asked of a service stays with the entry, so an ordinary report takes another one.
    pub fn service_report(&mut self, nonce: &[u8; 64], service: Service) -> Result<ServiceReport, DeviceError> {
        self.attempts(|device| device.service_round(nonce, service))
    }

    fn service_round(&self, nonce: &[u8; 64], service: Service) -> Result<Round<ServiceReport>, DeviceError> {
        const NO_SERVICE: &str = "00000000-0000-0000-0000-000000000000";
        let guid = match service {
            Service::All => NO_SERVICE,
            Service::One(guid) => guid,
        };
        let before = self.number("generation")?;
        self.write("service_provider", b"svsm")?;
        self.write("service_guid", guid.as_bytes())?;
        self.write("service_manifest_version", b"0")?;
        self.write("inblob", nonce)?;
        let written = self.number("generation")?;
        if written != before.wrapping_add(4) {
            return Ok(Round::Raced);
        }
        let report = self.blob("outblob", REPORT_LEN)?;
        let manifest = self.blob("manifestblob", MAX_MANIFEST)?;
        if self.number("generation")? != written {
            return Ok(Round::Raced);
        }
        let wanted = report_data(&Nonce::from_bytes(*nonce), &manifest);
        let report = DeviceReport::over(wanted.as_bytes(), report, Vec::new())?.at_vmpl(0)?.report;
        Ok(Round::Done(ServiceReport { report, manifest }))
    }

    /// One round after the other, until one was undisturbed.
    fn attempts<T>(&self, round: impl Fn(&Self) -> Result<Round<T>, DeviceError>) -> Result<T, DeviceError> {
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=ATTEMPTS {
            match round(self) {
                Ok(Round::Done(report)) => return Ok(report),
                // A report over other bytes is what a race looks like when it falls between two reads of `generation`.
                Ok(Round::Raced) | Err(DeviceError::Busy { .. } | DeviceError::WrongReportData)
                    if attempt < ATTEMPTS => {}
                Ok(Round::Raced) => break,
                Err(error) => return Err(error),
            }
            std::thread::sleep(pause);
            pause *= 2;
        }
        Err(DeviceError::Busy { retry_after: RETRY_AFTER })
    }
}

impl ReportDevice for ConfigfsTsm {
    fn report(&mut self, report_data: &[u8; 64]) -> Result<DeviceReport, DeviceError> {
        self.attempts(|device| device.round(report_data))
    }

    fn describe(&self) -> String {
        let kind = if self.entry.own { "own entry" } else { "prepared entry" };
        format!("configfs-tsm, {kind} {} (VMPL {})", self.entry.dir.display(), self.vmpl)
    }

    fn pace(&self) -> Pace {
        self.pace
    }
}

enum Round<T> {
    Done(T),
    Raced,
}

/// Unlikely to be chosen by anybody else; not secret, and does not have to be: mkdir refuses a name that exists.
fn unique_name() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    format!("evident-{}-{}-{nanos:x}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

fn read_bounded(path: &Path, max_bytes: usize) -> Result<Vec<u8>, DeviceError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(max_bytes).expect("a limit of some KiB fits") + 1;
    File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|error| failure("read", path, error))?;
    if bytes.len() > max_bytes {
        return Err(DeviceError::Oversized { path: path.to_owned(), max_bytes });
    }
    Ok(bytes)
}

/// What the kernel's error numbers mean here (drivers/virt/coco/guest/report.c and sev-guest.c).
fn failure(operation: &'static str, path: &Path, error: io::Error) -> DeviceError {
    use io::ErrorKind as Kind;
    match (error.kind(), error.raw_os_error()) {
        (Kind::PermissionDenied, _) => DeviceError::Denied { operation, path: path.to_owned(), help: OWNERSHIP },
        // EBUSY, EAGAIN and EINTR; ETIMEDOUT comes after a minute of "rate limited" from the host.
        (Kind::ResourceBusy | Kind::WouldBlock | Kind::Interrupted | Kind::TimedOut, _) => {
            DeviceError::Busy { retry_after: RETRY_AFTER }
        }
        (_, Some(ENOTTY | ENXIO)) => DeviceError::Gone,
        (_, Some(EIO)) => DeviceError::Refused { reason: format!("{}: {error}", path.display()) },
        _ => DeviceError::Io { operation, path: path.to_owned(), error: Arc::new(error) },
    }
}

// Linux's numbers, the same on every architecture that has SEV-SNP; `io::ErrorKind` has no names for them.
const EIO: i32 = 5;
/// The driver went away under the entry.
const ENXIO: i32 = 6;
/// sev-guest's answer once its VMPCK is disabled.
const ENOTTY: i32 = 25;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_entries_differ() {
        assert_ne!(unique_name(), unique_name());
    }

    #[test]
    fn a_disabled_key_is_gone_and_not_an_io_error() {
        let path = Path::new("outblob");
        assert!(matches!(failure("read", path, io::Error::from_raw_os_error(ENOTTY)), DeviceError::Gone));
        assert!(matches!(failure("read", path, io::Error::from_raw_os_error(EIO)), DeviceError::Refused { .. }));
        assert!(matches!(failure("read", path, io::Error::from_raw_os_error(16)), DeviceError::Busy { .. }));
        assert!(matches!(failure("read", path, io::Error::from_raw_os_error(22)), DeviceError::Io { .. }));
    }
}
