//! Guests that are measured as a whole before their first instruction: files, and the digest that `evident-client measure` gives.
//!
//! The firmware is a made-up image with the tables that edk2's AmdSev build has (platforms.md §5.3), so that kernel, initrd and command
//! line go into the digest; nothing in it could run. The digest goes into a simulated AMD-SP, because no real one is here.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::binaries::evident_client;
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
            page("secrets", 0x8000, ""),
            page("cpuid", 0x9000, ""),
            page("vmsa", 0xFFFF_FFFF_F000, "file = \"vmsa.bin\"\n"),
        ];
        let recipe = launched.file("pages.toml", recipe.concat().as_bytes())?;
        Ok(launched.with(vec!["--recipe".to_owned(), recipe]))
    }

    /// The command that computes its launch digest.
    pub fn measure(&self) -> Result<Program> {
        Ok(Program::new(evident_client()?).arg("measure").args(&self.args))
    }

    /// The launch digest, in hex.
    pub fn digest(&self) -> Result<String> {
        Ok(self.measure()?.run(A_WHILE)?.success()?.trim().to_owned())
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

/// Sixteen pages with metadata, a hash table and a reset block, as the tables at the end say.
fn amd_sev_firmware() -> Vec<u8> {
    const HASH_TABLE: u128 = 0x7255_371f_3a3b_4b04_927b_1da6_efa8_d454;
    const RESET_BLOCK: u128 = 0x00f7_71de_1a7e_4fcb_890e_68c7_7e2f_b44e;
    const META_DATA: u128 = 0xdc88_6566_984a_4798_a75e_5585_a7bf_67cc;
    const TABLE: u128 = 0x96b5_82de_1fb2_45f7_baea_a366_c55a_082d;
    let number = |n: u32| n.to_le_bytes();
    // Address, size, type: SEC_MEM, SECRETS, CPUID, KERNEL_HASHES.
    let sections =
        [[0x80_0000, 0x9000, 1_u32], [0x80_D000, 0x1000, 2], [0x80_E000, 0x1000, 3], [0x81_0000, 0x1000, 0x10]];
    let mut metadata = [&b"ASEV"[..], &number(16 + 12 * 4), &number(1), &number(4)].concat();
    metadata.extend(sections.iter().flatten().flat_map(|field| number(*field)));
    let entry = |guid: u128, data: &[u8]| {
        let size = u16::try_from(data.len() + 18).expect("an entry is short");
        [data, &size.to_le_bytes(), &mixed_endian(guid)].concat()
    };
    // The area's address and size, the reset vector, the distance of the metadata from the end.
    let end = 32 + 18 + (18 + 8) + 2 * (18 + 4) + metadata.len();
    let entries = [
        entry(HASH_TABLE, &[number(0x81_0C00), number(0x400)].concat()),
        entry(RESET_BLOCK, &number(0x80_B004)),
        entry(META_DATA, &number(u32::try_from(end).expect("the tables are short"))),
    ]
    .concat();
    let size = u16::try_from(entries.len() + 18).expect("the tables are short");
    let tail = [&metadata[..], &entries, &size.to_le_bytes(), &mixed_endian(TABLE), &[0x90; 32]].concat();
    let mut firmware = vec![0xF4; 16 * PAGE - tail.len()];
    firmware.extend(tail);
    firmware
}

/// A GUID as firmware stores it: the first three groups little-endian.
fn mixed_endian(guid: u128) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = guid.to_be_bytes();
    let mut bytes = [d, c, b, a, f, e, h, g, 0, 0, 0, 0, 0, 0, 0, 0];
    if let Some(tail) = bytes.get_mut(8..) {
        tail.copy_from_slice(&rest);
    }
    bytes
}
