//! The look-alike of configfs-tsm for one test: mounted in a folder of its own, over hardware that is a function.

use simulator::configfs::{Answer, Asked, Errno, State, TsmLookAlike as Mounted};
use std::path::PathBuf;
use std::sync::MutexGuard;

/// What the hardware answers to (REPORT_DATA, VMPL): report and certificate table, or an errno.
pub(crate) type Hardware = Box<dyn FnMut(&[u8; 64], u32) -> Result<(Vec<u8>, Vec<u8>), Errno> + Send>;

/// A 1184-byte stand-in for a report with the two fields that a client compares.
pub(crate) fn report_over(data: &[u8; 64], vmpl: u32) -> Vec<u8> {
    let mut report = vec![0; 1184];
    report[0x30..0x34].copy_from_slice(&vmpl.to_le_bytes());
    report[0x50..0x90].copy_from_slice(data);
    report
}

pub(crate) struct TsmLookAlike {
    pub(crate) root: PathBuf,
    mounted: Mounted,
    _dir: tempfile::TempDir,
}

impl TsmLookAlike {
    /// `None`, with a line that names the test, where this machine cannot mount FUSE file systems.
    pub(crate) fn mount(test: &str, mut hardware: Hardware) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let answer = move |asked: &Asked| {
            let (report, certificates) = hardware(&asked.data, asked.vmpl)?;
            Ok(Answer { report, certificates, manifest: Vec::new() })
        };
        match Mounted::mount(dir.path(), true, Box::new(answer)) {
            Ok(mounted) => Some(TsmLookAlike { root: mounted.root().to_owned(), mounted, _dir: dir }),
            Err(error) => {
                println!("skipped: {test}: cannot mount a FUSE file system with allow_other ({error})");
                None
            }
        }
    }

    pub(crate) fn knobs(&self) -> MutexGuard<'_, State> {
        self.mounted.knobs()
    }

    pub(crate) fn entries(&self) -> Vec<PathBuf> {
        self.mounted.entries().expect("the mount is readable")
    }
}
