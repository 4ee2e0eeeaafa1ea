//! [`EventLog`] → [`Boot`]: each event to the fact that it states.

use super::keys::Keys;
use super::lines::{self, MAX_LINES};
use super::stub::{self, Stub};
use super::{
    Boot, File, GrubLine, Image, KeyVariable, LineSource, MeasuredLine, Register, SbatLevel, Seen, State, Technology,
};
use formats::evidence::event_log::data::{
    Data, GLOBAL, GrubRole, IMAGE_SECURITY, Reading, SHIM_LOCK, TAG_LOAD_OPTIONS, Variable,
};
use formats::evidence::event_log::{Anomaly, Comparison, Event, EventLog, EventType, Irregularity, Replay};
use formats::evidence::tpm::{Bank, PcrValues};

/// The name in front of GCE's technology byte.
const GCE_NONHOST_INFO: &[u8; 16] = b"GCE NonHostInfo\0";
const STUB_PCR: u8 = 11;
/// What the EFI stub calls an initrd that it loaded itself.
pub(super) const STUB_INITRD: &str = "Linux initrd";

pub(super) fn interpret(log: &EventLog, bank: Bank, quoted: Option<&PcrValues>) -> Option<Boot> {
    let boot = unquoted(log, bank)?;
    Some(match quoted {
        Some(quoted) => boot.compared(&Replay::of(log, bank)?, quoted),
        None => boot,
    })
}

fn unquoted(log: &EventLog, bank: Bank) -> Option<Boot> {
    if !log.banks().contains(&bank) {
        return None;
    }
    let mut boot = Boot {
        bank,
        registers: (0..24)
            .map(|pcr| Register { pcr, events: log.extending(pcr).count(), state: State::Unquoted })
            .collect(),
        anomalies: log.anomalies(),
        firmware_version: None,
        technology: None,
        secure_boot: None,
        keys: Vec::new(),
        authorities: Vec::new(),
        sbat_level: None,
        images: Vec::new(),
        disk: None,
        grub: Vec::new(),
        files: Vec::new(),
        command_lines: Vec::new(),
        stub: Stub::default(),
        mok: Vec::new(),
    };
    for event in log.events().iter().filter(|event| event.extends()) {
        boot.take(event)?;
    }
    boot.stub = stub::sections(log.extending(STUB_PCR), bank);
    let section = boot.stub.sections.iter().find(|section| section.name == ".cmdline").map(|section| MeasuredLine {
        source: LineSource::Section,
        digest: section.digest,
        pcr: STUB_PCR,
        event: section.event,
        line: None,
    });
    boot.command_lines.extend(section);
    lines::name(&mut boot.command_lines);
    if let Some(one_too_many) = boot.command_lines.get(MAX_LINES) {
        boot.anomalies.push(Anomaly::new(one_too_many.pcr, one_too_many.event, Irregularity::ManyCommandLines));
    }
    Some(boot)
}

fn compare(replay: &Replay, quoted: &PcrValues, pcr: u8) -> State {
    match replay.compare(pcr, quoted) {
        Comparison::Equal => State::Confirmed,
        Comparison::Untouched => State::Untouched,
        Comparison::NotQuoted => State::NotQuoted,
        Comparison::Different { replayed, quoted } => {
            match (pcr == STUB_PCR).then(|| stub::phases(&replayed, &quoted)).flatten() {
                Some(phases) => State::ConfirmedWithPhases(phases),
                None => State::Unexplained { replayed, quoted },
            }
        }
    }
}

impl Boot {
    /// With each register compared with its quoted value. `replay` is of the log that this was read from.
    pub(super) fn compared(mut self, replay: &Replay, quoted: &PcrValues) -> Boot {
        for register in &mut self.registers {
            register.state = compare(replay, quoted, register.pcr);
        }
        self
    }

    /// `None` only for an event without a digest of the bank, which the parser excludes.
    fn take(&mut self, event: &Event) -> Option<()> {
        let digest = *event.digest(self.bank)?;
        let reading = event.read();
        let bound = matches!(reading, Reading::Bound(_));
        let name = match reading.claimed() {
            Some(Data::Name(name) | Data::Text(name) | Data::Tag { name, .. }) => Some(name.clone()),
            _ => None,
        };
        let line = |source, line| MeasuredLine { source, digest, pcr: event.pcr(), event: event.number(), line };
        match (event.pcr(), reading.claimed()) {
            (0, Some(Data::Version(version))) if self.firmware_version.is_none() => {
                self.firmware_version = Some(seen(event, bound, version.clone()));
            }
            (0, Some(Data::NonHostInfo(info))) => self.technology = technology(info).map(|t| seen(event, bound, t)),
            (5, Some(Data::Gpt(gpt))) => self.disk = Some(seen(event, bound, gpt.clone())),
            (7, Some(Data::Variable(variable))) => self.secure_boot_variable(event, bound, variable),
            (8, Some(Data::Grub(grub))) => {
                self.grub.push(seen(event, bound, GrubLine { role: grub.role, text: grub.text.to_owned() }));
                if grub.role == GrubRole::KernelCommandLine {
                    self.command_lines.push(line(LineSource::Grub, bound.then(|| lines::read(grub.text)).flatten()));
                }
            }
            // systemd-stub before 251 measured an override here.
            (8 | 12, Some(Data::Text(text))) => {
                self.command_lines.push(line(LineSource::Override, bound.then(|| lines::read(text)).flatten()));
            }
            (9, Some(Data::Tag { id: TAG_LOAD_OPTIONS, .. })) => {
                self.command_lines.push(line(LineSource::LoadOptions, None));
            }
            (9, _) => self.files.push(File { digest, event: event.number(), pcr: 9, name }),
            (14, _) => self.mok.push(File { digest, event: event.number(), pcr: 14, name }),
            (4, image) if event.kind() == EventType::BOOT_SERVICES_APPLICATION => {
                let path = match image {
                    Some(Data::Image(image)) => image.path.clone(),
                    _ => None,
                };
                self.images.push(Image { digest, event: event.number(), path });
            }
            _ => {}
        }
        Some(())
    }

    fn secure_boot_variable(&mut self, event: &Event, bound: bool, variable: &Variable<'_>) {
        let key = |keys| seen(event, bound, KeyVariable { name: variable.name.clone(), keys });
        match (event.kind(), variable.vendor, variable.name.as_str()) {
            (EventType::VARIABLE_DRIVER_CONFIG, GLOBAL, "SecureBoot") => {
                // Twice is an anomaly; then it is not on unless both say so.
                let on = matches!(variable.data, [1]) && self.secure_boot.as_ref().is_none_or(|before| before.value);
                self.secure_boot = Some(seen(event, bound, on));
            }
            (EventType::VARIABLE_DRIVER_CONFIG, GLOBAL | IMAGE_SECURITY, _) => {
                self.keys.push(key(Keys::lists(variable.data)));
            }
            (EventType::VARIABLE_AUTHORITY, SHIM_LOCK, "SbatLevel") => {
                let text = std::str::from_utf8(variable.data).ok();
                self.sbat_level = text.and_then(SbatLevel::parse).map(|level| seen(event, bound, level));
            }
            (EventType::VARIABLE_AUTHORITY, ..) => self.authorities.push(key(Keys::authority(variable.data))),
            _ => {}
        }
    }
}

fn seen<T>(event: &Event, bound: bool, value: T) -> Seen<T> {
    Seen { value, pcr: event.pcr(), event: event.number(), bound }
}

/// `GCE NonHostInfo\0`, the technology, and 15 zeros.
fn technology(info: &[u8]) -> Option<Technology> {
    let (byte, zeros) = info.strip_prefix(GCE_NONHOST_INFO)?.split_first()?;
    (zeros == [0; 15]).then_some(match byte {
        0 => Technology::None,
        1 => Technology::Sev,
        2 => Technology::SevEs,
        3 => Technology::Tdx,
        4 => Technology::SevSnp,
        other => Technology::Unknown(*other),
    })
}
