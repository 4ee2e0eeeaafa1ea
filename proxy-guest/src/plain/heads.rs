//! The deadline of request heads over HTTP/2, where the library has none.
//!
//! A client owes a whole head within the limit of its handshake, and again after its last answer has left. Neither a
//! preface, nor half a header block, nor frames that ask for nothing are a head.

use std::time::Duration;

use tokio::sync::watch;

/// The requests of one connection.
#[derive(Clone)]
pub(super) struct Heads {
    count: watch::Sender<Count>,
}

#[derive(Clone, Copy, Default)]
struct Count {
    open: usize,
    seen: u64,
}

/// A request whose answer has not left yet.
#[must_use = "it counts only as long as it lives"]
pub(super) struct OpenRequest {
    count: watch::Sender<Count>,
}

impl Heads {
    pub(super) fn new() -> Self {
        Heads { count: watch::Sender::new(Count::default()) }
    }

    pub(super) fn begin(&self) -> OpenRequest {
        self.count.send_modify(|count| {
            count.open += 1;
            count.seen = count.seen.wrapping_add(1);
        });
        OpenRequest { count: self.count.clone() }
    }

    /// Completes when no request has been open for `period`, and none has come in it.
    pub(super) async fn none_for(&self, period: Duration) {
        let mut count = self.count.subscribe();
        loop {
            let before = *count.borrow_and_update();
            if before.open > 0 {
                // Its sender lives in `self`.
                let _ = count.changed().await;
                continue;
            }
            let _ = tokio::time::timeout(period, count.changed()).await;
            let after = *count.borrow();
            if after.open == 0 && after.seen == before.seen {
                return;
            }
        }
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.count.send_modify(|count| count.open -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, sleep};

    #[tokio::test(start_paused = true)]
    async fn the_time_for_a_head_begins_when_the_last_answer_has_left() {
        let heads = Heads::new();
        let begin = Instant::now();
        let requests = async {
            sleep(Duration::from_secs(9)).await;
            let slow = heads.begin();
            let quick = heads.begin();
            drop(quick);
            sleep(Duration::from_secs(100)).await;
            drop(slow);
        };
        tokio::join!(heads.none_for(Duration::from_secs(10)), requests);
        assert_eq!(begin.elapsed().as_secs(), 119);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_sends_a_head_has_the_limit_once() {
        let begin = Instant::now();
        Heads::new().none_for(Duration::from_secs(10)).await;
        assert_eq!(begin.elapsed().as_secs(), 10);
    }
}
