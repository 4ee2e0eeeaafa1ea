//! An IGVM file as a list of pages: COCONUT-SVSM and other guests that the hypervisor launches from one file.
//!
//! Format: igvm_defs 0.4 (microsoft/igvm), version 1. Which page is inserted how: after COCONUT-SVSM's igvmmeasure. Read are the directives of the SEV-SNP platform that insert pages, in their order; the file's checksum is not
//! looked at, since the digest says more. No published file with its measurement was at hand to compare with: what is wrong here
//! gives a digest that no report carries, and so refuses (docs/limitations.md).

use super::chain::{PAGE_BYTES, PAGE_STEP, Page};
use super::pages::{PagePart, PagesBuilder, PagesError, PagesLaunch};
use formats::bytes::{ReadError, Reader};

/// Largest file: SVSM, firmware and the data of a large guest.
pub const MAX_IGVM_BYTES: usize = 256 << 20;
/// Directives of one file. Each page is one.
const MAX_DIRECTIVES: usize = 1 << 17;
const LARGE_PAGE_BYTES: usize = 2 << 20;
const SEV_SNP: u8 = 2;

/// Why a file cannot be measured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IgvmError {
    #[error("the file has {seen} bytes, at most {MAX_IGVM_BYTES}")]
    TooLarge { seen: usize },
    #[error("the file ends early: {0}")]
    Read(#[from] ReadError),
    #[error("it is no IGVM file of version 1")]
    Magic,
    #[error("its headers stand outside the file, or the file has not the length that it says")]
    Bounds,
    #[error("it has no platform SEV-SNP, or more than one")]
    Platform,
    #[error("directive {index}: {problem}")]
    Directive { index: usize, problem: &'static str },
    #[error("directive {index} is of the unknown type {kind:#x}")]
    Unknown { index: usize, kind: u32 },
    #[error("more than {MAX_DIRECTIVES} directives")]
    TooMany,
    #[error(transparent)]
    Pages(#[from] PagesError),
}

/// The launch digest of a guest that is launched from this file alone. `name` is the file's, for proofs.
pub fn measure_igvm(file: &[u8], name: &str) -> Result<PagesLaunch, IgvmError> {
    if file.len() > MAX_IGVM_BYTES {
        return Err(IgvmError::TooLarge { seen: file.len() });
    }
    let directives = directives(file)?;
    let mask = snp_mask(&directives)?;
    let mut walk = Walk { file, mask, areas: Vec::new(), pages: PagesBuilder::new() };
    walk.pages.file(PagePart::Firmware, name, file);
    for directive in &directives {
        walk.take(directive)?;
    }
    Ok(walk.pages.finish()?)
}

struct Directive<'f> {
    index: usize,
    kind: u32,
    content: &'f [u8],
}

/// The fixed header, and the variable headers that it points to.
fn directives(file: &[u8]) -> Result<Vec<Directive<'_>>, IgvmError> {
    let mut fixed = Reader::new(file);
    if &fixed.array::<4>()? != b"IGVM" || fixed.u32_le()? != 1 {
        return Err(IgvmError::Magic);
    }
    let (offset, size, total) = (fixed.u32_le()?, fixed.u32_le()?, fixed.u32_le()?);
    let number = |n: u32| usize::try_from(n).map_err(|_| IgvmError::Bounds);
    let (offset, size) = (number(offset)?, number(size)?);
    if number(total)? != file.len() {
        return Err(IgvmError::Bounds);
    }
    let end = offset.checked_add(size).ok_or(IgvmError::Bounds)?;
    let mut reader = Reader::new(file.get(offset..end).ok_or(IgvmError::Bounds)?);
    let mut found = Vec::new();
    while reader.left() > 0 {
        if found.len() == MAX_DIRECTIVES {
            return Err(IgvmError::TooMany);
        }
        let kind = reader.u32_le()?;
        let length = number(reader.u32_le()?)?;
        let content = reader.take(length)?;
        // Headers are aligned to 8 bytes; the last one's padding may be left away.
        let padding = length.next_multiple_of(8) - length;
        reader.take(padding.min(reader.left()))?;
        found.push(Directive { index: found.len() + 1, kind, content });
    }
    Ok(found)
}

/// The bit by which directives say that they are for SEV-SNP.
fn snp_mask(directives: &[Directive<'_>]) -> Result<u32, IgvmError> {
    let mut masks = Vec::new();
    for directive in directives.iter().filter(|d| d.kind == SUPPORTED_PLATFORM) {
        let mut reader = Reader::new(directive.content);
        let mask = reader.u32_le()?;
        reader.u8()?; // highest VTL
        if reader.u8()? == SEV_SNP {
            masks.push(mask);
        }
    }
    match masks.as_slice() {
        [mask] if mask.is_power_of_two() => Ok(*mask),
        _ => Err(IgvmError::Platform),
    }
}

const SUPPORTED_PLATFORM: u32 = 0x1;
const PARAMETER_AREA: u32 = 0x301;
const PAGE_DATA: u32 = 0x302;
const PARAMETER_INSERT: u32 = 0x303;
const VP_CONTEXT: u32 = 0x304;

struct Walk<'f> {
    file: &'f [u8],
    mask: u32,
    /// Index and pages of each parameter area.
    areas: Vec<(u32, u64)>,
    pages: PagesBuilder,
}

impl<'f> Walk<'f> {
    fn take(&mut self, directive: &Directive<'_>) -> Result<(), IgvmError> {
        let mut reader = Reader::new(directive.content);
        match directive.kind {
            PAGE_DATA => self.page(directive.index, &mut reader),
            PARAMETER_AREA => {
                let (bytes, index) = (reader.u64_le()?, reader.u32_le()?);
                let known = self.areas.iter().any(|(area, _)| *area == index);
                if !bytes.is_multiple_of(PAGE_STEP) || bytes == 0 || known {
                    return Err(refuse(directive.index, "a parameter area has whole pages, and an index of its own"));
                }
                self.areas.push((index, bytes / PAGE_STEP));
                Ok(())
            }
            PARAMETER_INSERT => {
                let (gpa, mask, index) = (reader.u64_le()?, reader.u32_le()?, reader.u32_le()?);
                if mask & self.mask == 0 {
                    return Ok(());
                }
                let area = self.areas.iter().find(|(area, _)| *area == index);
                let (_, count) =
                    area.ok_or(refuse(directive.index, "it inserts a parameter area that is not there"))?;
                Ok(self.pages.unread(aligned(directive.index, gpa)?, Page::Unmeasured, *count)?)
            }
            VP_CONTEXT => {
                let (gpa, mask, offset) = (reader.u64_le()?, reader.u32_le()?, reader.u32_le()?);
                if mask & self.mask == 0 {
                    return Ok(());
                }
                let area = self.bytes(directive.index, offset, PAGE_BYTES)?.try_into();
                let area = area.map_err(|_| refuse(directive.index, "a save area is a page"))?;
                Ok(self.pages.vmsas(aligned(directive.index, gpa)?, area, 1)?)
            }
            // Platform, policy and relocation, and parameters that the hypervisor fills in: they insert no page.
            0x1 | 0x101..=0x103 | 0x305 | 0x307..=0x313 => Ok(()),
            kind => Err(IgvmError::Unknown { index: directive.index, kind }),
        }
    }

    fn page(&mut self, index: usize, reader: &mut Reader<'_>) -> Result<(), IgvmError> {
        let (gpa, mask) = (reader.u64_le()?, reader.u32_le()?);
        let (offset, flags, kind) = (reader.u32_le()?, reader.u32_le()?, reader.u16_le()?);
        if mask & self.mask == 0 {
            return Ok(());
        }
        if flags & !3 != 0 {
            return Err(refuse(index, "it has flags that are not known"));
        }
        let (large, unmeasured) = (flags & 1 != 0, flags & 2 != 0);
        let len = if large { LARGE_PAGE_BYTES } else { PAGE_BYTES };
        let count = if large { 512 } else { 1 };
        let gpa = aligned(index, gpa)?;
        match (kind, unmeasured) {
            (0, true) => Ok(self.pages.unread(gpa, Page::Unmeasured, count)?),
            (0, false) => {
                let zeros;
                let bytes = if offset == 0 {
                    // Without data it is a page of zeros, and measured as one.
                    zeros = vec![0; len];
                    zeros.as_slice()
                } else {
                    self.bytes(index, offset, len)?
                };
                let part = Some(PagePart::Firmware);
                self.pages
                    .normal(gpa, bytes, part)
                    .map_err(|e| e.map_or(refuse(index, "no whole pages"), IgvmError::Pages))
            }
            (1, _) => Ok(self.pages.unread(gpa, Page::Secrets, count)?),
            (2 | 3, _) => Ok(self.pages.unread(gpa, Page::Cpuid, count)?),
            _ => Err(refuse(index, "its data is of an unknown type")),
        }
    }

    fn bytes(&self, index: usize, offset: u32, len: usize) -> Result<&'f [u8], IgvmError> {
        let start = usize::try_from(offset).map_err(|_| IgvmError::Bounds)?;
        let bytes = start.checked_add(len).and_then(|end| self.file.get(start..end));
        bytes.ok_or(refuse(index, "its data stands outside the file"))
    }
}

fn refuse(index: usize, problem: &'static str) -> IgvmError {
    IgvmError::Directive { index, problem }
}

fn aligned(index: usize, gpa: u64) -> Result<u64, IgvmError> {
    if gpa.is_multiple_of(PAGE_STEP) && gpa < 1 << 52 {
        Ok(gpa)
    } else {
        Err(refuse(index, "its address is no page's"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::chain::PageChain;
    use super::*;
    use proptest::prelude::*;

    const DATA_AT: u32 = 1024;

    fn header(kind: u32, content: &[u8]) -> Vec<u8> {
        let mut bytes = [&kind.to_le_bytes()[..], &(content.len() as u32).to_le_bytes(), content].concat();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    fn page(gpa: u64, mask: u32, offset: u32, flags: u32, kind: u16) -> Vec<u8> {
        let parts: [&[u8]; 6] = [
            &gpa.to_le_bytes(),
            &mask.to_le_bytes(),
            &offset.to_le_bytes(),
            &flags.to_le_bytes(),
            &kind.to_le_bytes(),
            &[0; 2],
        ];
        header(PAGE_DATA, &parts.concat())
    }

    fn platform(mask: u32, kind: u8) -> Vec<u8> {
        header(SUPPORTED_PLATFORM, &[&mask.to_le_bytes()[..], &[0, kind, 1, 0], &[0; 8]].concat())
    }

    fn vmsa(mask: u32, offset: u32) -> Vec<u8> {
        let gpa = 0xFFFF_FFFF_F000_u64.to_le_bytes();
        header(VP_CONTEXT, &[&gpa[..], &mask.to_le_bytes(), &offset.to_le_bytes(), &[0; 8]].concat())
    }

    fn file(headers: &[Vec<u8>]) -> Vec<u8> {
        let headers = headers.concat();
        let total = DATA_AT + 2 * 4096;
        let fixed = [1, 24, headers.len() as u32, total, 0].map(u32::to_le_bytes).concat();
        let mut file = [&b"IGVM"[..], &fixed, &headers].concat();
        file.resize(DATA_AT as usize, 0);
        file.extend([5; 4096]);
        file.extend([6; 4096]);
        file
    }

    fn good() -> Vec<Vec<u8>> {
        let area = header(PARAMETER_AREA, &[&8192_u64.to_le_bytes()[..], &7_u32.to_le_bytes(), &[0; 4]].concat());
        let insert = header(
            PARAMETER_INSERT,
            &[&0x9000_u64.to_le_bytes()[..], &1_u32.to_le_bytes(), &7_u32.to_le_bytes()].concat(),
        );
        vec![
            platform(1, SEV_SNP),
            platform(2, 0),
            header(0x101, &[0; 16]),
            page(0x1000, 1, DATA_AT, 0, 0),
            page(0x2000, 3, 0, 0, 0),
            page(0x3000, 2, DATA_AT, 0, 0),
            page(0x4000, 1, DATA_AT, 2, 0),
            page(0x5000, 1, 0, 0, 1),
            page(0x6000, 1, DATA_AT, 0, 2),
            area,
            insert,
            vmsa(1, DATA_AT + 4096),
        ]
    }

    #[test]
    fn a_file_is_the_chain_of_its_pages_for_sev_snp() {
        let mut chain = PageChain::new();
        for (gpa, page) in [
            (0x1000, Page::Normal(&[5; 4096])),
            (0x2000, Page::Normal(&[0; 4096])),
            (0x4000, Page::Unmeasured),
            (0x5000, Page::Secrets),
            (0x6000, Page::Cpuid),
            (0x9000, Page::Unmeasured),
            (0xA000, Page::Unmeasured),
            (0xFFFF_FFFF_F000, Page::Vmsa(&[6; 4096])),
        ] {
            chain.add(gpa, page);
        }
        let launch = measure_igvm(&file(&good()), "svsm.igvm").unwrap();
        assert_eq!(launch.digest(), chain.digest());
        assert_eq!(launch.vcpus(), 1);
        assert!(launch.coverage().firmware.is_ok() && launch.coverage().kernel.is_err());
    }

    #[test]
    fn a_large_page_is_512_small_ones() {
        let small: Vec<_> = (0..512).map(|n| page(0x20_0000 + n * 4096, 1, 0, 0, 0)).collect();
        let tail = vmsa(1, DATA_AT);
        let large = [platform(1, SEV_SNP), page(0x20_0000, 1, 0, 1, 0), tail.clone()];
        let small_file = [vec![platform(1, SEV_SNP)], small, vec![tail]].concat().concat();
        let mut file_of_small = [&b"IGVM"[..], &[0; 20], &small_file].concat();
        let data_at = file_of_small.len() as u32;
        // The save area's data moves behind the longer headers.
        let at = file_of_small.len() - 12;
        file_of_small[at..at + 4].copy_from_slice(&data_at.to_le_bytes());
        file_of_small.extend([5; 4096]);
        let fixed = [1, 24, small_file.len() as u32, file_of_small.len() as u32, 0].map(u32::to_le_bytes).concat();
        file_of_small[4..24].copy_from_slice(&fixed);
        let digest = |file: &[u8]| measure_igvm(file, "x").unwrap().digest();
        assert_eq!(digest(&file(&large)), digest(&file_of_small));
    }

    #[test]
    fn plat_n28_refuses_files_that_point_outside_or_mean_nothing() {
        let with = |at: usize, header: Vec<u8>| {
            let mut headers = good();
            headers[at] = header;
            measure_igvm(&file(&headers), "x").unwrap_err().to_string()
        };
        for (at, header, says) in [
            (0, platform(1, 3), "no platform SEV-SNP"),
            (1, platform(2, SEV_SNP), "more than one"),
            (0, platform(5, SEV_SNP), "no platform SEV-SNP"),
            (3, page(0x1001, 1, DATA_AT, 0, 0), "no page's"),
            (3, page(1 << 52, 1, DATA_AT, 0, 0), "no page's"),
            (3, page(0x1000, 1, DATA_AT + 4097, 0, 0), "outside the file"),
            (3, page(0x1000, 1, u32::MAX, 1, 0), "outside the file"),
            (3, page(0x1000, 1, DATA_AT, 4, 0), "flags"),
            (3, page(0x1000, 1, DATA_AT, 0, 4), "unknown type"),
            (3, header(0x999, &[]), "unknown type 0x999"),
            (3, header(PAGE_DATA, &[0; 4]), "ends early"),
            (9, header(PARAMETER_AREA, &[1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0]), "whole pages"),
            (9, header(0x305, &[]), "not there"),
            (11, header(0x305, &[]), "without a vCPU"),
        ] {
            let error = with(at, header);
            assert!(error.contains(says), "{says}: {error}");
        }
        let huge = header(PARAMETER_AREA, &[0, 0, 0, 0, 0, 0, 0, 0x10, 7, 0, 0, 0]);
        assert!(with(9, huge).contains("more than"));
        let file = file(&good());
        assert_eq!(measure_igvm(&file[..file.len() - 1], "x"), Err(IgvmError::Bounds));
    }

    proptest! {
        #[test]
        fn plat_n28_any_change_of_a_good_file_is_an_answer_and_never_a_panic(
            changes in proptest::collection::vec((0_usize..400, any::<u8>()), 1..5)
        ) {
            let mut file = file(&good());
            for (at, byte) in changes {
                file[at] = byte;
            }
            let _ = measure_igvm(&file, "x");
        }
    }
}
