//! What `--http-proxy` does not serve, and how it bears clients that are slow, huge, or no HTTP clients at all.

mod front_support;

use std::time::Duration;

use front_support::*;

const SHORT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn origin_form_is_misdirected() {
    let opener = FakeOpener::to(echo);
    let front = http_proxy(opener.clone()).await;
    for request in
        ["GET / HTTP/1.1\r\nHost: llm.example", "GET /verdict HTTP/1.1\r\nHost: x", "OPTIONS * HTTP/1.1\r\nHost: x"]
    {
        let answer = ask(&front, &format!("{request}\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 421 ") && answer.contains("this is a forward proxy"), "{answer}");
    }
    assert_eq!(opener.asked(), [""; 0]);
}

#[tokio::test]
async fn what_cannot_be_forwarded_is_refused_with_the_reason() {
    let opener = FakeOpener::to(echo);
    let front = http_proxy(opener.clone()).await;
    for (request, status, reason) in [
        ("GET https://a.example/ HTTP/1.1", 400, "use CONNECT"),
        ("GET ftp://a.example/ HTTP/1.1", 400, "only http://"),
        ("GET http://user:pass@a.example/ HTTP/1.1", 400, "user name"),
        ("GET http://a.example/ HTTP/1.1\r\nHost: a\r\nHost: b", 400, "2 Host headers"),
        ("POST http://a.example/ HTTP/1.1\r\nTransfer-Encoding: gzip, chunked", 501, "gzip"),
    ] {
        let answer = ask(&front, &format!("{request}\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(reason), "{answer}");
    }
    assert_eq!(opener.asked(), [""; 0]);
}

#[tokio::test]
async fn a_refused_guest_is_said_to_absolute_form_too() {
    for (error, status, kind) in [
        (unknown(), 403, "unknown-name"),
        (refused(), 502, "refused"),
        (unreachable(), 502, "unreachable"),
        (upstream_refused(), 502, "upstream-refused"),
        (busy(), 503, "busy"),
    ] {
        let front = http_proxy(FakeOpener::refusing(error)).await;
        let mut client = Client::of(&front).await;
        // The connection stays usable: the refusal was a whole response.
        for _ in 0..2 {
            client.send("GET http://llm.example/ HTTP/1.1\r\nAccept: application/json\r\n\r\n").await;
            let head = client.head().await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
            assert_eq!(head.contains("\r\nevident-verdict: refused\r\n"), kind == "refused", "{head}");
            let length =
                head.to_lowercase().split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse();
            let body: serde_json::Value = serde_json::from_slice(&client.exactly(length.unwrap()).await).unwrap();
            assert_eq!(body["kind"], kind);
            assert_eq!(body["findings"].as_array().unwrap().len(), usize::from(kind == "refused"));
        }
    }
}

#[tokio::test]
async fn a_refused_upload_gets_its_answer() {
    let front = http_proxy(FakeOpener::refusing(refused())).await;
    let mut client = Client::of(&front).await;
    client.send("POST http://llm.example/ HTTP/1.1\r\nContent-Length: 100000\r\n\r\n").await;
    client.send(vec![b'x'; 50_000]).await;
    assert!(client.head().await.starts_with("HTTP/1.1 502 "));
}

#[tokio::test]
async fn garbage_is_answered_or_closed_and_harms_nobody() {
    let front = http_proxy(FakeOpener::to(echo)).await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a ClientHello"[..],
        b"\x05\x01\x00",
        b"\0\0\0\0",
        b"GET\r\n\r\n",
        b"GET http://a.example/ HTTP/9.9\r\n\r\n",
        b"GET http://a.example/ HTTP/1.1\r\nBad Header: 1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST http://a.example/ HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST http://a.example/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ] {
        let mut client = Client::of(&front).await;
        client.send(bytes).await;
        client.end().await;
        let mut answer = Vec::new();
        let _ = soon(tokio::io::AsyncReadExt::read_to_end(&mut client.stream, &mut answer)).await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400 "), "{:?}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn a_huge_head_is_refused_before_it_is_whole() {
    let front = http_proxy(FakeOpener::to(echo)).await;
    let mut client = Client::of(&front).await;
    client.send(format!("GET http://a.example/ HTTP/1.1\r\nX: {}", "x".repeat(17 * 1024))).await;
    assert!(client.head().await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn a_head_that_drips_ends_at_its_deadline() {
    let front = http_proxy_with(FakeOpener::to(echo), |proxy| proxy.deadlines.request_head = SHORT, 10).await;
    let mut client = Client::of(&front).await;
    let dripping = async {
        for byte in b"GET http://a.example/ HTTP/1.1\r\nX-Slow: ".iter().cycle() {
            if tokio::io::AsyncWriteExt::write_all(&mut client.stream, &[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(dripping).await;
    let mut silent = Client::of(&front).await;
    silent.until_reset().await;
}

#[tokio::test]
async fn the_deadline_of_a_head_does_not_count_between_requests() {
    let opener = FakeOpener::to(|mut end| async move {
        loop {
            end.head().await;
            end.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        }
    });
    let front = http_proxy_with(opener, |proxy| proxy.deadlines.request_head = SHORT, 10).await;
    let mut client = Client::of(&front).await;
    for _ in 0..2 {
        client.send("GET http://a.example/ HTTP/1.1\r\n\r\n").await;
        client.head().await;
        tokio::time::sleep(SHORT * 2).await;
    }
    // It does count from the first byte of the next one.
    client.send("GET http").await;
    client.until_reset().await;
}

#[tokio::test]
async fn a_connection_without_requests_is_closed() {
    let (note, mut noted) = noted();
    let opener = FakeOpener::to(move |mut end| {
        let note = note.clone();
        async move {
            end.head().await;
            end.send("HTTP/1.1 204 No Content\r\n\r\n").await;
            end.rest().await;
            note.send(end.ended_cleanly()).unwrap();
        }
    });
    let front = http_proxy_with(opener, |proxy| proxy.deadlines.keep_alive = SHORT, 10).await;
    let mut client = Client::of(&front).await;
    client.send("GET http://a.example/ HTTP/1.1\r\n\r\n").await;
    client.head().await;
    assert_eq!(client.rest().await, "");
    assert!(noted.next().await, "the kept tunnel ends with FIN");
}

#[tokio::test]
async fn silence_ends_a_request_only_where_the_idle_limit_is_on() {
    async fn silent(mut end: UpstreamEnd) {
        end.head().await;
        tokio::time::sleep(SHORT * 3).await;
        end.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        end.rest().await;
    }
    let front = http_proxy(FakeOpener::to(silent)).await;
    let mut client = Client::of(&front).await;
    client.send("GET http://a.example/ HTTP/1.1\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 204 "));

    let front = http_proxy_with(FakeOpener::to(silent), |proxy| proxy.deadlines.idle = Some(SHORT), 10).await;
    let mut client = Client::of(&front).await;
    client.send("GET http://a.example/ HTTP/1.1\r\n\r\n").await;
    client.until_reset().await;
}

#[tokio::test]
async fn no_connection_outlives_its_lifetime() {
    let opener = FakeOpener::to(|mut end| async move {
        end.head().await;
        end.send("HTTP/1.1 200 OK\r\n\r\n").await;
        while tokio::io::AsyncWriteExt::write_all(&mut end.stream, b"tick").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let front = http_proxy_with(opener, |proxy| proxy.deadlines.lifetime = Some(SHORT), 10).await;
    let mut client = Client::of(&front).await;
    client.send("GET http://a.example/ HTTP/1.1\r\n\r\n").await;
    assert!(client.until_reset().await.contains("tick"));
}

#[tokio::test]
async fn above_the_limit_of_connections_is_said_and_counted() {
    let front = http_proxy_with(FakeOpener::to(echo), |_| {}, 1).await;
    let mut first = Client::of(&front).await;
    first.send("CONNECT a.example:1 HTTP/1.1\r\n\r\n").await;
    first.head().await;
    let mut second = Client::of(&front).await;
    // What it sent already does not cost it the answer.
    second.send("GET http://a.example/ HTTP/1.1\r\n\r\n").await;
    let answer = second.rest().await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("connections are open"), "{answer}");
    first.end().await;
    first.rest().await;
    drop(first);
    tokio::time::sleep(A_WHILE).await;
    let mut third = Client::of(&front).await;
    third.send("CONNECT a.example:1 HTTP/1.1\r\n\r\n").await;
    assert!(third.head().await.starts_with("HTTP/1.1 200 "));
    assert!(front.metrics.encode().contains("refused"), "{}", front.metrics.encode());
}

#[tokio::test]
async fn every_client_above_the_limit_reads_its_refusal() {
    let front = http_proxy_with(FakeOpener::to(echo), |_| {}, 1).await;
    let mut first = Client::of(&front).await;
    first.send("CONNECT a.example:1 HTTP/1.1\r\n\r\n").await;
    first.head().await;
    let mut refused = Vec::new();
    for _ in 0..200 {
        let mut client = Client::of(&front).await;
        client.send("GET http://a.example/ HTTP/1.1\r\n\r\n").await;
        refused.push(client);
    }
    for mut client in refused {
        assert!(client.rest().await.starts_with("HTTP/1.1 503 "));
    }
}

#[tokio::test]
async fn a_byte_that_no_url_may_have_is_named_with_its_place() {
    for (request, named) in [
        (
            &b"GET http://a.example/a?q=<b> HTTP/1.1\r\n\r\n"[..],
            "byte 22 of the request target is 0x3c (<); write it as %3C",
        ),
        (b"GET http://a.example/caf\xe9 HTTP/1.1\r\n\r\n", "byte 21 of the request target is 0xe9; write it as %E9"),
        (b"GET http://a.example/a b HTTP/1.1\r\n\r\n", "byte 19 of the request target is 0x20; write it as %20"),
    ] {
        let front = http_proxy(FakeOpener::to(echo)).await;
        let mut client = Client::of(&front).await;
        client.send(request).await;
        let answer = client.rest().await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "one answer: {answer}");
        assert!(answer.contains(named), "{answer}");
    }
}
