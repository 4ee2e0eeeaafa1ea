//! What tests leave behind: they get a temporary folder of their own, which must be empty afterwards, and the tree must
//! hold no file that was not there before.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

pub(crate) struct Leftovers {
    temporary: tempfile::TempDir,
    untracked: BTreeSet<String>,
}

impl Leftovers {
    /// Starts to watch. The folder's path is short, because unix sockets below it may have at most 108 bytes.
    pub(crate) fn watch() -> Result<Leftovers> {
        let temporary = tempfile::Builder::new().prefix("ev-").tempdir().context("a temporary folder for the tests")?;
        Ok(Leftovers { temporary, untracked: untracked()? })
    }

    pub(crate) fn temporary_dir(&self) -> &Path {
        self.temporary.path()
    }

    /// Fails with the names of what was left.
    pub(crate) fn none_left(self) -> Result<()> {
        let mut left: BTreeSet<String> = untracked()?.difference(&self.untracked).cloned().collect();
        for entry in std::fs::read_dir(self.temporary.path()).context("reading the tests' temporary folder")? {
            left.insert(format!("$TMPDIR/{}", entry?.file_name().to_string_lossy()));
        }
        let count = left.len();
        let shown: Vec<String> = left.into_iter().take(20).collect();
        ensure!(count == 0, "the tests left {count} files or folders behind, among them: {}", shown.join(", "));
        Ok(())
    }
}

/// Files of the tree that git neither tracks nor ignores. Empty outside a checkout, where there is nothing to compare.
fn untracked() -> Result<BTreeSet<String>> {
    let listed = Command::new("git").args(["ls-files", "--others", "--exclude-standard"]).output();
    let text = listed.map(|output| output.stdout).unwrap_or_default();
    Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
}
