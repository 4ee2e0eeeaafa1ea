//! Every limit in time and number of this proxy, with its default. The table `[limits]` of the file, whose keys are those
//! of evident-client where both have the limit; times carry their unit there.

use std::num::NonZeroUsize;

use proxy_core::duration::{Period, Timeout};
use serde::Deserialize;

use super::error::Reason;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// From accept to the whole ClientHello.
    #[serde(rename = "client_hello")]
    pub client_hello_timeout: Period,
    /// From the ClientHello to the client's Finished.
    #[serde(rename = "handshake")]
    pub handshake_timeout: Period,
    /// From the exporter to the evidence over it; then CLOSE with `retry_after`.
    #[serde(rename = "attest")]
    pub attest_timeout: Period,
    /// From the end of an ordinary client's handshake, or of its last answer, to its next whole request head.
    #[serde(rename = "first_byte")]
    pub first_byte_timeout: Period,
    /// How long an attested connection may wait for an OPEN. Announced in ATTEST.
    #[serde(rename = "pool_idle")]
    pub pool_idle_timeout: Period,
    /// Silence in both directions of a tunnel or an ordinary connection; keepalive finds peers on other machines that vanished.
    #[serde(rename = "idle")]
    pub idle_timeout: Timeout,
    /// Age at which an attested connection ends, from its ClientHello.
    pub lifetime: Period,
    #[serde(rename = "upstream_connect")]
    pub upstream_connect_timeout: Period,
    /// How long what is open may go on after SIGTERM.
    #[serde(rename = "drain")]
    pub drain_deadline: Period,
    #[serde(rename = "connections")]
    pub max_connections: NonZeroUsize,
    #[serde(rename = "connections_per_source")]
    pub max_connections_per_source: NonZeroUsize,
    /// Leaves that wait for a batch.
    #[serde(rename = "pending_leaves")]
    pub max_pending_leaves: NonZeroUsize,
    #[serde(rename = "pending_leaves_per_source")]
    pub max_pending_leaves_per_source: NonZeroUsize,
    /// Attested connections without a tunnel.
    #[serde(rename = "idle_connections_per_source")]
    pub max_idle_connections_per_source: NonZeroUsize,
    /// Bytes of event logs, settings and the like that one source may fetch in a minute.
    #[serde(rename = "part_bytes_per_source")]
    pub max_part_bytes_per_source: NonZeroUsize,
}

impl Default for Limits {
    fn default() -> Self {
        const fn number(n: usize) -> NonZeroUsize {
            NonZeroUsize::new(n).expect("a limit of this list is not zero")
        }
        Limits {
            client_hello_timeout: Period::from_secs(5),
            handshake_timeout: Period::from_secs(10),
            attest_timeout: Period::from_secs(20),
            first_byte_timeout: Period::from_secs(30),
            pool_idle_timeout: Period::from_secs(90),
            idle_timeout: Timeout::from_secs(3600),
            lifetime: Period::from_secs(24 * 3600),
            upstream_connect_timeout: Period::from_secs(5),
            drain_deadline: Period::from_secs(30),
            max_connections: number(10_000),
            max_connections_per_source: number(1_000),
            // docs/protocol.md, "Limits".
            max_pending_leaves: number(16_384),
            max_pending_leaves_per_source: number(1_000),
            max_idle_connections_per_source: number(256),
            // A thousand event logs of 64 KiB: clients keep what they have fetched, so only new ones ask.
            max_part_bytes_per_source: number(64 << 20),
        }
    }
}

impl Limits {
    /// Whether the limits fit one another. Each one by itself was checked when it was parsed.
    pub(super) fn check(&self) -> Result<(), Reason> {
        let within = |small: (&'static str, Period), large: (&'static str, Period)| {
            if small.1 <= large.1 { Ok(()) } else { Err(Reason::LimitAbove { limit: small.0, bound: large.0 }) }
        };
        within(("pool_idle", self.pool_idle_timeout), ("lifetime", self.lifetime))?;
        // A tree has 65,536 leaves at most (docs/protocol.md, "Tree"), and a batch takes everything that is pending.
        if self.max_pending_leaves.get() > 65_536 {
            return Err(Reason::PendingLeaves { seen: self.max_pending_leaves.get() });
        }
        Ok(())
    }

    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("limits.attest", self.attest_timeout.to_string()),
            ("limits.client_hello", self.client_hello_timeout.to_string()),
            ("limits.connections", self.max_connections.to_string()),
            ("limits.connections_per_source", self.max_connections_per_source.to_string()),
            ("limits.drain", self.drain_deadline.to_string()),
            ("limits.first_byte", self.first_byte_timeout.to_string()),
            ("limits.handshake", self.handshake_timeout.to_string()),
            ("limits.idle", self.idle_timeout.to_string()),
            ("limits.idle_connections_per_source", self.max_idle_connections_per_source.to_string()),
            ("limits.lifetime", self.lifetime.to_string()),
            ("limits.part_bytes_per_source", self.max_part_bytes_per_source.to_string()),
            ("limits.pending_leaves", self.max_pending_leaves.to_string()),
            ("limits.pending_leaves_per_source", self.max_pending_leaves_per_source.to_string()),
            ("limits.pool_idle", self.pool_idle_timeout.to_string()),
            ("limits.upstream_connect", self.upstream_connect_timeout.to_string()),
        ]
    }
}
