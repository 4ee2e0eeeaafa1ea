//! What the registers hold after all events of a log, and whether a quote says the same.
//!
//! A register that the log does not mention must hold its reset value. Whoever compares only registers that have events lets a
//! guest hide a register by leaving out all its events.

use super::EventLog;
use super::event::EventType;
use crate::evidence::tpm::{Bank, PcrValue, PcrValues};

const PCRS: usize = 24;

/// Data of the EV_NO_ACTION event that says at which locality the TPM was started (PFP 1.05, section 10.4.5.3), before one byte
/// that names the locality.
pub(super) const STARTUP_LOCALITY: &[u8; 16] = b"StartupLocality\0";

/// The registers of one bank after a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    bank: Bank,
    values: [PcrValue; PCRS],
    mentioned: [bool; PCRS],
}

/// What a quote says about a register that a log was replayed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The log tells the whole story of the register.
    Equal,
    /// Nobody extended it: the log has no event of it, and it holds its reset value.
    Untouched,
    /// The log is not the story of this register, or not the whole of it.
    Different { replayed: PcrValue, quoted: PcrValue },
    /// The quote does not cover it, so nothing is known.
    NotQuoted,
}

/// The value of a register before its first extension: 17 to 22 are all ones until a dynamic launch (PC Client Platform TPM
/// Profile 1.05, section 4.6.2).
pub const fn reset_value(bank: Bank, pcr: u8) -> PcrValue {
    PcrValue::filled(bank, if matches!(pcr, 17..=22) { 0xFF } else { 0 })
}

/// Where the replay of a register begins.
pub fn start_value(log: &EventLog, bank: Bank, pcr: u8) -> PcrValue {
    match startup_locality(log) {
        Some(locality) if pcr == 0 => started_at(bank, locality),
        _ => reset_value(bank, pcr),
    }
}

impl Replay {
    /// `None` where the log has no digests of the bank.
    pub fn of(log: &EventLog, bank: Bank) -> Option<Replay> {
        if !log.banks().contains(&bank) {
            return None;
        }
        let mut values = [PcrValue::filled(bank, 0); PCRS];
        for (pcr, value) in (0..).zip(&mut values) {
            *value = reset_value(bank, pcr);
        }
        if let Some(locality) = startup_locality(log)
            && let Some(first) = values.first_mut()
        {
            *first = started_at(bank, locality);
        }
        let mut mentioned = [false; PCRS];
        for event in log.events().iter().filter(|event| event.extends()) {
            let index = usize::from(event.pcr());
            let (Some(value), Some(mentioned)) = (values.get_mut(index), mentioned.get_mut(index)) else { continue };
            *value = value.extended(event.digest(bank)?.as_bytes());
            *mentioned = true;
        }
        Some(Replay { bank, values, mentioned })
    }

    pub fn bank(&self) -> Bank {
        self.bank
    }

    /// The value after the last event; `None` for a register that does not exist.
    pub fn value(&self, pcr: u8) -> Option<&PcrValue> {
        self.values.get(usize::from(pcr))
    }

    /// Whether the log has an event that extended it.
    pub fn mentions(&self, pcr: u8) -> bool {
        self.mentioned.get(usize::from(pcr)).copied().unwrap_or(false)
    }

    /// Compares one register with the quote. A quote of another bank covers nothing.
    pub fn compare(&self, pcr: u8, quoted: &PcrValues) -> Comparison {
        let (Some(replayed), Some(seen)) = (self.value(pcr), quoted.value(pcr)) else { return Comparison::NotQuoted };
        match replayed == seen {
            true if self.mentions(pcr) => Comparison::Equal,
            true => Comparison::Untouched,
            false if quoted.bank() != self.bank => Comparison::NotQuoted,
            false => Comparison::Different { replayed: *replayed, quoted: *seen },
        }
    }
}

/// PCR 0 of a TPM that was started at a locality: the locality is its last byte (TPM 2.0 part 1, section 34.2.2).
fn started_at(bank: Bank, locality: u8) -> PcrValue {
    let mut bytes = vec![0; bank.size()];
    if let Some(last) = bytes.last_mut() {
        *last = locality;
    }
    PcrValue::new(bank, &bytes).expect("as long as the bank's values are")
}

/// The locality that the log claims, where it does so as the profile demands: once, 0, 3 or 4, and before anything extended PCR 0.
/// Any other claim counts as none: then PCR 0 begins with zeros, and [`super::rules`] says what is odd.
pub(super) fn startup_locality(log: &EventLog) -> Option<u8> {
    let mut found = None;
    let mut extended = false;
    for event in log.events() {
        if event.kind() == EventType::NO_ACTION && event.data().starts_with(STARTUP_LOCALITY) {
            match event.data().strip_prefix(STARTUP_LOCALITY) {
                Some([locality @ (0 | 3 | 4)]) if found.is_none() && !extended && event.pcr() == 0 => {
                    found = Some(*locality);
                }
                _ => return None,
            }
        }
        extended |= event.extends() && event.pcr() == 0;
    }
    found
}
