//! Bytes between a local socket and a tunnel, until both directions have ended or one end breaks.
//!
//! A clean end of one direction is passed on as such (FIN, shutdown); anything else aborts both sides: CLOSE towards the
//! tunnel, a reset towards the local socket.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ratls::wire::control::{Close, CloseCode};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::time::{Instant, sleep_until, timeout};

use crate::framing::Framed;
use crate::net::LocalStream;
use crate::tunnel::{Traffic, TunnelEnd, TunnelStream};

const BUFFER: usize = 64 * 1024;
/// How long a half-written frame may take to be written out before a CLOSE.
const DRAIN: Duration = Duration::from_secs(1);

/// How long a relay may go on.
#[derive(Clone, Copy, Debug)]
pub struct RelayLimits {
    /// No byte in either direction for this long; `None` where silence is normal (a long prefill).
    pub idle: Option<Duration>,
    /// The end of the connection's lifetime.
    pub ends: Instant,
    /// Until when ACCEPT must have come; `None` where it has.
    pub accept_by: Option<Instant>,
}

/// Which limit ended a relay; inside an [`io::Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitReached {
    #[error("no byte passed for the idle limit")]
    Idle,
    #[error("the connection reached its lifetime")]
    Lifetime,
    #[error("the guest did not answer OPEN in time")]
    Accept,
}

/// How a relay ended.
pub enum RelayEnd<S> {
    /// FIN in both directions: the connection can be used on or closed as done.
    Finished(Framed<S>),
    /// One end broke, or a limit was reached; both sides were told and closed.
    Aborted(io::Error),
}

/// Relays; on an abort resets `local` and sends CLOSE. `local` is reset as well where this future is dropped or the process
/// dies: only an end that the other side announced may look like one.
pub async fn relay<S: AsyncRead + AsyncWrite + Unpin>(
    mut local: LocalStream,
    mut tunnel: TunnelStream<S>,
    traffic: Arc<Traffic>,
    limits: RelayLimits,
) -> RelayEnd<S> {
    local.reset_unless_finished();
    let copied = tokio::select! {
        result = copy_bidirectional_with_sizes(&mut local, &mut tunnel, BUFFER, BUFFER) => result.map(|_| ()),
        reason = limit_reached(&traffic, limits) => Err(reason),
    };
    match copied {
        Ok(()) if tunnel.is_finished() => {
            local.finished();
            RelayEnd::Finished(tunnel.into_framed())
        }
        Ok(()) => abort(local, tunnel, io::Error::other("the relay ended before both directions did")).await,
        Err(error) => abort(local, tunnel, error).await,
    }
}

async fn abort<S: AsyncRead + AsyncWrite + Unpin>(
    local: LocalStream,
    tunnel: TunnelStream<S>,
    error: io::Error,
) -> RelayEnd<S> {
    local.abort();
    let inner = error.get_ref();
    let end = inner.and_then(|inner| inner.downcast_ref::<TunnelEnd>());
    if !matches!(end, Some(TunnelEnd::Closed(_))) {
        let code = match inner.and_then(|inner| inner.downcast_ref::<LimitReached>()) {
            Some(LimitReached::Idle) => CloseCode::Idle,
            Some(LimitReached::Lifetime) => CloseCode::Lifetime,
            Some(LimitReached::Accept) => CloseCode::Deadline,
            None if end.is_some() => CloseCode::Done,
            None if error.kind() == io::ErrorKind::InvalidData => CloseCode::Protocol,
            None => CloseCode::Abort,
        };
        let accepted = u64::from(tunnel.is_accepted());
        let close = Close { accepted, ..Close::new(code, "the tunnel was aborted") };
        // A CLOSE inside a half-written DATA frame would be data: if the rest cannot be written, TCP just ends.
        if let Ok(Ok(framed)) = timeout(DRAIN, tunnel.into_framed_after_drain()).await {
            framed.close(&close).await;
        }
    }
    RelayEnd::Aborted(error)
}

/// Completes when a limit is reached, with what to say.
async fn limit_reached(traffic: &Traffic, limits: RelayLimits) -> io::Error {
    let idle = async {
        let Some(idle) = limits.idle else { return std::future::pending().await };
        loop {
            let before = traffic.total();
            tokio::time::sleep(idle).await;
            if traffic.total() == before {
                return;
            }
        }
    };
    let unaccepted = async {
        if let Some(by) = limits.accept_by {
            sleep_until(by).await;
            if !traffic.accepted.load(Ordering::Relaxed) {
                return;
            }
        }
        std::future::pending().await
    };
    let reached = tokio::select! {
        () = idle => LimitReached::Idle,
        () = sleep_until(limits.ends) => LimitReached::Lifetime,
        () = unaccepted => LimitReached::Accept,
    };
    io::Error::new(io::ErrorKind::TimedOut, reached)
}
