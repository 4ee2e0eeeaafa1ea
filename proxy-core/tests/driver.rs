//! The server's TLS driver and the frames over it, under everything that a network and a caller can do to them: futures
//! dropped at every await, pipes of a few bytes, any chunking, key updates.

#![allow(clippy::unwrap_used)]

mod common;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use common::{Identity, Rng, connected, polled, serve, soon, stream_client, tls_error};
use proxy_core::framing::{Framed, FramingError};
use proxy_core::tls::{Hello, client_config};
use ratls::binding::Bind32;
use ratls::wire::control::{Close, CloseCode};
use ratls::wire::frame::FrameType;
use rustls::{Error, PeerMisbehaved};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, duplex};

/// Takes and gives a few bytes at a time, and is often not ready.
struct Choppy<IO> {
    io: IO,
    rng: Rng,
}

impl<IO> Choppy<IO> {
    fn new(io: IO, seed: u64) -> Self {
        Choppy { io, rng: Rng::new(seed) }
    }

    fn is_ready(&mut self, cx: &mut Context<'_>) -> bool {
        let ready = self.rng.below(3) > 0;
        if !ready {
            cx.waker().wake_by_ref();
        }
        ready
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Choppy<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.is_ready(cx) {
            return Poll::Pending;
        }
        let n = 1 + self.rng.below(60);
        let mut some = buf.take(n);
        let result = Pin::new(&mut self.io).poll_read(cx, &mut some);
        let filled = some.filled().to_vec();
        buf.put_slice(&filled);
        result
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Choppy<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !self.is_ready(cx) {
            return Poll::Pending;
        }
        let n = buf.len().min(1 + self.rng.below(60));
        Pin::new(&mut self.io).poll_write(cx, &buf[..n])
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_ready(cx) {
            return Poll::Pending;
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Our client: sends `data`, closes its side, and gives its bind32 and what came back.
async fn send_and_collect(io: impl AsyncRead + AsyncWrite + Unpin, data: &[u8]) -> (Bind32, Vec<u8>) {
    let tls = stream_client(client_config(None).unwrap(), io).await.unwrap();
    let bind =
        tls.get_ref().1.export_keying_material([0; 32], ratls::binding::exporter::BIND_LABEL, Some(b"")).unwrap();
    let (mut reader, mut writer) = tokio::io::split(tls);
    let write = async {
        writer.write_all(data).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut seen = vec![];
    let (_, read) = tokio::join!(write, reader.read_to_end(&mut seen));
    read.unwrap();
    (Bind32::from_exporter(bind), seen)
}

#[tokio::test]
async fn every_future_of_the_server_may_be_dropped_at_every_await() {
    let config = Identity::new().evident();
    for pipe in [1, 2, 3, 7, 16, 17, 4096] {
        for polls in 1..=3 {
            let data = Rng::new(pipe as u64).bytes(1000);
            let (near, far) = duplex(pipe);
            let server = async {
                let mut tls = Hello::read(far).await.unwrap().start(&config).unwrap();
                let secret = dropping!(polls, tls.first_flight()).unwrap();
                dropping!(polls, tls.finish_handshake()).unwrap();
                let mut buffer = [0; 100];
                loop {
                    let n = dropping!(polls, tls.read(&mut buffer)).unwrap();
                    if n == 0 {
                        break;
                    }
                    let mut rest = &buffer[..n];
                    while !rest.is_empty() {
                        let n = dropping!(polls, tls.write(rest)).unwrap();
                        rest = &rest[n..];
                    }
                    dropping!(polls, tls.flush()).unwrap();
                }
                dropping!(polls, tls.shutdown()).unwrap();
                secret.bind_initial()
            };
            let ((at_client, seen), at_server) =
                soon(async { tokio::join!(send_and_collect(near, &data), server) }).await;
            assert!(at_client == at_server, "pipe of {pipe}, {polls} polls");
            assert!(seen == data, "pipe of {pipe}, {polls} polls: {} bytes", seen.len());
        }
    }
}

#[tokio::test]
async fn any_chunking_gives_the_same_bytes() {
    let config = Identity::new().evident();
    for seed in 0..40 {
        let mut rng = Rng::new(seed);
        let n = rng.below(40_000);
        let data = rng.bytes(n);
        let (near, far) = duplex(1 + rng.below(17) * rng.below(200));
        let (near, far) = (Choppy::new(near, seed + 1000), Choppy::new(far, seed + 2000));
        let server = async {
            let mut tls = serve(far, &config).await.unwrap();
            let mut buffer = vec![0; 1 + rng.below(9_000)];
            loop {
                match tls.read(&mut buffer).await.unwrap() {
                    0 => break,
                    n => tls.write_all(&buffer[..n]).await.unwrap(),
                }
                if rng.below(2) == 0 {
                    tls.flush().await.unwrap();
                }
            }
            tls.shutdown().await.unwrap();
        };
        let ((_, seen), ()) = soon(async { tokio::join!(send_and_collect(near, &data), server) }).await;
        assert!(seen == data, "seed {seed}: {} of {} bytes", seen.len(), data.len());
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_before_its_finished_is_out_does_not_hang_the_server() {
    // The pipe towards the client is full of half-RTT data, the pipe from it too narrow for its Finished.
    let config = Identity::new().evident();
    let (server_out, client_in) = duplex(2048);
    let (client_out, server_in) = duplex(16);
    let server = async {
        let mut tls = Hello::read(tokio::io::join(server_in, server_out)).await.unwrap().start(&config).unwrap();
        tls.first_flight().await.unwrap();
        let mut early = 0;
        while let Some(n) = polled(std::pin::pin!(tls.write(&[7; 1000])), 3).await {
            early += n.unwrap();
        }
        tls.finish_handshake().await.unwrap();
        tls.shutdown().await.unwrap();
        (tls, early)
    };
    let client = async {
        let pipes = tokio::io::join(client_in, client_out);
        let mut tls = stream_client(client_config(None).unwrap(), pipes).await.unwrap();
        let mut seen = vec![];
        tls.read_to_end(&mut seen).await.unwrap();
        seen
    };
    let ((_tls, early), seen) = soon(async { tokio::join!(server, client) }).await;
    assert_eq!(seen, vec![7; early]);
}

/// A frame of a kind and size that `seed` says; its first bytes are the number of the frame.
fn some_frame(number: u32, rng: &mut Rng) -> (FrameType, Vec<u8>) {
    let kind = [FrameType::Data, FrameType::Part, FrameType::Attest, FrameType::Want][rng.below(4)];
    let mut body = number.to_be_bytes().to_vec();
    let n = rng.below(400);
    body.extend(rng.bytes(n));
    (kind, body)
}

#[tokio::test]
async fn reading_frames_may_be_dropped_at_every_await() {
    for (seed, polls) in [(1, 1), (2, 2), (3, 3), (4, 7)] {
        let mut rng = Rng::new(seed);
        let frames: Vec<_> = (0..50).map(|number| some_frame(number, &mut rng)).collect();
        let (near, far) = duplex(1 + rng.below(17));
        let writer = async {
            let mut framed = Framed::new(Choppy::new(far, seed));
            for (kind, body) in &frames {
                framed.write(*kind, body).await.unwrap();
            }
        };
        let reader = async {
            let mut framed = Framed::new(Choppy::new(near, seed + 10));
            for (kind, body) in &frames {
                let frame = dropping!(polls, framed.read()).unwrap();
                assert!(frame.kind == *kind && frame.body == body[..], "seed {seed}");
            }
        };
        soon(async { tokio::join!(writer, reader) }).await;
    }
}

#[tokio::test]
async fn a_dropped_write_leaves_a_whole_frame_or_none() {
    for seed in 0..30 {
        let mut rng = Rng::new(seed);
        let frames: Vec<_> = (0..60).map(|number| some_frame(number, &mut rng)).collect();
        let (near, far) = duplex(1 + rng.below(300));
        let writer = async {
            let mut framed = Framed::new(far);
            let mut written = vec![];
            for (kind, body) in &frames {
                let polls = rng.below(4);
                if polled(std::pin::pin!(framed.write(*kind, body)), polls).await.is_some() {
                    written.push(body.clone());
                }
            }
            framed.write(FrameType::Fin, &[]).await.unwrap();
            written
        };
        let reader = async {
            let mut framed = Framed::new(Choppy::new(near, seed));
            let mut seen = vec![];
            loop {
                let frame = framed.read().await.unwrap();
                if frame.kind == FrameType::Fin {
                    return seen;
                }
                assert!(frames.iter().any(|(kind, body)| frame.kind == *kind && frame.body == body[..]), "seed {seed}");
                seen.push(frame.body.to_vec());
            }
        };
        let (written, seen) = soon(async { tokio::join!(writer, reader) }).await;
        assert!(seen.is_sorted() && seen.windows(2).all(|two| two[0] != two[1]), "in order, once: seed {seed}");
        assert!(written.iter().all(|body| seen.contains(body)), "what was written arrived: seed {seed}");
        assert!(seen.len() < frames.len() || seed > 0, "some write was dropped before it began");
    }
}

#[tokio::test]
async fn close_follows_a_dropped_write_whole() {
    let (near, far) = duplex(16);
    let mut framed = Framed::new(far);
    assert!(polled(std::pin::pin!(framed.write(FrameType::Part, &[9; 1000])), 2).await.is_none());
    let reader = async {
        let mut framed = Framed::new(near);
        assert_eq!(framed.read().await.unwrap().body, [9; 1000][..]);
        assert!(matches!(framed.read().await, Err(FramingError::Closed(close)) if close.code == CloseCode::Deadline));
    };
    soon(async { tokio::join!(framed.close_owned(Close::new(CloseCode::Deadline, "")), reader) }).await;
}

#[tokio::test]
async fn key_updates_of_the_client_during_a_transfer_change_nothing() {
    let (near, far) = duplex(1000);
    let (mut client, server) = soon(connected(near, far)).await;
    let echo = async {
        let (mut reader, mut writer) = tokio::io::split(server);
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let client = async {
        let mut rng = Rng::new(5);
        for round in 0..100 {
            if round % 3 > 0 {
                client.get_mut().1.refresh_traffic_keys().unwrap();
            }
            let n = 1 + rng.below(500);
            let data = rng.bytes(n);
            client.write_all(&data).await.unwrap();
            client.flush().await.unwrap();
            let mut back = vec![0; data.len()];
            client.read_exact(&mut back).await.unwrap();
            assert!(back == data, "round {round}");
        }
        client.shutdown().await.unwrap();
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    };
    soon(async { tokio::join!(echo, client) }).await;
}

#[tokio::test]
async fn a_flood_of_key_updates_ends_the_connection() {
    let (near, far) = duplex(1 << 20);
    let (mut client, mut server) = soon(connected(near, far)).await;
    for _ in 0..1000 {
        client.get_mut().1.refresh_traffic_keys().unwrap();
        client.flush().await.unwrap();
    }
    let error = soon(server.read(&mut [0; 8])).await.unwrap_err();
    assert_eq!(*tls_error(&error), Error::PeerMisbehaved(PeerMisbehaved::TooManyKeyUpdateRequests));
    drop(server);
    assert_eq!(soon(client.read(&mut [0; 8])).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}
