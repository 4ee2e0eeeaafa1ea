mod http2;

use super::*;
use crate::cli::Cli;
use bytes::Bytes;
use clap::Parser;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const PEER: &str = "192.0.2.7:5";

/// Nothing of these tests takes longer; a hang is a failure and not a wait.
async fn soon<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(10), future).await.expect("in time")
}

fn plain_with(upstream: &str, settings: &str) -> (Plain, Tasks) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("evident.toml");
    std::fs::write(&file, settings).unwrap();
    let line = format!("evident-proxy --upstream {upstream} --plain-clients allow --config {}", file.display());
    let config = Config::load(&Cli::try_parse_from(line.split_whitespace()).unwrap().serve).unwrap();
    let tasks = Tasks::new();
    (Plain::new(&config, &Metrics::new("test", "0"), tasks.clone()), tasks)
}

/// A client's stream into the proxy, and how the proxy will say that it ended.
fn client(plain: &Plain, h2: bool) -> (DuplexStream, tokio::task::JoinHandle<io::Result<()>>) {
    let (near, far) = tokio::io::duplex(256 * 1024);
    let plain = plain.clone();
    let serving =
        tokio::spawn(async move { plain.serve(far, h2.then_some(H2), Peer::Tcp(PEER.parse().unwrap())).await });
    (near, serving)
}

/// An upstream that answers each request head with the next of its answers, and remembers what it was asked.
#[derive(Clone, Default)]
struct Scripted {
    answers: Arc<Mutex<VecDeque<String>>>,
    asked: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<usize>>,
}

impl Scripted {
    async fn start(answers: &[&str]) -> (Self, String) {
        let script = Scripted::default();
        script.answers.lock().unwrap().extend(answers.iter().map(|a| (*a).to_owned()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let this = script.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *this.connections.lock().unwrap() += 1;
                tokio::spawn(this.clone().serve(stream));
            }
        });
        (script, addr)
    }

    async fn serve(self, mut stream: TcpStream) {
        while let Some(head) = read_head(&mut stream).await {
            self.asked.lock().unwrap().push(head.to_ascii_lowercase());
            let Some(answer) = self.answers.lock().unwrap().pop_front() else {
                return std::future::pending().await;
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
            if answer.contains("connection: close") {
                return;
            }
            if answer.starts_with("HTTP/1.1 101") {
                let mut rest = [0; 64];
                while let Ok(n @ 1..) = stream.read(&mut rest).await {
                    stream.write_all(&rest[..n].to_ascii_uppercase()).await.unwrap();
                }
                return;
            }
        }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn read_head(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<String> {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

async fn exchange(plain: &Plain, request: &str) -> String {
    let (mut stream, _serving) = client(plain, false);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn strips_our_headers_and_those_of_one_hop_in_both_directions() {
    let (upstream, addr) = Scripted::start(&[
        "HTTP/1.1 200 OK\r\nEvident-Verdict: accepted\r\nx_evident_level: 4\r\nKeep-Alive: 5\r\nSet-Cookie: kept\r\ncontent-length: 2\r\n\r\nok",
    ])
    .await;
    let (plain, _) = plain_with(&addr, "");
    let answer = exchange(
        &plain,
        "GET /a?b=c HTTP/1.1\r\nHost: app.example:8443\r\nX-Evident-Verdict: accepted\r\nEVIDENT_LEVEL: 4\r\n\
         X-Forwarded-For: 10.9.9.9\r\nX-Secret: 1\r\nConnection: close, x-secret\r\n\r\n",
    )
    .await
    .to_ascii_lowercase();
    let asked = &upstream.asked()[0];
    assert!(asked.starts_with("get /a?b=c http/1.1\r\n"), "{asked}");
    assert!(asked.contains("host: app.example:8443\r\n") && asked.contains("x-forwarded-for: 192.0.2.7\r\n"));
    assert!(!asked.contains("evident") && !asked.contains("x-secret"), "{asked}");
    assert!(answer.starts_with("http/1.1 200") && answer.contains("set-cookie: kept") && answer.ends_with("ok"));
    assert!(!answer.contains("evident") && !answer.contains("keep-alive: 5"), "{answer}");
}

#[tokio::test]
async fn adds_the_client_to_x_forwarded_for_where_it_is_told_to() {
    let (upstream, addr) = Scripted::start(&[OK]).await;
    let (plain, _) = plain_with(&addr, "x_forwarded_for = \"append\"");
    exchange(&plain, "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.9.9.9\r\nConnection: close\r\n\r\n").await;
    assert!(upstream.asked()[0].contains("x-forwarded-for: 10.9.9.9, 192.0.2.7\r\n"));
}

#[tokio::test]
async fn requests_of_one_client_share_a_connection_and_replace_a_closed_one() {
    let closing = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
    let (upstream, addr) = Scripted::start(&[OK, closing, OK]).await;
    let (plain, _) = plain_with(&addr, "");
    let (mut stream, _serving) = client(&plain, false);
    for connections in [1, 1, 2] {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let head = soon(read_head(&mut stream)).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        soon(stream.read_exact(&mut [0; 2])).await.unwrap();
        assert_eq!(*upstream.connections.lock().unwrap(), connections);
    }
}

#[tokio::test]
async fn bodies_stream_before_they_are_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (plain, _) = plain_with(&listener.local_addr().unwrap().to_string(), "");
    let (mut stream, _serving) = client(&plain, false);
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nA\r\n").await.unwrap();
    let (mut upstream, _) = soon(listener.accept()).await.unwrap();
    soon(read_head(&mut upstream)).await.unwrap();
    let mut chunk = [0; 6];
    soon(upstream.read_exact(&mut chunk)).await.unwrap();
    assert_eq!(&chunk, b"1\r\nA\r\n");
    upstream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nB\r\n").await.unwrap();
    soon(read_head(&mut stream)).await.unwrap();
    soon(stream.read_exact(&mut chunk)).await.unwrap();
    assert_eq!(&chunk, b"1\r\nB\r\n");
}

#[tokio::test]
async fn a_response_that_breaks_off_is_not_made_whole() {
    for half in [
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\nhello",
    ] {
        let (_, addr) = Scripted::start(&[half]).await;
        let (plain, _) = plain_with(&addr, "");
        let answer = exchange(&plain, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("hello"), "{answer}");
        assert!(!answer.contains("\r\n0\r\n"), "{answer}");
        assert!(!answer.contains("content-length: 5"), "{answer}");
    }
}

#[tokio::test]
async fn says_that_the_upstream_cannot_be_reached_or_does_not_answer() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let ask = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = exchange(&plain_with(&free, "").0, ask).await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("cannot be reached"), "{answer}");
    assert!(!answer.contains(&free));
    let (_, silent) = Scripted::start(&[]).await;
    let answer = exchange(&plain_with(&silent, "[limits]\nidle = \"100ms\"").0, ask).await;
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    let (_, other) = Scripted::start(&["SSH-2.0-x\r\n"]).await;
    let answer = exchange(&plain_with(&other, "").0, ask).await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("no valid answer"), "{answer}");
}

#[tokio::test]
async fn refuses_requests_that_mean_two_things() {
    let (upstream, addr) = Scripted::start(&[]).await;
    let (plain, _) = plain_with(&addr, "");
    for (request, status) in [
        ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a/b\r\nConnection: close\r\n\r\n", "400"),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nConnection: close\r\n\r\n", "405"),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "400"),
    ] {
        let answer = exchange(&plain, request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
    }
    assert!(upstream.asked().is_empty());
}

#[tokio::test]
async fn a_client_of_http_1_0_without_a_host_asks_for_the_upstreams_own() {
    let (upstream, addr) = Scripted::start(&[OK, OK]).await;
    let (plain, _) = plain_with(&addr, "");
    assert!(exchange(&plain, "OPTIONS / HTTP/1.0\r\n\r\n").await.contains(" 200 "));
    assert!(exchange(&plain, "GET / HTTP/1.0\r\nHost: a\r\n\r\n").await.contains(" 200 "));
    let asked = upstream.asked();
    assert!(asked[0].starts_with("options / http/1.1\r\n"), "{}", asked[0]);
    assert!(asked[0].contains(&format!("host: {addr}\r\n")), "{}", asked[0]);
    assert!(asked[1].contains("host: a\r\n"), "{}", asked[1]);
}

#[tokio::test]
async fn a_transfer_coding_that_would_be_lost_is_refused_in_both_directions() {
    for coding in ["gzip, chunked", "gzip", "identity", "chunked, chunked", "chunked\r\nTransfer-Encoding: chunked"] {
        let coded = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n2\r\nzz\r\n0\r\n\r\n");
        let (upstream, addr) = Scripted::start(&[&coded]).await;
        let (plain, _) = plain_with(&addr, "");
        let answer = exchange(&plain, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 502") && !answer.contains("zz"), "{coding}: {answer}");
        let ask = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: {coding}\r\n\r\n2\r\nzz\r\n0\r\n\r\n"
        );
        let answer = exchange(&plain, &ask).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{coding}: {answer}");
        assert_eq!(upstream.asked().len(), 1, "{coding}");
    }
}

#[tokio::test]
async fn a_websocket_becomes_bytes_both_ways() {
    let switching =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nX-Evident-A: b\r\n\r\nfirst";
    let (upstream, addr) = Scripted::start(&[switching]).await;
    let (plain, tasks) = plain_with(&addr, "");
    let (mut stream, serving) = client(&plain, false);
    let ask = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.unwrap();
    let head = soon(read_head(&mut stream)).await.unwrap().to_ascii_lowercase();
    assert!(
        head.starts_with("http/1.1 101") && head.contains("upgrade: websocket") && !head.contains("evident"),
        "{head}"
    );
    assert!(upstream.asked()[0].contains("upgrade: websocket") && upstream.asked()[0].contains("sec-websocket-key: k"));
    stream.write_all(b"ping").await.unwrap();
    let mut seen = [0; 9];
    soon(stream.read_exact(&mut seen)).await.unwrap();
    assert_eq!(&seen, b"firstPING");
    stream.shutdown().await.unwrap();
    assert!(soon(serving).await.unwrap().is_ok());
    assert_eq!(tasks.drain(Duration::from_secs(5)).await, proxy_core::tasks::Drained::Clean);
}

#[tokio::test]
async fn an_upgrade_to_http_itself_is_not_passed_on() {
    let (upstream, addr) =
        Scripted::start(&[OK, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"]).await;
    let (plain, _) = plain_with(&addr, "");
    let ask = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
    assert!(exchange(&plain, ask).await.starts_with("HTTP/1.1 200"));
    assert!(!upstream.asked()[0].contains("h2c") && !upstream.asked()[0].contains("http2-settings"));
    let unasked = exchange(&plain, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(unasked.starts_with("HTTP/1.1 502"), "{unasked}");
}

#[tokio::test]
async fn http2_requests_run_side_by_side_and_arrive_as_http_1_1() {
    let trailers = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum, x-evident-a\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\nx-evident-a: b\r\n\r\n";
    let (upstream, addr) = Scripted::start(&[trailers, trailers]).await;
    let (plain, tasks) = plain_with(&addr, "");
    let (stream, serving) = client(&plain, true);
    let (mut sender, connection) =
        soon(hyper::client::conn::http2::handshake(tasks.clone(), TokioIo::new(stream))).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = || {
        http::Request::get("https://app.example/x")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("te", "trailers")
            .header("evident-verdict", "accepted")
            .body(Full::new(Bytes::new()))
            .unwrap()
    };
    let first = sender.send_request(request());
    let second = sender.send_request(request());
    for response in [soon(first).await.unwrap(), soon(second).await.unwrap()] {
        let body = soon(response.into_body().collect()).await.unwrap();
        assert_eq!(body.trailers().unwrap().keys().map(|k| k.as_str()).collect::<Vec<_>>(), ["x-sum"]);
        assert_eq!(body.to_bytes(), "ok");
    }
    let asked = &upstream.asked()[0];
    assert!(asked.starts_with("get /x http/1.1\r\n") && asked.contains("host: app.example\r\n"), "{asked}");
    assert!(
        asked.contains("cookie: a=1; b=2\r\n") && asked.contains("te: trailers") && !asked.contains("evident"),
        "{asked}"
    );
    drop(sender);
    let _ = soon(driver).await;
    assert!(soon(serving).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_drain_ends_an_idle_connection_and_lets_a_request_finish() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (plain, tasks) = plain_with(&listener.local_addr().unwrap().to_string(), "");
    let (_idle, idle_serving) = client(&plain, false);
    let (mut busy, busy_serving) = client(&plain, false);
    busy.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let (mut upstream, _) = soon(listener.accept()).await.unwrap();
    soon(read_head(&mut upstream)).await.unwrap();
    tasks.begin_drain();
    soon(idle_serving).await.unwrap().unwrap();
    upstream.write_all(OK.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(busy.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"), "{answer}");
    assert!(soon(busy_serving).await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_nothing_is_not_waited_for() {
    let (plain, _) = plain_with("1", "[limits]\nfirst_byte = \"2s\"\nidle = \"off\"");
    for h2 in [false, true] {
        let (_stream, serving) = client(&plain, h2);
        let _ = soon(serving).await.unwrap();
    }
}

#[tokio::test]
async fn raw_mode_carries_bytes_and_their_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (plain, _) = plain_with(&listener.local_addr().unwrap().to_string(), "upstream_mode = \"tcp\"");
    assert!(plain.alpn().is_empty());
    let (mut stream, serving) = client(&plain, false);
    stream.write_all(b"\x00raw").await.unwrap();
    stream.shutdown().await.unwrap();
    let (mut upstream, _) = soon(listener.accept()).await.unwrap();
    let mut seen = vec![];
    soon(upstream.read_to_end(&mut seen)).await.unwrap();
    assert_eq!(seen, b"\x00raw");
    upstream.write_all(b"back").await.unwrap();
    drop(upstream);
    let mut back = vec![];
    soon(stream.read_to_end(&mut back)).await.unwrap();
    assert_eq!(back, b"back");
    assert!(soon(serving).await.unwrap().is_ok());
}

#[tokio::test]
async fn raw_mode_resets_the_upstream_where_the_client_did_not_end_cleanly() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = "upstream_mode = \"tcp\"\n[limits]\nidle = \"100ms\"";
    let (plain, _) = plain_with(&listener.local_addr().unwrap().to_string(), settings);
    let (_stream, serving) = client(&plain, false);
    let (mut upstream, _) = soon(listener.accept()).await.unwrap();
    assert_eq!(soon(serving).await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(soon(upstream.read(&mut [0])).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}
