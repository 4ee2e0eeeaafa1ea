//! Absolute-form requests through `--http-proxy`: what passes, in what order, and how it ends.

mod front_support;

use std::time::{Duration, Instant};

use front_support::*;
use proxy_core::tasks::Drained;

fn get(name: &str) -> String {
    format!("GET http://{name}/ HTTP/1.1\r\nHost: {name}\r\n\r\n")
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Answers each request without a body with `answer`.
async fn answering(mut end: UpstreamEnd, answer: &'static str) {
    loop {
        let mut byte = [0; 1];
        if tokio::io::AsyncReadExt::read(&mut end.stream, &mut byte).await.unwrap_or(0) == 0 {
            return;
        }
        end.head().await;
        end.send(answer).await;
    }
}

#[tokio::test]
async fn a_request_reaches_the_origin_in_origin_form() {
    let front = http_proxy(FakeOpener::to(|mut end| async move {
        let head = end.head().await;
        end.send(format!("HTTP/1.1 203 As You Like\r\nContent-Length: {}\r\nX-Case: Kept\r\n\r\n{head}", head.len()))
            .await;
        end.rest().await;
    }))
    .await;
    let mut client = Client::of(&front).await;
    client
        .send("GET http://Llm.Example:8080/v1/models?x=%20 HTTP/1.1\r\nhost: elsewhere\r\nX-App: 1\r\nx-app: 2\r\nConnection: close\r\n\r\n")
        .await;
    let answer = client.rest().await;
    let (head, seen) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(
        head,
        "HTTP/1.1 203 As You Like\r\nContent-Length: 121\r\nX-Case: Kept\r\nconnection: close"
            .replace("121", &seen.len().to_string())
    );
    assert_eq!(seen, "GET /v1/models?x=%20 HTTP/1.1\r\nhost: Llm.Example:8080\r\nX-App: 1\r\nx-app: 2\r\n\r\n");
}

#[tokio::test]
async fn one_tunnel_serves_one_client_and_authority() {
    let opener = FakeOpener::to(|end| answering(end, OK));
    let front = http_proxy(opener.clone()).await;
    let mut client = Client::of(&front).await;
    for name in ["a.example", "a.example", "b.example", "a.example", "b.example"] {
        client.send(get(name)).await;
        assert!(client.until(b"ok").await.starts_with(b"HTTP/1.1 200"));
    }
    assert_eq!(opener.asked(), ["a.example:80", "b.example:80"]);
    let mut other = Client::of(&front).await;
    other.send(get("a.example")).await;
    other.until(b"ok").await;
    assert_eq!(opener.asked().len(), 3);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let front = http_proxy(FakeOpener::to(|mut end| async move {
        for n in 0..3 {
            let head = end.head().await;
            assert!(head.starts_with(&format!("GET /{n} ")), "{head}");
            end.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{n}")).await;
        }
    }))
    .await;
    let mut client = Client::of(&front).await;
    let all: String = (0..3).map(|n| format!("GET http://a.example/{n} HTTP/1.1\r\n\r\n")).collect();
    client.send(all).await;
    for n in 0..3 {
        client.head().await;
        assert_eq!(client.exactly(1).await, [b'0' + n]);
    }
}

#[tokio::test]
async fn bodies_stream_both_ways_at_once() {
    let front = http_proxy(FakeOpener::to(|mut end| async move {
        let head = end.head().await.to_lowercase();
        assert!(head.contains("\r\ntransfer-encoding: chunked\r\n"), "{head}");
        end.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        for chunk in ["3\r\none\r\n", "3\r\ntwo\r\n"] {
            assert_eq!(end.exactly(chunk.len()).await, chunk.as_bytes());
            end.send(chunk).await;
        }
        assert_eq!(end.exactly(5).await, b"0\r\n\r\n");
        end.send("0\r\n\r\n").await;
        end.rest().await;
    }))
    .await;
    let mut client = Client::of(&front).await;
    client.send("POST http://a.example/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.head().await;
    for chunk in ["3\r\none\r\n", "3\r\ntwo\r\n"] {
        client.send(chunk).await;
        assert_eq!(client.exactly(chunk.len()).await, chunk.as_bytes());
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.exactly(5).await, b"0\r\n\r\n");
}

#[tokio::test]
async fn a_body_of_known_length_stays_one() {
    let front = http_proxy(FakeOpener::to(|mut end| async move {
        let head = end.head().await;
        assert!(head.to_lowercase().contains("\r\ncontent-length: 5\r\n") && !head.contains("ransfer-"), "{head}");
        assert_eq!(end.exactly(5).await, b"hello");
        end.send(OK).await;
        end.rest().await;
    }))
    .await;
    let mut client = Client::of(&front).await;
    client.send("PUT http://a.example/ HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello").await;
    client.until(b"ok").await;
}

#[tokio::test]
async fn events_are_not_held_back() {
    let front = http_proxy(FakeOpener::to(|mut end| async move {
        end.head().await;
        end.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").await;
        for n in 0..5 {
            end.send(format!("data: {n}\n\n")).await;
            // The next event only after the application has seen this one.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }))
    .await;
    let mut client = Client::of(&front).await;
    client.send(get("a.example")).await;
    client.head().await;
    let started = Instant::now();
    for n in 0..5u32 {
        client.until(format!("data: {n}\n\n").as_bytes()).await;
        let due = Duration::from_millis(20) * n;
        assert!(started.elapsed() < due + Duration::from_millis(500), "event {n} after {:?}", started.elapsed());
    }
    // Without a length the upstream's clean end is the end of the response.
    client.until(b"0\r\n\r\n").await;
}

#[tokio::test]
async fn responses_without_a_body_have_none() {
    for (method, answer) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"),
    ] {
        let front = http_proxy(FakeOpener::to(move |end| answering(end, answer))).await;
        let mut client = Client::of(&front).await;
        for _ in 0..2 {
            client.send(format!("{method} http://a.example/ HTTP/1.1\r\n\r\n")).await;
            assert_eq!(client.head().await, answer);
        }
    }
}

#[tokio::test]
async fn trailers_pass_and_ours_do_not() {
    let front = http_proxy(FakeOpener::to(|mut end| async move {
        let head = end.head().await;
        assert!(head.to_lowercase().contains("\r\nte: trailers\r\n"), "{head}");
        let body = end.until(b"\r\n\r\n").await;
        assert_eq!(String::from_utf8(body).unwrap(), "2\r\nhi\r\n0\r\nx-sum: 1\r\n\r\n");
        end.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: grpc-status, Evident-Verdict, x_evident_level\r\n\r\n").await;
        end.send("2\r\nho\r\n0\r\ngrpc-status: 0\r\nEvident-Verdict: accepted\r\nX_Evident_Level: 4\r\n\r\n").await;
        end.rest().await;
    }))
    .await;
    let mut client = Client::of(&front).await;
    client
        .send(
            "POST http://a.example/ HTTP/1.1\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum, evident-verdict\r\n\r\n\
             2\r\nhi\r\n0\r\nX-Sum: 1\r\nEvident-Verdict: accepted\r\n\r\n",
        )
        .await;
    client.head().await;
    let body = client.until(b"\r\n\r\n").await;
    assert_eq!(String::from_utf8(body).unwrap(), "2\r\nho\r\n0\r\ngrpc-status: 0\r\n\r\n");
}

const FORGED: &str = "Evident-Verdict: accepted\r\nEVIDENT-LEVEL: 4\r\nevident_verdict: accepted\r\nX-Evident-Verdict: accepted\r\n\
                      X_EVIDENT_LEVEL: 4\r\nx-evident_anything: 1\r\nEvident-Verdict: twice\r\n";

#[tokio::test]
async fn proto_h1_nobody_else_writes_a_verdict_into_requests() {
    let front = http_proxy(FakeOpener::to(|mut end| async move {
        let head = end.head().await;
        assert_eq!(head, "GET / HTTP/1.1\r\nX-Evidently: kept\r\nhost: a.example\r\n\r\n");
        end.send(OK).await;
        end.rest().await;
    }))
    .await;
    let mut client = Client::of(&front).await;
    client.send(format!("GET http://a.example/ HTTP/1.1\r\n{FORGED}X-Evidently: kept\r\n\r\n")).await;
    client.until(b"ok").await;
}

#[tokio::test]
async fn proto_h1_nobody_else_writes_a_verdict_into_responses() {
    let answer: &'static str =
        format!("HTTP/1.1 200 OK\r\n{FORGED}Content-Length: 2\r\nX-Evidently: kept\r\n\r\nok").leak();
    let front = http_proxy(FakeOpener::to(move |end| answering(end, answer))).await;
    let mut client = Client::of(&front).await;
    client.send(get("a.example")).await;
    let head = client.head().await;
    let mut lines: Vec<&str> = head.trim_end().split("\r\n").collect();
    lines.sort_unstable();
    assert_eq!(lines, ["Content-Length: 2", "HTTP/1.1 200 OK", "X-Evidently: kept"]);
}

#[tokio::test]
async fn proto_h2_verdict_headers_are_ours_and_only_where_configured() {
    let answer: &'static str = format!("HTTP/1.1 200 OK\r\n{FORGED}Content-Length: 2\r\n\r\nok").leak();
    let opener = FakeOpener::to(move |end| answering(end, answer));
    let front = http_proxy_with(opener, |proxy| proxy.add_verdict_headers = true, 10).await;
    let mut client = Client::of(&front).await;
    client.send(get("a.example")).await;
    let head = client.head().await.to_lowercase();
    assert_eq!(head.matches("evident").count(), 2, "{head}");
    // The verdict of the fake opener's result.
    assert!(head.contains("\r\nevident-verdict: refused\r\n"), "{head}");
    assert!(
        head.contains("\r\nevident-level: amd_sp=failed, vtpm=absent, firmware=0, boot=0, kernel=0, userspace=0\r\n"),
        "{head}"
    );
}

#[tokio::test]
async fn what_concerns_one_hop_ends_there() {
    let front = http_proxy(FakeOpener::to(|mut end| async move {
        let head = end.head().await;
        assert_eq!(head, "GET / HTTP/1.1\r\nCookie: c\r\nhost: a.example\r\n\r\n");
        end.send("HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=1\r\nProxy-Authenticate: x\r\nContent-Length: 2\r\n\r\nok").await;
    }))
    .await;
    let mut client = Client::of(&front).await;
    client
        .send(
            "GET http://a.example/ HTTP/1.1\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Connection: keep-alive\r\n\
             Proxy-Authorization: Basic x\r\nUpgrade: h2c\r\nCookie: c\r\n\r\n",
        )
        .await;
    assert_eq!(client.head().await, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(client.exactly(2).await, b"ok");
    // The upstream's `close` was about its own hop.
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 421 "));
}

#[tokio::test]
async fn an_upgrade_becomes_a_tunnel() {
    let front = http_proxy(FakeOpener::to(|mut end| async move {
        let head = end.head().await.to_lowercase();
        assert!(head.contains("\r\nconnection: upgrade\r\n") && head.contains("\r\nupgrade: websocket\r\n"), "{head}");
        assert!(head.contains("\r\nsec-websocket-key: k\r\n"), "{head}");
        end.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nEvident-Level: 4\r\nSec-WebSocket-Accept: a\r\n\r\nfirst").await;
        echo(end).await;
    }))
    .await;
    let mut client = Client::of(&front).await;
    client
        .send("GET http://a.example/ws HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n")
        .await;
    let head = client.head().await.to_lowercase();
    assert!(head.starts_with("http/1.1 101 switching protocols\r\n"), "{head}");
    assert!(head.contains("\r\nupgrade: websocket\r\n") && head.contains("\r\nconnection: upgrade\r\n"), "{head}");
    assert!(head.contains("\r\nsec-websocket-accept: a\r\n") && !head.contains("evident"), "{head}");
    assert_eq!(client.exactly(5).await, b"first");
    client.send("\x01\x02frame").await;
    client.end().await;
    assert_eq!(client.rest().await, "\x01\x02frame[end]");
}

#[tokio::test]
async fn an_upgrade_that_is_declined_is_an_ordinary_response() {
    let front =
        http_proxy(FakeOpener::to(|end| answering(end, "HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno")))
            .await;
    let mut client = Client::of(&front).await;
    for _ in 0..2 {
        client.send("GET http://a.example/ HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
        assert!(client.until(b"no").await.starts_with(b"HTTP/1.1 400 "));
    }
}

#[tokio::test]
async fn an_upgrade_that_nobody_asked_for_is_refused() {
    let front = http_proxy(FakeOpener::to(|end| {
        answering(end, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
    }))
    .await;
    let mut client = Client::of(&front).await;
    client.send(get("a.example")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 502 "));
}

const EXPECTING: &str = "POST http://a.example/ HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";

#[tokio::test]
async fn the_upstream_decides_whether_a_body_is_sent() {
    let front = http_proxy(FakeOpener::to(|mut end| async move {
        let head = end.head().await.to_lowercase();
        assert!(head.contains("\r\nexpect: 100-continue\r\n"), "{head}");
        tokio::time::sleep(A_WHILE * 2).await;
        end.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        assert_eq!(end.exactly(4).await, b"body");
        end.send(OK).await;
        end.rest().await;
    }))
    .await;
    let mut client = Client::of(&front).await;
    client.send(EXPECTING).await;
    assert!(client.hears_nothing().await);
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("body").await;
    client.until(b"ok").await;
}

#[tokio::test]
async fn a_body_that_the_upstream_refuses_is_not_asked_for() {
    let (note, mut noted) = noted();
    let front = http_proxy(FakeOpener::to(move |mut end| {
        let note = note.clone();
        async move {
            end.head().await;
            end.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno").await;
            note.send(end.rest().await).unwrap();
        }
    }))
    .await;
    let mut client = Client::of(&front).await;
    client.send(EXPECTING).await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 417 ") && answer.ends_with("\r\n\r\nno"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert_eq!(noted.next().await, b"");
}

#[tokio::test]
async fn an_upstream_that_ignores_the_question_gets_the_body() {
    let front = http_proxy(FakeOpener::to(|mut end| async move {
        end.head().await;
        assert_eq!(end.exactly(4).await, b"body");
        end.send(OK).await;
        end.rest().await;
    }))
    .await;
    let mut client = Client::of(&front).await;
    client.send(EXPECTING).await;
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("body").await;
    client.until(b"ok").await;
}

#[tokio::test]
async fn a_response_that_breaks_off_never_looks_whole() {
    for (version, response) in [
        ("1.1", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"),
        ("1.1", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"),
        ("1.1", "HTTP/1.1 200 OK\r\n\r\npart"),
        ("1.0", "HTTP/1.1 200 OK\r\n\r\npart"),
        ("1.0", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"),
    ] {
        let front = http_proxy(FakeOpener::to(move |mut end| async move {
            end.head().await;
            end.send(response).await;
            // So that the part is delivered before the reset.
            tokio::time::sleep(A_WHILE).await;
            end.abort();
        }))
        .await;
        let mut client = Client::of(&front).await;
        client.send(format!("GET http://a.example/ HTTP/{version}\r\n\r\n")).await;
        let seen = client.until_reset().await;
        let (_, body) = seen.split_once("\r\n\r\n").unwrap();
        assert!(body.contains("part") && !body.contains("\r\n0\r\n"), "{seen}");
    }
}

#[tokio::test]
async fn a_clean_end_before_the_length_is_still_a_truncation() {
    let front = http_proxy(FakeOpener::to(|mut end| async move {
        end.head().await;
        end.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart").await;
    }))
    .await;
    let mut client = Client::of(&front).await;
    client.send(get("a.example")).await;
    client.until_reset().await;
}

#[tokio::test]
async fn http_1_0_gets_a_response_that_ends_with_the_connection() {
    let front = http_proxy(FakeOpener::to(|mut end| async move {
        assert!(end.head().await.starts_with("GET / HTTP/1.1\r\n"));
        end.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n").await;
        end.rest().await;
    }))
    .await;
    let answer = ask(&front, "GET http://a.example/ HTTP/1.0\r\n\r\n").await;
    assert_eq!(answer, "HTTP/1.0 200 OK\r\n\r\nwhole");
}

#[tokio::test]
async fn an_upstream_without_an_answer_is_a_502_that_says_so() {
    for response in ["", "HTTP/1.1 200", "no http at all\r\n\r\n"] {
        let front = http_proxy(FakeOpener::to(move |mut end| async move {
            end.head().await;
            end.send(response).await;
        }))
        .await;
        let mut client = Client::of(&front).await;
        client.send(get("a.example")).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 502 Bad Gateway (the upstream did not answer"), "{response:?}: {head}");
    }
}

#[tokio::test]
async fn a_kept_tunnel_that_ended_is_replaced_where_that_is_harmless() {
    let opener = FakeOpener::to(|mut end| async move {
        end.head().await;
        end.send(OK).await;
        // The second request on this tunnel is read and never answered.
        end.head().await;
    });
    let front = http_proxy(opener.clone()).await;
    let mut client = Client::of(&front).await;
    for _ in 0..2 {
        client.send(get("a.example")).await;
        client.until(b"ok").await;
    }
    assert_eq!(opener.asked().len(), 2);

    let mut client = Client::of(&front).await;
    client.send(get("a.example")).await;
    client.until(b"ok").await;
    client.send("POST http://a.example/ HTTP/1.1\r\nContent-Length: 0\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 502 "));
    assert_eq!(opener.asked().len(), 3);
}

#[tokio::test]
async fn a_kept_tunnel_that_ended_unused_costs_the_application_nothing() {
    let opener = FakeOpener::to(|mut end| async move {
        end.head().await;
        end.send(OK).await;
    });
    let front = http_proxy(opener.clone()).await;
    let mut client = Client::of(&front).await;
    for _ in 0..3 {
        client.send("POST http://a.example/ HTTP/1.1\r\nContent-Length: 0\r\n\r\n").await;
        client.until(b"ok").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(opener.asked().len(), 3);
}

#[tokio::test]
async fn one_request_cannot_hide_another() {
    let front = http_proxy(FakeOpener::to(|mut end| async move {
        let head = end.head().await.to_lowercase();
        assert!(head.contains("\r\ntransfer-encoding: chunked\r\n") && !head.contains("content-length"), "{head}");
        assert_eq!(end.exactly(11).await, b"1\r\nx\r\n0\r\n\r\n");
        end.send(OK).await;
        end.rest().await;
    }))
    .await;
    for headers in
        ["Content-Length: 3\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 3"]
    {
        let mut client = Client::of(&front).await;
        client.send(format!("POST http://a.example/ HTTP/1.1\r\n{headers}\r\n\r\n1\r\nx\r\n0\r\n\r\n")).await;
        let answer = client.head().await;
        assert!(answer.starts_with("HTTP/1.1 200 ") || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_request_along() {
    let (note, mut noted) = noted();
    let front = http_proxy(FakeOpener::to(move |mut end| {
        let note = note.clone();
        async move {
            end.head().await;
            end.rest().await;
            note.send(end.ended_cleanly()).unwrap();
        }
    }))
    .await;
    let mut client = Client::of(&front).await;
    client.send("POST http://a.example/ HTTP/1.1\r\nContent-Length: 100\r\n\r\npart").await;
    tokio::time::sleep(A_WHILE).await;
    drop(client);
    assert!(!noted.next().await, "no FIN: the request was not whole");
    assert_eq!(soon(front.tasks.drain(SOON)).await, Drained::Clean);
}

#[tokio::test]
async fn a_drain_lets_the_request_under_way_finish() {
    let front = http_proxy(FakeOpener::to(|mut end| async move {
        end.head().await;
        end.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha").await;
        tokio::time::sleep(A_WHILE).await;
        end.send("lf").await;
        end.rest().await;
    }))
    .await;
    let mut client = Client::of(&front).await;
    client.send(get("a.example")).await;
    client.until(b"ha").await;
    let tasks = front.tasks.clone();
    let (drained, rest) = tokio::join!(tasks.drain(SOON), client.rest());
    assert_eq!((drained, rest.as_str()), (Drained::Clean, "lf"));
}

#[tokio::test]
async fn large_bodies_pass_whole() {
    const SIZE: usize = 5_000_000;
    let front = http_proxy(FakeOpener::to(|mut end| async move {
        end.head().await;
        let body = end.exactly(SIZE).await;
        end.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n")).await;
        end.send(body).await;
        end.rest().await;
    }))
    .await;
    let body: Vec<u8> = (0..SIZE).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let mut client = Client::of(&front).await;
    client.send(format!("POST http://a.example/ HTTP/1.1\r\nContent-Length: {SIZE}\r\n\r\n")).await;
    client.send(&body).await;
    client.head().await;
    assert!(client.exactly(SIZE).await == body);
}
