//! What a log of a well-behaved firmware looks like, register by register (PFP 1.05, sections 3.3 and 10.4).
//!
//! Each departure is an [`Anomaly`]: it names the register that loses its meaning by it. Order between registers is not covered by
//! any register, so a rule here speaks of the order within one. What follows from an anomaly is for the appraisal to say.

use std::fmt;

use super::EventLog;
use super::data::{Data, GLOBAL, Variable};
use super::event::{Event, EventType};
use super::replay::STARTUP_LOCALITY;

/// PCRs that the firmware fills, and that end with a separator.
const FIRMWARE_PCRS: std::ops::RangeInclusive<u8> = 0..=7;
/// Most anomalies that are told; a log that is all wrong need not be described in full.
const MAX_ANOMALIES: usize = 64;

const CALLING: &str = "Calling EFI Application from Boot Option";
const DEBUG_MODE: &str = "UEFI Debug Mode";

/// Something in the log that a well-behaved firmware does not write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    pcr: u8,
    event: Option<usize>,
    what: Irregularity,
}

/// The kind of departure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Irregularity {
    NoSeparator,
    SecondSeparator,
    /// Measures what a separator measures, or says that it is one, but not both.
    FalseSeparator,
    ErrorSeparator(u32),
    AfterSeparator,
    FirmwareElsewhere,
    ConfigurationAfterSeparator,
    AuthorityBeforeSeparator,
    NotOfSecureBoot,
    NoSecureBootVariable,
    SecondSecureBootVariable,
    SecureBootValue,
    NoAuthority,
    DebugMode,
    ApplicationBeforeCall,
    UnknownType(u32),
    Locality,
    /// More than are read.
    ManyCommandLines,
}

impl Anomaly {
    pub fn new(pcr: u8, event: usize, what: Irregularity) -> Anomaly {
        Anomaly { pcr, event: Some(event), what }
    }
    /// The register whose meaning is in doubt.
    pub fn pcr(&self) -> u8 {
        self.pcr
    }
    /// Where in the log; `None` for something that is missing.
    pub fn event(&self) -> Option<usize> {
        self.event
    }
    pub fn what(&self) -> Irregularity {
        self.what
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.event {
            Some(number) => write!(f, "PCR {}, event {number}: {}", self.pcr, self.what),
            None => write!(f, "PCR {}: {}", self.pcr, self.what),
        }
    }
}

impl fmt::Display for Irregularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Irregularity as I;
        match self {
            I::NoSeparator => f.write_str("no separator ends the firmware's part"),
            I::SecondSeparator => f.write_str("a second separator"),
            I::FalseSeparator => f.write_str("type and digest disagree on whether this is a separator"),
            I::ErrorSeparator(value) => write!(f, "the separator reports an error of the firmware: 0x{value:08x}"),
            I::AfterSeparator => f.write_str("something of the firmware after the separator"),
            I::FirmwareElsewhere => f.write_str("a measurement of firmware outside of PCR 0"),
            I::ConfigurationAfterSeparator => f.write_str("Secure Boot was configured after the separator"),
            I::AuthorityBeforeSeparator => f.write_str("an authority before the separator"),
            I::NotOfSecureBoot => f.write_str("an event that has no place in the Secure Boot register"),
            I::NoSecureBootVariable => f.write_str("the state of Secure Boot was not measured"),
            I::SecondSecureBootVariable => f.write_str("the state of Secure Boot was measured twice"),
            I::SecureBootValue => f.write_str("the state of Secure Boot is not one byte, 0 or 1"),
            I::NoAuthority => f.write_str("Secure Boot is on, but no authority vouched for anything"),
            I::DebugMode => f.write_str("the firmware is in UEFI debug mode"),
            I::ApplicationBeforeCall => write!(f, "an application before {CALLING:?}"),
            I::UnknownType(kind) => write!(f, "an event of the unknown type 0x{kind:08x}"),
            I::Locality => {
                f.write_str("StartupLocality is not one event before all others of PCR 0 that says 0, 3 or 4")
            }
            I::ManyCommandLines => {
                f.write_str("more kernel command lines than any boot measures; none of them is read")
            }
        }
    }
}

impl EventLog {
    /// Everything about the log that a well-behaved firmware does not do, in the order of registers; at most 64 findings.
    pub fn anomalies(&self) -> Vec<Anomaly> {
        let mut found = Found::default();
        locality(self, &mut found);
        for pcr in FIRMWARE_PCRS {
            separators(self, pcr, &mut found);
            for event in self.extending(pcr) {
                if event.kind().name().is_none() {
                    found.at(event, Irregularity::UnknownType(event.kind().0));
                }
                if pcr != 0 && is_firmware(event.kind()) {
                    found.at(event, Irregularity::FirmwareElsewhere);
                }
                if event.is_digest_of(&[DEBUG_MODE.as_bytes()]) {
                    found.at(event, Irregularity::DebugMode);
                }
            }
        }
        applications(self, &mut found);
        secure_boot(self, &mut found);
        found.0.sort_by_key(|anomaly| (anomaly.pcr, anomaly.event));
        found.0
    }
}

#[derive(Default)]
struct Found(Vec<Anomaly>);

impl Found {
    fn at(&mut self, event: &Event, what: Irregularity) {
        self.push(event.pcr(), Some(event.number()), what);
    }
    fn push(&mut self, pcr: u8, event: Option<usize>, what: Irregularity) {
        if self.0.len() < MAX_ANOMALIES {
            self.0.push(Anomaly { pcr, event, what });
        }
    }
}

/// What a firmware measures of itself; a PEI or DXE volume arrives as a blob.
fn is_firmware(kind: EventType) -> bool {
    matches!(
        kind,
        EventType::S_CRTM_CONTENTS
            | EventType::S_CRTM_VERSION
            | EventType::POST_CODE
            | EventType::PLATFORM_FIRMWARE_BLOB
            | EventType::HCRTM_EVENT
    )
}

/// N42: PCR 0 may begin with a locality, if the log says so once, first, and with a locality that exists.
fn locality(log: &EventLog, found: &mut Found) {
    let mut claims = log.events().iter().filter(|e| !e.extends() && e.data().starts_with(STARTUP_LOCALITY));
    if let Some(last) = claims.next_back()
        && super::replay::startup_locality(log).is_none()
    {
        found.push(0, Some(last.number()), Irregularity::Locality);
    }
}

/// One separator per register, of four zero bytes, bound to its digest; after PCR 0's nothing else. The profile allows 0xFFFFFFFF
/// for a normal boot as well; no firmware of a guest writes it, so it is taken for the error class.
fn separators(log: &EventLog, pcr: u8, found: &mut Found) {
    let mut seen = false;
    for event in log.extending(pcr) {
        let normal = event.is_digest_of(&[&[0; 4]]);
        let claimed = event.kind() == EventType::SEPARATOR;
        match (claimed, normal) {
            (false, false) if seen && pcr == 0 => found.at(event, Irregularity::AfterSeparator),
            (false, false) => {}
            (true, _) | (_, true) if seen => found.at(event, Irregularity::SecondSeparator),
            (true, _) => {
                seen = true;
                match event.read().bound() {
                    Some(Data::Separator(0)) => {}
                    Some(Data::Separator(value)) => found.at(event, Irregularity::ErrorSeparator(*value)),
                    _ => found.at(event, Irregularity::FalseSeparator),
                }
            }
            (false, true) => {
                seen = true;
                found.at(event, Irregularity::FalseSeparator);
            }
        }
    }
    if !seen {
        found.push(pcr, None, Irregularity::NoSeparator);
    }
}

/// Applications in PCR 4 follow the call. OVMF starts a kernel that QEMU hands it before it comes to boot options: then that
/// one is in front of the call, and what it starts itself (the kernel inside a unified image, or behind a shim) follows.
fn applications(log: &EventLog, found: &mut Found) {
    let mut called = false;
    let mut early = Vec::new();
    for event in log.extending(4) {
        called |= event.is_digest_of(&[CALLING.as_bytes()]);
        if event.kind() == EventType::BOOT_SERVICES_APPLICATION && !called {
            early.push(event);
        }
    }
    if early.len() > 1 || !called {
        early.into_iter().for_each(|event| found.at(event, Irregularity::ApplicationBeforeCall));
    }
}

/// PCR 7: configuration, separator, authorities.
fn secure_boot(log: &EventLog, found: &mut Found) {
    let (mut separated, mut on, mut authorities) = (false, None, 0);
    for event in log.extending(7) {
        match event.kind() {
            EventType::SEPARATOR => separated = true,
            EventType::VARIABLE_DRIVER_CONFIG if separated => {
                found.at(event, Irregularity::ConfigurationAfterSeparator);
            }
            EventType::VARIABLE_DRIVER_CONFIG => {
                let reading = event.read();
                let Some(Data::Variable(variable)) = reading.bound() else {
                    found.at(event, Irregularity::NotOfSecureBoot);
                    continue;
                };
                if !is_secure_boot(variable) {
                    continue;
                }
                match (on, variable.data) {
                    (Some(_), _) => found.at(event, Irregularity::SecondSecureBootVariable),
                    // A variable that does not exist is measured without data (PFP 1.05, 3.3.4.8): Secure Boot is off.
                    (None, []) => on = Some(false),
                    (None, [value @ (0 | 1)]) => on = Some(*value == 1),
                    (None, _) => {
                        on = Some(false);
                        found.at(event, Irregularity::SecureBootValue);
                    }
                }
            }
            EventType::VARIABLE_AUTHORITY if !separated => found.at(event, Irregularity::AuthorityBeforeSeparator),
            EventType::VARIABLE_AUTHORITY if event.read().bound().is_some() => authorities += 1,
            // Debug mode has its own rule.
            EventType::EFI_ACTION | EventType::ACTION if !separated => {}
            kind if kind.name().is_none() => {}
            _ => found.at(event, Irregularity::NotOfSecureBoot),
        }
    }
    match on {
        None => found.push(7, None, Irregularity::NoSecureBootVariable),
        Some(true) if authorities == 0 => found.push(7, None, Irregularity::NoAuthority),
        Some(_) => {}
    }
}

pub(crate) fn is_secure_boot(variable: &Variable<'_>) -> bool {
    variable.vendor == GLOBAL && variable.name == "SecureBoot"
}
