//! The logs behind a TPM's registers: the firmware's event log, which ends with the boot, and IMA's list, which grows.
//!
//! Both are root's in securityfs; an unprivileged process reads them by a path that root opened. What is missing or cannot
//! be read leaves the registers without their meaning, which a client sees: it is told in the log and is no reason not to serve.

use crate::platform::Part;
use ratls::wire::attest::{media, part};
use ratls::wire::limits::MAX_PART_TOTAL;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Where the kernel shows the firmware's event log.
pub const EVENT_LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";
/// Where the kernel shows IMA's list.
pub const IMA_LIST: &str = "/sys/kernel/security/ima/binary_runtime_measurements";

/// Why a log is not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    #[error("there is no {}; without it the registers stand without what led to them", .0.display())]
    Absent(PathBuf),
    #[error("permission to read {} is denied: have root give it to this user (the systemd unit does so before it starts the proxy)", .0.display())]
    Denied(PathBuf),
    #[error("cannot read {}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{} is empty", .0.display())]
    Empty(PathBuf),
    #[error("{} has more than {MAX_PART_TOTAL} bytes, which is what can be sent", .0.display())]
    TooLarge(PathBuf),
}

/// The firmware's event log.
pub fn event_log(path: &Path) -> Result<Part, LogError> {
    let bytes = read(path)?;
    Part::new(part::EVENT_LOG, media::EVENT_LOG, bytes).ok_or_else(|| LogError::Empty(path.to_owned()))
}

/// IMA's list, read anew for each batch and shared while it stays the same.
#[derive(Debug)]
pub struct ImaList {
    path: PathBuf,
    last: Option<Part>,
    told: bool,
}

impl ImaList {
    pub fn at(path: PathBuf) -> Self {
        ImaList { path, last: None, told: false }
    }

    /// As it is now; to be read after the quote, so that it holds at least what the quote covers.
    pub fn read(&mut self) -> Option<Part> {
        match read(&self.path) {
            Ok(bytes) if self.last.as_ref().is_some_and(|last| last.bytes() == bytes) => {}
            Ok(bytes) => self.last = Part::new(part::IMA_LOG, media::IMA_LOG, bytes),
            Err(error) => {
                self.last = None;
                if !self.told {
                    tracing::warn!(%error, "IMA's list is not sent");
                    self.told = true;
                }
            }
        }
        self.last.clone()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, LogError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_PART_TOTAL).expect("1 MiB fits") + 1;
    let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    let path = path.to_owned();
    match read {
        Ok(0) => Err(LogError::Empty(path)),
        Ok(_) if bytes.len() > MAX_PART_TOTAL => Err(LogError::TooLarge(path)),
        Ok(_) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(LogError::Absent(path)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(LogError::Denied(path)),
        Err(error) => Err(LogError::Io { path, error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_bounded_and_what_is_wrong_with_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        assert!(matches!(event_log(&path), Err(LogError::Absent(_))));
        std::fs::write(&path, []).unwrap();
        assert!(matches!(event_log(&path), Err(LogError::Empty(_))));
        std::fs::write(&path, vec![1; MAX_PART_TOTAL]).unwrap();
        assert_eq!(event_log(&path).unwrap().bytes().len(), MAX_PART_TOTAL);
        std::fs::write(&path, vec![1; MAX_PART_TOTAL + 1]).unwrap();
        assert!(matches!(event_log(&path), Err(LogError::TooLarge(_))));
    }

    #[test]
    fn a_list_that_stays_the_same_is_shared_and_one_that_grew_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ima");
        std::fs::write(&path, [1]).unwrap();
        let mut list = ImaList::at(path.clone());
        let (first, second) = (list.read().unwrap(), list.read().unwrap());
        assert!(std::ptr::eq(first.bytes(), second.bytes()));
        std::fs::write(&path, [1, 2]).unwrap();
        assert_eq!(list.read().unwrap().bytes(), [1, 2]);
        std::fs::remove_file(&path).unwrap();
        assert!(list.read().is_none());
    }
}
