//! `cargo xtask table-1`: Table I of the paper, from six emulated deployments. SIMULATED, PROVES NOTHING.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::machine;

/// Installs what emulated machines need, builds the deployments, and writes the table into this folder.
pub(crate) fn run(out: &Path) -> Result<()> {
    machine::install_packages(machine::FOR_DEMO)?;
    // It computes the launch digests.
    machine::run(cargo().args(["build", "--quiet", "--locked", "-p", "evident-client"]))?;
    let table = ["run", "--quiet", "--locked", "-p", "evident-tests", "--example", "table-1", "--", "--out"];
    machine::run(cargo().args(table).arg(out))
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
