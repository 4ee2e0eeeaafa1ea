//! An attested connection after its ATTEST: what the client asks of the evidence, and tunnels, one after the other.
//!
//! Between tunnels only OPEN, WANT, CRED and CLOSE may come; after a REFUSE, what the client had already sent for that tunnel is
//! discarded. An upstream that fails is the tunnel's misfortune, not the connection's.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proxy_core::framing::{Frame, Framed, FramingError};
use proxy_core::metrics::Direction;
use proxy_core::net::{ConnectError, LocalStream, Peer, connect};
use proxy_core::relay::{RelayEnd, RelayLimits, relay};
use proxy_core::tunnel::{Traffic, TunnelStream};
use ratls::wire::attest::features;
use ratls::wire::control::{Accept, Close, CloseCode, Mode, Open, Refuse, RefuseCode};
use ratls::wire::frame::FrameType;
use tokio::time::{Instant, timeout_at};

use crate::asked::{Asked, Refused, Room};
use crate::serve::{End, FEATURES, Guest, Tls, within};
use crate::tokens::{Denied, WRONG_ANSWERED_AFTER};

/// An attested connection: tunnels, one after the other.
pub(crate) struct Session<'a> {
    pub(crate) guest: &'a Guest,
    pub(crate) peer: Peer,
    /// The end of the connection's lifetime.
    pub(crate) ends: Instant,
    /// Tunnels accepted so far.
    pub(crate) accepted: u64,
    pub(crate) asked: Asked,
}

/// For a client to verify the evidence and send OPEN, before its connection counts as idle.
const PASSING: Duration = Duration::from_secs(2);

/// How long ACCEPT waits for the upstream's first bytes, where the client waits for neither.
const ACCEPT_WAITS: Duration = Duration::from_millis(2);

/// What a client may have sent for a tunnel before it read the REFUSE.
const MAX_DISCARDED: usize = 1 << 20;
/// An upstream that is down for longer than this is better asked about on another connection.
const MAX_REFUSALS: u32 = 16;

/// Why no frame came.
enum Quiet {
    Idle,
    TooMany,
    Failed(FramingError),
}

/// Whether the connection goes on.
enum Next {
    Continue(Box<Framed<Tls>>),
    Ended,
}

impl Session<'_> {
    /// Serves until the connection ends.
    pub(crate) async fn run(mut self, mut framed: Box<Framed<Tls>>) -> Result<(), End> {
        let mut number = 0;
        // After REFUSE, DATA and one FIN of that tunnel may still be under way. They are no use of the connection.
        let mut discarding = false;
        let (mut refusals, mut discarded, mut quiet_since) = (0, 0, Instant::now());
        loop {
            let frame = tokio::select! {
                frame = self.next_frame(&mut framed, quiet_since) => frame,
                () = self.guest.tasks.draining() => {
                    self.end(framed, CloseCode::GoingAway, "the guest is being shut down").await;
                    return Ok(());
                }
            };
            let frame = match frame {
                Ok(frame) => frame,
                Err(Quiet::Failed(FramingError::Closed(close))) => return closed_by_client(&close),
                Err(Quiet::Failed(FramingError::Ended)) if number == 0 => {
                    return Err(End::new("open", "the client left without CLOSE"));
                }
                // Between tunnels nothing is lost by that.
                Err(Quiet::Failed(FramingError::Ended)) if !discarding => return Ok(()),
                Err(Quiet::Failed(error)) => return self.protocol_error(framed, error).await,
                Err(Quiet::Idle) => {
                    let lifetime = Instant::now() >= self.ends;
                    let code = if lifetime { CloseCode::Lifetime } else { CloseCode::Idle };
                    self.end(framed, code, "nothing came").await;
                    return Ok(());
                }
                Err(Quiet::TooMany) => {
                    self.end(framed, CloseCode::Limit, "too many idle connections").await;
                    return Err(End::new("idle limit", "too many idle connections of this source"));
                }
            };
            match frame.kind {
                FrameType::Want | FrameType::Cred => {
                    if let Err(Refused { close, why }) = Box::pin(self.answer(&mut framed, &frame)).await? {
                        self.end_with(framed, close).await;
                        return Err(End::new("asked", why));
                    }
                    quiet_since = Instant::now();
                }
                FrameType::Data if discarding && discarded < MAX_DISCARDED => discarded += frame.body.len(),
                FrameType::Fin if discarding && discarded <= MAX_DISCARDED => discarded = MAX_DISCARDED + 1,
                FrameType::Data | FrameType::Fin if discarding => {
                    self.end(framed, CloseCode::Limit, "too much for a refused tunnel").await;
                    return Err(End::new("discard limit", "more data for a refused tunnel than could be under way"));
                }
                FrameType::Open => {
                    let open = match Open::parse(&frame.body) {
                        Ok(open) if open.number == number => open,
                        Ok(_) => {
                            let error =
                                FramingError::Unexpected { seen: FrameType::Open, wanted: "OPEN of the next number" };
                            return self.protocol_error(framed, error).await;
                        }
                        Err(source) => {
                            let error = FramingError::Body { kind: FrameType::Open, source };
                            return self.protocol_error(framed, error).await;
                        }
                    };
                    number += 1;
                    let before = self.accepted;
                    match self.open(framed, open).await? {
                        Next::Continue(next) => framed = next,
                        Next::Ended => return Ok(()),
                    }
                    discarding = self.accepted == before;
                    (discarded, quiet_since) = (0, Instant::now());
                    refusals += u32::from(discarding);
                    if refusals > MAX_REFUSALS {
                        self.end(framed, CloseCode::Limit, "too many refused tunnels").await;
                        return Err(End::new("refusal limit", "too many refused tunnels on one connection"));
                    }
                }
                seen => {
                    let error = FramingError::Unexpected { seen, wanted: "OPEN" };
                    return self.protocol_error(framed, error).await;
                }
            }
        }
    }

    /// The next frame. A connection that stays quiet for longer than a verification takes counts as idle.
    async fn next_frame(&self, framed: &mut Framed<Tls>, since: Instant) -> Result<Frame, Quiet> {
        let idle_end = self.ends.min(since + self.guest.deadlines.pool_idle);
        let passing_end = idle_end.min(since + PASSING);
        if let Ok(frame) = timeout_at(passing_end, framed.read()).await {
            return frame.map_err(Quiet::Failed);
        }
        let _idle = self.guest.idle.try_take(self.peer.source()).ok_or(Quiet::TooMany)?;
        timeout_at(idle_end, framed.read()).await.map_err(|_| Quiet::Idle)?.map_err(Quiet::Failed)
    }

    async fn end(&self, framed: Box<Framed<Tls>>, code: CloseCode, text: &str) {
        self.end_with(framed, Close::new(code, text)).await;
    }

    /// Says why the connection ends. On the heap, like all that comes once in a connection's life: one that waits should hold
    /// little.
    async fn end_with(&self, framed: Box<Framed<Tls>>, close: Close) {
        Box::pin(framed.close_owned(Close { accepted: self.accepted, ..close })).await;
    }

    async fn protocol_error(&self, framed: Box<Framed<Tls>>, error: FramingError) -> Result<(), End> {
        if let Some(close) = error.close() {
            self.end_with(framed, close).await;
        }
        Err(End::new("frames", error))
    }

    async fn answer(&mut self, framed: &mut Framed<Tls>, question: &Frame) -> Result<Result<(), Refused>, End> {
        let Guest { settings, part_budget: budget, deadlines, attest, .. } = self.guest;
        let deadline = deadlines.attest;
        match question.kind {
            FrameType::Cred => self.asked.credential(framed, &question.body, attest.activator(), deadline).await,
            _ => self.asked.want(framed, &question.body, self.peer, &Room { settings, budget, deadline }).await,
        }
    }

    /// Lets a guesser wait; the connection stays charged to its source meanwhile, whether its peer is still there or not.
    /// Where many of the source wait already, their places are worth more than its patience.
    async fn hold_back(&self) {
        let Some(_one) = self.guest.wrong_tokens.try_take(self.peer.source()) else { return };
        tokio::select! {
            () = tokio::time::sleep(WRONG_ANSWERED_AFTER) => {}
            () = self.guest.tasks.draining() => {}
        }
    }

    async fn open(&mut self, mut framed: Box<Framed<Tls>>, open: Open) -> Result<Next, End> {
        if let Some(tokens) = &self.guest.tokens
            && let Err(error) = tokens.check(open.token.as_deref())
        {
            if error == Denied::Wrong {
                self.hold_back().await;
            }
            self.end(framed, CloseCode::AccessDenied, "access token missing or wrong").await;
            return Err(End::new("access", error));
        }
        let upstream = match self.upstream_for(&open).await {
            Ok(upstream) => upstream,
            Err((code, text)) => {
                tracing::info!(peer = %self.peer, code = ?code, error = %text, "tunnel refused");
                let refuse = Refuse { number: open.number, code, text };
                within("refuse", self.guest.deadlines.handshake, framed.write(FrameType::Refuse, &refuse.encode()))
                    .await?;
                return Ok(Next::Continue(framed));
            }
        };
        let left = self.ends.saturating_duration_since(Instant::now());
        let accept = Accept { number: open.number, max_lifetime_secs: left.as_secs() };
        // To a client that sends at once ACCEPT may come with the upstream's first bytes; another waits for it.
        let early = framed.has_received();
        if early {
            framed.queue(FrameType::Accept, &accept.encode()).map_err(|error| End::new("accept", error))?;
        } else {
            within("accept", self.guest.deadlines.handshake, framed.write(FrameType::Accept, &accept.encode())).await?;
        }
        self.accepted += 1;
        self.asked.decided();
        let reuse = open.features & FEATURES & features::REUSE != 0;
        self.relay(framed, upstream, reuse, early).await
    }

    async fn relay(
        &self,
        framed: Box<Framed<Tls>>,
        upstream: LocalStream,
        reuse: bool,
        early: bool,
    ) -> Result<Next, End> {
        let traffic = Arc::new(Traffic::default());
        let _open = self.guest.metrics.tunnel();
        let limits = RelayLimits { idle: self.guest.deadlines.idle, ends: self.ends, accept_by: None };
        // This tunnel's ACCEPT is counted already.
        let tunnel = TunnelStream::accepted(*framed, traffic.clone()).after(self.accepted - 1);
        let tunnel = if early { tunnel.holding(ACCEPT_WAITS) } else { tunnel };
        let end = Box::pin(relay(upstream, tunnel, traffic.clone(), limits)).await;
        let (up, down) = (traffic.received.load(Ordering::Relaxed), traffic.sent.load(Ordering::Relaxed));
        self.guest.metrics.bytes(Direction::ToServer).inc_by(up);
        self.guest.metrics.bytes(Direction::ToClient).inc_by(down);
        match end {
            // Each direction has ended, and nothing of this tunnel is left: the next frame is OPEN or ends the connection.
            RelayEnd::Finished(framed) if reuse => Ok(Next::Continue(Box::new(framed))),
            RelayEnd::Finished(framed) => {
                // Without the feature `reuse` a connection carries one tunnel.
                self.end(Box::new(framed), CloseCode::Done, "").await;
                Ok(Next::Ended)
            }
            RelayEnd::Aborted(error) | RelayEnd::NotAccepted { error, .. } => Err(End::new("relay", error)),
        }
    }

    async fn upstream_for(&self, open: &Open) -> Result<LocalStream, (RefuseCode, String)> {
        if open.mode != Mode::Framed {
            return Err((RefuseCode::UnsupportedMode, format!("{:?} tunnels are not supported", open.mode)));
        }
        if let Some(target) = &open.target
            && !self.guest.names.is_empty()
            && !self.guest.names.iter().any(|name| name.eq_ignore_ascii_case(target))
        {
            return Err((RefuseCode::UnknownTarget, "this guest does not serve that name".into()));
        }
        let deadline = Instant::now() + self.guest.deadlines.upstream_connect;
        connect(&self.guest.upstream, deadline).await.map_err(|error| {
            let code = match &error {
                ConnectError::TimedOut { .. } => RefuseCode::UpstreamTimeout,
                ConnectError::Refused { .. } => RefuseCode::UpstreamRefused,
                _ => RefuseCode::UpstreamUnreachable,
            };
            (code, "the upstream did not take the connection".into())
        })
    }
}

fn closed_by_client(close: &Close) -> Result<(), End> {
    match close.code {
        CloseCode::Done | CloseCode::GoingAway | CloseCode::Idle | CloseCode::Lifetime => Ok(()),
        code => Err(End::new("closed by the client", format!("{code:?}: {:?}", close.text))),
    }
}
