//! Why a log does not lead to a register: which of its events, left out, would make it do so.
//!
//! A search for people who ask. It says nothing that a decision may rest on.

use formats::evidence::event_log::replay::start_value;
use formats::evidence::event_log::{Event, EventLog};
use formats::evidence::tpm::{PcrValue, PcrValues};

/// Events of one register for which leaving out each is tried; the cost grows with the square.
const MAX_EVENTS: usize = 1_000;

/// A small change of the log under which it would lead to the quoted value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slip {
    /// The register holds what this event and those before it extended, and nothing of what the log has behind it.
    EndsAt { event: usize },
    /// This event was never extended.
    Without { event: usize },
    /// This event and the next of the register happened in the other order.
    Swapped { event: usize },
    /// Nothing was extended at all.
    Untouched,
}

impl Slip {
    /// The event of the log that it is about, if it is about one.
    pub fn event(&self) -> Option<usize> {
        match self {
            Slip::EndsAt { event } | Slip::Without { event } | Slip::Swapped { event } => Some(*event),
            Slip::Untouched => None,
        }
    }
}

impl std::fmt::Display for Slip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Slip::EndsAt { event } => {
                write!(f, "it would match if the log ended with event {event}: the rest was not extended")
            }
            Slip::Without { event } => write!(f, "it would match without event {event}"),
            Slip::Swapped { event } => {
                write!(f, "it would match with event {event} and the one after it in the other order")
            }
            Slip::Untouched => {
                f.write_str("nothing was extended into the register, and the log says that something was")
            }
        }
    }
}

/// What would have to be otherwise for the log to lead to the quoted value of this register; `None` where nothing that is tried does.
pub fn slip(log: &EventLog, quoted: &PcrValues, pcr: u8) -> Option<Slip> {
    let bank = quoted.bank();
    let wanted = quoted.value(pcr)?;
    let start = start_value(log, bank, pcr);
    let events: Vec<(&Event, PcrValue)> =
        log.extending(pcr).take(MAX_EVENTS).map(|event| Some((event, *event.digest(bank)?))).collect::<Option<_>>()?;
    if start == *wanted && !events.is_empty() {
        return Some(Slip::Untouched);
    }
    // Values before each event, and after the last.
    let mut values = vec![start];
    for (_, digest) in &events {
        let last = *values.last()?;
        values.push(last.extended(digest.as_bytes()));
    }
    let reached = |value: PcrValue, rest: &[(&Event, PcrValue)]| {
        rest.iter().fold(value, |value, (_, digest)| value.extended(digest.as_bytes())) == *wanted
    };
    let ends = events.iter().zip(values.iter().skip(1)).find(|(_, value)| *value == wanted);
    if let Some(((event, _), _)) =
        ends.filter(|((event, _), _)| events.last().is_some_and(|(last, _)| last.number() != event.number()))
    {
        return Some(Slip::EndsAt { event: event.number() });
    }
    for (at, (event, _)) in events.iter().enumerate() {
        if reached(*values.get(at)?, events.get(at + 1..)?) {
            return Some(Slip::Without { event: event.number() });
        }
    }
    for (at, pair) in events.windows(2).enumerate() {
        let [(first, one), (_, other)] = pair else { continue };
        let swapped = values.get(at)?.extended(other.as_bytes()).extended(one.as_bytes());
        if reached(swapped, events.get(at + 2..)?) {
            return Some(Slip::Swapped { event: first.number() });
        }
    }
    None
}
