//! What rules would have to name for one boot and no other: every event, by the rule that can name it.
//!
//! The other side of [`super::account`]. It trusts nothing: that something was measured says that it ran, not that it should
//! have. What no rule can name is told as that.

use std::collections::BTreeSet;

use super::account::{is_common, kernel};
use crate::policy::event_log::JUDGED;
use formats::digest::Sha256Digest;
use formats::evidence::event_log::data::{Data, GrubRole, TAG_LOAD_OPTIONS};
use formats::evidence::event_log::{Event, EventLog, EventType};
use formats::evidence::tpm::{PcrValue, PcrValues};
use measure::measured_boot::keys::Keys;
use measure::measured_boot::{Boot, LineDigests, LineSource, SbatLevel};

/// A digest that a rule may name, and what the log calls it, which is only a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin<D = PcrValue> {
    pub digest: D,
    pub name: Option<String>,
}

/// A boot, sorted by the keys of `[event_log]`. Digests are of the bank that was quoted; none stands in a list twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    boot: Boot,
    pub kernel: Option<Pin>,
    pub initrd: Vec<Pin>,
    pub boot_programs: Vec<Pin>,
    pub files: Vec<Pin>,
    pub mok: Vec<Pin>,
    pub disk: Vec<Pin>,
    /// Texts of grub but for the command lines and the commands that hand them on.
    pub grub_commands: Vec<String>,
    /// Command lines whose text is known.
    pub lines: Vec<String>,
    /// Digests of those whose text is not, and who measured them.
    pub unread_lines: Vec<(LineSource, PcrValue)>,
    /// Sections of a unified kernel image that have no key of their own.
    pub sections: Vec<Pin>,
    /// PK, KEK, db, dbx.
    pub secure_boot_keys: Vec<Pin<Sha256Digest>>,
    pub authorities: Vec<Pin<Sha256Digest>>,
    pub sbat: Option<SbatLevel>,
    /// Registers that no rule can judge for this boot, each with the reason.
    pub unruly: Vec<(u8, String)>,
}

/// What is asked of each event.
struct Known {
    initrds: BTreeSet<PcrValue>,
    line_events: BTreeSet<usize>,
    lines: LineDigests,
}

/// What `secure_boot_keys` may name.
const KEY_VARIABLES: [&str; 4] = ["PK", "KEK", "db", "dbx"];

impl Pins {
    /// `None` where the log has no digests of the bank that was quoted.
    pub fn read(log: &EventLog, quoted: &PcrValues) -> Option<Pins> {
        let log = log.only(quoted.bank())?;
        let boot = Boot::interpret(&log, quoted.bank(), Some(quoted))?;
        Some(Pins::of(&log, boot))
    }

    fn of(log: &EventLog, boot: Boot) -> Pins {
        let kernel = kernel(&boot).map(|digest| Pin { digest, name: boot.kernel().and_then(|kernel| kernel.name) });
        let mut pins = Pins {
            kernel,
            initrd: Vec::new(),
            boot_programs: Vec::new(),
            files: Vec::new(),
            mok: Vec::new(),
            disk: Vec::new(),
            grub_commands: Vec::new(),
            lines: Vec::new(),
            unread_lines: Vec::new(),
            sections: Vec::new(),
            secure_boot_keys: Vec::new(),
            authorities: Vec::new(),
            sbat: boot.sbat_level.as_ref().filter(|level| level.bound).map(|level| level.value.clone()),
            unruly: Vec::new(),
            boot,
        };
        pins.command_lines();
        pins.images_sections();
        let known = Known {
            initrds: pins.boot.initrds().iter().map(|file| file.digest).collect(),
            line_events: pins.boot.command_lines.iter().map(|line| line.event).collect(),
            lines: pins.boot.command_lines.iter().collect(),
        };
        for pcr in JUDGED {
            let events: Vec<&Event> = log.extending(pcr).filter(|event| !is_common(event)).collect();
            let unnamed = events.into_iter().filter(|event| !pins.take(event, &known)).count();
            pins.unruly.extend(pins.why_unruly(pcr, unnamed).map(|why| (pcr, why)));
        }
        pins
    }

    pub fn boot(&self) -> &Boot {
        &self.boot
    }

    fn command_lines(&mut self) {
        for measured in &self.boot.command_lines {
            match &measured.line {
                Some(line) if !self.lines.iter().any(|known| known == line.text()) => {
                    self.lines.push(line.text().to_owned());
                }
                None if !self.unread_lines.iter().any(|(_, known)| *known == measured.digest) => {
                    self.unread_lines.push((measured.source, measured.digest));
                }
                _ => {}
            }
        }
    }

    fn images_sections(&mut self) {
        for section in &self.boot.stub.sections {
            let pin = Pin { digest: section.digest, name: Some(section.name.to_owned()) };
            match section.name {
                ".linux" | ".cmdline" => {}
                ".initrd" => drop(keep(&mut self.initrd, pin)),
                _ => self.sections.push(pin),
            }
        }
    }

    /// Whether a rule can name the event; then it stands in the list of that rule.
    fn take(&mut self, event: &Event, known: &Known) -> bool {
        let Some(digest) = event.digest(self.boot.bank()).copied() else { return false };
        let reading = event.read();
        let name = match reading.claimed() {
            Some(Data::Name(name) | Data::Text(name) | Data::Tag { name, .. }) => Some(name.clone()),
            Some(Data::Image(image)) => image.path.clone(),
            _ => None,
        };
        let pin = Pin { digest, name };
        let is_kernel = self.kernel.as_ref().is_some_and(|kernel| kernel.digest == digest);
        let is_line = known.line_events.contains(&event.number());
        match event.pcr() {
            0 | 1 | 11 => true,
            4 | 9 if is_kernel => true,
            2..=4 => keep(&mut self.boot_programs, pin),
            5 => keep(&mut self.disk, pin),
            7 => self.take_secure_boot(event),
            8 | 12 if is_line => true,
            8 => self.take_text(event, &known.lines),
            9 if is_line || matches!(reading.claimed(), Some(Data::Tag { id: TAG_LOAD_OPTIONS, .. })) => true,
            9 if known.initrds.contains(&digest) => keep(&mut self.initrd, pin),
            9 | 13 => keep(&mut self.files, pin),
            14 => keep(&mut self.mok, pin),
            _ => false,
        }
    }

    fn take_secure_boot(&mut self, event: &Event) -> bool {
        let reading = event.read();
        let Some(Data::Variable(variable)) = reading.bound() else { return false };
        let digest = formats::crypto::sha256(&[variable.data]);
        let named = |keys: Keys| (!keys.names.is_empty()).then(|| keys.names.join(", "));
        match event.kind() {
            EventType::VARIABLE_DRIVER_CONFIG if variable.name == "SecureBoot" => true,
            EventType::VARIABLE_DRIVER_CONFIG if KEY_VARIABLES.contains(&variable.name.as_str()) => {
                self.secure_boot_keys.push(Pin { digest, name: Some(variable.name.clone()) });
                // Named once is the only way in which the rule holds.
                self.secure_boot_keys.iter().filter(|pin| pin.name.as_ref() == Some(&variable.name)).count() == 1
            }
            EventType::VARIABLE_AUTHORITY if variable.name == "SbatLevel" && self.sbat.is_some() => true,
            EventType::VARIABLE_AUTHORITY => {
                keep(&mut self.authorities, Pin { digest, name: named(Keys::authority(variable.data)) })
            }
            _ => false,
        }
    }

    fn take_text(&mut self, event: &Event, lines: &LineDigests) -> bool {
        let reading = event.read();
        let Some(Data::Grub(grub)) = reading.bound() else { return false };
        let handed_on = ["linux ", "linuxefi "].iter().find_map(|command| grub.text.strip_prefix(command));
        let known = grub.role == GrubRole::Command && handed_on.is_some_and(|text| lines.have(text));
        if !known && !self.grub_commands.iter().any(|command| command == grub.text) {
            self.grub_commands.push(grub.text.to_owned());
        }
        !grub.text.is_empty()
    }

    fn why_unruly(&self, pcr: u8, unnamed: usize) -> Option<String> {
        let state = self.boot.register(pcr).map(|register| &register.state)?;
        if !state.is_confirmed() {
            return Some(match state {
                measure::measured_boot::State::Unexplained { .. } => {
                    "the event log does not explain its value".to_owned()
                }
                _ => "it was not quoted".to_owned(),
            });
        }
        if let Some(anomaly) = self.boot.anomalies.iter().find(|anomaly| anomaly.pcr() == pcr) {
            return Some(format!("its log is odd: {anomaly}"));
        }
        let unread = if pcr == 11 { self.boot.stub.unread.len() } else { 0 };
        match unnamed + unread {
            0 => None,
            count => Some(format!("no rule can name {count} of its events")),
        }
    }
}

/// Keeps it once; true, because it is named either way.
fn keep<D: PartialEq>(list: &mut Vec<Pin<D>>, pin: Pin<D>) -> bool {
    if !list.iter().any(|known| known.digest == pin.digest) {
        list.push(pin);
    }
    true
}
