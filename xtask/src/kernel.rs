//! Debian's stock kernel for the guest that the tests boot: its image and the modules that the guest needs, taken out of the package
//! without installing it, in the cache.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::machine::{self, cache_dir};

/// Modules by name: the network card of QEMU. TPM, IMA and securityfs are built in.
const MODULES: [&str; 1] = ["e1000.ko"];

/// Fetches what is not there yet. Where there is no apt-get (another distribution) the test that needs it says so.
pub(crate) fn fetch() -> Result<()> {
    let dir = cache_dir()?.join("kernel");
    if dir.join("vmlinuz").is_file() {
        return Ok(());
    }
    let work = tempfile::Builder::new().prefix("evident-kernel-").tempdir_in(cache_dir()?)?;
    let package = package()?;
    eprintln!("fetching {package} for the guest that the tests boot; it is not installed");
    // As the user, into a folder of ours: apt's own `_apt` may not write there, which is only a warning.
    machine::run(Command::new("apt-get").args(["download", "-q", &package]).current_dir(work.path()))?;
    let deb = only_file(work.path())?;
    let tree = work.path().join("tree");
    machine::run(Command::new("dpkg-deb").arg("--extract").arg(&deb).arg(&tree))?;
    let found = work.path().join("kernel");
    std::fs::create_dir_all(found.join("modules"))?;
    let image = only_file_starting(&tree.join("boot"), "vmlinuz-")?;
    std::fs::copy(&image, found.join("vmlinuz"))?;
    for module in MODULES {
        let from = find(&tree.join("lib/modules"), module)?.with_context(|| format!("{package} has no {module}"))?;
        std::fs::copy(from, found.join("modules").join(module))?;
    }
    // Whole or not at all; somebody else may have been faster.
    match std::fs::rename(&found, &dir) {
        Err(error) if !dir.join("vmlinuz").is_file() => Err(error).context("putting the kernel into the cache"),
        _ => Ok(()),
    }
}

/// The package that Debian's metapackage for the stock kernel depends on.
fn package() -> Result<String> {
    let output = Command::new("apt-cache")
        .args(["depends", "linux-image-amd64"])
        .stderr(Stdio::inherit())
        .output()
        .context("running apt-cache")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let depends = text.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    Ok(depends.context("apt-cache knows no linux-image-amd64; run apt-get update first")?.to_owned())
}

fn only_file(dir: &Path) -> Result<PathBuf> {
    only_file_starting(dir, "")
}

fn only_file_starting(dir: &Path, start: &str) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_file() && entry.file_name().to_string_lossy().starts_with(start) {
            found.push(entry.path());
        }
    }
    ensure!(found.len() == 1, "{} files {start:?} in {}, wanted one", found.len(), dir.display());
    Ok(found.remove(0))
}

fn find(dir: &Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if let Some(found) = find(&entry.path(), name)? {
                return Ok(Some(found));
            }
        } else if entry.file_name() == name {
            return Ok(Some(entry.path()));
        } else if entry.file_name().to_string_lossy().starts_with(&format!("{name}.")) {
            bail!("{} is compressed, which this does not unpack", entry.path().display());
        }
    }
    Ok(None)
}
