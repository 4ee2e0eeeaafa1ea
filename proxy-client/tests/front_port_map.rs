//! `--listen`: raw bytes to the one guest.

mod front_support;

use front_support::*;
use proxy_core::net::Addr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

#[tokio::test]
async fn carries_bytes_over_tcp_on_both_families() {
    for addr in ["127.0.0.1:0", "[::1]:0"] {
        let front = mapped_port(FakeOpener::to(echo), addr.parse().unwrap()).await;
        let mut client = Client::of(&front).await;
        client.send("GET / HTTP/1.1\r\n\r\n").await;
        client.end().await;
        assert_eq!(client.rest().await, "GET / HTTP/1.1\r\n\r\n[end]");
    }
}

#[tokio::test]
async fn carries_bytes_over_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("guest");
    let _front = mapped_port(FakeOpener::to(echo), Addr::Unix(path.clone())).await;
    let mut client = UnixStream::connect(path).await.unwrap();
    client.write_all(b"hello").await.unwrap();
    client.shutdown().await.unwrap();
    let mut seen = Vec::new();
    soon(client.read_to_end(&mut seen)).await.unwrap();
    assert_eq!(seen, b"hello[end]");
}

#[tokio::test]
async fn the_upstream_may_speak_first() {
    let front = mapped_port(
        FakeOpener::to(|mut end| async move {
            end.send("220 ready\r\n").await;
            echo(end).await;
        }),
        Addr::loopback(0),
    )
    .await;
    let mut client = Client::of(&front).await;
    client.until(b"220 ready\r\n").await;
    client.end().await;
    assert_eq!(client.rest().await, "[end]");
}

#[tokio::test]
async fn a_refusal_is_a_reset_and_no_byte() {
    for error in [refused(), unreachable(), busy(), upstream_refused()] {
        let front = mapped_port(FakeOpener::refusing(error), Addr::loopback(0)).await;
        let mut client = Client::of(&front).await;
        assert_eq!(client.until_reset().await, "");
    }
}

#[tokio::test]
async fn an_upstream_that_breaks_off_resets_the_application() {
    let front = mapped_port(
        FakeOpener::to(|mut end| async move {
            end.send("half").await;
            end.abort();
        }),
        Addr::loopback(0),
    )
    .await;
    Client::of(&front).await.until_reset().await;
}

#[tokio::test]
async fn a_drain_stops_accepting_and_lets_tunnels_finish() {
    let front = mapped_port(FakeOpener::to(echo), Addr::loopback(0)).await;
    let mut client = Client::of(&front).await;
    client.send("one").await;
    assert_eq!(client.exactly(3).await, b"one");
    front.tasks.begin_drain();
    tokio::time::sleep(A_WHILE).await;
    let Addr::Tcp(tcp) = &front.addr else { panic!("a TCP port") };
    assert!(tokio::net::TcpStream::connect(tcp.to_string()).await.is_err());
    client.send("two").await;
    client.end().await;
    assert_eq!(client.rest().await, "two[end]");
}
