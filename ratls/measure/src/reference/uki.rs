//! What PCR 11 and 12 hold after a unified kernel image was started: from its sections and the phases that systemd passed, and from
//! the command line that was given in place of its own.
//!
//! systemd, docs/TPM2_PCR_MEASUREMENTS.md; `systemd-measure calculate` is the second opinion in tests.

use super::authenticode::PeImage;
use crate::measured_boot::stub::SECTIONS;
use formats::evidence::tpm::{Bank, PcrValue};

/// Sections of an image with what is measured of each, in the order of measuring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unified {
    sections: Vec<(&'static str, Vec<u8>)>,
}

impl Unified {
    /// `None` for an image without `.linux`, which is none of this kind.
    pub fn of(image: &PeImage<'_>) -> Option<Unified> {
        Unified::of_sections(|name| image.section(name))
    }

    /// From the content of each section that there is.
    pub fn of_sections(content: impl Fn(&str) -> Option<Vec<u8>>) -> Option<Unified> {
        let sections: Vec<_> = SECTIONS.into_iter().filter_map(|name| Some((name, content(name)?))).collect();
        sections.iter().any(|(name, _)| *name == ".linux").then_some(Unified { sections })
    }

    pub fn sections(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.sections.iter().map(|(name, content)| (*name, &content[..]))
    }

    /// The digest that is extended for a section's content.
    pub fn digest(&self, name: &str, bank: Bank) -> Option<PcrValue> {
        let (_, content) = self.sections.iter().find(|(section, _)| *section == name)?;
        Some(bank.hash(&[content]))
    }

    /// PCR 11 from reset: name and content of each section, then each phase.
    pub fn pcr11(&self, bank: Bank, phases: &[&str]) -> PcrValue {
        let zero = PcrValue::filled(bank, 0);
        let after = self.sections.iter().fold(zero, |value, (name, content)| {
            let named = value.extended(bank.hash(&[name.as_bytes(), &[0]]).as_bytes());
            named.extended(bank.hash(&[content]).as_bytes())
        });
        phases.iter().fold(after, |value, phase| value.extended(bank.hash(&[phase.as_bytes()]).as_bytes()))
    }

    /// PCR 12 from reset, where nothing but a command line overrode the image: untouched without one. The stub measures it as
    /// firmware hands it over, in UTF-16 with its NUL (systemd, docs/TPM2_PCR_MEASUREMENTS.md).
    pub fn pcr12(bank: Bank, command_line: Option<&str>) -> PcrValue {
        let zero = PcrValue::filled(bank, 0);
        command_line.map_or(zero, |text| {
            let measured: Vec<u8> = text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
            zero.extended(bank.hash(&[&measured]).as_bytes())
        })
    }
}
