//! PCR 11 and 12: what systemd-stub measures of a unified kernel image, and the phases that systemd adds while it boots.
//!
//! For each section the stub extends two digests: of the section's name with its NUL, then of its content (systemd,
//! docs/TPM2_PCR_MEASUREMENTS.md). So the names can be recomputed, and need no event data. Phases are extended by the
//! system itself and stand in no firmware's log.

use formats::evidence::event_log::Event;
use formats::evidence::tpm::{Bank, PcrValue};

/// Sections in the order in which the stub measures them; `.pcrsig` is not measured.
pub const SECTIONS: [&str; 14] = [
    ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey", ".profile",
    ".dtbauto", ".hwids", ".efifw",
];

/// Words that systemd-pcrphase extends, in the order of a boot.
pub const PHASES: [&str; 6] = ["enter-initrd", "leave-initrd", "sysinit", "ready", "shutdown", "final"];

/// A section of the image that was booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub name: &'static str,
    /// Of its content, in the bank that was read.
    pub digest: PcrValue,
    pub event: usize,
}

/// What PCR 11 says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stub {
    pub sections: Vec<Section>,
    /// Events that are no pair of name and content.
    pub unread: Vec<usize>,
}

/// Reads pairs from the first event on. Because the order is covered by the register, and a pair begins with a name, content that
/// looks like a name is not mistaken for one.
pub(super) fn sections<'a>(events: impl Iterator<Item = &'a Event>, bank: Bank) -> Stub {
    let mut stub = Stub::default();
    let mut events = events;
    while let Some(event) = events.next() {
        let name = SECTIONS.into_iter().find(|name| event.is_digest_of(&[name.as_bytes(), &[0]]));
        let content = name.and_then(|name| Some((name, events.next()?)));
        match content.and_then(|(name, content)| Some((name, *content.digest(bank)?, content.number()))) {
            Some((name, digest, event)) => stub.sections.push(Section { name, digest, event }),
            None => stub.unread.push(event.number()),
        }
    }
    stub
}

/// The phases that lead from one value of PCR 11 to another: some of systemd's, in their order. `None` where none do.
pub(super) fn phases(from: &PcrValue, to: &PcrValue) -> Option<Vec<&'static str>> {
    fn search(value: PcrValue, to: &PcrValue, rest: &[&'static str]) -> Option<Vec<&'static str>> {
        if value == *to {
            return Some(Vec::new());
        }
        // 2^6 sets of phases at most.
        (0..).zip(rest).find_map(|(at, phase)| {
            let next = value.extended(value.bank().hash(&[phase.as_bytes()]).as_bytes());
            let mut found = search(next, to, rest.get(at + 1..).unwrap_or_default())?;
            found.insert(0, phase);
            Some(found)
        })
    }
    search(*from, to, &PHASES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_found_in_their_order_and_in_no_other() {
        let start = PcrValue::filled(Bank::Sha256, 0);
        let after = |words: &[&str]| {
            words.iter().fold(start, |value, word| value.extended(Bank::Sha256.hash(&[word.as_bytes()]).as_bytes()))
        };
        for words in [&[][..], &["enter-initrd"], &["sysinit", "ready"], &PHASES] {
            assert_eq!(phases(&start, &after(words)).as_deref(), Some(words));
        }
        assert_eq!(phases(&start, &after(&["ready", "sysinit"])), None);
        assert_eq!(phases(&start, &after(&["enter-initrd", "enter-initrd"])), None);
        assert_eq!(phases(&start, &after(&["another"])), None);
    }
}
