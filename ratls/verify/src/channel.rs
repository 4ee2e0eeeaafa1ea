//! What evidence hangs on, and when it was signed: the two questions that a signature alone leaves open.

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
