//! The launch digest as the AMD-SP computes it: one SHA-384 per 4-KiB page that the hypervisor inserts, each over the one before.
//!
//! AMD 56860, SNP_LAUNCH_UPDATE, table PAGE_INFO. Type and address of every page are in the digest, the
//! contents only of normal pages and of save areas: the AMD-SP writes secrets itself and filters CPUID pages.

use formats::crypto::sha384;
use formats::evidence::snp::Measurement;

/// Bytes of a page.
pub const PAGE_BYTES: usize = 4096;
/// The same as a step between addresses.
pub(super) const PAGE_STEP: u64 = 4096;

/// What is inserted at an address, with the contents where they are measured.
#[derive(Clone, Copy, Debug)]
pub enum Page<'a> {
    Normal(&'a [u8; PAGE_BYTES]),
    /// A vCPU's save area.
    Vmsa(&'a [u8; PAGE_BYTES]),
    /// Zeros, by type: another digest than a normal page of zeros.
    Zero,
    Unmeasured,
    Secrets,
    Cpuid,
}

impl Page<'_> {
    /// PAGE_TYPE of PAGE_INFO.
    const fn type_code(&self) -> u8 {
        match self {
            Page::Normal(_) => 1,
            Page::Vmsa(_) => 2,
            Page::Zero => 3,
            Page::Unmeasured => 4,
            Page::Secrets => 5,
            Page::Cpuid => 6,
        }
    }
}

/// A launch digest in the making.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageChain {
    digest: Measurement,
}

impl PageChain {
    /// Before the first page.
    #[expect(clippy::new_without_default, reason = "a digest of nothing should be asked for")]
    pub const fn new() -> Self {
        PageChain { digest: Measurement::from_bytes([0; 48]) }
    }

    /// After pages that somebody else has hashed. What they were is not known here.
    pub const fn after(digest: Measurement) -> Self {
        PageChain { digest }
    }

    pub const fn digest(&self) -> Measurement {
        self.digest
    }

    pub fn add(&mut self, gpa: u64, page: Page<'_>) {
        let contents = match page {
            Page::Normal(bytes) | Page::Vmsa(bytes) => *sha384(&[bytes]).as_bytes(),
            Page::Zero | Page::Unmeasured | Page::Secrets | Page::Cpuid => [0; 48],
        };
        self.add_hashed(gpa, page.type_code(), &contents);
    }

    /// A save area whose hash is known, because every processor after the first has the same.
    pub(super) fn add_vmsa_hashed(&mut self, gpa: u64, contents: &[u8; 48]) {
        self.add_hashed(gpa, 2, contents);
    }

    /// All of `bytes` as normal pages from `gpa` upwards. The last page must be whole: `Err` is how many bytes it has.
    pub fn add_normal(&mut self, gpa: u64, bytes: &[u8]) -> Result<(), usize> {
        let (pages, rest) = bytes.as_chunks::<PAGE_BYTES>();
        if !rest.is_empty() {
            return Err(rest.len());
        }
        for (page, gpa) in pages.iter().zip(addresses(gpa)) {
            self.add(gpa, Page::Normal(page));
        }
        Ok(())
    }

    /// `count` pages of one type whose contents are not measured.
    pub(super) fn repeat(&mut self, gpa: u64, count: usize, page: Page<'_>) {
        for gpa in addresses(gpa).take(count) {
            self.add(gpa, page);
        }
    }

    fn add_hashed(&mut self, gpa: u64, type_code: u8, contents: &[u8; 48]) {
        // Length of PAGE_INFO, type, IMI_PAGE, permissions of VMPL 3, 2, 1, reserved.
        let [len_low, len_high] = 0x70_u16.to_le_bytes();
        let fields = [len_low, len_high, type_code, 0, 0, 0, 0, 0];
        let next = sha384(&[self.digest.as_bytes(), contents, &fields, &gpa.to_le_bytes()]);
        self.digest = Measurement::from_bytes(*next.as_bytes());
    }
}

/// Addresses of consecutive pages. Parsers keep ranges below 2^52, so it never wraps on what they let through.
fn addresses(first: u64) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(first), |gpa| gpa.checked_add(PAGE_STEP))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(gpa: u64, page: Page<'_>) -> Measurement {
        let mut chain = PageChain::new();
        chain.add(gpa, page);
        chain.digest()
    }

    #[test]
    fn address_type_and_contents_of_every_page_count() {
        let zeros = &[0; PAGE_BYTES];
        let pages = [Page::Normal(zeros), Page::Vmsa(zeros), Page::Zero, Page::Unmeasured, Page::Secrets, Page::Cpuid];
        let mut seen: Vec<_> = pages.iter().flat_map(|p| [after(0, *p), after(4096, *p)]).collect();
        seen.push(after(0, Page::Normal(&[1; PAGE_BYTES])));
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 13);
    }

    #[test]
    fn bytes_become_ascending_pages_and_a_part_of_one_is_refused() {
        let bytes = [&[1; PAGE_BYTES][..], &[2; PAGE_BYTES]].concat();
        let mut by_bytes = PageChain::new();
        by_bytes.add_normal(0x1000, &bytes).unwrap();
        let mut by_page = PageChain::new();
        by_page.add(0x1000, Page::Normal(&[1; PAGE_BYTES]));
        by_page.add(0x2000, Page::Normal(&[2; PAGE_BYTES]));
        assert_eq!(by_bytes, by_page);
        assert_eq!(PageChain::new().add_normal(0, &bytes[1..]), Err(4095));
    }
}
