//! How many descriptors this process may have, and how many tunnels that allows (decision 21).
//!
//! The soft limit that most systems start with (1,024) exists for programs that use `select(2)`; this one does not, so it
//! raises its soft limit to the hard one. Above what is left, connections are refused by [`crate::limits`] with a reason,
//! before `accept` runs out of descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A tunnel holds its local and its remote socket.
const DESCRIPTORS_PER_TUNNEL: u64 = 2;
/// Listeners, the admin page, the device, logs, the runtime's own, name resolution, fetches; and pooled connections.
const RESERVED: u64 = 64;

/// The descriptor limit of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    limit: u64,
}

impl Descriptors {
    /// Raises the soft limit as far as it may go and reads what that gave.
    pub fn raised() -> Self {
        let before = getrlimit(Resource::Nofile);
        if before.current != before.maximum {
            // Refused where a sandbox forbids it; then the limit read below is the old one.
            let _ = setrlimit(Resource::Nofile, Rlimit { current: before.maximum, maximum: before.maximum });
        }
        // `None` is "no limit".
        Descriptors { limit: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) }
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// How many tunnels fit, two descriptors each.
    pub fn tunnels(&self) -> usize {
        let tunnels = self.limit.saturating_sub(RESERVED) / DESCRIPTORS_PER_TUNNEL;
        usize::try_from(tunnels).unwrap_or(usize::MAX)
    }

    /// The number of connections to admit where `wanted` are configured: not more than fit. Says in the log what the
    /// limit allows.
    pub fn fit(&self, wanted: usize) -> usize {
        let allowed = self.tunnels();
        if allowed < wanted {
            tracing::warn!(
                descriptors = self.limit,
                tunnels = allowed,
                configured = wanted,
                "the descriptor limit allows fewer tunnels than configured; raise LimitNOFILE"
            );
        } else {
            tracing::info!(descriptors = self.limit, tunnels = allowed, "descriptor limit");
        }
        allowed.min(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_two_descriptors_for_a_tunnel() {
        assert_eq!(Descriptors { limit: 1024 }.tunnels(), 480);
        assert_eq!(Descriptors { limit: 64 }.tunnels(), 0);
        assert_eq!(Descriptors { limit: 3 }.tunnels(), 0);
        assert_eq!(Descriptors { limit: 1024 }.fit(100_000), 480);
        assert_eq!(Descriptors { limit: 1024 }.fit(100), 100);
    }

    #[test]
    fn raises_the_soft_limit_to_the_hard_one() {
        let descriptors = Descriptors::raised();
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current, now.maximum);
        assert_eq!(now.current.unwrap_or(u64::MAX), descriptors.limit());
    }
}
