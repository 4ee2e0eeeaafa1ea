//! Where the programs under test are.
//!
//! They are built before the tests start (`cargo xtask test` does), because cargo does not build another package's
//! binaries for a test. Assumes that what lies there was built from this tree; it cannot tell.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The binary of this name: in `$EVIDENT_BIN_DIR` where that is set, else in the `target/<profile>` that this program
/// runs from.
pub fn binary(name: &str) -> Result<PathBuf> {
    let path = match std::env::var_os("EVIDENT_BIN_DIR") {
        Some(dir) => PathBuf::from(dir).join(name),
        None => profile_dir()?.join(name),
    };
    ensure!(
        path.is_file(),
        "{} is missing; build it first: cargo xtask test, or \
         cargo build -p evident-proxy --features simulator -p evident-client",
        path.display()
    );
    Ok(path)
}

pub fn evident_proxy() -> Result<PathBuf> {
    binary("evident-proxy")
}

pub fn evident_client() -> Result<PathBuf> {
    binary("evident-client")
}

/// The root of the source tree.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace")
}

/// `target/<profile>`: a test runs from its `deps/`, an example from its `examples/`, xtask from itself.
fn profile_dir() -> Result<PathBuf> {
    let program = std::env::current_exe().context("where this program is")?;
    let dir = program.parent().expect("a program is in a directory");
    let above = if dir.ends_with("deps") || dir.ends_with("examples") { dir.parent() } else { Some(dir) };
    Ok(above.context("this program does not run from a cargo target directory")?.to_path_buf())
}
