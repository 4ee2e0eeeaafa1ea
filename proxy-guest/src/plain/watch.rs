//! A stream that counts what passes, and the limits that follow from the count.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use proxy_core::duration::{Period, Timeout};
use proxy_core::metrics::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many bytes passed one client's stream.
#[derive(Clone)]
pub(super) struct Activity {
    received: Arc<Count>,
    sent: Arc<Count>,
}

/// One direction: of this stream, and in the metrics of all.
struct Count {
    here: AtomicU64,
    everywhere: Counter,
}

impl Count {
    fn of(everywhere: Counter) -> Arc<Self> {
        Arc::new(Count { here: AtomicU64::new(0), everywhere })
    }

    fn add(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.here.fetch_add(bytes, Ordering::Relaxed);
        self.everywhere.inc_by(bytes);
    }

    fn here(&self) -> u64 {
        self.here.load(Ordering::Relaxed)
    }
}

impl Activity {
    pub(super) fn new(received: Counter, sent: Counter) -> Self {
        Activity { received: Count::of(received), sent: Count::of(sent) }
    }

    /// Completes when no byte has passed for `timeout` and `more`; never where it is off. Looks again each time that the
    /// limit has passed, so it may be late by up to the limit, and is never early.
    pub(super) async fn silent_for(&self, timeout: Timeout, more: Duration) {
        let Timeout::After(period) = timeout else { return std::future::pending().await };
        let mut seen = self.total();
        loop {
            tokio::time::sleep(period.get() + more).await;
            let now = self.total();
            if now == seen {
                return;
            }
            seen = now;
        }
    }

    /// Completes after `period` if the client has sent nothing at all by then.
    pub(super) async fn nothing_received_in(&self, period: Period) {
        tokio::time::sleep(period.get()).await;
        if self.received.here() > 0 {
            std::future::pending().await
        }
    }

    fn total(&self) -> u64 {
        self.received.here() + self.sent.here()
    }
}

pub(super) struct Watched<S> {
    stream: S,
    activity: Activity,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: Activity) -> Self {
        Watched { stream, activity }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.activity.received.add(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.activity.sent.add(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.activity.sent.add(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn silence_is_counted_from_the_last_byte_in_either_direction() {
        let (near, mut far) = tokio::io::duplex(64);
        let activity = Activity::new(Counter::default(), Counter::default());
        let mut near = Watched::new(near, activity.clone());
        let begin = Instant::now();
        let traffic = async {
            tokio::time::sleep(Duration::from_secs(9)).await;
            near.write_all(b"x").await.unwrap();
            tokio::time::sleep(Duration::from_secs(10)).await;
            far.write_all(b"yy").await.unwrap();
            near.read_exact(&mut [0; 2]).await.unwrap();
        };
        tokio::join!(activity.silent_for(Timeout::from_secs(10), Duration::ZERO), traffic);
        assert_eq!(begin.elapsed().as_secs(), 30);
        assert_eq!((activity.received.here(), activity.sent.here()), (2, 1));
        assert_eq!((activity.received.everywhere.get(), activity.sent.everywhere.get()), (2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_may_be_allowed() {
        let activity = Activity::new(Counter::default(), Counter::default());
        let silent = activity.silent_for(Timeout::Off, Duration::ZERO);
        assert!(tokio::time::timeout(Duration::from_secs(1 << 20), silent).await.is_err());
    }
}
