//! Kernel command lines that were measured, and which text was measured where the log has only a digest.
//!
//! A log comes from a guest, and may have a thousand digests and as many texts. So a text is hashed once for each way in which a line is
//! measured, whatever the number of digests, and lines share the text that they are given.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::command_line::CommandLine;
use formats::evidence::tpm::{Bank, PcrValue};

/// Most lines that are read. A boot measures one to four: grub, the EFI stub, a section, an override.
pub const MAX_LINES: usize = 64;
/// Longest text that is read. Linux takes 2,048 bytes on x86 (COMMAND_LINE_SIZE); QEMU hashes whatever it is given.
pub const MAX_CMDLINE_BYTES: usize = 64 * 1024;

/// Who measured a kernel command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LineSource {
    /// grub, as it handed it on.
    Grub,
    /// The kernel's EFI stub, as it received it: a digest without a text.
    LoadOptions,
    /// The `.cmdline` section of a unified kernel image: a digest without a text.
    Section,
    /// An override of that section, from whoever started the image.
    Override,
}

/// A kernel command line that was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeasuredLine {
    pub source: LineSource,
    pub digest: PcrValue,
    pub pcr: u8,
    pub event: usize,
    /// Where the log has it, or where another line's text hashes to this digest. Always bound.
    pub line: Option<Arc<CommandLine>>,
}

impl MeasuredLine {
    /// Whether this is what was measured. A text of a loader may be given with or without the `BOOT_IMAGE=` that the kernel
    /// shows in /proc/cmdline.
    pub fn is(&self, text: &str) -> bool {
        self.source.digests(self.digest.bank(), text).any(|digest| digest == self.digest)
    }
}

impl LineSource {
    /// What may be extended for a line with this text.
    fn digests(self, bank: Bank, text: &str) -> impl Iterator<Item = PcrValue> {
        let around: &[(&str, &str)] = match self {
            LineSource::Grub => &[("", "")],
            LineSource::Section => &[("", ""), ("", "\n"), ("", "\0")],
            LineSource::LoadOptions | LineSource::Override => {
                &[("", ""), ("", "\0"), ("", " "), ("BOOT_IMAGE=", ""), ("BOOT_IMAGE=", "\0"), ("BOOT_IMAGE=", " ")]
            }
        };
        let plain = match self {
            LineSource::Grub => text.strip_prefix("BOOT_IMAGE="),
            _ => None,
        };
        let spelled = around.iter().map(move |(start, end)| format!("{start}{text}{end}"));
        spelled.chain(plain.map(str::to_owned)).map(move |text| match self {
            LineSource::Grub | LineSource::Section => bank.hash(&[text.as_bytes()]),
            LineSource::LoadOptions | LineSource::Override => bank.hash(&[&utf16(&text)]),
        })
    }

    /// The EFI stub and systemd-stub spell alike; then a text need not be hashed for each.
    fn spells_as(self) -> LineSource {
        match self {
            LineSource::Override => LineSource::LoadOptions,
            other => other,
        }
    }
}

/// Digests of measured lines, to ask of many texts whether one of them is the text.
#[derive(Debug, Default)]
pub struct LineDigests(BTreeMap<LineSource, BTreeSet<PcrValue>>);

impl LineDigests {
    pub fn insert(&mut self, measured: &MeasuredLine) {
        self.0.entry(measured.source.spells_as()).or_default().insert(measured.digest);
    }

    /// Whether a line of these has this text.
    pub fn have(&self, text: &str) -> bool {
        self.of(text).next().is_some()
    }

    /// Those that this text has.
    fn of<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (LineSource, PcrValue)> + 'a {
        let read = text.len() <= MAX_CMDLINE_BYTES;
        self.0.iter().filter(move |_| read).flat_map(move |(source, known)| {
            let bank = known.first().map(PcrValue::bank);
            let digests = bank.into_iter().flat_map(move |bank| source.digests(bank, text));
            digests.filter(|digest| known.contains(digest)).map(|digest| (*source, digest))
        })
    }
}

impl<'a> FromIterator<&'a MeasuredLine> for LineDigests {
    fn from_iter<I: IntoIterator<Item = &'a MeasuredLine>>(lines: I) -> Self {
        let mut digests = LineDigests::default();
        lines.into_iter().for_each(|line| digests.insert(line));
        digests
    }
}

/// A text of a log, where it is short enough to be read.
pub(super) fn read(text: &str) -> Option<Arc<CommandLine>> {
    (text.len() <= MAX_CMDLINE_BYTES).then(|| Arc::new(CommandLine::parse(text)))
}

/// A line that was measured as a digest alone gets the text of another that hashes to it. Of too many lines none has a text.
pub(super) fn name(lines: &mut [MeasuredLine]) {
    if lines.len() > MAX_LINES {
        lines.iter_mut().for_each(|measured| measured.line = None);
        return;
    }
    let unnamed: LineDigests = lines.iter().filter(|measured| measured.line.is_none()).collect();
    let mut named = BTreeMap::new();
    for line in lines.iter().filter_map(|measured| measured.line.as_ref()) {
        for digest in unnamed.of(line.text()) {
            named.entry(digest).or_insert_with(|| line.clone());
        }
    }
    for measured in lines.iter_mut().filter(|measured| measured.line.is_none()) {
        measured.line = named.get(&(measured.source.spells_as(), measured.digest)).cloned();
    }
}

pub(super) fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}
