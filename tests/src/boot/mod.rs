//! A guest that really boots: OVMF, a TPM and Debian's stock kernel in QEMU's software emulation, with an initrd made of the
//! binaries under test.
//!
//! ```text
//!  test ── evident-client ── 127.0.0.1:port ── QEMU's user network ── evident-proxy ── httpd     in the guest
//!                                                                         │
//!                                        swtpm ── tpm-crb ── /dev/tpmrm0 ─┘  event log by OVMF and the kernel's EFI stub
//! ```
//!
//! The AMD-SP is the simulator's, inside the guest, because no emulator has one: SIMULATED, PROVES NOTHING. Firmware, event log, TPM,
//! PCRs and IMA list are what they are on real machines. No /dev/kvm is used.

mod initrd;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::ports::free_port;
use crate::process::{Program, Running};
use crate::wait;

pub use initrd::Initrd;

/// From QEMU's start until the proxy in the guest serves. A quarter of a minute on an idle machine with two cores.
pub const BOOT: Duration = Duration::from_secs(170);

/// OVMF with support for TPM 2.0, of Debian's package `ovmf`. This build, unlike that of 4 MiB, has the metadata of SEV, so that it has a
/// launch digest.
pub const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE.fd";
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS.fd";

/// Debian's stock kernel and the modules that the guest needs, where `cargo xtask setup` puts them.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub image: PathBuf,
    pub modules: Vec<PathBuf>,
}

impl Kernel {
    /// In `$EVIDENT_KERNEL`, else in the user's cache.
    pub fn find() -> Result<Kernel> {
        let dir = match std::env::var_os("EVIDENT_KERNEL") {
            Some(dir) => PathBuf::from(dir),
            None => cache()?.join("evident/kernel"),
        };
        let image = dir.join("vmlinuz");
        ensure!(image.is_file(), "no kernel to boot at {}; `cargo xtask setup` fetches one", image.display());
        let mut modules = Vec::new();
        for entry in std::fs::read_dir(dir.join("modules")).context("the kernel's modules")? {
            modules.push(entry?.path());
        }
        modules.sort();
        Ok(Kernel { image, modules })
    }
}

fn cache() -> Result<PathBuf> {
    match std::env::var_os("XDG_CACHE_HOME") {
        Some(dir) if Path::new(&dir).is_absolute() => Ok(dir.into()),
        _ => Ok(Path::new(&std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?).join(".cache")),
    }
}

/// What to boot.
#[derive(Clone, Debug)]
pub struct Launch {
    pub kernel: Kernel,
    pub initrd: PathBuf,
    /// As given to QEMU's `-append`.
    pub command_line: String,
    /// The state of its TPM, for swtpm; an empty directory for a new one.
    pub tpm: PathBuf,
}

/// A guest that runs; it ends with this value.
pub struct Booted {
    qemu: Running,
    address: SocketAddr,
    // Dropped after QEMU, which talks to it.
    _tpm: Running,
    _dir: TempDir,
}

impl Booted {
    /// Boots, and returns when the proxy in the guest serves.
    pub fn start(launch: &Launch) -> Result<Booted> {
        let dir = tempfile::Builder::new().prefix("evident-boot-").tempdir()?;
        let socket = dir.path().join("tpm.sock");
        let variables = dir.path().join("variables.fd");
        std::fs::copy(VARIABLES, &variables).with_context(|| format!("{VARIABLES}: install the package ovmf"))?;
        let tpm = Program::new("swtpm")
            .args(["socket", "--tpm2", "--terminate", "--tpmstate"])
            .arg(format!("dir={}", launch.tpm.display()))
            .arg("--ctrl")
            .arg(format!("type=unixio,path={}", socket.display()))
            .spawn()?;
        wait::until("swtpm's socket", wait::PATIENCE, || Ok(socket.exists().then_some(())))?;

        let port = free_port()?;
        let qemu = Program::new("qemu-system-x86_64")
            .args(["-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "max", "-m", "1024"])
            .args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"])
            .args(["-drive", &format!("if=pflash,format=raw,unit=0,readonly=on,file={FIRMWARE}")])
            .args(["-drive", &format!("if=pflash,format=raw,unit=1,file={}", variables.display())])
            .args(["-chardev", &format!("socket,id=tpm,path={}", socket.display())])
            .args(["-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0"])
            // `restrict`: the guest reaches nothing outside.
            .args(["-netdev", &format!("user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:8443")])
            .args(["-device", "e1000,netdev=net,romfile="])
            .arg("-kernel")
            .arg(&launch.kernel.image)
            .arg("-initrd")
            .arg(&launch.initrd)
            .args(["-append", &launch.command_line])
            .spawn()?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut booted = Booted { qemu, address, _tpm: tpm, _dir: dir };
        booted.qemu.wait_for_output("GUEST ready", BOOT)?;
        Ok(booted)
    }

    /// Where its proxy is reached from outside.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The lines that the guest wrote for us, without their prefix.
    pub fn said(&self) -> Vec<String> {
        self.qemu.stdout().lines().filter_map(|line| Some(line.trim_end().split_once("GUEST ")?.1.to_owned())).collect()
    }

    /// The firmware's event log, as the guest's kernel has it.
    pub fn event_log(&self) -> Result<Vec<u8>> {
        self.bytes("log ")
    }

    /// The kernel's IMA list, read after the registers.
    pub fn ima_list(&self) -> Result<Vec<u8>> {
        self.bytes("list ")
    }

    /// Hex on lines that begin with a word.
    fn bytes(&self, word: &str) -> Result<Vec<u8>> {
        let digits: String = self.said().iter().filter_map(|line| line.strip_prefix(word)).collect();
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        ensure!(!pairs.is_empty() && rest.is_empty(), "the guest wrote {} digits after {word:?}", digits.len());
        let byte = |pair: &[u8; 2]| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?);
        pairs.iter().map(byte).collect()
    }

    /// SHA-256 registers as the guest's kernel shows them, in lower-case hex.
    pub fn pcrs(&self) -> BTreeMap<u8, String> {
        let said = self.said();
        let pcr = |line: &String| {
            let (index, value) = line.strip_prefix("pcr ")?.split_once(' ')?;
            Some((index.parse().ok()?, value.to_lowercase()))
        };
        said.iter().filter_map(pcr).collect()
    }
}
