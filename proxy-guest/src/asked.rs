//! What a client may ask of the evidence before it decides: its larger parts, by digest, and the proof that the AK lives beside the EK.
//!
//! Both cost the guest something that a stranger can cause: the bytes of parts are counted per source and minute, and a
//! connection gets one credential opened. Nothing here is about trust: whoever was told the digest may have the bytes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use attester::BatchEvidence;
use attester::platform::{ActivateError, Activator, Part};
use proxy_core::framing::Framed;
use proxy_core::net::Peer;
use ratls::wire::control::{Close, CloseCode};
use ratls::wire::credential::{Credential, CredentialResponse};
use ratls::wire::frame::FrameType;
use ratls::wire::parts::{encode_parts, parse_want};
use tokio::time::{Instant, timeout};

use crate::serve::{End, Tls, within};

/// WANT frames of one connection.
const MAX_WANTS: u32 = 4;
/// Over which the bytes of a source are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// One connection's questions about its evidence.
pub(crate) struct Asked {
    /// Given back with the first ACCEPT: an IMA list may be large, and tunnels are many.
    batch: Option<Arc<BatchEvidence>>,
    wants_left: u32,
    credential_left: bool,
}

/// What is answered instead, and then the connection ends.
pub(crate) struct Refused {
    pub(crate) close: Close,
    pub(crate) why: String,
}

impl Asked {
    pub(crate) fn new(batch: Arc<BatchEvidence>) -> Self {
        Asked { batch: Some(batch), wants_left: MAX_WANTS, credential_left: true }
    }

    /// The client has decided.
    pub(crate) fn decided(&mut self) {
        self.batch = None;
    }

    /// Answers WANT. An item that was not listed is not answered: the client knows what was listed.
    pub(crate) async fn want(
        &mut self,
        framed: &mut Framed<Tls>,
        body: &[u8],
        peer: Peer,
        room: &Room<'_>,
    ) -> Result<Result<(), Refused>, End> {
        let Some(batch) = self.batch.clone().filter(|_| self.wants_left > 0) else {
            return Ok(Err(Refused::new(CloseCode::Protocol, "no more WANT on this connection")));
        };
        self.wants_left -= 1;
        let wanted = parse_want(body).map_err(|e| End::new("want", e))?;
        for part in std::iter::once(room.settings).chain(batch.parts()) {
            if !wanted.contains(&part.info().digest) {
                continue;
            }
            if let Err(wait) = room.budget.take(peer.source(), part.bytes().len(), Instant::now()) {
                let close = Close {
                    retry_after_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                    ..Close::new(CloseCode::Limit, "too many bytes of parts for this source")
                };
                return Ok(Err(Refused { close, why: "too many bytes of parts for this source".into() }));
            }
            for body in encode_parts(&part.info().digest, part.bytes()) {
                within("part", room.deadline, framed.write(FrameType::Part, &body)).await?;
            }
        }
        Ok(Ok(()))
    }

    /// Answers CRED, once per connection.
    pub(crate) async fn credential(
        &mut self,
        framed: &mut Framed<Tls>,
        body: &[u8],
        activator: Option<&Activator>,
        deadline: Duration,
    ) -> Result<Result<(), Refused>, End> {
        let Some(activator) = activator.filter(|_| self.credential_left && self.batch.is_some()) else {
            return Ok(Err(Refused::new(CloseCode::Protocol, "CRED is not answered here")));
        };
        self.credential_left = false;
        let credential = Credential::parse(body).map_err(|e| End::new("cred", e))?;
        let secret = match timeout(deadline, activator.activate(credential)).await {
            Ok(Ok(secret)) => secret,
            Ok(Err(error @ ActivateError::NotOurs)) => {
                return Ok(Err(Refused::new(CloseCode::Protocol, error.to_string())));
            }
            Ok(Err(error)) => return Ok(Err(Refused::later(error.to_string()))),
            Err(_) => return Ok(Err(Refused::later("the TPM did not answer in time"))),
        };
        let response = CredentialResponse { secret }.encode();
        within("cred", deadline, framed.write(FrameType::CredResponse, &response)).await?;
        Ok(Ok(()))
    }
}

/// What WANT needs of the guest.
pub(crate) struct Room<'a> {
    pub(crate) settings: &'a Part,
    pub(crate) budget: &'a PartBudget,
    /// For one frame.
    pub(crate) deadline: Duration,
}

impl Refused {
    fn new(code: CloseCode, why: impl Into<String>) -> Self {
        let why = why.into();
        Refused { close: Close::new(code, &why), why }
    }

    fn later(why: impl Into<String>) -> Self {
        let refused = Refused::new(CloseCode::AttestationUnavailable, why);
        Refused { close: Close { retry_after_ms: 1_000, ..refused.close }, ..refused }
    }
}

/// Bytes of parts per source and minute. Counts start anew each minute, so the memory is that of one minute's sources.
pub struct PartBudget {
    max: usize,
    window: Mutex<Window>,
}

struct Window {
    began: Instant,
    used: HashMap<IpAddr, usize>,
}

impl PartBudget {
    pub fn new(max_bytes_per_source: usize) -> Self {
        let window = Window { began: Instant::now(), used: HashMap::new() };
        PartBudget { max: max_bytes_per_source, window: Mutex::new(window) }
    }

    /// Takes all of `bytes`, or says how long to stay away. One part is always to be had by a source that had none in this minute.
    fn take(&self, source: IpAddr, bytes: usize, now: Instant) -> Result<(), Duration> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(window.began) >= WINDOW {
            *window = Window { began: now, used: HashMap::new() };
        }
        let ends = window.began + WINDOW;
        let used = window.used.entry(source).or_insert(0);
        let then = used.saturating_add(bytes);
        if then > self.max && *used > 0 {
            return Err(ends.saturating_duration_since(now));
        }
        *used = then;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_source_gets_its_bytes_and_no_more_until_the_minute_is_over() {
        let budget = PartBudget::new(100);
        let start = Instant::now();
        assert_eq!(budget.take(HERE, 60, start), Ok(()));
        assert_eq!(budget.take(HERE, 40, start), Ok(()));
        let wait = budget.take(HERE, 1, start).unwrap_err();
        assert!(wait > Duration::from_secs(58) && wait <= WINDOW, "{wait:?}");
        assert_eq!(budget.take("192.0.2.1".parse().unwrap(), 100, start), Ok(()), "another source has its own");
        assert_eq!(budget.take(HERE, 1, start + WINDOW), Ok(()));
    }

    #[test]
    fn a_part_larger_than_the_budget_can_be_had_alone() {
        let budget = PartBudget::new(100);
        let start = Instant::now();
        assert_eq!(budget.take(HERE, 500, start), Ok(()));
        assert!(budget.take(HERE, 1, start).is_err());
    }
}
