//! Targets for everything that reads a client's bytes: the HTTP proxy, SOCKS5, and the guest's TLS driver.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use evident_client::front::over::{http_front_end_over, socks5_front_end_over};
use proxy_core::tls::{Hello, ServerIdentity, server_config};
use ratls::wire::ALPN;
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A client that sent everything and closed leaves nothing to wait for. The deadlines of the front ends are at 5 s.
const AT_ONCE: Duration = Duration::from_secs(4);
/// Largest answer to one request that is refused, with room.
const ONE_ANSWER: usize = 4096;
/// Shortest request: `G / HTTP/1.1` and two line ends.
const SHORTEST_REQUEST: usize = 14;

/// Ends at once, answers in whole HTTP messages and in proportion, and opens a tunnel to the one known name only.
pub fn http(data: &[u8]) {
    let begin = Instant::now();
    let answer = http_front_end_over(data);
    assert!(begin.elapsed() < AT_ONCE, "took {:?}", begin.elapsed());
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "not HTTP");
    let most = data.len() + ONE_ANSWER * (1 + data.len() / SHORTEST_REQUEST);
    assert!(answer.len() <= most, "{} bytes for {}", answer.len(), data.len());
    if answer.starts_with(b"HTTP/1.1 2") {
        assert!(contains(data, b"CONNECT ") && contains(data, b"echo.example:"), "a tunnel that nobody may have");
    } else if !contains(data, b"HEAD ") && !contains(data, b"echo.example") {
        whole_refusals(&answer);
    }
}

/// Nothing that a client sends can make one refusal look like two, or like anything else: refusals follow each other, each with
/// a head of printable lines and as long as it says. (The answer to HEAD has a length and no body.)
fn whole_refusals(mut answer: &[u8]) {
    while !answer.is_empty() {
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head ends");
        let head = std::str::from_utf8(&answer[..end]).expect("a head is text");
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.")).and_then(|line| line.get(2..5));
        let mut length = 0;
        for line in lines {
            assert!(line.bytes().all(|b| matches!(b, b' '..=b'~')), "a header of {line:?}");
            let (name, value) = line.split_once(": ").expect("a header has a name and a value");
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse().expect("a length is a number");
            }
        }
        match status {
            Some("100") => {}
            Some(status) => assert!(status.starts_with(['4', '5']), "status {status}"),
            None => panic!("no status line in {head:?}"),
        }
        answer = answer.get(end + 4 + length..).expect("a body is as long as its head says");
    }
}

/// Ends at once, answers in SOCKS and with no more than its replies, and opens a tunnel to the one known name only.
pub fn socks(data: &[u8]) {
    let begin = Instant::now();
    let answer = socks5_front_end_over(data);
    assert!(begin.elapsed() < AT_ONCE, "took {:?}", begin.elapsed());
    match answer.as_slice() {
        // Nothing whole was sent; no acceptable method; SOCKS4 rejected; greeted.
        [] | [5, 0xFF] | [5, 0] => {}
        [0, 0x5B, ..] => assert!(answer.len() == 8 && data[0] == 4),
        [5, 0, 5, 0, ..] => {
            assert!(contains(data, b"echo.example"), "a tunnel that nobody may have");
            assert!(answer.len() <= data.len() + 12);
        }
        [5, 0, 5, 1..=8, 0, 1, ..] => assert_eq!(answer.len(), 12),
        other => panic!("not SOCKS: {other:?}"),
    }
}

fn contains(data: &[u8], wanted: &[u8]) -> bool {
    data.windows(wanted.len()).any(|window| window == wanted)
}

static CONFIG: LazyLock<ServerConfig> = LazyLock::new(|| {
    let key = KeyPair::generate().expect("the system gives random numbers");
    let certificate = CertificateParams::default().self_signed(&key).expect("a lean certificate");
    let identity = ServerIdentity {
        chain: vec![certificate.der().clone()],
        key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
    };
    server_config(identity, &[ALPN], true, None).expect("a configuration of ours")
});

/// The driver of the guest ends at once on whatever a client sends instead of a handshake, and never thinks that one is finished.
pub fn tls(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime of one thread");
    let finished = runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        client.write_all(data).await.expect("the pipe holds more than an input");
        client.shutdown().await.expect("the pipe is open");
        let finished = tokio::time::timeout(AT_ONCE, async {
            let hello = Hello::read(server).await?;
            let _ = (hello.offers(ALPN), hello.offers_any_or_none(&[b"h2", b"http/1.1"]));
            let mut tls = hello.start(&CONFIG)?;
            let secret = tls.first_flight().await?;
            let _ = secret.bind_initial();
            tls.finish_handshake().await
        });
        let finished = finished.await.expect("the driver ends when its client has");
        let mut answer = vec![];
        client.read_to_end(&mut answer).await.expect("the pipe is whole");
        assert!(answer.len() <= 16 * 1024, "{} bytes to who proved nothing", answer.len());
        finished
    });
    assert!(finished.is_err(), "a handshake without a client");
}
