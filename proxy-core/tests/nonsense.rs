//! Peers that are slow, show monstrous certificates, or talk nonsense: each is refused in time, in bounded memory, and
//! without a panic (docs/protocol.md, test catalogue, D3 and D4). Deadlines are the callers'; what is shown here is that a
//! future which is dropped at one takes the connection along.

#![allow(clippy::unwrap_used)]

mod common;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use common::{Identity, Rng, connected, foreign_server, name, serve, serve_first_flight, soon, tls_error};
use proxy_core::framing::Framed;
use proxy_core::tls::{HandshakeError, Hello, ServerTls, client_config, connect};
use ratls::wire::ALPN;
use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// The first bytes of our client.
async fn client_hello() -> Vec<u8> {
    let (near, mut far) = duplex(64 * 1024);
    let client = tokio::spawn(connect(Arc::new(client_config(None).unwrap()), name(), near));
    let mut bytes = vec![0; 16 * 1024];
    let n = far.read(&mut bytes).await.unwrap();
    bytes.truncate(n);
    drop(far);
    assert!(client.await.unwrap().is_err());
    bytes
}

/// Writes one byte a second until the other side is gone.
async fn dribble(mut io: impl AsyncWrite + Unpin, bytes: Vec<u8>) -> usize {
    for (sent, byte) in bytes.iter().enumerate() {
        if io.write_all(&[*byte]).await.is_err() || io.flush().await.is_err() {
            return sent;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    bytes.len()
}

#[tokio::test(start_paused = true)]
async fn proto_d3_a_slow_client_hello_ends_at_the_deadline() {
    let (near, far) = duplex(1 << 16);
    let client = tokio::spawn(dribble(near, client_hello().await));
    assert!(timeout(Duration::from_secs(10), Hello::read(far)).await.is_err());
    assert!(client.await.unwrap() <= 11, "the socket went with the future");
}

#[tokio::test(start_paused = true)]
async fn proto_d3_a_client_that_never_finishes_ends_at_the_deadline() {
    let config = Identity::new().evident();
    let (mut near, far) = duplex(1 << 16);
    near.write_all(&client_hello().await).await.unwrap();
    let (mut tls, _) = serve_first_flight(far, &config).await.unwrap();
    let client = tokio::spawn(dribble(near, vec![23, 3, 3, 0x40, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]));
    assert!(timeout(Duration::from_secs(10), tls.finish_handshake()).await.is_err());
    drop(tls);
    assert!(client.await.unwrap() <= 12);
}

#[tokio::test(start_paused = true)]
async fn proto_d3_a_slow_attest_ends_at_the_deadline() {
    let (near, far) = duplex(1 << 16);
    let (client, mut server) = connected(near, far).await;
    let mut framed = Framed::new(client);
    let started = tokio::time::Instant::now();
    let server = tokio::spawn(async move {
        server.write_all(&[0x01, 0, 0xC0, 0]).await.unwrap();
        dribble(server, vec![0; 200]).await
    });
    assert!(timeout(Duration::from_secs(10), framed.read()).await.is_err());
    assert_eq!(started.elapsed().as_secs(), 10);
    drop(framed);
    assert!(server.await.unwrap() <= 12);
}

#[tokio::test]
async fn proto_d3_a_client_hello_without_end_is_refused_at_its_length() {
    let (mut near, far) = duplex(1 << 16);
    // A handshake record whose ClientHello announces 16 MiB - 1.
    near.write_all(&[22, 3, 1, 0, 4, 1, 0xFF, 0xFF, 0xFF]).await.unwrap();
    let error = soon(Hello::read(far)).await.err().unwrap();
    assert!(matches!(tls_error(&error), Error::InvalidMessage(_)), "{error:?}");
    // rustls has no alert for that; the socket is closed.
    assert_eq!(near.read(&mut [0; 8]).await.unwrap(), 0);
}

fn extension(content: Vec<u8>) -> rcgen::CustomExtension {
    rcgen::CustomExtension::from_oid_content(&[2, 25, 1, 2, 3], content)
}

/// `depth` SEQUENCEs, each in the one before.
fn nested(depth: usize) -> Vec<u8> {
    let mut der = vec![5, 0];
    for _ in 0..depth {
        let n = der.len();
        let length = match n {
            0..=127 => vec![n as u8],
            _ => vec![0x82, (n >> 8) as u8, n as u8],
        };
        der = [&[0x30], &length[..], &der].concat();
    }
    der
}

/// What our client makes of a server that shows `certificate`, signed for by the right key.
async fn shown(identity: &Identity, certificate: CertificateDer<'static>) -> Result<usize, HandshakeError> {
    let mut server = foreign_server(identity.certified(vec![certificate]), &[ALPN]);
    server.send_tls13_tickets = 0;
    let (near, far) = duplex(1 << 20);
    let server = async {
        let mut tls = TlsAcceptor::from(Arc::new(server)).accept(far).await?;
        tls.read_u8().await
    };
    let client = async {
        let handshake = connect(Arc::new(client_config(None).unwrap()), name(), near).await?;
        Ok(handshake.leaf_certificate.len())
    };
    let (client, server) = soon(async { tokio::join!(client, server) }).await;
    let error = server.unwrap_err();
    let told = matches!(error.get_ref().and_then(|e| e.downcast_ref()), Some(Error::AlertReceived(_)));
    assert!(told || error.kind() == io::ErrorKind::UnexpectedEof, "{error:?}");
    client
}

#[tokio::test]
async fn proto_d4_a_certificate_of_65_kb_is_refused() {
    for size in [65_200, 70_000, 200_000] {
        let large = Identity::with_extensions(vec![extension(vec![4; size])]);
        let error = shown(&large, large.certificate.clone()).await.unwrap_err();
        assert!(matches!(error, HandshakeError::NotEvident(_) | HandshakeError::Tls(_)), "{size}: {error}");
    }
}

#[tokio::test]
async fn proto_d4_nested_der_is_refused_or_not_looked_at() {
    // As a certificate, and as the start of one.
    let identity = Identity::new();
    for depth in [1, 100, 10_000] {
        for der in [nested(depth), [nested(depth), identity.certificate.to_vec()].concat()] {
            let Err(HandshakeError::Tls(error)) = shown(&identity, CertificateDer::from(der)).await else {
                panic!("depth {depth}")
            };
            assert_eq!(*tls_error(&error), Error::InvalidCertificate(CertificateError::BadEncoding), "depth {depth}");
        }
    }
    // In an extension that nobody here reads: TLS does not mind, and `ratls` reads what it knows.
    let deep = Identity::with_extensions(vec![extension(nested(10_000))]);
    assert_eq!(shown(&deep, deep.certificate.clone()).await.unwrap(), deep.certificate.len());
}

#[tokio::test]
async fn proto_d4_certificates_that_are_cut_or_longer_are_refused() {
    let identity = Identity::new();
    let whole = identity.certificate.to_vec();
    assert!(shown(&identity, identity.certificate.clone()).await.is_ok());
    for n in (0..whole.len()).step_by(17) {
        assert!(shown(&identity, CertificateDer::from(whole[..n].to_vec())).await.is_err(), "{n} bytes");
    }
    assert!(shown(&identity, CertificateDer::from([&whole[..], &[0]].concat())).await.is_err());
}

/// Replaces the TLS of one end by its bare pipe, after the handshake.
async fn bare_client() -> (DuplexStream, ServerTls<DuplexStream>) {
    let (near, far) = duplex(1 << 16);
    let (client, server) = connected(near, far).await;
    (client.into_inner().0, server)
}

#[tokio::test]
async fn garbage_after_the_handshake_ends_the_connection_on_both_ends() {
    for seed in 0..50 {
        let mut rng = Rng::new(seed);
        let (mut client, mut server) = bare_client().await;
        // A record that does not decrypt, and from the second half on, bytes that are no record.
        let junk = if seed < 25 {
            let n = 17 + rng.below(300);
            [&[23, 3, 3, (n >> 8) as u8, n as u8][..], &rng.bytes(n)].concat()
        } else {
            [vec![0x47], rng.bytes(64)].concat()
        };
        client.write_all(&junk).await.unwrap();
        let error = soon(server.read(&mut [0; 8])).await.unwrap_err();
        assert!(matches!(tls_error(&error), Error::DecryptError | Error::InvalidMessage(_)), "seed {seed}: {error:?}");
        assert!(server.read(&mut [0; 8]).await.is_err(), "it stays so");
        let mut alert = [0; 64];
        let n = soon(client.read(&mut alert)).await.unwrap();
        assert!(n > 5 && alert[0] == 23, "an encrypted alert: {:?}", &alert[..n]);
    }
}

#[tokio::test]
async fn an_end_of_tcp_without_close_notify_is_an_error_and_close_notify_is_not() {
    let (client, mut server) = bare_client().await;
    drop(client);
    assert_eq!(soon(server.read(&mut [0; 8])).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);

    let (near, far) = duplex(1 << 16);
    let (mut client, mut server) = connected(near, far).await;
    client.shutdown().await.unwrap();
    assert_eq!(soon(server.read(&mut [0; 8])).await.unwrap(), 0);
    server.write_all(b"still").await.unwrap();
    server.shutdown().await.unwrap();
    let mut seen = vec![];
    client.read_to_end(&mut seen).await.unwrap();
    assert_eq!(seen, b"still");
}

/// Gives the server these bytes and then the end. It may not finish a handshake, and may not panic.
async fn feed(bytes: &[u8], config: &ServerConfig) -> io::Error {
    let (mut near, far) = duplex(1 << 18);
    near.write_all(bytes).await.unwrap();
    near.shutdown().await.unwrap();
    soon(serve(far, config)).await.err().expect("no handshake comes of that")
}

#[tokio::test]
async fn random_bytes_instead_of_a_client_hello_are_an_error() {
    let config = Identity::new().evident();
    for seed in 0..500 {
        let mut rng = Rng::new(seed);
        let n = rng.below(3000);
        let mut bytes = rng.bytes(n);
        // Half of them begin like a handshake record, so that they get further.
        for (at, byte) in
            [22, 3, 1, 0x02, 0x00, 1, 0, 0x01, 0xFC, 3, 3].into_iter().enumerate().take(seed as usize % 12)
        {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        feed(&bytes, &config).await;
    }
    for text in
        [&b"GET / HTTP/1.1\r\nHost: guest.example\r\n\r\n"[..], b"SSH-2.0-OpenSSH_9.2\r\n", &[0x80, 0x2E, 1, 3, 1]]
    {
        assert!(matches!(feed(text, &config).await.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof));
    }
}

#[tokio::test]
async fn a_client_hello_with_any_byte_changed_or_cut_anywhere_finishes_no_handshake() {
    let config = Identity::new().evident();
    let hello = client_hello().await;
    for at in 0..hello.len() {
        let mut changed = hello.clone();
        changed[at] ^= 1 << (at % 8);
        feed(&changed, &config).await;
    }
    for end in (0..hello.len()).step_by(7) {
        assert_eq!(feed(&hello[..end], &config).await.kind(), io::ErrorKind::UnexpectedEof);
    }
    feed(&[&hello[..], &hello].concat(), &config).await;
    feed(&[&hello[..], &[0; 5000]].concat(), &config).await;
}

#[tokio::test]
async fn our_client_takes_no_nonsense_for_a_server() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let (near, mut far) = duplex(1 << 16);
        let n = rng.below(500);
        let mut bytes = rng.bytes(n);
        for (at, byte) in [22, 3, 3, 0, 90, 2, 0, 0, 86, 3, 3].into_iter().enumerate().take(seed as usize % 12) {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        let server = async {
            far.write_all(&bytes).await.unwrap();
            far.shutdown().await.unwrap();
            let _ = far.read_to_end(&mut vec![]).await;
        };
        let client = connect(Arc::new(client_config(None).unwrap()), name(), near);
        let (client, ()) = soon(async { tokio::join!(client, server) }).await;
        assert!(client.is_err(), "seed {seed}");
    }
    let (near, mut far) = duplex(1 << 16);
    let server = async {
        far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let _ = far.read_to_end(&mut vec![]).await;
    };
    let client = connect(Arc::new(client_config(None).unwrap()), name(), near);
    let (client, ()) = soon(async { tokio::join!(client, server) }).await;
    assert!(matches!(client.err(), Some(HandshakeError::NotEvident(why)) if why == "it does not speak TLS"));
}
