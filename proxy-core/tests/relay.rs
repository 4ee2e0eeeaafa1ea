//! Relays between real sockets: an application, our client, TLS over loopback, our guest, an upstream. A clean end stays
//! a clean end, an abort stays an abort, and every byte arrives (docs/protocol.md, "Ends").

#![allow(clippy::unwrap_used)]

mod common;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use common::{Rng, joined, soon};
use proxy_core::framing::{Framed, FramingError};
use proxy_core::link::FrameLink;
use proxy_core::net::LocalStream;
use proxy_core::relay::{LimitReached, RelayEnd, RelayLimits, relay};
use proxy_core::tls::Records;
use proxy_core::tunnel::{Traffic, TunnelEnd, TunnelStream};
use ratls::wire::control::{Accept, Close, CloseCode, Refuse, RefuseCode};
use ratls::wire::frame::{FrameType, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

fn limits() -> RelayLimits {
    RelayLimits { idle: None, ends: Instant::now() + Duration::from_secs(60), accept_by: None }
}

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

fn spawn_relay<S>(local: TcpStream, tunnel: Framed<S>, opened: bool, limits: RelayLimits) -> JoinHandle<RelayEnd<S>>
where
    S: FrameLink + Send + 'static,
{
    let traffic = Arc::new(Traffic::default());
    let tunnel = match opened {
        true => TunnelStream::opened(tunnel, 0, traffic.clone()),
        false => TunnelStream::accepted(tunnel, traffic.clone()),
    };
    tokio::spawn(relay(LocalStream::from(local), tunnel, traffic, limits))
}

fn accept() -> Vec<u8> {
    Accept { number: 0, max_lifetime_secs: 60 }.encode()
}

/// All of it.
struct Whole {
    app: TcpStream,
    upstream: TcpStream,
    client: JoinHandle<RelayEnd<Records<TcpStream>>>,
    guest: JoinHandle<RelayEnd<Records<TcpStream>>>,
}

async fn whole() -> Whole {
    let (near, far) = tcp_pair().await;
    let (client, server) = soon(joined(near, far)).await;
    let (app, app_side) = tcp_pair().await;
    let (upstream, upstream_side) = tcp_pair().await;
    let mut server = Framed::new(server);
    server.write(FrameType::Accept, &accept()).await.unwrap();
    Whole {
        app,
        upstream,
        client: spawn_relay(app_side, Framed::new(client), true, limits()),
        guest: spawn_relay(upstream_side, server, false, limits()),
    }
}

async fn aborted<S>(relay: JoinHandle<RelayEnd<S>>) -> io::Error {
    match soon(relay).await.unwrap() {
        RelayEnd::Finished(_) => panic!("an abort became a clean end"),
        RelayEnd::NotAccepted { .. } => panic!("an abort became a tunnel to be opened again"),
        RelayEnd::Aborted(error) => error,
    }
}

async fn finished<S>(relay: JoinHandle<RelayEnd<S>>) -> Framed<S> {
    match soon(relay).await.unwrap() {
        RelayEnd::Finished(framed) => framed,
        RelayEnd::Aborted(error) | RelayEnd::NotAccepted { error, .. } => {
            panic!("a clean end became an abort: {error}")
        }
    }
}

/// Reads on; true at a reset, false at an end of file.
async fn is_reset(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match soon(stream.read(&mut buffer)).await {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

fn reset(stream: TcpStream) {
    LocalStream::from(stream).abort();
}

#[tokio::test]
async fn a_half_close_passes_both_ways() {
    for app_first in [true, false] {
        let Whole { app, upstream, client, guest } = whole().await;
        let (mut first, mut second) = if app_first { (app, upstream) } else { (upstream, app) };
        first.write_all(b"question").await.unwrap();
        first.shutdown().await.unwrap();
        let mut seen = String::new();
        soon(second.read_to_string(&mut seen)).await.unwrap();
        assert_eq!(seen, "question");
        sleep(Duration::from_millis(20)).await;
        second.write_all(b"answer").await.unwrap();
        second.shutdown().await.unwrap();
        let mut seen = String::new();
        soon(first.read_to_string(&mut seen)).await.unwrap();
        assert_eq!(seen, "answer");
        // Both give the connection back, and it can be used on.
        let (mut client, mut guest) = (finished(client).await, finished(guest).await);
        client.write(FrameType::Open, b"next").await.unwrap();
        assert_eq!(soon(guest.read()).await.unwrap().body, b"next"[..]);
    }
}

#[tokio::test]
async fn ten_megabytes_go_both_ways_at_once() {
    const SIZE: usize = 10 << 20;
    let Whole { app, upstream, client, guest } = whole().await;
    let end = |stream: TcpStream, send: u64, receive: u64| async move {
        let (mut reader, mut writer) = stream.into_split();
        let write = async {
            let mut rng = Rng::new(send);
            for _ in 0..SIZE / 65_536 {
                writer.write_all(&rng.bytes(65_536)).await.unwrap();
            }
            writer.shutdown().await.unwrap();
        };
        let read = async {
            let mut rng = Rng::new(receive);
            let mut seen = vec![0; 65_536];
            for at in 0..SIZE / 65_536 {
                reader.read_exact(&mut seen).await.unwrap();
                assert!(seen == rng.bytes(65_536), "block {at}");
            }
            assert_eq!(reader.read(&mut seen).await.unwrap(), 0);
        };
        tokio::join!(write, read);
    };
    soon(async { tokio::join!(end(app, 1, 2), end(upstream, 2, 1)) }).await;
    finished(client).await;
    finished(guest).await;
}

#[tokio::test]
async fn a_reset_at_one_outer_end_is_a_reset_at_the_other() {
    for app_resets in [true, false] {
        let Whole { app, upstream, client, guest } = whole().await;
        let (mut one, mut other) = if app_resets { (app, upstream) } else { (upstream, app) };
        one.write_all(b"half of a mess").await.unwrap();
        soon(other.read_exact(&mut [0; 14])).await.unwrap();
        reset(one);
        assert!(is_reset(&mut other).await);
        // The side of the reset says CLOSE; the other hears it.
        let (client, guest) = (aborted(client).await, aborted(guest).await);
        let (cause, told) = if app_resets { (client, guest) } else { (guest, client) };
        assert_eq!(cause.kind(), io::ErrorKind::ConnectionReset);
        let Some(TunnelEnd::Closed(close)) = told.get_ref().and_then(|e| e.downcast_ref()) else { panic!("{told:?}") };
        assert_eq!((close.code, close.accepted), (CloseCode::Abort, 1));
    }
}

#[tokio::test]
async fn a_proxy_that_vanishes_is_a_reset_at_the_outer_end_that_is_left() {
    let Whole { mut app, upstream: _upstream, client, guest } = whole().await;
    app.write_all(b"x").await.unwrap();
    guest.abort();
    assert!(is_reset(&mut app).await);
    aborted(client).await;

    let Whole { app: _app, mut upstream, client, guest } = whole().await;
    upstream.write_all(b"x").await.unwrap();
    client.abort();
    assert!(is_reset(&mut upstream).await);
    aborted(guest).await;
}

/// Our client's relay with a guest by hand, without TLS: the application, the guest's frames, the relay.
async fn by_hand(pipe: usize, limits: RelayLimits) -> (TcpStream, DuplexStream, JoinHandle<RelayEnd<DuplexStream>>) {
    let (app, app_side) = tcp_pair().await;
    let (near, far) = duplex(pipe);
    (app, far, spawn_relay(app_side, Framed::new(near), true, limits))
}

/// What the relay says at the end, after frames of DATA that are whole.
async fn close_after_data(far: DuplexStream) -> Result<Close, FramingError> {
    let mut framed = Framed::new(far);
    loop {
        match soon(framed.read()).await {
            Ok(frame) => assert_eq!(frame.kind, FrameType::Data),
            Err(FramingError::Closed(close)) => return Ok(close),
            Err(error) => return Err(error),
        }
    }
}

#[tokio::test]
async fn everything_but_fin_resets_the_application() {
    let data = encode(FrameType::Data, b"abc");
    let close = encode(FrameType::Close, &Close::new(CloseCode::Done, "").encode());
    let ends: [(&str, Vec<u8>); 5] = [
        ("the end of TCP between frames", vec![]),
        ("the end of TCP inside a DATA frame", data[..5].to_vec()),
        ("CLOSE", close),
        ("an unknown frame", vec![0x7F, 0, 0, 0]),
        ("a second ACCEPT", encode(FrameType::Accept, &accept())),
    ];
    for (what, end) in ends {
        let (mut app, mut far, relay) = by_hand(1 << 16, limits()).await;
        let sent = [&encode(FrameType::Accept, &accept())[..], &data, &end].concat();
        far.write_all(&sent).await.unwrap();
        let mut seen = [0; 3];
        soon(app.read_exact(&mut seen)).await.unwrap();
        far.shutdown().await.unwrap();
        assert!(is_reset(&mut app).await, "{what}");
        drop(far);
        aborted(relay).await;
    }
}

#[tokio::test]
async fn a_broken_protocol_is_answered_with_close() {
    for wrong in [vec![0x7F, 0, 0, 0], encode(FrameType::Data, b"before ACCEPT"), encode(FrameType::Fin, b"")] {
        let (mut app, mut far, relay) = by_hand(1 << 16, limits()).await;
        far.write_all(&wrong).await.unwrap();
        let close = close_after_data(far).await.unwrap();
        assert_eq!((close.code, close.accepted), (CloseCode::Protocol, 0));
        assert!(is_reset(&mut app).await);
        assert_eq!(aborted(relay).await.kind(), io::ErrorKind::InvalidData);
    }
}

#[tokio::test]
async fn a_refused_tunnel_resets_the_application_and_ends_the_connection_in_peace() {
    let (mut app, mut far, relay) = by_hand(1 << 16, limits()).await;
    let refuse = Refuse { number: 0, code: RefuseCode::UpstreamRefused, text: "no".into() };
    far.write_all(&encode(FrameType::Refuse, &refuse.encode())).await.unwrap();
    let close = close_after_data(far).await.unwrap();
    assert_eq!((close.code, close.accepted), (CloseCode::Done, 0));
    assert!(is_reset(&mut app).await);
    assert_eq!(aborted(relay).await.kind(), io::ErrorKind::ConnectionRefused);
}

/// An application that writes as long as somebody takes it.
fn flood(mut app: TcpStream) -> JoinHandle<()> {
    tokio::spawn(async move { while app.write_all(&[7; 65_536]).await.is_ok() {} })
}

#[tokio::test]
async fn close_waits_for_the_rest_of_a_half_written_frame() {
    let ends_soon = RelayLimits { idle: Some(Duration::from_millis(100)), ..limits() };
    let (app, mut far, relay) = by_hand(1000, ends_soon).await;
    far.write_all(&encode(FrameType::Accept, &accept())).await.unwrap();
    let app = flood(app);
    // Nobody reads until the idle limit has struck; then somebody does, in time.
    sleep(Duration::from_millis(500)).await;
    assert_eq!(close_after_data(far).await.unwrap().code, CloseCode::Idle);
    aborted(relay).await;
    app.await.unwrap();
}

#[tokio::test]
async fn where_the_rest_cannot_be_written_there_is_no_close() {
    let ends_soon = RelayLimits { idle: Some(Duration::from_millis(100)), ..limits() };
    let (app, mut far, relay) = by_hand(1000, ends_soon).await;
    far.write_all(&encode(FrameType::Accept, &accept())).await.unwrap();
    let app = flood(app);
    aborted(relay).await;
    // What is left in the pipe is a part of a DATA frame and then the end, not a CLOSE that reads like data.
    let mut left = vec![];
    soon(far.read_to_end(&mut left)).await.unwrap();
    assert_eq!((left.len(), left[0]), (1000, FrameType::Data as u8));
    assert!(left[4..].iter().all(|byte| *byte == 7));
    app.await.unwrap();
}

#[tokio::test]
async fn the_idle_limit_strikes_after_silence_and_not_before() {
    let idle = Duration::from_millis(300);
    let (mut app, far, relay) = by_hand(1 << 16, RelayLimits { idle: Some(idle), ..limits() }).await;
    let mut far = Framed::new(far);
    far.write(FrameType::Accept, &accept()).await.unwrap();
    // Bytes in either direction count.
    for round in 0..10 {
        sleep(idle / 3).await;
        if round % 2 == 0 {
            app.write_all(b"x").await.unwrap();
            assert_eq!(soon(far.read()).await.unwrap().kind, FrameType::Data);
        } else {
            far.write(FrameType::Data, b"y").await.unwrap();
            assert_eq!(soon(app.read_u8()).await.unwrap(), b'y');
        }
    }
    let quiet = Instant::now();
    let Err(FramingError::Closed(close)) = soon(far.read()).await else { panic!("no CLOSE") };
    assert_eq!(close.code, CloseCode::Idle);
    assert!(quiet.elapsed() >= idle * 9 / 10, "{:?}", quiet.elapsed());
    drop(far);
    assert!(is_reset(&mut app).await);
    let error = aborted(relay).await;
    assert_eq!(error.get_ref().and_then(|e| e.downcast_ref()), Some(&LimitReached::Idle));
}

#[tokio::test]
async fn the_lifetime_ends_a_tunnel_however_busy_it_is() {
    let ends = Instant::now() + Duration::from_millis(300);
    let (app, mut far, relay) = by_hand(1 << 16, RelayLimits { idle: None, ends, accept_by: None }).await;
    far.write_all(&encode(FrameType::Accept, &accept())).await.unwrap();
    let app = flood(app);
    assert_eq!(close_after_data(far).await.unwrap().code, CloseCode::Lifetime);
    assert!(Instant::now() >= ends);
    let error = aborted(relay).await;
    assert_eq!(error.get_ref().and_then(|e| e.downcast_ref()), Some(&LimitReached::Lifetime));
    app.await.unwrap();
}

/// Each frame is a write of its own, so every poll ends because the task's budget is used up.
#[tokio::test]
async fn frames_of_one_byte_do_not_hide_the_lifetime() {
    let ends = Instant::now() + Duration::from_millis(300);
    let (mut app, far, relay) = by_hand(1 << 20, RelayLimits { idle: None, ends, accept_by: None }).await;
    let (mut from, mut to) = tokio::io::split(far);
    to.write_all(&encode(FrameType::Accept, &accept())).await.unwrap();
    let frames = encode(FrameType::Data, b"x").repeat(20_000);
    let flood = tokio::spawn(async move { while to.write_all(&frames).await.is_ok() {} });
    let reader = tokio::spawn(async move {
        let mut sink = vec![0; 1 << 16];
        while app.read(&mut sink).await.is_ok_and(|n| n > 0) {}
    });
    let close = tokio::spawn(async move { from.read_to_end(&mut Vec::new()).await });
    let error = aborted(relay).await;
    assert_eq!(error.get_ref().and_then(|e| e.downcast_ref()), Some(&LimitReached::Lifetime));
    assert!(Instant::now() < ends + Duration::from_secs(4), "long after its end");
    for task in [flood, reader] {
        task.await.unwrap();
    }
    close.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_upstream_that_does_not_read_stops_the_application() {
    let Whole { mut app, upstream, client, guest } = whole().await;
    let mut total = 0;
    let chunk = [7; 65_536];
    while let Ok(n) = tokio::time::timeout(Duration::from_millis(500), app.write(&chunk)).await {
        total += n.unwrap();
        // The buffers of six sockets, which the kernel grows to a few megabytes each, and ours.
        assert!(total < 64 << 20, "nothing stops the application");
    }
    drop(upstream);
    assert!(is_reset(&mut app).await);
    aborted(client).await;
    aborted(guest).await;
}

#[tokio::test]
async fn a_close_after_fin_is_an_abort_and_not_overlooked() {
    let (mut app, mut far, relay) = by_hand(1 << 16, limits()).await;
    far.write_all(&encode(FrameType::Accept, &accept())).await.unwrap();
    far.write_all(&encode(FrameType::Fin, b"")).await.unwrap();
    // The far side's direction has ended well; ours is still open, and then the far side breaks.
    assert_eq!(soon(app.read(&mut [0; 8])).await.unwrap(), 0);
    let close = Close::new(CloseCode::Abort, "");
    far.write_all(&encode(FrameType::Close, &close.encode())).await.unwrap();
    app.write_all(b"more").await.unwrap();
    app.shutdown().await.unwrap();
    aborted(relay).await;
    drop(far);
}

#[tokio::test]
async fn a_guest_that_never_answers_open_holds_nobody() {
    let accept_by = Some(Instant::now() + Duration::from_millis(200));
    let (mut app, far, relay) = by_hand(1 << 16, RelayLimits { accept_by, ..limits() }).await;
    app.write_all(b"x").await.unwrap();
    assert_eq!(close_after_data(far).await.unwrap().code, CloseCode::Deadline);
    assert!(is_reset(&mut app).await);
    let error = aborted(relay).await;
    assert_eq!(error.get_ref().and_then(|e| e.downcast_ref()), Some(&LimitReached::Accept));
}
