//! What tests leave behind: nothing. They get a temporary folder of their own, which is removed with whatever a test whose
//! process ended could not remove itself, and the tree must hold no file that was not there before.

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

    /// Removes the temporary folder, and fails with the names of what was left in the tree.
    pub(crate) fn none_left(self) -> Result<()> {
        let entries = std::fs::read_dir(self.temporary.path()).context("reading the tests' temporary folder")?.count();
        self.temporary.close().context("removing the tests' temporary folder")?;
        println!("{entries} temporary files or folders of tests removed");
        let left: Vec<String> = untracked()?.difference(&self.untracked).cloned().collect();
        ensure!(left.is_empty(), "the tests left files in the tree: {}", left.join(", "));
        Ok(())
    }
}

/// Files of the tree that git neither tracks nor ignores. Empty outside a checkout, where there is nothing to compare.
fn untracked() -> Result<BTreeSet<String>> {
    let listed = Command::new("git").args(["ls-files", "--others", "--exclude-standard"]).output();
    let text = listed.map(|output| output.stdout).unwrap_or_default();
    Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
}
