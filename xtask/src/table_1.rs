//! `cargo xtask table-1`: one table of six emulated deployments. SIMULATED, PROVES NOTHING.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use evident_tests::binaries::binary;

use crate::machine;

/// Built together, so that what both link is compiled once: the deployments, and the program that computes launch digests.
const BUILT: [&str; 8] =
    ["-p", "evident-tests", "-p", "evident-client", "--example", "table-1", "--bin", "evident-client"];

/// Installs what emulated machines need, builds the deployments, and writes the table into this folder.
pub(crate) fn run(out: &Path) -> Result<()> {
    machine::install_packages(machine::FOR_DEMO)?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    machine::run(Command::new(cargo).args(["build", "--quiet", "--locked"]).args(BUILT))?;
    machine::run(Command::new(binary("examples/table-1")?).arg("--out").arg(out))
}
