//! Bytes between a client and the upstream, until both directions have ended.
//!
//! A clean end of one direction is passed on; anything else resets the upstream and ends the client's TLS connection
//! without close_notify.

use std::io;

use proxy_core::net::{LocalStream, connect};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::time::{Instant, sleep_until};

use super::Inner;
use super::watch::Activity;

const BUFFER_BYTES: usize = 64 * 1024;

/// `upstream_mode = "tcp"`: one connection to the upstream per client.
pub(super) async fn serve<S>(inner: &Inner, client: S, activity: &Activity, ends: Instant) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let upstream =
        connect(&inner.upstream, Instant::now() + inner.connect_timeout.get()).await.map_err(io::Error::other)?;
    relay(inner, client, upstream, &[], activity, ends).await
}

/// `first` has been read from the upstream already.
pub(super) async fn relay<S>(
    inner: &Inner,
    mut client: S,
    mut upstream: LocalStream,
    first: &[u8],
    activity: &Activity,
    ends: Instant,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    upstream.reset_unless_finished();
    let copy = async {
        client.write_all(first).await?;
        copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER_BYTES, BUFFER_BYTES).await.map(|_| ())
    };
    let result = tokio::select! {
        result = copy => result,
        () = activity.silent_for(inner.idle_timeout, std::time::Duration::ZERO) => Err(timed_out("no byte passed for the idle limit")),
        () = sleep_until(ends) => Err(timed_out("the connection reached its lifetime")),
    };
    if result.is_ok() {
        upstream.finished();
    }
    result
}

pub(super) fn timed_out(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}
