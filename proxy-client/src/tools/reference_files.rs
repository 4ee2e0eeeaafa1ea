//! The files that a policy's references name, read from the policy's own folder.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use ratls::crypto::{Sha256Stream, sha256};
use ratls::digest::Sha256Digest;
use ratls::policy::{FileProblem, ReferenceFiles};

use super::input;

/// Names are relative to a folder; an absolute name is itself.
pub(super) struct FolderFiles {
    folder: PathBuf,
    used: BTreeMap<String, Sha256Digest>,
}

impl FolderFiles {
    /// The folder that `policy` stands in.
    pub(super) fn beside(policy: &Path) -> FolderFiles {
        FolderFiles { folder: policy.parent().unwrap_or(Path::new("")).to_owned(), used: BTreeMap::new() }
    }

    /// By its name, each file that was asked for, where it is and what it was; one may be named by another.
    pub(super) fn used(self) -> BTreeMap<String, (PathBuf, Sha256Digest)> {
        let FolderFiles { folder, used } = self;
        used.into_iter().map(|(name, digest)| (name.clone(), (folder.join(name), digest))).collect()
    }

    fn note(&mut self, name: &str, digest: Sha256Digest) -> Result<(), FileProblem> {
        match self.used.insert(name.to_owned(), digest) {
            Some(before) if before != digest => Err(FileProblem(format!("{name} was changed while it was read"))),
            _ => Ok(()),
        }
    }
}

impl ReferenceFiles for FolderFiles {
    fn read(&mut self, name: &str, max: usize) -> Result<Vec<u8>, FileProblem> {
        let bytes = input::read(&self.folder.join(name), max).map_err(|e| problem(&e))?;
        self.note(name, sha256(&[&bytes]))?;
        Ok(bytes)
    }

    fn stream(&mut self, name: &str, each: &mut dyn FnMut(&[u8])) -> Result<(), FileProblem> {
        let path = self.folder.join(name);
        let failed = |e: std::io::Error| FileProblem(format!("cannot read {}: {e}", path.display()));
        let mut file = File::open(&path).map_err(failed)?;
        let mut hash = Sha256Stream::new();
        input::in_pieces(&mut file, |piece| {
            hash.update(piece);
            each(piece);
            Ok(())
        })
        .map_err(failed)?;
        self.note(name, hash.finish())
    }
}

fn problem(error: &dyn std::error::Error) -> FileProblem {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    FileProblem(format!("{error}{cause}"))
}
