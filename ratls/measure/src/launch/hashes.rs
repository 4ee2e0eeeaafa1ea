//! The table of hashes through which QEMU puts kernel, initrd and command line into the launch digest (`kernel-hashes=on`).
//!
//! QEMU target/i386/sev.c. The page is in the digest; that the firmware refuses a kernel with another hash
//! is not.

use super::chain::PAGE_BYTES;
use formats::crypto::sha256;
use formats::digest::Sha256Digest;
use formats::guid::UefiGuid;

pub use crate::measured_boot::MAX_CMDLINE_BYTES;

const TABLE: UefiGuid = UefiGuid::new(0x9438_d606, 0x4f22, 0x4cc9, 0xb479_a793_d411_fd21);
const CMDLINE: UefiGuid = UefiGuid::new(0x97d0_2dd8, 0xbd20, 0x4c94, 0xaa78_e771_4d36_ab2a);
const INITRD: UefiGuid = UefiGuid::new(0x44ba_f731, 0x3a2f, 0x4bd7, 0x9af1_41e2_9169_781d);
const KERNEL: UefiGuid = UefiGuid::new(0x4de7_9437, 0xabd2, 0x427f, 0xb835_d5b1_72d2_045b);

/// Header of 18 bytes, three entries of 50, filled up to a multiple of 16.
const TABLE_BYTES: usize = 176;

/// SHA-256 of what is booted, and whether whoever asks holds the bytes or only their hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ingredient {
    sha256: Sha256Digest,
    held: bool,
}

impl Ingredient {
    /// The file, unmodified.
    pub fn of_file(bytes: &[u8]) -> Ingredient {
        Ingredient { sha256: sha256(&[bytes]), held: true }
    }
    /// QEMU hashes the empty string where there is no initrd. Nothing is held completely.
    pub fn absent() -> Ingredient {
        Ingredient::of_file(&[])
    }
    /// QEMU hashes the command line with the NUL at its end; an empty one is a NUL.
    pub fn of_cmdline(text: &str) -> Ingredient {
        Ingredient { sha256: sha256(&[text.as_bytes(), &[0]]), held: true }
    }
    /// Somebody's word for what the file is.
    pub fn by_digest(sha256: Sha256Digest) -> Ingredient {
        Ingredient { sha256, held: false }
    }

    pub fn sha256(&self) -> Sha256Digest {
        self.sha256
    }
    /// Whether the hash was computed here, from the bytes.
    pub fn is_held(&self) -> bool {
        self.held
    }
}

/// What the table names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelHashes {
    pub kernel: Ingredient,
    pub initrd: Ingredient,
    pub cmdline: Ingredient,
}

impl KernelHashes {
    /// The page with the table where the firmware looks for it; `None` where it would not fit behind that offset.
    pub(super) fn page(&self, table_gpa: u32) -> Option<[u8; PAGE_BYTES]> {
        let offset = usize::try_from(table_gpa & 0xFFF).ok()?;
        let mut page = [0; PAGE_BYTES];
        page.get_mut(offset..offset + TABLE_BYTES)?.copy_from_slice(&self.table());
        Some(page)
    }

    fn table(&self) -> [u8; TABLE_BYTES] {
        let mut bytes = Vec::with_capacity(TABLE_BYTES);
        bytes.extend(TABLE.to_bytes());
        bytes.extend(168_u16.to_le_bytes());
        for (guid, ingredient) in [(CMDLINE, &self.cmdline), (INITRD, &self.initrd), (KERNEL, &self.kernel)] {
            bytes.extend(guid.to_bytes());
            bytes.extend(50_u16.to_le_bytes());
            bytes.extend(ingredient.sha256.as_bytes());
        }
        bytes.resize(TABLE_BYTES, 0);
        bytes.try_into().expect("resized to it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes() -> KernelHashes {
        let kernel = Ingredient::of_file(b"kernel");
        KernelHashes { kernel, initrd: Ingredient::absent(), cmdline: Ingredient::of_cmdline("") }
    }

    #[test]
    fn the_table_stands_at_its_offset_and_must_fit() {
        let page = hashes().page(0x0081_0C00).unwrap();
        assert_eq!(page[0xC00..0xC04], [0x06, 0xD6, 0x38, 0x94]);
        assert!(page[..0xC00].iter().chain(&page[0xC00 + TABLE_BYTES..]).all(|b| *b == 0));
        assert!(hashes().page(4096 - 176).is_some());
        assert!(hashes().page(4096 - 175).is_none());
    }

    #[test]
    fn an_empty_command_line_is_not_an_absent_file() {
        assert_eq!(Ingredient::of_cmdline("").sha256(), sha256(&[&[0]]));
        assert_ne!(hashes().cmdline.sha256(), hashes().initrd.sha256());
    }
}
