//! The ways in over bytes in memory, for fuzz targets: whatever a client sends, each ends by itself and does not panic.
//!
//! The opener behind them knows one name, `echo.example`, whose upstream sends back what it gets; every other name is
//! refused as unknown.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proxy_core::net::{LocalStream, Peer};
use ratls::appraise::{AttestationResult, Finding};
use ratls::time::UnixTime;
use ratls::verify::Channel;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::UnixStream;

use super::http::{Deadlines, HttpProxy};
use crate::open::{BoxFuture, OpenError, Opened, Opener, Said, Tunnel};

const NEGOTIATION: Duration = Duration::from_secs(5);
/// Above every wait of the front ends for a client that has sent everything and closed.
const HANG: Duration = Duration::from_secs(20);

/// What the HTTP proxy answers to a client that sends `bytes` and closes its side.
pub fn http_front_end_over(bytes: &[u8]) -> Vec<u8> {
    let deadlines =
        Deadlines { request_head: NEGOTIATION, keep_alive: NEGOTIATION, idle: Some(NEGOTIATION), lifetime: Some(HANG) };
    let proxy = Arc::new(HttpProxy {
        opener: Arc::new(EchoOrUnknown),
        deadlines,
        max_head_bytes: 16 * 1024,
        add_verdict_headers: true,
    });
    over(bytes, |local| super::http::serve(proxy, local, Peer::Unix, std::future::pending()))
}

/// What the SOCKS5 port answers to a client that sends `bytes` and closes its side.
pub fn socks5_front_end_over(bytes: &[u8]) -> Vec<u8> {
    over(bytes, |local| super::socks5::serve(Arc::new(EchoOrUnknown), NEGOTIATION, local, Peer::Unix))
}

fn over<Served: Future<Output = ()>>(bytes: &[u8], serve: impl FnOnce(LocalStream) -> Served) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime of one thread");
    runtime.block_on(async {
        let (client, local) = UnixStream::pair().expect("a pair of sockets");
        let (mut from_server, mut to_server) = client.into_split();
        let send = async {
            // The server may have closed: that is its right.
            let _ = to_server.write_all(bytes).await;
            let _ = to_server.shutdown().await;
        };
        let mut answer = Vec::new();
        let receive = async {
            let _ = from_server.read_to_end(&mut answer).await;
        };
        let all = async { tokio::join!(serve(LocalStream::from(local)), send, receive) };
        tokio::time::timeout(HANG, all).await.expect("the front end ends when its client has");
        answer
    })
}

struct EchoOrUnknown;

impl Opener for EchoOrUnknown {
    fn open<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Opened, OpenError>> {
        let opened = if name.starts_with("echo.example:") {
            Ok(Opened { tunnel: Box::new(Echo::default()), said: Arc::new(Said::of(&nothing_proven())) })
        } else {
            Err(OpenError::UnknownName { name: name.to_owned() })
        };
        Box::pin(std::future::ready(opened))
    }
}

/// A result that accepts nothing, since nothing was attested here.
fn nothing_proven() -> AttestationResult {
    let finding = Finding::of_verification(ratls::findings::EndorsementCheck::Missing, &io::Error::other("no guest"));
    AttestationResult::refusal(finding, Channel::None, None, UnixTime::from_secs(0))
}

/// An upstream that sends back what it gets, and ends when its client does.
#[derive(Default)]
struct Echo {
    bytes: VecDeque<u8>,
    ended: bool,
    reader: Option<Waker>,
}

impl AsyncRead for Echo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.bytes.is_empty() && !self.ended {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let (front, _) = self.bytes.as_slices();
        let n = front.len().min(buffer.remaining());
        buffer.put_slice(&front[..n]);
        self.bytes.drain(..n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Echo {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.bytes.extend(bytes);
        self.wake();
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ended = true;
        self.wake();
        Poll::Ready(Ok(()))
    }
}

impl Echo {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Tunnel for Echo {
    fn relay(mut self: Box<Self>, mut local: LocalStream) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(async move {
            tokio::io::copy_bidirectional(&mut self, &mut local).await?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_echo_is_reached_both_ways() {
        let answer = http_front_end_over(b"CONNECT echo.example:1 HTTP/1.1\r\nHost: x\r\n\r\nping");
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(b"\r\n\r\nping"), "{answer:?}");
        let mut request = b"\x05\x01\x00\x05\x01\x00\x03\x0cecho.example\x00\x01".to_vec();
        request.extend_from_slice(b"ping");
        assert_eq!(socks5_front_end_over(&request), b"\x05\x00\x05\x00\x00\x01\0\0\0\0\0\0ping");
    }

    #[test]
    fn ends_on_whatever_is_sent() {
        for bytes in [
            &b""[..],
            b"\x00",
            b"\x05",
            b"\x05\x01",
            b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET http://echo.example/ HTTP/1.1\r\n\r\n",
            b"GET http://other.example/ HTTP/1.0\r\n\r\nGET http://other.example/ HTTP/1.1\r\n\r\n",
            b"POST http://echo.example/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
            b"POST http://echo.example/ HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        ] {
            let http = http_front_end_over(bytes);
            assert!(!http.starts_with(b"HTTP/1.1 200"), "{bytes:?}");
            assert_ne!(socks5_front_end_over(bytes).get(..2), Some(&b"\x05\x00"[..]), "{bytes:?}");
        }
    }
}
