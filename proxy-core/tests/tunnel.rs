//! One tunnel at the level of its frames: what each side may send when, what an end is and what an abort is, and how much
//! is kept for a peer that does not read (docs/protocol.md, "Frames"; D11, N8 and N10 in names of tests).

#![allow(clippy::unwrap_used)]

mod common;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use common::{Rng, connected, polled, soon};
use proxy_core::framing::{Framed, FramingError};
use proxy_core::tunnel::{Traffic, TunnelEnd, TunnelStream};
use ratls::wire::control::{Accept, Close, CloseCode, Refuse, RefuseCode};
use ratls::wire::frame::{FrameType, encode};
use ratls::wire::limits::{FRAME_HEADER, MAX_DATA};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};

fn traffic() -> Arc<Traffic> {
    Arc::new(Traffic::default())
}

fn accept(number: u64) -> Vec<u8> {
    encode(FrameType::Accept, &Accept { number, max_lifetime_secs: 60 }.encode())
}

/// Both sides of tunnel 0, accepted, over a pipe.
async fn tunnels(pipe: usize) -> (TunnelStream<DuplexStream>, TunnelStream<DuplexStream>) {
    let (near, far) = duplex(pipe);
    let mut client = TunnelStream::opened(Framed::new(near), 0, traffic());
    let mut guest = Framed::new(far);
    let accept = Accept { number: 0, max_lifetime_secs: 60 }.encode();
    let (waited, written) = tokio::join!(client.wait_accepted(), guest.write(FrameType::Accept, &accept));
    waited.unwrap();
    written.unwrap();
    (client, TunnelStream::accepted(guest, traffic()))
}

/// A client's tunnel that gets these bytes, and the end of TCP after them if `ends`.
async fn client_gets(bytes: &[u8], ends: bool) -> (TunnelStream<DuplexStream>, DuplexStream) {
    let (near, mut far) = duplex(1 << 20);
    far.write_all(bytes).await.unwrap();
    if ends {
        far.shutdown().await.unwrap();
    }
    (TunnelStream::opened(Framed::new(near), 0, traffic()), far)
}

/// What a client's tunnel reads of these bytes, until an end or an error.
async fn read_all(bytes: &[u8]) -> (Vec<u8>, io::Result<()>) {
    let (mut tunnel, _far) = client_gets(bytes, true).await;
    let mut seen = vec![];
    let mut buffer = [0; 1000];
    loop {
        match soon(tunnel.read(&mut buffer)).await {
            Ok(0) => return (seen, Ok(())),
            Ok(n) => seen.extend_from_slice(&buffer[..n]),
            Err(error) => return (seen, Err(error)),
        }
    }
}

fn framing_error(error: &io::Error) -> &FramingError {
    error.get_ref().and_then(|inner| inner.downcast_ref()).unwrap_or_else(|| panic!("{error:?}"))
}

#[tokio::test]
async fn a_half_close_ends_one_direction_and_not_the_other() {
    let (mut client, mut guest) = tunnels(64).await;
    let both = async {
        tokio::join!(
            async {
                client.write_all(b"question").await.unwrap();
                client.shutdown().await.unwrap();
                assert_eq!(client.write(b"more").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
                assert!(!client.is_finished());
                let mut seen = String::new();
                client.read_to_string(&mut seen).await.unwrap();
                assert_eq!(seen, "a long answer");
            },
            async {
                let mut seen = String::new();
                guest.read_to_string(&mut seen).await.unwrap();
                assert_eq!(seen, "question");
                assert_eq!(guest.read(&mut [0; 8]).await.unwrap(), 0, "an end stays an end");
                assert!(!guest.is_finished());
                guest.write_all(b"a long answer").await.unwrap();
                guest.shutdown().await.unwrap();
                guest.shutdown().await.unwrap();
            }
        )
    };
    soon(both).await;
    assert!(client.is_finished() && guest.is_finished());
    // The connection is where it was before OPEN, with nothing left over: FIN was sent once.
    let (mut client, mut guest) = (client.into_framed(), guest.into_framed());
    guest.write(FrameType::Notice, b"n").await.unwrap();
    assert_eq!(soon(client.read()).await.unwrap().kind, FrameType::Notice);
}

#[tokio::test]
async fn any_sizes_give_the_same_bytes_and_count_them() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let data = rng.bytes(30_000);
        let (mut client, mut guest) = tunnels(40 + rng.below(500)).await;
        let writer = async {
            let mut rest = &data[..];
            let mut rng = Rng::new(seed + 100);
            while !rest.is_empty() {
                let n = rest.len().min(1 + rng.below(2000));
                client.write_all(&rest[..n]).await.unwrap();
                rest = &rest[n..];
            }
            client.shutdown().await.unwrap();
            client
        };
        let reader = async {
            let mut seen = vec![];
            let mut buffer = vec![0; 1 + rng.below(700)];
            loop {
                let polls = 1 + rng.below(3);
                match dropping!(polls, guest.read(&mut buffer)).unwrap() {
                    0 => return seen,
                    n => seen.extend_from_slice(&buffer[..n]),
                }
            }
        };
        let (client, seen) = soon(async { tokio::join!(writer, reader) }).await;
        assert!(seen == data, "seed {seed}");
        assert!(!client.is_finished());
    }
}

#[tokio::test]
async fn traffic_counts_the_bytes_of_the_application_in_both_directions() {
    let (near, far) = duplex(1 << 20);
    let count = traffic();
    let mut tunnel = TunnelStream::accepted(Framed::new(near), count.clone());
    let mut far = Framed::new(far);
    far.write(FrameType::Data, &[1; 500]).await.unwrap();
    tunnel.read_exact(&mut [0; 500]).await.unwrap();
    tunnel.write_all(&vec![2; MAX_DATA + 1]).await.unwrap();
    assert_eq!((count.received.load(Relaxed), count.sent.load(Relaxed)), (500, MAX_DATA as u64 + 1));
    assert_eq!(soon(far.read()).await.unwrap().body.len(), MAX_DATA);
    assert_eq!(soon(far.read()).await.unwrap().body.len(), 1);
}

#[tokio::test]
async fn nothing_but_fin_is_an_end_of_file() {
    let data = encode(FrameType::Data, b"abc");
    let fin = encode(FrameType::Fin, b"");
    let (seen, end) = read_all(&[&accept(0)[..], &data, &fin].concat()).await;
    assert!(seen == b"abc" && end.is_ok());

    // The end of TCP at every byte before that.
    let whole = [&accept(0)[..], &data, &data, &fin].concat();
    for end in 0..whole.len() {
        let (seen, result) = read_all(&whole[..end]).await;
        let error = result.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted, "after {end} bytes");
        assert!(b"abcabc".starts_with(&seen), "after {end} bytes");
    }

    let close = encode(FrameType::Close, &Close::new(CloseCode::Done, "").encode());
    for before in [&[][..], &data] {
        let (seen, result) = read_all(&[&accept(0)[..], before, &close].concat()).await;
        let error = result.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted, "even where CLOSE says that all is well");
        assert!(
            matches!(error.get_ref().unwrap().downcast_ref(), Some(TunnelEnd::Closed(c)) if c.code == CloseCode::Done)
        );
        assert_eq!(seen.is_empty(), before.is_empty());
    }
}

#[tokio::test]
async fn close_notify_without_fin_is_not_an_end_of_file() {
    let (near, far) = duplex(1 << 16);
    let (mut client, server) = soon(connected(near, far)).await;
    let mut guest = TunnelStream::accepted(Framed::new(server), traffic());
    client.write_all(&encode(FrameType::Data, b"abc")).await.unwrap();
    client.shutdown().await.unwrap();
    let mut seen = [0; 3];
    soon(guest.read_exact(&mut seen)).await.unwrap();
    assert_eq!(soon(guest.read(&mut seen)).await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);

    let (near, far) = duplex(1 << 16);
    let (client, mut server) = soon(connected(near, far)).await;
    let mut client = TunnelStream::opened(Framed::new(client), 0, traffic());
    server.write_all(&accept(0)).await.unwrap();
    server.shutdown().await.unwrap();
    soon(client.wait_accepted()).await.unwrap();
    assert_eq!(soon(client.read(&mut seen)).await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
}

#[tokio::test]
async fn before_accept_the_guest_may_send_accept_refuse_or_close_and_nothing_else() {
    for kind in FrameType::ALL {
        let body = if kind == FrameType::Fin { &b""[..] } else { b"x" };
        let (mut tunnel, _far) = client_gets(&encode(kind, body), false).await;
        let error = soon(tunnel.wait_accepted()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{kind:?}");
        if !matches!(kind, FrameType::Accept | FrameType::Refuse | FrameType::Close) {
            let expected = matches!(framing_error(&error), FramingError::Unexpected { seen, .. } if *seen == kind);
            assert!(expected, "{kind:?}: {error}");
        }
        assert!(!tunnel.is_accepted(), "{kind:?}");
    }
}

#[tokio::test]
async fn after_accept_the_guest_may_send_data_fin_or_close_and_nothing_else() {
    for kind in FrameType::ALL.into_iter().filter(|kind| !matches!(kind, FrameType::Data | FrameType::Fin)) {
        let (seen, result) =
            read_all(&[&accept(0)[..], &encode(FrameType::Data, b"abc"), &encode(kind, b"x")].concat()).await;
        let error = result.unwrap_err();
        assert_eq!((&seen[..], error.kind()), (&b"abc"[..], io::ErrorKind::InvalidData), "{kind:?}");
    }
    let (_, result) = read_all(&[accept(0), accept(0)].concat()).await;
    let error = result.unwrap_err();
    assert!(
        matches!(framing_error(&error), FramingError::Unexpected { seen: FrameType::Accept, .. }),
        "a second ACCEPT"
    );
}

#[tokio::test]
async fn an_accept_for_another_tunnel_is_refused() {
    let (mut tunnel, _far) = client_gets(&accept(1), false).await;
    let error = soon(tunnel.wait_accepted()).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::InvalidData, "ACCEPT for tunnel 1".to_owned()));
}

#[tokio::test]
async fn a_refuse_comes_with_its_code_and_leaves_the_connection() {
    let refuse = Refuse { number: 0, code: RefuseCode::UpstreamRefused, text: "no".into() };
    let (mut tunnel, mut far) = client_gets(&encode(FrameType::Refuse, &refuse.encode()), false).await;
    let error = soon(tunnel.wait_accepted()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(matches!(error.get_ref().unwrap().downcast_ref(), Some(TunnelEnd::Refused(seen)) if *seen == refuse));
    let mut framed = soon(tunnel.into_framed_after_drain()).await.unwrap();
    far.write_all(&encode(FrameType::Notice, b"n")).await.unwrap();
    assert_eq!(soon(framed.read()).await.unwrap().kind, FrameType::Notice);
}

#[tokio::test]
async fn proto_n8_unknown_frames_below_0x80_end_a_tunnel_and_n10_others_are_skipped() {
    for kind in [0x00, 0x0E, 0x7F] {
        let (_, result) = read_all(&[&accept(0)[..], &[kind, 0, 0, 1, 0]].concat()).await;
        assert!(matches!(framing_error(&result.unwrap_err()), FramingError::Frame(_)), "0x{kind:02x}");
    }
    let strange = [&[0x80, 0, 0, 0, 0xFF, 0, 1, 0][..], &[7; 256]].concat();
    let (data, fin) = (encode(FrameType::Data, b"abc"), encode(FrameType::Fin, b""));
    let all = [&strange[..], &accept(0), &strange, &data, &strange, &data, &strange, &fin].concat();
    let (seen, result) = read_all(&all).await;
    result.unwrap();
    assert_eq!(seen, b"abcabc");
    // Not without end: between two other frames they are bounded.
    let (seen, result) = read_all(&[&accept(0)[..], &data, &strange.repeat(300), &fin].concat()).await;
    assert!(matches!(framing_error(&result.unwrap_err()), FramingError::Frame(_)));
    assert_eq!(seen, b"abc");
}

#[tokio::test]
async fn proto_d1_data_of_no_or_too_many_bytes_is_refused_on_its_header() {
    for length in [0, MAX_DATA as u32 + 1, (1 << 24) - 1] {
        let [_, a, b, c] = length.to_be_bytes();
        let (seen, result) = read_all(&[&accept(0)[..], &[0x08, a, b, c]].concat()).await;
        assert!(matches!(framing_error(&result.unwrap_err()), FramingError::Frame(_)), "{length}");
        assert!(seen.is_empty());
    }
    let (_, result) = read_all(&[&accept(0)[..], &[0x09, 0, 0, 1, 0]].concat()).await;
    assert!(matches!(framing_error(&result.unwrap_err()), FramingError::Frame(_)), "a FIN with a body");
}

#[tokio::test]
async fn data_after_fin_is_never_read_as_part_of_the_tunnel() {
    let fin = encode(FrameType::Fin, b"");
    for late in [encode(FrameType::Data, b"late"), fin.clone()] {
        let bytes = [&accept(0)[..], &encode(FrameType::Data, b"abc"), &fin, &late].concat();
        let (mut tunnel, _far) = client_gets(&bytes, false).await;
        let mut seen = vec![];
        soon(tunnel.read_to_end(&mut seen)).await.unwrap();
        assert_eq!(seen, b"abc");
        assert_eq!(soon(tunnel.read(&mut [0; 8])).await.unwrap(), 0);
        // Ending our direction well would hide that the far side broke the protocol.
        let error = tunnel.shutdown().await.unwrap_err();
        assert!(matches!(framing_error(&error), FramingError::Unexpected { .. }), "{error}");
    }
}

/// Writes until nothing more is taken; gives how much was.
async fn write_until_stopped(io: &mut (impl AsyncWrite + Unpin), pattern: &mut Rng) -> Vec<u8> {
    let mut taken = vec![];
    loop {
        let chunk = pattern.bytes(10_000);
        match polled(std::pin::pin!(io.write(&chunk)), 10).await {
            Some(n) => taken.extend_from_slice(&chunk[..n.unwrap()]),
            None => return taken,
        }
        assert!(taken.len() < 10_000_000, "nothing stops the writer");
    }
}

#[tokio::test]
async fn proto_d11_data_before_accept_is_bounded_and_arrives_after_it() {
    let (near, far) = duplex(4096);
    let mut client = TunnelStream::opened(Framed::new(near), 0, traffic());
    let sent = write_until_stopped(&mut client, &mut Rng::new(1)).await;
    assert!(sent.len() <= 4096 + MAX_DATA, "{} bytes are kept", sent.len());

    let mut guest = Framed::new(far);
    guest.write(FrameType::Accept, &Accept { number: 0, max_lifetime_secs: 60 }.encode()).await.unwrap();
    let mut guest = TunnelStream::accepted(guest, traffic());
    let finish = async {
        client.wait_accepted().await.unwrap();
        client.shutdown().await.unwrap();
    };
    let mut seen = vec![];
    let (_, read) = soon(async { tokio::join!(finish, guest.read_to_end(&mut seen)) }).await;
    read.unwrap();
    assert!(seen == sent);
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_writer_through_tls() {
    const PIPE: usize = 4096;
    // What rustls and the driver may hold beside the frame that is on its way; records add a little.
    const TLS: usize = 64 * 1024 + 2048;
    let (near, far) = duplex(PIPE);
    let (client, server) = soon(connected(near, far)).await;
    let mut client = TunnelStream::accepted(Framed::new(client), traffic());
    let mut guest = TunnelStream::accepted(Framed::new(server), traffic());
    for _ in 0..2 {
        let (up, down) = (
            write_until_stopped(&mut client, &mut Rng::new(2)).await,
            write_until_stopped(&mut guest, &mut Rng::new(3)).await,
        );
        for sent in [&up, &down] {
            assert!(sent.len() > PIPE / 2 && sent.len() <= PIPE + TLS + MAX_DATA, "{} bytes are kept", sent.len());
        }
        // Nothing was lost by stopping, and the writers go on when the readers do.
        let (mut at_guest, mut at_client) = (vec![0; up.len()], vec![0; down.len()]);
        let (mut client_reads, mut client_writes) = tokio::io::split(client);
        let (mut guest_reads, mut guest_writes) = tokio::io::split(guest);
        let all = async {
            tokio::join!(
                client_writes.flush(),
                guest_writes.flush(),
                guest_reads.read_exact(&mut at_guest),
                client_reads.read_exact(&mut at_client)
            )
        };
        let results = soon(all).await;
        results.0.unwrap();
        results.1.unwrap();
        results.2.unwrap();
        results.3.unwrap();
        assert!(at_guest == up && at_client == down);
        client = client_reads.unsplit(client_writes);
        guest = guest_reads.unsplit(guest_writes);
    }
}

#[tokio::test]
async fn another_frame_follows_only_a_whole_data_frame() {
    let (near, far) = duplex(100);
    let mut tunnel = TunnelStream::accepted(Framed::new(near), traffic());
    tunnel.write_all(&[7; 5000]).await.unwrap();
    let closer = async {
        let framed = tunnel.into_framed_after_drain().await.unwrap();
        framed.close(&Close::new(CloseCode::Abort, "")).await;
    };
    let reader = async {
        let mut framed = Framed::new(far);
        let frame = framed.read().await.unwrap();
        assert_eq!((frame.kind, &frame.body[..]), (FrameType::Data, &[7; 5000][..]));
        assert!(matches!(framed.read().await, Err(FramingError::Closed(close)) if close.code == CloseCode::Abort));
    };
    soon(async { tokio::join!(closer, reader) }).await;
}

#[tokio::test]
async fn a_write_is_cut_into_frames_of_the_allowed_size() {
    let (near, mut far) = duplex(1 << 20);
    let mut tunnel = TunnelStream::accepted(Framed::new(near), traffic());
    let data = Rng::new(4).bytes(2 * MAX_DATA + 10);
    tunnel.write_all(&data).await.unwrap();
    tunnel.flush().await.unwrap();
    for n in [MAX_DATA, MAX_DATA, 10] {
        let mut frame = vec![0; FRAME_HEADER + n];
        soon(far.read_exact(&mut frame)).await.unwrap();
        assert_eq!(frame[..4], [0x08, 0, (n >> 8) as u8, n as u8]);
    }
}
