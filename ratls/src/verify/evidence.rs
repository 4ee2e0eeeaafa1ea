//! [`VerifiedEvidence`]: authentic, and as fresh and bound as it says. Only this folder makes one.

use crate::binding::{Profile, SpkiDigest, Statement};
use crate::time::UnixTime;
use crate::verify::report::VerifiedReport;

/// How the evidence hangs on the connection that it came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// On this very connection, by its exporter.
    Exporter,
    /// On the TLS key only: whoever has the key can show it.
    Key,
    /// On nothing: evidence in a file.
    None,
}

/// When the hardware signed, as far as it can be known without believing a clock of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// After this connection began.
    Connect,
    /// Within the policy's bound (staged freshness).
    Within,
    /// Before: how long is unknown.
    Stale,
    /// There is no such evidence.
    None,
}

impl Channel {
    pub const fn as_str(self) -> &'static str {
        match self {
            Channel::Exporter => "exporter",
            Channel::Key => "key",
            Channel::None => "none",
        }
    }
}

impl Freshness {
    pub const fn as_str(self) -> &'static str {
        match self {
            Freshness::Connect => "connect",
            Freshness::Within => "within",
            Freshness::Stale => "stale",
            Freshness::None => "none",
        }
    }
}

/// Evidence that was verified. What it is worth is appraisal's question.
#[derive(Debug)]
pub struct VerifiedEvidence {
    pub(super) profile: Profile,
    pub(super) report: VerifiedReport,
    pub(super) channel: Channel,
    pub(super) hw_freshness: Freshness,
    pub(super) statement: Option<Statement>,
    pub(super) leaf: Option<SpkiDigest>,
    pub(super) at: UnixTime,
}

impl VerifiedEvidence {
    /// Evidence from a file: proves what was signed, not who is on the other end of a connection, nor when.
    pub fn offline(report: VerifiedReport, at: UnixTime) -> Self {
        VerifiedEvidence {
            profile: Profile::Snp,
            report,
            channel: Channel::None,
            hw_freshness: Freshness::None,
            statement: None,
            leaf: None,
            at,
        }
    }

    pub fn profile(&self) -> Profile {
        self.profile
    }
    pub fn report(&self) -> &VerifiedReport {
        &self.report
    }
    pub fn channel(&self) -> Channel {
        self.channel
    }
    pub fn hw_freshness(&self) -> Freshness {
        self.hw_freshness
    }
    /// What the guest claims beside the report; absent for a bare report in a file.
    pub fn statement(&self) -> Option<&Statement> {
        self.statement.as_ref()
    }
    /// Digest of the TLS key that the evidence names.
    pub fn leaf(&self) -> Option<&SpkiDigest> {
        self.leaf.as_ref()
    }
    /// The chain ends in the operator's simulator root: proves nothing.
    pub fn simulated(&self) -> bool {
        self.report.vek().simulated()
    }
    /// The time that validity was judged at.
    pub fn at(&self) -> UnixTime {
        self.at
    }
}
