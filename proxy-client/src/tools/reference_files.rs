//! The files that a policy's references name, read from the policy's own folder.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use ratls::policy::{FileProblem, ReferenceFiles};

use super::input;

/// What goes to a hash at a time.
const PIECE_BYTES: usize = 1 << 20;

/// Names are relative to a folder; an absolute name is itself.
pub(super) struct FolderFiles {
    folder: PathBuf,
    used: BTreeSet<String>,
}

impl FolderFiles {
    /// The folder that `policy` stands in.
    pub(super) fn beside(policy: &Path) -> FolderFiles {
        FolderFiles { folder: policy.parent().unwrap_or(Path::new("")).to_owned(), used: BTreeSet::new() }
    }

    /// Names of the files that were asked for; one may be named by another.
    pub(super) fn used(&self) -> Vec<&str> {
        self.used.iter().map(String::as_str).collect()
    }
}

impl ReferenceFiles for FolderFiles {
    fn read(&mut self, name: &str, max: usize) -> Result<Vec<u8>, FileProblem> {
        self.used.insert(name.to_owned());
        input::read(&self.folder.join(name), max).map_err(|e| problem(&e))
    }

    fn stream(&mut self, name: &str, each: &mut dyn FnMut(&[u8])) -> Result<(), FileProblem> {
        self.used.insert(name.to_owned());
        let path = self.folder.join(name);
        let failed = |e: std::io::Error| FileProblem(format!("cannot read {}: {e}", path.display()));
        let mut file = File::open(&path).map_err(failed)?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match file.read(&mut piece).map_err(failed)? {
                0 => return Ok(()),
                n => each(piece.get(..n).unwrap_or_default()),
            }
        }
    }
}

fn problem(error: &dyn std::error::Error) -> FileProblem {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    FileProblem(format!("{error}{cause}"))
}
