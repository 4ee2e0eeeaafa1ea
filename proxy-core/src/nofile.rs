//! How many descriptors this process may have, and how many tunnels that allows.
//!
//! The soft limit that most systems start with (1,024) exists for programs that use `select(2)`; this one does not, so it
//! raises its soft limit to the hard one. Above what is left, connections are refused by [`crate::limits`] with a reason,
//! before `accept` runs out of descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A tunnel holds its local and its remote socket.
const DESCRIPTORS_PER_TUNNEL: u64 = 2;
/// Listeners, the admin page, the device, logs, name resolution, fetches.
const RESERVED: u64 = 64;
/// The runtime of a thread: epoll, what wakes it, signals.
const PER_RUNTIME: u64 = 4;
/// All pools together keep no more than this part of the limit.
const POOLED: u64 = 4;

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

    fn free(&self) -> u64 {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
        self.limit.saturating_sub(RESERVED + PER_RUNTIME * (cores + 1))
    }

    /// How many connections each of `pools` may keep where `wanted` are configured.
    pub fn pooled(&self, wanted: usize, pools: usize) -> usize {
        let share = self.free() / POOLED / u64::try_from(pools.max(1)).unwrap_or(u64::MAX);
        wanted.min(usize::try_from(share).unwrap_or(usize::MAX))
    }

    /// How many tunnels fit, two descriptors each, beside `kept` connections in pools.
    pub fn tunnels(&self, kept: usize) -> usize {
        let free = self.free().saturating_sub(u64::try_from(kept).unwrap_or(u64::MAX));
        usize::try_from(free / DESCRIPTORS_PER_TUNNEL).unwrap_or(usize::MAX)
    }

    /// The number of connections to admit where `wanted` are configured: not more than fit beside `kept` in pools. Says in the
    /// log what the limit allows.
    pub fn fit(&self, wanted: usize, kept: usize) -> usize {
        let allowed = self.tunnels(kept);
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
    fn counts_two_descriptors_for_a_tunnel_and_one_for_what_a_pool_keeps() {
        let own = usize::try_from(1024 - Descriptors { limit: 1024 }.free()).unwrap();
        assert!(own >= 72, "two runtimes at least");
        let limit = Descriptors { limit: 1024 + own as u64 };
        assert_eq!(limit.tunnels(0), 512);
        assert_eq!(limit.tunnels(24), 500);
        assert_eq!(limit.tunnels(2000), 0);
        assert_eq!(Descriptors { limit: 64 }.tunnels(0), 0);
        assert_eq!(limit.fit(100_000, 24), 500);
        assert_eq!(limit.fit(100, 24), 100);
        assert_eq!(limit.pooled(128, 1), 128);
        assert_eq!(limit.pooled(1000, 1), 256);
        assert_eq!(limit.pooled(128, 8), 32);
        assert_eq!(limit.pooled(128, 0), 128);
    }

    #[test]
    fn raises_the_soft_limit_to_the_hard_one() {
        let descriptors = Descriptors::raised();
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current, now.maximum);
        assert_eq!(now.current.unwrap_or(u64::MAX), descriptors.limit());
    }
}
