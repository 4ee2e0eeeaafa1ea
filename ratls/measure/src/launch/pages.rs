//! A guest whose pages are listed one by one: no OVMF, a loader of one's own, or whatever else the hypervisor was told to insert.
//!
//! Order and addresses are in the digest, so the list fixes them. The list is
//! written in TOML and names files; this module opens none: [`PagesRecipe::files`] says which, [`PagesRecipe::measure`] takes
//! their bytes.
//!
//! ```toml
//! version = 1
//!
//! [[page]]
//! type = "normal"
//! gpa = 0x100000
//! file = "vmlinux.bin"
//! fill = "zeros"          # the last page is filled up; without it the bytes must be whole pages
//! covers = "kernel"
//!
//! [[page]]
//! type = "cpuid"
//! gpa = 0x9000
//!
//! [[page]]
//! type = "vmsa"
//! gpa = 0xfffffffff000
//! file = "vmsa.bin"
//! ```

use serde::Deserialize;

use super::chain::{PAGE_BYTES, PAGE_STEP, Page, PageChain};
use super::cover::{Coverage, Covered, Known, LaunchLink, NotCovered};
use formats::crypto::sha256;
use formats::digest::Sha256Digest;
use formats::evidence::snp::Measurement;

/// Largest list as text.
pub const MAX_RECIPE_BYTES: usize = 1 << 20;
/// Entries of one list.
const MAX_ENTRIES: usize = 4096;
/// All pages together: 4 GiB, more than any guest is launched with.
const MAX_PAGES: u64 = 1 << 20;
/// Guest-physical addresses have at most 52 bits (AMD APM volume 2, 5.1).
const GPA_END: u64 = 1 << 52;

/// A list of pages that was read, its files not yet.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PagesRecipe {
    version: u32,
    page: Vec<Entry>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(rename = "type")]
    kind: Kind,
    gpa: u64,
    file: Option<String>,
    bytes: Option<String>,
    offset: Option<u64>,
    length: Option<u64>,
    fill: Option<Fill>,
    count: Option<u64>,
    covers: Option<PagePart>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Normal,
    Vmsa,
    Zero,
    Unmeasured,
    Secrets,
    Cpuid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Fill {
    Zeros,
}

/// The component that an entry's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PagePart {
    Firmware,
    Kernel,
    Initrd,
    Cmdline,
}

/// Why a list of pages cannot be measured. Entries are counted from 1, as a person does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PagesError {
    #[error("the list has {seen} bytes, at most {MAX_RECIPE_BYTES}")]
    TooLong { seen: usize },
    #[error("the list of pages cannot be read: {0}")]
    Syntax(String),
    #[error("version {0} of the list is not known; known is 1")]
    Version(u32),
    #[error("{0} entries; wanted 1 to {MAX_ENTRIES}")]
    Entries(usize),
    #[error("page {entry}: {problem}")]
    Entry { entry: usize, problem: &'static str },
    #[error("page {entry}: the bytes of {file} are not here")]
    FileMissing { entry: usize, file: String },
    #[error("page {entry}: {file} has {seen} bytes, the entry wants those from {offset} to {end}")]
    FileTooShort { entry: usize, file: String, seen: usize, offset: u64, end: u64 },
    #[error("the list has more than {MAX_PAGES} pages")]
    TooManyPages,
    #[error("no page is of the type vmsa: a guest without a vCPU cannot be launched")]
    NoVmsa,
}

/// What a list of pages comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PagesLaunch {
    digest: Measurement,
    coverage: Coverage,
    vcpus: u32,
    files: Vec<PageFile>,
}

/// What pages were made of, and which component it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageFile {
    pub part: PagePart,
    pub name: String,
    /// Of the whole file; of the page, where its bytes stand in the list.
    pub sha256: Sha256Digest,
}

impl PagesLaunch {
    pub fn digest(&self) -> Measurement {
        self.digest
    }
    /// A component without an entry of its own is not covered, whatever the guest does with unmeasured memory.
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }
    /// The files that cover a component.
    pub fn files(&self) -> &[PageFile] {
        &self.files
    }
    pub fn vcpus(&self) -> u32 {
        self.vcpus
    }
}

impl PagesRecipe {
    pub fn parse(text: &str) -> Result<PagesRecipe, PagesError> {
        if text.len() > MAX_RECIPE_BYTES {
            return Err(PagesError::TooLong { seen: text.len() });
        }
        let recipe: PagesRecipe = toml::from_str(text).map_err(|e| PagesError::Syntax(e.to_string()))?;
        if recipe.version != 1 {
            return Err(PagesError::Version(recipe.version));
        }
        if recipe.page.is_empty() || recipe.page.len() > MAX_ENTRIES {
            return Err(PagesError::Entries(recipe.page.len()));
        }
        for (entry, number) in recipe.page.iter().zip(1..) {
            entry.check().map_err(|problem| PagesError::Entry { entry: number, problem })?;
        }
        if !recipe.page.iter().any(|e| e.kind == Kind::Vmsa) {
            return Err(PagesError::NoVmsa);
        }
        Ok(recipe)
    }

    /// The files that the list names, each once, in the order of their first use.
    pub fn files(&self) -> Vec<&str> {
        let mut files: Vec<&str> = Vec::new();
        for file in self.page.iter().filter_map(|e| e.file.as_deref()) {
            if !files.contains(&file) {
                files.push(file);
            }
        }
        files
    }

    /// The digest of the list with these files.
    pub fn measure<'f>(&self, bytes_of: impl Fn(&str) -> Option<&'f [u8]>) -> Result<PagesLaunch, PagesError> {
        let mut launch = PagesBuilder::new();
        for (entry, number) in self.page.iter().zip(1..) {
            entry.add(&mut launch, number, &bytes_of)?;
        }
        launch.finish()
    }
}

impl Entry {
    fn check(&self) -> Result<(), &'static str> {
        let has_bytes = matches!(self.kind, Kind::Normal | Kind::Vmsa);
        match (has_bytes, &self.file, &self.bytes) {
            (true, Some(_), None) | (true, None, Some(_)) | (false, None, None) => {}
            (true, ..) => return Err("give its bytes as file = \"…\" or as bytes = \"hex\", one of them"),
            (false, ..) => return Err("the contents of this type are not measured: leave file and bytes away"),
        }
        if self.file.is_none() && (self.offset.is_some() || self.length.is_some()) {
            return Err("offset and length are those of a file");
        }
        if self.kind != Kind::Normal && (self.fill.is_some() || self.covers.is_some()) {
            return Err("fill and covers belong to normal pages");
        }
        if self.kind == Kind::Normal && self.count.is_some() {
            return Err("normal pages are as many as their bytes: leave count away");
        }
        if self.count == Some(0) {
            return Err("count is at least 1");
        }
        if !self.gpa.is_multiple_of(PAGE_STEP) || self.gpa >= GPA_END {
            return Err("gpa must be a multiple of 4096 below 2^52");
        }
        Ok(())
    }

    fn add<'f>(
        &self,
        launch: &mut PagesBuilder,
        number: usize,
        bytes_of: &impl Fn(&str) -> Option<&'f [u8]>,
    ) -> Result<(), PagesError> {
        let refuse = |problem| PagesError::Entry { entry: number, problem };
        let count = self.count.unwrap_or(1);
        let unread = match self.kind {
            Kind::Zero => Page::Zero,
            Kind::Unmeasured => Page::Unmeasured,
            Kind::Secrets => Page::Secrets,
            Kind::Cpuid => Page::Cpuid,
            Kind::Normal | Kind::Vmsa => {
                let bytes = self.bytes(number, bytes_of)?;
                return match self.kind {
                    Kind::Vmsa => {
                        let area = bytes.as_slice().try_into().map_err(|_| refuse("a save area has 4096 bytes"))?;
                        launch.vmsas(self.gpa, area, count)
                    }
                    _ => {
                        match (self.covers, &self.file) {
                            (Some(part), Some(name)) => launch.file(part, name, bytes_of(name).unwrap_or_default()),
                            (Some(part), None) => launch.file(part, &format!("bytes of page {number}"), &bytes),
                            (None, _) => {}
                        }
                        launch.normal(self.gpa, &bytes, self.covers).map_err(|e| e.unwrap_or(refuse(WHOLE_PAGES)))
                    }
                };
            }
        };
        launch.unread(self.gpa, unread, count)
    }

    fn bytes<'f>(&self, number: usize, bytes_of: &impl Fn(&str) -> Option<&'f [u8]>) -> Result<Vec<u8>, PagesError> {
        let refuse = |problem| PagesError::Entry { entry: number, problem };
        let mut bytes = match &self.file {
            None => hex::decode(self.bytes.as_deref().unwrap_or_default())
                .map_err(|_| refuse("bytes must be hex, two digits for each byte"))?,
            Some(file) => {
                let all =
                    bytes_of(file).ok_or_else(|| PagesError::FileMissing { entry: number, file: file.clone() })?;
                let offset = self.offset.unwrap_or(0);
                let end = match self.length {
                    None => u64::try_from(all.len()).unwrap_or(u64::MAX),
                    Some(length) => offset.saturating_add(length),
                };
                let range = usize::try_from(offset).ok().zip(usize::try_from(end).ok());
                let part = range.and_then(|(start, end)| all.get(start..end));
                part.ok_or_else(|| PagesError::FileTooShort {
                    entry: number,
                    file: file.clone(),
                    seen: all.len(),
                    offset,
                    end,
                })?
                .to_vec()
            }
        };
        if bytes.is_empty() {
            return Err(refuse("it has no bytes"));
        }
        if self.fill == Some(Fill::Zeros) {
            bytes.resize(bytes.len().next_multiple_of(PAGE_BYTES), 0);
        }
        Ok(bytes)
    }
}

const WHOLE_PAGES: &str = "its bytes are no whole pages of 4096; fill = \"zeros\" fills the last one up";

/// Pages in order, for every front end that has a list of them.
pub(super) struct PagesBuilder {
    chain: PageChain,
    coverage: Coverage,
    pages: u64,
    vcpus: u32,
    files: Vec<PageFile>,
}

impl PagesBuilder {
    pub(super) fn new() -> PagesBuilder {
        let none = Err(NotCovered::NotInRecipe);
        let coverage = Coverage { firmware: none, kernel: none, initrd: none, cmdline: none };
        PagesBuilder { chain: PageChain::new(), coverage, pages: 0, vcpus: 0, files: Vec::new() }
    }

    pub(super) fn normal(&mut self, gpa: u64, bytes: &[u8], part: Option<PagePart>) -> Result<(), Option<PagesError>> {
        let pages = u64::try_from(bytes.len().div_ceil(PAGE_BYTES)).unwrap_or(u64::MAX);
        self.room(gpa, pages).map_err(Some)?;
        self.chain.add_normal(gpa, bytes).map_err(|_| None)?;
        let slot = match part {
            None => return Ok(()),
            Some(PagePart::Firmware) => &mut self.coverage.firmware,
            Some(PagePart::Kernel) => &mut self.coverage.kernel,
            Some(PagePart::Initrd) => &mut self.coverage.initrd,
            Some(PagePart::Cmdline) => &mut self.coverage.cmdline,
        };
        *slot = Ok(Covered { link: LaunchLink::Direct, known: Known::Bytes });
        Ok(())
    }

    pub(super) fn file(&mut self, part: PagePart, name: &str, bytes: &[u8]) {
        if !self.files.iter().any(|file| file.part == part && file.name == name) {
            self.files.push(PageFile { part, name: name.to_owned(), sha256: sha256(&[bytes]) });
        }
    }

    pub(super) fn vmsas(&mut self, gpa: u64, area: &[u8; PAGE_BYTES], count: u64) -> Result<(), PagesError> {
        // Every vCPU has its save area at the same address.
        self.room(gpa, count)?;
        for _ in 0..count {
            self.chain.add(gpa, Page::Vmsa(area));
            self.vcpus = self.vcpus.saturating_add(1);
        }
        Ok(())
    }

    pub(super) fn unread(&mut self, gpa: u64, page: Page<'_>, count: u64) -> Result<(), PagesError> {
        self.room(gpa, count)?;
        self.chain.repeat(gpa, usize::try_from(count).map_err(|_| PagesError::TooManyPages)?, page);
        Ok(())
    }

    fn room(&mut self, gpa: u64, pages: u64) -> Result<(), PagesError> {
        let total = self.pages.checked_add(pages).filter(|n| *n <= MAX_PAGES);
        self.pages = total.ok_or(PagesError::TooManyPages)?;
        // At most 2^20 pages from below 2^52: no overflow.
        if gpa.checked_add(pages * PAGE_STEP).is_none() { Err(PagesError::TooManyPages) } else { Ok(()) }
    }

    pub(super) fn finish(self) -> Result<PagesLaunch, PagesError> {
        if self.vcpus == 0 {
            return Err(PagesError::NoVmsa);
        }
        let PagesBuilder { chain, coverage, vcpus, files, .. } = self;
        Ok(PagesLaunch { digest: chain.digest(), coverage, vcpus, files })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
version = 1
[[page]]
type = "normal"
gpa = 0x100000
file = "kernel"
fill = "zeros"
covers = "kernel"
[[page]]
type = "zero"
gpa = 0x1000
count = 2
[[page]]
type = "secrets"
gpa = 0x8000
[[page]]
type = "cpuid"
gpa = 0x9000
[[page]]
type = "vmsa"
gpa = 0xfffffffff000
file = "vmsa"
count = 2
"#;

    fn measure(text: &str) -> Result<PagesLaunch, PagesError> {
        let vmsa = [7; PAGE_BYTES];
        PagesRecipe::parse(text)?.measure(|name| match name {
            "kernel" => Some(b"a kernel"),
            "vmsa" => Some(vmsa.to_vec().leak()),
            _ => None,
        })
    }

    #[test]
    fn a_list_is_the_chain_of_its_pages() {
        let launch = measure(GOOD).unwrap();
        let mut page = [0; PAGE_BYTES];
        page[..8].copy_from_slice(b"a kernel");
        let mut chain = PageChain::new();
        for (gpa, page) in [
            (0x10_0000, Page::Normal(&page)),
            (0x1000, Page::Zero),
            (0x2000, Page::Zero),
            (0x8000, Page::Secrets),
            (0x9000, Page::Cpuid),
            (0xFFFF_FFFF_F000, Page::Vmsa(&[7; PAGE_BYTES])),
            (0xFFFF_FFFF_F000, Page::Vmsa(&[7; PAGE_BYTES])),
        ] {
            chain.add(gpa, page);
        }
        assert_eq!(launch.digest(), chain.digest());
        assert_eq!(launch.vcpus(), 2);
        let covered = Covered { link: LaunchLink::Direct, known: Known::Bytes };
        assert_eq!(launch.coverage().kernel, Ok(covered));
        assert_eq!(launch.coverage().initrd, Err(NotCovered::NotInRecipe));
        assert_eq!(PagesRecipe::parse(GOOD).unwrap().files(), ["kernel", "vmsa"]);
    }

    #[test]
    fn refuses_lists_that_mean_nothing_or_two_things() {
        for (from, to, says) in [
            ("version = 1", "version = 2", "version 2"),
            ("fill = \"zeros\"", "", "whole pages"),
            ("fill = \"zeros\"", "fill = \"ones\"", "unknown variant"),
            ("gpa = 0x100000", "gpa = 0x100001", "multiple of 4096"),
            ("gpa = 0x100000", "gpa = 0x10000000000000", "below 2^52"),
            ("gpa = 0x100000", "gpa = -4096", "cannot be read"),
            ("file = \"kernel\"", "file = \"other\"", "other are not here"),
            ("file = \"kernel\"", "file = \"kernel\"\nlength = 9", "has 8 bytes"),
            ("file = \"kernel\"", "file = \"kernel\"\noffset = 8", "no bytes"),
            ("file = \"kernel\"", "file = \"kernel\"\nbytes = \"00\"", "one of them"),
            ("file = \"kernel\"", "bytes = \"0\"", "two digits"),
            ("file = \"kernel\"", "", "one of them"),
            ("file = \"vmsa\"", "file = \"kernel\"", "4096 bytes"),
            ("type = \"secrets\"", "type = \"secrets\"\nfile = \"kernel\"", "not measured"),
            ("type = \"secrets\"", "type = \"secrets\"\ncovers = \"kernel\"", "normal pages"),
            ("count = 2\n[[page]]\ntype = \"secrets\"", "count = 0\n[[page]]\ntype = \"secrets\"", "at least 1"),
            ("count = 2\n[[page]]", "count = 1048577\n[[page]]", "more than"),
            ("type = \"vmsa\"", "type = \"normal\"\n#", "leave count away"),
            ("covers = \"kernel\"", "cover = \"kernel\"", "unknown field"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "{from}");
            let error = measure(&text).unwrap_err().to_string();
            assert!(error.contains(says), "{to}: {error}");
        }
        let without = GOOD.split("[[page]]\ntype = \"vmsa\"").next().unwrap();
        assert_eq!(measure(without).unwrap_err(), PagesError::NoVmsa);
    }
}
