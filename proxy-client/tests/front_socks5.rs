//! `--socks5`, from the greeting to the last byte.

mod front_support;

use std::time::Duration;

use front_support::*;

const GREETING: &[u8] = &[5, 1, 0];

fn connect(address: &[u8], port: u16) -> Vec<u8> {
    [&[5, 1, 0], address, &port.to_be_bytes()].concat()
}

fn named(name: &str) -> Vec<u8> {
    [&[3, u8::try_from(name.len()).expect("a short name")], name.as_bytes()].concat()
}

fn reply(code: u8) -> [u8; 10] {
    [5, code, 0, 1, 0, 0, 0, 0, 0, 0]
}

async fn greeted(front: &Front) -> Client {
    let mut client = Client::of(front).await;
    client.send(GREETING).await;
    assert_eq!(client.exactly(2).await, [5, 0]);
    client
}

#[tokio::test]
async fn connects_by_ipv4_ipv6_and_name() {
    let opener = FakeOpener::to(echo);
    let front = socks5_port(opener.clone(), SOON).await;
    let v6 = [&[4][..], &[0; 15], &[1]].concat();
    for address in [vec![1, 127, 0, 0, 1], v6, named("LLM.example"), named("::1")] {
        let mut client = greeted(&front).await;
        client.send(connect(&address, 443)).await;
        assert_eq!(client.exactly(10).await, reply(0));
        client.send("hello").await;
        client.end().await;
        assert_eq!(client.rest().await, "hello[end]");
    }
    assert_eq!(opener.asked(), ["127.0.0.1:443", "[::1]:443", "LLM.example:443", "[::1]:443"]);
}

#[tokio::test]
async fn replies_only_when_the_tunnel_is_open_and_keeps_what_came_before() {
    let opener = FakeOpener::held(echo);
    let front = socks5_port(opener.clone(), SOON).await;
    let mut client = Client::of(&front).await;
    let ahead = vec![b'x'; 10_000];
    client.send([GREETING, &connect(&named("a.example"), 1), &ahead].concat()).await;
    assert_eq!(client.exactly(2).await, [5, 0]);
    assert!(client.hears_nothing().await);
    opener.let_open();
    assert_eq!(client.exactly(10).await, reply(0));
    client.end().await;
    assert_eq!(client.rest().await.into_bytes(), [&ahead[..], b"[end]"].concat());
}

#[tokio::test]
async fn takes_messages_in_any_pieces() {
    let front = socks5_port(FakeOpener::to(echo), SOON).await;
    let mut client = Client::of(&front).await;
    for byte in [&[5, 3, 2, 1, 0][..], &connect(&named("a.example"), 1)].concat() {
        client.send([byte]).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(client.exactly(2).await, [5, 0]);
    assert_eq!(client.exactly(10).await, reply(0));
}

#[tokio::test]
async fn each_kind_of_error_has_its_code() {
    for (error, code) in [(unknown(), 2), (refused(), 2), (unreachable(), 4), (upstream_refused(), 5), (busy(), 1)] {
        let front = socks5_port(FakeOpener::refusing(error), SOON).await;
        let mut client = greeted(&front).await;
        client.send([connect(&named("a.example"), 1), b"sent ahead".to_vec()].concat()).await;
        // A clean end: what was sent ahead must not reset the reply away.
        assert_eq!(client.rest().await.into_bytes(), reply(code));
    }
}

#[tokio::test]
async fn refuses_what_is_not_connect_without_asking_for_a_tunnel() {
    let opener = FakeOpener::to(echo);
    let front = socks5_port(opener.clone(), SOON).await;
    for (greeting, answer) in [
        (&[4, 1, 0, 80, 127, 0, 0, 1, 0][..], &[0, 0x5B, 0, 0, 0, 0, 0, 0][..]),
        (&[5, 1, 2], &[5, 0xFF]),
        (&[5, 0], &[5, 0xFF]),
        (b"GET / HTTP/1.1\r\n\r\n", &[5, 0xFF]),
        (&[0x16, 3, 1, 2, 0], &[5, 0xFF]),
    ] {
        let mut client = Client::of(&front).await;
        client.send(greeting).await;
        let mut seen = vec![0; answer.len()];
        soon(tokio::io::AsyncReadExt::read_exact(&mut client.stream, &mut seen)).await.unwrap();
        assert_eq!(seen, answer, "{greeting:?}");
    }
    for (request, code) in [
        (vec![5, 2, 0, 1, 127, 0, 0, 1, 0, 80], 7),
        (vec![5, 3, 0, 1, 127, 0, 0, 1, 0, 80], 7),
        (vec![5, 1, 0, 9, 127, 0, 0, 1, 0, 80], 8),
        (vec![5, 1, 1, 1, 127, 0, 0, 1, 0, 80], 1),
        (connect(&[1, 127, 0, 0, 1], 0), 1),
        (connect(&named("a b"), 80), 2),
        (connect(&[3, 0], 80), 2),
    ] {
        let mut client = greeted(&front).await;
        client.send(&request).await;
        assert_eq!(client.exactly(10).await, reply(code), "{request:?}");
    }
    assert_eq!(opener.asked(), [""; 0]);
}

#[tokio::test]
async fn a_negotiation_that_drips_ends_at_its_deadline() {
    let front = socks5_port(FakeOpener::to(echo), Duration::from_millis(200)).await;
    let mut client = greeted(&front).await;
    client.send([5, 1]).await;
    client.until_reset().await;
}

#[tokio::test]
async fn the_negotiations_deadline_is_not_the_tunnels() {
    let front = socks5_port(FakeOpener::to(echo), Duration::from_millis(200)).await;
    let mut client = greeted(&front).await;
    client.send(connect(&named("a.example"), 1)).await;
    client.exactly(10).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    client.send("still here").await;
    client.end().await;
    assert_eq!(client.rest().await, "still here[end]");
}

#[tokio::test]
async fn an_upstream_that_breaks_off_resets_the_application() {
    let front = socks5_port(
        FakeOpener::to(|mut end| async move {
            end.send("half").await;
            end.abort();
        }),
        SOON,
    )
    .await;
    let mut client = greeted(&front).await;
    client.send(connect(&named("a.example"), 1)).await;
    client.until_reset().await;
}

#[tokio::test]
async fn a_client_that_goes_away_is_forgotten() {
    let front = socks5_port(FakeOpener::to(echo), SOON).await;
    drop(greeted(&front).await);
    assert_eq!(soon(front.tasks.drain(SOON)).await, proxy_core::tasks::Drained::Clean);
}
