//! What does a result say about what was booted? Derived from its evidence each time it is asked.

use super::account::Account;
use super::pins::Pins;
use super::{Held, read, records, records_of};
use crate::policy::{ImageReference, ProfilePolicy};
use crate::result::AttestationResult;
use formats::evidence::event_log::Event;
use measure::measured_boot::Boot;

impl AttestationResult {
    /// What was booted, by the event log and the registers that were quoted; `None` where nothing of it came.
    pub fn booted(&self) -> Option<Boot> {
        let records = match (self.evidence(), self.pieces()) {
            (Some(evidence), _) => records(evidence),
            (None, Some(pieces)) => records_of(pieces.tpm(), pieces.parts()),
            (None, None) => None,
        };
        read(records?).map(|(_, boot)| boot)
    }

    /// Events of the log that rules of the policy refuse because none of them names them (`L_EVENT`).
    pub fn unexpected_events(&self, policy: &ProfilePolicy) -> Vec<Event> {
        let found = || {
            let (log, boot) = read(records(self.evidence()?)?)?;
            let images: Vec<_> = policy.references().images().iter().map(ImageReference::expected).collect();
            let references = policy.references();
            let held = Held { files: references.boot(), images: &images, rebuilds: references.rebuilds() };
            let numbers = Account::of(policy.event_log()?, held, log, &boot).unexpected();
            Some(log.events().iter().filter(|event| numbers.contains(&event.number())).cloned().collect())
        };
        found().unwrap_or_default()
    }

    /// What rules of `[event_log]` would have to name for exactly this boot to be accepted; `None` where there is no log of it.
    pub fn pins(&self) -> Option<Pins> {
        let records = records(self.evidence()?)?;
        Pins::read(records.log?.log(), records.quoted)
    }
}
