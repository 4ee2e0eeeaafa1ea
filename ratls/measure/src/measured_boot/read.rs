//! An event log that was read once: what it says in a bank, whoever quotes it.
//!
//! Digests, replay and interpretation follow from the bytes of the log and the bank alone; only the comparison with quoted
//! registers is of each quote. So what costs time is computed at most once for each bank, and nothing is ever answered for other bytes:
//! whoever keeps such a value keeps it under the hash of what it was read from.

use std::sync::OnceLock;

use super::Boot;
use formats::evidence::event_log::{EventLog, EventLogError, Replay};
use formats::evidence::tpm::{Bank, PcrValues};

/// A log, and what was computed of it so far.
#[derive(Debug)]
pub struct ReadLog {
    log: EventLog,
    sha256: OnceLock<Option<Told>>,
    sha384: OnceLock<Option<Told>>,
}

/// What a log says in one bank.
#[derive(Debug)]
struct Told {
    /// With the digests of this bank alone.
    log: EventLog,
    replay: Replay,
    /// Compared with no quote.
    boot: Boot,
}

impl ReadLog {
    pub fn parse(bytes: &[u8]) -> Result<ReadLog, EventLogError> {
        EventLog::parse(bytes).map(ReadLog::from)
    }

    pub fn log(&self) -> &EventLog {
        &self.log
    }

    /// The log in the bank of a quote, and what was booted by it and the quoted registers; `None` where the log has no digests of
    /// the bank.
    pub fn quoted(&self, quoted: &PcrValues) -> Option<(&EventLog, Boot)> {
        let told = self.told(quoted.bank())?;
        Some((&told.log, told.boot.clone().compared(&told.replay, quoted)))
    }

    fn told(&self, bank: Bank) -> Option<&Told> {
        let kept = match bank {
            Bank::Sha256 => &self.sha256,
            Bank::Sha384 => &self.sha384,
        };
        let tell = || {
            let log = self.log.only(bank)?;
            Some(Told { replay: Replay::of(&log, bank)?, boot: Boot::interpret(&log, bank, None)?, log })
        };
        kept.get_or_init(tell).as_ref()
    }
}

impl From<EventLog> for ReadLog {
    fn from(log: EventLog) -> Self {
        ReadLog { log, sha256: OnceLock::new(), sha384: OnceLock::new() }
    }
}
