//! CONNECT through `--http-proxy`.

mod front_support;

use front_support::*;

#[tokio::test]
async fn answers_200_only_when_the_tunnel_is_open() {
    let opener = FakeOpener::held(echo);
    let front = http_proxy(opener.clone()).await;
    let mut client = Client::of(&front).await;
    client.send("CONNECT llm.example:443 HTTP/1.1\r\nHost: llm.example:443\r\n\r\n").await;
    assert!(client.hears_nothing().await);
    opener.let_open();
    assert_eq!(client.head().await, "HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(opener.asked(), ["llm.example:443"]);
}

#[tokio::test]
async fn carries_bytes_as_they_are_and_half_closes_both_ways() {
    let front = http_proxy(FakeOpener::to(echo)).await;
    let mut client = Client::of(&front).await;
    client.send("CONNECT [::1]:443 HTTP/1.1\r\nEvident-Verdict: forged\r\n\r\n").await;
    client.head().await;
    client.send("Evident-Verdict: the application's bytes\r\n").await;
    client.end().await;
    assert_eq!(client.rest().await, "Evident-Verdict: the application's bytes\r\n[end]");
}

#[tokio::test]
async fn the_upstream_may_end_first() {
    let (note, mut noted) = noted();
    let front = http_proxy(FakeOpener::to(move |mut end| {
        let note = note.clone();
        async move {
            end.send("hello").await;
            tokio::io::AsyncWriteExt::shutdown(&mut end.stream).await.unwrap();
            let late = end.rest().await;
            note.send((late, end.ended_cleanly())).unwrap();
        }
    }))
    .await;
    let mut client = Client::of(&front).await;
    client.send("CONNECT a.example:1 HTTP/1.1\r\n\r\n").await;
    client.head().await;
    assert_eq!(client.rest().await, "hello");
    client.send("late").await;
    client.end().await;
    assert_eq!(noted.next().await, (b"late".to_vec(), true));
    assert_eq!(soon(front.tasks.drain(SOON)).await, proxy_core::tasks::Drained::Clean);
}

#[tokio::test]
async fn bytes_sent_ahead_of_the_answer_are_the_first_in_the_tunnel() {
    let opener = FakeOpener::held(echo);
    let front = http_proxy(opener.clone()).await;
    let mut client = Client::of(&front).await;
    client.send("CONNECT a.example:443 HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n").await;
    client.send("more").await;
    assert!(client.hears_nothing().await);
    opener.let_open();
    client.head().await;
    client.end().await;
    assert_eq!(client.rest().await, "GET / HTTP/1.1\r\n\r\nmore[end]");
}

#[tokio::test]
async fn a_tunnel_may_follow_ordinary_requests_on_one_connection() {
    let front = http_proxy(FakeOpener::to(|mut end| async move {
        if end.name == "a.example:80" {
            end.head().await;
            end.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            end.rest().await;
        } else {
            echo(end).await;
        }
    }))
    .await;
    let mut client = Client::of(&front).await;
    client.send("GET http://a.example/ HTTP/1.1\r\n\r\nCONNECT b.example:443 HTTP/1.1\r\n\r\nahead").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(client.exactly(2).await, b"ok");
    assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
    client.end().await;
    assert_eq!(client.rest().await, "ahead[end]");
}

#[tokio::test]
async fn an_upstream_that_breaks_off_resets_the_application() {
    let front = http_proxy(FakeOpener::to(|mut end| async move {
        end.send("half of an ans").await;
        end.abort();
    }))
    .await;
    let mut client = Client::of(&front).await;
    client.send("CONNECT a.example:443 HTTP/1.1\r\n\r\n").await;
    assert!(client.until_reset().await.starts_with("HTTP/1.1 200 OK\r\n\r\n"));
}

#[tokio::test]
async fn a_refusal_says_every_reason_as_json_or_text() {
    let front = http_proxy(FakeOpener::refusing(refused())).await;
    let answer =
        ask(&front, "CONNECT llm.example:443 HTTP/1.1\r\nHost: llm.example\r\nAccept: application/json\r\n\r\n").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 502 Bad Gateway (the guest at 192.0.2.1:8443 is refused: R_SIG)\r\n"), "{head}");
    assert!(head.contains("\r\nevident-verdict: refused"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/json"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["kind"], "refused");
    assert_eq!(body["address"], "192.0.2.1:8443");
    assert_eq!(body["findings"][0]["id"], "R_SIG");
    assert_eq!(body["findings"][0]["seen"], "seen by the test");

    let answer = ask(&front, "CONNECT llm.example:443 HTTP/1.1\r\nHost: llm.example\r\n\r\n").await;
    assert!(answer.contains("content-type: text/plain"), "{answer}");
    assert!(answer.contains("R_SIG") && answer.contains("seen by the test") && answer.contains("wanted:"), "{answer}");
}

#[tokio::test]
async fn each_kind_of_error_has_its_status() {
    for (error, status) in
        [(unknown(), "403"), (refused(), "502"), (unreachable(), "502"), (upstream_refused(), "502"), (busy(), "503")]
    {
        let front = http_proxy(FakeOpener::refusing(error)).await;
        let answer = ask(&front, "CONNECT llm.example:443 HTTP/1.1\r\n\r\n").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert_eq!(answer.contains("\r\nretry-after: 3\r\n"), status == "503", "{answer}");
    }
}

#[tokio::test]
async fn what_was_sent_ahead_of_a_refused_tunnel_is_not_taken_for_requests() {
    let opener = FakeOpener::refusing(unknown());
    let front = http_proxy(opener.clone()).await;
    let answer =
        ask(&front, "CONNECT a.example:443 HTTP/1.1\r\n\r\nGET http://b.example/ HTTP/1.1\r\nHost: b.example\r\n\r\n")
            .await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert_eq!(opener.asked(), ["a.example:443"]);
}

#[tokio::test]
async fn refuses_targets_that_are_not_host_and_port() {
    let opener = FakeOpener::to(echo);
    let front = http_proxy(opener.clone()).await;
    for target in ["llm.example", "/", "http://llm.example:443/", "user@llm.example:443", ""] {
        let answer = ask(&front, &format!("CONNECT {target} HTTP/1.1\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{target}: {answer}");
    }
    let with_body = "CONNECT llm.example:443 HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody";
    assert!(ask(&front, with_body).await.starts_with("HTTP/1.1 400 "));
    assert_eq!(opener.asked(), [""; 0]);
}

#[tokio::test]
async fn a_client_that_gives_up_while_waiting_is_forgotten() {
    let opener = FakeOpener::held(echo);
    let front = http_proxy(opener.clone()).await;
    let mut client = Client::of(&front).await;
    client.send("CONNECT llm.example:443 HTTP/1.1\r\n\r\n").await;
    assert!(client.hears_nothing().await);
    drop(client);
    assert_eq!(soon(front.tasks.drain(SOON)).await, proxy_core::tasks::Drained::Clean);
}
