//! What an OVMF image says of its own launch: the table of GUIDs at its end, and the SEV metadata that this points to.
//!
//! edk2 OvmfPkg/ResetVector (X64/OvmfSevMetadata.asm, Ia16/ResetVectorVtf0.asm). The image is hostile: it may
//! come from whoever asks for a digest. What a firmware *does* with its sections cannot be read here; that it verifies what the
//! hash table names is a claim about the firmware.

use formats::bytes::{ReadError, Reader};
use formats::guid::UefiGuid;

/// Largest firmware image: QEMU's upper bound for `max-fw-size` of a PC is 16 MiB.
pub const MAX_FIRMWARE_BYTES: usize = 16 << 20;
/// Sections of one image. Today's have seven or eight.
const MAX_SECTIONS: u32 = 64;
/// Pages of all sections together, 64 MiB. Today's have fewer than a hundred.
const MAX_SECTION_PAGES: usize = 16 * 1024;

/// Before the reset vector's 16 bytes stand 16 more that are no table.
const TABLE_END_FROM_EOF: usize = 32;
/// `u16 size ‖ guid` behind each entry's data.
const ENTRY_HEADER_BYTES: usize = 18;
/// `"ASEV" ‖ u32 size ‖ u32 version ‖ u32 count`.
const METADATA_HEADER_BYTES: usize = 16;
const DESCRIPTOR_BYTES: usize = 12;

const TABLE_FOOTER: UefiGuid = UefiGuid::new(0x96b5_82de, 0x1fb2, 0x45f7, 0xbaea_a366_c55a_082d);
const SEV_HASH_TABLE_RV: UefiGuid = UefiGuid::new(0x7255_371f, 0x3a3b, 0x4b04, 0x927b_1da6_efa8_d454);
const SEV_ES_RESET_BLOCK: UefiGuid = UefiGuid::new(0x00f7_71de, 0x1a7e, 0x4fcb, 0x890e_68c7_7e2f_b44e);
const SEV_META_DATA: UefiGuid = UefiGuid::new(0xdc88_6566, 0x984a, 0x4798, 0xa75e_5585_a7bf_67cc);
const SVSM_INFO: UefiGuid = UefiGuid::new(0xa789_a612, 0x0597, 0x4c4b, 0xa49f_cbb1_fe9d_1ddd);

/// The layout that an image asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OvmfLayout {
    pub(super) reset_eip: Option<u32>,
    pub(super) hash_table_gpa: Option<u32>,
    pub(super) svsm_entry: Option<u32>,
    pub(super) sections: Vec<Section>,
}

/// Memory that the hypervisor prepares before the first instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    pub(super) gpa: u32,
    pub(super) pages: usize,
    pub(super) kind: SectionKind,
}

/// What a section is for, by its number in the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionKind {
    /// 1: memory that the firmware uses before it can validate pages.
    SecMemory,
    /// 2: one page.
    Secrets,
    /// 3: one page.
    Cpuid,
    /// 4: calling area of an SVSM.
    SvsmCallingArea,
    /// 0x10: the page with the hash table of kernel, initrd and command line.
    KernelHashes,
}

/// Why an image has no layout that could be measured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OvmfError {
    #[error(
        "the image has {seen} bytes; wanted whole pages of 4096, at least one and at most {MAX_FIRMWARE_BYTES} bytes"
    )]
    Size { seen: usize },
    #[error("no table of GUIDs ends 32 bytes before the end: this is no OVMF image, or a variable store without code")]
    NoTable,
    #[error("the table of GUIDs is broken: {0}")]
    Table(&'static str),
    #[error("the table names {0} twice")]
    DuplicateEntry(UefiGuid),
    #[error("the entry {guid} has {seen} bytes, wanted {wanted}")]
    EntryLength { guid: UefiGuid, seen: usize, wanted: usize },
    #[error("the image has no SEV metadata: it cannot be launched under SEV-SNP")]
    NoMetadata,
    #[error("the SEV metadata ends early or stands outside the image")]
    MetadataBounds,
    #[error("SEV metadata: {0}")]
    Metadata(&'static str),
    #[error("SEV metadata of version {0}, wanted 1")]
    MetadataVersion(u32),
    #[error("{0} sections, at most {MAX_SECTIONS}")]
    TooManySections(u32),
    #[error("section {index} is of the unknown type {kind:#x}")]
    SectionType { index: usize, kind: u32 },
    #[error("section {index} at {gpa:#x} has {size:#x} bytes: {problem}")]
    Section { index: usize, gpa: u32, size: u32, problem: &'static str },
    #[error("the sections have more than {MAX_SECTION_PAGES} pages together")]
    TooManyPages,
    #[error("more than one section for kernel hashes")]
    DuplicateKernelHashes,
    #[error("the firmware looks for kernel hashes at {table:#x}, while the measured section is at {section:#x}")]
    HashTableElsewhere { table: u32, section: u32 },
}

impl OvmfLayout {
    pub fn parse(image: &[u8]) -> Result<OvmfLayout, OvmfError> {
        if image.is_empty() || image.len() > MAX_FIRMWARE_BYTES || !image.len().is_multiple_of(super::chain::PAGE_BYTES)
        {
            return Err(OvmfError::Size { seen: image.len() });
        }
        let table = Table::find(image)?;
        let metadata = table.metadata_from_end.ok_or(OvmfError::NoMetadata)?;
        let layout = OvmfLayout {
            reset_eip: table.reset_eip,
            hash_table_gpa: table.hash_table_gpa,
            svsm_entry: table.svsm_entry,
            sections: sections(image, metadata)?,
        };
        layout.checked()
    }

    /// A layout that somebody else has read from an image: a measurement's own inputs, without the image.
    pub fn from_parts(
        reset_eip: Option<u32>,
        hash_table_gpa: Option<u32>,
        sections: &[(u32, u32, u32)],
    ) -> Result<OvmfLayout, OvmfError> {
        let count = u32::try_from(sections.len()).unwrap_or(u32::MAX);
        if count > MAX_SECTIONS {
            return Err(OvmfError::TooManySections(count));
        }
        let sections = sections.iter().enumerate().map(|(i, (gpa, size, kind))| Section::new(i, *gpa, *size, *kind));
        let sections = sections.collect::<Result<_, _>>()?;
        OvmfLayout { reset_eip, hash_table_gpa, svsm_entry: None, sections }.checked()
    }

    /// Where an AP starts, if the image says so.
    pub fn reset_eip(&self) -> Option<u32> {
        self.reset_eip
    }
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }
    /// Whether a hash table can be measured: the metadata has a section for it, and the firmware knows where it is (N25).
    pub fn takes_kernel_hashes(&self) -> bool {
        self.hash_table_gpa.is_some() && self.sections.iter().any(|s| s.kind == SectionKind::KernelHashes)
    }

    fn checked(self) -> Result<OvmfLayout, OvmfError> {
        let mut pages = 0_usize;
        let mut hashes = self.sections.iter().filter(|s| s.kind == SectionKind::KernelHashes);
        for section in &self.sections {
            pages = pages.saturating_add(section.pages);
        }
        if pages > MAX_SECTION_PAGES {
            return Err(OvmfError::TooManyPages);
        }
        let (first, second) = (hashes.next(), hashes.next());
        if second.is_some() {
            return Err(OvmfError::DuplicateKernelHashes);
        }
        // QEMU takes only the offset within the page from the table's address. A firmware that looks on another page would
        // find no hashes, and what is measured would say nothing of what it boots.
        if let (Some(section), Some(table)) = (first, self.hash_table_gpa)
            && table & !0xFFF != section.gpa
        {
            return Err(OvmfError::HashTableElsewhere { table, section: section.gpa });
        }
        Ok(self)
    }
}

impl Section {
    fn new(index: usize, gpa: u32, size: u32, kind: u32) -> Result<Section, OvmfError> {
        let broken = |problem| OvmfError::Section { index, gpa, size, problem };
        let kind = match kind {
            1 => SectionKind::SecMemory,
            2 => SectionKind::Secrets,
            3 => SectionKind::Cpuid,
            4 => SectionKind::SvsmCallingArea,
            0x10 => SectionKind::KernelHashes,
            _ => return Err(OvmfError::SectionType { index, kind }),
        };
        if gpa & 0xFFF != 0 || size & 0xFFF != 0 {
            return Err(broken("address and size must be multiples of 4096"));
        }
        if size == 0 {
            return Err(broken("a section has at least one page"));
        }
        if gpa.checked_add(size).is_none() {
            return Err(broken("it ends above 4 GiB"));
        }
        let one_page = !matches!(kind, SectionKind::SecMemory | SectionKind::SvsmCallingArea);
        if one_page && size != 4096 {
            return Err(broken("this type has one page"));
        }
        let pages = usize::try_from(size >> 12).map_err(|_| broken("too large"))?;
        Ok(Section { gpa, pages, kind })
    }

    pub fn gpa(&self) -> u32 {
        self.gpa
    }
    pub fn kind(&self) -> SectionKind {
        self.kind
    }
}

/// The entries that matter here. Others (TDX, secrets of SEV) are skipped.
#[derive(Default)]
struct Table {
    metadata_from_end: Option<u32>,
    reset_eip: Option<u32>,
    hash_table_gpa: Option<u32>,
    svsm_entry: Option<u32>,
}

impl Table {
    /// Walks the table backwards, since each entry's header stands behind its data.
    fn find(image: &[u8]) -> Result<Table, OvmfError> {
        let (head, _) = split_end(image, TABLE_END_FROM_EOF).ok_or(OvmfError::NoTable)?;
        let (rest, header) = split_end(head, ENTRY_HEADER_BYTES).ok_or(OvmfError::NoTable)?;
        let (size, guid) = entry_header(header).map_err(|_| OvmfError::NoTable)?;
        if guid != TABLE_FOOTER {
            return Err(OvmfError::NoTable);
        }
        // The footer's size is that of the whole table, its own header included.
        let entries = size.checked_sub(ENTRY_HEADER_BYTES).ok_or(OvmfError::Table("its size is less than a header"))?;
        let (_, mut entries) = split_end(rest, entries).ok_or(OvmfError::Table("it begins before the image"))?;
        let mut table = Table::default();
        while !entries.is_empty() {
            let (rest, header) =
                split_end(entries, ENTRY_HEADER_BYTES).ok_or(OvmfError::Table("an entry is cut off"))?;
            let (size, guid) = entry_header(header).map_err(|_| OvmfError::Table("an entry is cut off"))?;
            let data =
                size.checked_sub(ENTRY_HEADER_BYTES).ok_or(OvmfError::Table("an entry is less than a header"))?;
            let (rest, data) = split_end(rest, data).ok_or(OvmfError::Table("an entry begins before the table"))?;
            table.take(guid, data)?;
            entries = rest;
        }
        Ok(table)
    }

    fn take(&mut self, guid: UefiGuid, data: &[u8]) -> Result<(), OvmfError> {
        // The hash table's entry is base and size, the others are one number.
        let (slot, wanted) = match guid {
            SEV_META_DATA => (&mut self.metadata_from_end, 4),
            SEV_ES_RESET_BLOCK => (&mut self.reset_eip, 4),
            SEV_HASH_TABLE_RV => (&mut self.hash_table_gpa, 8),
            SVSM_INFO => (&mut self.svsm_entry, 4),
            _ => return Ok(()),
        };
        if data.len() != wanted {
            return Err(OvmfError::EntryLength { guid, seen: data.len(), wanted });
        }
        let number = Reader::new(data).u32_le().map_err(|_| OvmfError::Table("an entry is cut off"))?;
        match slot.replace(number) {
            None => Ok(()),
            Some(_) => Err(OvmfError::DuplicateEntry(guid)),
        }
    }
}

fn split_end(bytes: &[u8], from_end: usize) -> Option<(&[u8], &[u8])> {
    bytes.split_at_checked(bytes.len().checked_sub(from_end)?)
}

fn entry_header(bytes: &[u8]) -> Result<(usize, UefiGuid), ReadError> {
    let mut reader = Reader::new(bytes);
    let size = reader.u16_le()?;
    Ok((usize::from(size), UefiGuid::from_bytes(reader.array()?)))
}

fn sections(image: &[u8], from_end: u32) -> Result<Vec<Section>, OvmfError> {
    let from_end = usize::try_from(from_end).map_err(|_| OvmfError::MetadataBounds)?;
    let (_, metadata) = split_end(image, from_end).ok_or(OvmfError::MetadataBounds)?;
    read_sections(&mut Reader::new(metadata)).map_err(|e| e.unwrap_or(OvmfError::MetadataBounds))
}

/// `Err(None)` where the image ends inside the metadata.
fn read_sections(reader: &mut Reader<'_>) -> Result<Vec<Section>, Option<OvmfError>> {
    let early = |_: ReadError| None;
    if &reader.array::<4>().map_err(early)? != b"ASEV" {
        return Err(Some(OvmfError::Metadata("it does not begin with \"ASEV\"")));
    }
    let size = reader.u32_le().map_err(early)?;
    match reader.u32_le().map_err(early)? {
        1 => {}
        version => return Err(Some(OvmfError::MetadataVersion(version))),
    }
    let count = reader.u32_le().map_err(early)?;
    if count > MAX_SECTIONS {
        return Err(Some(OvmfError::TooManySections(count)));
    }
    let count = usize::try_from(count).map_err(|_| None)?;
    if usize::try_from(size).ok() != Some(METADATA_HEADER_BYTES + count * DESCRIPTOR_BYTES) {
        return Err(Some(OvmfError::Metadata("its size is not that of its sections")));
    }
    let mut sections = Vec::with_capacity(count);
    for index in 0..count {
        let gpa = reader.u32_le().map_err(early)?;
        let size = reader.u32_le().map_err(early)?;
        let kind = reader.u32_le().map_err(early)?;
        sections.push(Section::new(index, gpa, size, kind)?);
    }
    Ok(sections)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    const IMAGE_BYTES: usize = 8192;

    /// An image with this table (last entry first, as it is walked) and these sections, 0x200 bytes before the end.
    fn image(entries: &[(UefiGuid, &[u8])], sections: &[(u32, u32, u32)]) -> Vec<u8> {
        let mut image = vec![0; IMAGE_BYTES - 0x200];
        image.extend(b"ASEV");
        image.extend((METADATA_HEADER_BYTES as u32 + sections.len() as u32 * 12).to_le_bytes());
        image.extend(1_u32.to_le_bytes());
        image.extend((sections.len() as u32).to_le_bytes());
        for (gpa, size, kind) in sections {
            image.extend([gpa.to_le_bytes(), size.to_le_bytes(), kind.to_le_bytes()].concat());
        }
        let mut table = Vec::new();
        for (guid, data) in entries.iter().rev() {
            table.extend(*data);
            table.extend((data.len() as u16 + 18).to_le_bytes());
            table.extend(guid.to_bytes());
        }
        table.extend((table.len() as u16 + 18).to_le_bytes());
        table.extend(TABLE_FOOTER.to_bytes());
        image.resize(IMAGE_BYTES - 32 - table.len(), 0);
        image.extend(table);
        image.resize(IMAGE_BYTES, 0x90);
        image
    }

    const UNKNOWN: UefiGuid = UefiGuid::new(1, 2, 3, 4);
    const METADATA: (UefiGuid, &[u8]) = (SEV_META_DATA, &[0, 2, 0, 0]);
    const RESET: (UefiGuid, &[u8]) = (SEV_ES_RESET_BLOCK, &[4, 0xB0, 0x80, 0]);
    const HASHES: (UefiGuid, &[u8]) = (SEV_HASH_TABLE_RV, &[0, 0xC, 0x81, 0, 0, 4, 0, 0]);
    const SECTIONS: &[(u32, u32, u32)] = &[
        (0x80_0000, 0x9000, 1),
        (0x80_D000, 0x1000, 2),
        (0x80_E000, 0x1000, 3),
        (0x80_F000, 0x1000, 4),
        (0x81_0000, 0x1000, 0x10),
    ];

    /// An image that takes kernel hashes, for tests of what is built on it.
    pub(in crate::launch) fn good() -> Vec<u8> {
        image(&[METADATA, (UNKNOWN, &[9; 7]), RESET, HASHES], SECTIONS)
    }

    #[test]
    fn reads_what_an_image_asks_for_and_skips_entries_of_others() {
        let layout = OvmfLayout::parse(&good()).unwrap();
        assert_eq!(layout.reset_eip(), Some(0x80_B004));
        assert_eq!(layout.hash_table_gpa, Some(0x81_0C00));
        assert_eq!(layout.svsm_entry, None);
        assert!(layout.takes_kernel_hashes());
        assert_eq!(layout.sections().len(), 5);
        assert_eq!(layout.sections()[0], Section { gpa: 0x80_0000, pages: 9, kind: SectionKind::SecMemory });
        assert_eq!(OvmfLayout::from_parts(Some(0x80_B004), Some(0x81_0C00), SECTIONS), Ok(layout));
    }

    #[test]
    fn plat_n28_refuses_sections_that_no_firmware_has() {
        for (at, section, says) in [
            (0, (0x80_0001, 0x9000, 1), "multiples of 4096"),
            (0, (0x80_0000, 0x9001, 1), "multiples of 4096"),
            (0, (0x80_0000, 0, 1), "at least one page"),
            (0, (0xFFFF_F000, 0x1000, 1), "above 4 GiB"),
            (0, (0, 0x400_0000, 1), "more than 16384 pages"),
            (1, (0x80_D000, 0x2000, 2), "one page"),
            (2, (0x80_E000, 0x2000, 3), "one page"),
            (4, (0x81_0000, 0x2000, 0x10), "one page"),
            (4, (0x81_0000, 0x1000, 5), "unknown type 0x5"),
            (3, (0x81_0000, 0x1000, 0x10), "more than one section"),
            (4, (0x82_0000, 0x1000, 0x10), "looks for kernel hashes at 0x810c00"),
        ] {
            let mut sections = SECTIONS.to_vec();
            sections[at] = section;
            let error = OvmfLayout::parse(&image(&[METADATA, RESET, HASHES], &sections)).unwrap_err();
            assert!(error.to_string().contains(says), "{section:?}: {error}");
        }
        let many = vec![(0, 0x1000, 1); 65];
        assert_eq!(OvmfLayout::from_parts(None, None, &many), Err(OvmfError::TooManySections(65)));
        assert!(OvmfLayout::from_parts(None, None, &many[1..]).is_ok());
    }

    #[test]
    fn plat_n28_refuses_tables_that_are_broken_or_say_a_thing_twice() {
        for (entries, wanted) in [
            (&[RESET][..], OvmfError::NoMetadata),
            (&[METADATA, RESET, RESET], OvmfError::DuplicateEntry(SEV_ES_RESET_BLOCK)),
            (
                &[METADATA, (SEV_ES_RESET_BLOCK, &[0; 5])],
                OvmfError::EntryLength { guid: SEV_ES_RESET_BLOCK, seen: 5, wanted: 4 },
            ),
            (&[(SEV_META_DATA, &[0, 0x20, 0, 0])], OvmfError::Metadata("it does not begin with \"ASEV\"")),
            (&[(SEV_META_DATA, &[1, 0x20, 0, 0])], OvmfError::MetadataBounds),
            (&[(SEV_META_DATA, &[0xFF; 4])], OvmfError::MetadataBounds),
            (&[(SEV_META_DATA, &[15, 0, 0, 0])], OvmfError::Metadata("it does not begin with \"ASEV\"")),
            (&[(SEV_META_DATA, &[0, 0, 0, 0])], OvmfError::MetadataBounds),
        ] {
            assert_eq!(OvmfLayout::parse(&image(entries, SECTIONS)), Err(wanted));
        }
        let good = good();
        let size_at = |entry: usize| IMAGE_BYTES - 32 - 18 - entry;
        for (at, value, wanted) in [
            (size_at(0), 17_u16, OvmfError::Table("its size is less than a header")),
            (size_at(0), 19, OvmfError::Table("an entry is cut off")),
            (size_at(0), u16::MAX, OvmfError::Table("it begins before the image")),
            (size_at(18), 0, OvmfError::Table("an entry is less than a header")),
            (size_at(18), 4000, OvmfError::Table("an entry begins before the table")),
        ] {
            let mut broken = good.clone();
            broken[at..at + 2].copy_from_slice(&value.to_le_bytes());
            assert_eq!(OvmfLayout::parse(&broken), Err(wanted), "{at} {value}");
        }
        for (at, wanted) in [
            (IMAGE_BYTES - 0x200 + 4, OvmfError::Metadata("its size is not that of its sections")),
            (IMAGE_BYTES - 0x200 + 8, OvmfError::MetadataVersion(0)),
            (IMAGE_BYTES - 34, OvmfError::NoTable),
        ] {
            let mut broken = good.clone();
            broken[at] ^= 1;
            assert_eq!(OvmfLayout::parse(&broken), Err(wanted), "{at}");
        }
    }

    #[test]
    fn refuses_images_that_are_no_whole_pages() {
        let good = good();
        for bytes in [&[][..], &good[1..], &[0; 16], &vec![0; MAX_FIRMWARE_BYTES + 4096]] {
            assert_eq!(OvmfLayout::parse(bytes), Err(OvmfError::Size { seen: bytes.len() }));
        }
        assert_eq!(OvmfLayout::parse(&[0; 4096]), Err(OvmfError::NoTable));
    }

    proptest! {
        #[test]
        fn plat_n28_any_change_of_a_good_image_is_an_answer_and_never_a_panic(
            changes in proptest::collection::vec((IMAGE_BYTES - 0x220..IMAGE_BYTES, any::<u8>()), 1..6)
        ) {
            let mut image = good();
            for (at, byte) in changes {
                image[at] = byte;
            }
            if let Ok(layout) = OvmfLayout::parse(&image) {
                prop_assert!(layout.sections.iter().map(|s| s.pages).sum::<usize>() <= MAX_SECTION_PAGES);
            }
        }
    }
}
