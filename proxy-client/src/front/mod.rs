//! The ways in for an application: a port map, an HTTP proxy, SOCKS5. Each asks an [`Opener`](crate::open::Opener) for a
//! tunnel and says a refusal in its own protocol.
//!
//! ```text
//!  accept ── permit ── task ──┬── port_map ─────────────┐
//!                             ├── socks5 (socks5_parse) ├── Opener::open ── carry ── Tunnel::relay
//!                             └── http (CONNECT, 101) ──┘
//!                                  └── absolute form: HTTP over the tunnel until the client has gone
//! ```
//!
//! Success is told to the application only after the tunnel is open, and a stream that ended badly is never
//! ended well towards the application (docs/protocol.md, "Ends"). Nothing here knows what evidence is.

pub mod http;
pub mod over;
pub mod port_map;
pub mod refusal;
pub mod socks5;
pub mod socks5_parse;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use proxy_core::limits::{self, Connections};
use proxy_core::metrics::{Kind, Metrics};
use proxy_core::net::{Listener, LocalStream, Peer};
use proxy_core::tasks::{Holding, Tasks};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

use crate::open::Tunnel;

/// For writing what arrived ahead of a relay; it is at most one buffer.
const AHEAD_WAIT: Duration = Duration::from_secs(30);
/// For the peer of a refused connection to read the refusal and close.
const LINGER: Duration = Duration::from_secs(1);
/// Refused connections of one entrance that may read their refusal at the same time.
const MAX_PARTING: usize = 128;
/// Unread bytes that are taken from a peer before its connection is closed over its head.
const MAX_LINGER_BYTES: usize = 256 * 1024;

/// A listening port of one way in, and what bounds it.
pub struct Entrance {
    /// What logs call it.
    pub way: &'static str,
    pub listener: Listener,
    /// Shared by all entrances of the process.
    pub connections: Connections,
    pub tasks: Tasks,
    pub metrics: Arc<Metrics>,
    /// What a connection above the limit is told before it is reset, in the way's own protocol.
    pub too_many: &'static [u8],
}

impl Entrance {
    /// Accepts until the drain begins. Each connection has a permit and a task.
    pub async fn accept<F, Served>(self, serve: F)
    where
        F: Fn(LocalStream, Peer) -> Served + Send + Sync + 'static,
        Served: Future<Output = ()> + Send + 'static,
    {
        let way = self.way;
        let serve = Arc::new(serve);
        let parting = Arc::new(Semaphore::new(MAX_PARTING));
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.tasks.draining() => return,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::error!(way, %error, "the listener failed; no further connection is accepted here");
                    return;
                }
            };
            match self.connections.try_admit(peer) {
                Ok(permit) => {
                    let counted = self.metrics.connection(Kind::Local);
                    stream.reset_unless_finished();
                    let serve = serve.clone();
                    self.tasks.spawn_connection(way, stream, move |stream| {
                        Holding::new(serve(stream, peer), (permit, counted))
                    });
                }
                Err(refusal) => self.turn_away(stream, peer, refusal, &parting).await,
            }
        }
    }

    /// Says why and closes. A reset would take the answer along, so the peer gets a moment to read it, in a task of its own.
    /// Where too many of those run, the next connection is accepted only when one has ended: above the limit of connections
    /// it would be turned away too.
    async fn turn_away(&self, mut stream: LocalStream, peer: Peer, refusal: limits::Refusal, parting: &Arc<Semaphore>) {
        self.metrics.refused_connection(refusal.reason());
        tracing::warn!(way = self.way, %peer, reason = refusal.reason(), %refusal, "connection refused");
        if self.too_many.is_empty() {
            return stream.abort();
        }
        let place = tokio::select! {
            () = self.tasks.draining() => return stream.abort(),
            place = parting.clone().acquire_owned() => place,
        };
        let too_many = self.too_many;
        self.tasks.spawn("refusal", async move {
            let _place = place;
            match tokio::time::timeout(LINGER, stream.write_all(too_many)).await {
                Ok(Ok(())) => close_gently(stream).await,
                Ok(Err(_)) | Err(_) => stream.abort(),
            }
        });
    }
}

/// Relays a tunnel, beginning with what each side had sent ahead.
async fn carry(
    mut tunnel: Box<dyn Tunnel>,
    mut local: LocalStream,
    to_tunnel: &[u8],
    to_local: &[u8],
) -> io::Result<()> {
    if to_tunnel.is_empty() && to_local.is_empty() {
        return tunnel.relay(local).await;
    }
    let ahead = async {
        tunnel.write_all(to_tunnel).await?;
        tunnel.flush().await?;
        local.write_all(to_local).await
    };
    let sent = match tokio::time::timeout(AHEAD_WAIT, ahead).await {
        Ok(sent) => sent,
        Err(elapsed) => Err(elapsed.into()),
    };
    match sent {
        Ok(()) => tunnel.relay(local).await,
        Err(error) => {
            local.abort();
            Err(error)
        }
    }
}

/// Closes a connection whose last bytes from us must arrive: a close with unread data would reset it and take them along.
async fn close_gently(mut local: LocalStream) {
    local.finished();
    let closing = async {
        local.shutdown().await?;
        let mut scratch = [0; 4096];
        let mut taken = 0;
        while taken < MAX_LINGER_BYTES {
            match local.read(&mut scratch).await? {
                0 => break,
                n => taken += n,
            }
        }
        Ok::<(), io::Error>(())
    };
    let _ = tokio::time::timeout(LINGER, closing).await;
}
