//! The initrd of a booted guest: busybox, the proxy with the libraries that it is linked with, modules, and an init.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::boot::Kernel;
use crate::process::Program;

const INIT: &str = include_str!("init.sh");
const BUSYBOX: &str = "/bin/busybox";
const A_WHILE: Duration = Duration::from_secs(60);

/// A tree that becomes an initrd.
pub struct Initrd {
    root: tempfile::TempDir,
}

impl Initrd {
    /// With everything that every guest has. `command` is what starts the proxy, a line of shell.
    pub fn new(kernel: &Kernel, proxy: &Path, simulator: &Path, command: &str) -> Result<Initrd> {
        let root = tempfile::Builder::new().prefix("evident-initrd-").tempdir()?;
        let initrd = Initrd { root };
        for dir in ["bin", "dev", "proc", "sys", "tmp", "etc", "lib/modules", "simulator"] {
            std::fs::create_dir_all(initrd.path(dir))?;
        }
        initrd.copy(Path::new(BUSYBOX), "bin/busybox").context("install the package busybox-static")?;
        initrd.program(proxy, "bin/evident-proxy")?;
        for module in &kernel.modules {
            let name = module.file_name().context("a module has a name")?.to_string_lossy();
            initrd.copy(module, &format!("lib/modules/{name}"))?;
        }
        for entry in std::fs::read_dir(simulator).context("the simulator's directory")? {
            let entry = entry?;
            initrd.copy(&entry.path(), &format!("simulator/{}", entry.file_name().to_string_lossy()))?;
        }
        initrd.script("init", INIT)?;
        initrd.script("run-guest", &format!("#!/bin/busybox sh\nexec {command}\n"))?;
        Ok(initrd)
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.root.path().join(inside)
    }

    pub fn copy(&self, from: &Path, to: &str) -> Result<()> {
        let to = self.path(to);
        std::fs::create_dir_all(to.parent().context("a file lies in a directory")?)?;
        std::fs::copy(from, &to).with_context(|| format!("copying {}", from.display()))?;
        Ok(())
    }

    fn script(&self, to: &str, text: &str) -> Result<()> {
        let path = self.path(to);
        std::fs::write(&path, text)?;
        Ok(std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?)
    }

    /// A program without its debugging information, and the shared libraries that the loader would give it here.
    pub fn program(&self, from: &Path, to: &str) -> Result<()> {
        self.copy(from, to)?;
        Program::new("strip").arg(self.path(to)).run(A_WHILE)?.success()?;
        for library in libraries(from)? {
            self.copy(&library, library.to_string_lossy().trim_start_matches('/'))?;
        }
        Ok(())
    }

    /// Writes it as a cpio archive (`newc`), which the kernel unpacks.
    pub fn write(&self, to: &Path) -> Result<()> {
        let script = "find . | LC_ALL=C sort | cpio --quiet --create --format=newc --reproducible --owner=0:0 > \"$1\"";
        Program::new("sh").args(["-c", script, "sh"]).arg(to).dir(self.root.path()).run(A_WHILE)?.success()?;
        ensure!(std::fs::metadata(to)?.len() > 1 << 20, "cpio wrote next to nothing: is the package cpio installed?");
        Ok(())
    }
}

/// What `ldd` names, loader included.
fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let printed = Program::new("ldd").arg(program).run(A_WHILE)?.success()?;
    let words = printed.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(words.map(PathBuf::from).collect())
}
