//! D: peers that are slow, many or silent, and hardware that does not answer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use evident_client::open::OpenError;
use evident_tests::observe::metric;
use evident_tests::{Guest, Upstream};
use proxy_core::framing::FramingError;
use ratls::wire::control::CloseCode;
use ratls::wire::frame::FrameType;
use simulator::Failure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::client::{Script, client_hello, https, page_through, target};
use crate::genuine::Genuine;
use crate::liar::Liar;
use crate::soon;

const SHORT: &str = "[limits]\nclient_hello = \"300ms\"\nhandshake = \"500ms\"\nattest = \"500ms\"\n\
                     pool_idle = \"500ms\"\nfirst_byte = \"500ms\"\n";
/// Far above every limit of [`SHORT`], far below every default.
const AT_MOST: Duration = Duration::from_millis(2500);
const DRIP: Duration = Duration::from_millis(50);

/// Sends these bytes one by one until the other side has had enough; how long that took.
async fn drip(stream: &mut TcpStream, bytes: &[u8]) -> Duration {
    let begun = Instant::now();
    for byte in bytes {
        tokio::select! {
            () = end_of(stream) => return begun.elapsed(),
            () = tokio::time::sleep(DRIP) => {}
        }
        if stream.write_all(std::slice::from_ref(byte)).await.is_err() {
            break;
        }
    }
    end_of(stream).await;
    begun.elapsed()
}

/// Reads on until there is nothing more. May be dropped at any time.
async fn end_of(stream: &mut TcpStream) {
    while !matches!(stream.read(&mut [0; 4096]).await, Ok(0) | Err(_)) {}
}

#[tokio::test]
async fn proto_d3_a_client_that_drips_its_hello_or_stays_silent_is_ended() {
    let guest = Genuine::with(|_| (), SHORT).await;
    for (ended, bytes) in (1..).zip([&client_hello()[..], b""]) {
        let mut stream = TcpStream::connect(guest.address).await.unwrap();
        let took = soon("the end", drip(&mut stream, bytes)).await;
        assert!(took < AT_MOST, "{took:?}");
        guest.until_ended_at("client hello", ended).await;
    }
}

#[tokio::test]
async fn proto_d3_a_client_that_stops_in_the_handshake_is_ended() {
    let guest = Genuine::with(|_| (), SHORT).await;
    for (ended, finished) in (1..).zip([&b""[..], &[0x14, 3, 3, 0, 1, 1]]) {
        let mut stream = TcpStream::connect(guest.address).await.unwrap();
        stream.write_all(&client_hello()).await.unwrap();
        let took = soon("the end", drip(&mut stream, finished)).await;
        assert!(took < AT_MOST, "{took:?}");
        guest.until_ended_at("handshake", ended).await;
    }
    assert_eq!(guest.upstream.accepted(), 0);
}

#[tokio::test]
async fn proto_d3_a_client_that_drips_frames_or_opens_nothing_is_ended() {
    let guest = Genuine::with(|_| (), SHORT).await;
    // A WANT that takes for ever, an OPEN that does, and nothing at all.
    for bytes in [&[FrameType::Want as u8, 0, 0, 200, 0x81][..], &[FrameType::Open as u8, 0, 0, 100], &[]] {
        let mut client = Script::connect(guest.address).await;
        client.attest().await;
        let begun = Instant::now();
        let mut left = bytes.iter();
        let close = loop {
            tokio::select! {
                close = client.framed.read() => break close,
                () = tokio::time::sleep(DRIP) => {}
            }
            if let Some(byte) = left.next() {
                client.framed.stream_mut().write_all(std::slice::from_ref(byte)).await.unwrap();
                client.framed.stream_mut().flush().await.unwrap();
            }
        };
        assert!(begun.elapsed() < AT_MOST, "{:?}", begun.elapsed());
        assert!(matches!(&close, Err(FramingError::Closed(close)) if close.code == CloseCode::Idle), "{close:?}");
    }
}

#[tokio::test]
async fn proto_d3_an_ordinary_client_that_drips_its_request_is_ended() {
    let guest = Genuine::with(|_| (), SHORT).await;
    let (mut tls, _) = https(guest.address).await;
    let begun = Instant::now();
    for byte in b"GET / HTTP/1.1\r\nHost: a\r\nX: ".iter().chain([b'x'; 40].iter()) {
        if tls.write_all(std::slice::from_ref(byte)).await.is_err() || tls.flush().await.is_err() {
            break;
        }
        tokio::time::sleep(DRIP).await;
        if begun.elapsed() > AT_MOST {
            break;
        }
    }
    let mut answer = vec![];
    let _ = soon("the end", tls.read_to_end(&mut answer)).await;
    assert!(begun.elapsed() < AT_MOST + DRIP, "{:?}", begun.elapsed());
    assert_eq!(guest.upstream.accepted(), 0);
}

#[tokio::test]
async fn proto_d3_a_server_that_is_slow_in_any_step_is_given_up() {
    // In the handshake: nothing, and a ServerHello that never ends.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = target(listener.local_addr().unwrap());
    (client.deadlines.handshake, client.deadlines.attest) = (Duration::from_millis(400), Duration::from_millis(400));
    for bytes in [&b""[..], b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03abcdefghijklmnopqrstuvwxyz"] {
        let slow = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            drip(&mut stream, bytes).await
        };
        let begun = Instant::now();
        let (given_up, _) = soon("both ends", async { tokio::join!(client.attested(), slow) }).await;
        let error = given_up.err().unwrap().to_string();
        assert!(error.contains("the TLS handshake took too long"), "{error}");
        assert!(begun.elapsed() < AT_MOST, "{:?}", begun.elapsed());
    }

    // In ATTEST: nothing, and a frame that never ends.
    let server = Liar::new().await;
    client.addresses = vec![server.address.into()];
    for drips in [false, true] {
        let slow = async {
            let mut framed = server.accept().await.framed;
            let whole = [&[FrameType::Attest as u8, 0, 0x40, 0][..], &[0xA0; 64]].concat();
            for byte in whole.iter().filter(|_| drips) {
                let gone = framed.stream_mut().write_all(std::slice::from_ref(byte)).await.is_err()
                    || framed.stream_mut().flush().await.is_err();
                if gone {
                    break;
                }
                tokio::time::sleep(DRIP).await;
            }
            framed.read().await.map(drop)
        };
        let begun = Instant::now();
        let (given_up, seen) = soon("both ends", async { tokio::join!(client.attested(), slow) }).await;
        let error = given_up.err().unwrap().to_string();
        assert!(error.contains("no evidence came in time"), "{error}");
        assert!(matches!(seen, Err(FramingError::Ended | FramingError::Io(_))), "{seen:?}");
        assert!(begun.elapsed() < AT_MOST + 64 * DRIP, "{:?}", begun.elapsed());
    }
}

/// What a client proxy is told, and that ordinary clients notice nothing.
async fn busy(guest: &Genuine) -> (String, Duration) {
    let client = target(guest.address);
    let told = match client.attested().await {
        Err(OpenError::Busy { reason, retry_after, .. }) => (reason, retry_after),
        Err(other) => panic!("not busy: {other}"),
        Ok(_) => panic!("attested without a report"),
    };
    let (mut tls, _) = https(guest.address).await;
    tls.write_all(b"GET /bytes/3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    tls.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("xxx"), "{answer}");
    told
}

#[tokio::test]
async fn proto_d14_while_the_device_is_busy_new_connections_are_told_when_to_come_back() {
    let guest = Genuine::start().await;
    assert!(page_through(&target(guest.address)).await.is_ok());

    // Busy for a moment: who waits notices nothing but the wait.
    let asked = guest.controls.reports_asked();
    guest.controls.fail_next(Failure::Busy);
    assert!(page_through(&target(guest.address)).await.is_ok());
    assert_eq!(guest.controls.reports_asked(), asked + 2);

    // The operator of the host throttles for longer than anybody should wait: said at once, with the whole time.
    guest.controls.set_min_interval(Some(Duration::from_secs(8)));
    let (reason, retry_after) = busy(&guest).await;
    assert!(reason.contains("AttestationUnavailable"), "{reason}");
    assert!(retry_after > Duration::from_secs(4), "{retry_after:?}");
    guest.until_ended_at("attest", 1).await;

    // On the wire it is a CLOSE after the handshake, where ATTEST would have come.
    let close = Script::connect(guest.address).await.closed().await;
    assert_eq!((close.code, close.accepted), (CloseCode::AttestationUnavailable, 0));
    assert!(close.retry_after_ms > 0);
    let begun = Instant::now();
    busy(&guest).await;
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn proto_d14_without_the_vmpck_nothing_is_attested_and_nothing_else_ends() {
    let guest = Genuine::start().await;
    let client = target(guest.address);
    let open = client.attested().await.unwrap().open(None, &client).await.unwrap().accepted().await.unwrap();

    guest.controls.fail_next(Failure::VmpckGone);
    for ended in 1..=2 {
        let (reason, retry_after) = busy(&guest).await;
        assert!(reason.contains("AttestationUnavailable"), "{reason}");
        assert!(retry_after >= Duration::from_secs(1), "{retry_after:?}");
        guest.until_ended_at("attest", ended).await;
    }

    // What was attested before goes on.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut application = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (local, _) = listener.accept().await.unwrap();
    let relay = tokio::spawn(open.relay(local.into()));
    application.write_all(b"GET /bytes/4 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    application.shutdown().await.unwrap();
    let mut answer = String::new();
    application.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("xxxx"), "{answer}");
    relay.await.unwrap().unwrap();
}

/// A connection from another loopback address, whose owner says hello and nothing more.
async fn half_open(from: &str, to: SocketAddr, hello: &[u8]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(from.parse().unwrap()).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    stream.write_all(hello).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proto_d15_one_client_with_1000_connections_delays_others_by_no_more_than_two_reports_heavy() {
    const H: Duration = Duration::from_millis(500);
    for cap in [1_000, 100] {
        let guest = Genuine::with(|_| (), &format!("[limits]\npending_leaves_per_source = {cap}\n")).await;
        guest.controls.set_latency(H);
        let hello = client_hello();
        let mut flood = vec![];
        for _ in 0..1_000 {
            flood.push(half_open("127.0.0.2:0", guest.address, &hello).await);
        }
        let mut other = soon("a handshake", Script::connect(guest.address)).await;
        // Its leaf waits from now on, if it does not yet.
        let (begun, asked) = (Instant::now(), guest.controls.reports_asked());
        soon("the evidence", other.attest()).await;
        let (waited, reports) = (begun.elapsed(), guest.controls.reports_asked() - asked);
        // The one that ran, and its own; a third may have begun while the answer was on its way.
        assert!(reports <= 2, "{reports} reports began while one client waited");
        assert!(waited < 2 * H + H / 2, "waited {waited:?} where a report takes {H:?}");
        drop(flood);
    }
}

#[test]
fn proto_d13_5000_half_open_handshakes_cost_a_report_per_interval_and_no_more_heavy() {
    use std::io::Write;
    const CONNECTIONS: usize = 5_000;
    const MIN_INTERVAL: Duration = Duration::from_millis(250);
    let upstream = Upstream::http().unwrap();
    let guest = Guest::in_front_of(upstream.address())
        .simulated("min_interval_ms = 250\nlatency_ms = 20\n")
        .config("[limits]\nconnections_per_source = 6000\npending_leaves_per_source = 6000\nhandshake = \"30s\"\n")
        .start()
        .unwrap();
    let reports = || {
        let outcome =
            |outcome| metric(guest.admin(), &format!("evident_hardware_reports_total{{outcome=\"{outcome}\"}}"));
        ["ok", "busy", "failed"].into_iter().map(|name| outcome(name).unwrap()).sum::<f64>()
    };
    let leaves = || metric(guest.admin(), "evident_batch_leaves_sum").unwrap();
    let (before, leaves_before, begun) = (reports(), leaves(), Instant::now());

    let hello = client_hello();
    let mut flood = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let mut stream = std::net::TcpStream::connect(guest.address()).unwrap();
        stream.write_all(&hello).unwrap();
        flood.push(stream);
    }
    // Somebody who finishes the handshake is attested meanwhile.
    let policy = guest.simulator().join("policy.toml");
    guest.policy().write(&policy).unwrap();
    let inspected = evident_tests::client::inspect(guest.address(), Some(&policy)).unwrap();
    inspected.run(evident_tests::wait::PATIENCE).unwrap().success().unwrap();

    evident_tests::wait::until("every leaf to be in a batch", evident_tests::wait::PATIENCE, || {
        Ok((leaves() - leaves_before > CONNECTIONS as f64).then_some(()))
    })
    .unwrap();
    // The count is read before the clock, so that the bound holds for all that was counted.
    let cost = reports() - before;
    let intervals = begun.elapsed().as_secs_f64() / MIN_INTERVAL.as_secs_f64();
    assert!(cost >= 1.0 && cost <= intervals + 1.0, "{cost} reports in {intervals} intervals");
    assert_eq!(upstream.accepted(), 0);
}
