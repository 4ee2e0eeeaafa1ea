//! Guests that are measured as a whole before their first instruction: files, and the digest that `evident-client measure` gives.
//!
//! The firmware is a made-up image with the tables that edk2's AmdSev build has, so that kernel, initrd and command
//! line can go into the digest. The digest goes into a simulated AMD-SP, because no real one is here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::binaries::evident_client;
use crate::images::{amd_sev_firmware, svsm_igvm};
use crate::process::Program;

const A_WHILE: Duration = Duration::from_secs(60);
const PAGE: usize = 4096;

/// Files of a guest, and how it is started.
pub struct Launched {
    dir: TempDir,
    args: Vec<String>,
}

impl Launched {
    /// Firmware, kernel, initrd and command line under QEMU with `kernel-hashes=on`, as SNPGuard starts its guests.
    pub fn direct_boot(command_line: &str) -> Result<Launched> {
        let launched = Launched::empty()?;
        let firmware = launched.file("OVMF.fd", &amd_sev_firmware())?;
        let kernel = launched.file("vmlinuz", b"simulated kernel")?;
        let initrd =
            launched.file("initrd.img", b"simulated initrd that opens the root file system by its root hash")?;
        let args = [
            ("--firmware", firmware),
            ("--kernel", kernel),
            ("--initrd", initrd),
            ("--append", command_line.to_owned()),
            ("--vcpus", "4".to_owned()),
            ("--vcpu-type", "EPYC-v4".to_owned()),
            ("--vmm", "qemu".to_owned()),
        ];
        Ok(launched.with(args.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()))
    }

    /// Firmware alone, as clouds launch their guests: who launches it, and with how many vCPUs.
    pub fn firmware(vmm: &str, vcpus: u32) -> Result<Launched> {
        let launched = Launched::empty()?;
        let firmware = launched.file("OVMF.fd", &amd_sev_firmware())?;
        let vcpus = vcpus.to_string();
        let mut args = vec!["--firmware", &firmware, "--vmm", vmm, "--vcpus", &vcpus];
        if vmm == "qemu" {
            args.extend(["--vcpu-type", "EPYC-v4"]);
        }
        let args = args.into_iter().map(str::to_owned).collect();
        Ok(launched.with(args))
    }

    /// SVSM and firmware from one IGVM file.
    pub fn igvm() -> Result<Launched> {
        let launched = Launched::empty()?;
        let file = launched.file("svsm.igvm", &svsm_igvm())?;
        Ok(launched.with(vec!["--igvm".to_owned(), file]))
    }

    /// Loader, kernel and an initrd that is all of userspace, page by page without a firmware, as a microCVM is started.
    pub fn pages(userspace: &str) -> Result<Launched> {
        let launched = Launched::empty()?;
        launched.file("loader.bin", b"simulated loader")?;
        launched.file("vmlinux.bin", b"simulated kernel")?;
        launched.file("initrd.img", userspace.as_bytes())?;
        launched.file("vmsa.bin", &[0x5E; PAGE])?;
        let page = |kind: &str, gpa: u64, rest: &str| format!("[[page]]\ntype = \"{kind}\"\ngpa = {gpa:#x}\n{rest}\n");
        let file = |gpa, name: &str, covers: &str| {
            page("normal", gpa, &format!("file = \"{name}\"\nfill = \"zeros\"\ncovers = \"{covers}\"\n"))
        };
        let recipe = [
            "version = 1\n\n".to_owned(),
            file(0x1000, "loader.bin", "firmware"),
            file(0x10_0000, "vmlinux.bin", "kernel"),
            file(0x800_0000, "initrd.img", "initrd"),
            // The kernel's command line, "ro" with its end.
            page("normal", 0x2_0000, "bytes = \"726f00\"\nfill = \"zeros\"\ncovers = \"cmdline\"\n"),
            page("secrets", 0x8000, ""),
            page("cpuid", 0x9000, ""),
            page("vmsa", 0xFFFF_FFFF_F000, "file = \"vmsa.bin\"\n"),
        ];
        let recipe = launched.file("pages.toml", recipe.concat().as_bytes())?;
        Ok(launched.with(vec!["--recipe".to_owned(), recipe]))
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// The command that computes its launch digest.
    pub fn measure(&self) -> Result<Program> {
        Ok(Program::new(evident_client()?).arg("measure").args(&self.args))
    }

    /// The launch digest, in hex.
    pub fn digest(&self) -> Result<String> {
        Ok(self.measure()?.run(A_WHILE)?.success()?.trim().to_owned())
    }

    /// The same guest with this many vCPUs.
    pub fn on_vcpus(mut self, count: u32) -> Launched {
        if let Some(at) = self.args.iter().position(|arg| arg == "--vcpus")
            && let Some(value) = self.args.get_mut(at + 1)
        {
            *value = count.to_string();
        }
        self
    }

    /// What `measure` is given.
    pub fn args(&self) -> &[String] {
        &self.args
    }

    fn empty() -> Result<Launched> {
        let dir =
            tempfile::Builder::new().prefix("evident-launch-").tempdir().context("directory of a guest's files")?;
        Ok(Launched { dir, args: Vec::new() })
    }

    fn with(self, args: Vec<String>) -> Launched {
        Launched { args, ..self }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> Result<String> {
        let path: PathBuf = self.dir.path().join(name);
        std::fs::write(&path, bytes).with_context(|| format!("writing {name}"))?;
        Ok(path.to_string_lossy().into_owned())
    }
}
