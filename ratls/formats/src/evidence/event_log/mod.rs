//! The TCG2 event log of the firmware: what was extended into the registers of a TPM, in the order of extension.
//!
//! ```text
//! parse    bytes → EventLog          TCG PC Client Platform Firmware Profile 1.05, section 10 ("crypto-agile")
//! replay   EventLog → what the registers would hold, and whether the quote says the same
//! rules    what a log of a well-behaved firmware looks like; what does not look so is an Anomaly
//! data     typed event data, each with what binds it to the digest: type and data are not covered by a register
//! ```
//!
//! A log comes from the guest. Nothing in it is believed but what a quoted register confirms: [`replay`] says which registers
//! those are. Even there only digests are confirmed. The type of an event stays a claim, and its data is worth something only after
//! it was hashed again (`data::Binding`).

pub mod data;
mod event;
mod parse;
pub mod replay;
pub mod rules;

pub use event::{Event, EventType};
pub use parse::{EventLogError, MAX_ALGORITHMS, MAX_EVENTS, MAX_LOG};
pub use replay::{Comparison, Replay};
pub use rules::{Anomaly, Irregularity};

use crate::evidence::tpm::Bank;

/// An event log that was read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLog {
    events: Vec<Event>,
    banks: Vec<Bank>,
}

impl EventLog {
    /// All events after the header, in the order of the log.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The banks that the log has digests of and that evidence may rest on; at least one.
    pub fn banks(&self) -> &[Bank] {
        &self.banks
    }

    /// The log with the digests of one bank alone: the one that is quoted. The others are confirmed by nobody, and cost time.
    /// `None` where it has none of the bank.
    pub fn only(&self, bank: Bank) -> Option<EventLog> {
        let kept = |event: &Event| match bank {
            Bank::Sha256 => Event { sha384: None, ..event.clone() },
            Bank::Sha384 => Event { sha256: None, ..event.clone() },
        };
        let events = self.events.iter().map(kept).collect();
        self.banks.contains(&bank).then_some(EventLog { events, banks: vec![bank] })
    }

    /// Events that extended this register.
    pub fn extending(&self, pcr: u8) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |event| event.pcr() == pcr && event.extends())
    }
}
