//! The hash of a PE image as Secure Boot signs it and as firmware measures it, and the sections of a unified kernel image.
//!
//! "Windows Authenticode Portable Executable Signature Format", 2008: everything but the checksum, the entry for the certificate
//! table, and the table itself; sections in the order in which they lie in the file. EDK2 (DxeImageVerificationLib,
//! PeImageHash) computes PCR 4's digests so. What it would load but not hash (sections that overlap, or lie in the headers) is
//! refused here.

use formats::bytes::{ReadError, Reader};
use formats::evidence::tpm::{Bank, PcrValue};

/// Most sections of an image (PE format, "COFF File Header": the Windows loader's limit).
const MAX_SECTIONS: usize = 96;
/// Most zeros that make a section whole. Sections are filled to the next page or so (PE format, "SectionAlignment"); a number that
/// a hostile header names must not become memory.
const MAX_ZEROS: usize = 16 << 20;
/// Where the directory entry of the certificate table stands among the data directories.
const CERTIFICATE_TABLE: u32 = 4;

/// A PE image whose structure was checked.
#[derive(Clone, Debug)]
pub struct PeImage<'a> {
    file: &'a [u8],
    checksum: usize,
    /// Of the certificate table's directory entry; `None` in an image without room for one.
    certificate_entry: Option<usize>,
    headers: usize,
    certificates: usize,
    sections: Vec<Section<'a>>,
}

#[derive(Clone, Copy, Debug)]
struct Section<'a> {
    name: [u8; 8],
    virtual_size: usize,
    start: usize,
    raw: &'a [u8],
}

/// Why a file is not a PE image that firmware would start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeError {
    #[error("the file is no PE image: {0}")]
    Format(&'static str),
    #[error("the PE image ends early")]
    Truncated(#[from] ReadError),
}

impl<'a> PeImage<'a> {
    pub fn parse(file: &'a [u8]) -> Result<PeImage<'a>, PeError> {
        let mut reader = Reader::new(file);
        if reader.take(2)? != b"MZ" {
            return Err(PeError::Format("it does not begin with MZ"));
        }
        reader.take(0x3A)?;
        let pe = size(reader.u32_le()?);
        let mut reader = at(file, pe)?;
        if reader.take(4)? != b"PE\0\0" {
            return Err(PeError::Format("there is no PE signature where the header points"));
        }
        let _machine = reader.u16_le()?;
        let count = usize::from(reader.u16_le()?);
        reader.take(12)?;
        let optional_size = usize::from(reader.u16_le()?);
        reader.take(2)?;
        let optional = pe + 24;
        let mut fields = Reader::new(reader.take(optional_size)?);
        let directories = match fields.u16_le()? {
            0x010B => 92,
            0x020B => 108,
            _ => return Err(PeError::Format("the optional header is neither PE32 nor PE32+")),
        };
        fields.take(58)?;
        let headers = size(fields.u32_le()?);
        let _checksum = fields.u32_le()?;
        let mut fields = Reader::new(file.get(optional..optional + optional_size).unwrap_or_default());
        fields.take(directories)?;
        let number = fields.u32_le()?;
        let (mut certificate_entry, mut certificates) = (None, 0);
        if number > CERTIFICATE_TABLE {
            fields.take(32)?;
            certificate_entry = Some(optional + directories + 36);
            let (start, length) = (size(fields.u32_le()?), size(fields.u32_le()?));
            // The table is the end of the file, or there is none.
            if length > 0 && start.checked_add(length) != Some(file.len()) {
                return Err(PeError::Format("the certificate table is not the end of the file"));
            }
            certificates = length;
        }
        if count > MAX_SECTIONS {
            return Err(PeError::Format("there are more than 96 sections"));
        }
        let mut sections = Vec::with_capacity(count);
        for _ in 0..count {
            sections.extend(section(file, &mut reader)?);
        }
        if headers > file.len() || headers < reader.offset().saturating_add(pe) {
            return Err(PeError::Format("the headers are not of the size that they say"));
        }
        sections.sort_by_key(|section| section.start);
        let mut end = headers;
        for section in sections.iter().filter(|section| !section.raw.is_empty()) {
            if section.start < end {
                return Err(PeError::Format("sections overlap"));
            }
            end = section.start + section.raw.len();
        }
        if end > file.len() - certificates {
            return Err(PeError::Format("a section reaches into the certificate table"));
        }
        Ok(PeImage { file, checksum: optional + 64, certificate_entry, headers, certificates, sections })
    }

    /// The Authenticode hash.
    pub fn digest(&self, bank: Bank) -> PcrValue {
        let range = |from: usize, to: usize| self.file.get(from..to).unwrap_or_default();
        let mut parts = vec![range(0, self.checksum)];
        match self.certificate_entry {
            Some(entry) => {
                parts.extend([range(self.checksum + 4, entry), range(entry + 8, self.headers)]);
            }
            None => parts.push(range(self.checksum + 4, self.headers)),
        }
        let mut hashed = self.headers;
        for section in &self.sections {
            parts.push(section.raw);
            hashed += section.raw.len();
        }
        // What lies behind as many bytes as were hashed: so the rule counts, gaps or not.
        parts.push(range(hashed, self.file.len() - self.certificates));
        bank.hash(&parts)
    }

    /// The content of a section as it lies in memory, which is what systemd-stub measures: as long as its virtual size, zeros where
    /// the file has less. `None` where there is none or more than one of the name.
    pub fn section(&self, name: &str) -> Option<Vec<u8>> {
        let mut found = self.sections.iter().filter(|section| {
            let end = section.name.iter().position(|byte| *byte == 0).unwrap_or(section.name.len());
            section.name.get(..end) == Some(name.as_bytes())
        });
        let section =
            found.next().filter(|section| section.virtual_size.saturating_sub(section.raw.len()) <= MAX_ZEROS)?;
        if found.next().is_some() {
            return None;
        }
        let mut content = section.raw.to_vec();
        content.resize(section.virtual_size, 0);
        Some(content)
    }
}

/// A section header of 40 bytes; `None` for a section without any content.
fn section<'a>(file: &'a [u8], reader: &mut Reader<'_>) -> Result<Option<Section<'a>>, PeError> {
    let name = reader.array()?;
    let (virtual_size, _address) = (size(reader.u32_le()?), reader.u32_le()?);
    let (length, start) = (size(reader.u32_le()?), size(reader.u32_le()?));
    reader.take(16)?;
    let raw = start.checked_add(length).and_then(|end| file.get(start..end));
    match raw {
        _ if length == 0 && virtual_size == 0 => Ok(None),
        _ if length == 0 => Ok(Some(Section { name, virtual_size, start: 0, raw: &[] })),
        Some(raw) => Ok(Some(Section { name, virtual_size, start, raw })),
        None => Err(PeError::Format("a section lies outside of the file")),
    }
}

fn size(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn at(file: &[u8], offset: usize) -> Result<Reader<'_>, PeError> {
    let rest = file.get(offset..).ok_or(PeError::Format("the header points outside of the file"))?;
    Ok(Reader::new(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PE32+ image of headers (512 bytes) and two sections, and whatever is put behind.
    pub(super) fn image(sections: &[(&str, usize, &[u8])], behind: &[u8], certificates: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 512];
        file[..2].copy_from_slice(b"MZ");
        file[0x3C] = 0x40;
        file[0x40..0x44].copy_from_slice(b"PE\0\0");
        file[0x46] = u8::try_from(sections.len()).unwrap();
        file[0x54..0x56].copy_from_slice(&240u16.to_le_bytes());
        let optional = 0x58;
        file[optional..optional + 2].copy_from_slice(&0x020Bu16.to_le_bytes());
        file[optional + 60..optional + 64].copy_from_slice(&512u32.to_le_bytes());
        file[optional + 108..optional + 112].copy_from_slice(&16u32.to_le_bytes());
        for (place, (name, virtual_size, raw)) in sections.iter().enumerate() {
            let at = optional + 240 + 40 * place;
            let start = u32::try_from(file.len()).unwrap();
            file[at..at + name.len()].copy_from_slice(name.as_bytes());
            file[at + 8..at + 12].copy_from_slice(&u32::try_from(*virtual_size).unwrap().to_le_bytes());
            file[at + 16..at + 20].copy_from_slice(&u32::try_from(raw.len()).unwrap().to_le_bytes());
            file[at + 20..at + 24].copy_from_slice(&start.to_le_bytes());
            file.extend(*raw);
        }
        file.extend(behind);
        if !certificates.is_empty() {
            let entry = optional + 112 + 32;
            let (start, length) = (u32::try_from(file.len()).unwrap(), u32::try_from(certificates.len()).unwrap());
            file[entry..entry + 4].copy_from_slice(&start.to_le_bytes());
            file[entry + 4..entry + 8].copy_from_slice(&length.to_le_bytes());
            file.extend(certificates);
        }
        file
    }

    fn digest(file: &[u8]) -> PcrValue {
        PeImage::parse(file).unwrap().digest(Bank::Sha256)
    }

    #[test]
    fn signature_and_checksum_do_not_count_and_everything_else_does() {
        let unsigned = image(&[(".text", 4, b"code"), (".data", 9, b"data")], b"behind", b"");
        let mut file = image(&[(".text", 4, b"code"), (".data", 9, b"data")], b"behind", b"signature");
        assert_eq!(digest(&file), digest(&unsigned));
        let checksum = 0x58 + 64;
        file[checksum..checksum + 4].fill(0xAA);
        assert_eq!(digest(&file), digest(&unsigned));
        let end = file.len() - b"signature".len();
        let entry = 0x58 + 112 + 32;
        let structural = |at: usize| {
            let optional = [0x58, 0x59, 0x58 + 108, 0x58 + 109, 0x58 + 110, 0x58 + 111];
            at < 2 || (0x3C..0x44).contains(&at) || optional.contains(&at)
        };
        for at in (0..end)
            .filter(|at| !structural(*at) && !(checksum..checksum + 4).contains(at) && !(entry..entry + 8).contains(at))
        {
            let mut changed = file.clone();
            changed[at] ^= 1;
            if let Ok(image) = PeImage::parse(&changed) {
                assert_ne!(image.digest(Bank::Sha256), digest(&file), "byte {at}");
            }
        }
    }

    #[test]
    fn a_section_is_as_long_as_in_memory() {
        let file = image(&[(".cmdline", 6, b"ro\n"), (".linux", 2, b"kernel")], b"", b"");
        let parsed = PeImage::parse(&file).unwrap();
        assert_eq!(parsed.section(".cmdline").unwrap(), b"ro\n\0\0\0");
        assert_eq!(parsed.section(".linux").unwrap(), b"ke");
        assert_eq!(parsed.section(".osrel"), None);
        let huge = image(&[(".linux", MAX_ZEROS + 2, b"a"), (".initrd", MAX_ZEROS + 1, b"b")], b"", b"");
        let huge = PeImage::parse(&huge).unwrap();
        assert_eq!(huge.section(".linux"), None);
        assert_eq!(huge.section(".initrd").map(|content| content.len()), Some(MAX_ZEROS + 1));
        let twice = image(&[(".linux", 1, b"a"), (".linux", 1, b"b")], b"", b"");
        assert_eq!(PeImage::parse(&twice).unwrap().section(".linux"), None);
    }

    #[test]
    fn what_firmware_might_load_otherwise_than_it_is_hashed_is_refused() {
        let good = image(&[(".text", 4, b"code"), (".data", 4, b"data")], b"", b"sig");
        for end in 0..good.len() {
            assert!(PeImage::parse(&good[..end]).is_err(), "{end}");
        }
        let start = 0x58 + 240 + 40 + 20;
        let mut overlap = good.clone();
        overlap[start..start + 4].copy_from_slice(&513u32.to_le_bytes());
        assert_eq!(PeImage::parse(&overlap).unwrap_err(), PeError::Format("sections overlap"));
        let mut early = good.clone();
        early[start..start + 4].copy_from_slice(&100u32.to_le_bytes());
        assert_eq!(PeImage::parse(&early).unwrap_err(), PeError::Format("sections overlap"));
        let mut more = good.clone();
        more.push(0);
        assert_eq!(
            PeImage::parse(&more).unwrap_err(),
            PeError::Format("the certificate table is not the end of the file")
        );
    }
}
